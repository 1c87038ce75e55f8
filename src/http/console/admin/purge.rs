//! The purge, for administrators: how it stands, and one now.

use askama::Template;
use rocket::{Route, State, get, post, routes};

use crate::guard::Device;
use crate::http::console::error::ConsoleError;
use crate::http::console::form::{Confirmed, Posted};
use crate::http::console::frame::Frame;
use crate::http::console::page::{Page, SeeOther};
use crate::http::console::signed_in::AdminSignedIn;
use crate::http::console::time::{When, in_words};
use crate::registry::{PurgeStatus, Purged, Registry};
use crate::token::{Outcome, PurgeRun};

/// Where it is.
pub(in crate::http::console) const HERE: &str = "/console/admin/purge";

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![show, ask_run, run]
}

/// A run as it is shown.
struct RunView {
    process: String,
    started: When,
    took: Option<i64>,
    seen: When,
    records: u64,
    outcome: Outcome,
}

impl RunView {
    fn of(run: &PurgeRun, running: Option<&PurgeRun>) -> Self {
        Self {
            process: run.process.clone(),
            started: run.started_at.into(),
            took: run.ended_at.map(|ended| (ended - run.started_at).num_seconds().max(0)),
            seen: run.seen_at.into(),
            records: run.records,
            outcome: run.outcome(running),
        }
    }
}

#[derive(Template)]
#[template(path = "console/admin_purge.html")]
struct PurgePage<'r> {
    frame: Frame<'r>,
    backlog: u64,
    next_run: Option<When>,
    running: Option<RunView>,
    runs: Vec<RunView>,
}

#[derive(Template)]
#[template(path = "console/admin_purge_run.html")]
struct RunPage<'r> {
    frame: Frame<'r>,
    backlog: u64,
    running: Option<RunView>,
    budget: String,
}

#[get("/admin/purge")]
async fn show<'r>(person: AdminSignedIn<'r>, registry: &State<Registry>) -> Result<Page<PurgePage<'r>>, ConsoleError> {
    let PurgeStatus { running, next_run, backlog, runs } = registry.purge_status().await?;
    Ok(Page(PurgePage {
        frame: person.frame(),
        backlog,
        next_run: next_run.map(When),
        runs: runs.iter().map(|run| RunView::of(run, running.as_ref())).collect(),
        running: running.as_ref().map(|run| RunView::of(run, running.as_ref())),
    }))
}

#[get("/admin/purge/run")]
async fn ask_run<'r>(person: AdminSignedIn<'r>, registry: &State<Registry>) -> Result<Page<RunPage<'r>>, ConsoleError> {
    let PurgeStatus { running, backlog, .. } = registry.purge_status().await?;
    let running = running.as_ref().map(|run| RunView::of(run, Some(run)));
    let budget = in_words(registry.settings().purge.budget.as_secs());
    Ok(Page(RunPage { frame: person.frame(), backlog, running, budget }))
}

/// Answers when nothing is left to remove, or the budget is used up. How many records went stands on the page that
/// follows, with the other runs.
#[post("/admin/purge/run", data = "<_form>")]
async fn run(
    person: AdminSignedIn<'_>,
    device: Device<'_>,
    registry: &State<Registry>,
    _form: Posted<Confirmed>,
) -> Result<SeeOther, ConsoleError> {
    registry.purge_asked(&person.act(&device)).await?;
    let purged = registry.purge().await?;
    let code = match purged {
        Purged { complete: true, .. } => "purged",
        Purged { elsewhere: true, .. } => "purged-elsewhere",
        Purged { .. } => "purged-some",
    };
    Ok(SeeOther::done(HERE, code))
}
