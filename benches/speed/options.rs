//! What the command line asks for: which figures, how many rounds, how much of everything.

use crate::Outcome;

/// Sizes and lengths of a run.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// How often each case of a figure is measured.
    pub(crate) rounds: usize,
    /// How long each case is measured in each round.
    pub(crate) seconds: u64,
    /// Live records in the table that checks are measured on.
    pub(crate) records: usize,
    /// Distinct tokens in use.
    pub(crate) tokens: usize,
    /// Distinct tokens that memory holds when its bytes are counted.
    pub(crate) remembered: usize,
    /// Records of the table that is purged of half of them, and that a server starts on.
    pub(crate) held: usize,
    /// Revocations in a round.
    pub(crate) revocations: usize,
    figures: Vec<String>,
}

const USAGE: &str = "give the names of figures, or none for all, and before them: --rounds N, --seconds N, --records N, \
                     --tokens N, --held N, or --quick for a try at everything with little of anything";

impl Options {
    /// Reads the arguments; `known` are the names that figures have.
    pub(crate) fn read(args: &[String], known: &[&str]) -> Outcome<Self> {
        let mut options = Self {
            rounds: 15,
            seconds: 5,
            records: 1_000_000,
            tokens: 100_000,
            remembered: 1_000_000,
            held: 5_000_000,
            revocations: 100,
            figures: Vec::new(),
        };
        if args.iter().any(|arg| arg == "--quick") {
            options = Self {
                rounds: 1,
                seconds: 1,
                records: 10_000,
                tokens: 1_000,
                remembered: 5_000,
                held: 50_000,
                revocations: 20,
                ..options
            };
        }
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut number = || args.next().and_then(|text| text.parse::<usize>().ok()).filter(|number| *number > 0);
            match arg.as_str() {
                "--quick" => {}
                "--rounds" => options.rounds = number().ok_or(USAGE)?,
                "--seconds" => options.seconds = number().ok_or(USAGE)? as u64,
                "--held" => options.held = number().ok_or(USAGE)?,
                "--records" => options.records = number().ok_or(USAGE)?,
                "--tokens" => options.tokens = number().ok_or(USAGE)?,
                name if known.contains(&name) => options.figures.push(name.to_owned()),
                name => return Err(format!("{name}? {USAGE}. The figures: {}", known.join(", ")).into()),
            }
        }
        Ok(options)
    }

    /// Whether this figure is asked for.
    pub(crate) fn wants(&self, figure: &str) -> bool {
        self.figures.is_empty() || self.figures.iter().any(|name| name == figure)
    }

    /// As many rounds as asked for, but no more than these: for what takes long and varies little.
    pub(crate) fn rounds_up_to(&self, most: usize) -> usize {
        self.rounds.min(most)
    }
}
