//! What the forms and lists of users and of clients have in common.

use crate::accounts::ADMIN_SCOPE;
use crate::error::Error;
use crate::http::console::error::sentence;
use crate::http::console::form::Field;
use crate::token::Scopes;

/// How many stand on one page of a list.
pub(super) const LIST_LIMIT: u16 = 50;

/// What a field holds, or nothing and what is wrong with it in the field.
pub(super) fn found<T>(field: &mut Field, read: Result<T, Error>) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(error) => {
            field.error = Some(sentence(&error));
            None
        }
    }
}

/// The scopes of a form: apart by spaces or on lines of their own.
pub(super) fn scopes_of(text: &str, is_admin: bool) -> Result<Scopes, Error> {
    let admin = is_admin.then_some(ADMIN_SCOPE);
    text.split_whitespace().chain(admin).collect::<Vec<_>>().join(" ").parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_stand_apart_by_any_space() {
        assert_eq!(scopes_of(" b\r\n a\tb ", false).unwrap().to_string(), "a b");
        assert_eq!(scopes_of("", true).unwrap().to_string(), ADMIN_SCOPE);
        assert!(scopes_of("a\"b", false).is_err());
    }
}
