//! The one error of the public API: opaque, with predicates to branch on and its cause kept.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// Why a call on the registry failed.
///
/// The reasons are few on purpose: a caller branches on a predicate, and shows or logs the message, which says what to
/// do. The cause, where there is one, is in [`source`](StdError::source); it may name database details, so it is for
/// logs and never for an answer to a client.
///
/// Whether a *token* is good is not an `Error` but a [`Denial`](crate::Denial). A Rocket route may return either: both
/// are answers.
///
/// ```
/// # fn show(error: counterfoil::Error) {
/// if error.is_unavailable() {
///     // The database can't be asked just now; retrying is safe.
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: Kind,
    message: Cow<'static, str>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The reasons, which callers outside the crate see through the predicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A setting is missing, unknown, or makes no sense with another.
    Config,
    /// An argument fails validation; the field is named as callers over HTTP know it.
    Invalid(&'static str),
    /// No such token, session or user (or not the caller's).
    NotFound,
    /// There is one of that name or id already, it is too early, or somebody else changed the same meanwhile.
    Conflict,
    /// The revocation can't be undone (by this actor).
    Final,
    /// The subject's tokens or the session were ended while this was under way, so nothing was issued.
    Superseded,
    /// The subject has as many sessions as it may have.
    Full,
    /// The subject is a user of the server or a client, and gets its tokens itself.
    Reserved,
    /// The database can't be asked, or can't confirm a change.
    Unavailable,
    /// A change is made, but whether every replica knows can't be told.
    Unconfirmed,
    /// The schema is older or newer than this program.
    Schema,
    /// What the database or a key holds contradicts itself.
    Internal,
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), source: None }))
    }

    pub(crate) fn config(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Config, message)
    }

    pub(crate) fn invalid(field: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Invalid(field), message)
    }

    pub(crate) fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    pub(crate) fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Internal, message)
    }

    pub(crate) fn with_source(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let Inner { kind, message, .. } = &*self.0;
        Self(Arc::new(Inner { kind: *kind, message: message.clone(), source: Some(source.into().into()) }))
    }

    /// What it says and what each of its causes adds to that: for the log, and for whoever runs the command line.
    pub(crate) fn in_full(&self) -> String {
        let mut text = self.to_string();
        for cause in std::iter::successors(StdError::source(self), |cause| StdError::source(*cause)) {
            let cause = cause.to_string();
            // Many repeat the cause that they name.
            if !text.contains(&cause) {
                text.push_str(": ");
                text.push_str(&cause);
            }
        }
        text
    }

    pub(crate) fn kind(&self) -> Kind {
        self.0.kind
    }

    /// A setting is missing, unknown, or makes no sense with another. The message names the key.
    pub fn is_config(&self) -> bool {
        self.0.kind == Kind::Config
    }

    /// An argument failed validation; [`field`](Self::field) names it.
    pub fn is_invalid(&self) -> bool {
        matches!(self.0.kind, Kind::Invalid(_))
    }

    /// The argument that failed validation, where [`is_invalid`](Self::is_invalid).
    pub fn field(&self) -> Option<&'static str> {
        match self.0.kind {
            Kind::Invalid(field) => Some(field),
            _ => None,
        }
    }

    /// There is no such token, session or user, or it isn't one the actor may see.
    pub fn is_not_found(&self) -> bool {
        self.0.kind == Kind::NotFound
    }

    /// What is there already stands in the way: there is one of that id or name, or somebody else changed it just now.
    pub fn is_conflict(&self) -> bool {
        self.0.kind == Kind::Conflict
    }

    /// The revocation is final, or final for this actor: it can't be undone.
    pub fn is_final(&self) -> bool {
        self.0.kind == Kind::Final
    }

    /// The session or all tokens of the subject were ended while the call was under way, so nothing was issued.
    pub fn is_superseded(&self) -> bool {
        self.0.kind == Kind::Superseded
    }

    /// The subject has as many sessions as the setting `sessions.max` allows, so nothing was issued.
    pub fn is_session_limit(&self) -> bool {
        self.0.kind == Kind::Full
    }

    /// The database can't be asked just now, or a change can't be [confirmed](Self::is_unconfirmed). What was asked for
    /// is then done wholly or not at all, so asking again is safe: where the answer alone was lost, tokens were issued
    /// that nobody has.
    pub fn is_unavailable(&self) -> bool {
        matches!(self.0.kind, Kind::Unavailable | Kind::Unconfirmed)
    }

    /// A revocation is made, or what undoes one, or sessions were ended to make room for another, but whether that is
    /// in force in every process can't be told: the database went away in between. Revoking or undoing it again finds
    /// nothing to change, and waits as the first call did.
    pub fn is_unconfirmed(&self) -> bool {
        self.0.kind == Kind::Unconfirmed
    }

    /// The database's schema is older or newer than this program.
    pub fn is_schema(&self) -> bool {
        self.0.kind == Kind::Schema
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.0.kind).field("message", &self.0.message);
        if let Some(source) = &self.0.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
