//! The speed of the server and of the library, each figure beside a baseline that is measured in the same run.
//! `scripts/bench` is the command; `docs/benchmarks.md` says how each figure is measured, and has the numbers.
//!
//! All load is closed-loop, bounded in time and stays on this machine. Rounds of a figure and of its baseline take
//! turns, so that other work on the machine meets both alike.

mod apps;
mod introspect;
mod issue;
mod issue_http;
mod library;
mod memory;
mod options;
mod postgres;
mod process;
mod protected;
mod purge;
mod revoke;
mod revoke_http;
mod rows;
mod server;
mod setup;
mod sign;
mod statistics;
mod table;
mod wrk;

use std::error::Error;
use std::path::PathBuf;

use options::Options;
use postgres::Postgres;
use table::Table;

/// As the server has it, so that what runs in this process is like it, the baselines too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// The names of the figures, in their order.
const FIGURES: [&str; 12] = [
    "protected",
    "introspect",
    "issue",
    "issue-sqlite",
    "issue-http",
    "revoke",
    "revoke-killed",
    "revoke-http",
    "memory",
    "purge",
    "start",
    "sign",
];

/// What all figures share.
pub(crate) struct Bench {
    pub(crate) options: Options,
    pub(crate) postgres: Postgres,
    folder: tempfile::TempDir,
}

impl Bench {
    /// An empty folder of its own for a figure, gone when the run is over.
    pub(crate) fn folder(&self, figure: &str) -> Outcome<PathBuf> {
        let folder = self.folder.path().join(figure);
        std::fs::create_dir(&folder)?;
        Ok(folder)
    }

    /// Says where the run stands.
    pub(crate) fn say(&self, figure: &str, step: impl std::fmt::Display) {
        eprintln!("{figure}: {step}");
    }
}

fn main() -> Outcome<()> {
    // Cargo passes `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let Some(served) = apps::serve(&args) {
        return served;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let [name, tokens] = args.as_slice()
        && name == memory::CHILD
    {
        return runtime.block_on(memory::remember(tokens.as_ref()));
    }
    let options = Options::read(&args, &FIGURES)?;
    runtime.block_on(measure(options))
}

async fn measure(options: Options) -> Outcome<()> {
    let bench = Bench { options, postgres: Postgres::start()?, folder: tempfile::tempdir()? };
    let mut table = Table::default();
    let failed = figures(&bench, &mut table).await;
    let (rounds, seconds) = (bench.options.rounds, bench.options.seconds);
    println!("Rounds of {seconds} s: {rounds}. The median, and in brackets its interval.\n");
    table.print();
    if failed.is_empty() { Ok(()) } else { Err(format!("not measured: {}", failed.join(", ")).into()) }
}

/// Measures what is asked for, and gives the names of the figures that could not be measured: the others are there
/// then.
async fn figures(bench: &Bench, table: &mut Table) -> Vec<&'static str> {
    let mut failed = Vec::new();
    for figure in FIGURES.into_iter().filter(|figure| bench.options.wants(figure)) {
        let outcome = match figure {
            "protected" => protected::measure(bench, table).await,
            "introspect" => introspect::measure(bench, table).await,
            "issue" => issue::on_postgres(bench, table).await,
            "issue-sqlite" => issue::on_sqlite(bench, table).await,
            "issue-http" => issue_http::measure(bench, table).await,
            "revoke" => revoke::healthy(bench, table).await,
            "revoke-killed" => revoke::one_killed(bench, table).await,
            "revoke-http" => revoke_http::measure(bench, table).await,
            "memory" => memory::measure(bench, table).await,
            // Both work on the same table, which takes minutes to make.
            "purge" => purge::measure(bench, table).await,
            "start" if bench.options.wants("purge") => Ok(()),
            "start" => purge::measure(bench, table).await,
            "sign" => sign::measure(bench, table).await,
            other => Err(format!("{other} is no figure").into()),
        };
        if let Err(error) = outcome {
            bench.say(figure, format!("FAILED: {error}"));
            failed.push(figure);
        }
    }
    failed
}
