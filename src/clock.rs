//! Time, passed in. The machine's time of day is read here alone; how long something takes is measured where it
//! happens.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};

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

    /// How long ago some fixed moment was, by a clock that never goes back and does not stand still while the machine
    /// is suspended: leases are measured by it. Two processes need not agree on it, only on how fast it goes.
    fn steady(&self) -> Duration {
        machine_steady()
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

    fn steady(&self) -> Duration {
        (**self).steady()
    }

    fn now_seconds(&self) -> i64 {
        (**self).now_seconds()
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

/// A process that was suspended must find that its lease is over, which the standard library's clock would not tell it
/// on Linux.
#[cfg(unix)]
fn machine_steady() -> Duration {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(CLOCK);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

/// Windows counts the time of a suspension in the clock of the standard library.
#[cfg(not(unix))]
fn machine_steady() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}

/// A clock that stands still until it is told to move, within the years that can be told.
///
/// Its [`steady`](Clock::steady) time goes on as the machine's does, and what it is told to move comes on top: so
/// leases are renewed while a test runs, and run out when it skips ahead.
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
pub struct ManualClock {
    now_ms: Arc<AtomicI64>,
    start_ms: i64,
}

impl ManualClock {
    /// A clock that shows `seconds` since the epoch.
    pub fn at(seconds: i64) -> Self {
        Self::at_ms(seconds.saturating_mul(1_000))
    }

    /// A clock that shows the machine's time of this moment, and then stands still.
    pub fn here() -> Self {
        Self::at_ms(SystemClock.now().timestamp_millis())
    }

    fn at_ms(start_ms: i64) -> Self {
        Self { now_ms: Arc::new(AtomicI64::new(start_ms)), start_ms }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        let later = |now: i64| Some(now.saturating_add(millis));
        // It always moves.
        let _ = self.now_ms.fetch_update(Ordering::SeqCst, Ordering::SeqCst, later);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        let now_ms = self.now_ms.load(Ordering::SeqCst);
        let farthest = if now_ms < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
        DateTime::from_timestamp_millis(now_ms).unwrap_or(farthest)
    }

    fn reconcile(&self, _database: DateTime<Utc>) -> DateTime<Utc> {
        self.now()
    }

    fn steady(&self) -> Duration {
        let advanced = self.now_ms.load(Ordering::SeqCst).saturating_sub(self.start_ms);
        machine_steady().saturating_add(Duration::from_millis(u64::try_from(advanced).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_stops_at_the_ends_of_time() {
        for seconds in [i64::MIN, -10_000_000_000_000, 0, 10_000_000_000_000, i64::MAX] {
            let clock = ManualClock::at(seconds);
            let before = (clock.now(), clock.steady());
            clock.advance(Duration::MAX);
            clock.advance(Duration::MAX);
            assert!(clock.now() >= before.0 && clock.steady() >= before.1, "{seconds}");
        }
        assert_eq!(ManualClock::at(i64::MAX).now(), DateTime::<Utc>::MAX_UTC);
    }
}
