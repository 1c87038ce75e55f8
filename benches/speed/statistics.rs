//! Medians, intervals and percentiles.

/// The median of some values, and how far it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    /// `None` where there is no value.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let outside = outside(sorted.len());
        let median = f64::midpoint(sorted[last / 2], sorted[sorted.len() / 2]);
        Some(Self { median, low: sorted[outside], high: sorted[last - outside] })
    }

    /// `median (low to high)`, or the one value there is.
    pub(crate) fn show(self, digits: usize) -> String {
        let Self { median, low, high } = self;
        let (median, low, high) = (grouped(median, digits), grouped(low, digits), grouped(high, digits));
        if low == high { median } else { format!("{median} ({low} to {high})") }
    }
}

/// How many of the lowest and of the highest values the interval leaves out: as many as keep the chance that the true
/// median lies outside below 5 %, whatever the distribution (order statistics of the binomial). Up to five values that
/// is none: then the interval is that of all values.
fn outside(count: usize) -> usize {
    // With more, the first term would be too small for a number; and as many rounds would take days.
    let count = count.min(1_000);
    // The chance that `k` or fewer of `count` values fall below the median, summed from k = 0.
    let mut term = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut below = 0.0;
    let mut left_out = 0;
    for k in 0..count / 2 {
        below += term;
        if below > 0.025 {
            break;
        }
        left_out = k;
        term *= ratio(count - k, k + 1);
    }
    left_out
}

/// The value that this share of the values, such as 0.99, does not exceed.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank between 0 and the number of values"
    )]
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// One count over another.
#[expect(clippy::cast_precision_loss, reason = "counts and microseconds of a benchmark are far below 2^52")]
pub(crate) fn ratio(over: usize, under: usize) -> f64 {
    over as f64 / under as f64
}

/// Each value over the one of the same round.
pub(crate) fn over(own: &[f64], base: &[f64]) -> Vec<f64> {
    own.iter().zip(base).map(|(own, base)| own / base).collect()
}

/// A number with commas between thousands.
pub(crate) fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = match text.split_once('.') {
        Some((whole, rest)) => (whole, format!(".{rest}")),
        None => (text.as_str(), String::new()),
    };
    let mut grouped = String::new();
    for (at, sign) in whole.char_indices() {
        if at > 0 && (whole.len() - at) % 3 == 0 && grouped != "-" {
            grouped.push(',');
        }
        grouped.push(sign);
    }
    grouped + &rest
}
