//! How a denial is answered: the one place for the JSON, the challenge and the other headers.

use rocket::http::{Header, Status};
use rocket::request;
use rocket::response::{self, Responder, Response};
use rocket::serde::json::{Json, json};
use rocket::{Catcher, Ignite, Request, Rocket, Sentinel, async_trait, catcher};

use super::verdict;
use crate::token::Denial;

/// The statuses that denials have, in order.
pub(crate) const STATUSES: [u16; 7] = [400, 401, 403, 408, 413, 415, 503];

/// The JSON `{"error", "msg"}` with the status of the denial, its `WWW-Authenticate` challenge (RFC 6750 §3) where it
/// has one, `Retry-After` where trying again may help, and `Cache-Control: no-store`. A missing scope is also named in
/// the member `scope`.
///
/// ```
/// use counterfoil::{AccessToken, Denial};
///
/// #[rocket::get("/greeting")]
/// fn greeting(token: Result<AccessToken<'_>, Denial>) -> Result<String, Denial> {
///     match token {
///         Ok(token) => Ok(format!("hello, {}", token.subject())),
///         Err(Denial::Missing | Denial::Expired) => Ok("hello, whoever you are".to_owned()),
///         Err(denial) => Err(denial),
///     }
/// }
/// ```
impl<'r> Responder<'r, 'static> for Denial {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let mut body = json!({ "error": self.code(), "msg": self.message() });
        if let Self::InsufficientScope { missing } = &self {
            body["scope"] = missing.to_string().into();
        }
        let mut answer = Response::build_from(Json(body).respond_to(request)?);
        answer.status(Status::new(self.status())).raw_header("Cache-Control", "no-store");
        if let Some(challenge) = self.challenge() {
            answer.header(Header::new("WWW-Authenticate", challenge));
        }
        if self == Self::Unavailable {
            answer.header(Header::new("Retry-After", Self::RETRY_AFTER_SECONDS.to_string()));
        }
        answer.ok()
    }
}

impl Denial {
    /// Refuses a request: what a guard of the application's own answers with, so that it is answered like any other
    /// denial.
    ///
    /// ```
    /// use counterfoil::{AccessToken, Denial};
    /// use rocket::Request;
    /// use rocket::outcome::try_outcome;
    /// use rocket::request::{FromRequest, Outcome};
    ///
    /// /// A live access token of the program that writes the backups.
    /// struct Backup<'r>(AccessToken<'r>);
    ///
    /// #[rocket::async_trait]
    /// impl<'r> FromRequest<'r> for Backup<'r> {
    ///     type Error = Denial;
    ///
    ///     async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Denial> {
    ///         let token = try_outcome!(request.guard::<AccessToken<'_>>().await);
    ///         if token.subject().as_str() != "backup" {
    ///             return Denial::NoUser.refuse(request);
    ///         }
    ///         Outcome::Success(Self(token))
    ///     }
    /// }
    /// ```
    pub fn refuse<T>(self, request: &Request<'_>) -> request::Outcome<T, Self> {
        verdict::outcome(request, Err(self))
    }
}

/// Never stops a launch: `Result<Guard, Denial>` then asks the guard alone, also behind a type alias.
impl Sentinel for Denial {
    fn abort(_: &Rocket<Ignite>) -> bool {
        false
    }
}

/// The reason why a guard refused this request with this status, for an application's own catchers.
///
/// ```
/// use counterfoil::Denial;
/// use rocket::{Request, http::Status};
///
/// #[rocket::catch(401)]
/// fn unauthorized(status: Status, request: &Request<'_>) -> String {
///     match counterfoil::denial(status, request) {
///         Some(Denial::Expired) => "Your session is over: log in again.".to_owned(),
///         _ => "Log in first.".to_owned(),
///     }
/// }
/// ```
pub fn denial(status: Status, request: &Request<'_>) -> Option<Denial> {
    verdict::last_denial(request, status)
}

/// Answers denials; anything else of the same status goes to the catcher that would have had it.
#[derive(Clone)]
pub(crate) struct DenialCatcher {
    fallback: Catcher,
}

impl DenialCatcher {
    /// Catchers at `/` for the statuses of denials, but for those that the application catches itself.
    pub(crate) fn missing_from(catchers: &[Catcher]) -> Vec<Catcher> {
        let at_root = |catcher: &&Catcher| catcher.base == "/";
        let fallback = catchers.iter().filter(at_root).find(|catcher| catcher.code.is_none());
        let handler = Self { fallback: fallback.cloned().unwrap_or_default() };
        STATUSES
            .into_iter()
            .filter(|code| !catchers.iter().filter(at_root).any(|catcher| catcher.code == Some(*code)))
            .map(|code| Catcher::new(code, handler.clone()))
            .collect()
    }
}

#[async_trait]
impl catcher::Handler for DenialCatcher {
    async fn handle<'r>(&self, status: Status, request: &'r Request<'_>) -> catcher::Result<'r> {
        match denial(status, request) {
            Some(denial) => denial.respond_to(request),
            None => self.fallback.handler.handle(status, request).await,
        }
    }
}
