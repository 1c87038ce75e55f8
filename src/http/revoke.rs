//! Taking a token back, by the client that it was issued to (RFC 7009).

use rocket::http::Status;
use rocket::{Route, State, post, routes};
use utoipa::ToSchema;

use super::client::ClientForm;
use super::error::ApiError;
use super::openapi::OAuthErrorBody;
use crate::guard::Device;
use crate::registry::Registry;
use crate::token::{Act, Actor, TokenType};

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![revoke_for_client]
}

/// The documentation of these routes.
#[derive(utoipa::OpenApi)]
#[openapi(paths(revoke_for_client))]
pub(super) struct Api;

#[derive(ToSchema)]
#[expect(dead_code, reason = "the document alone reads it")]
struct RevokeForm {
    token: String,
    /// Not needed: a token says itself what it is.
    token_type_hint: Option<String>,
    /// Where neither by HTTP Basic nor by a token of the client's own.
    client_id: Option<String>,
    client_secret: Option<String>,
}

/// Revokes a token for good; with a refresh token, its whole session. A token that is not good any more, or never was,
/// is no error.
#[utoipa::path(tag = "OAuth", request_body(content = RevokeForm, content_type = "application/x-www-form-urlencoded"),
    responses(
    (status = 200, description = "No server accepts it any more"),
    (status = 400, description = "`invalid_request`; `unauthorized_client`: it was issued to another client; `unsupported_token_type`: access tokens are not on the registry", body = OAuthErrorBody),
    (status = 401, description = "`invalid_client`, or `invalid_token` for that of the client", body = OAuthErrorBody),
    (status = 408, description = "`invalid_request`: the form did not arrive in time", body = OAuthErrorBody),
    (status = 413, description = "`invalid_request`: the form is too large", body = OAuthErrorBody),
    (status = 429, description = "`rate_limited`: too many wrong secrets", body = OAuthErrorBody),
    (status = 503, description = "`registry_unavailable`", body = OAuthErrorBody),
), security(("client" = []), ("bearer" = [])))]
#[post("/oauth/revoke", data = "<form>")]
async fn revoke_for_client(form: ClientForm, device: Device<'_>, registry: &State<Registry>) -> Result<(), ApiError> {
    let ClientForm { caller, fields } = form;
    let token = fields.require("token")?;
    // Also one that is revoked already: by this it becomes so for good. What was never issued opens nothing, so that
    // what the client wants is so (RFC 7009 §2.2).
    let Some(claims) = registry.issued(token).await? else { return Ok(()) };
    if claims.client_id != caller.client().id() {
        let msg = "The token was issued to another client";
        return Err(ApiError::new(Status::BadRequest, "unauthorized_client", msg));
    }
    let act = Act::by(Actor::client(caller.client().name())).ip(device.ip);
    let revoked = match claims.token_type {
        TokenType::Access => registry.revoke_for_good(claims.jti, act).await,
        TokenType::Refresh => registry.end_session(claims.sid, act).await.map(drop),
    };
    match revoked {
        Err(error) if error.is_not_found() && claims.token_type == TokenType::Access => Err(unsupported()),
        // Its session has been purged meanwhile.
        Err(error) if error.is_not_found() => Ok(()),
        revoked => Ok(revoked?),
    }
}

/// RFC 7009 §2.2.1.
fn unsupported() -> ApiError {
    let msg = "Access tokens are not on this registry: they expire by themselves";
    ApiError::new(Status::BadRequest, "unsupported_token_type", msg)
}
