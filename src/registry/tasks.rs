//! The registry's background work: waiting for a database that is down, following the log of changes, purging, looking
//! after the keys, noting last use.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Registry;
use crate::config::Consistency;

/// How long a task that panicked waits before it starts again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// The background work of a registry, as [`Registry::run`] starts it. Dropping it aborts it.
#[derive(Debug)]
#[must_use = "dropping it ends the work"]
pub struct Tasks {
    stop: watch::Sender<bool>,
    running: JoinSet<()>,
}

/// Tells a task that it is to stop.
#[derive(Clone)]
pub(super) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Waits until the task is to stop: when it is told to, and when nobody is left who could tell it.
    pub(super) async fn asked(&mut self) {
        let _ = self.0.wait_for(|asked| *asked).await;
    }
}

impl Registry {
    /// Starts the background work: reaching a database that was down, the lease by which checks ask none, following
    /// what other processes change, the purge, the keys, notes of last use. [`fairing()`](crate::fairing()) does it by
    /// itself; a program that opens its own registry, and lives longer than a command, does it once and keeps what it
    /// is given. Without it every check asks the database, a database that was down at the opening stays away, and a
    /// key that others rotated goes on signing here until nobody accepts it any more.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use counterfoil::{Grant, Registry, Settings, SystemClock};
    ///
    /// # rocket::async_test(async {
    /// let registry = Registry::open(Settings::for_tests(), SystemClock).await?;
    /// let tasks = registry.run();
    /// registry.issue(Grant::to("nightly-report".parse()?)).await?;
    /// tasks.stop(Duration::from_secs(5)).await;
    /// registry.close().await;
    /// # Ok::<(), counterfoil::Error>(()) }).unwrap();
    /// ```
    pub fn run(&self) -> Tasks {
        let (stop, asked) = watch::channel(false);
        let mut tasks = Tasks { stop, running: JoinSet::new() };
        let registry = self;
        let stop = Stop(asked);
        tasks.keep_up_freely("opening", stop.clone(), registry, |registry| async move {
            registry.keep_opening().await;
        });
        if registry.settings().consistency == Consistency::Leased {
            tasks.keep_up("following", stop.clone(), registry, |registry, stop| async move {
                registry.keep_following(stop).await;
            });
            tasks.keep_up_freely("listening", stop.clone(), registry, |registry| async move {
                registry.keep_listening().await;
            });
        }
        tasks.keep_up_freely("feed", stop.clone(), registry, |registry| async move {
            registry.keep_telling().await;
        });
        tasks.keep_up("purge", stop.clone(), registry, |registry, stop| async move {
            registry.keep_purging(stop).await;
        });
        tasks.keep_up("keys", stop.clone(), registry, |registry, stop| async move {
            registry.keep_keys(stop).await;
        });
        if registry.keeps_samples() {
            tasks.keep_up_freely("samples", stop.clone(), registry, |registry| async move {
                registry.keep_sampling().await;
            });
        }
        tasks.keep_up_freely("last use", stop, registry, |registry| async move {
            registry.keep_flushing_last_used().await;
        });
        tasks
    }
}

impl Tasks {
    /// Runs a task, again where it panics: a registry that has silently ceased to purge would grow for ever.
    fn keep_up<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        name: &'static str,
        stop: Stop,
        registry: &Registry,
        task: impl Fn(Registry, Stop) -> F + Send + 'static,
    ) {
        let registry = registry.clone();
        self.running.spawn(async move {
            loop {
                // A set and not a handle: it aborts what it runs when it is dropped itself.
                let mut one = JoinSet::new();
                one.spawn(task(registry.clone(), stop.clone()));
                match one.join_next().await {
                    Some(Err(error)) if error.is_panic() => {
                        tracing::error!(task = name, "a background task panicked, and is started again");
                        tokio::time::sleep(RESTART_PAUSE).await;
                    }
                    _ => return,
                }
            }
        });
    }

    /// The same for a task that may be dropped wherever it waits.
    fn keep_up_freely<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        name: &'static str,
        stop: Stop,
        registry: &Registry,
        task: impl Fn(Registry) -> F + Send + 'static,
    ) {
        self.keep_up(name, stop, registry, move |registry, mut stop| {
            let work = task(registry);
            async move {
                tokio::select! {
                    biased;
                    () = stop.asked() => {}
                    () = work => {}
                }
            }
        });
    }

    /// Stops all of them, each at its next pause, and aborts what has not stopped `within` this time. Every batch is a
    /// transaction, so nothing is left half done.
    pub async fn stop(mut self, within: Duration) {
        self.stop.send_replace(true);
        let drained = tokio::time::timeout(within, async { while self.running.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            tracing::warn!("a background task did not stop in time");
        }
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    use super::*;
    use crate::clock::ManualClock;
    use crate::config::Settings;
    use crate::registry::Grant;
    use crate::store::Job;

    #[tokio::test]
    async fn a_purge_that_is_told_to_stop_gives_its_lease_back() {
        let settings = Settings::for_tests_with(
            r#"
            purge.every = "1s"
            purge.batch = 1
            purge.pause = "1m"
            "#,
        );
        let clock = ManualClock::here();
        let registry = Registry::open(settings.unwrap(), clock.clone()).await.unwrap();
        for _ in 0..3 {
            registry.issue(Grant::to("alice".parse().unwrap()).without_refresh()).await.unwrap();
        }
        clock.advance(Duration::from_secs(60 * 60));

        let tasks = registry.run();
        let began = Instant::now();
        while registry.purgeable().await.unwrap() == 3 {
            assert!(began.elapsed() < Duration::from_secs(20), "the purge does not run");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // It is in its pause of a minute now.
        tasks.stop(Duration::from_secs(10)).await;
        assert!(began.elapsed() < Duration::from_secs(25), "the purge does not stop");
        assert_eq!(registry.purgeable().await.unwrap(), 2);
        let holder = uuid::Uuid::new_v4();
        let now = registry.seconds();
        assert!(
            registry.store().unwrap().hold_job(Job::Purge, holder, now, now + 1).await.unwrap(),
            "the lease is still held"
        );
    }

    #[tokio::test]
    async fn a_task_that_panics_is_started_again() {
        let registry = Registry::open(Settings::for_tests(), ManualClock::here()).await.unwrap();
        let (stop, asked) = watch::channel(false);
        let mut tasks = Tasks { stop, running: JoinSet::new() };
        let starts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&starts);
        tasks.keep_up("test", Stop(asked), &registry, move |_, mut stop| {
            let starts = Arc::clone(&counted);
            async move {
                assert!(starts.fetch_add(1, Ordering::SeqCst) > 0, "the first time it panics");
                stop.asked().await;
            }
        });
        let began = Instant::now();
        while starts.load(Ordering::SeqCst) < 2 {
            assert!(began.elapsed() < Duration::from_secs(20), "it is not started again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tasks.stop(Duration::from_secs(10)).await;
    }
}
