//! Asking about a token (RFC 7662).

use rocket::http::{ContentType, Status};
use rocket::request::{FromRequest, Outcome};
use rocket::serde::json::Json;
use rocket::{Request, Responder, Route, State, post, routes};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::client::{ClientCaller, ClientForm};
use super::error::ApiError;
use super::issue::Audience;
use super::openapi::OAuthErrorBody;
use crate::registry::{Checked, Expect, Registry};
use crate::token::{AudienceRule, Claims, Denial, TokenType};

/// What a client needs for it.
pub(super) const SCOPE: &str = "tokens:introspect";

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![introspect]
}

/// The documentation of these routes.
#[derive(utoipa::OpenApi)]
#[openapi(paths(introspect))]
pub(super) struct Api;

#[derive(ToSchema)]
#[expect(dead_code, reason = "the document alone reads it")]
struct IntrospectForm {
    token: String,
    /// Not needed: a token says itself what it is.
    token_type_hint: Option<String>,
    /// Where neither by HTTP Basic nor by a token of the client's own.
    client_id: Option<String>,
    client_secret: Option<String>,
}

/// What is said of a token that is live, with its additional claims; of any other `{"active": false}`.
#[derive(ToSchema)]
#[schema(as = Introspection)]
#[expect(dead_code, reason = "the document alone reads it")]
struct IntrospectionBody {
    active: bool,
    #[schema(required = false)]
    scope: Option<String>,
    #[schema(required = false)]
    client_id: String,
    /// Not there for a token that a client got for itself.
    #[schema(required = false)]
    username: String,
    /// `Bearer`; of a refresh token `N_A` (RFC 8693 §2.2.1), since it opens nothing.
    #[schema(required = false)]
    token_type: String,
    #[schema(required = false)]
    exp: i64,
    #[schema(required = false)]
    iat: i64,
    #[schema(required = false)]
    nbf: i64,
    #[schema(required = false)]
    sub: String,
    #[schema(required = false)]
    aud: Audience,
    #[schema(required = false)]
    iss: String,
    #[schema(required = false)]
    jti: uuid::Uuid,
    /// `access` or `refresh`.
    #[schema(required = false)]
    r#type: String,
    /// Of an access token.
    #[schema(required = false)]
    fresh: bool,
    #[schema(required = false)]
    sid: uuid::Uuid,
}

/// What is said of a token.
pub(super) struct Introspection(Option<Checked>);

impl Serialize for Introspection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("active", &self.0.is_some())?;
        let Some(checked) = &self.0 else { return map.end() };
        let claims = checked.claims();
        if !claims.scope.is_empty() {
            map.serialize_entry("scope", &claims.scope)?;
        }
        map.serialize_entry("client_id", &claims.client_id)?;
        if claims.sub.as_str() != claims.client_id {
            map.serialize_entry("username", &claims.sub)?;
        }
        map.serialize_entry("token_type", token_type(claims))?;
        map.serialize_entry("exp", &claims.exp)?;
        map.serialize_entry("iat", &claims.iat)?;
        map.serialize_entry("nbf", &claims.nbf)?;
        map.serialize_entry("sub", &claims.sub)?;
        match claims.aud.as_slice() {
            [one] => map.serialize_entry("aud", one)?,
            many => map.serialize_entry("aud", many)?,
        }
        map.serialize_entry("iss", &claims.iss)?;
        map.serialize_entry("jti", &claims.jti)?;
        map.serialize_entry("type", claims.token_type.as_str())?;
        if claims.token_type == TokenType::Access {
            map.serialize_entry("fresh", &claims.fresh)?;
        }
        map.serialize_entry("sid", &claims.sid)?;
        for (name, value) in &claims.extra {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// RFC 7662 §2.2; whoever takes any active token for an access token is told that a refresh token is none.
fn token_type(claims: &Claims) -> &'static str {
    match claims.token_type {
        TokenType::Access => "Bearer",
        TokenType::Refresh => "N_A",
    }
}

/// Says whether a token is live, and what it may do. Answered from memory wherever a check would be.
#[utoipa::path(tag = "OAuth", request_body(content = IntrospectForm, content_type = "application/x-www-form-urlencoded"),
    responses(
    (status = 200, description = "What there is to say; signed (RFC 9701) where `application/token-introspection+jwt` is accepted",
        content((IntrospectionBody = "application/json"), (String = "application/token-introspection+jwt"))),
    (status = 400, description = "`invalid_request`", body = OAuthErrorBody),
    (status = 401, description = "`invalid_client`, or `invalid_token` for that of the client", body = OAuthErrorBody),
    (status = 403, description = "`insufficient_scope`: the client lacks `tokens:introspect`", body = OAuthErrorBody),
    (status = 408, description = "`invalid_request`: the form did not arrive in time", body = OAuthErrorBody),
    (status = 413, description = "`invalid_request`: the form is too large", body = OAuthErrorBody),
    (status = 429, description = "`rate_limited`: too many wrong secrets", body = OAuthErrorBody),
    (status = 503, description = "`registry_unavailable`", body = OAuthErrorBody),
), security(("client" = []), ("bearer" = [])))]
#[post("/oauth/introspect", data = "<form>")]
async fn introspect(
    form: ClientForm,
    wanted: Option<Signed>,
    registry: &State<Registry>,
) -> Result<Introspected, ApiError> {
    let ClientForm { caller, fields } = form;
    caller.require(SCOPE)?;
    let token = fields.require("token")?;
    let checked = match registry.check(token, Expect::either().audience(AudienceRule::Any)).await {
        Ok(checked) => Some(checked).filter(|checked| is_shown(&caller, checked.claims())),
        Err(Denial::Unavailable) => return Err(Denial::Unavailable.into()),
        Err(_) => None,
    };
    let introspection = Introspection(checked);
    if wanted.is_some() && registry.public_algorithm()?.is_some() {
        let jwt = registry.sign_introspection(caller.client().id(), &introspection).await?;
        return Ok(Introspected::Signed(jwt, ContentType::new("application", "token-introspection+jwt")));
    }
    Ok(Introspected::Plain(Json(introspection)))
}

/// What is answered: as JSON, or as a JWT that says who said it to whom (RFC 9701 §5).
#[derive(Responder)]
enum Introspected {
    Plain(Json<Introspection>),
    Signed(String, ContentType),
}

/// The type of a signed answer.
const JWT: &str = "application/token-introspection+jwt";

/// That the caller wants a signed answer: it names its type, and likes it no less than JSON (RFC 9110 §12.5.1). With a
/// secret that it does not have it could not verify one, and gets JSON.
struct Signed;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Signed {
    type Error = std::convert::Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Self::Error> {
        let weight = |names: &[&str]| {
            let accepts = || request.headers().get("Accept").flat_map(|types| types.split(','));
            names.iter().find_map(|name| accepts().find_map(|accept| weight_of(accept, name))).unwrap_or(0.0)
        };
        let (signed, plain) = (weight(&[JWT]), weight(&["application/json", "application/*", "*/*"]));
        match signed > 0.0 && signed >= plain {
            true => Outcome::Success(Self),
            false => Outcome::Forward(Status::Ok),
        }
    }
}

/// How much is liked what this part of an `Accept` header names, where it is of this name.
fn weight_of(accept: &str, name: &str) -> Option<f32> {
    let mut parts = accept.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(name) {
        return None;
    }
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    Some(weight.and_then(|weight| weight.parse().ok()).unwrap_or(1.0))
}

/// A client that is limited to audiences learns of tokens for these, and of its own.
fn is_shown(caller: &ClientCaller, claims: &Claims) -> bool {
    let serves = caller.serves();
    serves.is_none_or(|serves| claims.aud.iter().any(|aud| serves.contains(aud)))
        || claims.client_id == caller.client().id()
}
