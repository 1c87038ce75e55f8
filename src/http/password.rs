//! Changing one's own password.

use rocket::serde::json::Json;
use rocket::{Route, State, post, routes};
use serde::Deserialize;
use utoipa::ToSchema;

use super::body::Body;
use super::error::ApiError;
use super::openapi::ErrorBody;
use super::schema::Done;
use crate::accounts::Accounts;
use crate::guard::{Device, FreshToken};

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![change_password]
}

/// The documentation of these routes.
#[derive(utoipa::OpenApi)]
#[openapi(paths(change_password))]
pub(super) struct Api;

#[derive(Deserialize, ToSchema)]
#[schema(as = PasswordChange)]
struct Change {
    #[schema(format = "password")]
    current: String,
    #[schema(format = "password")]
    new: String,
    /// Whether the user's other sessions go on.
    #[serde(default)]
    keep_sessions: bool,
}

/// Changes the caller's password, and ends all other sessions unless told not to.
#[utoipa::path(tag = "Sessions", request_body = Change, responses(
    (status = 200, description = "Changed", body = Done),
    (status = 401, description = "Why the token was refused, or `bad_credentials`: the current password is wrong", body = ErrorBody),
    (status = 422, description = "`invalid_request`: a field is missing or not valid", body = ErrorBody),
    (status = 429, description = "`rate_limited`: too many wrong passwords", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("bearer" = []), ("cookie" = [])))]
#[post("/auth/password", data = "<body>")]
async fn change_password(
    token: FreshToken<'_>,
    device: Device<'_>,
    accounts: &State<Accounts>,
    body: Body<Change>,
) -> Result<Json<Done>, ApiError> {
    let Change { current, new, keep_sessions } = body.0;
    accounts.change_password(&token, &current, &new, keep_sessions, device.ip).await?;
    Ok(Json(Done { msg: "Password successfully changed" }))
}
