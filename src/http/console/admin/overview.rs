//! How this process and its registry are, for administrators, and what happened in the last hour.

use askama::Template;
use rocket::{Route, State, get, routes};

use super::plot::{HEIGHT, Plot, Point, WIDTH, a_second, milliseconds};
use crate::http::console::error::ConsoleError;
use crate::http::console::frame::Frame;
use crate::http::console::page::Page;
use crate::http::console::signed_in::AdminSignedIn;
use crate::registry::{OUTCOMES, Overview, Rates, Readiness, Registry};

/// Where it is.
pub(in crate::http::console) const HERE: &str = "/console/admin/overview";

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![show, show_plots]
}

#[derive(Template)]
#[template(path = "console/admin_overview.html")]
struct OverviewPage<'r> {
    frame: Frame<'r>,
    overview: Overview,
    backlog: Option<u64>,
    plots: Vec<Plot>,
    outcomes: Vec<OutcomeView>,
    has_samples: bool,
}

/// What the script fetches and puts into the page.
#[derive(Template)]
#[template(path = "console/admin_plots.html")]
struct PlotsPart {
    plots: Vec<Plot>,
    outcomes: Vec<OutcomeView>,
    has_samples: bool,
}

/// What checks came to.
struct OutcomeView {
    name: &'static str,
    code: &'static str,
    count: u64,
    rate: String,
}

/// The outcomes in words, in the order of [`OUTCOMES`].
const NAMES: [&str; OUTCOMES.len()] = [
    "Accepted",
    "Malformed",
    "Signature or claims not valid",
    "Expired",
    "Not valid yet",
    "Revoked",
    "Not on the registry",
    "Of the wrong type",
    "The registry could not be asked",
];

#[get("/admin/overview")]
async fn show<'r>(
    person: AdminSignedIn<'r>,
    registry: &State<Registry>,
) -> Result<Page<OverviewPage<'r>>, ConsoleError> {
    let overview = registry.overview().await;
    // Where the database can't be asked the page says so, and what is known without.
    let backlog = registry.purgeable().await.ok();
    let PlotsPart { plots, outcomes, has_samples } = PlotsPart::of(registry);
    Ok(Page(OverviewPage { frame: person.frame(), overview, backlog, plots, outcomes, has_samples }))
}

#[get("/admin/overview/plots")]
fn show_plots(_person: AdminSignedIn<'_>, registry: &State<Registry>) -> Page<PlotsPart> {
    Page(PlotsPart::of(registry))
}

impl OverviewPage<'_> {
    fn readiness(&self) -> (&'static str, &'static str) {
        match self.overview.readiness {
            Readiness::Ready => ("good", "Ready"),
            Readiness::Database => ("bad", "The database can't be asked"),
            Readiness::Migrations => ("bad", "The database has another schema than this program"),
            Readiness::Lease => ("bad", "No lease: each answer is asked from the database"),
        }
    }

    /// How many changes this process has not applied, where it is known.
    fn lag(&self) -> Option<i64> {
        let (_, last) = self.overview.now.replicas?;
        self.overview.now.is_replica.then(|| (last - self.overview.now.applied).max(0))
    }

    fn lease(&self) -> &'static str {
        match (self.overview.now.is_replica, self.overview.now.is_leased) {
            (false, _) => "not needed: it answers from the database",
            (true, true) => "held",
            (true, false) => "not held",
        }
    }

    fn connections_in_use(&self) -> u32 {
        self.overview.now.pool.open.saturating_sub(self.overview.now.pool.idle)
    }

    fn remembered_kilobytes(&self) -> u64 {
        self.overview.now.remembered.1.div_ceil(1_000)
    }
}

impl PlotsPart {
    fn of(registry: &Registry) -> Self {
        let rates = registry.last_hour();
        let counters = registry.metrics().counters();
        let last = rates.last();
        let outcome = |(i, code): (usize, &'static str)| OutcomeView {
            name: NAMES[i],
            code,
            count: counters.checks[i],
            rate: last.map_or_else(|| "–".to_owned(), |rates| a_second(rates.checks[i])),
        };
        let outcomes = OUTCOMES.into_iter().enumerate().map(outcome).collect();
        let until = last.map_or(0, |rates| rates.at);
        Self { plots: plots(&rates, until), outcomes, has_samples: last.is_some() }
    }
}

/// The plots of these rates, the last of which is from `until`.
fn plots(rates: &[Rates], until: i64) -> Vec<Plot> {
    let line = |value: fn(&Rates) -> Option<f64>| -> Vec<Point> {
        let point = |rates: &Rates| Point { at: rates.at, value: value(rates), after_gap: rates.after_gap };
        rates.iter().map(point).collect()
    };
    vec![
        Plot::of(
            "Checks per second",
            until,
            vec![
                ("accepted", line(|rates| Some(rates.checks[0]))),
                ("refused", line(|rates| Some(rates.checks[1..OUTCOMES.len() - 1].iter().sum()))),
                ("registry not asked", line(|rates| Some(rates.checks[OUTCOMES.len() - 1]))),
            ],
            a_second,
        ),
        Plot::of(
            "Answers per second",
            until,
            vec![
                ("from memory", line(|rates| Some(rates.answers[0]))),
                ("from the database", line(|rates| Some(rates.answers[1]))),
                ("without a lease", line(|rates| Some(rates.answers[2]))),
            ],
            a_second,
        ),
        Plot::of(
            "Records per second",
            until,
            vec![
                ("issued", line(|rates| Some(rates.issued))),
                ("revoked", line(|rates| Some(rates.revoked))),
                ("purged", line(|rates| Some(rates.purged))),
            ],
            a_second,
        ),
        Plot::of(
            "Time until a change is in force everywhere",
            until,
            vec![
                ("mean", line(|rates| rates.acknowledge_mean)),
                ("99 of 100 within", line(|rates| rates.acknowledge_p99)),
            ],
            milliseconds,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_drawn_once() {
        let rates = Rates {
            at: 1_000,
            after_gap: false,
            checks: [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
            answers: [1.0, 2.0, 3.0],
            issued: 1.0,
            revoked: 2.0,
            purged: 3.0,
            acknowledge_mean: None,
            acknowledge_p99: None,
            is_leased: true,
            remembered: 0,
        };
        let plots = plots(&[rates], 1_000);
        let last: Vec<_> = plots[0].lines.iter().map(|line| line.last.as_str()).collect();
        assert_eq!(last, ["1.00", "35.0", "9.00"]);
        assert!(plots.iter().all(|plot| plot.lines.iter().all(|line| !line.class.is_empty())));
        assert_eq!(plots[3].lines[0].path, "");
    }
}
