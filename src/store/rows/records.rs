//! Tokens and sessions: their records, and what a check needs of them.

use std::collections::HashMap;

use uuid::Uuid;

use super::{read_one, time};
use crate::error::Error;
use crate::store::{Particulars, Status};
use crate::token::{Actor, ActorKind, Jti, Record, Revocation, Session, SessionRecord};

/// A token's row with what its session and its subject's generation say of it.
#[derive(Debug)]
pub(in crate::store) struct RecordRow {
    pub(in crate::store) jti: Uuid,
    pub(in crate::store) sid: Uuid,
    pub(in crate::store) subject: String,
    pub(in crate::store) token_type: String,
    pub(in crate::store) issued_at: i64,
    pub(in crate::store) expires_at: i64,
    pub(in crate::store) scope: String,
    pub(in crate::store) claims: String,
    pub(in crate::store) client: Option<String>,
    pub(in crate::store) label: Option<String>,
    pub(in crate::store) ip: Option<String>,
    pub(in crate::store) user_agent: Option<String>,
    pub(in crate::store) last_used_at: Option<i64>,
    pub(in crate::store) revoked_at: Option<i64>,
    pub(in crate::store) revoked_by_kind: Option<String>,
    pub(in crate::store) revoked_by: Option<String>,
    pub(in crate::store) revoked_reason: Option<String>,
    pub(in crate::store) revoked_final: bool,
    /// Its session ended, its subject's generation moved on, or its key was retired; the next four say how.
    pub(in crate::store) over: bool,
    pub(in crate::store) ended_at: Option<i64>,
    pub(in crate::store) ended_by_kind: Option<String>,
    pub(in crate::store) ended_by: Option<String>,
    pub(in crate::store) ended_reason: Option<String>,
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
        let is_final = self.revoked_final || self.over;
        Ok(Some(match revocation(at, kind.clone(), name.clone(), reason.clone(), is_final)? {
            Some(found) => found,
            // Plain SQL moved the generation on, and nothing says when.
            None => Revocation { at: time(self.issued_at)?, by: Actor::system("unknown"), reason: None, is_final },
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

/// What a check needs to know of a record, as it comes.
pub(in crate::store) struct StatusRow {
    pub(in crate::store) jti: Uuid,
    pub(in crate::store) sid: Uuid,
    pub(in crate::store) subject: String,
    pub(in crate::store) token_type: String,
    pub(in crate::store) not_before: i64,
    pub(in crate::store) expires_at: i64,
    pub(in crate::store) imported: bool,
    pub(in crate::store) revoked: bool,
    pub(in crate::store) spent: bool,
    pub(in crate::store) kid: String,
    pub(in crate::store) claims: String,
}

impl TryFrom<StatusRow> for Status {
    type Error = Error;

    fn try_from(row: StatusRow) -> Result<Self, Error> {
        Ok(Self {
            sid: row.sid.into(),
            subject: row.subject.try_into()?,
            token_type: row.token_type.parse()?,
            not_before: row.not_before,
            expires_at: row.expires_at,
            revoked: row.revoked,
            spent: row.spent,
            kid: row.kid,
            imported: row.imported,
            claims: row.claims,
        })
    }
}

/// In the order of the ids; `None` for one that has no row.
pub(in crate::store) fn statuses(ids: &[Jti], found: Vec<StatusRow>) -> Result<Vec<Option<Status>>, sqlx::Error> {
    let mut found: HashMap<Jti, StatusRow> = found.into_iter().map(|row| (row.jti.into(), row)).collect();
    // One id may be asked for twice, by two who don't know of each other.
    let mut statuses: Vec<Option<Status>> = Vec::with_capacity(ids.len());
    for (place, jti) in ids.iter().enumerate() {
        statuses.push(match found.remove(jti) {
            Some(row) => Some(read_one(row)?),
            None => ids[..place].iter().position(|other| other == jti).and_then(|twin| statuses[twin].clone()),
        });
    }
    Ok(statuses)
}

#[derive(Debug)]
pub(in crate::store) struct SessionRow {
    pub(in crate::store) sid: Uuid,
    pub(in crate::store) label: Option<String>,
    pub(in crate::store) client: Option<String>,
    pub(in crate::store) ip: Option<String>,
    pub(in crate::store) user_agent: Option<String>,
    pub(in crate::store) created_at: i64,
    pub(in crate::store) last_seen_at: i64,
    pub(in crate::store) expires_at: i64,
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

/// A session with how it ended.
#[derive(Debug)]
pub(in crate::store) struct SessionRecordRow {
    pub(in crate::store) sid: Uuid,
    pub(in crate::store) subject: String,
    pub(in crate::store) label: Option<String>,
    pub(in crate::store) client: Option<String>,
    pub(in crate::store) ip: Option<String>,
    pub(in crate::store) user_agent: Option<String>,
    pub(in crate::store) created_at: i64,
    pub(in crate::store) last_seen_at: i64,
    pub(in crate::store) expires_at: i64,
    /// Whether it ended with all of its subject and not before.
    pub(in crate::store) with_subject: bool,
    pub(in crate::store) ended_at: Option<i64>,
    pub(in crate::store) ended_by_kind: Option<String>,
    pub(in crate::store) ended_by: Option<String>,
    pub(in crate::store) ended_reason: Option<String>,
}

impl TryFrom<SessionRecordRow> for SessionRecord {
    type Error = Error;

    fn try_from(row: SessionRecordRow) -> Result<Self, Error> {
        let SessionRecordRow { sid, label, client, ip, user_agent, created_at, last_seen_at, expires_at, .. } = row;
        Ok(Self {
            session: SessionRow { sid, label, client, ip, user_agent, created_at, last_seen_at, expires_at }
                .try_into()?,
            subject: row.subject.try_into()?,
            ended: revocation(row.ended_at, row.ended_by_kind, row.ended_by, row.ended_reason, true)?,
            with_subject: row.with_subject,
        })
    }
}

/// What is behind the state of a record.
pub(in crate::store) struct ParticularsRow {
    pub(in crate::store) revoked_at: Option<i64>,
    pub(in crate::store) revoked_by_kind: Option<String>,
    pub(in crate::store) revoked_by: Option<String>,
    pub(in crate::store) revoked_reason: Option<String>,
    pub(in crate::store) revoked_final: bool,
    pub(in crate::store) spent_at: Option<i64>,
    pub(in crate::store) successor: Option<Uuid>,
    pub(in crate::store) replaced_at: Option<i64>,
    pub(in crate::store) predecessor: Option<Uuid>,
    pub(in crate::store) session_ended_at: Option<i64>,
    pub(in crate::store) session_ended_by_kind: Option<String>,
    pub(in crate::store) session_ended_by: Option<String>,
    pub(in crate::store) session_ended_reason: Option<String>,
    pub(in crate::store) subject_ended_at: Option<i64>,
    pub(in crate::store) subject_ended_by_kind: Option<String>,
    pub(in crate::store) subject_ended_by: Option<String>,
    pub(in crate::store) subject_ended_reason: Option<String>,
    pub(in crate::store) retired_at: Option<i64>,
    pub(in crate::store) retired_by_kind: Option<String>,
    pub(in crate::store) retired_by: Option<String>,
    pub(in crate::store) retired_reason: Option<String>,
    pub(in crate::store) user_disabled: bool,
    pub(in crate::store) client_disabled: bool,
}

impl TryFrom<ParticularsRow> for Particulars {
    type Error = Error;

    fn try_from(row: ParticularsRow) -> Result<Self, Error> {
        let of = revocation;
        Ok(Self {
            revoked: of(row.revoked_at, row.revoked_by_kind, row.revoked_by, row.revoked_reason, row.revoked_final)?,
            spent: row.spent_at.map(time).transpose()?.map(|at| (at, row.successor.map(Jti::from))),
            replaced_at: row.replaced_at.map(time).transpose()?,
            predecessor: row.predecessor.map(Jti::from),
            session_ended: of(
                row.session_ended_at,
                row.session_ended_by_kind,
                row.session_ended_by,
                row.session_ended_reason,
                true,
            )?,
            subject_ended: of(
                row.subject_ended_at,
                row.subject_ended_by_kind,
                row.subject_ended_by,
                row.subject_ended_reason,
                true,
            )?,
            key_retired: of(row.retired_at, row.retired_by_kind, row.retired_by, row.retired_reason, true)?,
            user_disabled: row.user_disabled,
            client_disabled: row.client_disabled,
        })
    }
}

/// How something ended, where it did.
fn revocation(
    at: Option<i64>,
    kind: Option<String>,
    name: Option<String>,
    reason: Option<String>,
    is_final: bool,
) -> Result<Option<Revocation>, Error> {
    let Some(((at, kind), name)) = at.zip(kind).zip(name) else { return Ok(None) };
    // Plain SQL may have written any word.
    let kind = kind.parse().unwrap_or(ActorKind::System);
    Ok(Some(Revocation { at: time(at)?, by: Actor { kind, name }, reason, is_final }))
}
