//! The feed of revocations: a page of it, and what goes on being told.
//!
//! However many follow it, one task of the process reads the log, and only while somebody follows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::Registry;
use crate::error::Error;
use crate::token::{FeedEvent, FeedPage};

/// How many events are read at once.
const PAGE: u16 = 1_000;

/// How many batches whoever follows may be behind before it is dropped.
const BEHIND_MAX: usize = 64;

/// How often the log is looked at where the follower's word is waited for, and at most where there is none.
const LEASED_PAUSE: Duration = Duration::from_secs(1);
const POLL_MIN: Duration = Duration::from_millis(100);

/// How long after the log was last read a heartbeat may say that nothing is missing.
const CURRENT: Duration = Duration::from_secs(5);

/// How long a page may look for an event that its reader may see.
const LOOKED_FOR: Duration = Duration::from_millis(500);

/// What the task that reads tells those who follow.
pub(super) struct Hub {
    /// `None`: the log is another one, or was trimmed, and where each stands means nothing any more.
    told: broadcast::Sender<Option<Arc<Batch>>>,
    /// That there is somebody to tell, or something to be told.
    wake: Notify,
    /// When the log was last read, in milliseconds of the steady clock.
    read_ms: AtomicU64,
    places: Arc<Semaphore>,
}

/// What came after `from`, up to and with `page.next`.
struct Batch {
    from: i64,
    page: FeedPage,
}

impl Hub {
    pub(super) fn new(streams_max: u32) -> Self {
        let places = usize::try_from(streams_max).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS);
        Self {
            told: broadcast::Sender::new(BEHIND_MAX),
            wake: Notify::new(),
            read_ms: AtomicU64::new(0),
            places: Arc::new(Semaphore::new(places)),
        }
    }

    /// Says that the log has changed.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }
}

/// What came of wanting to follow the feed.
pub(crate) enum Followed {
    Following(Following),
    /// What comes after that number is not kept any more, or never was.
    Gone,
    /// As many as may follow already.
    Full,
}

/// One who follows the feed. What it does not take in time it is not told again: it is over then, and may come back.
pub(crate) struct Following {
    registry: Registry,
    told: broadcast::Receiver<Option<Arc<Batch>>>,
    serves: Option<Vec<String>>,
    cursor: i64,
    /// Whether there may be more in the log than it is told.
    is_behind: bool,
    _place: OwnedSemaphorePermit,
}

impl Registry {
    /// A page of the feed; `None` where `after` is older than what is kept, or a number that there is not yet. Where it
    /// says from where on to follow, all that came before is in force everywhere: whoever is then told by any process
    /// that a token is live is not told of its end afterwards.
    pub(crate) async fn feed(
        &self,
        after: Option<i64>,
        limit: u16,
        serves: Option<&[String]>,
    ) -> Result<Option<FeedPage>, Error> {
        let page = self.read_feed(after, limit, serves).await?;
        if after.is_none() {
            self.all_in_force().await?;
        }
        Ok(page)
    }

    async fn read_feed(
        &self,
        after: Option<i64>,
        limit: u16,
        serves: Option<&[String]>,
    ) -> Result<Option<FeedPage>, Error> {
        let begun = self.clock().steady();
        let mut after = after;
        loop {
            let issuer = self.settings().issuer();
            let page = self.store()?.feed(after, limit, serves, issuer, self.seconds()).await?;
            let Some(page) = page else { return Ok(None) };
            // The events of others are passed over a part at a time, so that nobody waits for a long log, nor for the
            // database that reads it.
            if page.is_last || !page.events.is_empty() || self.clock().steady().saturating_sub(begun) >= LOOKED_FOR {
                return Ok(Some(page));
            }
            after = Some(page.next);
        }
    }

    /// Follows the feed after a number, or from now on.
    pub(crate) async fn follow_feed(&self, after: Option<i64>, serves: Option<Vec<String>>) -> Result<Followed, Error> {
        let hub = &self.inner.feed;
        let Ok(place) = hub.places.clone().try_acquire_owned() else { return Ok(Followed::Full) };
        // Before the log is read: what comes later is told, so that nothing falls between.
        let told = hub.told.subscribe();
        hub.wake();
        // One event is enough to know that it is kept; it is read again.
        let Some(page) = self.feed(after, 1, None).await? else { return Ok(Followed::Gone) };
        Ok(Followed::Following(Following {
            registry: self.clone(),
            told,
            serves,
            cursor: after.unwrap_or(page.next),
            is_behind: true,
            _place: place,
        }))
    }

    /// Reads the log for all who follow the feed, for ever.
    pub(super) async fn keep_telling(&self) {
        let hub = &self.inner.feed;
        let mut cursor = None;
        loop {
            if hub.told.receiver_count() == 0 {
                cursor = None;
                hub.wake.notified().await;
                continue;
            }
            // Where the database can't be asked they hear nothing more, and no heartbeat either. What else fails is
            // wrong, and nobody else says so.
            if let Err(error) = self.tell(&mut cursor).await
                && !error.is_unavailable()
            {
                tracing::error!(error = %error.in_full(), "the feed of revocations can't be read");
            }
            let pause = if self.is_leased() { LEASED_PAUSE } else { self.settings().poll.max(POLL_MIN) };
            tokio::select! {
                () = hub.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn tell(&self, cursor: &mut Option<i64>) -> Result<(), Error> {
        let hub = &self.inner.feed;
        loop {
            // Taken before the question: what the answer doesn't know happened after this.
            let asked_at = self.clock().steady();
            let page = self.read_feed(*cursor, PAGE, None).await?;
            hub.read_ms.store(u64::try_from(asked_at.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
            let Some(page) = page else {
                *cursor = None;
                let _ = hub.told.send(None);
                return Ok(());
            };
            let (from, is_all) = (cursor.unwrap_or(page.next), page.is_last);
            // Where it begins, too: who came before finds that it has to read up to there.
            if *cursor != Some(page.next) {
                *cursor = Some(page.next);
                let _ = hub.told.send(Some(Arc::new(Batch { from, page })));
            }
            if is_all {
                return Ok(());
            }
        }
    }
}

impl Following {
    /// Up to which number it has been told.
    pub(crate) fn cursor(&self) -> i64 {
        self.cursor
    }

    /// Whether it knows that nothing is missing up to there, as of a moment ago.
    pub(crate) fn is_current(&self) -> bool {
        let read_at = Duration::from_millis(self.registry.inner.feed.read_ms.load(Ordering::Relaxed));
        self.registry.clock().steady().saturating_sub(read_at) < CURRENT
    }

    /// What comes next, at least one event; `None` where it is over. Nothing is lost where this is not waited for to
    /// the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<FeedEvent>>, Error> {
        loop {
            if self.is_behind {
                let page = self.registry.read_feed(Some(self.cursor), PAGE, self.serves.as_deref()).await?;
                let Some(page) = page else { return Ok(None) };
                self.cursor = page.next;
                self.is_behind = !page.is_last;
                if !page.events.is_empty() {
                    return Ok(Some(self.heard(page.events)));
                }
                continue;
            }
            let batch = match self.told.recv().await {
                Ok(Some(batch)) => batch,
                Ok(None) | Err(RecvError::Lagged(_) | RecvError::Closed) => return Ok(None),
            };
            if batch.page.next <= self.cursor {
                continue;
            }
            // Who is limited reads for itself which of them it may see.
            if batch.from > self.cursor || (self.serves.is_some() && !batch.page.events.is_empty()) {
                self.is_behind = true;
                continue;
            }
            let events = batch.page.events.iter().filter(|event| event.seq > self.cursor);
            let events: Vec<FeedEvent> = events.cloned().collect();
            self.cursor = batch.page.next;
            if !events.is_empty() {
                return Ok(Some(self.heard(events)));
            }
        }
    }

    /// What this process tells others it knows itself, though whoever made the change may still wait for the replicas:
    /// otherwise one would be told of the end of its own token, which is still in memory as a live one. What it has
    /// applied it has forgotten already, and whoever reads the log from its beginning must not make it forget that
    /// again.
    fn heard(&self, events: Vec<FeedEvent>) -> Vec<FeedEvent> {
        let inner = &self.registry.inner;
        let applied = inner.follower.applied();
        inner.memory.forget(events.iter().filter(|event| event.seq > applied).map(|event| &event.target));
        events
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::clock::ManualClock;
    use crate::config::Settings;
    use crate::registry::Grant;
    use crate::token::{Actor, Jti};

    async fn registry() -> (Registry, Jti) {
        let registry = Registry::open(Settings::for_tests(), ManualClock::here()).await.expect("it opens");
        let alice = "alice".parse().expect("a subject");
        let issued = registry.issue(Grant::to(alice)).await.expect("it issues");
        let jti = issued.access_claims().jti;
        (registry, jti)
    }

    async fn follow(registry: &Registry) -> Following {
        match registry.follow_feed(None, None).await.expect("it answers") {
            Followed::Following(following) => following,
            Followed::Gone | Followed::Full => panic!("it can't be followed"),
        }
    }

    #[tokio::test]
    async fn who_is_slow_is_dropped_and_nobody_else() {
        let (registry, jti) = registry().await;
        let (mut slow, mut quick, mut cursor) = (follow(&registry).await, follow(&registry).await, None);
        registry.tell(&mut cursor).await.unwrap();
        for round in 0..BEHIND_MAX + 1 {
            if round % 2 == 0 {
                registry.revoke(jti, Actor::application("test")).await.unwrap();
            } else {
                registry.unrevoke(jti, Actor::application("test")).await.unwrap();
            }
            registry.tell(&mut cursor).await.unwrap();
            assert_eq!(quick.next().await.unwrap().map(|events| events.len()), Some(1), "{round}");
        }
        // What it can still read it is told, in order; then it is over.
        assert_eq!(slow.next().await.unwrap().map(|events| events.len()), Some(BEHIND_MAX + 1));
        assert_eq!(slow.next().await.unwrap(), None);
        assert!(quick.is_current());
    }

    #[tokio::test]
    async fn what_was_told_is_no_longer_accepted_from_memory() {
        use crate::registry::Expect;
        use crate::token::{Act, Denial};

        // Both ways of being told: by the task that reads for all, and by reading up.
        for is_behind in [false, true] {
            let registry = Registry::open(Settings::for_tests(), ManualClock::here()).await.expect("it opens");
            registry.inner.memory.rely_until(registry.clock().steady() + Duration::from_secs(60));
            let issued = registry.issue(Grant::to("alice".parse().expect("a subject"))).await.expect("it issues");
            let check = async || registry.check(issued.access_token(), Expect::access()).await;
            let (mut following, mut cursor) = (follow(&registry).await, None);
            if !is_behind {
                registry.tell(&mut cursor).await.unwrap();
                let next = tokio::time::timeout(Duration::from_millis(50), following.next()).await;
                assert!(next.is_err());
            }
            check().await.unwrap();
            let act = Act::by(Actor::application("elsewhere"));
            let (sid, now) = (issued.access_claims().sid, registry.seconds());
            registry.store().unwrap().end_session(sid, &act, now, registry.live_at()).await.unwrap();
            // It is in the log, and nobody has acknowledged it.
            check().await.unwrap();
            if !is_behind {
                registry.tell(&mut cursor).await.unwrap();
            }
            assert_eq!(following.next().await.unwrap().map(|events| events.len()), Some(1));
            assert_eq!(check().await, Err(Denial::Revoked));
        }
    }

    #[tokio::test]
    async fn one_that_nobody_reads_for_is_not_current() {
        let clock = ManualClock::here();
        let registry = Registry::open(Settings::for_tests(), clock.clone()).await.unwrap();
        let following = follow(&registry).await;
        let mut cursor = None;
        registry.tell(&mut cursor).await.unwrap();
        assert!(following.is_current());
        clock.advance(CURRENT);
        assert!(!following.is_current());
    }

    #[tokio::test]
    async fn a_gap_is_read_up() {
        let (registry, jti) = registry().await;
        let mut following = follow(&registry).await;
        // It knows where it stands, and the task that reads begins later.
        let next = tokio::time::timeout(Duration::from_millis(50), following.next()).await;
        assert!(next.is_err());
        registry.revoke(jti, Actor::application("test")).await.unwrap();
        registry.tell(&mut None).await.unwrap();
        assert_eq!(following.next().await.unwrap().map(|events| events.len()), Some(1));
    }

    #[tokio::test]
    async fn it_begins_where_all_that_came_before_is_in_force() {
        let (registry, jti) = registry().await;
        // A replica that says nothing until the end.
        let store = registry.store().unwrap();
        let replica = uuid::Uuid::new_v4();
        let joined = store.join(replica, "another", 60_000, None).await.unwrap();
        let mut revoked = pin!(registry.revoke(jti, Actor::application("test")));
        let moment = Duration::from_millis(50);
        while store.position().await.unwrap() == joined {
            assert!(tokio::time::timeout(moment, &mut revoked).await.is_err());
        }
        let (mut page, mut followed) = (pin!(registry.feed(None, 1, None)), pin!(registry.follow_feed(None, None)));
        assert!(tokio::time::timeout(moment, &mut page).await.is_err(), "the page begins after what is not in force");
        assert!(tokio::time::timeout(moment, &mut followed).await.is_err(), "so does the stream");
        // What is told is not held up.
        assert_eq!(registry.feed(Some(joined.seq), 1, None).await.unwrap().unwrap().events.len(), 1);
        let news = store.renew(replica, joined).await.unwrap().unwrap();
        store.renew(replica, news.position).await.unwrap().unwrap();
        revoked.await.unwrap();
        assert_eq!(page.await.unwrap().unwrap().next, news.position.seq);
        let Followed::Following(following) = followed.await.unwrap() else { panic!("it can't be followed") };
        assert_eq!(following.cursor(), news.position.seq);
    }
}
