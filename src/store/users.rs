//! The server's users, as they are kept.

use crate::token::{Scopes, Sid, Subject};

/// A user of the server. It has no `Debug` form: the hash would be in it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoredUser {
    pub(crate) username: Subject,
    /// In PHC string format.
    pub(crate) password_hash: String,
    pub(crate) scope: Scopes,
    pub(crate) disabled: bool,
    pub(crate) created_at: i64,
    pub(crate) password_changed_at: i64,
}

/// For how long an address that a user logged in from is known as one of the user's own.
pub(crate) const ADDRESS_KNOWN_SECONDS: i64 = 30 * 24 * 60 * 60;

/// How many of them are known of one user, the last ones.
pub(super) const ADDRESSES_MAX: i64 = 100;

/// How many tokens one transaction revokes. They go before the scope that they hold, so that whoever was stopped
/// midway, and tries again, finds it still there to be taken away with those that are left.
pub(super) const SCOPED_MAX: i64 = 5_000;

/// The password that is to be replaced by the user, who has just proved to know it. It has no `Debug` form: the hash
/// would be in it.
#[derive(Clone, Copy)]
pub(crate) struct Replaced<'a> {
    pub(crate) hash: &'a str,
    /// Where that was.
    pub(crate) at_address: Option<&'a str>,
}

/// All sessions of a user end, but for one to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndSessions {
    pub(crate) keep: Option<Sid>,
}

/// What is to change of a user.
#[derive(Debug, Clone, Copy)]
pub(crate) enum UserChange<'a> {
    /// Other scopes than those that were looked at: where they are others by now, whoever changed them knew better.
    Scopes {
        held: &'a Scopes,
        to: &'a Scopes,
    },
    Disabled(bool),
}

impl UserChange<'_> {
    /// The user as it is after this change; `None` where another one came first.
    pub(super) fn apply(&self, user: &StoredUser) -> Option<StoredUser> {
        match *self {
            Self::Scopes { held, to } => {
                (user.scope == *held).then(|| StoredUser { scope: to.clone(), ..user.clone() })
            }
            Self::Disabled(disabled) => Some(StoredUser { disabled, ..user.clone() }),
        }
    }
}

/// What became of a change to a user.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum UserChanged {
    Done(StoredUser),
    NotFound,
    /// The scopes are not those any more that were looked at.
    Overtaken,
    /// So many tokens hold a scope that is taken away that some of them were revoked, and nothing else is changed yet:
    /// it is to be asked for again. What is revoked by then is safe to be so, whatever becomes of the rest.
    Begun,
}
