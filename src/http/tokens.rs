//! The records of the caller's own tokens: looking at them, revoking them, and issuing personal ones.

use std::time::Duration;

use rocket::response::status::Created;
use rocket::serde::json::{Json, Value, json};
use rocket::{Route, State, get, patch, post, put, routes, uri};
use serde::Deserialize;
use utoipa::ToSchema;

use super::body::{Body, OptionalBody};
use super::error::ApiError;
use super::issuing::{Began, confirm, require_within, scopes_of};
use super::list::{Page, Query, RecordsQuery};
use super::openapi::ErrorBody;
use super::schema::{Done, Ended, PersonalToken, RecordBody};
use crate::accounts::Accounts;
use crate::clients::{Behind, Clients};
use crate::guard::{AccessToken, Device, FreshToken};
use crate::registry::{Personal, Registry};
use crate::token::{Act, Actor, Denial, Jti, Record, Scopes};

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![list_tokens, show_token, label_token, create_token, revoke_token, unrevoke_token, revoke_all_tokens]
}

/// The documentation of these routes.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list_tokens, show_token, label_token, create_token, revoke_token, unrevoke_token, revoke_all_tokens))]
pub(super) struct Api;

/// Lists the caller's records, newest first. A page looks at 5,000 records at most, so that it may have few, or none,
/// and a link to the next all the same.
#[utoipa::path(tag = "Tokens", params(RecordsQuery), responses(
    (status = 200, description = "One page; the next one in `Link`", body = Vec<RecordBody>),
    (status = 401, description = "Why the token was refused", body = ErrorBody),
    (status = 422, description = "`invalid_request`: a parameter is not valid", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("bearer" = []), ("cookie" = [])))]
#[get("/auth/tokens")]
async fn list_tokens(
    token: AccessToken<'_>,
    query: Query<'_>,
    registry: &State<Registry>,
) -> Result<Page<Record>, ApiError> {
    let filter = query.records_of(token.subject())?;
    Ok(query.page_of_records(registry.search(&filter).await?))
}

/// One record of the caller's.
#[utoipa::path(tag = "Tokens", params(("jti" = String, Path, description = "The token's id")), responses(
    (status = 200, description = "The record", body = RecordBody),
    (status = 401, description = "Why the token was refused", body = ErrorBody),
    (status = 404, description = "`not_found`: no such token of the caller's", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("bearer" = []), ("cookie" = [])))]
#[get("/auth/tokens/<jti>")]
async fn show_token(jti: &str, token: AccessToken<'_>, registry: &State<Registry>) -> Result<Json<Record>, ApiError> {
    let record = registry.get(parse(jti)?).await?;
    if record.subject == *token.subject() { Ok(Json(record)) } else { Err(ApiError::token_not_found()) }
}

#[derive(Deserialize, ToSchema)]
#[schema(as = Label)]
struct Label {
    /// At most 100 characters; null takes the label away.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required = true)]
    label: Option<String>,
}

/// Names one of the caller's tokens, and the session that it belongs to.
#[utoipa::path(tag = "Tokens", params(("jti" = String, Path, description = "The token's id")), request_body = Label, responses(
    (status = 200, description = "The record", body = RecordBody),
    (status = 401, description = "Why the token was refused", body = ErrorBody),
    (status = 404, description = "`not_found`: no such token of the caller's", body = ErrorBody),
    (status = 422, description = "`invalid_request`: the label is missing or not valid", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("bearer" = []), ("cookie" = [])))]
#[patch("/auth/tokens/<jti>", data = "<body>")]
async fn label_token(
    jti: &str,
    token: AccessToken<'_>,
    registry: &State<Registry>,
    body: Body<Label>,
) -> Result<Json<Record>, ApiError> {
    Ok(Json(registry.set_label(parse(jti)?, token.subject(), body.0.label).await?))
}

#[derive(Deserialize, ToSchema)]
#[schema(as = PersonalTokenRequest)]
struct Create {
    /// What it is for, 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    label: String,
    /// Space-separated; all that the presenting token has, as far as the user still has them, where not given.
    #[schema(value_type = Option<String>)]
    scope: Option<Scopes>,
    /// Seconds; as long as `personal.max_expires` allows where not given.
    #[schema(minimum = 1)]
    expires_in: Option<u64>,
}

/// Issues a personal token: for a program of the caller's, its own session, never fresh.
#[utoipa::path(tag = "Tokens", request_body = Create, responses(
    (status = 201, description = "Issued", body = PersonalToken),
    (status = 401, description = "Why the token was refused, `fresh_token_required` among the reasons", body = ErrorBody),
    (status = 403, description = "`insufficient_scope`: beyond the presenting token's scopes or the user's", body = ErrorBody),
    (status = 422, description = "`invalid_request`: a field is missing or not valid", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("bearer" = []), ("cookie" = [])))]
#[post("/auth/tokens", data = "<body>")]
async fn create_token(
    token: FreshToken<'_>,
    device: Device<'_>,
    accounts: &State<Accounts>,
    clients: &State<Clients>,
    registry: &State<Registry>,
    body: Body<Create>,
) -> Result<Created<Json<Value>>, ApiError> {
    let Create { label, scope, expires_in } = body.0;
    let mut personal = Personal::new(label)?.device(device.ip, device.user_agent);
    let claims = token.claims();
    let mut held = claims.scope.clone();
    if let Some(of_user) = scopes_of(accounts, &claims.sub).await? {
        held = held.intersection(&of_user);
    }
    match clients.behind(&token).await? {
        Behind::Nobody => {}
        Behind::Client(client) => {
            held = held.intersection(client.grant_scope());
            personal = personal.for_audiences(client.audience());
        }
        Behind::Gone => return Err(Denial::Invalid.into()),
    }
    let scope = scope.unwrap_or_else(|| held.clone());
    require_within(&scope, &held)?;
    personal = personal.scope(scope);
    if let Some(seconds) = expires_in {
        personal = personal.expires(Duration::from_secs(seconds));
    }
    let issued = registry.issue_personal(&token, personal).await?;
    let issued = confirm(registry, accounts, issued, Began::Session).await?;
    let jti = issued.access_claims().jti.to_string();
    let location = uri!(show_token(&jti)).to_string();
    let mut answer = json!(issued);
    answer["jti"] = jti.into();
    Ok(Created::new(location).body(Json(answer)))
}

/// Revokes one of the caller's tokens. Doing it twice is not an error.
#[utoipa::path(tag = "Tokens", params(("jti" = String, Path, description = "The token's id")), responses(
    (status = 200, description = "Revoked: no server accepts it any more", body = Done),
    (status = 401, description = "Why the token was refused", body = ErrorBody),
    (status = 404, description = "`not_found`: no such token of the caller's", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("bearer" = []), ("cookie" = [])))]
#[put("/auth/tokens/revoke/<jti>")]
async fn revoke_token(
    jti: &str,
    token: AccessToken<'_>,
    device: Device<'_>,
    registry: &State<Registry>,
) -> Result<Json<Done>, ApiError> {
    registry.revoke(parse(jti)?, Act::by(Actor::subject(token.subject())).ip(device.ip)).await?;
    Ok(Json(REVOKED))
}

/// Undoes a revocation that the caller made by jti.
#[utoipa::path(tag = "Tokens", params(("jti" = String, Path, description = "The token's id")), responses(
    (status = 200, description = "It is accepted again", body = Done),
    (status = 401, description = "Why the token was refused", body = ErrorBody),
    (status = 404, description = "`not_found`: no such token of the caller's", body = ErrorBody),
    (status = 409, description = "`revocation_final`", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("bearer" = []), ("cookie" = [])))]
#[put("/auth/tokens/unrevoke/<jti>")]
async fn unrevoke_token(
    jti: &str,
    token: AccessToken<'_>,
    device: Device<'_>,
    registry: &State<Registry>,
) -> Result<Json<Done>, ApiError> {
    registry.unrevoke(parse(jti)?, token.act_as(Actor::subject(token.subject())).ip(device.ip)).await?;
    Ok(Json(UNREVOKED))
}

#[derive(Default, Deserialize, ToSchema)]
#[schema(as = RevokeAll)]
struct RevokeAll {
    /// Whether the session of the presented token stays.
    #[serde(default)]
    except_current: bool,
}

/// Ends all of the caller's sessions for good.
#[utoipa::path(tag = "Tokens", request_body(content = Option<RevokeAll>), responses(
    (status = 200, description = "Ended", body = Ended),
    (status = 401, description = "Why the token was refused", body = ErrorBody),
    (status = 422, description = "`invalid_request`: a field is not valid", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("bearer" = []), ("cookie" = [])))]
#[post("/auth/tokens/revoke-all", data = "<body>")]
async fn revoke_all_tokens(
    token: AccessToken<'_>,
    device: Device<'_>,
    registry: &State<Registry>,
    body: OptionalBody<RevokeAll>,
) -> Result<Json<Ended>, ApiError> {
    let claims = token.claims();
    let keep = body.0.except_current.then_some(claims.sid);
    let revoked = registry.revoke_all(&claims.sub, keep, Act::by(Actor::subject(&claims.sub)).ip(device.ip)).await?;
    Ok(Json(Ended { msg: "Tokens successfully revoked", revoked }))
}

/// What is answered when a token was revoked, and when that was undone.
pub(super) const REVOKED: Done = Done { msg: "Token successfully revoked" };
pub(super) const UNREVOKED: Done = Done { msg: "Token successfully unrevoked" };

/// The id in a path. One that can't be an id is the id of no token.
pub(super) fn parse(jti: &str) -> Result<Jti, ApiError> {
    jti.parse().map_err(|_| ApiError::token_not_found())
}
