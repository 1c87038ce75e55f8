//! Pages of other origins that call from a browser (CORS, in the Fetch standard): closed but for the origins in the
//! settings.

use std::io::Cursor;

use rocket::http::{Header, Method, Status};
use rocket::{Request, Response};

use super::catchers::allowed;
use crate::config::{Location, Settings};

/// What scripts may read beside the headers that they always may.
const EXPOSED: &str = "ETag, Link, WWW-Authenticate, Retry-After, X-Request-Id";

/// Answers browsers that ask whether a page may call, and lets pages read the answers. It does nothing where no origin
/// is set.
pub(super) fn answer(request: &Request<'_>, settings: &Settings, response: &mut Response<'_>) {
    if settings.cors.origins.is_empty() {
        return;
    }
    let is_any = settings.cors.origins.iter().any(|origin| origin == "*");
    // Also where no origin is named: a cache must not hand that answer to a page.
    if !is_any {
        response.adjoin_header(Header::new("Vary", "Origin"));
    }
    let mut sent = request.headers().get("Origin");
    let (Some(origin), None) = (sent.next(), sent.next()) else { return };
    if !is_any && !settings.cors.origins.iter().any(|allowed| allowed == origin) {
        return;
    }
    response.set_header(Header::new(
        "Access-Control-Allow-Origin",
        if is_any { "*".to_owned() } else { origin.to_owned() },
    ));
    if settings.locations.contains(&Location::Cookie) {
        response.set_header(Header::new("Access-Control-Allow-Credentials", "true"));
    }
    if request.method() == Method::Options && request.headers().contains("Access-Control-Request-Method") {
        preflight(request, settings, response);
    } else {
        response.set_header(Header::new("Access-Control-Expose-Headers", EXPOSED));
    }
}

/// What a browser asks before a page may send more than a form could.
fn preflight(request: &Request<'_>, settings: &Settings, response: &mut Response<'_>) {
    let methods = allowed(request);
    if methods.is_empty() {
        return;
    }
    response.set_status(Status::NoContent);
    response.set_sized_body(0, Cursor::new(""));
    response.remove_header("Content-Type");
    response.remove_header("Allow");
    let methods: Vec<&str> = methods.into_iter().collect();
    response.set_header(Header::new("Access-Control-Allow-Methods", methods.join(", ")));
    response.set_header(Header::new("Access-Control-Allow-Headers", headers(settings)));
    response.set_header(Header::new("Access-Control-Max-Age", settings.cors.max_age.as_secs().to_string()));
}

/// The headers that requests may have: those that some route reads.
fn headers(settings: &Settings) -> String {
    let mut headers =
        vec!["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "X-Request-Id"];
    if !headers.iter().any(|header| header.eq_ignore_ascii_case(&settings.header.name)) {
        headers.push(&settings.header.name);
    }
    if settings.csrf.enabled && settings.locations.contains(&Location::Cookie) {
        headers.push(&settings.csrf.header_name);
    }
    headers.join(", ")
}
