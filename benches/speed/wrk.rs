//! The load on servers: wrk, closed-loop, bounded in time, one thread, so that it leaves as much of the machine as it
//! can.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;

/// Keep-alive connections, where a figure doesn't say otherwise.
pub(crate) const CONNECTIONS: u32 = 64;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/speed/requests.lua");

/// Requests in a file, as `requests.lua` reads them.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    file: PathBuf,
    pub(crate) count: usize,
    once: bool,
}

/// What wrk measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loaded {
    pub(crate) requests: usize,
    pub(crate) per_second: f64,
    pub(crate) p99_millis: f64,
}

impl Requests {
    /// One request with each of these tokens.
    pub(crate) fn with_tokens(file: PathBuf, method: &str, path: &str, tokens: &[String]) -> Outcome<Self> {
        Self::write(file, tokens.iter().map(|token| format!("{method}\t{path}\tBearer {token}\t")))
    }

    /// Requests as lines of the file.
    pub(crate) fn write(file: PathBuf, lines: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut text = String::new();
        let mut count = 0;
        for line in lines {
            writeln!(text, "{line}")?;
            count += 1;
        }
        fs::write(&file, text)?;
        Ok(Self { file, count, once: false })
    }

    /// None of them twice: a run fails where they don't last.
    pub(crate) fn once(self) -> Self {
        Self { once: true, ..self }
    }

    /// Puts load on the server at this port.
    pub(crate) fn send(&self, port: u16, connections: u32, seconds: u64) -> Outcome<Loaded> {
        self.run(0, port, connections, seconds)
    }

    /// Sends each of them at least once.
    pub(crate) fn send_all(&self, port: u16, connections: u32) -> Outcome<()> {
        let mut sent = 0;
        while sent < self.count {
            sent += self.run(sent, port, connections, 1)?.requests;
        }
        Ok(())
    }

    fn run(&self, first: usize, port: u16, connections: u32, seconds: u64) -> Outcome<Loaded> {
        let then = if self.once { "once" } else { "again" };
        run(&self.file, first, then, port, connections, seconds)
    }
}

fn run(file: &Path, first: usize, then: &str, port: u16, connections: u32, seconds: u64) -> Outcome<Loaded> {
    let output = Command::new("wrk")
        .args(["--threads", "1", "--connections", &connections.to_string(), "--duration", &format!("{seconds}s")])
        .args(["--latency", "--timeout", "10s", "--script", SCRIPT, &format!("http://127.0.0.1:{port}/"), "--"])
        .arg(file)
        .args([&first.to_string(), then])
        .output()
        .map_err(|error| format!("wrk can't be run ({error}): install it"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() || text.contains("Non-2xx") || text.contains("Socket errors") {
        let cause = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: not every request succeeded\n{text}{cause}", file.display()).into());
    }
    // "  123456 requests in 5.00s, 20.00MB read", "Requests/sec:  24691.20" and "     99%    1.20ms"
    let word = |line: &str, number: usize| -> Outcome<String> {
        let line = text.lines().find(|found| found.contains(line));
        let word = line.and_then(|line| line.split_whitespace().nth(number));
        Ok(word.ok_or("wrk's report can't be read")?.to_owned())
    };
    Ok(Loaded {
        requests: word(" requests in ", 0)?.parse()?,
        per_second: word("Requests/sec:", 1)?.parse()?,
        p99_millis: millis(&word(" 99% ", 1)?)?,
    })
}

/// "250.00us", "1.20ms", "1.02s"
fn millis(text: &str) -> Outcome<f64> {
    for (unit, millis) in [("us", 0.001), ("ms", 1.0), ("s", 1_000.0)] {
        if let Some(number) = text.strip_suffix(unit)
            && let Ok(number) = number.parse::<f64>()
        {
            return Ok(number * millis);
        }
    }
    Err(format!("wrk's report can't be read: {text}").into())
}
