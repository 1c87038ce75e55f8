//! What is put on the registry, under which conditions, and what became of it.

use crate::token::{Jti, Scopes, Sid, Subject, TokenType};

/// The number of times all of a subject's tokens have been ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(pub(crate) i64);

/// What must be true of a subject where a session begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Premise {
    /// Nothing.
    None,
    /// Its generation is still this one.
    Generation(Generation),
    /// It is neither a user of the server nor a client.
    Foreign,
}

/// By whom, and from where, tokens were asked for. It is kept with each of them, and with the session that begins with
/// them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    /// The name of the client that asked.
    pub(crate) client: Option<String>,
    pub(crate) label: Option<String>,
    pub(crate) ip: Option<String>,
    pub(crate) user_agent: Option<String>,
}

/// A token to be put on the registry.
#[derive(Debug, Clone)]
pub(crate) struct NewToken {
    pub(crate) jti: Jti,
    pub(crate) token_type: TokenType,
    pub(crate) issued_at: i64,
    pub(crate) not_before: i64,
    pub(crate) expires_at: i64,
    pub(crate) scope: Scopes,
    /// The claims as issued, as JSON.
    pub(crate) claims: String,
    /// Of a refresh token: what the tokens got with it are given, as JSON.
    pub(crate) granted: Option<String>,
    pub(crate) kid: String,
    pub(crate) imported: bool,
}

/// Which session new tokens join.
#[derive(Debug, Clone)]
pub(crate) enum Within {
    /// One that begins with them.
    New(Sid, Premise),
    /// A live one, if the token that was presented for it is still not revoked.
    Existing { sid: Sid, presented: Jti },
}

/// Tokens to be put on the registry together, or not at all.
#[derive(Debug, Clone)]
pub(crate) struct Insert {
    pub(crate) subject: Subject,
    pub(crate) origin: Origin,
    pub(crate) within: Within,
    /// May be empty (a session may begin with unstored access tokens only).
    pub(crate) tokens: Vec<NewToken>,
    /// The time now.
    pub(crate) now: i64,
    /// The session lives at least until then, whatever its stored tokens say.
    pub(crate) session_expires_at: i64,
}

impl Insert {
    /// The session that its tokens join.
    pub(crate) fn sid(&self) -> Sid {
        match &self.within {
            Within::New(sid, _) | Within::Existing { sid, .. } => *sid,
        }
    }

    /// What became of it, once it is known whether it was stored.
    pub(super) fn outcome(&self, stored: bool) -> Inserted {
        match self.within {
            _ if stored => Inserted::Stored,
            Within::New(_, Premise::Foreign) => Inserted::Reserved,
            _ => Inserted::Superseded,
        }
    }
}

/// What became of an [`Insert`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It is durable.
    Stored,
    /// Nothing was stored: the subject's generation moved on, or the session ended, or the presented token was revoked.
    Superseded,
    /// Nothing was stored: the subject is a user of the server or a client, and it was not to be.
    Reserved,
    /// Nothing was stored: a token of one of these ids is on the registry already. Told of one that was asked for by
    /// itself.
    Duplicate,
    /// Nothing was stored: the subject has as many sessions as it may have.
    Full,
}

/// How many sessions a subject may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cap {
    pub(crate) sessions_max: usize,
    /// Whether the oldest make room, instead of the new one being refused.
    pub(crate) ends_oldest: bool,
    /// The time that expiry is judged by, leeway already taken off.
    pub(crate) live_at: i64,
}

/// What became of an [`Insert`] under a [`Cap`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Capped {
    pub(crate) inserted: Inserted,
    /// The sessions that made room.
    pub(crate) ended: Vec<Sid>,
}

impl Capped {
    pub(super) fn refused() -> Self {
        Self { inserted: Inserted::Full, ended: Vec::new() }
    }
}
