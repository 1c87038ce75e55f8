//! The feed of revocations, for services that keep a set of their own: in pages, and as Server-Sent Events.

use std::time::Duration;

use chrono::DateTime;
use rocket::http::Header;
use rocket::request::{FromRequest, Outcome};
use rocket::response::stream::{Event, EventStream};
use rocket::response::{self, Responder, Response};
use rocket::serde::json::Json;
use rocket::tokio::sync::mpsc;
use rocket::{Request, Route, Shutdown, State, get, routes, tokio};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::client::ClientCaller;
use super::error::ApiError;
use super::introspect::SCOPE;
use super::openapi::ErrorBody;
use crate::error::Error;
use crate::registry::{Followed, Following, Registry};
use crate::token::{FeedEvent, Filter, Target, rfc3339};

/// How many streams of one process there may be is a setting; who finds no place may look again after this many
/// seconds.
const RETRY_AFTER_SECONDS: u32 = 10;

/// Who takes nothing for as many heartbeats is dropped.
const UNREAD_HEARTBEATS: u32 = 3;

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![list_revocations, stream_revocations]
}

/// The documentation of these routes.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list_revocations, stream_revocations))]
pub(super) struct Api;

/// Where in the feed to begin; [`Asked`] reads it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the document alone reads it")]
struct AfterQuery {
    /// The `next` of the answer before, or 0 for all from the first on. Without it: from now on.
    #[param(minimum = 0)]
    after: Option<i64>,
}

/// How much of it; [`Asked`] reads it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the document alone reads it")]
struct LimitQuery {
    /// How many events at most.
    #[param(minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<u16>,
}

/// Where a stream goes on; [`Asked`] reads it.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "the document alone reads it")]
struct ResumeHeader {
    /// The `id` of the last event that was received. It wins over `after`.
    #[param(rename = "Last-Event-ID")]
    last_event_id: Option<i64>,
}

struct Asked {
    after: Option<i64>,
    last_event_id: Option<i64>,
    limit: u16,
}

impl Asked {
    fn read(request: &Request<'_>) -> Result<Self, Error> {
        let once = |name: &'static str| {
            let mut values =
                request.query_fields().filter(|field| field.name.source() == name).map(|field| field.value);
            match (values.next(), values.next()) {
                (value, None) => Ok(value),
                _ => Err(Error::invalid(name, format!("{name} stands twice"))),
            }
        };
        let number = |name: &'static str, text: &str| match text.parse() {
            Ok(number @ 0..) => Ok(number),
            _ => Err(Error::invalid(name, format!("{name} must be a number that an answer gave, or 0"))),
        };
        Ok(Self {
            after: once("after")?.map(|text| number("after", text)).transpose()?,
            last_event_id: request
                .headers()
                .get_one("Last-Event-ID")
                .filter(|text| !text.is_empty())
                .map(|text| number("Last-Event-ID", text))
                .transpose()?,
            // Where the caller doesn't say, as many as can be.
            limit: match once("limit")? {
                Some(limit) => Filter::checked_limit(limit.parse().unwrap_or(0))?,
                None => Filter::LIMIT_MAX,
            },
        })
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Asked {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        match Self::read(request) {
            Ok(asked) => Outcome::Success(asked),
            Err(error) => Outcome::Error((ApiError::from(error).keep(request), ())),
        }
    }
}

/// That tokens ceased to be good, or are good again. One of `jti`, `sid`, `sub` and `kid` says which.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Revocation {
    /// Later events have larger ones; there are gaps.
    seq: i64,
    /// One token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    jti: Option<String>,
    /// All tokens of a session.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    sid: Option<String>,
    /// All tokens of a subject's sessions that were begun before `before`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    sub: Option<String>,
    /// All tokens that a key signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    kid: Option<String>,
    /// `revoked` or `unrevoked`.
    action: &'static str,
    /// When.
    #[schema(format = DateTime)]
    at: String,
    /// Of a `sub` alone: a NumericDate with milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    before: Option<f64>,
    /// When the last of the tokens expires: the event may be forgotten then.
    exp: i64,
}

/// A part of the feed.
#[derive(Debug, Serialize, ToSchema)]
struct Revocations {
    /// In their order.
    events: Vec<Revocation>,
    /// What to ask `after` next.
    next: i64,
}

impl Revocation {
    fn of(event: FeedEvent) -> Self {
        let mut told = Self {
            seq: event.seq,
            action: event.action.as_str(),
            at: DateTime::from_timestamp(event.at, 0).map(rfc3339).unwrap_or_default(),
            exp: event.expires_at,
            ..Self::default()
        };
        match event.target {
            Target::Token(jti) => told.jti = Some(jti.to_string()),
            Target::Session(sid) => told.sid = Some(sid.to_string()),
            Target::Subject(subject) => {
                told.sub = Some(subject.to_string());
                // Exact to far less than a millisecond.
                told.before = event.before_ms.map(|ms| ms as f64 / 1_000.0);
            }
            Target::Key(kid) => told.kid = Some(kid),
        }
        told
    }

    fn event(self) -> Event {
        let seq = self.seq;
        Event::json(&self).id(seq.to_string())
    }
}

/// Lists what was revoked after a number, in order.
#[utoipa::path(tag = "Revocations", params(AfterQuery, LimitQuery), responses(
    (status = 200, description = "One page; go on with `next`", body = Revocations),
    (status = 401, description = "`invalid_client`, or why the token was refused", body = ErrorBody),
    (status = 403, description = "`insufficient_scope`: needs `tokens:introspect`", body = ErrorBody),
    (status = 410, description = "`gone`: `after` is older than what is kept, or not of this registry", body = ErrorBody),
    (status = 422, description = "`invalid_request`: a parameter is not valid", body = ErrorBody),
    (status = 429, description = "`rate_limited`: too many wrong secrets", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("client" = []), ("bearer" = [])))]
#[get("/revocations")]
async fn list_revocations(
    caller: ClientCaller,
    asked: Asked,
    registry: &State<Registry>,
) -> Result<Json<Revocations>, ApiError> {
    caller.require(SCOPE)?;
    let page = registry.feed(asked.after, asked.limit, caller.serves()).await?.ok_or_else(ApiError::gone)?;
    Ok(Json(Revocations { events: page.events.into_iter().map(Revocation::of).collect(), next: page.next }))
}

/// The same events as they come, as Server-Sent Events; `id` is their number. At once, and after each `feed.heartbeat`
/// of silence, there comes a comment and an `id` without data: up to there nothing is missing.
#[utoipa::path(tag = "Revocations", params(AfterQuery, ResumeHeader), responses(
    (status = 200, description = "Events without end", content_type = "text/event-stream", body = Revocation),
    (status = 401, description = "`invalid_client`, or why the token was refused", body = ErrorBody),
    (status = 403, description = "`insufficient_scope`: needs `tokens:introspect`", body = ErrorBody),
    (status = 410, description = "`gone`: that number is older than what is kept, or not of this registry", body = ErrorBody),
    (status = 422, description = "`invalid_request`: a parameter is not valid", body = ErrorBody),
    (status = 429, description = "`rate_limited`: too many wrong secrets", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`, also where there are as many streams as may be", body = ErrorBody),
), security(("client" = []), ("bearer" = [])))]
#[get("/revocations/stream")]
async fn stream_revocations(
    caller: ClientCaller,
    asked: Asked,
    registry: &State<Registry>,
    shutdown: Shutdown,
) -> Result<Unbuffered<EventStream![]>, ApiError> {
    caller.require(SCOPE)?;
    let serves = caller.serves().map(<[String]>::to_vec);
    let feed = match registry.follow_feed(asked.last_event_id.or(asked.after), serves).await? {
        Followed::Following(feed) => feed,
        Followed::Gone => return Err(ApiError::gone()),
        Followed::Full => return Err(ApiError::busy(RETRY_AFTER_SECONDS)),
    };
    let heartbeat = registry.settings().feed.heartbeat;
    let (reader, mut told) = mpsc::channel(1);
    // In a task of its own: what the answer's body waits for is whoever reads it, and that may be for ever.
    let telling = Telling { caller, feed, reader, heartbeat };
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown => {}
            () = telling.go_on() => {}
        }
    });
    let events = EventStream! {
        while let Some(event) = told.recv().await {
            yield event;
        }
    };
    Ok(Unbuffered(events.heartbeat(None)))
}

/// One stream under way. Its place among them is free again when it ends, whether or not its reader ever takes the
/// rest.
struct Telling {
    caller: ClientCaller,
    feed: Following,
    reader: mpsc::Sender<Event>,
    heartbeat: Duration,
}

impl Telling {
    async fn go_on(mut self) {
        // At once, so that whoever follows knows that it does, and from where on.
        let mut events = vec![beat(self.feed.cursor())];
        loop {
            for event in events {
                // One who takes nothing fills the channel, and one who has left closes it.
                if self.reader.send_timeout(event, self.heartbeat * UNREAD_HEARTBEATS).await.is_err() {
                    return;
                }
            }
            let next = tokio::select! {
                () = self.reader.closed() => return,
                next = tokio::time::timeout(self.heartbeat, self.feed.next()) => next,
            };
            // A token or client that was taken back is told no more, not even this.
            if !self.caller.still_live().await {
                return;
            }
            events = match next {
                Err(_) if self.feed.is_current() => vec![beat(self.feed.cursor())],
                Ok(Ok(Some(events))) => events.into_iter().map(|event| Revocation::of(event).event()).collect(),
                Err(_) | Ok(Ok(None) | Err(_)) => return,
            };
        }
    }
}

/// Says that it is alive, and up to where nothing is missing: an id without data is no event, and is kept all the same.
fn beat(cursor: i64) -> Event {
    Event::comment("").id(cursor.to_string())
}

/// What a proxy must pass on at once.
struct Unbuffered<R>(R);

impl<'r, R: Responder<'r, 'r>> Responder<'r, 'r> for Unbuffered<R> {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'r> {
        let mut response: Response<'r> = self.0.respond_to(request)?;
        response.set_header(Header::new("X-Accel-Buffering", "no"));
        Ok(response)
    }
}
