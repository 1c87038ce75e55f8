//! What a holder of the scope `registry:admin` may do to anybody's tokens and sessions, and the audit.

use rocket::serde::json::Json;
use rocket::{Route, State, delete, get, post, put, routes};
use serde::Deserialize;
use utoipa::ToSchema;

use super::body::OptionalBody;
use super::error::ApiError;
use super::list::{AuditQuery, OriginQuery, Page, Query, RecordsQuery, SubjectQuery};
use super::openapi::ErrorBody;
use super::schema::{AuditBody, Done, Ended, RecordBody};
use super::{sessions, tokens};
use crate::error::Error;
use crate::guard::{Device, Scoped};
use crate::registry::Registry;
use crate::token::{Act, Actor, AuditEvent, Record, Subject};

crate::scope! {
    /// May look at, and take back, anybody's tokens.
    pub(super) Admin = "registry:admin";
}

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![list_all_tokens, revoke_any_token, unrevoke_any_token, end_any_session, revoke_all_of_subject, list_audit]
}

/// The documentation of these routes.
#[derive(utoipa::OpenApi)]
#[openapi(paths(
    list_all_tokens,
    revoke_any_token,
    unrevoke_any_token,
    end_any_session,
    revoke_all_of_subject,
    list_audit
))]
pub(super) struct Api;

#[derive(Default, Deserialize, ToSchema)]
#[schema(as = Reason)]
struct Because {
    /// At most 255 characters; kept with what was done.
    reason: Option<String>,
}

/// Lists the records of all subjects, newest first. A page looks at 5,000 records at most, so that it may have few, or
/// none, and a link to the next all the same.
#[utoipa::path(tag = "Administration", params(RecordsQuery, SubjectQuery, OriginQuery), responses(
    (status = 200, description = "One page; the next one in `Link`", body = Vec<RecordBody>),
    (status = 401, description = "Why the token was refused", body = ErrorBody),
    (status = 403, description = "`insufficient_scope`", body = ErrorBody),
    (status = 422, description = "`invalid_request`: a parameter is not valid", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("bearer" = []), ("cookie" = [])))]
#[get("/auth/all-tokens")]
async fn list_all_tokens(
    _admin: Scoped<'_, Admin>,
    query: Query<'_>,
    registry: &State<Registry>,
) -> Result<Page<Record>, ApiError> {
    let filter = query.records_of_any()?;
    Ok(query.page_of_records(registry.search(&filter).await?))
}

/// Revokes anybody's token. Its subject can't undo that.
#[utoipa::path(tag = "Administration", params(("jti" = String, Path, description = "The token's id")),
    request_body(content = Option<Because>), responses(
    (status = 200, description = "Revoked: no server accepts it any more", body = Done),
    (status = 401, description = "Why the token was refused", body = ErrorBody),
    (status = 403, description = "`insufficient_scope`", body = ErrorBody),
    (status = 404, description = "`not_found`", body = ErrorBody),
    (status = 422, description = "`invalid_request`: a field is not valid", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("bearer" = []), ("cookie" = [])))]
#[put("/admin/tokens/revoke/<jti>", data = "<body>")]
async fn revoke_any_token(
    jti: &str,
    admin: Scoped<'_, Admin>,
    device: Device<'_>,
    registry: &State<Registry>,
    body: OptionalBody<Because>,
) -> Result<Json<Done>, ApiError> {
    let act = act(&admin, &device, body.0.reason)?;
    registry.revoke(tokens::parse(jti)?, act).await?;
    Ok(Json(tokens::REVOKED))
}

/// Undoes anybody's revocation by jti.
#[utoipa::path(tag = "Administration", params(("jti" = String, Path, description = "The token's id")),
    request_body(content = Option<Because>), responses(
    (status = 200, description = "It is accepted again", body = Done),
    (status = 401, description = "Why the token was refused", body = ErrorBody),
    (status = 403, description = "`insufficient_scope`", body = ErrorBody),
    (status = 404, description = "`not_found`", body = ErrorBody),
    (status = 409, description = "`revocation_final`", body = ErrorBody),
    (status = 422, description = "`invalid_request`: a field is not valid", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("bearer" = []), ("cookie" = [])))]
#[put("/admin/tokens/unrevoke/<jti>", data = "<body>")]
async fn unrevoke_any_token(
    jti: &str,
    admin: Scoped<'_, Admin>,
    device: Device<'_>,
    registry: &State<Registry>,
    body: OptionalBody<Because>,
) -> Result<Json<Done>, ApiError> {
    let act = act(&admin, &device, body.0.reason)?;
    registry.unrevoke(tokens::parse(jti)?, act).await?;
    Ok(Json(tokens::UNREVOKED))
}

/// Ends anybody's session for good.
#[utoipa::path(tag = "Administration", params(("sid" = String, Path, description = "The session's id")),
    request_body(content = Option<Because>), responses(
    (status = 200, description = "Ended", body = Ended),
    (status = 401, description = "Why the token was refused", body = ErrorBody),
    (status = 403, description = "`insufficient_scope`", body = ErrorBody),
    (status = 404, description = "`not_found`", body = ErrorBody),
    (status = 422, description = "`invalid_request`: a field is not valid", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("bearer" = []), ("cookie" = [])))]
#[delete("/admin/sessions/<sid>", data = "<body>")]
async fn end_any_session(
    sid: &str,
    admin: Scoped<'_, Admin>,
    device: Device<'_>,
    registry: &State<Registry>,
    body: OptionalBody<Because>,
) -> Result<Json<Ended>, ApiError> {
    let act = act(&admin, &device, body.0.reason)?;
    Ok(Json(sessions::ended(registry.end_session(sessions::parse(sid)?, act).await?)))
}

/// Ends all of a subject's sessions for good. A log-in that is under way is refused too.
#[utoipa::path(tag = "Administration", params(("sub" = String, Path, description = "The subject")),
    request_body(content = Option<Because>), responses(
    (status = 200, description = "Ended", body = Ended),
    (status = 401, description = "Why the token was refused", body = ErrorBody),
    (status = 403, description = "`insufficient_scope`", body = ErrorBody),
    (status = 422, description = "`invalid_request`: nobody can have this name, or a field is not valid", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("bearer" = []), ("cookie" = [])))]
#[post("/admin/subjects/<sub>/revoke-all", data = "<body>")]
async fn revoke_all_of_subject(
    sub: &str,
    admin: Scoped<'_, Admin>,
    device: Device<'_>,
    registry: &State<Registry>,
    body: OptionalBody<Because>,
) -> Result<Json<Ended>, ApiError> {
    let subject: Subject = sub.parse()?;
    let act = act(&admin, &device, body.0.reason)?;
    let revoked = registry.revoke_all(&subject, None, act).await?;
    Ok(Json(Ended { msg: "Tokens successfully revoked", revoked }))
}

/// Lists who changed what, newest first.
#[utoipa::path(tag = "Administration", params(AuditQuery, SubjectQuery), responses(
    (status = 200, description = "One page; the next one in `Link`", body = Vec<AuditBody>),
    (status = 401, description = "Why the token was refused", body = ErrorBody),
    (status = 403, description = "`insufficient_scope`", body = ErrorBody),
    (status = 422, description = "`invalid_request`: a parameter is not valid", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("bearer" = []), ("cookie" = [])))]
#[get("/admin/audit")]
async fn list_audit(
    _admin: Scoped<'_, Admin>,
    query: Query<'_>,
    registry: &State<Registry>,
) -> Result<Page<AuditEvent>, ApiError> {
    let filter = query.audit()?;
    Ok(query.page_of_audit(&filter, registry.audit(&filter).await?))
}

fn act(admin: &Scoped<'_, Admin>, device: &Device<'_>, reason: Option<String>) -> Result<Act, Error> {
    let act = admin.act_as(Actor::administrator(admin.subject())).ip(device.ip);
    match reason {
        Some(reason) => act.reason(reason),
        None => Ok(act),
    }
}
