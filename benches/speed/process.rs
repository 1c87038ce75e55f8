//! What `/proc` tells of processes: CPU time and memory.

use std::fs;

use crate::Outcome;

/// The kernel's unit of CPU time in `/proc`, in microseconds.
const TICK_MICROS: u64 = 10_000;

/// CPU time of one process, user and system, in microseconds (proc(5), `stat`, fields 14 and 15).
pub(crate) fn cpu_micros(pid: u32) -> u64 {
    let ticks = stat_fields(pid).map_or(0, |fields| field(&fields, 14) + field(&fields, 15));
    ticks * TICK_MICROS
}

/// CPU time of a process and its children, which for PostgreSQL is the whole server.
pub(crate) fn family_cpu_micros(pid: u32) -> u64 {
    let is_child = |other: u32| stat_fields(other).is_some_and(|fields| field(&fields, 4) == u64::from(pid));
    processes().filter(|other| *other == pid || is_child(*other)).map(cpu_micros).sum()
}

/// CPU time of the thread that asks, in microseconds. The kernel brings it up to date some hundred times a second.
pub(crate) fn own_thread_cpu_micros() -> Outcome<f64> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos: f64 = stat.split_whitespace().next().ok_or("no CPU time of this thread")?.parse()?;
    Ok(nanos / 1_000.0)
}

/// Memory of a process that is in RAM, in bytes (proc(5), `status`, `VmRSS`).
pub(crate) fn resident_bytes(pid: u32) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("the process has no memory")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1_024)
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The fields of `/proc/<pid>/stat` from the third on; the second may contain spaces.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// A field by its number in proc(5).
fn field(fields: &[String], number: usize) -> u64 {
    fields.get(number - 3).and_then(|field| field.parse().ok()).unwrap_or(0)
}
