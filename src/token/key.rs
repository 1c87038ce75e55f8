//! Signing keys as data: what the registry keeps of each.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// Where a key stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum KeyState {
    /// It signs.
    Current,
    /// Published, so that whoever verifies knows it before it signs.
    Next,
    /// It has signed, and what it signed is still accepted.
    Previous,
    /// Of the settings: what it signs is accepted, and it signs nothing here.
    Accepted,
    /// Whatever it signed is refused, for good.
    Retired,
}

impl KeyState {
    /// The word that the database and the command line use.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Next => "next",
            Self::Previous => "previous",
            Self::Accepted => "accepted",
            Self::Retired => "retired",
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KeyState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::Current, Self::Next, Self::Previous, Self::Retired]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| Error::internal("unknown state of a key"))
    }
}

/// A key of the registry's table. Times are seconds.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoredKey {
    /// The thumbprint (RFC 7638).
    pub(crate) kid: String,
    /// `None` for one that was retired and is known by its id alone.
    pub(crate) algorithm: Option<String>,
    pub(crate) state: KeyState,
    /// The key, sealed under the master key: with its private part until it is replaced, and nothing once it is
    /// retired.
    pub(crate) sealed: Option<Vec<u8>>,
    /// When it became known to whoever verifies.
    pub(crate) published_at: i64,
    /// When it began to sign, and when another one did in its place.
    pub(crate) current_at: Option<i64>,
    pub(crate) replaced_at: Option<i64>,
    pub(crate) retired_at: Option<i64>,
    pub(crate) retired_reason: Option<String>,
}

/// Without what is sealed.
impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredKey").field("kid", &self.kid).field("state", &self.state).finish_non_exhaustive()
    }
}

/// A key to be kept in the registry's table, sealed.
pub(crate) struct NewKey {
    pub(crate) kid: String,
    pub(crate) algorithm: &'static str,
    pub(crate) sealed: Vec<u8>,
}

/// One key, as shown to operators. Times are seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyInfo {
    pub(crate) kid: String,
    /// `None` for a retired one that is known by its id alone.
    pub(crate) algorithm: Option<String>,
    pub(crate) state: KeyState,
    pub(crate) published_at: Option<i64>,
    pub(crate) current_at: Option<i64>,
    pub(crate) replaced_at: Option<i64>,
    pub(crate) retired_at: Option<i64>,
    pub(crate) retired_reason: Option<String>,
}
