//! What both databases share and no SQL is in: rows as they come, the records made of them, and the rules of revoking.

mod accounts;
mod coherence;
mod records;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

pub(super) use self::accounts::{ClientRow, RepeatRow, UserRow, client_action, client_loss};
pub(super) use self::coherence::{BEHIND_MAX, Noted, RollRow, news, roll, target};
pub(super) use self::records::{ParticularsRow, RecordRow, SessionRecordRow, SessionRow, StatusRow, statuses};
use super::{Insert, Premise};
use crate::error::Error;
use crate::token::{
    Act, Actor, ActorKind, AuditEvent, Cursor, PurgeRun, Record, RecordPage, Session, SessionPage, StoredKey, Subject,
};

/// A run of the purge.
pub(super) struct PurgeRunRow {
    pub(super) holder: Uuid,
    pub(super) process: String,
    pub(super) started_at: i64,
    pub(super) seen_at: i64,
    pub(super) ended_at: Option<i64>,
    pub(super) records: i64,
    pub(super) complete: bool,
    pub(super) error: Option<String>,
}

impl TryFrom<PurgeRunRow> for PurgeRun {
    type Error = Error;

    fn try_from(row: PurgeRunRow) -> Result<Self, Error> {
        Ok(Self {
            holder: row.holder,
            process: row.process,
            started_at: time(row.started_at)?,
            seen_at: time(row.seen_at)?,
            ended_at: row.ended_at.map(time).transpose()?,
            records: count(row.records),
            complete: row.complete,
            error: row.error,
        })
    }
}

#[derive(Debug)]
pub(super) struct AuditRow {
    pub(super) id: i64,
    pub(super) at: i64,
    pub(super) actor_kind: String,
    pub(super) actor: String,
    pub(super) action: String,
    pub(super) subject: Option<String>,
    pub(super) target: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) ip: Option<String>,
}

impl TryFrom<AuditRow> for AuditEvent {
    type Error = Error;

    fn try_from(row: AuditRow) -> Result<Self, Error> {
        Ok(Self {
            id: row.id,
            at: time(row.at)?,
            actor: Actor { kind: row.actor_kind.parse()?, name: row.actor },
            action: row.action,
            subject: row.subject,
            target: row.target,
            reason: row.reason,
            ip: row.ip,
        })
    }
}

/// The generation that a premise names.
pub(super) fn generation_of(premise: Premise) -> Option<i64> {
    match premise {
        Premise::Generation(generation) => Some(generation.0),
        Premise::None | Premise::Foreign => None,
    }
}

/// `None` where there is one of these already.
pub(super) fn not_twice<T>(outcome: Result<T, sqlx::Error>) -> Result<Option<T>, sqlx::Error> {
    match outcome {
        Err(sqlx::Error::Database(cause)) if cause.is_unique_violation() => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// `None` where what it belongs to is not there, or not any more.
pub(super) fn not_orphaned<T>(outcome: Result<T, sqlx::Error>) -> Result<Option<T>, sqlx::Error> {
    match outcome {
        Err(sqlx::Error::Database(cause)) if cause.is_foreign_key_violation() => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// [`not_twice`] for inserts, where there is one. Of several, one that was there already says nothing about the others:
/// that is an error, after which each is tried by itself.
pub(super) fn alone_not_twice<T>(
    inserts: &[Insert],
    outcome: Result<T, sqlx::Error>,
) -> Result<Option<T>, sqlx::Error> {
    match inserts {
        [_] => not_twice(outcome),
        _ => outcome.map(Some),
    }
}

pub(super) struct KeyRow {
    pub(super) kid: String,
    pub(super) algorithm: Option<String>,
    pub(super) state: String,
    pub(super) sealed: Option<Vec<u8>>,
    pub(super) published_at: i64,
    pub(super) current_at: Option<i64>,
    pub(super) replaced_at: Option<i64>,
    pub(super) retired_at: Option<i64>,
    pub(super) retired_reason: Option<String>,
}

impl TryFrom<KeyRow> for StoredKey {
    type Error = Error;

    fn try_from(row: KeyRow) -> Result<Self, Error> {
        Ok(Self {
            kid: row.kid,
            algorithm: row.algorithm,
            state: row.state.parse()?,
            sealed: row.sealed,
            published_at: row.published_at,
            current_at: row.current_at,
            replaced_at: row.replaced_at,
            retired_at: row.retired_at,
            retired_reason: row.retired_reason,
        })
    }
}

/// What decides whether a record may be revoked or un-revoked, read with its row locked.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) subject: String,
    pub(super) expires_at: i64,
    pub(super) revoked_by_kind: Option<String>,
    pub(super) revoked_final: bool,
    /// It is revoked for having been spent or replaced, and by nobody.
    pub(super) by_rotation: bool,
    /// Its session ended, its subject's generation moved on, or its key was retired.
    pub(super) over: bool,
}

/// What to do to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It is as it should be already.
    Nothing,
    /// Change it.
    Change,
    /// It may not be changed.
    Refuse,
}

impl Standing {
    /// Whether revoking by jti changes the record: the first revocation does, and so do one of higher standing and a
    /// final one. A spent token still gets what was issued for it, which nobody may have; once somebody revoked it, no
    /// more. PostgreSQL has the same in its statement.
    pub(super) fn revoke(&self, act: &Act, is_final: bool) -> Step {
        let first = self.revoked_by_kind.is_none() || self.by_rotation;
        let is_higher = self.is_by_subject() && act.actor.kind != ActorKind::Subject;
        let takes_over = !self.revoked_final && (is_higher || is_final);
        if !self.over && (first || takes_over) { Step::Change } else { Step::Nothing }
    }

    /// Whether a revocation by jti can be undone by this actor.
    pub(super) fn unrevoke(&self, act: &Act, live_at: i64) -> Step {
        if self.over || self.revoked_final || self.expires_at <= live_at {
            Step::Refuse
        } else if self.revoked_by_kind.is_none() {
            Step::Nothing
        } else if act.actor.kind == ActorKind::Subject && !self.is_by_subject() {
            Step::Refuse
        } else {
            Step::Change
        }
    }

    fn is_by_subject(&self) -> bool {
        self.revoked_by_kind.as_deref() == Some(ActorKind::Subject.as_str())
    }
}

/// A session that ends because a refresh token of it was used twice.
pub(super) fn reuse_act() -> Act {
    let reason = Some("a refresh token was used twice".to_owned());
    Act { reason, ..Act::by(Actor::system("refresh_reuse")) }
}

/// A session that makes room for another.
pub(super) fn cap_act() -> Act {
    Act { reason: Some("too many sessions".to_owned()), ..Act::by(Actor::system("sessions.max")) }
}

/// Why the tokens of a subject end; what the act says, if it says anything.
pub(super) fn reason_or<'a>(act: &'a Act, otherwise: &'a str) -> Option<&'a str> {
    Some(act.reason.as_deref().unwrap_or(otherwise))
}

/// Rows as what they stand for; a row that stands for nothing is an error of the database's.
pub(super) fn read<R, T: TryFrom<R, Error = Error>>(rows: impl IntoIterator<Item = R>) -> Result<Vec<T>, sqlx::Error> {
    rows.into_iter().map(read_one).collect()
}

pub(super) fn read_one<R, T: TryFrom<R, Error = Error>>(row: R) -> Result<T, sqlx::Error> {
    T::try_from(row).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

pub(super) fn subject(text: String) -> Result<Subject, sqlx::Error> {
    read_one(text)
}

/// A count from the database, which has no unsigned integers.
pub(super) fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}

fn time(seconds: i64) -> Result<DateTime<Utc>, Error> {
    DateTime::from_timestamp(seconds, 0).ok_or_else(|| Error::internal("a time in the database is out of range"))
}

pub(super) fn millis(millis: i64) -> Result<DateTime<Utc>, sqlx::Error> {
    let time =
        DateTime::from_timestamp_millis(millis).ok_or_else(|| Error::internal("the database's time is out of range"));
    time.map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// How many uses one statement notes.
pub(super) const TOUCHED_AT_ONCE: usize = 500;

/// The place before which a page starts; without a cursor it is one that no record has.
pub(super) fn before(cursor: Option<Cursor>) -> (i64, Uuid) {
    cursor.map_or((i64::MAX, Uuid::max()), |cursor| (cursor.at, cursor.id))
}

/// The place that a page goes down to; without one, past every record.
pub(super) fn down_to(end: Option<Cursor>) -> (i64, Uuid) {
    end.map_or((i64::MIN, Uuid::nil()), |cursor| (cursor.at, cursor.id))
}

/// A page of what was found up to `end`, one record beyond the limit included.
pub(super) fn page(mut records: Vec<Record>, limit: u16, end: Option<Cursor>) -> RecordPage {
    let is_full = records.len() > usize::from(limit);
    records.truncate(limit.into());
    let next = if is_full { records.last().map(Cursor::of) } else { end };
    RecordPage { records, next }
}

/// A page of sessions out of what was found, one beyond the limit included.
pub(super) fn session_page<T>(mut sessions: Vec<T>, limit: u16, session: impl Fn(&T) -> &Session) -> SessionPage<T> {
    let is_full = sessions.len() > usize::from(limit);
    sessions.truncate(limit.into());
    let next = sessions.last().filter(|_| is_full).map(|last| Cursor::of_session(session(last)));
    SessionPage { sessions, next }
}

/// How long the end of a generation is kept at least: longer than any log-in is under way, so that a generation which
/// was read before the end can't be the current one again.
pub(super) const ENDING_KEPT_SECONDS: i64 = 24 * 60 * 60;

/// Each name once, in order, with its intervals added up.
pub(super) fn by_name(names: &[(String, i64)]) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for (name, interval) in names {
        let sum: &mut i64 = sums.entry(name.clone()).or_default();
        *sum = sum.saturating_add(*interval);
    }
    sums
}

/// An id as `unhex` reads it, for a database without UUIDs.
#[cfg(feature = "sqlite")]
pub(super) fn hex(id: Uuid) -> String {
    id.simple().to_string()
}

/// A list as an answer, for a database without arrays.
#[cfg(feature = "sqlite")]
pub(super) fn from_json<T: serde::de::DeserializeOwned>(list: &str) -> Result<Vec<T>, sqlx::Error> {
    serde_json::from_str(list).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// A list as text.
pub(super) fn json(list: &impl serde::Serialize) -> Result<String, sqlx::Error> {
    serde_json::to_string(list).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}
