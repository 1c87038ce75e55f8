//! Logging in, refreshing and logging out.

use rocket::serde::json::Json;
use rocket::{Route, State, post, routes};
use serde::Deserialize;
use utoipa::ToSchema;

use super::body::Body;
use super::error::ApiError;
use super::issuing::{Began, confirm, scopes_of};
use super::openapi::ErrorBody;
use super::schema::{Done, Tokens};
use crate::accounts::Accounts;
use crate::clients::{Behind, Clients};
use crate::guard::{Cleared, ConfiguredOrJson, Device, LogoutTokens, RefreshRequest};
use crate::registry::{Grant, Issued, Refresh, Registry};
use crate::token::{Act, Actor, Denial, Scopes};

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![login, refresh, logout]
}

/// The documentation of these routes.
#[derive(utoipa::OpenApi)]
#[openapi(paths(login, refresh, logout))]
pub(super) struct Api;

#[derive(Deserialize, ToSchema)]
struct Login {
    username: String,
    #[schema(format = "password")]
    password: String,
    /// Space-separated; all that the user has where not given.
    #[schema(value_type = Option<String>)]
    scope: Option<Scopes>,
    /// A name for the device, at most 100 characters.
    label: Option<String>,
}

/// Logs in: a fresh access token and a refresh token, which begin a session.
#[utoipa::path(tag = "Sessions", request_body = Login, responses(
    (status = 200, description = "Logged in", body = Tokens),
    (status = 401, description = "`bad_credentials`", body = ErrorBody),
    (status = 403, description = "`insufficient_scope`: the user lacks a scope that was asked for", body = ErrorBody),
    (status = 409, description = "`session_limit`: the user has as many sessions as `sessions.max`", body = ErrorBody),
    (status = 422, description = "`invalid_request`: a field is missing or not valid", body = ErrorBody),
    (status = 429, description = "`rate_limited`: too many failed log-ins", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
))]
#[post("/login", data = "<body>")]
async fn login(
    device: Device<'_>,
    accounts: &State<Accounts>,
    registry: &State<Registry>,
    body: Body<Login>,
) -> Result<Issued, ApiError> {
    let Login { username, password, scope, label } = body.0;
    let logged_in = accounts.login(&username, &password, device.ip).await?;
    let user = logged_in.user;
    let scope = scope.unwrap_or_else(|| user.scope.clone());
    let missing = scope.difference(&user.scope);
    if !missing.is_empty() {
        return Err(ApiError::insufficient_scope("The user lacks", missing));
    }
    let mut grant =
        Grant::to(user.username).scope(scope).fresh(true).device(device.ip, device.user_agent).as_of(logged_in.as_of);
    if let Some(label) = label {
        grant = grant.label(label)?;
    }
    let issued = registry.issue(grant).await.map_err(|error| match error.is_superseded() {
        // All of the user's tokens were ended meanwhile, perhaps because the password is not good any more.
        true => ApiError::bad_credentials(),
        false => error.into(),
    })?;
    Ok(confirm(registry, accounts, issued, Began::Session).await?)
}

/// A token in the body, for callers that send it there.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document alone reads it")]
struct Presented {
    refresh_token: Option<String>,
}

/// Tokens in the body: either, or both of one session.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document alone reads it")]
struct Logout {
    /// Where `locations` has `json`.
    access_token: Option<String>,
    refresh_token: Option<String>,
}

/// Issues another access token in the session of a refresh token, and with rotation another refresh token in its place.
/// The access token is not fresh, and has the scopes that were granted as far as the user still has them.
#[utoipa::path(tag = "Sessions", request_body(content = Option<Presented>), responses(
    (status = 200, description = "Refreshed", body = Tokens),
    (status = 401, description = "Why the refresh token was refused", body = ErrorBody),
    (status = 403, description = "`csrf_failed`", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("bearer" = []), ("refresh_cookie" = [])))]
#[post("/refresh", data = "<token>")]
async fn refresh(
    token: RefreshRequest<ConfiguredOrJson>,
    device: Device<'_>,
    accounts: &State<Accounts>,
    clients: &State<Clients>,
    registry: &State<Registry>,
) -> Result<Issued, ApiError> {
    let client = match clients.behind(&token).await? {
        Behind::Nobody => None,
        Behind::Client(client) if client.is_first_party() => Some(client),
        // A client that has a secret refreshes with it, at `/oauth/token`.
        Behind::Client(_) | Behind::Gone => return Err(Denial::Invalid.into()),
    };
    let mut refresh = Refresh::new().device(device.ip, device.user_agent);
    if let Some(held) = scopes_of(accounts, token.subject()).await? {
        refresh = refresh.within(held);
    } else if let Some(client) = client {
        refresh = refresh.within(client.grant_scope().clone()).for_audiences(client.audience());
    }
    let issued = registry.refresh(&token, refresh).await?;
    Ok(confirm(registry, accounts, issued, Began::Nothing).await?)
}

/// Logs out: ends the session of an access or refresh token, also of an expired one.
#[utoipa::path(tag = "Sessions", request_body(content = Option<Logout>), responses(
    (status = 200, description = "Logged out", body = Done),
    (status = 400, description = "`invalid_request`: tokens of two sessions, or a body that is not JSON that can be read", body = ErrorBody),
    (status = 401, description = "Why the token was refused", body = ErrorBody),
    (status = 403, description = "`csrf_failed`", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("bearer" = []), ("cookie" = []), ("refresh_cookie" = [])))]
#[post("/logout", data = "<tokens>")]
async fn logout(
    tokens: LogoutTokens,
    device: Device<'_>,
    registry: &State<Registry>,
) -> Result<Cleared<Json<Done>>, ApiError> {
    let act = Act::by(Actor::subject(tokens.subject())).ip(device.ip);
    match registry.end_session(tokens.session(), act).await {
        // Of an expired token the session may have been purged: nothing is left to end.
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(Cleared(Json(Done { msg: "Successfully logged out" }))),
    }
}
