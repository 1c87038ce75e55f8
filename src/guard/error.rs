//! How an error of the registry is answered, by routes of an application and of the server alike; the console has pages
//! for the same reasons.

use std::borrow::Cow;

use rocket::Request;
use rocket::http::Status;
use rocket::response::{self, Responder, Response};
use rocket::serde::json::{Json, json};

use crate::error::{Error, Kind};
use crate::token::Denial;

/// What an error comes to over HTTP.
pub(crate) enum Refusal {
    /// The answer of the guards.
    Denied(Denial),
    /// The status, the code of the member `error`, and the message.
    Other(Status, &'static str, Cow<'static, str>),
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        let other = |status, code| Self::Other(status, code, error.to_string().into());
        match error.kind() {
            Kind::Invalid(_) => other(Status::UnprocessableEntity, "invalid_request"),
            Kind::NotFound => other(Status::NotFound, "not_found"),
            Kind::Conflict => other(Status::Conflict, "conflict"),
            Kind::Final => other(Status::Conflict, "revocation_final"),
            Kind::Full => other(Status::Conflict, "session_limit"),
            Kind::Reserved => other(Status::Forbidden, "subject_reserved"),
            Kind::Superseded => Self::Denied(Denial::Revoked),
            Kind::Unavailable | Kind::Unconfirmed => {
                tracing::warn!(error = %error.in_full(), "a request can't be answered");
                Self::Denied(Denial::Unavailable)
            }
            Kind::Config | Kind::Schema | Kind::Internal => {
                tracing::error!(error = %error.in_full(), "a request failed");
                Self::Other(Status::InternalServerError, "internal_error", "The server failed to answer".into())
            }
        }
    }
}

/// The JSON `{"error", "msg"}`, so that a route may return `Result<…, counterfoil::Error>`:
///
/// | an error that | is answered with |
/// | --- | --- |
/// | [`is_invalid`](Error::is_invalid) | 422 `invalid_request` |
/// | [`is_not_found`](Error::is_not_found) | 404 `not_found` |
/// | [`is_conflict`](Error::is_conflict) | 409 `conflict` |
/// | [`is_final`](Error::is_final) | 409 `revocation_final` |
/// | [`is_session_limit`](Error::is_session_limit) | 409 `session_limit` |
/// | [`is_superseded`](Error::is_superseded) | 401 `token_revoked`, as [`Denial::Revoked`] |
/// | [`is_unavailable`](Error::is_unavailable) | 503 `registry_unavailable` with `Retry-After`, as [`Denial::Unavailable`] |
/// | is anything else | 500 `internal_error` |
///
/// The message is the error's own, but for the last three: a denial has its own, and what else fails says no more than
/// that it did. The message and cause of the last two go to the log alone.
///
/// ```
/// use counterfoil::{AccessToken, Actor, Error, Jti, Registry};
/// use rocket::State;
///
/// #[rocket::put("/tokens/<jti>/revoke")]
/// async fn revoke(jti: Jti, token: AccessToken<'_>, registry: &State<Registry>) -> Result<&'static str, Error> {
///     registry.revoke(jti, Actor::subject(token.subject())).await?;
///     Ok("revoked")
/// }
/// ```
impl<'r> Responder<'r, 'static> for Error {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        match Refusal::from(&self) {
            Refusal::Denied(denial) => denial.respond_to(request),
            Refusal::Other(status, code, msg) => {
                let body = Json(json!({ "error": code, "msg": msg }));
                let mut answer = Response::build_from(body.respond_to(request)?);
                answer.status(status).raw_header("Cache-Control", "no-store");
                answer.ok()
            }
        }
    }
}

/// The status that an error is [answered](Responder) with, for a route whose own refusals are a status: `?` is enough
/// there.
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match Refusal::from(&error) {
            Refusal::Denied(denial) => Self::new(denial.status()),
            Refusal::Other(status, ..) => status,
        }
    }
}

/// The same for a denial, as of [`require_scopes`](crate::Checked::require_scopes).
impl From<Denial> for Status {
    fn from(denial: Denial) -> Self {
        Self::new(denial.status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_that_of_the_answer() {
        assert_eq!(Status::from(Error::unavailable("nobody answers")), Status::ServiceUnavailable);
        assert_eq!(Status::from(Error::new(Kind::Superseded, "it was ended")), Status::Unauthorized);
        assert_eq!(Status::from(Error::invalid("scope", "it must be another")), Status::UnprocessableEntity);
        let missing = "notes:read".parse().unwrap();
        assert_eq!(Status::from(Denial::InsufficientScope { missing }), Status::Forbidden);
    }
}
