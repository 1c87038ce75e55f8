//! Headers that every answer has, whichever route or catcher gave it.

use rocket::http::{Header, Status};
use rocket::{Request, Response};

use super::console::is_file;
use super::place::is_below;
use super::{console, cors};
use crate::config::{Check, Location, Settings};
use crate::registry::Registry;

/// Says on what lists or revokes that access tokens are out of reach.
const CHECK: &str = "Counterfoil-Check";

/// The paths of what lists or revokes.
const REACH: [&[&str]; 6] = [
    &["logout"],
    &["auth", "tokens"],
    &["auth", "all-tokens"],
    &["auth", "sessions"],
    &["auth", "password"],
    &["admin"],
];

/// Keeps answers about credentials out of caches, confines the console's, lets pages of other origins read the others,
/// and says where `check = "refresh"` limits what was asked.
pub(super) fn complete(request: &Request<'_>, response: &mut Response<'_>) {
    let Some(registry) = request.rocket().state::<Registry>() else { return };
    let settings = registry.settings();
    keep_out_of_caches(request, settings, response);
    // What was not read of the body is still to come, so the connection ends here. A client has to know, or it sends
    // its next request into it (RFC 9112 §9.6).
    if matches!(response.status(), Status::PayloadTooLarge | Status::RequestTimeout) {
        response.set_header(Header::new("Connection", "close"));
    }
    // The console is for nobody's scripts but its own.
    if console::is_within(request) {
        console::confine(response);
    } else {
        cors::answer(request, settings, response);
    }
    if settings.check == Check::Refresh && REACH.iter().any(|reach| is_below(request, reach)) {
        response.set_header(Header::new(CHECK, "refresh"));
    }
}

/// The same for the operators' routes on a port of their own: what is said to pages of other origins is not said there.
pub(super) fn complete_for_operators(request: &Request<'_>, response: &mut Response<'_>) {
    let Some(registry) = request.rocket().state::<Registry>() else { return };
    keep_out_of_caches(request, registry.settings(), response);
}

fn keep_out_of_caches(request: &Request<'_>, settings: &Settings, response: &mut Response<'_>) {
    // Whatever says nothing else of itself is about somebody's tokens, or an error.
    if !response.headers().contains("Cache-Control") || (carries_credential(request, settings) && !is_file(request)) {
        response.set_header(Header::new("Cache-Control", "no-store"));
    }
}

/// The headers of an answer to a request that Rocket could not read. Pages of other origins can't send one.
pub(super) fn complete_unread(request: &Request<'_>, response: &mut Response<'_>) {
    response.set_header(Header::new("Cache-Control", "no-store"));
    response.set_header(Header::new("X-Content-Type-Options", "nosniff"));
    if console::is_within(request) {
        console::confine(response);
    }
}

fn carries_credential(request: &Request<'_>, settings: &Settings) -> bool {
    let headers = request.headers();
    let cookies = request.cookies();
    headers.contains("Authorization")
        || headers.contains(&settings.header.name)
        || cookies.get(&settings.cookie.access_name).is_some()
        || cookies.get(&settings.cookie.refresh_name).is_some()
        || console::cookie::is_sent(request, settings)
        || (settings.locations.contains(&Location::Query)
            && request.query_fields().any(|field| field.name == settings.query_name.as_str()))
}
