//! What an overview shows of this process and its registry, from the sources of `/metrics` and `/readyz`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::metrics::Snapshot;
use super::samples::{Counters, Rates, SAMPLE_EVERY, Sample};
use super::{Readiness, Registry};
use crate::token::{Replica, Roll};

/// How this process and its registry are just now.
pub(crate) struct Overview {
    pub(crate) readiness: Readiness,
    /// What `/metrics` reads at the moment of a scrape.
    pub(crate) now: Snapshot,
    /// What `/metrics` counts.
    pub(crate) counters: Counters,
    /// The processes that answer from memory; `None` where the database can't be asked.
    pub(crate) roll: Option<Roll>,
    /// What this process waits for.
    pub(crate) waits: Vec<Waited>,
}

/// A change that has waited for others for more than half a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waited {
    /// Since when, by the steady clock.
    pub(crate) since: Duration,
    /// The names of those that have not applied it.
    pub(crate) replicas: Vec<String>,
}

/// The changes of this process that have waited long.
#[derive(Debug, Default)]
pub(super) struct Waits(Mutex<(u64, BTreeMap<u64, Waited>)>);

impl Waits {
    /// Notes one, for as long as what is returned lives.
    pub(super) fn begin(&self, since: Duration, behind: &[Replica]) -> Waiting<'_> {
        let replicas = behind.iter().map(|replica| replica.name.clone()).collect();
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waits.0 += 1;
        let number = waits.0;
        waits.1.insert(number, Waited { since, replicas });
        Waiting { waits: self, number }
    }

    fn all(&self) -> Vec<Waited> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.values().cloned().collect()
    }
}

/// One that waits: also a caller that goes away waits no more.
pub(super) struct Waiting<'a> {
    waits: &'a Waits,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waits.0.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&self.number);
    }
}

impl Registry {
    /// How this process and its registry are just now. It asks the database, and says so where that can't be asked.
    pub(crate) async fn overview(&self) -> Overview {
        let (now, roll) = self.snapshot().await;
        Overview {
            readiness: self.readiness().await,
            now,
            counters: self.inner.metrics.counters(),
            roll,
            waits: self.inner.waits.all(),
        }
    }

    /// What happened in the last hour, a second, from one sample to the next; the oldest first. Empty unless samples
    /// are [kept](Self::keep_samples).
    pub(crate) fn last_hour(&self) -> Vec<Rates> {
        self.inner.samples.lock().unwrap_or_else(PoisonError::into_inner).rates()
    }

    /// Has the counters sampled by the background tasks that are started after this.
    pub(crate) fn keep_samples(&self) {
        self.inner.keeps_samples.store(true, std::sync::atomic::Ordering::Release);
    }

    pub(super) fn keeps_samples(&self) -> bool {
        self.inner.keeps_samples.load(std::sync::atomic::Ordering::Acquire)
    }

    fn sample(&self) {
        let steady = self.clock().steady();
        let sample = Sample {
            at: self.seconds(),
            steady,
            counters: self.inner.metrics.counters(),
            is_leased: self.inner.memory.is_leased(steady),
            remembered: self.inner.memory.size().0 as u64,
        };
        self.inner.samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
    }

    /// Samples, for ever.
    pub(super) async fn keep_sampling(&self) {
        loop {
            self.sample();
            tokio::time::sleep(SAMPLE_EVERY).await;
        }
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::config::Settings;
    use crate::registry::{Expect, Grant};
    use crate::token::Actor;

    #[tokio::test]
    async fn an_overview_says_what_the_metrics_say() {
        let registry = Registry::open(Settings::for_tests(), ManualClock::here()).await.unwrap();
        let issued = registry.issue(Grant::to("alice".parse().unwrap())).await.unwrap();
        registry.check(issued.access_token(), Expect::access()).await.unwrap();
        registry.check("x", Expect::access()).await.unwrap_err();
        registry.revoke(issued.access_claims().jti, Actor::application("test")).await.unwrap();

        let overview = registry.overview().await;
        assert_eq!(overview.readiness, Readiness::Ready);
        assert_eq!(overview.now.records, Some(2));
        assert_eq!(overview.roll.map(|roll| roll.replicas.len()), Some(0));
        assert!(overview.waits.is_empty());
        let counters = overview.counters;
        assert_eq!((counters.checks[0], counters.checks[1]), (1, 1));
        assert_eq!((counters.issued, counters.revoked, counters.acknowledged), (2, 1, 1));
        let text = registry.metrics_text().await.unwrap();
        for (outcome, count) in super::super::samples::OUTCOMES.iter().zip(counters.checks) {
            let line = format!("counterfoil_checks_total{{outcome=\"{outcome}\"}} {count}");
            assert!(text.lines().any(|written| written == line), "{line} is not in:\n{text}");
        }
        for (bound, count) in super::super::samples::ACKNOWLEDGE_BOUNDS.iter().zip(counters.acknowledge_buckets) {
            let line = format!("counterfoil_acknowledge_seconds_bucket{{le=\"{bound}\"}} {count}");
            assert!(text.lines().any(|written| written == line), "{line} is not in:\n{text}");
        }
    }

    #[tokio::test]
    async fn samples_are_kept_only_where_they_are_wanted() {
        let open = || Registry::open(Settings::for_tests(), ManualClock::here());
        let (without, with) = (open().await.unwrap(), open().await.unwrap());
        with.keep_samples();
        // On the one thread of this test: a sample of the first would be there before one of the second.
        let tasks = [without.run(), with.run()];
        let count = |registry: &Registry| registry.inner.samples.lock().unwrap().len();
        let began = std::time::Instant::now();
        while count(&with) == 0 {
            assert!(began.elapsed() < Duration::from_secs(20), "no sample is taken");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(count(&without), 0);
        for tasks in tasks {
            tasks.stop(Duration::from_secs(10)).await;
        }
    }

    #[test]
    fn who_is_waited_for_is_known_until_the_wait_ends() {
        let waits = Waits::default();
        let waiting = waits.begin(Duration::from_secs(1), &[]);
        assert_eq!(waits.all(), [Waited { since: Duration::from_secs(1), replicas: Vec::new() }]);
        drop(waiting);
        assert!(waits.all().is_empty());
    }
}
