//! The life of the keys in the database: published, current, previous, removed; or retired.

use std::time::Duration;

use chrono::DateTime;
use uuid::Uuid;

use super::{Registry, whole_seconds};
use crate::config::Check;
use crate::error::{Error, Kind};
use crate::store::{Job, KeyRotation, Resealed, Retire, Retired};
use crate::token::{Act, Actor, KeyInfo, KeyState, StoredKey, Target, rfc3339};

/// How long the lease on the rotation lasts; it takes a moment, and the wait for other replicas.
const ROTATION_LEASE: Duration = Duration::from_secs(60);

/// How long a process may go on signing with a key that was replaced, beyond what it has begun: a strict one that has
/// not heard of it, or one that was stopped.
const LATE_SECONDS: i64 = 60;

/// How often a change of the keys is tried that somebody else's came in the way of.
const TRIES: u32 = 4;

/// What the audit calls the registry itself where it makes or removes a key.
const RULE: &str = "keys";

impl Registry {
    /// Reads the keys at the opening. The first process ever makes them; one whose settings name another algorithm
    /// replaces the next key, which has signed nothing yet.
    pub(super) async fn open_keys(&self) -> Result<(), Error> {
        let (ring, store) = (&self.inner.ring, &*self.inner.store);
        if ring.source.is_sealed() {
            let act = Act::by(Actor::system(RULE));
            let rows = store.keys(true).await?;
            let is_made = rows.iter().any(|row| row.state == KeyState::Current);
            if !is_made {
                let (current, next) = (ring.source.generate()?, ring.source.generate()?);
                if store.add_keys(&current, &next, &act, self.seconds()).await?.outcome {
                    tracing::info!(kid = current.kid, next = next.kid, "made the first keys");
                }
            }
            if let Some(next) = rows.iter().find(|row| row.state == KeyState::Next && !ring.source.makes(row)) {
                // Opened before it is replaced: whoever has the wrong master key changes nothing.
                ring.load(store, true).await?;
                let fresh = ring.source.generate()?;
                if store.replace_next(&next.kid, &fresh, &act, self.seconds()).await?.outcome {
                    tracing::info!(
                        kid = fresh.kid,
                        algorithm = fresh.algorithm,
                        "published a next key of another algorithm"
                    );
                }
            }
        }
        ring.load(store, true).await
    }

    /// Makes the published next key current, and publishes a new next. Returns the key that signs from now on.
    ///
    /// # Errors
    ///
    /// [`is_conflict`](Error::is_conflict) while the next has been published for less than `jwks_max_age`;
    /// [`is_config`](Error::is_config) where keys are files; [`is_unavailable`](Error::is_unavailable).
    pub(crate) async fn rotate_keys(&self, act: &Act) -> Result<KeyInfo, Error> {
        let source = &self.inner.ring.source;
        let fresh = source.generate()?;
        let rows = self.store()?.keys(false).await?;
        let (current, next) = (of_state(&rows, KeyState::Current)?, of_state(&rows, KeyState::Next)?);
        let possible_at = next.published_at + whole_seconds(self.settings().jwks_max_age);
        if self.seconds() < possible_at {
            let at = DateTime::from_timestamp(possible_at, 0).map(rfc3339).unwrap_or_default();
            let why = format!("the next key may not be known yet to everybody who verifies: it can sign from {at} on");
            return Err(Error::new(Kind::Conflict, why));
        }
        let replaced = source.without_private(current)?;
        let rotation = KeyRotation { current: &current.kid, next: &next.kid, replaced: &replaced, fresh: &fresh };
        let done = self.store()?.rotate_keys(&rotation, act, self.seconds()).await?;
        if !done.outcome {
            return Err(Error::new(Kind::Conflict, "somebody else rotated or retired the keys just now"));
        }
        self.load_ring().await?;
        self.in_force(done, &[]).await?;
        tracing::info!(kid = next.kid, next = fresh.kid, "rotated the keys");
        let kid = next.kid.clone();
        let info = self.ring().list().iter().find(|key| key.kid == kid).cloned();
        info.ok_or_else(|| Error::new(Kind::Conflict, "the new key was retired just now"))
    }

    /// Retires a key for good: whatever it signed is refused everywhere when this returns. Where it is the current key
    /// the next takes its place, and for either a new next is published.
    ///
    /// # Errors
    ///
    /// [`is_not_found`](Error::is_not_found) where nobody knows of such a key; [`is_config`](Error::is_config) where it
    /// is in the database and keys are files here; [`is_unavailable`](Error::is_unavailable), after which trying again
    /// is safe.
    pub(crate) async fn retire_key(&self, kid: &str, act: &Act) -> Result<KeyInfo, Error> {
        let source = &self.inner.ring.source;
        let fresh = if source.is_sealed() { Some(source.generate()?) } else { None };
        let known = self.ring().list().iter().find(|key| key.kid == kid).and_then(|key| key.algorithm.clone());
        let retire = Retire { kid, algorithm: known.as_deref(), fresh: fresh.as_ref() };
        let done = self.store()?.retire_key(&retire, act, self.seconds()).await?;
        match done.outcome {
            Retired::NotFound => return Err(Error::new(Kind::NotFound, "Key not found")),
            Retired::Needed => {
                return Err(Error::config(
                    "this key is in the database: run the command with the master_key of the servers",
                ));
            }
            Retired::Done => {}
        }
        // The ring first: a check that begins after this process has forgotten must not find the key in it.
        self.load_ring().await?;
        self.in_force(done, &[Target::Key(kid.to_owned())]).await?;
        tracing::warn!(kid, "retired a key: what it signed is refused");
        let info = self.ring().list().iter().find(|key| key.kid == kid).cloned();
        info.ok_or_else(|| Error::internal("a retired key is not in the table"))
    }

    /// Seals anew what is sealed under the old master key. Returns how many keys that was.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) where keys are files, or neither master key opens them;
    /// [`is_unavailable`](Error::is_unavailable).
    pub(crate) async fn reseal_keys(&self, act: &Act) -> Result<u64, Error> {
        for _ in 0..TRIES {
            let mut anew = Vec::new();
            for row in self.store()?.keys(false).await? {
                if let Some(sealed) = self.inner.ring.source.reseal(&row)? {
                    anew.push(Resealed { kid: row.kid, before: row.sealed.unwrap_or_default(), sealed });
                }
            }
            if anew.is_empty() || self.store()?.reseal_keys(&anew, act, self.seconds()).await? {
                return Ok(anew.len() as u64);
            }
        }
        Err(Error::unavailable("the keys change all the time: try again"))
    }

    /// Rotates where the settings say how old a key becomes, one process at a time.
    pub(super) async fn rotate_if_due(&self) -> Result<(), Error> {
        let Some(every) = self.settings().keys.rotate_every.map(whole_seconds) else { return Ok(()) };
        let (ring, now) = (self.ring(), self.seconds());
        let of = |state| ring.list().iter().find(|key| key.state == state);
        let since = of(KeyState::Current).and_then(|key| key.current_at);
        let published_at = of(KeyState::Next).and_then(|key| key.published_at);
        let max_age = whole_seconds(self.settings().jwks_max_age);
        if since.is_none_or(|at| now < at + every) || published_at.is_none_or(|at| now < at + max_age) {
            return Ok(());
        }
        let (holder, store) = (Uuid::new_v4(), self.store()?);
        if !store.hold_job(Job::Rotation, holder, now, now + whole_seconds(ROTATION_LEASE)).await? {
            return Ok(());
        }
        // Somebody else may have come first, and given the lease back since: then the keys are younger than they were
        // here.
        let outcome = match self.load_ring().await {
            Ok(()) if self.ring().current_kid() == ring.current_kid() => {
                let act = Act::by(Actor::system("keys.rotate_every"));
                self.rotate_keys(&act).await.map(drop)
            }
            loaded => loaded,
        };
        store.release_job(Job::Rotation, holder).await?;
        outcome
    }

    /// Removes the previous keys that nothing needs any more; how many.
    pub(super) async fn purge_keys(&self, cutoff: i64) -> Result<u64, Error> {
        if !self.inner.ring.source.is_sealed() {
            return Ok(0);
        }
        let settings = self.settings();
        // What has no record is known by how long it may last.
        let access = settings.access_expires.max(settings.issue_max_access_expires);
        let unrecorded = if settings.check == Check::All { access } else { access.max(settings.refresh_expires) };
        let replaced_before = cutoff - whole_seconds(unrecorded) - LATE_SECONDS;
        let act = Act::by(Actor::system(RULE));
        let done = self.store()?.purge_keys(replaced_before, cutoff, &act, self.seconds()).await?;
        if done.outcome == 0 {
            return Ok(0);
        }
        self.load_ring().await?;
        self.in_force(done, &[]).await
    }
}

fn of_state(rows: &[StoredKey], state: KeyState) -> Result<&StoredKey, Error> {
    rows.iter().find(|row| row.state == state).ok_or_else(|| Error::internal(format!("there is no {state} key")))
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::config::Settings;
    use crate::registry::{Expect, Grant, Personal, Refresh};

    const SETTINGS: &str = "master_key = \"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\"";

    #[tokio::test]
    async fn nothing_is_handed_out_for_a_token_whose_key_was_retired_since_its_check() {
        let registry = Registry::open(Settings::for_tests_with(SETTINGS).unwrap(), ManualClock::here()).await.unwrap();
        let issued = registry.issue(Grant::to("alice".parse().unwrap()).fresh(true)).await.unwrap();
        let access = registry.check(issued.access_token(), Expect::access()).await.unwrap();
        let refresh = registry.check(issued.refresh_token().unwrap(), Expect::refresh()).await.unwrap();
        let before = registry.ring();
        registry.retire_key(before.current_kid(), &Act::by(Actor::application("test"))).await.unwrap();

        assert!(registry.refresh(&refresh, Refresh::default()).await.unwrap_err().is_superseded());
        assert!(registry.issue_personal(&access, Personal::new("script").unwrap()).await.unwrap_err().is_superseded());
        // What was signed with it before, and is on the registry only now, is not handed out either.
        assert!(registry.still_signs(&before).await.unwrap_err().is_unavailable());
        assert!(registry.still_signs(&registry.ring()).await.is_ok());
    }

    #[tokio::test]
    async fn a_rotation_is_possible_once_the_next_key_is_known_to_all() {
        let clock = ManualClock::here();
        let registry = Registry::open(Settings::for_tests_with(SETTINGS).unwrap(), clock.clone()).await.unwrap();
        let act = Act::by(Actor::application("test"));
        clock.advance(Duration::from_secs(299));
        assert!(registry.rotate_keys(&act).await.unwrap_err().is_conflict());
        clock.advance(Duration::from_secs(1));
        let next = registry.ring().list()[1].kid.clone();
        assert_eq!(registry.rotate_keys(&act).await.unwrap().kid, next);
        assert!(registry.rotate_keys(&act).await.unwrap_err().is_conflict());
    }

    #[tokio::test]
    async fn two_that_both_find_a_rotation_due_rotate_once() {
        let home = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", home.path().join("registry.db").display());
        let settings = format!("{SETTINGS}\nkeys.rotate_every = \"1h\"\ndatabase_url = '{url}'");
        let clock = ManualClock::here();
        let open = async || Registry::open(Settings::for_tests_with(&settings).unwrap(), clock.clone()).await.unwrap();
        let (one, other) = (open().await, open().await);
        let before = one.ring().current_kid().to_owned();
        clock.advance(Duration::from_secs(60 * 60));
        one.rotate_if_due().await.unwrap();
        // It follows nobody here, so it still has the keys from before.
        assert_eq!(other.ring().current_kid(), before);
        other.rotate_if_due().await.unwrap();
        assert_eq!(one.store().unwrap().keys(false).await.unwrap().len(), 3);
        assert_ne!(one.ring().current_kid(), before);
        assert_eq!(other.ring().current_kid(), one.ring().current_kid());
    }
}
