//! The processes that answer from memory, for administrators: which there are, and who is waited for.

use std::time::Duration;

use askama::Template;
use chrono::DateTime;
use rocket::{Route, State, get, routes};
use uuid::Uuid;

use crate::http::console::error::ConsoleError;
use crate::http::console::frame::Frame;
use crate::http::console::page::Page;
use crate::http::console::signed_in::AdminSignedIn;
use crate::http::console::time::{When, in_words};
use crate::registry::{Overview, Registry};
use crate::token::{Denial, Replica, Roll};

/// Where it is.
pub(in crate::http::console) const HERE: &str = "/console/admin/replicas";

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![list]
}

/// A process as it is shown.
struct ReplicaView {
    id: Uuid,
    name: String,
    seen: String,
    joined: Option<When>,
    applied: i64,
    behind: i64,
    lease_ms: i64,
}

impl ReplicaView {
    fn of(replica: &Replica, roll: &Roll, now: i64) -> Self {
        Self {
            id: replica.id,
            name: replica.name.clone(),
            seen: in_words(u64::try_from(now - replica.seen_at).unwrap_or(0)),
            joined: DateTime::from_timestamp(replica.joined_at, 0).map(When),
            applied: replica.applied,
            behind: roll.behind(replica),
            lease_ms: replica.lease_ms,
        }
    }
}

/// A change of this process that has waited long.
struct WaitView {
    lasting: String,
    replicas: Vec<String>,
}

#[derive(Template)]
#[template(path = "console/admin_replicas.html")]
struct ReplicasPage<'r> {
    frame: Frame<'r>,
    replicas: Vec<ReplicaView>,
    last_change: i64,
    waits: Vec<WaitView>,
    is_replica: bool,
    is_leased: bool,
    applied: i64,
    silence_ms: u128,
}

#[get("/admin/replicas")]
async fn list<'r>(
    person: AdminSignedIn<'r>,
    registry: &State<Registry>,
) -> Result<Page<ReplicasPage<'r>>, ConsoleError> {
    let Overview { now, roll, waits, .. } = registry.overview().await;
    let roll = roll.ok_or(Denial::Unavailable)?;
    let (seconds, steady) = (registry.seconds(), registry.clock().steady());
    let lasting = |since: Duration| in_words(steady.saturating_sub(since).as_secs());
    Ok(Page(ReplicasPage {
        frame: person.frame(),
        replicas: roll.replicas.iter().map(|replica| ReplicaView::of(replica, &roll, seconds)).collect(),
        last_change: roll.position.seq,
        waits: waits
            .into_iter()
            .map(|waited| WaitView { lasting: lasting(waited.since), replicas: waited.replicas })
            .collect(),
        is_replica: now.is_replica,
        is_leased: now.is_leased,
        applied: now.applied,
        silence_ms: now.silence.as_millis(),
    }))
}
