//! One log line per request, and the request id that ties it to the answer.
//!
//! A request that only looked and was answered has its line at `debug`: checks come by the ten thousand a second, their
//! lines would take a tenth of the server's time or more, and what they came to is counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use chrono::{DateTime, Utc};
use rocket::http::{Header, Method};
use rocket::{Request, Response};
use uuid::{Builder, Uuid};

use crate::registry::Registry;

/// The header a request id comes and goes in.
const REQUEST_ID: &str = "X-Request-Id";

/// The longest request id that is taken from a caller, in characters.
const REQUEST_ID_CHARS_MAX: usize = 64;

/// What is noted when a request arrives.
struct Arrival {
    id: String,
    /// Rocket turns a HEAD without a route of its own into a GET on the way. `None` where Rocket could not read the
    /// request: then no fairing saw it arrive, and its method is one that Rocket made up.
    method: Option<Method>,
    at: Instant,
}

/// Notes when a request arrived.
pub(super) fn arrived(request: &Request<'_>) {
    arrival(request, Some(request.method()));
}

/// Whether Rocket could read the request.
pub(super) fn has_arrived(request: &Request<'_>) -> bool {
    arrival(request, None).method.is_some()
}

/// Logs a request by method, route, status, time and id, which is written into the answer. The route is the pattern
/// that matched and never the URI: a query may carry a token.
pub(super) fn answered<'r>(request: &'r Request<'_>, response: &mut Response<'r>) {
    let arrival = arrival(request, None);
    response.set_header(Header::new(REQUEST_ID, arrival.id.as_str()));
    let route = request.route().map(|route| route.uri.as_str());
    let status = response.status().code;
    // Nothing that would need quotes: the ids are sane, and the rest is the program's own.
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "counterfoil::request",
                method = %arrival.method.map_or("-", Method::as_str),
                route = %route.unwrap_or("-"),
                status,
                time_us = u64::try_from(arrival.at.elapsed().as_micros()).unwrap_or(u64::MAX),
                request_id = %arrival.id,
            )
        };
    }
    match only_looked(arrival.method, route, status) {
        true => line!(debug),
        false => line!(info),
    }
}

/// Whether a request was answered, and changed nothing.
fn only_looked(method: Option<Method>, route: Option<&str>, status: u16) -> bool {
    let is_check = || route == Some("/oauth/introspect");
    status < 400 && (matches!(method, Some(Method::Get | Method::Head | Method::Options)) || is_check())
}

fn arrival<'r>(request: &'r Request<'_>, method: Option<Method>) -> &'r Arrival {
    request.local_cache(|| {
        let given = request.headers().get_one(REQUEST_ID).filter(|id| is_sane(id));
        let made = || {
            let rocket = request.rocket();
            let now = rocket.state::<Registry>().map(Registry::now).unwrap_or_default();
            rocket.state::<Ids>().map(|ids| ids.next(now)).unwrap_or_default()
        };
        Arrival { id: given.map_or_else(made, str::to_owned), method, at: Instant::now() }
    })
}

/// UUIDs of version 7, so that they sort by time. Random bits are asked of the operating system once and counted up
/// from there (RFC 9562 §6.2): a system call for each request would cost more than to write its line.
pub(super) struct Ids {
    high: [u8; 2],
    low: AtomicU64,
}

impl Ids {
    pub(super) fn new() -> Self {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        let [.., first, second] = high.to_be_bytes();
        Self { high: [first, second], low: AtomicU64::new(low) }
    }

    fn next(&self, now: DateTime<Utc>) -> String {
        let mut bits = [0; 10];
        bits[..2].copy_from_slice(&self.high);
        bits[2..].copy_from_slice(&self.low.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let id = Builder::from_unix_timestamp_millis(u64::try_from(now.timestamp_millis()).unwrap_or(0), &bits);
        id.into_uuid().hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_owned()
    }
}

/// Whether an id from outside can stand in a log line and a header as it is.
fn is_sane(id: &str) -> bool {
    let sane = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/' | b'+' | b'=');
    !id.is_empty() && id.len() <= REQUEST_ID_CHARS_MAX && id.bytes().all(sane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_and_sort_by_time() {
        let at = |millis| DateTime::from_timestamp_millis(millis).unwrap();
        let (ids, others) = (Ids::new(), Ids::new());
        // Also where what is counted overflows.
        ids.low.store(u64::MAX, Ordering::Relaxed);
        let mut made = vec![ids.next(at(2)), ids.next(at(2)), others.next(at(2)), ids.next(at(3)), ids.next(at(1))];
        assert!(made[0] < made[3] && made[1] < made[3] && made[4] < made[0]);
        for id in &made {
            assert_eq!(Uuid::try_parse(id).unwrap().get_version_num(), 7, "{id}");
        }
        made.sort();
        made.dedup();
        assert_eq!(made.len(), 5);
    }

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
