//! Running the server: its runtime, its launch, and what to close when it has stopped.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rocket::Config;
use rocket::error::ErrorKind;
use rocket::figment::Figment;

use crate::clock::SystemClock;
use crate::config::Settings;
use crate::error::Error;
use crate::registry::Registry;

/// How long what still runs may take after the server has stopped.
const LINGER: Duration = Duration::from_millis(500);

/// A setting of Rocket's that is not built in, and that it would pass over in silence.
const TLS: &str = "tls";

/// Where settings come from: `Rocket.toml` (or the file that `ROCKET_CONFIG` names) and the environment.
pub(crate) fn figment() -> Figment {
    Config::figment()
}

/// Serves until it is told to stop. It returns when requests in flight have been answered and the pool is closed.
///
/// # Errors
///
/// One sentence that says why it could not start, or why it stopped by itself.
pub(crate) fn serve(figment: Figment, settings: Settings) -> Result<(), Error> {
    if figment.contains(TLS) {
        return Err(Error::config(
            "tls: this server speaks plain HTTP alone: take it out, and let a proxy in front speak TLS (docs/operations.md)",
        ));
    }
    let config = Config::try_from(&figment).map_err(|error| Error::config(error.to_string()))?;
    if config.workers == 0 || config.max_blocking == 0 {
        return Err(Error::config("workers and max_blocking must be 1 at least"));
    }
    let runtime = rocket::tokio::runtime::Builder::new_multi_thread()
        // By this name Rocket recognises a runtime of its own kind.
        .thread_name("rocket-worker-thread")
        .worker_threads(config.workers)
        .max_blocking_threads(config.max_blocking)
        .enable_all()
        .build()
        .map_err(|error| Error::internal("the runtime can't be started").with_source(error))?;
    let outcome = runtime.block_on(async {
        // Opened here and not by its fairing, which could only tell the log why it can't be.
        let registry = Registry::open(settings, SystemClock).await?;
        let launched = launch(figment, &config, &registry).await;
        // Last of all: until here a request may have needed it.
        registry.close().await;
        launched
    });
    runtime.shutdown_timeout(LINGER);
    outcome
}

async fn launch(figment: Figment, config: &Config, registry: &Registry) -> Result<(), Error> {
    let failure = Failure::default();
    let server = super::build(figment, crate::fairing().registry(registry.clone())).manage(failure.clone());
    let launched = server.launch().await;
    let reason = match launched.as_ref().map_err(rocket::Error::kind) {
        Ok(_) => None,
        // It served, and was told to stop, but a connection outlived its grace period.
        Err(ErrorKind::Shutdown(_, None)) => {
            tracing::warn!("a connection did not end in time");
            None
        }
        Err(ErrorKind::Bind(cause)) => Some(format!("can't listen on {}:{}: {cause}", config.address, config.port)),
        Err(other) => Some(format!("the server can't start: {other}")),
    };
    tracing::info!("stopped");
    match failure.reason().map(str::to_owned).or(reason) {
        Some(reason) => Err(Error::config(reason)),
        None => Ok(()),
    }
}

/// Why the server could not start or stopped by itself: said by the fairing that knows, for whoever launched it. Rocket
/// itself only tells which fairing it was.
#[derive(Debug, Clone, Default)]
pub(super) struct Failure(Arc<OnceLock<String>>);

impl Failure {
    /// The first reason is kept: the others follow from it.
    pub(super) fn set(&self, reason: impl Into<String>) {
        self.0.get_or_init(|| reason.into());
    }

    fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}
