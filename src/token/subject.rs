//! Whom a token speaks for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Whom a token speaks for: the `sub` claim (RFC 7519 §4.1.2).
///
/// 1 to 255 characters, none of them a control character. A user's subject is the username.
///
/// ```
/// use counterfoil::Subject;
///
/// let alice: Subject = "alice".parse()?;
/// assert_eq!(alice.as_str(), "alice");
/// assert!("".parse::<Subject>().is_err());
/// # Ok::<(), counterfoil::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject(String);

impl Subject {
    /// The longest subject, in characters.
    pub const CHARS_MAX: usize = 255;

    /// The subject as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Subject {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        if text.is_empty() || text.chars().count() > Self::CHARS_MAX {
            return Err(Error::invalid("subject", "subject must have 1 to 255 characters"));
        }
        if text.chars().any(char::is_control) {
            return Err(Error::invalid("subject", "subject must not contain control characters"));
        }
        Ok(Self(text))
    }
}

impl FromStr for Subject {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::try_from(text.to_owned())
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_has_1_to_255_characters_and_no_control_characters() {
        assert!("".parse::<Subject>().is_err());
        assert!("é".repeat(255).parse::<Subject>().is_ok());
        assert!("é".repeat(256).parse::<Subject>().is_err());
        for bad in ["a\nb", "\0", "a\u{85}b"] {
            assert!(bad.parse::<Subject>().is_err(), "{bad:?}");
        }
    }
}
