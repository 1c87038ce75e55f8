//! The token endpoint of OAuth (RFC 6749 §3.2): what a client gets for itself, and by a refresh token of its own.

use rocket::http::Status;
use rocket::{Route, State, post, routes};
use utoipa::ToSchema;

use super::client::{ClientForm, SecretForm};
use super::error::ApiError;
use super::openapi::OAuthErrorBody;
use super::schema::Tokens;
use crate::clients::{Client, Clients, IssueFailure};
use crate::guard::Device;
use crate::registry::{Expect, Issued, Refresh, Registry};
use crate::token::{Denial, Scopes};

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![token]
}

/// The documentation of these routes.
#[derive(utoipa::OpenApi)]
#[openapi(paths(token), components(schemas(OAuthErrorBody)))]
pub(super) struct Api;

#[derive(ToSchema)]
#[expect(dead_code, reason = "the document alone reads it")]
struct TokenForm {
    /// `client_credentials` or `refresh_token`.
    grant_type: String,
    /// Space-separated; all that there is to have where not given.
    scope: Option<String>,
    /// With `refresh_token`.
    refresh_token: Option<String>,
    /// Where not by HTTP Basic.
    client_id: Option<String>,
    client_secret: Option<String>,
}

/// Issues a token to a client: of its own, or by a refresh token that was issued to it.
#[utoipa::path(tag = "OAuth", request_body(content = TokenForm, content_type = "application/x-www-form-urlencoded"),
    responses(
    (status = 200, description = "Issued", body = Tokens),
    (status = 400, description = "`invalid_request`, `invalid_grant`, `invalid_scope`, `unsupported_grant_type`", body = OAuthErrorBody),
    (status = 401, description = "`invalid_client`", body = OAuthErrorBody),
    (status = 408, description = "`invalid_request`: the form did not arrive in time", body = OAuthErrorBody),
    (status = 413, description = "`invalid_request`: the form is too large", body = OAuthErrorBody),
    (status = 429, description = "`rate_limited`: too many wrong secrets", body = OAuthErrorBody),
    (status = 503, description = "`registry_unavailable`", body = OAuthErrorBody),
), security(("client" = [])))]
#[post("/oauth/token", data = "<form>")]
async fn token(
    form: SecretForm,
    device: Device<'_>,
    clients: &State<Clients>,
    registry: &State<Registry>,
) -> Result<Issued, ApiError> {
    // RFC 6749 §2.3: a token is no credential of a client's here.
    let SecretForm(ClientForm { caller, fields }) = form;
    let scope = match fields.get("scope") {
        Some(scope) => Some(scope.parse::<Scopes>().map_err(|_| invalid_scope("The scope can't be read"))?),
        None => None,
    };
    match fields.require("grant_type")? {
        "client_credentials" => {
            let device = (device.ip, device.user_agent);
            clients.issue_own(caller.client(), scope, device).await.map_err(|failure| match failure {
                IssueFailure::Scope { .. } => invalid_scope("The client may not have all of this scope"),
                failure => failure.into(),
            })
        }
        "refresh_token" => refresh(caller.client(), fields.require("refresh_token")?, scope, device, registry).await,
        _ => {
            let msg = "grant_type must be client_credentials or refresh_token";
            Err(ApiError::new(Status::BadRequest, "unsupported_grant_type", msg))
        }
    }
}

/// Another pair for a refresh token that was issued to this client. It always rotates (RFC 9700 §4.14.2).
async fn refresh(
    client: &Client,
    token: &str,
    scope: Option<Scopes>,
    device: Device<'_>,
    registry: &Registry,
) -> Result<Issued, ApiError> {
    let checked = match registry.check(token, Expect::refresh().even_spent()).await {
        Ok(checked) if checked.claims().client_id == client.id() => checked,
        Err(Denial::Unavailable) => return Err(Denial::Unavailable.into()),
        _ => return Err(invalid_grant()),
    };
    let mut refresh = Refresh::new().rotating().device(device.ip, device.user_agent);
    refresh = refresh.within(client.grant_scope().clone()).for_audiences(client.audience());
    if let Some(scope) = scope {
        refresh = refresh.narrowed(scope);
    }
    registry.refresh(&checked, refresh).await.map_err(|error| {
        if error.is_superseded() {
            invalid_grant()
        } else if error.field() == Some("scope") {
            invalid_scope("The scope goes beyond what was granted")
        } else {
            error.into()
        }
    })
}

/// Nobody is told why (RFC 6749 §5.2).
fn invalid_grant() -> ApiError {
    let msg = "The refresh token is not good, or was not issued to this client";
    ApiError::new(Status::BadRequest, "invalid_grant", msg)
}

fn invalid_scope(msg: &'static str) -> ApiError {
    ApiError::new(Status::BadRequest, "invalid_scope", msg)
}
