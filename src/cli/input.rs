//! What commands read: secrets, which never come from an argument, and tokens.

use std::io::{self, BufRead, IsTerminal, Read};

use crate::error::Error;

/// The variable that may hold a user's password.
const PASSWORD_VARIABLE: &str = "COUNTERFOIL_USER_PASSWORD";

/// The longest line that is read, in bytes: a token, which is the longest thing there is, fits.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// A new password: from the environment, else from a prompt (twice) where standard input is a terminal, else its line.
pub(super) fn new_password(username: &str) -> Result<String, Error> {
    if let Ok(password) = std::env::var(PASSWORD_VARIABLE) {
        return Ok(password);
    }
    if !io::stdin().is_terminal() {
        return line("a password");
    }
    let prompt = |text: String| {
        rpassword::prompt_password(text).map_err(|error| {
            Error::invalid("password", "the password can't be read from the terminal").with_source(error)
        })
    };
    let password = prompt(format!("New password for {username}: "))?;
    if prompt("Again: ".to_owned())? != password {
        return Err(Error::invalid("password", "the two passwords are not the same"));
    }
    Ok(password)
}

/// A token, from standard input.
pub(super) fn token() -> Result<String, Error> {
    if io::stdin().is_terminal() {
        return rpassword::prompt_password("Token: ")
            .map(|token| token.trim().to_owned())
            .map_err(|error| Error::invalid("token", "the token can't be read from the terminal").with_source(error));
    }
    Ok(line("a token")?.trim().to_owned())
}

/// One line of standard input, without its end.
fn line(what: &str) -> Result<String, Error> {
    match lines().next() {
        Some(line) => line,
        None => Err(Error::invalid("stdin", format!("standard input must have {what} in its first line"))),
    }
}

/// The lines of standard input, without their ends.
pub(super) fn lines() -> impl Iterator<Item = Result<String, Error>> {
    let mut input = io::stdin().lock();
    std::iter::from_fn(move || next_line(&mut input).transpose())
}

fn next_line(input: &mut impl BufRead) -> Result<Option<String>, Error> {
    let mut line = Vec::new();
    let read = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
    let read = read.map_err(|error| Error::invalid("stdin", "standard input can't be read").with_source(error))?;
    if read == 0 {
        return Ok(None);
    }
    if read as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
        return Err(Error::invalid("stdin", "a line of standard input has more than 64 KiB"));
    }
    let text = String::from_utf8(line).map_err(|_| Error::invalid("stdin", "standard input must be UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(Some(text.strip_suffix('\r').unwrap_or(text).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_with_its_newline_of_either_kind_or_with_the_input() {
        let mut input = "one \r\ntwo\n\nlast".as_bytes();
        let lines: Vec<_> = std::iter::from_fn(|| next_line(&mut input).unwrap()).collect();
        assert_eq!(lines, ["one ", "two", "", "last"]);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let long = vec![b'a'; usize::try_from(LINE_BYTES_MAX).unwrap() + 1];
        assert!(next_line(&mut long.as_slice()).unwrap_err().is_invalid());
    }
}
