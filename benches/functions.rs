//! What a check costs by itself, without HTTP: `cargo bench --bench functions`. On SQLite, EdDSA, from one thread and
//! from two.

use std::error::Error;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use counterfoil::{Expect, Grant, Registry, Settings, SystemClock};
use divan::Bencher;
use rocket::local::asynchronous::Client;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Tokens that are in memory and looked at in turn: so many that they don't all fit the CPU's caches.
const REMEMBERED: usize = 20_000;
/// Samples of a benchmark on each thread, and calls in each, where every call needs a token that was never seen.
const SAMPLES: u32 = 20;
const CALLS: u32 = 20;
/// Enough for one thread, for two, and for what the benchmark tries at first.
const UNSEEN: usize = 4_000;

fn main() {
    divan::main();
}

struct Fixture {
    runtime: Runtime,
    /// Serves, so that the registry's background tasks run; without a socket.
    _client: Client,
    registry: Registry,
    remembered: Vec<String>,
    unseen: Vec<String>,
    _folder: tempfile::TempDir,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| match prepare() {
    Ok(fixture) => fixture,
    Err(error) => {
        eprintln!("the benchmark can't be prepared: {error}");
        std::process::exit(1);
    }
});

fn prepare() -> Result<Fixture, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let runtime = Runtime::new()?;
    let settings = Settings::for_tests_with(&format!(
        "database_url = \"sqlite://{0}/bench.db\"\nalgorithm = \"EdDSA\"\nkeys.generate = true\n\
         keys.generated_file = \"{0}/key.pem\"\naccess_expires = \"1d\"",
        folder.path().display()
    ))?;
    let (client, registry, tokens) = runtime.block_on(async {
        let registry = Registry::open(settings, SystemClock).await?;
        let quiet = rocket::Config { log_level: rocket::config::LogLevel::Off, ..rocket::Config::release_default() };
        let app = rocket::custom(quiet);
        let app = app.attach(counterfoil::fairing().registry(registry.clone()));
        let client = Client::untracked(app).await.map_err(|error| error.to_string())?;
        let tokens = issue(&registry, REMEMBERED + UNSEEN).await?;
        for token in &tokens[..REMEMBERED] {
            registry.check(token, Expect::access()).await.map_err(|denial| format!("{denial:?}"))?;
        }
        Ok::<_, Box<dyn Error>>((client, registry, tokens))
    })?;
    let (remembered, unseen) = tokens.split_at(REMEMBERED);
    let (remembered, unseen) = (remembered.to_vec(), unseen.to_vec());
    Ok(Fixture { runtime, _client: client, registry, remembered, unseen, _folder: folder })
}

async fn issue(registry: &Registry, count: usize) -> Result<Vec<String>, Box<dyn Error>> {
    const CALLERS: usize = 100;
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let registry = registry.clone();
        callers.spawn(async move {
            let mut tokens = Vec::new();
            for _ in 0..count.div_ceil(CALLERS) {
                let grant = Grant::to("alice".parse()?).without_refresh();
                let issued = registry.issue(grant.access_expires(Duration::from_secs(24 * 60 * 60))).await?;
                tokens.push(issued.access_token().to_owned());
            }
            Ok::<_, counterfoil::Error>(tokens)
        });
    }
    let mut tokens = Vec::new();
    while let Some(done) = callers.join_next().await {
        tokens.extend(done??);
    }
    Ok(tokens)
}

/// A token that memory holds. The answer must be there at once: a hit waits for nothing.
#[divan::bench(threads = [1, 2])]
fn check_remembered(bencher: Bencher<'_, '_>) {
    use rocket::futures::FutureExt;
    let fixture = &*FIXTURE;
    let next = AtomicUsize::new(0);
    // By a step that is prime to their number, so that neighbours in memory don't follow each other.
    let token = || &fixture.remembered[next.fetch_add(7_919, Ordering::Relaxed) % fixture.remembered.len()];
    bencher.with_inputs(token).bench_values(|token| {
        let checked = fixture.registry.check(token, Expect::access()).now_or_never();
        assert!(matches!(checked, Some(Ok(_))), "it is remembered");
    });
}

/// A token that was never seen here: its signature is verified, and its record read from the database.
#[divan::bench(threads = [1, 2], sample_count = SAMPLES, sample_size = CALLS)]
fn check_first_seen(bencher: Bencher<'_, '_>) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let fixture = &*FIXTURE;
    let token = || &fixture.unseen[NEXT.fetch_add(1, Ordering::Relaxed)];
    bencher.with_inputs(token).bench_values(|token| {
        let checked = fixture.runtime.block_on(fixture.registry.check(token, Expect::access()));
        assert!(checked.is_ok(), "it is live");
    });
}
