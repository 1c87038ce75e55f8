//! What a change says: to replicas, what to forget; to other services, through the feed, what became of it.

use uuid::Uuid;

use super::rows::target;
use crate::token::{Action, FeedEvent, FeedPage};

/// How far a clock may be behind where it judges what has expired: the largest leeway there is.
pub(super) const LEEWAY_SECONDS_MAX: i64 = 5 * 60;

/// For how long a retired key has to be known. When the last token that it signed expires is not looked up: no index
/// has that, and nothing may hold a retirement up.
const KEY_TOLD_SECONDS: i64 = 10 * 365 * 24 * 60 * 60;

/// A change to be noted in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) kind: &'static str,
    pub(super) target: String,
    /// What the feed says of it; `None` where others of the same transaction say it.
    pub(super) told: Option<Told>,
}

/// What the feed says of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) action: Action,
    /// Of a subject: the last of the sessions that ended.
    pub(super) last_sid: Option<Uuid>,
    /// When the last token that it is about expires.
    pub(super) expires_at: i64,
}

impl Change {
    pub(super) fn token(jti: impl ToString, action: Action, expires_at: i64) -> Self {
        Self::told("token", jti.to_string(), action, expires_at)
    }

    /// A session that ended.
    pub(super) fn session(sid: impl ToString, expires_at: i64) -> Self {
        Self::told("session", sid.to_string(), Action::Revoked, expires_at)
    }

    /// A subject, whose tokens the feed names one by one, if any.
    pub(super) fn subject(subject: &str) -> Self {
        Self { kind: "subject", target: subject.to_owned(), told: None }
    }

    /// The ring of keys, which is to be read again.
    pub(super) fn ring() -> Self {
        Self { kind: "key", target: String::new(), told: None }
    }

    /// A key that was retired with all that it signed.
    pub(super) fn retired_key(kid: &str, now: i64) -> Self {
        Self::told("key", kid.to_owned(), Action::Revoked, now.saturating_add(KEY_TOLD_SECONDS))
    }

    fn told(kind: &'static str, target: String, action: Action, expires_at: i64) -> Self {
        Self { kind, target, told: Some(Told { action, last_sid: None, expires_at }) }
    }
}

/// An event of the feed as it comes, with the position as of the same moment. Without any event there is one row with
/// the position alone.
pub(super) struct FeedRow {
    pub(super) position: i64,
    pub(super) is_kept: bool,
    /// The last that was looked at, where more follow.
    pub(super) looked: Option<i64>,
    pub(super) seq: Option<i64>,
    pub(super) kind: Option<String>,
    pub(super) target: Option<String>,
    pub(super) action: Option<String>,
    pub(super) at: Option<i64>,
    pub(super) last_sid: Option<Uuid>,
    pub(super) expires_at: Option<i64>,
}

impl FeedRow {
    fn event(self) -> Option<Result<FeedEvent, sqlx::Error>> {
        let (seq, kind, name, at, expires_at) = (self.seq?, self.kind?, self.target?, self.at?, self.expires_at?);
        let action = match self.action?.as_str() {
            "unrevoked" => Action::Unrevoked,
            _ => Action::Revoked,
        };
        let before_ms = (kind == "subject").then(|| before_ms(at, self.last_sid));
        Some(target(&kind, name).map(|target| FeedEvent { seq, target, action, at, before_ms, expires_at }))
    }
}

/// How many events are looked at for a reader who is limited to audiences, at a time: for each, tokens have to be read.
const LOOKED_MAX: u16 = 100;

/// How many tokens are read to see whether an event is for such a reader. One about more of them is told without.
pub(super) const READ_MAX: u16 = 500;

/// How many events are looked at, at a time.
pub(super) fn looked_max(limit: u16, serves: Option<&[String]>) -> u16 {
    if serves.is_some() { LOOKED_MAX } else { limit }
}

/// The page that these rows are; `None` where something is missing after the number that was asked for.
pub(super) fn page(found: Vec<FeedRow>, limit: u16) -> Result<Option<FeedPage>, sqlx::Error> {
    let first = found.first().ok_or(sqlx::Error::RowNotFound)?;
    if !first.is_kept {
        return Ok(None);
    }
    let end = first.looked.unwrap_or(first.position);
    let is_last = first.looked.is_none();
    let events: Vec<FeedEvent> = found.into_iter().filter_map(FeedRow::event).collect::<Result<_, _>>()?;
    Ok(Some(match events.last().map(|last| last.seq) {
        // There may be more.
        Some(last) if events.len() >= usize::from(limit) => FeedPage { events, next: last, is_last: false },
        _ => FeedPage { events, next: end, is_last },
    }))
}

/// A moment that the sessions which ended began before: after the last of them by its own id, whatever clock made it,
/// and after the second of the change, which no token that was issued before it is younger than.
fn before_ms(at: i64, last_sid: Option<Uuid>) -> i64 {
    let began_ms = last_sid.and_then(|sid| i64::try_from(sid.as_u128() >> 80).ok()).unwrap_or(0);
    began_ms.max(at.saturating_mul(1_000)).saturating_add(1)
}
