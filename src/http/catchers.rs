//! What Rocket answers by itself, in the form of every other error. (The registry's fairing catches what guards
//! refuse.)

use std::collections::BTreeSet;

use rocket::http::{Method, Status};
use rocket::{Catcher, Request, catch, catchers};

use super::edge::{Caught, caught_status};
use super::error::ApiError;
use crate::token::Denial;

/// One catcher for everything.
pub(super) fn catchers() -> Vec<Catcher> {
    catchers![any]
}

#[catch(default)]
fn any(status: Status, request: &Request<'_>) -> Caught<ApiError> {
    Caught(ApiError::take(request).unwrap_or_else(|| of_status(caught_status(status, request), request)))
}

fn of_status(status: Status, request: &Request<'_>) -> ApiError {
    match status.code {
        404 => match allowed_instead(request) {
            Some(allow) => ApiError::method_not_allowed(allow),
            None => ApiError::new(status, "not_found", "There is nothing at this path"),
        },
        400 => ApiError::invalid(status, "The request can't be read"),
        413 => ApiError::invalid(status, "The request is too large"),
        415 => ApiError::invalid(status, "The content type must be application/json"),
        422 => ApiError::invalid(status, "A field of the request is not valid"),
        401..=499 => ApiError::invalid(status, "The request can't be answered"),
        501 => ApiError::new(status, "method_not_implemented", "The method is not known to this server"),
        503 => Denial::Unavailable.into(),
        _ => ApiError::new(Status::InternalServerError, "internal_error", "The server failed to answer"),
    }
}

/// The methods for the header `Allow` where only the method of a request is wrong, to which Rocket itself answers 404.
pub(super) fn allowed_instead(request: &Request<'_>) -> Option<String> {
    let allowed = allowed(request);
    let is_wrong = !allowed.is_empty() && !allowed.contains(request.method().as_str());
    is_wrong.then(|| allowed.into_iter().collect::<Vec<_>>().join(", "))
}

/// The methods that have a route at the path of the request.
pub(super) fn allowed(request: &Request<'_>) -> BTreeSet<&'static str> {
    let segments: Vec<&str> = request.uri().path().segments().collect();
    let mut allowed = BTreeSet::new();
    for route in request.rocket().routes() {
        if is_match(route.uri.path(), &segments) {
            allowed.insert(route.method.as_str());
            if route.method == Method::Get {
                allowed.insert(Method::Head.as_str());
            }
        }
    }
    allowed
}

/// Whether a route's pattern, such as `/auth/tokens/<jti>` or `/docs/<file..>`, matches these segments of a path.
fn is_match(pattern: &str, segments: &[&str]) -> bool {
    let mut segments = segments.iter();
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        if part.ends_with("..>") {
            return true;
        }
        match segments.next() {
            Some(_) if part.starts_with('<') => {}
            Some(segment) if *segment == part => {}
            _ => return false,
        }
    }
    segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::is_match;

    #[test]
    fn patterns_match_as_routes_do() {
        assert!(is_match("/auth/tokens", &["auth", "tokens"]));
        assert!(is_match("/auth/tokens/<jti>", &["auth", "tokens", "x"]));
        assert!(is_match("/docs/<file..>", &["docs", "a", "b"]));
        assert!(is_match("/docs/<file..>", &["docs"]));
        assert!(!is_match("/auth/tokens", &["auth"]));
        assert!(!is_match("/auth/tokens", &["auth", "tokens", "x"]));
        assert!(!is_match("/auth/tokens/<jti>", &["auth", "tokens"]));
    }
}
