//! The caller's own sessions.

use rocket::serde::json::Json;
use rocket::{Route, State, delete, get, routes};

use super::error::ApiError;
use super::list::{Page, Query, SessionsQuery};
use super::openapi::ErrorBody;
use super::schema::{Ended, SessionBody};
use crate::guard::{AccessToken, Device};
use crate::registry::Registry;
use crate::token::{Act, Actor, Session, Sid};

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![list_sessions, end_session]
}

/// The documentation of these routes.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list_sessions, end_session))]
pub(super) struct Api;

/// Lists the caller's live sessions, newest first.
#[utoipa::path(tag = "Sessions", params(SessionsQuery), responses(
    (status = 200, description = "One page; the next one in `Link`", body = Vec<SessionBody>),
    (status = 401, description = "Why the token was refused", body = ErrorBody),
    (status = 422, description = "`invalid_request`: a parameter is not valid", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("bearer" = []), ("cookie" = [])))]
#[get("/auth/sessions")]
async fn list_sessions(
    token: AccessToken<'_>,
    query: Query<'_>,
    registry: &State<Registry>,
) -> Result<Page<Session>, ApiError> {
    let claims = token.claims();
    let mut page = registry.sessions(&claims.sub, query.after()?, query.limit()?).await?;
    for session in &mut page.sessions {
        session.current = session.sid == claims.sid;
    }
    Ok(query.page_of_sessions(page))
}

/// Ends one of the caller's sessions for good.
#[utoipa::path(tag = "Sessions", params(("sid" = String, Path, description = "The session's id")), responses(
    (status = 200, description = "Ended", body = Ended),
    (status = 401, description = "Why the token was refused", body = ErrorBody),
    (status = 404, description = "`not_found`: no such session of the caller's", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("bearer" = []), ("cookie" = [])))]
#[delete("/auth/sessions/<sid>")]
async fn end_session(
    sid: &str,
    token: AccessToken<'_>,
    device: Device<'_>,
    registry: &State<Registry>,
) -> Result<Json<Ended>, ApiError> {
    let act = Act::by(Actor::subject(token.subject())).ip(device.ip);
    Ok(Json(ended(registry.end_session(parse(sid)?, act).await?)))
}

/// What is answered when a session was ended.
pub(super) fn ended(revoked: u64) -> Ended {
    Ended { msg: "Session successfully ended", revoked }
}

/// The id in a path. One that can't be an id is the id of no session.
pub(super) fn parse(sid: &str) -> Result<Sid, ApiError> {
    sid.parse().map_err(|_| ApiError::session_not_found())
}
