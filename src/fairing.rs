//! The fairing: opens the registry at ignition, runs its background tasks while the application serves.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rocket::fairing::{Info, Kind};
use rocket::{Build, Orbit, Rocket, async_trait};

use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::error::Error;
use crate::guard::DenialCatcher;
use crate::registry::{Registry, Tasks};

/// How long a shutdown waits for the background tasks; Rocket itself would wait for ever.
const DRAIN: Duration = Duration::from_secs(5);

/// Adds a token registry to a Rocket application, by the settings in its `Rocket.toml` and the environment.
///
/// A missing or broken setting stops the launch with one sentence in the log. A database that can't be reached does
/// not: requests are answered 503 until it is there.
///
/// ```no_run
/// #[rocket::launch]
/// fn app() -> _ {
///     rocket::build().attach(counterfoil::fairing())
/// }
/// ```
pub fn fairing() -> Fairing {
    Fairing {
        settings: None,
        clock: Arc::new(SystemClock),
        registry: None,
        keeps_samples: false,
        tasks: std::sync::Mutex::new(None),
    }
}

/// What [`fairing()`] returns.
///
/// At ignition it opens the [`Registry`] and has Rocket manage it, so that routes can take `&State<Registry>`, and
/// registers catchers at `/` that answer refusals, for the statuses that the application doesn't catch itself: attach
/// it after whatever registers catchers there. At liftoff it starts the background tasks (the purge among them), and at
/// shutdown it stops them.
///
/// It leaves the connections to the database open, since requests may still run then. An application that wants them
/// closed in an orderly way calls [`Registry::close`] after its launch has returned:
///
/// ```no_run
/// use counterfoil::Registry;
///
/// #[rocket::main]
/// async fn main() -> Result<(), rocket::Error> {
///     let rocket = rocket::build().attach(counterfoil::fairing()).launch().await?;
///     if let Some(registry) = rocket.state::<Registry>() {
///         registry.close().await;
///     }
///     Ok(())
/// }
/// ```
///
/// A test gives it an in-memory database and a clock of its own:
///
/// ```
/// use counterfoil::{ManualClock, Settings};
///
/// # rocket::async_test(async {
/// let clock = ManualClock::here();
/// let app = rocket::build().attach(counterfoil::fairing().settings(Settings::for_tests()).clock(clock.clone()));
/// let client = rocket::local::asynchronous::Client::tracked(app).await?;
/// # Ok::<(), rocket::Error>(()) }).unwrap();
/// ```
#[must_use = "it does nothing until it is attached"]
pub struct Fairing {
    settings: Option<Settings>,
    clock: Arc<dyn Clock>,
    registry: Option<Registry>,
    keeps_samples: bool,
    /// Between liftoff and shutdown.
    tasks: std::sync::Mutex<Option<Tasks>>,
}

impl Fairing {
    /// With these settings instead of the application's.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// With another clock than the machine's.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// With a registry that is open already, its settings and clock included. Its background tasks are this fairing's
    /// from then on ([`run`](Registry::run)), and Rocket manages it, so that the application does not: a registry goes
    /// to one application of a process.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// With samples of what is counted, for the overview of the last hour.
    #[cfg(feature = "server")]
    pub(crate) fn with_samples(mut self) -> Self {
        self.keeps_samples = true;
        self
    }

    async fn open(&self, rocket: &Rocket<Build>) -> Result<Registry, Error> {
        if rocket.state::<Registry>().is_some() {
            return Err(Error::config("the application manages a registry already: give it to the fairing instead"));
        }
        if let Some(registry) = &self.registry {
            return Ok(registry.clone());
        }
        let settings = match &self.settings {
            Some(settings) => settings.clone(),
            None => Settings::from_figment(rocket.figment())?,
        };
        Registry::open(settings, self.clock.clone()).await
    }
}

impl std::fmt::Debug for Fairing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fairing").finish_non_exhaustive()
    }
}

#[async_trait]
impl rocket::fairing::Fairing for Fairing {
    fn info(&self) -> Info {
        Info { name: "Counterfoil", kind: Kind::Ignite | Kind::Liftoff | Kind::Shutdown | Kind::Singleton }
    }

    async fn on_ignite(&self, rocket: Rocket<Build>) -> rocket::fairing::Result {
        match self.open(&rocket).await {
            Ok(registry) => {
                let caught: Vec<_> = rocket.catchers().cloned().collect();
                let rocket = match registry.settings().ip_header.as_deref() {
                    None => rocket,
                    Some(name) => {
                        // Rocket's word for none is `false`.
                        let figment = rocket.figment().clone();
                        let figment = match name {
                            "" => figment.merge(("ip_header", false)),
                            name => figment.merge(("ip_header", name)),
                        };
                        rocket.configure(figment)
                    }
                };
                Ok(rocket.register("/", DenialCatcher::missing_from(&caught)).manage(registry))
            }
            Err(error) => {
                // Rocket only reports that the fairing failed. Without a subscriber this reaches Rocket's own log.
                tracing::error!("counterfoil can't start: {}", error.in_full());
                Err(rocket)
            }
        }
    }

    async fn on_liftoff(&self, rocket: &Rocket<Orbit>) {
        if let Some(registry) = rocket.state::<Registry>() {
            if self.keeps_samples {
                registry.keep_samples();
            }
            *self.tasks.lock().unwrap_or_else(PoisonError::into_inner) = Some(registry.run());
        }
    }

    async fn on_shutdown(&self, _rocket: &Rocket<Orbit>) {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tasks) = tasks {
            tasks.stop(DRAIN).await;
        }
    }
}
