//! Whether the process is up, and whether it can answer.

use rocket::http::Header;
use rocket::serde::json::{Json, Value, json};
use rocket::{Responder, Route, State, get, routes};

use super::schema::HealthBody;
use crate::registry::{Readiness, Registry};
use crate::token::Denial;

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![livez, readyz]
}

/// The documentation of these routes.
#[derive(utoipa::OpenApi)]
#[openapi(paths(livez, readyz))]
pub(super) struct Api;

/// An answer about health, which no cache may keep.
#[derive(Responder)]
enum Health {
    #[response(status = 200)]
    Good { body: Json<Value>, cache: Header<'static> },
    #[response(status = 503)]
    Bad { body: Json<Value>, cache: Header<'static>, retry: Header<'static> },
}

impl Health {
    fn good(word: &str) -> Self {
        Self::Good { body: Json(json!({ "status": word })), cache: no_store() }
    }
}

fn no_store() -> Header<'static> {
    Header::new("Cache-Control", "no-store")
}

/// Whether the process is up. It asks nothing else.
#[utoipa::path(tag = "Operations", responses((status = 200, description = "The process is up", body = HealthBody)))]
#[get("/livez")]
async fn livez() -> Health {
    Health::good("live")
}

/// Whether the registry can be asked: whether its database answers and has the schema that this program needs.
#[utoipa::path(tag = "Operations", responses(
    (status = 200, description = "Requests can be answered", body = HealthBody),
    (status = 503, description = "They can't, with the `reason` `database` or `migrations`; or they can, but by asking the database for each token, with `lease`", body = super::openapi::ErrorBody),
))]
#[get("/readyz")]
async fn readyz(registry: &State<Registry>) -> Health {
    let readiness = registry.readiness().await;
    if readiness == Readiness::Ready {
        return Health::good(readiness.as_str());
    }
    let msg = match readiness {
        Readiness::Lease => "Requests are answered, but by asking the database for each token".into(),
        _ => Denial::Unavailable.message(),
    };
    let body = json!({
        "error": Denial::Unavailable.code(),
        "msg": msg,
        "reason": readiness.as_str(),
    });
    Health::Bad {
        body: Json(body),
        cache: no_store(),
        retry: Header::new("Retry-After", Denial::RETRY_AFTER_SECONDS.to_string()),
    }
}
