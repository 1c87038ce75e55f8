//! Tokens for the users of an application that authenticates them itself.

use std::time::Duration;

use rocket::http::Status;
use rocket::request::{FromRequest, Outcome};
use rocket::{Request, Route, State, post, routes};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::client::ClientBody;
use super::error::ApiError;
use super::openapi::ErrorBody;
use super::schema::Tokens;
use crate::clients::{Clients, IssueFailure, Repeatable, Wanted};
use crate::guard::Device;
use crate::registry::Issued;
use crate::token::{Scopes, Subject, Unique};

/// What a client needs for it.
const SCOPE: &str = "tokens:issue";

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![issue_tokens]
}

/// The documentation of these routes.
#[derive(utoipa::OpenApi)]
#[openapi(paths(issue_tokens))]
pub(super) struct Api;

/// One audience, or several.
#[derive(Deserialize, ToSchema)]
// In the form of serde's other errors, which all bodies are explained by.
#[serde(untagged, expecting = "invalid type, expected text or a list of texts")]
pub(super) enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize, ToSchema)]
struct TokenRequest {
    /// Whom the tokens are to speak for: nobody who logs in here, and no client.
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    subject: Subject,
    /// Space-separated; none where not given.
    #[schema(value_type = Option<String>)]
    scope: Option<Scopes>,
    /// The issuer where not given.
    audience: Option<Audience>,
    /// Whether the user proved just now who it is.
    #[serde(default)]
    fresh: bool,
    /// Whether a refresh token is to come with it.
    #[serde(default = "yes")]
    #[schema(default = true)]
    refresh: bool,
    /// Seconds, at most the setting `issue.max_access_expires`.
    #[schema(minimum = 1)]
    access_expires_in: Option<u64>,
    /// Seconds, at most the setting `issue.max_refresh_expires`.
    #[schema(minimum = 1)]
    refresh_expires_in: Option<u64>,
    /// A name for the device, at most 100 characters.
    label: Option<String>,
    /// Additional claims, at the top level of the access token.
    #[serde(default, deserialize_with = "each_once")]
    #[schema(value_type = Object)]
    claims: Map<String, Value>,
}

/// An object in which no member stands twice: which was meant is nobody's to guess.
fn each_once<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    match Unique::deserialize(deserializer)? {
        Unique(Value::Object(members)) => Ok(members),
        _ => Err(D::Error::custom("invalid type, expected an object")),
    }
}

fn yes() -> bool {
    true
}

/// The header `Idempotency-Key`, where there is one.
struct Key<'r>(Option<&'r str>);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Key<'r> {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let mut keys = request.headers().get("Idempotency-Key");
        match (keys.next(), keys.next()) {
            (key, None) => Outcome::Success(Self(key)),
            _ => {
                let error = ApiError::invalid(Status::BadRequest, "Idempotency-Key stands twice");
                Outcome::Error((error.keep(request), ()))
            }
        }
    }
}

/// Issues tokens to a user of the client's own. The same `Idempotency-Key` and body give the same tokens again for a
/// day.
#[utoipa::path(tag = "Clients", request_body = TokenRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable characters without a space")),
    responses(
    (status = 201, description = "Issued", body = Tokens),
    (status = 400, description = "`invalid_request`", body = ErrorBody),
    (status = 401, description = "`invalid_client`, or why the client's token was refused", body = ErrorBody),
    (status = 403, description = "`insufficient_scope`: the client lacks `tokens:issue`, or may not give this scope or audience; `subject_reserved`: the subject is a user of the server or a client", body = ErrorBody),
    (status = 409, description = "`result_revoked`: what was issued for this `Idempotency-Key` has been revoked; `session_limit`", body = ErrorBody),
    (status = 413, description = "`invalid_request`: the body is too large", body = ErrorBody),
    (status = 415, description = "`invalid_request`: the body is not JSON", body = ErrorBody),
    (status = 422, description = "`invalid_request`: a field is not valid, or the `Idempotency-Key` was used with another body", body = ErrorBody),
    (status = 429, description = "`rate_limited`: too many wrong secrets", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("client" = []), ("bearer" = [])))]
#[post("/tokens", data = "<body>")]
async fn issue_tokens(
    key: Key<'_>,
    device: Device<'_>,
    clients: &State<Clients>,
    body: ClientBody<TokenRequest>,
) -> Result<(Status, Issued), ApiError> {
    let ClientBody { caller, value: asked, bytes } = body;
    caller.require(SCOPE)?;
    let wanted = Wanted {
        subject: asked.subject,
        scope: asked.scope.unwrap_or_default(),
        audience: match asked.audience {
            None => Vec::new(),
            Some(Audience::One(one)) => vec![one],
            Some(Audience::Many(many)) => many,
        },
        fresh: asked.fresh,
        refresh: asked.refresh,
        access_expires: asked.access_expires_in.map(Duration::from_secs),
        refresh_expires: asked.refresh_expires_in.map(Duration::from_secs),
        label: asked.label,
        claims: asked.claims,
    };
    let repeatable = key.0.map(|key| Repeatable { key, body: &bytes });
    let device = (device.ip, device.user_agent);
    let issued = clients.issue_for(caller.client(), wanted, device, repeatable).await?;
    Ok((Status::Created, issued))
}

impl From<IssueFailure> for ApiError {
    fn from(failure: IssueFailure) -> Self {
        match failure {
            IssueFailure::Scope { missing } => Self::insufficient_scope("The client may not give", missing),
            IssueFailure::Audience(audience) => {
                let msg = format!("The client may not issue tokens for the audience {audience:?}");
                Self::new(Status::Forbidden, "insufficient_scope", msg).with_header(
                    "WWW-Authenticate",
                    r#"Bearer realm="counterfoil", error="insufficient_scope""#.to_owned(),
                )
            }
            IssueFailure::NoClient => Self::invalid_client(),
            IssueFailure::OtherBody => {
                Self::invalid(Status::UnprocessableEntity, "The Idempotency-Key was used with another body")
            }
            IssueFailure::Revoked => {
                let msg = "What was issued for this Idempotency-Key has been revoked";
                Self::new(Status::Conflict, "result_revoked", msg)
            }
            IssueFailure::Failed(error) => error.into(),
        }
    }
}
