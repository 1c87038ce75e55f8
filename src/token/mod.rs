//! Tokens as data: ids, subjects, scopes, claims, records and the reasons to refuse one. Pure: nothing here asks a
//! database, a key or a clock.

mod act;
mod change;
mod claims;
mod denial;
mod id;
mod key;
mod past;
mod record;
mod scope;
mod subject;
mod unique;
mod verdict;

pub(crate) use act::Presented;
pub use act::{Act, Actor, ActorKind};
pub(crate) use change::{Action, FeedEvent, FeedPage, Mark, News, Position, Replica, Roll, Target};
pub(crate) use claims::Rules;
#[cfg(feature = "server")]
pub(crate) use claims::console_audience;
pub use claims::{AudienceRule, Claims};
pub(crate) use claims::{RESERVED, checked_audiences, is_console_audience};
pub use denial::Denial;
pub use id::{Jti, Sid};
pub(crate) use key::{KeyInfo, KeyState, NewKey, StoredKey};
#[cfg(feature = "server")]
pub(crate) use past::Outcome;
pub use past::{Happening, PurgeRun, SessionRecord};
#[cfg(feature = "server")]
pub(crate) use record::as_rfc3339;
pub(crate) use record::{Along, AuditEvent, at, rfc3339};
pub use record::{Cursor, Filter, Record, RecordPage, Revocation, Session, SessionPage, State};
pub use scope::{Scope, Scopes};
pub use subject::Subject;
pub(crate) use unique::Unique;
pub(crate) use verdict::Facts;
pub use verdict::{Reason, Verdict};

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a token is for: the `type` claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenType {
    /// Opens routes; short-lived (`typ` is `at+jwt`, RFC 9068).
    Access,
    /// Gets new access tokens at `/refresh`; long-lived (`typ` is `rt+jwt`).
    Refresh,
}

impl TokenType {
    /// `access` or `refresh`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Refresh => "refresh",
        }
    }

    /// The `typ` of the JOSE header (RFC 8725 §3.11: explicit typing).
    pub fn header_typ(self) -> &'static str {
        match self {
            Self::Access => "at+jwt",
            Self::Refresh => "rt+jwt",
        }
    }
}

impl fmt::Display for TokenType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TokenType {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "access" => Ok(Self::Access),
            "refresh" => Ok(Self::Refresh),
            _ => Err(crate::Error::invalid("type", "type must be access or refresh")),
        }
    }
}
