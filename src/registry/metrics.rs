//! What the registry counts, in the text format of Prometheus. Every registry has its own counters: nothing is global.

use std::time::Duration;

use prometheus::core::Metric;
use prometheus::{Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, TextEncoder};

use super::samples::{ACKNOWLEDGE_BOUNDS, ANSWERS, Counters, OUTCOMES};
use crate::error::Error;
use crate::store::PoolUse;
use crate::token::{Claims, Denial};

pub(crate) struct Metrics {
    registry: prometheus::Registry,
    issued: IntCounterVec,
    checks: IntCounterVec,
    /// Of each outcome that a check may have.
    outcomes: [IntCounter; OUTCOMES.len()],
    check_seconds: Histogram,
    answers: [IntCounter; ANSWERS.len()],
    acknowledge_seconds: Histogram,
    leased: IntGauge,
    lag: IntGauge,
    silence: prometheus::Gauge,
    replicas: IntGauge,
    remembered: IntGauge,
    remembered_bytes: IntGauge,
    revocations: IntCounterVec,
    unrevocations: IntCounter,
    reuses: IntCounter,
    purged: IntCounter,
    purge_backlog: IntGauge,
    login_failures: IntCounter,
    records: IntGauge,
    pool: prometheus::IntGaugeVec,
}

impl Metrics {
    pub(super) fn new() -> Result<Self, Error> {
        Self::build().map_err(|error| Error::internal("the metrics can't be set up").with_source(error))
    }

    fn build() -> Result<Self, prometheus::Error> {
        // All but the last two: a check takes no longer.
        let buckets = ACKNOWLEDGE_BOUNDS[..12].to_vec();
        let counters = |name: &str, help: &str, label: &str| IntCounterVec::new(Opts::new(name, help), &[label]);
        let gauge = |name: &str, help: &str| IntGauge::new(name, help);
        let checks = counters("counterfoil_checks_total", "Tokens checked, by outcome.", "outcome")?;
        let answers = counters(
            "counterfoil_check_answers_total",
            "Checks by where the answer came from: memory, the database under a lease, the database without one.",
            "from",
        )?;
        let metrics = Self {
            registry: prometheus::Registry::new(),
            issued: counters("counterfoil_issued_total", "Tokens issued, by type.", "type")?,
            // Looked up once: this is on the way of every request.
            outcomes: OUTCOMES.map(|outcome| checks.with_label_values(&[outcome])),
            checks,
            check_seconds: Histogram::with_opts(
                HistogramOpts::new("counterfoil_check_seconds", "How long checks took that asked the database.")
                    .buckets(buckets),
            )?,
            answers: ANSWERS.map(|from| answers.with_label_values(&[from])),
            acknowledge_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "counterfoil_acknowledge_seconds",
                    "How long changes waited after their commit until they were in force everywhere.",
                )
                .buckets(ACKNOWLEDGE_BOUNDS.to_vec()),
            )?,
            leased: gauge("counterfoil_leased", "1 while checks may be answered from memory.")?,
            lag: gauge("counterfoil_changes_behind", "Changes that this process has not applied yet.")?,
            silence: prometheus::Gauge::new(
                "counterfoil_database_silence_seconds",
                "How long ago the database last answered the task that follows its changes.",
            )?,
            replicas: gauge("counterfoil_replicas", "Processes that answer from memory.")?,
            remembered: gauge("counterfoil_remembered_tokens", "Tokens that are remembered.")?,
            remembered_bytes: gauge("counterfoil_remembered_bytes", "Bytes that they take.")?,
            revocations: counters(
                "counterfoil_revocations_total",
                "Acknowledged revocations, by what was revoked.",
                "of",
            )?,
            reuses: IntCounter::new(
                "counterfoil_refresh_reuses_total",
                "Refresh tokens that were used twice, so that their sessions were ended.",
            )?,
            unrevocations: IntCounter::new("counterfoil_unrevocations_total", "Acknowledged un-revocations.")?,
            purged: IntCounter::new("counterfoil_purged_records_total", "Expired records removed by this process.")?,
            purge_backlog: IntGauge::new(
                "counterfoil_purge_backlog_records",
                "Expired records when the last purge of this process ended, counted up to 100000.",
            )?,
            login_failures: IntCounter::new(
                "counterfoil_login_failures_total",
                "Log-ins with a wrong name or password, or over the account's limit.",
            )?,
            records: IntGauge::new(
                "counterfoil_records",
                "Records held, live and expired; an estimate on large tables.",
            )?,
            pool: prometheus::IntGaugeVec::new(
                Opts::new("counterfoil_pool_connections", "Database connections, by state."),
                &["state"],
            )?,
        };
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.issued.clone()))?;
        registry.register(Box::new(metrics.checks.clone()))?;
        registry.register(Box::new(metrics.check_seconds.clone()))?;
        registry.register(Box::new(answers))?;
        registry.register(Box::new(metrics.acknowledge_seconds.clone()))?;
        for gauge in [&metrics.leased, &metrics.lag, &metrics.replicas, &metrics.remembered, &metrics.remembered_bytes]
        {
            registry.register(Box::new(gauge.clone()))?;
        }
        registry.register(Box::new(metrics.silence.clone()))?;
        registry.register(Box::new(metrics.revocations.clone()))?;
        registry.register(Box::new(metrics.unrevocations.clone()))?;
        registry.register(Box::new(metrics.reuses.clone()))?;
        registry.register(Box::new(metrics.purged.clone()))?;
        registry.register(Box::new(metrics.purge_backlog.clone()))?;
        registry.register(Box::new(metrics.login_failures.clone()))?;
        registry.register(Box::new(metrics.records.clone()))?;
        registry.register(Box::new(metrics.pool.clone()))?;
        Ok(metrics)
    }

    pub(super) fn checked(&self, denial: Option<&Denial>) {
        match denial {
            None => self.outcomes[0].inc(),
            Some(denial) => self.checks.with_label_values(&[denial.code()]).inc(),
        }
    }

    /// A check was answered from memory.
    pub(super) fn hit(&self) {
        self.answers[0].inc();
    }

    /// A check asked the database: because the token is new, or because there is no lease.
    pub(super) fn asked(&self, is_leased: bool, took: Duration) {
        self.answers[if is_leased { 1 } else { 2 }].inc();
        self.check_seconds.observe(took.as_secs_f64());
    }

    /// A change was in force everywhere, this long after its commit.
    pub(super) fn acknowledged(&self, took: Duration) {
        self.acknowledge_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn issued(&self, access: &Claims, with_refresh: bool) {
        self.issued.with_label_values(&[access.token_type.as_str()]).inc();
        if with_refresh {
            self.issued.with_label_values(&["refresh"]).inc();
        }
    }

    pub(super) fn revoked(&self, of: &str) {
        self.revocations.with_label_values(&[of]).inc();
    }

    pub(super) fn unrevoked(&self) {
        self.unrevocations.inc();
    }

    /// A refresh token was used twice.
    pub(super) fn reused(&self) {
        self.reuses.inc();
    }

    pub(super) fn purged(&self, records: u64) {
        self.purged.inc_by(records);
    }

    pub(super) fn purge_backlog(&self, records: u64) {
        self.purge_backlog.set(gauged(records));
    }

    pub(crate) fn login_failed(&self) {
        self.login_failures.inc();
    }

    /// What the counters have come to.
    pub(crate) fn counters(&self) -> Counters {
        let sum = |counters: &IntCounterVec, labels: &[&str]| -> u64 {
            labels.iter().map(|label| counters.with_label_values(&[*label]).get()).sum()
        };
        let acknowledged = self.acknowledge_seconds.metric();
        let histogram = acknowledged.get_histogram();
        let mut acknowledge_buckets = [0; ACKNOWLEDGE_BOUNDS.len()];
        for (count, bucket) in acknowledge_buckets.iter_mut().zip(histogram.get_bucket()) {
            *count = bucket.cumulative_count();
        }
        Counters {
            checks: std::array::from_fn(|i| self.outcomes[i].get()),
            answers: std::array::from_fn(|i| self.answers[i].get()),
            issued: sum(&self.issued, &["access", "refresh"]),
            revoked: sum(&self.revocations, &["token", "session", "subject"]),
            purged: self.purged.get(),
            acknowledged: histogram.get_sample_count(),
            acknowledge_seconds: histogram.get_sample_sum(),
            acknowledge_buckets,
        }
    }

    /// The text of a scrape.
    pub(super) fn render(&self, now: &Snapshot) -> Result<String, Error> {
        let Snapshot { pool, .. } = now;
        if let Some(records) = now.records {
            self.records.set(gauged(records));
        }
        if let Some((replicas, last)) = now.replicas {
            self.replicas.set(gauged(replicas as u64));
            self.lag.set(if now.is_replica { (last - now.applied).max(0) } else { 0 });
        }
        self.leased.set(now.is_leased.into());
        self.silence.set(if now.is_replica { now.silence.as_secs_f64() } else { 0.0 });
        self.remembered.set(gauged(now.remembered.0 as u64));
        self.remembered_bytes.set(gauged(now.remembered.1));
        self.pool.with_label_values(&["idle"]).set(pool.idle.into());
        self.pool.with_label_values(&["used"]).set(pool.open.saturating_sub(pool.idle).into());
        self.pool.with_label_values(&["max"]).set(pool.max.into());
        let mut text = Vec::new();
        let rendered = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        rendered.map_err(|error| Error::internal("the metrics can't be written").with_source(error))?;
        String::from_utf8(text).map_err(|error| Error::internal("the metrics are not text").with_source(error))
    }
}

/// What is read at the moment of a scrape. What the database can't be asked for keeps its last value.
pub(crate) struct Snapshot {
    pub(crate) records: Option<u64>,
    pub(crate) pool: PoolUse,
    /// How many there are, and the number of the last change.
    pub(crate) replicas: Option<(usize, i64)>,
    pub(crate) is_replica: bool,
    pub(crate) is_leased: bool,
    pub(crate) applied: i64,
    pub(crate) silence: Duration,
    /// Tokens and bytes.
    pub(crate) remembered: (usize, u64),
}

fn gauged(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use crate::clock::ManualClock;
    use crate::config::Settings;
    use crate::registry::{Expect, Grant, Registry};
    use crate::token::Actor;

    #[tokio::test]
    async fn what_happens_is_counted() {
        let clock = ManualClock::here();
        let registry = Registry::open(Settings::for_tests(), clock.clone()).await.unwrap();
        let issued = registry.issue(Grant::to("alice".parse().unwrap())).await.unwrap();
        let (jti, by) = (issued.access_claims().jti, Actor::application("test"));
        let check = async || registry.check(issued.access_token(), Expect::access()).await;
        check().await.unwrap();
        registry.revoke(jti, by.clone()).await.unwrap();
        check().await.unwrap_err();
        registry.unrevoke(jti, by.clone()).await.unwrap();
        registry.end_session(issued.access_claims().sid, by.clone()).await.unwrap();
        registry.revoke_all(&"alice".parse().unwrap(), None, by).await.unwrap();
        clock.advance(Duration::from_secs(60 * 60));
        registry.purge().await.unwrap();

        let text = registry.metrics_text().await.unwrap();
        for line in [
            r#"counterfoil_issued_total{type="access"} 1"#,
            r#"counterfoil_issued_total{type="refresh"} 1"#,
            r#"counterfoil_checks_total{outcome="accepted"} 1"#,
            r#"counterfoil_checks_total{outcome="token_revoked"} 1"#,
            "counterfoil_check_seconds_count 2",
            r#"counterfoil_revocations_total{of="token"} 1"#,
            r#"counterfoil_revocations_total{of="session"} 1"#,
            r#"counterfoil_revocations_total{of="subject"} 1"#,
            "counterfoil_unrevocations_total 1",
            "counterfoil_purged_records_total 1",
            "counterfoil_purge_backlog_records 0",
            "counterfoil_records 1",
            r#"counterfoil_pool_connections{state="max"} 1"#,
        ] {
            assert!(text.lines().any(|written| written == line), "{line} is not in:\n{text}");
        }

        let documented: BTreeSet<&str> = include_str!("../../docs/operations.md")
            .lines()
            .filter_map(|line| line.strip_prefix("| `counterfoil_"))
            .filter_map(|rest| rest.split(['`', '{']).next())
            .collect();
        let counted: BTreeSet<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE counterfoil_"))
            .filter_map(|rest| rest.split(' ').next())
            .collect();
        assert_eq!(counted, documented);
    }
}
