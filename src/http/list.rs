//! Lists in pages: what a caller asks for, and the link to the next page (RFC 8288).

use std::fmt::{Display, Write as _};

use rocket::Request;
use rocket::http::{Header, RawStr, Status};
use rocket::request::{FromRequest, Outcome};
use rocket::response::{self, Responder, Response};
use rocket::serde::json::Json;
use serde::Serialize;
use utoipa::IntoParams;

use super::discovery::issuer_path;
use super::error::ApiError;
use crate::error::Error;
use crate::registry::{AuditFilter, Registry};
use crate::token::{AuditEvent, Cursor, Filter, Record, RecordPage, Session, SessionPage, Subject};

/// How many entries a page has where the caller doesn't say.
const LIMIT_DEFAULT: u16 = 100;

/// What narrows a list of records; [`Query`] reads it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the document alone reads it")]
pub(super) struct RecordsQuery {
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u16>,
    /// Where the page begins: from the link of the page before.
    cursor: Option<String>,
    /// `access` or `refresh`.
    #[param(pattern = "^(access|refresh)$")]
    r#type: Option<String>,
    /// `live`, `revoked` or `expired`.
    #[param(pattern = "^(live|revoked|expired)$")]
    state: Option<String>,
    /// The id of a session.
    session: Option<String>,
}

/// What narrows the records of all subjects further.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the document alone reads it")]
pub(super) struct OriginQuery {
    /// The id or the recorded name of the client that asked for the token.
    client: Option<String>,
    /// The address that the token was asked for from.
    address: Option<String>,
}

/// Which of the caller's sessions.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the document alone reads it")]
pub(super) struct SessionsQuery {
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u16>,
    /// Where the page begins: from the link of the page before.
    cursor: Option<String>,
}

/// What narrows the audit.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the document alone reads it")]
pub(super) struct AuditQuery {
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u16>,
    /// Where the page begins: from the link of the page before.
    cursor: Option<String>,
    /// Who did it.
    actor: Option<String>,
    /// What was done.
    action: Option<String>,
    /// The id of the token, session or key, or the name of the user or client, that it was done to.
    target: Option<String>,
}

/// What narrows a list to one subject.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the document alone reads it")]
pub(super) struct SubjectQuery {
    /// The subject.
    subject: Option<String>,
}

/// What narrows a list: the query parameters of these names, as sent.
#[derive(Debug)]
pub(super) struct Query<'r> {
    path: &'r str,
    fields: Vec<(&'r str, &'r str)>,
}

/// The names that lists know. No other parameter may get into a link: it may be a token.
const NAMES: [&str; 11] =
    ["limit", "type", "state", "subject", "session", "client", "address", "actor", "action", "target", "cursor"];

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Query<'r> {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let mut fields: Vec<(&str, &str)> = Vec::new();
        for field in request.query_fields() {
            let name = field.name.source().as_str();
            if !NAMES.contains(&name) {
                continue;
            }
            if fields.iter().any(|(known, _)| *known == name) {
                let error = ApiError::invalid(Status::UnprocessableEntity, format!("{name} stands twice"));
                return Outcome::Error((error.keep(request), ()));
            }
            fields.push((name, field.value));
        }
        // As the route spells it: `//auth/tokens`, as a link, would name another host. Below a path of the issuer's a
        // proxy has put that before it, which only whoever asked knows: a link without a path is to where it asked.
        let registry = request.rocket().state::<Registry>();
        let is_below = registry.is_some_and(|registry| {
            issuer_path(registry.settings().issuer()).is_some_and(|path| !path.trim_matches('/').is_empty())
        });
        let path = if is_below { "" } else { request.route().map_or("/", |route| route.uri.path()) };
        Outcome::Success(Self { path, fields })
    }
}

impl Query<'_> {
    /// The records of `subject`.
    pub(super) fn records_of(&self, subject: &Subject) -> Result<Filter, Error> {
        self.narrow(Filter::subject(subject.clone()))
    }

    /// The records of all, or of whom the caller names.
    pub(super) fn records_of_any(&self) -> Result<Filter, Error> {
        let mut filter = match self.get("subject") {
            Some(subject) => Filter::subject(subject.parse()?),
            None => Filter::all(),
        };
        if let Some(client) = self.get("client") {
            filter = filter.client(client)?;
        }
        if let Some(address) = self.get("address") {
            let invalid = |_| Error::invalid("address", "address must be an IPv4 or IPv6 address");
            filter = filter.address(address.parse().map_err(invalid)?);
        }
        self.narrow(filter)
    }

    pub(super) fn audit(&self) -> Result<AuditFilter, Error> {
        let before = match self.get("cursor") {
            Some(cursor) => {
                let before =
                    cursor.parse().map_err(|_| Error::invalid("cursor", "cursor must be one that a list gave"));
                Some(before?)
            }
            None => None,
        };
        // PostgreSQL refuses the control character 0 in text, and no entry has any other.
        let own = |name: &'static str| match self.get(name) {
            Some(text) if text.contains(char::is_control) => {
                Err(Error::invalid(name, format!("{name} must not contain control characters")))
            }
            text => Ok(text.map(str::to_owned)),
        };
        Ok(AuditFilter {
            subject: own("subject")?,
            actor: own("actor")?,
            action: own("action")?,
            target: own("target")?,
            before,
            limit: self.limit()? + 1,
        })
    }

    /// One page of records, with a link to the next where there is one.
    pub(super) fn page_of_records(&self, page: RecordPage) -> Page<Record> {
        Page { items: page.records, next: page.next.map(|cursor| self.link(&cursor)) }
    }

    /// One page of sessions.
    pub(super) fn page_of_sessions(&self, page: SessionPage<Session>) -> Page<Session> {
        Page { items: page.sessions, next: page.next.map(|cursor| self.link(&cursor)) }
    }

    /// The same of the audit, whose filter asks for one entry more than a page holds.
    pub(super) fn page_of_audit(&self, filter: &AuditFilter, mut events: Vec<AuditEvent>) -> Page<AuditEvent> {
        let is_full = events.len() >= usize::from(filter.limit);
        if is_full {
            events.pop();
        }
        let next = events.last().filter(|_| is_full).map(|event| self.link(&event.id));
        Page { items: events, next }
    }

    fn narrow(&self, mut filter: Filter) -> Result<Filter, Error> {
        if let Some(token_type) = self.get("type") {
            filter = filter.token_type(token_type.parse()?);
        }
        if let Some(state) = self.get("state") {
            filter = filter.state(state.parse()?);
        }
        if let Some(session) = self.get("session") {
            let invalid = |_| Error::invalid("session", "session must be the id of a session");
            filter = filter.session(session.parse().map_err(invalid)?);
        }
        if let Some(cursor) = self.after()? {
            filter = filter.after(cursor);
        }
        filter.limit(self.limit()?)
    }

    /// Where the page begins, in a list of records or sessions.
    pub(super) fn after(&self) -> Result<Option<Cursor>, Error> {
        self.get("cursor").map(str::parse).transpose()
    }

    /// How many entries the page has at most.
    pub(super) fn limit(&self) -> Result<u16, Error> {
        let Some(limit) = self.get("limit") else { return Ok(LIMIT_DEFAULT) };
        Filter::checked_limit(limit.parse().unwrap_or(0))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// The link to the page that begins at a place.
    fn link(&self, cursor: &impl Display) -> String {
        let mut link = format!("<{}?", self.path);
        for (name, value) in self.fields.iter().filter(|(name, _)| *name != "cursor") {
            // Writing to a string can't fail.
            let _ = write!(link, "{name}={}&", RawStr::new(*value).percent_encode());
        }
        let _ = write!(link, "cursor={cursor}>; rel=\"next\"");
        link
    }
}

/// One page of a list.
pub(super) struct Page<T> {
    items: Vec<T>,
    next: Option<String>,
}

impl<'r, T: Serialize> Responder<'r, 'static> for Page<T> {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let mut response = Response::build_from(Json(self.items).respond_to(request)?);
        if let Some(next) = self.next {
            response.header(Header::new("Link", next));
        }
        response.ok()
    }
}
