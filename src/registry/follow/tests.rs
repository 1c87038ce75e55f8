#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::config::Settings;
use crate::keys::KeySource;
use crate::registry::Grant;
use crate::token::{Act, Actor, KeyState, Position};

const LEASE: &str = "lease = \"60s\"";
const MASTER_KEY: &str = "master_key = \"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\"";
const OTHER_MASTER_KEY: &str = "master_key = \"ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100\"";

/// Whoever looks at it finds it a second later than the last time.
#[derive(Debug)]
struct Ticking(ManualClock, AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> DateTime<Utc> {
        self.0.now()
    }

    fn steady(&self) -> Duration {
        Duration::from_secs(self.1.fetch_add(1, Ordering::Relaxed))
    }
}

/// Two registries on one database, neither of which follows.
async fn two(home: &tempfile::TempDir) -> (Registry, Registry) {
    let url = format!("sqlite://{}", home.path().join("registry.db").display());
    let settings = format!("{MASTER_KEY}\n{LEASE}\ndatabase_url = '{url}'");
    let open =
        async || Registry::open(Settings::for_tests_with(&settings).unwrap(), ManualClock::here()).await.unwrap();
    (open().await, open().await)
}

fn act() -> Act {
    Act::by(Actor::application("test"))
}

/// Whether everybody on the roll has applied every change.
async fn is_applied(registry: &Registry) -> bool {
    let roll = registry.store().unwrap().roll().await.unwrap();
    assert!(!roll.replicas.is_empty());
    roll.replicas.iter().all(|replica| replica.applied == roll.position.seq)
}

#[tokio::test]
async fn a_lease_is_counted_from_before_the_question() {
    let clock = Arc::new(Ticking(ManualClock::here(), AtomicU64::new(1_000)));
    let registry = Registry::open(Settings::for_tests_with(LEASE).unwrap(), clock.clone()).await.unwrap();
    let before = clock.steady();
    registry.follow(&mut Place::default()).await.unwrap();
    // It looks at the clock twice until it asks: to see whether it has to, and then.
    let until = before + Duration::from_secs(2 + 54);
    assert!(registry.inner.memory.is_leased(until - Duration::from_nanos(1)));
    assert!(!registry.inner.memory.is_leased(until));
}

#[tokio::test]
async fn a_lease_goes_on_long_before_it_ends() {
    let clock = ManualClock::here();
    let registry = Registry::open(Settings::for_tests_with(LEASE).unwrap(), clock.clone()).await.unwrap();
    let mut place = Place::default();
    registry.follow(&mut place).await.unwrap();
    clock.advance(Duration::from_secs(15));
    registry.follow(&mut place).await.unwrap();
    clock.advance(Duration::from_secs(45));
    assert!(registry.is_leased());
}

#[tokio::test]
async fn whoever_joins_anew_has_a_lease_at_once() {
    let registry = Registry::open(Settings::for_tests_with(LEASE).unwrap(), ManualClock::here()).await.unwrap();
    let mut place = Place::default();
    registry.follow(&mut place).await.unwrap();
    let id = place.membership.as_ref().unwrap().id;
    registry.store().unwrap().leave(id).await.unwrap();
    place.is_woken = true;
    registry.follow(&mut place).await.unwrap();
    assert_ne!(place.membership.unwrap().id, id);
    assert!(registry.is_leased());
}

#[tokio::test]
async fn whoever_has_stopped_relies_on_nothing_and_is_not_on_the_roll() {
    let registry = Registry::open(Settings::for_tests_with(LEASE).unwrap(), ManualClock::here()).await.unwrap();
    let tasks = registry.run();
    let began = std::time::Instant::now();
    while !registry.is_leased() {
        assert!(began.elapsed() < Duration::from_secs(20), "it gets no lease");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tasks.stop(Duration::from_secs(20)).await;
    assert!(!registry.is_leased());
    assert!(registry.store().unwrap().roll().await.unwrap().replicas.is_empty());
}

#[tokio::test]
async fn whoever_hears_of_a_change_says_at_once_that_it_is_applied() {
    let home = tempfile::tempdir().unwrap();
    let (one, other) = two(&home).await;
    let mut place = Place::default();
    other.follow(&mut place).await.unwrap();
    let issued = one.issue(Grant::to("alice".parse().unwrap())).await.unwrap();
    let waiting = one.clone();
    let revoking =
        tokio::spawn(async move { waiting.revoke(issued.access_claims().jti, Actor::application("test")).await });
    while is_applied(&one).await {
        assert!(!revoking.is_finished(), "nobody waits for the other");
        tokio::task::yield_now().await;
    }
    other.follow(&mut place).await.unwrap();
    assert!(is_applied(&one).await);
    revoking.await.unwrap().unwrap();
}

#[tokio::test]
async fn whoever_joins_reads_the_keys() {
    let home = tempfile::tempdir().unwrap();
    let (one, other) = two(&home).await;
    let kid = other.ring().current_kid().to_owned();
    one.retire_key(&kid, &act()).await.unwrap();
    assert!(!other.ring().is_retired(&kid));
    other.follow(&mut Place::default()).await.unwrap();
    assert!(other.ring().is_retired(&kid));
}

/// Publishes another next key, and waits for nobody.
async fn publish(registry: &Registry, source: &KeySource) -> Position {
    let store = registry.store().unwrap();
    let rows = store.keys(false).await.unwrap();
    let next = rows.iter().find(|row| row.state == KeyState::Next).unwrap();
    let fresh = source.generate().unwrap();
    let done = store.replace_next(&next.kid, &fresh, &act(), registry.seconds()).await.unwrap();
    done.mark.unwrap().position
}

#[tokio::test]
async fn whoever_was_told_stays_on_the_roll_and_in_another_history_everybody() {
    let home = tempfile::tempdir().unwrap();
    let (one, _) = two(&home).await;
    let store = one.store().unwrap();
    let (told, heard) = (Uuid::new_v4(), Uuid::new_v4());
    let joined = store.join(told, "told", 60_000, None).await.unwrap();
    store.join(heard, "heard", 60_000, None).await.unwrap();
    let untold = publish(&one, &one.inner.ring.source).await;
    assert!(store.renew(told, joined).await.unwrap().is_some());
    // News give no lease, so what they told is nothing to go by.
    assert!(store.hear(heard, joined).await.unwrap().is_some());
    let left = async || {
        let roll = store.roll().await.unwrap();
        roll.replicas.iter().map(|replica| replica.name.clone()).collect::<Vec<_>>()
    };
    store.mark_out(&[told, heard], Position { change: Uuid::new_v4(), ..untold }).await.unwrap();
    assert_eq!(left().await.len(), 2);
    store.mark_out(&[told, heard], untold).await.unwrap();
    assert_eq!(left().await, ["told"]);
}

#[tokio::test]
async fn a_change_of_the_keys_is_applied_once_they_can_be_read() {
    let home = tempfile::tempdir().unwrap();
    let (one, other) = two(&home).await;
    let mut place = Place::default();
    other.follow(&mut place).await.unwrap();
    // One that its master key does not open.
    let stranger = KeySource::load(&Settings::for_tests_with(OTHER_MASTER_KEY).unwrap(), false).unwrap();
    publish(&one, &stranger).await;
    for _ in 0..2 {
        other.follow(&mut place).await.unwrap_err();
        assert!(!is_applied(&one).await);
    }
    publish(&one, &one.inner.ring.source).await;
    other.follow(&mut place).await.unwrap();
    assert!(is_applied(&one).await);
}
