//! One log line per request, and the request id that ties it to the answer.

use std::time::Instant;

use rocket::fairing::{Fairing, Info, Kind};
use rocket::http::{Header, Method};
use rocket::{Data, Orbit, Request, Response, Rocket};

use crate::registry::Registry;
use crate::token::uuid_of;

/// The header a request id comes and goes in.
const REQUEST_ID: &str = "X-Request-Id";

/// The longest request id that is taken from a caller, in characters.
const REQUEST_ID_CHARS_MAX: usize = 64;

/// Logs each request by method, route, status, time and id. The route is the pattern that matched and never the URI: a
/// query may carry a token.
pub(super) struct RequestLog;

/// What is noted when a request arrives.
struct Arrival {
    id: String,
    /// Rocket turns a HEAD without a route of its own into a GET on the way.
    method: Method,
    at: Instant,
}

impl Arrival {
    fn of<'r>(request: &'r Request<'_>) -> &'r Self {
        request.local_cache(|| {
            let given = request.headers().get_one(REQUEST_ID).filter(|id| is_sane(id));
            Self {
                id: given.map_or_else(|| new_id(request), str::to_owned),
                method: request.method(),
                at: Instant::now(),
            }
        })
    }
}

#[rocket::async_trait]
impl Fairing for RequestLog {
    fn info(&self) -> Info {
        Info { name: "request log", kind: Kind::Liftoff | Kind::Request | Kind::Response | Kind::Singleton }
    }

    async fn on_liftoff(&self, rocket: &Rocket<Orbit>) {
        let config = rocket.config();
        tracing::info!(address = %config.address, port = config.port, "listening");
    }

    async fn on_request(&self, request: &mut Request<'_>, _: &mut Data<'_>) {
        Arrival::of(request);
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        let arrival = Arrival::of(request);
        response.set_header(Header::new(REQUEST_ID, arrival.id.clone()));
        let route = request.route().map(|route| route.uri.as_str());
        tracing::info!(
            target: "counterfoil::request",
            method = arrival.method.as_str(),
            route = route.unwrap_or("-"),
            status = response.status().code,
            time_us = u64::try_from(arrival.at.elapsed().as_micros()).unwrap_or(u64::MAX),
            request_id = arrival.id,
        );
    }
}

/// Whether an id from outside can stand in a log line and a header as it is.
fn is_sane(id: &str) -> bool {
    let sane = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/' | b'+' | b'=');
    !id.is_empty() && id.len() <= REQUEST_ID_CHARS_MAX && id.bytes().all(sane)
}

/// A UUID of version 7, so that ids sort by time.
fn new_id(request: &Request<'_>) -> String {
    uuid_of(request.rocket().state::<Registry>().map(Registry::now).unwrap_or_default()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_from_outside_is_taken_only_where_it_is_harmless() {
        assert!(is_sane("0192f0c1-7c1e-7000-8000-000000000000"));
        assert!(is_sane("trace:01/ab+c=="));
        let long = "a".repeat(REQUEST_ID_CHARS_MAX + 1);
        for id in ["", "a b", "a\"b", "ä", "a\u{1b}[31m", long.as_str()] {
            assert!(!is_sane(id), "{id:?}");
        }
    }
}
