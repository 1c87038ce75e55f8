//! What both databases share and no SQL is in: rows as they come, the records made of them, and the rules of revoking.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Particulars, Premise, Repeat, Sha256, Status, StoredClient, StoredUser};
use crate::error::Error;
use crate::token::{
    Act, Actor, ActorKind, AuditEvent, Cursor, Jti, Position, PurgeRun, Record, RecordPage, Renewal, Replica,
    Revocation, Roll, Session, SessionRecord, StoredKey, Subject, Target,
};

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

/// What a check needs to know of a record, as it comes.
pub(super) struct StatusRow {
    pub(super) jti: Uuid,
    pub(super) sid: Uuid,
    pub(super) subject: String,
    pub(super) token_type: String,
    pub(super) not_before: i64,
    pub(super) expires_at: i64,
    pub(super) imported: bool,
    pub(super) revoked: bool,
    pub(super) spent: bool,
    pub(super) kid: String,
    pub(super) claims: String,
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
pub(super) fn statuses(ids: &[Jti], found: Vec<StatusRow>) -> Result<Vec<Option<Status>>, sqlx::Error> {
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

/// A session with how it ended.
#[derive(Debug)]
pub(super) struct SessionRecordRow {
    pub(super) sid: Uuid,
    pub(super) subject: String,
    pub(super) label: Option<String>,
    pub(super) client: Option<String>,
    pub(super) ip: Option<String>,
    pub(super) user_agent: Option<String>,
    pub(super) created_at: i64,
    pub(super) last_seen_at: i64,
    pub(super) expires_at: i64,
    /// Whether it ended with all of its subject and not before.
    pub(super) with_subject: bool,
    pub(super) ended_at: Option<i64>,
    pub(super) ended_by_kind: Option<String>,
    pub(super) ended_by: Option<String>,
    pub(super) ended_reason: Option<String>,
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
pub(super) struct ParticularsRow {
    pub(super) revoked_at: Option<i64>,
    pub(super) revoked_by_kind: Option<String>,
    pub(super) revoked_by: Option<String>,
    pub(super) revoked_reason: Option<String>,
    pub(super) revoked_final: bool,
    pub(super) spent_at: Option<i64>,
    pub(super) successor: Option<Uuid>,
    pub(super) replaced_at: Option<i64>,
    pub(super) predecessor: Option<Uuid>,
    pub(super) session_ended_at: Option<i64>,
    pub(super) session_ended_by_kind: Option<String>,
    pub(super) session_ended_by: Option<String>,
    pub(super) session_ended_reason: Option<String>,
    pub(super) subject_ended_at: Option<i64>,
    pub(super) subject_ended_by_kind: Option<String>,
    pub(super) subject_ended_by: Option<String>,
    pub(super) subject_ended_reason: Option<String>,
    pub(super) retired_at: Option<i64>,
    pub(super) retired_by_kind: Option<String>,
    pub(super) retired_by: Option<String>,
    pub(super) retired_reason: Option<String>,
    pub(super) user_disabled: bool,
    pub(super) client_disabled: bool,
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
    Ok(Some(Revocation { at: time(at)?, by: Actor { kind: kind.parse()?, name }, reason, is_final }))
}

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

pub(super) struct ClientRow {
    pub(super) client_id: String,
    pub(super) name: String,
    pub(super) scope: String,
    pub(super) grant_scope: String,
    pub(super) audience: String,
    pub(super) serves: Option<String>,
    pub(super) first_party: bool,
    pub(super) disabled: bool,
    pub(super) secret_digest: Vec<u8>,
    pub(super) old_secret_digest: Option<Vec<u8>>,
    pub(super) old_secret_until: Option<i64>,
    pub(super) created_at: i64,
    pub(super) secret_changed_at: i64,
}

impl TryFrom<ClientRow> for StoredClient {
    type Error = Error;

    fn try_from(row: ClientRow) -> Result<Self, Error> {
        let old_digest = row.old_secret_digest.map(sha256).transpose()?;
        Ok(Self {
            client_id: row.client_id,
            name: row.name,
            scope: row.scope.parse()?,
            grant_scope: row.grant_scope.parse()?,
            audience: audiences(&row.audience)?,
            serves: row.serves.as_deref().map(audiences).transpose()?,
            first_party: row.first_party,
            disabled: row.disabled,
            secret_digest: sha256(row.secret_digest)?,
            old_secret: old_digest.zip(row.old_secret_until),
            created_at: row.created_at,
            secret_changed_at: row.secret_changed_at,
        })
    }
}

fn sha256(bytes: Vec<u8>) -> Result<Sha256, Error> {
    bytes.try_into().map_err(|_| Error::internal("a digest in the database has another length"))
}

fn audiences(list: &str) -> Result<Vec<String>, Error> {
    serde_json::from_str(list).map_err(|error| Error::internal("a client's audiences can't be read").with_source(error))
}

/// What the audit calls a change to a client.
pub(super) fn client_action(before: &StoredClient, after: &StoredClient) -> &'static str {
    match (before.disabled, after.disabled) {
        (false, true) => "client.disabled",
        (true, false) => "client.enabled",
        _ => "client.changed",
    }
}

pub(super) struct RepeatRow {
    pub(super) body_digest: Vec<u8>,
    pub(super) sid: Uuid,
    pub(super) access_jti: Uuid,
    pub(super) refresh_jti: Uuid,
    pub(super) asked_at: i64,
    pub(super) expires_at: i64,
}

impl TryFrom<RepeatRow> for Repeat {
    type Error = Error;

    fn try_from(row: RepeatRow) -> Result<Self, Error> {
        Ok(Self {
            body_digest: sha256(row.body_digest)?,
            sid: row.sid.into(),
            access: row.access_jti.into(),
            refresh: row.refresh_jti.into(),
            asked_at: row.asked_at,
            expires_at: row.expires_at,
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

/// How many changes a replica may be behind and still be told of each; one that is further behind forgets everything.
pub(super) const BEHIND_MAX: i64 = 10_000;

/// A change that a replica is told of, with the position that the whole renewal comes to. Without any change there is one
/// row with the position alone.
pub(super) struct Noted {
    pub(super) seq: i64,
    pub(super) change: Uuid,
    pub(super) kind: Option<String>,
    pub(super) target: Option<String>,
}

/// Without a row it was refused. Where it names something that this program can't read, the replica is better off
/// forgetting everything.
pub(super) fn renewal(noted: Vec<Noted>) -> Result<Option<Renewal>, sqlx::Error> {
    let Some(first) = noted.first() else { return Ok(None) };
    let position = Position { seq: first.seq, change: first.change };
    let targets = noted.into_iter().filter_map(|row| Some(target(&row.kind?, row.target?)));
    Ok(targets.collect::<Result<_, _>>().ok().map(|targets| Renewal { position, targets }))
}

pub(super) fn target(kind: &str, target: String) -> Result<Target, sqlx::Error> {
    let id = |text: &str| Uuid::try_parse(text).map_err(|error| sqlx::Error::Decode(Box::new(error)));
    Ok(match kind {
        "token" => Target::Token(id(&target)?.into()),
        "session" => Target::Session(id(&target)?.into()),
        "subject" => Target::Subject(subject(target)?),
        _ => Target::Key(target),
    })
}

/// A replica, with the position as of the same moment. Without any replica there is one row with the position alone.
pub(super) struct RollRow {
    pub(super) seq: i64,
    pub(super) change: Uuid,
    pub(super) roll: Uuid,
    pub(super) id: Option<Uuid>,
    pub(super) name: Option<String>,
    pub(super) lease_ms: Option<i64>,
    pub(super) applied: Option<i64>,
    pub(super) granted: Option<i64>,
    pub(super) joined_at: Option<i64>,
    pub(super) seen_at: Option<i64>,
}

pub(super) fn roll(found: Vec<RollRow>) -> Result<Roll, sqlx::Error> {
    let first = found.first().ok_or(sqlx::Error::RowNotFound)?;
    let (position, id) = (Position { seq: first.seq, change: first.change }, first.roll);
    let replica = |row: RollRow| {
        Some(Replica {
            id: row.id?,
            name: row.name?,
            lease_ms: row.lease_ms?,
            applied: row.applied?,
            granted: row.granted?,
            joined_at: row.joined_at?,
            seen_at: row.seen_at?,
        })
    };
    Ok(Roll { position, id, replicas: found.into_iter().filter_map(replica).collect() })
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
    /// Whether revoking by jti changes the record: the first revocation does, and so do one of higher standing and a final
    /// one.
    pub(super) fn revoke(&self, act: &Act, is_final: bool) -> Step {
        let first = self.revoked_by_kind.is_none();
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
    Act { actor: Actor::system("refresh_reuse"), reason, ip: None }
}

/// A session that makes room for another.
pub(super) fn cap_act() -> Act {
    Act { actor: Actor::system("sessions.max"), reason: Some("too many sessions".to_owned()), ip: None }
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
    cursor.map_or((i64::MAX, Uuid::max()), |cursor| (cursor.issued_at, cursor.jti.as_uuid()))
}

/// The place that a page goes down to; without one, past every record.
pub(super) fn down_to(end: Option<Cursor>) -> (i64, Uuid) {
    end.map_or((i64::MIN, Uuid::nil()), |cursor| (cursor.issued_at, cursor.jti.as_uuid()))
}

/// A page of what was found up to `end`, one record beyond the limit included.
pub(super) fn page(mut records: Vec<Record>, limit: u16, end: Option<Cursor>) -> RecordPage {
    let is_full = records.len() > usize::from(limit);
    records.truncate(limit.into());
    let next = if is_full { records.last().map(Cursor::of) } else { end };
    RecordPage { records, next }
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
