//! Time, passed in: the only place that reads a clock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};

/// Tells the time to everything that compares, issues or purges.
///
/// [`SystemClock`] in production; [`ManualClock`] in tests, so that no test waits for an expiry.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// The time now.
    fn now(&self) -> DateTime<Utc>;

    /// The time the purge goes by, given what the database says.
    ///
    /// A real clock must believe the database, which all processes share; a manual one speaks for the database too,
    /// so that a test can make rows expire.
    fn reconcile(&self, database: DateTime<Utc>) -> DateTime<Utc> {
        database
    }

    /// The time now in whole seconds since the epoch (RFC 7519 NumericDate).
    fn now_seconds(&self) -> i64 {
        self.now().timestamp()
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> DateTime<Utc> {
        (**self).now()
    }

    fn reconcile(&self, database: DateTime<Utc>) -> DateTime<Utc> {
        (**self).reconcile(database)
    }
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
        Utc::now()
    }
}

/// A clock that stands still until it is told to move.
///
/// Clones share the same time, so a test keeps one and gives another away.
///
/// ```
/// use std::time::Duration;
/// use counterfoil::{Clock, ManualClock};
///
/// let clock = ManualClock::at(1_700_000_000);
/// let before = clock.now();
/// clock.advance(Duration::from_secs(90));
/// assert_eq!((clock.now() - before).num_seconds(), 90);
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that shows `seconds` since the epoch.
    pub fn at(seconds: i64) -> Self {
        Self(Arc::new(AtomicI64::new(seconds.saturating_mul(1_000))))
    }

    /// A clock that shows the machine's time of this moment, and then stands still.
    pub fn here() -> Self {
        Self(Arc::new(AtomicI64::new(SystemClock.now().timestamp_millis())))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: std::time::Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::milliseconds(self.0.load(Ordering::SeqCst))
    }

    fn reconcile(&self, _database: DateTime<Utc>) -> DateTime<Utc> {
        self.now()
    }
}
