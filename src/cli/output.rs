//! How commands answer: tables for people, JSON for programs, and one sentence for what went wrong.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Error, Kind};
use crate::token::rfc3339;

/// Why a command did not do what it was asked.
pub(super) enum Failure {
    /// The registry said no.
    Refused(Error),
    /// The answer has been given, and it was no.
    Answered,
    /// Standard output is closed or full.
    Output(io::Error),
}

impl Failure {
    /// Whether whoever read the answer has gone.
    fn is_unread(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// The exit status of arguments that can't be read.
const WRONG_USAGE: u8 = 2;

/// The exit status of a change that is made, and not yet confirmed everywhere.
const UNCONFIRMED: u8 = 3;

/// Where answers go, and in which form.
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Answers with `value` for a program, with `human` for a person.
    pub(super) fn answer(&self, value: &impl Serialize, human: impl FnOnce() -> String) -> Result<(), Failure> {
        if !self.json {
            return self.text(&human());
        }
        let mut text = serde_json::to_string_pretty(value)
            .map_err(|error| Error::internal("the answer can't be written as JSON").with_source(error))?;
        text.push('\n');
        self.text(&text)
    }

    /// Answers no, and gives what the exit status says: also where nobody reads more than that.
    pub(super) fn answer_no(&self, value: &impl Serialize, human: impl FnOnce() -> String) -> Failure {
        match self.answer(value, human) {
            Err(failure) if !failure.is_unread() => failure,
            _ => Failure::Answered,
        }
    }

    /// Answers with what is not to be had again: where nobody reads it, that is a failure.
    pub(super) fn answer_once(&self, value: &impl Serialize, human: impl FnOnce() -> String) -> Result<(), Failure> {
        self.answer(value, human).map_err(|failure| match failure.is_unread() {
            true => Failure::Output(io::Error::other("nobody reads it, and it is not shown again")),
            false => failure,
        })
    }

    /// Writes text as it is.
    pub(super) fn text(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    /// Writes a remark to standard error, out of the answer's way.
    pub(super) fn note(&self, text: &str) {
        self.remark(text, json!({ "note": text }));
    }

    /// Says that a list goes on, and with which option: for a program the value stands by itself too.
    pub(super) fn more(&self, option: &str, cursor: &str) {
        let text = format!("there may be more: {option} {cursor:?}");
        self.remark(&text, json!({ "note": text, "cursor": cursor }));
    }

    fn remark(&self, text: &str, value: Value) {
        let line = if self.json { value.to_string() } else { format!("note: {text}") };
        // A remark that nobody can read is no reason to fail.
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// Says why, and returns the exit status.
    pub(super) fn fail(&self, failure: &Failure) -> ExitCode {
        let (code, sentence) = match failure {
            Failure::Answered => return ExitCode::FAILURE,
            // Whoever reads has read enough, as `head` does.
            failure if failure.is_unread() => return ExitCode::SUCCESS,
            Failure::Output(error) => ("output", format!("standard output can't be written: {error}")),
            Failure::Refused(error) => (error_code(error), error.in_full()),
        };
        self.say(code, &sentence);
        match failure {
            Failure::Refused(error) if error.is_unconfirmed() => ExitCode::from(UNCONFIRMED),
            _ => ExitCode::FAILURE,
        }
    }

    /// Says what is wrong with the arguments, and returns the exit status.
    pub(super) fn wrong_usage(&self, sentence: &str) -> ExitCode {
        self.say("wrong_usage", sentence);
        ExitCode::from(WRONG_USAGE)
    }

    fn say(&self, code: &str, sentence: &str) {
        let line = if self.json {
            json!({ "error": code, "msg": sentence }).to_string()
        } else {
            format!("error: {sentence}")
        };
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// The `error` member of an error in JSON.
pub(super) fn error_code(error: &Error) -> &'static str {
    match error.kind() {
        Kind::Config => "configuration",
        Kind::Invalid(_) => "invalid_request",
        Kind::NotFound => "not_found",
        Kind::Conflict => "conflict",
        Kind::Final => "revocation_final",
        Kind::Superseded => "superseded",
        Kind::Full => "session_limit",
        Kind::Reserved => "subject_reserved",
        Kind::Unavailable => "registry_unavailable",
        Kind::Unconfirmed => "unconfirmed",
        Kind::Schema => "schema",
        Kind::Internal => "internal",
    }
}

/// Rows under headings, in columns as wide as their widest cell.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned).to_vec()] }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// The table as text, or `empty` where it has no rows.
    pub(super) fn render(&self, empty: &str) -> String {
        if self.rows.len() == 1 {
            return format!("{empty}\n");
        }
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:<width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Names and values, one a line, the values under each other. Those without a value are left out.
pub(super) fn describe(lines: &[(&str, Option<String>)]) -> String {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in lines {
        if let Some(value) = value {
            let _ = writeln!(text, "{name:<width$}  {value}");
        }
    }
    text
}

/// `1 token`, `2 tokens`.
pub(super) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A time in seconds as people and programs read it.
pub(super) fn time(at: i64) -> String {
    chrono::DateTime::from_timestamp(at, 0).map_or_else(|| at.to_string(), rfc3339)
}

/// The value, or a dash where there is none.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let mut table = Table::new(["NAME", "SCOPES"]);
        table.row(["zoë".into(), "a b".into()]);
        table.row(["bartholomew".into(), String::new()]);
        assert_eq!(table.render("none"), "NAME         SCOPES\nzoë          a b\nbartholomew\n");
        assert_eq!(Table::new(["NAME"]).render("No users."), "No users.\n");
    }

    #[test]
    fn a_description_leaves_out_what_there_is_not() {
        let text = describe(&[("jti", Some("1".into())), ("revoked", None), ("label", Some("x".into()))]);
        assert_eq!(text, "jti      1\nlabel    x\n");
    }
}
