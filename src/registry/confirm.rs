//! After a change: waiting until it is in force in every process.

use std::time::Duration;

use super::Registry;
use super::lease::{Look, Wait};
use crate::error::{Error, Kind};
use crate::store::Done;
use crate::token::{Replica, Roll, Target};

/// How long looks follow on each other without a pause: healthy replicas take about this long, and less than a timer
/// can measure.
const EAGER: Duration = Duration::from_millis(3);
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// How long the look may take that comes when the wait is over anyhow: it finds out who is to be marked out.
const LAST_LOOK_MAX: Duration = Duration::from_millis(100);

/// How long a look at the roll is tried for before anything is known of it.
const BLIND_MAX: Duration = Duration::from_secs(6);

impl Registry {
    /// Passes on what a change came to once it is in force everywhere, also where it found nothing left to change: then
    /// somebody else may still be waiting, or may never have come to it.
    ///
    /// # Errors
    ///
    /// [`is_unconfirmed`](Error::is_unconfirmed) where nobody can tell: the change is made, and may not be in force
    /// everywhere yet. Trying again is safe, and waits again.
    pub(crate) async fn in_force<T>(&self, done: Done<T>, targets: &[Target]) -> Result<T, Error> {
        // This process directly; whatever comes from the log later does no harm.
        self.inner.memory.forget(targets);
        if done.mark.is_some() {
            self.inner.feed.wake();
        }
        let began = self.clock().steady();
        let wait = match done.mark {
            Some(mark) if self.inner.follower.is_alone(mark.roll) => None,
            Some(mark) => Some(Wait::for_change(mark.position, began)),
            None => Some(Wait::for_all(began)),
        };
        if let Some(wait) = wait {
            self.wait(wait).await?;
        }
        self.inner.metrics.acknowledged(self.clock().steady().saturating_sub(began));
        Ok(done.outcome)
    }

    /// Waits until whatever has been changed by now is in force everywhere.
    ///
    /// # Errors
    ///
    /// Those of [`in_force`](Self::in_force).
    pub(super) async fn all_in_force(&self) -> Result<(), Error> {
        self.wait(Wait::for_all(self.clock().steady())).await
    }

    /// The replicas, as the database knows them.
    pub(crate) async fn replicas(&self) -> Result<Roll, Error> {
        self.store()?.roll().await
    }

    async fn wait(&self, mut wait: Wait) -> Result<(), Error> {
        let mut pause = PAUSE_MIN;
        let mut said = None;
        loop {
            // All who wait share one look, which began after each of them asked. One that has no answer must not make
            // the wait longer than it need be.
            let limit = wait.left(self.clock().steady()).map_or(BLIND_MAX, |left| left.max(LAST_LOOK_MAX));
            let looked = match tokio::time::timeout(limit, self.inner.looks.call(())).await {
                Ok(looked) => looked,
                Err(_) => Err(Error::unavailable("the database does not say which replicas there are")),
            };
            let now = self.clock().steady();
            match looked {
                Ok(roll) => {
                    let own = self.inner.follower.own();
                    if roll.replicas.iter().all(|replica| Some(replica.id) == own) {
                        self.inner.follower.note_alone(roll.id);
                    }
                    match wait.look(&roll, own, now) {
                        Look::Confirmed => return Ok(()),
                        Look::Expired { silent } => {
                            self.mark_out(&roll, &silent, &wait).await;
                            return Ok(());
                        }
                        Look::Pending(behind) => {
                            if said.is_none() && wait.is_long(now) {
                                let since = now.saturating_sub(wait.lasted(now));
                                said = Some(self.inner.waits.begin(since, &behind));
                                say_who(&behind, wait.lasted(now));
                            }
                        }
                    }
                }
                Err(error) => {
                    if wait.is_over(now) {
                        return Ok(());
                    }
                    if wait.lasted(now) >= BLIND_MAX {
                        let message = "the change is made, but whether every replica knows it can't be told: try again";
                        return Err(Error::new(Kind::Unconfirmed, message).with_source(error));
                    }
                }
            }
            if wait.lasted(now) >= EAGER {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }

    /// Nobody need wait again for those that were not even told in the time of a lease. Where it can't be done now, the
    /// next who waits does it.
    async fn mark_out(&self, roll: &Roll, silent: &[uuid::Uuid], wait: &Wait) {
        let Some(target) = wait.target().filter(|_| !silent.is_empty()) else { return };
        let names = roll.replicas.iter().filter(|replica| silent.contains(&replica.id));
        let names: Vec<&str> = names.map(|replica| replica.name.as_str()).collect();
        tracing::warn!(replicas = ?names, "a change waits no longer for replicas that were not heard of for a lease");
        let marked = match self.store() {
            Ok(store) => store.mark_out(silent, target).await,
            Err(error) => Err(error),
        };
        if let Err(error) = marked {
            tracing::warn!(error = %error.in_full(), "silent replicas can't be marked out");
        }
    }
}

/// For whoever wonders why a revocation takes long.
fn say_who(behind: &[Replica], lasted: Duration) {
    let names: Vec<&str> = behind.iter().map(|replica| replica.name.as_str()).collect();
    let waited_ms = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
    tracing::warn!(replicas = ?names, waited_ms, "a change waits for replicas that have not applied it");
}
