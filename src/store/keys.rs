//! What is done to the keys of the table.

use crate::token::NewKey;

/// The next key taking the place of the current one.
pub(crate) struct KeyRotation<'a> {
    pub(crate) current: &'a str,
    pub(crate) next: &'a str,
    /// What is kept of the current one, sealed.
    pub(crate) replaced: &'a [u8],
    pub(crate) fresh: &'a NewKey,
}

/// A key that is to be retired.
pub(crate) struct Retire<'a> {
    pub(crate) kid: &'a str,
    /// Its algorithm, where it is a key of the settings.
    pub(crate) algorithm: Option<&'a str>,
    /// What is published where it is the current or the next key of the table.
    pub(crate) fresh: Option<&'a NewKey>,
}

/// What became of a retirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retired {
    /// It is retired, now or before.
    Done,
    /// Neither the table nor the settings have it, and no record is of it.
    NotFound,
    /// It is a key of the table that another has to follow, and there was none to do so.
    Needed,
}

/// A key sealed anew.
pub(crate) struct Resealed {
    pub(crate) kid: String,
    pub(crate) before: Vec<u8>,
    pub(crate) sealed: Vec<u8>,
}
