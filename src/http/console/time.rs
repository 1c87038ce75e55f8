//! Times and durations as pages say them.

use chrono::{DateTime, Utc};

use crate::token::rfc3339;

/// A moment: exact for programs, and in words for whoever has no script. The script says it in the reader's zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct When(pub(super) DateTime<Utc>);

impl When {
    /// For the attribute `datetime`.
    pub(super) fn exact(&self) -> String {
        rfc3339(self.0)
    }

    pub(super) fn words(&self) -> String {
        self.0.format("%-d %b %Y, %H:%M UTC").to_string()
    }
}

impl From<DateTime<Utc>> for When {
    fn from(at: DateTime<Utc>) -> Self {
        Self(at)
    }
}

/// A time to wait, roughly, and never less than it is.
pub(super) fn in_words(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..=90 => (seconds.max(1), "second"),
        91..=5_400 => (seconds.div_ceil(60), "minute"),
        _ => (seconds.div_ceil(3_600), "hour"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_said_in_words_and_never_too_short() {
        for (seconds, words) in [
            (0, "1 second"),
            (1, "1 second"),
            (45, "45 seconds"),
            (91, "2 minutes"),
            (120, "2 minutes"),
            (121, "3 minutes"),
            (5_401, "2 hours"),
        ] {
            assert_eq!(in_words(seconds), words);
        }
    }

    #[test]
    fn a_moment_is_exact_and_in_words() {
        let when = When(DateTime::from_timestamp(1_767_225_600, 0).unwrap());
        assert_eq!((when.exact().as_str(), when.words().as_str()), ("2026-01-01T00:00:00Z", "1 Jan 2026, 00:00 UTC"));
    }
}
