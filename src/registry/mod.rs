//! The registry: issues, checks, revokes, lists and purges. It alone signs and verifies tokens, and asks the store
//! about them.

mod batch;
mod check;
mod checked;
mod confirm;
#[cfg(feature = "server")]
mod console;
mod draft;
mod examine;
mod feed;
mod follow;
mod grant;
mod import;
#[cfg(feature = "server")]
mod inspect;
mod issue;
mod issued;
mod last_used;
mod lease;
mod manage;
mod memory;
mod metrics;
#[cfg(test)]
mod model;
#[cfg(feature = "server")]
mod once;
mod open;
mod overview;
mod purge;
mod refresh;
mod ring;
mod rotate;
mod samples;
mod tasks;

use std::sync::atomic::{AtomicBool, AtomicI64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};

pub use checked::{Checked, Expect};
#[cfg(feature = "server")]
pub(crate) use feed::{Followed, Following};
#[cfg(feature = "server")]
pub(crate) use grant::require_free;
pub use grant::{AsOf, Grant, Personal, Refresh};
#[cfg(feature = "server")]
pub(crate) use import::IMPORTED_CLIENT;
#[cfg(feature = "server")]
pub(crate) use inspect::Inspected;
#[cfg(feature = "server")]
pub(crate) use issue::OWN_CLIENT;
pub use issued::Issued;
pub(crate) use memory::Digest;
#[cfg(feature = "server")]
pub(crate) use memory::Reading;
#[cfg(feature = "server")]
pub(crate) use once::{Once, Repeated};
pub use open::Readiness;
#[cfg(feature = "server")]
pub(crate) use overview::Overview;
pub use purge::{PurgeStatus, Purged};
#[cfg(feature = "server")]
pub(crate) use samples::{ANSWERS, OUTCOMES, Rates};
pub use tasks::Tasks;

use crate::clock::Clock;
use crate::config::Settings;
use crate::error::Error;
pub(crate) use crate::keys::is_same;
#[cfg(feature = "server")]
pub(crate) use crate::store::AuditFilter;
use crate::store::{Done, Generation, Insert, Inserted, Revoke, Revoked, Status, Store};
use crate::token::{Jti, Roll, Rules, Subject};
use batch::Batcher;
use feed::Hub;
use follow::Follower;
use issued::IssuedToken;
use last_used::LastUsed;
use memory::Memory;
use metrics::{Metrics, Snapshot};
use open::Opening;
use overview::Waits;
use ring::Ring;
use samples::Samples;

/// The registry of issued tokens.
///
/// A cheap handle: clones share everything. The [fairing](crate::fairing()) manages one, so that a route takes it as
/// `&State<Registry>`; a test or a program without Rocket opens its own.
///
/// ```
/// use counterfoil::{Expect, Grant, Registry, Settings, SystemClock};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let registry = Registry::open(Settings::for_tests(), SystemClock).await?;
/// let issued = registry.issue(Grant::to("alice".parse()?)).await?;
///
/// let checked = registry.check(issued.access_token(), Expect::access()).await?;
/// assert_eq!(checked.claims().sub.as_str(), "alice");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    clock: Arc<dyn Clock>,
    ring: Arc<Ring>,
    store: Arc<dyn Store>,
    /// What arrives together is asked, issued and revoked together.
    statuses: Batcher<Jti, Option<Status>>,
    generations: Batcher<Subject, Generation>,
    inserts: Batcher<Insert, Inserted>,
    revocations: Batcher<Revoke, Done<Revoked>>,
    looks: Batcher<(), Arc<Roll>>,
    retirements: Batcher<String, bool>,
    ring_loads: Batcher<(), ()>,
    memory: Memory,
    follower: Follower,
    feed: Hub,
    /// What this process is called on the roll of replicas.
    name: String,
    opening: Opening,
    metrics: Metrics,
    last_used: LastUsed,
    /// What this process waits for.
    waits: Waits,
    /// Whether the counters are sampled, and what came of it.
    keeps_samples: AtomicBool,
    samples: Mutex<Samples>,
    /// When this process purges next, in seconds; 0 where it does not.
    next_purge: AtomicI64,
}

impl Registry {
    /// The settings it goes by.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The time it goes by.
    pub fn now(&self) -> DateTime<Utc> {
        self.inner.clock.now()
    }

    /// Everything it counts, in the text format of Prometheus: for an application's own `/metrics`. Where the database
    /// can't be asked, the number of records is the last one known.
    ///
    /// # Errors
    ///
    /// None that a caller could mend: the text can't be written.
    pub async fn metrics_text(&self) -> Result<String, Error> {
        self.inner.metrics.render(&self.snapshot().await.0)
    }

    /// What is read at the moment of a scrape, and the roll that it read.
    async fn snapshot(&self) -> (Snapshot, Option<Roll>) {
        let (mut records, mut roll) = (None, None);
        if let Ok(store) = self.store() {
            records = store.records_held().await.ok();
            roll = store.roll().await.ok();
        }
        let now = self.clock().steady();
        let snapshot = Snapshot {
            records,
            pool: self.inner.store.pool_use(),
            replicas: roll.as_ref().map(|roll| (roll.replicas.len(), roll.position.seq)),
            is_replica: self.wants_lease(),
            is_leased: self.inner.memory.is_leased(now),
            applied: self.inner.follower.applied(),
            silence: self.inner.follower.silence(now),
            remembered: self.inner.memory.size(),
        };
        (snapshot, roll)
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.inner.clock
    }

    /// The store, once the database has been reached and its schema found to be right.
    pub(crate) fn store(&self) -> Result<&dyn Store, Error> {
        self.permit()?;
        Ok(&*self.inner.store)
    }

    /// Whether the store may be asked, directly or with others.
    fn permit(&self) -> Result<(), Error> {
        self.inner.opening.permit()
    }

    /// The time now, in whole seconds.
    pub(crate) fn seconds(&self) -> i64 {
        self.inner.clock.now_seconds()
    }

    fn leeway_seconds(&self) -> i64 {
        whole_seconds(self.inner.settings.leeway)
    }

    /// The time that expiry in the database is judged by: now, less the leeway.
    pub(crate) fn live_at(&self) -> i64 {
        self.seconds() - self.leeway_seconds()
    }

    fn rules<'a>(&'a self, audience: crate::token::AudienceRule<'a>) -> Rules<'a> {
        Rules {
            issuer: &self.inner.settings.issuer,
            audiences: &self.inner.settings.audience,
            audience,
            leeway: self.leeway_seconds(),
            now: self.seconds(),
        }
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("issuer", &self.inner.settings.issuer).finish_non_exhaustive()
    }
}

/// A duration in whole seconds, rounded down.
fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
