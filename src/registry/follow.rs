//! Being a replica: holding a place on the roll, following the log of changes, and renewing the lease on what is
//! remembered.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use super::Registry;
use super::lease::{Membership, Next};
use super::tasks::Stop;
use crate::error::Error;
use crate::token::{News, Target};

/// How often in the time of a lease it is renewed.
const RENEWALS: u32 = 4;
/// How long to wait before asking again for wake-ups that can't be had.
const LISTEN_PAUSE: Duration = Duration::from_secs(1);
/// How long a stop waits to give up its place on the roll.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

/// What the rest of the process knows of the task that follows.
pub(super) struct Follower {
    /// The id on the roll, while there is one.
    own: Mutex<Option<Uuid>>,
    /// The id of a roll that has nobody else.
    alone: Mutex<Option<Uuid>>,
    /// The number of the last change that was applied.
    applied: AtomicI64,
    /// When the database last answered, in milliseconds of the steady clock.
    heard_ms: AtomicU64,
    /// Whether the task was started, in a process that is to be a replica.
    started: AtomicBool,
    wake: Notify,
}

impl Follower {
    pub(super) fn new() -> Self {
        Self {
            own: Mutex::default(),
            alone: Mutex::default(),
            applied: AtomicI64::new(0),
            heard_ms: AtomicU64::new(0),
            started: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    pub(super) fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    pub(super) fn own(&self) -> Option<Uuid> {
        *self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_own(&self, id: Option<Uuid>) {
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = id;
    }

    /// Whether the roll with this id is known to have nobody else. Who joins gives it another one.
    pub(super) fn is_alone(&self, roll: Uuid) -> bool {
        *self.alone.lock().unwrap_or_else(PoisonError::into_inner) == Some(roll)
    }

    pub(super) fn note_alone(&self, roll: Uuid) {
        *self.alone.lock().unwrap_or_else(PoisonError::into_inner) = Some(roll);
    }

    /// The number of the last change that was applied here.
    pub(super) fn applied(&self) -> i64 {
        self.applied.load(Ordering::Relaxed)
    }

    /// How long ago the database last answered.
    pub(super) fn silence(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_millis(self.heard_ms.load(Ordering::Relaxed)))
    }

    fn heard(&self, now: Duration) {
        self.heard_ms.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Registry {
    /// Follows until it is told to stop; then it relies on nothing more and leaves the roll, so that nobody waits for
    /// it.
    pub(super) async fn keep_following(&self, mut stop: Stop) {
        let poll = self.settings().poll;
        self.inner.follower.started.store(true, Ordering::Release);
        let mut place = Place::default();
        let mut said = false;
        loop {
            match self.follow(&mut place).await {
                Ok(()) if said => {
                    said = false;
                    tracing::info!("follows the database again");
                }
                Ok(()) => {}
                Err(error) if !said => {
                    said = true;
                    tracing::warn!(error = %error.in_full(), "can't follow the database; without a lease every check asks it");
                }
                Err(_) => {}
            }
            tokio::select! {
                biased;
                () = stop.asked() => break,
                () = self.inner.follower.wake.notified() => place.is_woken = true,
                () = tokio::time::sleep(poll) => {}
            }
        }
        self.inner.memory.rely_until(Duration::ZERO);
        if let Some(membership) = place.membership
            && let Ok(store) = self.store()
            && !matches!(tokio::time::timeout(LEAVE_LIMIT, store.leave(membership.id)).await, Ok(Ok(())))
        {
            tracing::warn!("can't leave the roll of replicas: the next change waits for a lease");
        }
        self.inner.follower.set_own(None);
    }

    /// Passes on the database's wake-ups, for ever.
    pub(super) async fn keep_listening(&self) {
        loop {
            let is_woken = match self.store() {
                Ok(store) => store.woken().await,
                Err(_) => false,
            };
            if is_woken {
                self.inner.follower.wake.notify_one();
            } else {
                tokio::time::sleep(LISTEN_PAUSE).await;
            }
        }
    }

    /// Joins where it has no place, renews where the lease runs down, and asks for news where there is a change.
    async fn follow(&self, place: &mut Place) -> Result<(), Error> {
        let store = self.store()?;
        let (clock, memory, follower) = (self.clock(), &self.inner.memory, &self.inner.follower);
        let lease = self.settings().lease;
        loop {
            let membership = match &mut place.membership {
                Some(membership) => membership,
                None => {
                    let id = Uuid::new_v4();
                    let lease_ms = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
                    let position = store.join(id, &self.inner.name, lease_ms, place.left).await?;
                    place.left = None;
                    place.renewed_at = None;
                    // What was read before this moment is not vouched for by what comes after it.
                    memory.forget_everything();
                    follower.set_own(Some(id));
                    place.has_to_load = true;
                    place.membership.insert(Membership::joined(id, position, lease))
                }
            };
            let now = clock.steady();
            let is_due = place.renewed_at.is_none_or(|renewed_at| now >= renewed_at + lease / RENEWALS);
            if !is_due && !place.is_woken {
                let position = store.position().await?;
                follower.heard(now);
                if position == membership.position {
                    return Ok(());
                }
            }
            // Taken before the question is sent: what the answer doesn't know happened after this.
            let asked_at = clock.steady();
            let answer = match is_due {
                true => store.renew(membership.id, membership.position).await?,
                false => store.hear(membership.id, membership.position).await?,
            };
            follower.heard(asked_at);
            // Before the lease goes on, and before anybody is told that the change is applied: where the keys can't be
            // read it is not, and the next answer names it again.
            place.has_to_load |= answer.as_ref().is_some_and(names_a_key);
            if place.has_to_load {
                self.load_ring_to_follow().await?;
                place.has_to_load = false;
            }
            let next = match is_due {
                true => membership.renewed(asked_at, answer.as_ref()),
                false => membership.heard(answer.as_ref()),
            };
            match next {
                Next::Join => {
                    memory.rely_until(Duration::ZERO);
                    memory.forget_everything();
                    follower.set_own(None);
                    self.inner.feed.wake();
                    place.left = place.membership.take().map(|membership| membership.id);
                    tracing::warn!("has no place on the roll of replicas any more: forgets everything and joins anew");
                }
                Next::Follow { until, tell } => {
                    if let Some(news) = &answer {
                        memory.forget(&news.targets);
                        if !news.targets.is_empty() {
                            self.inner.feed.wake();
                        }
                    }
                    if let Some(until) = until {
                        memory.rely_until(until);
                        place.renewed_at = Some(asked_at);
                    }
                    follower.applied.store(membership.position.seq, Ordering::Relaxed);
                    place.is_woken = tell;
                    if !tell {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Where this process stands on the roll.
#[derive(Default)]
struct Place {
    membership: Option<Membership>,
    /// The id of a place that was lost, which may still be on the roll.
    left: Option<Uuid>,
    /// When it last asked for a lease that it got.
    renewed_at: Option<Duration>,
    /// Whether there is reason to ask at once.
    is_woken: bool,
    /// Whether the keys have to be read before anything else.
    has_to_load: bool,
}

fn names_a_key(news: &News) -> bool {
    news.targets.iter().any(|target| matches!(target, Target::Key(_)))
}

#[cfg(all(test, feature = "sqlite"))]
mod tests;
