//! How this process and its registry are, for administrators: what `/metrics` counts, and what happened in the last
//! hour.

use rocket::serde::json::Json;
use rocket::{Route, State, get, routes};
use serde_json::{Map, Value, json};

use super::admin::Admin;
use super::openapi::ErrorBody;
use super::schema::OverviewBody;
use crate::guard::Scoped;
use crate::registry::{ANSWERS, OUTCOMES, Overview, Rates, Registry};
use crate::token::Replica;

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![show_overview]
}

/// The documentation of these routes.
#[derive(utoipa::OpenApi)]
#[openapi(paths(show_overview))]
pub(super) struct Api;

/// How the process that answers is: what it counts, whom it waits for, and what happened in the last hour.
#[utoipa::path(tag = "Administration", responses(
    (status = 200, description = "As of now", body = OverviewBody),
    (status = 401, description = "Why the token was refused", body = ErrorBody),
    (status = 403, description = "`insufficient_scope`", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("bearer" = []), ("cookie" = [])))]
#[get("/admin/overview")]
async fn show_overview(_admin: Scoped<'_, Admin>, registry: &State<Registry>) -> Json<Value> {
    Json(as_json(&registry.overview().await, &registry.last_hour()))
}

fn as_json(overview: &Overview, last_hour: &[Rates]) -> Value {
    let Overview { readiness, now, counters, roll, waits } = overview;
    let replicas = roll.as_ref().map(|roll| {
        let replica = |replica: &Replica| json!({ "name": replica.name, "behind": roll.behind(replica) });
        roll.replicas.iter().map(replica).collect::<Vec<_>>()
    });
    json!({
        "readiness": readiness.as_str(),
        "records": now.records,
        "leased": now.is_leased,
        "remembered_tokens": now.remembered.0,
        "remembered_bytes": now.remembered.1,
        "replicas": replicas,
        "waits_for": waits.iter().map(|waited| &waited.replicas).collect::<Vec<_>>(),
        "checks": named(&OUTCOMES, &counters.checks),
        "answers": named(&ANSWERS, &counters.answers),
        "issued": counters.issued,
        "revoked": counters.revoked,
        "purged": counters.purged,
        "acknowledged": counters.acknowledged,
        "last_hour": last_hour.iter().map(rates).collect::<Vec<_>>(),
    })
}

fn rates(rates: &Rates) -> Value {
    json!({
        "at": rates.at,
        "after_gap": rates.after_gap,
        "checks": named(&OUTCOMES, &rates.checks),
        "answers": named(&ANSWERS, &rates.answers),
        "issued": rates.issued,
        "revoked": rates.revoked,
        "purged": rates.purged,
        "acknowledge_mean": rates.acknowledge_mean,
        "acknowledge_p99": rates.acknowledge_p99,
        "leased": rates.is_leased,
        "remembered_tokens": rates.remembered,
    })
}

fn named<T: Copy + Into<Value>>(names: &[&str], values: &[T]) -> Map<String, Value> {
    names.iter().zip(values).map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
}
