//! Opening the registry: database, schema, keys, and waiting for a database that is down.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::batch::Batcher;
use super::feed::Hub;
use super::follow::Follower;
use super::last_used::LastUsed;
use super::memory::Memory;
use super::metrics::Metrics;
use super::overview::Waits;
use super::ring::Ring;
use super::{Inner, Registry};
use crate::clock::Clock;
use crate::config::{Consistency, Place, Settings};
use crate::error::{Error, Kind};
use crate::keys::KeySource;
use crate::store::{self, Done, Insert, Revoke, Revoked, Schema, Store};

/// What an opening does where something is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// It makes the database and its keys, and migrates.
    Made,
    /// It refuses.
    #[cfg(feature = "server")]
    Refused,
}

/// The longest pause between two attempts to reach the database.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Whether the registry can be asked, in a fixed word each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// It answers.
    Ready,
    /// Its database can't be asked.
    Database,
    /// Its database has an older or newer schema than this program.
    Migrations,
    /// It has no lease on what it remembers: it answers, but has to ask the database for each token.
    Lease,
}

impl Readiness {
    /// `ready`, `database`, `migrations` or `lease`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Database => "database",
            Self::Migrations => "migrations",
            Self::Lease => "lease",
        }
    }
}

/// Whether the database has been reached and its schema found to be right, since this process began.
pub(super) struct Opening(AtomicU8);

const WAITING: u8 = 0;
const WRONG_SCHEMA: u8 = 1;
const OPEN: u8 = 2;

impl Opening {
    pub(super) fn permit(&self) -> Result<(), Error> {
        match self.0.load(Ordering::Acquire) {
            OPEN => Ok(()),
            WRONG_SCHEMA => Err(Error::unavailable("the database's schema is not the one this program needs")),
            _ => Err(Error::unavailable("the database has not been reached yet")),
        }
    }
}

impl Registry {
    /// Opens the registry: loads the keys, reaches the database and checks or migrates its schema.
    ///
    /// A database that can't be reached doesn't fail the opening: every call answers
    /// [`is_unavailable`](Error::is_unavailable) until it is there, which the background work finds out: see
    /// [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) where a key can't be loaded or opened, or the database refuses the log-in, is
    /// missing, or has another encoding than UTF8; [`is_schema`](Error::is_schema) where its schema is newer, or older
    /// and `migrate` is off.
    pub async fn open(settings: Settings, clock: impl Clock) -> Result<Self, Error> {
        let registry = Self::unopened(settings, clock, Missing::Made)?;
        match registry.try_open(Missing::Made).await {
            Err(error) if error.is_unavailable() => {
                tracing::warn!(error = %error.in_full(), "the database can't be reached; answering 503 until it can");
                Ok(registry)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(registry),
        }
    }

    /// Opens the registry as it is, for one command: neither its database nor keys are made, migrated or replaced,
    /// since what the command goes by may be another's settings, or another directory. Where the database can't be
    /// reached the registry is there all the same, and why is told too.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open), and where the database or its key is not there.
    #[cfg(feature = "server")]
    pub(crate) async fn open_as_is(settings: Settings, clock: impl Clock) -> Result<(Self, Option<Error>), Error> {
        if let Place::File(path) = Place::of(&settings.database_url)
            && !path.exists()
        {
            let path = std::path::absolute(&path).unwrap_or(path);
            return Err(Error::config(format!(
                "database_url: there is no {}: run the command with the settings of the server and in its directory, or \
                 `counterfoil migrate` to begin a registry there",
                path.display()
            )));
        }
        let registry = Self::unopened(settings, clock, Missing::Refused)?;
        match registry.try_open(Missing::Refused).await {
            Err(error) if error.is_unavailable() => Ok((registry, Some(error))),
            Err(error) => Err(error),
            Ok(()) => Ok((registry, None)),
        }
    }

    fn unopened(settings: Settings, clock: impl Clock, missing: Missing) -> Result<Self, Error> {
        // First of all: a database that can't be is no reason to make a key.
        let store = connect(&settings)?;
        let ring = Arc::new(Ring::new(KeySource::load(&settings, missing == Missing::Made)?));
        // Each batch owns what it works with, so that no caller has to stay.
        let of = || store.clone();
        let (asked, naming, inserting, revoking, looking) = (of(), of(), of(), of(), of());
        let (retiring, reading, loaded) = (of(), of(), ring.clone());
        let insert = move |inserts: Arc<[Insert]>| {
            let store = inserting.clone();
            async move { store.insert(&inserts).await }
        };
        Ok(Self {
            inner: Arc::new(Inner {
                statuses: Batcher::reading(store.checks_at_once(), move |ids| {
                    let store = asked.clone();
                    async move { store.status(&ids).await }
                }),
                generations: Batcher::reading(1, move |asked| {
                    let store = naming.clone();
                    async move { store.generations(&asked).await }
                }),
                inserts: match store.inserts_at_once() {
                    1 => Batcher::alone(insert),
                    at_once => Batcher::new(at_once, insert),
                },
                revocations: Batcher::new(1, move |asked| {
                    let store = revoking.clone();
                    async move { revoke_in_turns(&*store, &asked).await }
                }),
                looks: Batcher::reading(1, move |who: Arc<[()]>| {
                    let store = looking.clone();
                    async move {
                        let roll = Arc::new(store.roll().await?);
                        Ok(vec![roll; who.len()])
                    }
                }),
                retirements: Batcher::reading(1, move |kids: Arc<[String]>| {
                    let store = retiring.clone();
                    async move { store.retired(&kids).await }
                }),
                ring_loads: Batcher::reading(1, move |who: Arc<[()]>| {
                    let (ring, store) = (loaded.clone(), reading.clone());
                    async move {
                        ring.load(&*store, false).await?;
                        Ok(who.to_vec())
                    }
                }),
                memory: Memory::new(settings.cache_bytes),
                follower: Follower::new(),
                feed: Hub::new(settings.feed.streams),
                name: own_name(),
                last_used: LastUsed::new(settings.last_used),
                metrics: Metrics::new()?,
                opening: Opening(AtomicU8::new(WAITING)),
                clock: Arc::new(clock),
                settings,
                ring,
                store,
                waits: Waits::default(),
                keeps_samples: AtomicBool::new(false),
                samples: Mutex::default(),
                next_purge: AtomicI64::new(0),
            }),
        })
    }

    /// Whether the registry can be asked now. It asks the database.
    pub async fn readiness(&self) -> Readiness {
        match self.inner.opening.0.load(Ordering::Acquire) {
            WRONG_SCHEMA => Readiness::Migrations,
            OPEN if self.inner.store.time().await.is_err() => Readiness::Database,
            OPEN if self.wants_lease() && !self.is_leased() => Readiness::Lease,
            OPEN => Readiness::Ready,
            _ => Readiness::Database,
        }
    }

    /// Whether checks may be answered from memory just now.
    pub(super) fn is_leased(&self) -> bool {
        self.inner.memory.is_leased(self.clock().steady())
    }

    /// Whether this process is to be a replica: its settings say so, and its background tasks run.
    pub(super) fn wants_lease(&self) -> bool {
        self.inner.follower.is_started()
    }

    /// Applies the missing migrations, all or none, and names them: for a program that opens the registry with
    /// `migrate = false`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) where the database refuses the log-in, is missing, has another encoding than
    /// UTF8, or has its registry behind another schema of the path; [`is_schema`](Error::is_schema) where it has
    /// migrations that this program does not know; [`is_unavailable`](Error::is_unavailable) where it can't be reached.
    pub async fn migrate(settings: &Settings) -> Result<Vec<String>, Error> {
        let store = connect(settings)?;
        let applied = store.migrate().await;
        store.close().await;
        applied
    }

    /// Writes the last uses that are gathered, and closes the connections to the database. Whoever still asks is
    /// refused as unavailable.
    pub async fn close(&self) {
        self.flush_last_used().await;
        self.inner.store.close().await;
        self.inner.memory.rely_until(Duration::ZERO);
    }

    /// Tries until the database has been reached. Returns at once where it has been.
    pub(super) async fn keep_opening(&self) {
        let mut pause = Duration::from_millis(100);
        // An outage may last: what is wrong is said when it changes, and not at every attempt.
        let mut said = None;
        while self.inner.opening.0.load(Ordering::Acquire) != OPEN {
            match self.try_open(Missing::Made).await {
                Ok(()) => tracing::info!("the database has been reached"),
                Err(error) if said.as_ref() != Some(&error.to_string()) => {
                    tracing::warn!(error = %error.in_full(), "the database is not ready yet");
                    said = Some(error.to_string());
                }
                Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    async fn try_open(&self, missing: Missing) -> Result<(), Error> {
        let store = &self.inner.store;
        let schema = store.schema().await?;
        let outcome = match schema {
            Schema::Current => Ok(()),
            Schema::Older(_) if missing == Missing::Made && self.inner.settings.migrate => {
                store.migrate().await.map(|applied| {
                    // Another process may have been first.
                    if !applied.is_empty() {
                        tracing::info!(?applied, "migrated the database");
                    }
                })
            }
            Schema::Older(lacking) => Err(Error::new(
                Kind::Schema,
                format!(
                    "the database lacks {} migration(s) ({}): run `counterfoil migrate`",
                    lacking.len(),
                    lacking.join(", ")
                ),
            )),
            Schema::Newer => Err(Error::new(
                Kind::Schema,
                "the database's schema is newer than this program, or was changed by hand: run the version that made it",
            )),
        };
        let outcome = match outcome {
            Ok(()) if missing == Missing::Made => self.open_keys().await,
            Ok(()) => self.load_ring().await,
            outcome => outcome,
        };
        let state = match &outcome {
            Ok(()) => OPEN,
            Err(error) if error.is_schema() => WRONG_SCHEMA,
            Err(_) => WAITING,
        };
        self.inner.opening.0.store(state, Ordering::Release);
        outcome
    }
}

fn connect(settings: &Settings) -> Result<Arc<dyn Store>, Error> {
    store::connect(&store::Options {
        url: settings.database_url.clone(),
        in_memory: Place::of(&settings.database_url) == Place::Memory,
        connections_max: settings.database_pool,
        listen: settings.listen && settings.consistency == Consistency::Leased,
    })
}

/// Revokes what was asked for together. One id that stands there twice takes two turns: the second finds what the first
/// did.
async fn revoke_in_turns(store: &dyn Store, mut asked: &[Revoke]) -> Result<Vec<Done<Revoked>>, Error> {
    let mut done = Vec::with_capacity(asked.len());
    while !asked.is_empty() {
        let mut seen = HashSet::new();
        let turn = asked.iter().take_while(|revoke| seen.insert(revoke.jti)).count();
        let (now, later) = asked.split_at(turn);
        done.append(&mut store.revoke(now).await?);
        asked = later;
    }
    Ok(done)
}

/// The machine and the process, for people: nothing relies on it.
fn own_name() -> String {
    #[cfg(unix)]
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    let machine = std::env::var("COMPUTERNAME").unwrap_or_default();
    format!("{machine}:{}", std::process::id())
}
