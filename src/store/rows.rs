//! What both databases share and no SQL is in: rows as they come, the records made of them, and the rules of revoking.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::StoredUser;
use crate::error::Error;
use crate::token::{Act, Actor, ActorKind, AuditEvent, Cursor, Record, Revocation, Session, Subject};

/// A token's row with what its session and its subject's generation say of it.
#[derive(Debug)]
pub(super) struct RecordRow {
    pub(super) jti: Uuid,
    pub(super) sid: Uuid,
    pub(super) subject: String,
    pub(super) token_type: String,
    pub(super) issued_at: i64,
    pub(super) expires_at: i64,
    pub(super) scope: String,
    pub(super) claims: String,
    pub(super) client: Option<String>,
    pub(super) label: Option<String>,
    pub(super) ip: Option<String>,
    pub(super) user_agent: Option<String>,
    pub(super) last_used_at: Option<i64>,
    pub(super) revoked_at: Option<i64>,
    pub(super) revoked_by_kind: Option<String>,
    pub(super) revoked_by: Option<String>,
    pub(super) revoked_reason: Option<String>,
    pub(super) revoked_final: bool,
    /// Its session ended, or its subject's generation moved on; the next four say how.
    pub(super) over: bool,
    pub(super) ended_at: Option<i64>,
    pub(super) ended_by_kind: Option<String>,
    pub(super) ended_by: Option<String>,
    pub(super) ended_reason: Option<String>,
}

impl RecordRow {
    fn revocation(&self) -> Result<Option<Revocation>, Error> {
        let own = (self.revoked_at, &self.revoked_by_kind, &self.revoked_by, &self.revoked_reason);
        let ended = (self.ended_at, &self.ended_by_kind, &self.ended_by, &self.ended_reason);
        let (at, kind, name, reason) = match (self.revoked_at, self.over) {
            (Some(_), _) => own,
            (None, true) => ended,
            (None, false) => return Ok(None),
        };
        let (Some(at), Some(kind), Some(name)) = (at, kind, name) else {
            return Err(Error::internal("a record is revoked, and nothing says since when and by whom"));
        };
        Ok(Some(Revocation {
            at: time(at)?,
            by: Actor { kind: kind.parse()?, name: name.clone() },
            reason: reason.clone(),
            is_final: self.revoked_final || self.over,
        }))
    }
}

impl TryFrom<RecordRow> for Record {
    type Error = Error;

    fn try_from(row: RecordRow) -> Result<Self, Error> {
        let revocation = row.revocation()?;
        let token = serde_json::from_str(&row.claims)
            .map_err(|error| Error::internal("a record's claims can't be read").with_source(error))?;
        Ok(Self {
            token,
            jti: row.jti.into(),
            sid: row.sid.into(),
            subject: row.subject.try_into()?,
            token_type: row.token_type.parse()?,
            scope: row.scope.parse()?,
            issued_at: time(row.issued_at)?,
            expires_at: time(row.expires_at)?,
            revocation,
            last_used_at: row.last_used_at.map(time).transpose()?,
            label: row.label,
            client: row.client,
            ip: row.ip,
            user_agent: row.user_agent,
        })
    }
}

#[derive(Debug)]
pub(super) struct SessionRow {
    pub(super) sid: Uuid,
    pub(super) label: Option<String>,
    pub(super) client: Option<String>,
    pub(super) ip: Option<String>,
    pub(super) user_agent: Option<String>,
    pub(super) created_at: i64,
    pub(super) last_seen_at: i64,
    pub(super) expires_at: i64,
}

impl TryFrom<SessionRow> for Session {
    type Error = Error;

    fn try_from(row: SessionRow) -> Result<Self, Error> {
        Ok(Self {
            sid: row.sid.into(),
            current: false,
            label: row.label,
            client: row.client,
            ip: row.ip,
            user_agent: row.user_agent,
            created_at: time(row.created_at)?,
            last_seen_at: time(row.last_seen_at)?,
            expires_at: time(row.expires_at)?,
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

pub(super) struct UserRow {
    pub(super) username: String,
    pub(super) password_hash: String,
    pub(super) scope: String,
    pub(super) disabled: bool,
    pub(super) created_at: i64,
    pub(super) password_changed_at: i64,
}

impl TryFrom<UserRow> for StoredUser {
    type Error = Error;

    fn try_from(row: UserRow) -> Result<Self, Error> {
        Ok(Self {
            username: row.username.try_into()?,
            password_hash: row.password_hash,
            scope: row.scope.parse()?,
            disabled: row.disabled,
            created_at: row.created_at,
            password_changed_at: row.password_changed_at,
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
    /// Its session ended, or its subject's generation moved on.
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
    /// Whether revoking by jti changes the record: the first revocation does, and so does one of higher standing.
    pub(super) fn revoke(&self, act: &Act) -> Step {
        let first = self.revoked_by_kind.is_none();
        let takes_over = self.is_by_subject() && act.actor.kind != ActorKind::Subject;
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

pub(super) fn parsed<T: std::str::FromStr<Err = Error>>(text: &str) -> Result<T, sqlx::Error> {
    text.parse().map_err(|error: Error| sqlx::Error::Decode(Box::new(error)))
}

/// How many uses one statement notes.
pub(super) const TOUCHED_AT_ONCE: usize = 500;

/// The place before which a page starts; without a cursor it is one that no record has.
pub(super) fn before(cursor: Option<Cursor>) -> (i64, Uuid) {
    cursor.map_or((i64::MAX, Uuid::max()), |cursor| (cursor.issued_at, cursor.jti.as_uuid()))
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

/// A list as a parameter, for a database without arrays.
#[cfg(feature = "sqlite")]
pub(super) fn json(list: &impl serde::Serialize) -> Result<String, sqlx::Error> {
    serde_json::to_string(list).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}
