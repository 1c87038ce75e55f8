//! The registry's database: coarse verbs, one transaction each, the same on PostgreSQL and SQLite.
//!
//! `postgres` and `sqlite` are twins: the same functions in the same order, and the only places with SQL. Locks are
//! taken in one order everywhere: subject, session, token, and the position of the last change at the end. `rows` and
//! `failure` are what they share.

mod clients;
mod failure;
#[macro_use]
mod implement;
mod insert;
mod keys;
mod lane;
mod notice;
#[cfg(feature = "postgres")]
mod postgres;
mod rotation;
mod rows;
#[cfg(feature = "sqlite")]
mod sqlite;
mod users;
mod verbs;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

pub(crate) use self::clients::{ClientChange, ClientChanged, REPEATED_SECONDS, Repeat, Sha256, StoredClient};
pub(crate) use self::insert::{Cap, Capped, Generation, Insert, Inserted, NewToken, Origin, Premise, Within};
pub(crate) use self::keys::{KeyRotation, Resealed, Retire, Retired};
pub(crate) use self::rotation::{Rotated, Rotation};
pub(crate) use self::users::{ADDRESS_KNOWN_SECONDS, EndSessions, Replaced, StoredUser, UserChange, UserChanged};
pub(crate) use self::verbs::Store;
use crate::error::Error;
use crate::token::{
    Act, AuditEvent, Claims, Cursor, FeedPage, Filter, Jti, Mark, NewKey, News, Position, PurgeRun, Record, RecordPage,
    Revocation, Roll, Session, SessionPage, SessionRecord, Sid, StoredKey, Subject, TokenType,
};

#[cfg(not(any(feature = "postgres", feature = "sqlite")))]
compile_error!("enable at least one of the features `postgres` and `sqlite`");

/// How the database is reached. It has no `Debug` form: the URL may hold a password.
#[derive(Clone)]
pub(crate) struct Options {
    /// `postgres://…`, `postgresql://…` or `sqlite:…`.
    pub(crate) url: String,
    /// Whether it is in this process's memory alone.
    pub(crate) in_memory: bool,
    /// How many connections the pool holds at most.
    pub(crate) connections_max: u32,
    /// Whether a connection may be held on which the database says that something changed.
    pub(crate) listen: bool,
}

/// Work that one process at a time does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Job {
    Purge,
    Rotation,
}

impl Job {
    /// Its name in the database.
    fn as_str(self) -> &'static str {
        match self {
            Self::Purge => "purge",
            Self::Rotation => "rotation",
        }
    }
}

/// The store for a URL. Nothing is connected yet: that is [`Store::schema`].
pub(crate) fn connect(options: &Options) -> Result<Arc<dyn Store>, Error> {
    let scheme = options.url.split(':').next().unwrap_or_default();
    match scheme {
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(Arc::new(postgres::Postgres::new(options)?)),
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(Arc::new(sqlite::Sqlite::new(options)?)),
        _ => Err(Error::config(
            "database_url must start with postgres:// or sqlite:// (and this build must support that database)",
        )),
    }
}

/// What a check needs to know of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) sid: Sid,
    pub(crate) subject: Subject,
    pub(crate) token_type: TokenType,
    pub(crate) not_before: i64,
    pub(crate) expires_at: i64,
    /// It was revoked itself, its session ended, its subject's generation moved on, or its key was retired.
    pub(crate) revoked: bool,
    /// Revoked for no other reason than that it was used, or that another took its place.
    pub(crate) spent: bool,
    /// The key that its record says signed it.
    pub(crate) kid: String,
    pub(crate) imported: bool,
    /// The claims as issued, as JSON.
    pub(crate) claims: String,
}

impl Status {
    /// When a token with these claims expires: what its record says counts where that is sooner, since from then on it
    /// may be purged.
    pub(crate) fn ends(&self, claims: &Claims) -> i64 {
        self.expires_at.min(claims.exp)
    }
}

/// What a refresh needs to know of the presented token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refreshable {
    /// What the tokens got with it are given, as JSON.
    pub(crate) granted: String,
    pub(crate) label: Option<String>,
    /// The name of the client that it was issued to.
    pub(crate) client: Option<String>,
    /// When its session began.
    pub(crate) began_at: i64,
}

/// What a change came to, and where it stands in the log of changes; `None` where it found nothing to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Done<T> {
    pub(crate) outcome: T,
    pub(crate) mark: Option<Mark>,
}

/// A revocation by jti that is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Revoke {
    pub(crate) jti: Jti,
    pub(crate) act: Act,
    /// Whether nobody may undo it.
    pub(crate) is_final: bool,
    /// The time now.
    pub(crate) now: i64,
}

/// What became of a revocation by jti.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Revoked {
    /// It is revoked, now or before.
    Done,
    /// There is no such record within the actor's reach.
    NotFound,
}

/// What became of an un-revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unrevoked {
    /// It is not revoked, now or before.
    Done,
    /// There is no such record within the actor's reach.
    NotFound,
    /// It is revoked for good, or by somebody whose revocation this actor can't undo, or expired.
    Final,
    /// The token that it was asked for with is not live any more.
    Overtaken,
}

/// What [`Store::purge_batch`] removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PurgedBatch {
    pub(crate) tokens: u64,
    /// The largest `expires_at` removed: the next batch need not look before it. `None` where nothing was left.
    pub(crate) up_to: Option<i64>,
}

/// How many runs of the purge are kept.
pub(crate) const PURGE_RUNS_KEPT: u32 = 20;

/// What is behind the state of a record.
#[derive(Debug, Clone)]
pub(crate) struct Particulars {
    /// Its own revocation.
    pub(crate) revoked: Option<Revocation>,
    /// When it was used for another, and which.
    pub(crate) spent: Option<(DateTime<Utc>, Option<Jti>)>,
    /// When another took its place.
    pub(crate) replaced_at: Option<DateTime<Utc>>,
    /// The refresh token that it was issued for.
    pub(crate) predecessor: Option<Jti>,
    pub(crate) session_ended: Option<Revocation>,
    pub(crate) subject_ended: Option<Revocation>,
    pub(crate) key_retired: Option<Revocation>,
    pub(crate) user_disabled: bool,
    pub(crate) client_disabled: bool,
}

/// Which audit entries a list shows, newest first.
#[derive(Debug, Clone)]
pub(crate) struct AuditFilter {
    pub(crate) subject: Option<String>,
    pub(crate) actor: Option<String>,
    pub(crate) action: Option<String>,
    /// What it was done to.
    pub(crate) target: Option<String>,
    /// Entries with smaller ids alone.
    pub(crate) before: Option<i64>,
    pub(crate) limit: u16,
}

/// How the schema in the database compares with the one this program was built for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Schema {
    Current,
    /// The descriptions of the migrations that are missing.
    Older(Vec<String>),
    /// It has a migration this program doesn't know, or one that differs.
    Newer,
}

/// What the pool is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolUse {
    pub(crate) open: u32,
    pub(crate) idle: u32,
    pub(crate) max: u32,
}
