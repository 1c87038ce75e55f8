//! What the registry keeps about tokens, sessions and changes, and how lists of them are asked for.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use uuid::Uuid;

#[cfg(feature = "server")]
use super::claims::is_console_audience;
use super::{Actor, Jti, Scopes, Sid, Subject, TokenType};
use crate::error::Error;

/// The registry's row about one token: the counterfoil that stays behind when the token is handed out.
///
/// It serialises as the wire form `{"token", "revoked", "revoked_at", …}`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Record {
    /// The claims as issued.
    pub token: Map<String, Value>,
    /// The token's id.
    pub jti: Jti,
    /// The session it descends from.
    pub sid: Sid,
    /// Whom it speaks for.
    pub subject: Subject,
    /// Access or refresh.
    pub token_type: TokenType,
    /// What it may do; for a refresh token, what the tokens got with it may do at most.
    pub scope: Scopes,
    /// When it was issued.
    pub issued_at: DateTime<Utc>,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
    /// Set when it is revoked: by itself, with its session, or with all of its subject.
    pub revocation: Option<Revocation>,
    /// When it was last accepted, coarsely, where that is recorded.
    pub last_used_at: Option<DateTime<Utc>>,
    /// What the user calls it.
    pub label: Option<String>,
    /// The name of the client that asked for it, `None` for the server's own `/login` and for library calls.
    pub client: Option<String>,
    /// The address it was asked for from.
    pub ip: Option<String>,
    /// The user agent it was asked for with.
    pub user_agent: Option<String>,
}

#[cfg(feature = "server")]
impl Record {
    /// Whether the token was issued for the console.
    pub(crate) fn is_console(&self) -> bool {
        let text = |name: &str| self.token.get(name).and_then(Value::as_str);
        matches!((text("aud"), text("iss")), (Some(aud), Some(iss)) if is_console_audience(aud, iss))
    }

    /// Its state where tokens are live that expire after `live_at`, as the search knows states.
    pub(crate) fn state(&self, live_at: i64) -> State {
        match &self.revocation {
            Some(_) => State::Revoked,
            None if self.expires_at.timestamp() > live_at => State::Live,
            None => State::Expired,
        }
    }
}

/// How a token or session came to be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Revocation {
    /// When.
    pub at: DateTime<Utc>,
    /// By whom.
    pub by: Actor,
    /// Why, where a reason was given.
    pub reason: Option<String>,
    /// Whether it can't be undone by anybody.
    pub is_final: bool,
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let revocation = self.revocation.as_ref();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("token", &self.token)?;
        map.serialize_entry("revoked", &revocation.is_some())?;
        map.serialize_entry("revoked_at", &revocation.map(|revocation| rfc3339(revocation.at)))?;
        map.serialize_entry("revoked_reason", &revocation.and_then(|revocation| revocation.reason.as_deref()))?;
        map.serialize_entry("last_used_at", &self.last_used_at.map(rfc3339))?;
        map.serialize_entry("label", &self.label)?;
        map.serialize_entry("client", &self.client)?;
        map.serialize_entry("ip", &self.ip)?;
        map.serialize_entry("user_agent", &self.user_agent)?;
        map.end()
    }
}

/// A live session: all tokens that descend from one login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Session {
    /// Its id.
    pub sid: Sid,
    /// Whether it is the one that asks; `false` where nobody in particular does.
    pub current: bool,
    /// What the user calls the device.
    pub label: Option<String>,
    /// The name of the client that began it.
    pub client: Option<String>,
    /// The address it began at.
    pub ip: Option<String>,
    /// The user agent it began with.
    pub user_agent: Option<String>,
    /// When it began.
    #[serde(serialize_with = "as_rfc3339")]
    pub created_at: DateTime<Utc>,
    /// When it last logged in, refreshed or, where that is recorded, was used.
    #[serde(serialize_with = "as_rfc3339")]
    pub last_seen_at: DateTime<Utc>,
    /// When its last token expires.
    #[serde(serialize_with = "as_rfc3339")]
    pub expires_at: DateTime<Utc>,
}

/// One entry of the audit: who changed what, when, from where and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct AuditEvent {
    /// Its number: later entries have larger ones.
    pub(crate) id: i64,
    /// When.
    #[serde(serialize_with = "as_rfc3339")]
    pub(crate) at: DateTime<Utc>,
    /// By whom.
    pub(crate) actor: Actor,
    /// What was done: `token.revoked`, `session.ended`, …
    pub(crate) action: String,
    /// The subject it was done to.
    pub(crate) subject: Option<String>,
    /// The token, session, user or other thing it was done to.
    pub(crate) target: Option<String>,
    /// Why.
    pub(crate) reason: Option<String>,
    /// From where.
    pub(crate) ip: Option<String>,
}

/// The states a list can be narrowed to. Each record is in at most one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Accepted now.
    Live,
    /// Revoked, whether or not it has expired since.
    Revoked,
    /// Expired without having been revoked.
    Expired,
}

impl State {
    /// `live`, `revoked` or `expired`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

impl FromStr for State {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::Live, Self::Revoked, Self::Expired]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| Error::invalid("state", "state must be live, revoked or expired"))
    }
}

/// Which records a list shows, and from where on.
///
/// ```
/// use counterfoil::{Filter, State};
///
/// let alices = Filter::subject("alice".parse()?).state(State::Live).limit(20)?;
/// # Ok::<(), counterfoil::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "it does nothing until something is listed by it"]
pub struct Filter {
    pub(crate) subject: Option<Subject>,
    pub(crate) session: Option<Sid>,
    pub(crate) client: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) token_type: Option<TokenType>,
    pub(crate) state: Option<State>,
    pub(crate) after: Option<Cursor>,
    pub(crate) limit: u16,
}

impl Filter {
    /// How many records one page holds at most.
    pub const LIMIT_MAX: u16 = 1_000;

    /// The records of all subjects, newest first, 100 at a time.
    pub fn all() -> Self {
        Self {
            subject: None,
            session: None,
            client: None,
            address: None,
            token_type: None,
            state: None,
            after: None,
            limit: 100,
        }
    }

    /// The records of one subject.
    pub fn subject(subject: Subject) -> Self {
        Self { subject: Some(subject), ..Self::all() }
    }

    /// Tokens of one session alone.
    pub fn session(mut self, session: Sid) -> Self {
        self.session = Some(session);
        self
    }

    /// Tokens alone that this client asked for: its name as recorded, or the id of one that is there.
    ///
    /// # Errors
    ///
    /// [`is_invalid`](Error::is_invalid) for a control character.
    pub fn client(mut self, client: impl Into<String>) -> Result<Self, Error> {
        let client = client.into();
        // PostgreSQL refuses the control character 0 in text, and no client has any other.
        if client.contains(char::is_control) {
            return Err(Error::invalid("client", "client must not contain control characters"));
        }
        self.client = Some(client);
        Ok(self)
    }

    /// Tokens alone that were asked for from this address.
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = Some(address.to_canonical().to_string());
        self
    }

    /// Tokens of one type alone.
    pub fn token_type(mut self, token_type: TokenType) -> Self {
        self.token_type = Some(token_type);
        self
    }

    /// Tokens in one state alone.
    pub fn state(mut self, state: State) -> Self {
        self.state = Some(state);
        self
    }

    /// From after this record on: the [`Cursor::of`] of the last record of the page before.
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.after = Some(cursor);
        self
    }

    /// At most `limit` records.
    ///
    /// # Errors
    ///
    /// [`is_invalid`](Error::is_invalid) for anything but 1 to 1000.
    pub fn limit(mut self, limit: u16) -> Result<Self, Error> {
        self.limit = Self::checked_limit(limit)?;
        Ok(self)
    }

    pub(crate) fn checked_limit(limit: u16) -> Result<u16, Error> {
        match limit {
            1..=Self::LIMIT_MAX => Ok(limit),
            _ => Err(Error::invalid("limit", "limit must be 1 to 1000")),
        }
    }
}

/// What leads to the records that a filter asks for, in the order of their list. The rest of the filter is compared
/// with each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Along {
    Session,
    Subject,
    Address,
    Client,
    All,
}

impl Filter {
    /// The first of these that it names: the more it says, the fewer there are to look through.
    pub(crate) fn along(&self) -> Along {
        if self.session.is_some() {
            Along::Session
        } else if self.subject.is_some() {
            Along::Subject
        } else if self.address.is_some() {
            Along::Address
        } else if self.client.is_some() {
            Along::Client
        } else {
            Along::All
        }
    }

    /// Whether some of those that it leads along may not be asked for.
    pub(crate) fn leaves_out(&self) -> bool {
        let named = [self.session.is_some(), self.subject.is_some(), self.address.is_some(), self.client.is_some()];
        self.token_type.is_some() || self.state.is_some() || named.into_iter().filter(|named| *named).count() > 1
    }
}

/// One page of records, newest first.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RecordPage {
    /// The records; there may be fewer than the limit, and none at all, though others follow.
    pub records: Vec<Record>,
    /// Where the next page begins; `None` where nothing follows.
    pub next: Option<Cursor>,
}

/// One page of sessions, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionPage<T> {
    /// The sessions, as many as were asked for where there are as many.
    pub sessions: Vec<T>,
    /// Where the next page begins; `None` where nothing follows.
    pub next: Option<Cursor>,
}

/// A place in a list of records or of sessions, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// When the record's token was issued or the session began, in seconds.
    pub(crate) at: i64,
    pub(crate) id: Uuid,
}

impl Cursor {
    /// The place of this record.
    pub fn of(record: &Record) -> Self {
        Self { at: record.issued_at.timestamp(), id: record.jti.as_uuid() }
    }

    /// The place of this session.
    pub fn of_session(session: &Session) -> Self {
        Self { at: session.created_at.timestamp(), id: session.sid.as_uuid() }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at, self.id)
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::invalid("cursor", "cursor must be one that a list gave");
        let (at, id) = text.split_once('.').ok_or_else(invalid)?;
        Ok(Self { at: at.parse().map_err(|_| invalid())?, id: id.parse().map_err(|_| invalid())? })
    }
}

/// The time that is so many seconds after the epoch.
pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap_or_default()
}

pub(crate) fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

pub(crate) fn as_rfc3339<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*at))
}
