//! The library in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use counterfoil::{Expect, Grant, Jti, Registry, Subject};
use rocket::local::asynchronous::Client;
use tokio::task::JoinSet;

use crate::Outcome;
use crate::setup::Setup;
use crate::statistics::ratio;

/// Subjects that tokens are issued to.
const SUBJECTS: usize = 1_000;
/// Callers that issue at once where only the tokens matter.
const CALLERS: usize = 256;
/// Longer than any run.
const LIFETIME: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// A registry with its background tasks, as an application that serves has it: one replica of its database. There is no
/// socket.
pub(crate) struct Replica {
    client: Client,
    pub(crate) registry: Registry,
}

impl Replica {
    pub(crate) async fn open(setup: &Setup) -> Outcome<Self> {
        let registry = Registry::open(setup.settings()?, counterfoil::SystemClock).await?;
        let app = rocket::custom(setup.figment()).attach(counterfoil::fairing().registry(registry.clone()));
        let client = Client::untracked(app).await.map_err(|error| error.to_string())?;
        Ok(Self { client, registry })
    }

    /// Ends it in an orderly way, so that nobody waits for it.
    pub(crate) async fn close(self) {
        self.client.terminate().await;
        self.registry.close().await;
    }
}

/// A token, and its id on the registry.
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) jti: Jti,
}

/// Issues tokens that outlive the run, to a thousand subjects. Some are then checked, since what is measured with a
/// token that is refused is worth nothing.
pub(crate) async fn issue(registry: &Registry, count: usize) -> Outcome<Vec<Token>> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS.min(count) {
        let (registry, next) = (registry.clone(), Arc::clone(&next));
        callers.spawn(async move {
            let mut tokens = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(tokens);
                }
                let grant = Grant::to(subject(number)?).without_refresh().access_expires(LIFETIME);
                let issued = registry.issue(grant).await?;
                tokens.push(Token { text: issued.access_token().to_owned(), jti: issued.access_claims().jti });
            }
        });
    }
    let mut tokens = Vec::with_capacity(count);
    while let Some(done) = callers.join_next().await {
        let some: Result<Vec<Token>, counterfoil::Error> = done?;
        tokens.extend(some?);
    }
    for token in tokens.iter().step_by(count.div_ceil(10)) {
        let checked = registry.check(&token.text, Expect::access()).await;
        checked.map_err(|denial| format!("a token that was just issued is refused: {denial:?}"))?;
    }
    Ok(tokens)
}

/// Tokens that were issued, and how many a second.
pub(crate) struct Issuing {
    pub(crate) count: usize,
    pub(crate) per_second: f64,
}

/// Has so many callers issue tokens, each of which asks for its next when it has the last.
pub(crate) async fn issue_rate(registry: &Registry, callers: usize, seconds: u64) -> Outcome<Issuing> {
    let began = Instant::now();
    let until = began + Duration::from_secs(seconds);
    let mut running = JoinSet::new();
    for caller in 0..callers {
        let registry = registry.clone();
        running.spawn(async move {
            let subject = subject(caller)?;
            let mut issued = 0;
            while Instant::now() < until {
                registry.issue(Grant::to(subject.clone()).without_refresh()).await?;
                issued += 1;
            }
            Ok::<usize, counterfoil::Error>(issued)
        });
    }
    let mut count = 0;
    while let Some(done) = running.join_next().await {
        count += done??;
    }
    Ok(Issuing { count, per_second: ratio(count, 1) / began.elapsed().as_secs_f64() })
}

fn subject(number: usize) -> Result<Subject, counterfoil::Error> {
    format!("user-{}", number % SUBJECTS).parse()
}
