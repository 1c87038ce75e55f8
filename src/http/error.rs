//! Errors as answers: every one has the JSON form `{"error", "msg"}`.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::Duration;

use rocket::Request;
use rocket::http::{Header, Status};
use rocket::response::{self, Responder, Response};
use rocket::serde::json::{Json, json};

use super::place::is_below;
use crate::accounts::LoginFailure;
use crate::clients::ClientFailure;
use crate::error::Error;
use crate::guard;
use crate::token::{Denial, Scopes};

/// Where errors have the form of RFC 6749 §5.2.
const OAUTH: [&str; 1] = ["oauth"];

/// Why a route, or what stands before it, refuses a request.
#[derive(Debug, Clone)]
pub(super) enum ApiError {
    /// The token is not good enough; the answer is that of the guards.
    Denied(Denial),
    /// Anything else.
    Refused(Refusal),
}

/// An error that isn't about a token.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    status: Status,
    code: &'static str,
    msg: Cow<'static, str>,
    /// What is missing, with `insufficient_scope`.
    scope: Option<Scopes>,
    header: Option<Header<'static>>,
}

impl ApiError {
    pub(super) fn new(status: Status, code: &'static str, msg: impl Into<Cow<'static, str>>) -> Self {
        Self::Refused(Refusal { status, code, msg: msg.into(), scope: None, header: None })
    }

    /// A scope that is missing. The sentence begins with whom it fails: "The client lacks".
    pub(super) fn insufficient_scope(who_lacks: &str, missing: Scopes) -> Self {
        let msg = format!("{who_lacks} the scope {missing}").into();
        let denial = Denial::InsufficientScope { missing: missing.clone() };
        let header = denial.challenge().map(|challenge| Header::new("WWW-Authenticate", challenge));
        Self::Refused(Refusal { status: Status::Forbidden, code: denial.code(), msg, scope: Some(missing), header })
    }

    /// A request that can't be understood (400, 413, 415) or a field that fails validation (422).
    pub(super) fn invalid(status: Status, msg: impl Into<Cow<'static, str>>) -> Self {
        Self::new(status, "invalid_request", msg)
    }

    pub(super) fn bad_credentials() -> Self {
        Self::new(Status::Unauthorized, "bad_credentials", "Bad username or password")
    }

    /// Nobody is told whether the client is unknown, disabled, or has another secret (RFC 6749 §5.2).
    pub(super) fn invalid_client() -> Self {
        Self::new(Status::Unauthorized, "invalid_client", "The client is unknown, or its secret is wrong")
            .with_header("WWW-Authenticate", r#"Basic realm="counterfoil", charset="UTF-8""#.to_owned())
    }

    pub(super) fn token_not_found() -> Self {
        Self::new(Status::NotFound, "not_found", "Token not found")
    }

    /// Some other thing that is not here.
    pub(super) fn not_found(msg: &'static str) -> Self {
        Self::new(Status::NotFound, "not_found", msg)
    }

    pub(super) fn session_not_found() -> Self {
        Self::new(Status::NotFound, "not_found", "Session not found")
    }

    pub(super) fn method_not_allowed(allow: String) -> Self {
        Self::new(Status::MethodNotAllowed, "method_not_allowed", "The path is there, but not for this method")
            .with_header("Allow", allow)
    }

    fn rate_limited(retry_after: Duration) -> Self {
        Self::new(Status::TooManyRequests, "rate_limited", "Too many attempts have failed: try again later")
            .with_header("Retry-After", whole_seconds(retry_after).to_string())
    }

    /// What comes after a place in the feed is not kept any more.
    pub(super) fn gone() -> Self {
        let msg = "What comes after this number is not kept: ask about every token until you have begun anew";
        Self::new(Status::Gone, "gone", msg)
    }

    /// As many answers that go on for long as may be.
    pub(super) fn busy(retry_after_seconds: u32) -> Self {
        Self::new(
            Status::ServiceUnavailable,
            "registry_unavailable",
            "There are as many streams as may be: try again later",
        )
        .with_header("Retry-After", retry_after_seconds.to_string())
    }

    pub(super) fn with_header(self, name: &'static str, value: String) -> Self {
        match self {
            Self::Refused(refusal) => Self::Refused(Refusal { header: Some(Header::new(name, value)), ..refusal }),
            denied @ Self::Denied(_) => denied,
        }
    }

    pub(super) fn status(&self) -> Status {
        match self {
            Self::Denied(denial) => Status::new(denial.status()),
            Self::Refused(refusal) => refusal.status,
        }
    }

    /// Keeps the error of a guard for the catcher, which sees its status and the request alone.
    pub(super) fn keep(self, request: &Request<'_>) -> Status {
        let status = self.status();
        // The first reason is the one that counts; a second could only come from a route tried after it.
        let _ = kept(request).set(self);
        status
    }

    /// The error that a data guard kept, where one did.
    pub(super) fn take(request: &Request<'_>) -> Option<Self> {
        kept(request).get().cloned()
    }
}

/// How long to wait, in whole seconds: rounded up, so that nobody comes too early.
pub(super) fn whole_seconds(retry_after: Duration) -> u64 {
    u64::try_from(retry_after.as_millis().div_ceil(1_000).max(1)).unwrap_or(u64::MAX)
}

fn kept<'r>(request: &'r Request<'_>) -> &'r OnceLock<ApiError> {
    request.local_cache(OnceLock::new)
}

impl From<Denial> for ApiError {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match guard::Refusal::from(&error) {
            guard::Refusal::Denied(denial) => Self::Denied(denial),
            guard::Refusal::Other(status, code, msg) => Self::new(status, code, msg),
        }
    }
}

impl From<ClientFailure> for ApiError {
    fn from(failure: ClientFailure) -> Self {
        match failure {
            ClientFailure::Invalid => Self::invalid_client(),
            ClientFailure::Limited { retry_after } => Self::rate_limited(retry_after),
            ClientFailure::Failed(error) => error.into(),
        }
    }
}

impl From<LoginFailure> for ApiError {
    fn from(failure: LoginFailure) -> Self {
        match failure {
            LoginFailure::BadCredentials => Self::bad_credentials(),
            LoginFailure::Limited { retry_after } => Self::rate_limited(retry_after),
            LoginFailure::Failed(error) => error.into(),
        }
    }
}

impl<'r> Responder<'r, 'static> for ApiError {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let is_oauth = is_below(request, &OAUTH);
        match self {
            Self::Denied(denial) if is_oauth => as_oauth(&denial).respond_to(request),
            Self::Denied(denial) => denial.respond_to(request),
            Self::Refused(refusal) => {
                let mut body = match is_oauth {
                    true => json!({ "error": refusal.code, "error_description": refusal.msg }),
                    false => json!({ "error": refusal.code, "msg": refusal.msg }),
                };
                if let Some(missing) = refusal.scope {
                    body["scope"] = missing.to_string().into();
                }
                let mut response = Response::build_from(Json(body).respond_to(request)?);
                response.status(refusal.status);
                if let Some(header) = refusal.header {
                    response.header(header);
                }
                response.ok()
            }
        }
    }
}

/// What is said of a token where errors are those of RFC 6749 §5.2 and RFC 6750 §3.1.
fn as_oauth(denial: &Denial) -> ApiError {
    let status = Status::new(denial.status());
    let code = match denial {
        Denial::InsufficientScope { missing } => {
            return ApiError::insufficient_scope("The token lacks", missing.clone());
        }
        Denial::Unavailable => denial.code(),
        _ if status == Status::Unauthorized => "invalid_token",
        _ => "invalid_request",
    };
    let error = ApiError::new(status, code, denial.message());
    match denial.challenge() {
        Some(challenge) => error.with_header("WWW-Authenticate", challenge),
        None if *denial == Denial::Unavailable => {
            error.with_header("Retry-After", Denial::RETRY_AFTER_SECONDS.to_string())
        }
        None => error,
    }
}
