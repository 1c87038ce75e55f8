//! What the counters were in the last hour, one sample each ten seconds, and what happened a second between two of
//! them. Pure: `overview` takes the samples, in a task of its own, so nothing here is on the way of a check.

use std::collections::VecDeque;
use std::time::Duration;

/// How often a sample is taken.
pub(super) const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// How many samples are kept: those of an hour.
const SAMPLES_MAX: usize = 360;

/// Samples further apart than this have a gap between them: the machine was suspended, or had better things to do.
const GAP: Duration = Duration::from_secs(30);

/// What a check may come to, as the metrics call it.
pub(crate) const OUTCOMES: [&str; 9] = [
    "accepted",
    "token_malformed",
    "token_invalid",
    "token_expired",
    "token_not_yet_valid",
    "token_revoked",
    "token_unknown",
    "token_wrong_type",
    "registry_unavailable",
];

/// Where answers come from, as the metrics call it.
pub(crate) const ANSWERS: [&str; 3] = ["memory", "database", "no_lease"];

/// The upper bounds of the buckets of acknowledgement times, in seconds.
pub(super) const ACKNOWLEDGE_BOUNDS: [f64; 14] =
    [0.000_01, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 2.0, 5.0];

/// What the counters have come to since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Counters {
    /// In the order of [`OUTCOMES`].
    pub(crate) checks: [u64; OUTCOMES.len()],
    /// In the order of [`ANSWERS`].
    pub(crate) answers: [u64; ANSWERS.len()],
    /// Tokens, of both types.
    pub(crate) issued: u64,
    /// Of tokens, sessions and subjects.
    pub(crate) revoked: u64,
    pub(crate) purged: u64,
    /// How many changes were acknowledged, and how long they waited in all, in seconds.
    pub(crate) acknowledged: u64,
    pub(crate) acknowledge_seconds: f64,
    /// How many of them waited for no longer than each of the bounds.
    pub(crate) acknowledge_buckets: [u64; ACKNOWLEDGE_BOUNDS.len()],
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    /// Seconds since the epoch, for people.
    pub(crate) at: i64,
    /// The same moment by the steady clock, which goes on while the machine is suspended.
    pub(crate) steady: Duration,
    pub(crate) counters: Counters,
    pub(crate) is_leased: bool,
    /// Tokens that are remembered.
    pub(crate) remembered: u64,
}

/// What happened between two samples, a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rates {
    /// When the later one was taken, in seconds since the epoch.
    pub(crate) at: i64,
    /// Whether samples are missing before this: a line between the two would be made up.
    pub(crate) after_gap: bool,
    /// In the order of [`OUTCOMES`].
    pub(crate) checks: [f64; OUTCOMES.len()],
    /// In the order of [`ANSWERS`].
    pub(crate) answers: [f64; ANSWERS.len()],
    pub(crate) issued: f64,
    pub(crate) revoked: f64,
    pub(crate) purged: f64,
    /// How long changes waited until they were in force everywhere, in seconds; `None` where there were none. The
    /// second is an estimate from the buckets of what all but one in a hundred did not exceed.
    pub(crate) acknowledge_mean: Option<f64>,
    pub(crate) acknowledge_p99: Option<f64>,
    pub(crate) is_leased: bool,
    pub(crate) remembered: u64,
}

/// The samples of the last hour, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Samples(VecDeque<Sample>);

impl Samples {
    /// Adds a sample; the oldest makes room.
    pub(super) fn push(&mut self, sample: Sample) {
        if self.0.capacity() < SAMPLES_MAX {
            self.0.reserve_exact(SAMPLES_MAX);
        }
        while self.0.len() >= SAMPLES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    #[cfg(all(test, feature = "sqlite"))]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What happened between each two that follow on each other.
    pub(super) fn rates(&self) -> Vec<Rates> {
        let mut all = Vec::with_capacity(self.0.len());
        let mut after_gap = false;
        for (before, after) in self.0.iter().zip(self.0.iter().skip(1)) {
            match between(before, after) {
                Some(rates) => {
                    all.push(Rates { after_gap, ..rates });
                    after_gap = false;
                }
                None => after_gap = true,
            }
        }
        all
    }
}

/// `None` where they are too far apart to say what happened when.
fn between(before: &Sample, after: &Sample) -> Option<Rates> {
    let elapsed = after.steady.checked_sub(before.steady).filter(|elapsed| !elapsed.is_zero() && *elapsed <= GAP)?;
    let (was, is) = (&before.counters, &after.counters);
    let seconds = elapsed.as_secs_f64();
    let rate = |was: u64, is: u64| float(grown(was, is)) / seconds;
    let acknowledged = grown(was.acknowledged, is.acknowledged);
    // One that began anew lasted as long as it says.
    let waited = if is.acknowledged >= was.acknowledged && is.acknowledge_seconds >= was.acknowledge_seconds {
        is.acknowledge_seconds - was.acknowledge_seconds
    } else {
        is.acknowledge_seconds
    };
    let buckets = std::array::from_fn(|i| grown(was.acknowledge_buckets[i], is.acknowledge_buckets[i]));
    Some(Rates {
        at: after.at,
        after_gap: false,
        checks: std::array::from_fn(|i| rate(was.checks[i], is.checks[i])),
        answers: std::array::from_fn(|i| rate(was.answers[i], is.answers[i])),
        issued: rate(was.issued, is.issued),
        revoked: rate(was.revoked, is.revoked),
        purged: rate(was.purged, is.purged),
        acknowledge_mean: (acknowledged > 0).then(|| waited / float(acknowledged)),
        acknowledge_p99: quantile(0.99, acknowledged, &buckets),
        is_leased: after.is_leased,
        remembered: after.remembered,
    })
}

/// By how much a counter grew; one that is smaller than before began anew.
fn grown(was: u64, is: u64) -> u64 {
    is.checked_sub(was).unwrap_or(is)
}

/// Which time a part of all did not exceed, spread evenly within its bucket; beyond the last bound, that bound.
fn quantile(part: f64, all: u64, buckets: &[u64; ACKNOWLEDGE_BOUNDS.len()]) -> Option<f64> {
    if all == 0 {
        return None;
    }
    let wanted = part * float(all);
    let (mut below, mut from) = (0.0, 0.0);
    for (count, bound) in buckets.iter().zip(ACKNOWLEDGE_BOUNDS) {
        let up_to = float(*count);
        if up_to >= wanted && up_to > below {
            return Some(from + (bound - from) * (wanted - below) / (up_to - below));
        }
        (below, from) = (up_to, bound);
    }
    Some(from)
}

#[expect(clippy::cast_precision_loss, reason = "a plot needs no more than 52 bits")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: u64, counters: Counters) -> Sample {
        let at = i64::try_from(seconds).unwrap();
        Sample { at, steady: Duration::from_secs(seconds), counters, is_leased: true, remembered: 0 }
    }

    fn issued(seconds: u64, issued: u64) -> Sample {
        sample(seconds, Counters { issued, ..Counters::default() })
    }

    fn rates(samples: impl IntoIterator<Item = Sample>) -> Vec<Rates> {
        let mut ring = Samples::default();
        for sample in samples {
            ring.push(sample);
        }
        ring.rates()
    }

    #[test]
    fn a_rate_is_what_grew_by_the_time_that_passed() {
        let rates = rates([issued(100, 5), issued(110, 25), issued(125, 25)]);
        assert_eq!(rates.iter().map(|rates| (rates.at, rates.issued)).collect::<Vec<_>>(), [(110, 2.0), (125, 0.0)]);
        assert_eq!(rates[0].acknowledge_mean, None);
        assert!(super::tests::rates([]).is_empty() && super::tests::rates([issued(1, 1)]).is_empty());
    }

    #[test]
    fn a_counter_that_began_anew_counts_from_nothing() {
        assert_eq!(rates([issued(100, 1_000), issued(110, 30)])[0].issued, 3.0);
    }

    #[test]
    fn what_happened_in_a_gap_is_not_spread_over_it() {
        let rates = rates([issued(100, 0), issued(110, 10), issued(4_000, 9_999), issued(4_010, 10_009)]);
        assert_eq!(
            rates.iter().map(|rates| (rates.at, rates.issued, rates.after_gap)).collect::<Vec<_>>(),
            [(110, 1.0, false), (4_010, 1.0, true)]
        );
        // Two of one moment say nothing.
        assert!(super::tests::rates([issued(100, 0), issued(100, 10)]).is_empty());
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let mut ring = Samples::default();
        for n in 0..1_000 {
            ring.push(issued(n * 10, n));
        }
        assert_eq!(ring.0.len(), SAMPLES_MAX);
        assert_eq!(ring.0[0].at, 6_400);
        assert!(ring.0.capacity() < 2 * SAMPLES_MAX);
        assert_eq!(ring.rates().len(), SAMPLES_MAX - 1);
    }

    #[test]
    fn acknowledgement_times_come_from_sum_and_buckets() {
        let mut counters = Counters { acknowledged: 100, acknowledge_seconds: 0.2, ..Counters::default() };
        // 90 within 1 ms, all within 5 ms.
        for (count, bound) in counters.acknowledge_buckets.iter_mut().zip(ACKNOWLEDGE_BOUNDS) {
            *count = if bound >= 0.005 {
                100
            } else if bound >= 0.001 {
                90
            } else {
                0
            };
        }
        let rates = rates([sample(0, Counters::default()), sample(10, counters)]);
        assert!((rates[0].acknowledge_mean.unwrap() - 0.002).abs() < 1e-9);
        let p99 = rates[0].acknowledge_p99.unwrap();
        assert!((0.0025..=0.005).contains(&p99), "{p99}");
        let slow = Counters { acknowledged: 1, acknowledge_seconds: 9.0, ..Counters::default() };
        let rates = super::tests::rates([sample(0, Counters::default()), sample(10, slow)]);
        assert_eq!(rates[0].acknowledge_p99, Some(5.0));
    }
}
