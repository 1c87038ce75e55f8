//! What a run did and found, for whoever reads it.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::history::{History, Verdict};
use super::inject::Counts;
use super::judge::Violation;

/// How many violations are shown.
const SHOWN: usize = 10;

/// Operations, checks by outcome, faults, violations, and what the servers wrote of errors.
pub(super) fn report(
    title: &str,
    history: &History,
    faults: &Counts,
    violations: &[Violation],
    errors: &[String],
) -> String {
    let mut operations: BTreeMap<&str, u64> = BTreeMap::new();
    // One call that was recorded as two counts once.
    for call in history.calls.iter().filter(|call| call.what != "spend") {
        *operations.entry(call.what).or_default() += 1;
    }
    let mut text = format!("{title}\n");
    let mut list = |name: &str, counts: Vec<(String, u64)>| {
        let total: u64 = counts.iter().map(|(_, count)| count).sum();
        let parts: Vec<String> = counts.into_iter().map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(text, "  {name}: {total} ({})", parts.join(", ")).unwrap();
    };
    list("operations", operations.into_iter().map(|(name, count)| (name.to_owned(), count)).collect());
    let checks = [Verdict::Accepted, Verdict::Revoked, Verdict::Unknown, Verdict::Inactive, Verdict::Silent];
    list("tokens presented", checks.map(|verdict| (format!("{verdict:?}"), presented(history, verdict))).into());
    let faults = faults.lock().unwrap();
    list("faults", faults.iter().map(|(fault, count)| (format!("{fault:?}"), (*count).into())).collect());
    writeln!(text, "  violations: {}", violations.len()).unwrap();
    for violation in violations.iter().take(SHOWN) {
        writeln!(text, "    {violation}").unwrap();
    }
    for error in errors.iter().take(SHOWN) {
        writeln!(text, "  {error}").unwrap();
    }
    text
}

/// How many tokens came to this.
pub(super) fn presented(history: &History, verdict: Verdict) -> u64 {
    let presented = history.calls.iter().filter_map(|call| call.presented.as_ref());
    presented.filter(|(_, came_to)| *came_to == verdict).count() as u64
}
