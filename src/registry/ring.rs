//! The keys as this process knows them: a snapshot that is replaced whenever the table of keys changes.
//!
//! A replica reads the table again before it acknowledges a change of a key, so under a lease its ring knows of every
//! change that anybody was told of. Outside of a lease the database is asked where it matters: whether the key that
//! signed was retired.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::Registry;
use super::memory::Reading;
use super::tasks::Stop;
use crate::error::Error;
use crate::keys::{Jwks, KeyRing, KeySource, Verified};
use crate::store::Store;
use crate::token::{Denial, KeyInfo};

/// How often at most a token that names an unknown key has the table read under a lease.
const ASK_PAUSE: Duration = Duration::from_secs(1);
/// How often a process without a lease reads it, and everybody looks whether a rotation is due.
const LOOK_PAUSE: Duration = Duration::from_secs(2);

pub(super) struct Ring {
    pub(super) source: KeySource,
    current: RwLock<Arc<KeyRing>>,
    /// One reads at a time, so that what was read earlier never replaces what was read later.
    loading: tokio::sync::Mutex<()>,
    /// When an unknown key last had the table read, in milliseconds of the steady clock; 0 for never.
    asked_ms: AtomicU64,
}

impl Ring {
    pub(super) fn new(source: KeySource) -> Self {
        let (ring, _) = source.ring(&[], None);
        Self {
            current: RwLock::new(Arc::new(ring)),
            source,
            loading: tokio::sync::Mutex::default(),
            asked_ms: AtomicU64::new(0),
        }
    }

    pub(super) fn get(&self) -> Arc<KeyRing> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the table. Where a key can't be opened the others take effect all the same, and the call fails.
    pub(super) async fn load(&self, store: &dyn Store, follows: bool) -> Result<(), Error> {
        let _one = self.loading.lock().await;
        let rows = store.keys(follows).await?;
        let before = self.get();
        let (ring, failure) = self.source.ring(&rows, Some(&before));
        if ring.current_kid().is_empty() && !before.current_kid().is_empty() {
            tracing::error!(
                kid = before.current_kid(),
                "the key that signs was retired, and no other takes its place: name another one in keys.file (or \
                 keys.secret), or set master_key; until then nothing is issued"
            );
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
        failure.map_or(Ok(()), Err)
    }

    /// Whether the table may be read now for a key that nobody knows: anybody can name one.
    pub(super) fn may_ask(&self, now: Duration) -> bool {
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(1);
        let asked_ms = self.asked_ms.load(Ordering::Relaxed);
        let is_due =
            asked_ms == 0 || now_ms.saturating_sub(asked_ms) >= u64::try_from(ASK_PAUSE.as_millis()).unwrap_or(0);
        is_due && self.asked_ms.compare_exchange(asked_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Registry {
    /// The keys as they are known here now.
    pub(crate) fn ring(&self) -> Arc<KeyRing> {
        self.inner.ring.get()
    }

    /// The keys, the one that signs first, as the table has them where it can be asked.
    pub(crate) async fn keys(&self) -> Result<Vec<KeyInfo>, Error> {
        let loaded = match self.permit() {
            Ok(()) => self.load_ring().await,
            Err(error) => Err(error),
        };
        match loaded {
            // Keys of the settings are no matter of the database.
            Err(error) if self.inner.ring.source.is_sealed() || !error.is_unavailable() => Err(error),
            _ => Ok(self.ring().list().to_vec()),
        }
    }

    /// The published keys, with every one that was published before this call where the database can be asked, and else
    /// as they are known here. Whoever asks together asks once.
    ///
    /// # Errors
    ///
    /// [`is_unavailable`](Error::is_unavailable) until the table has been read once: until then nobody knows which were
    /// retired.
    pub(crate) async fn jwks(&self) -> Result<Jwks, Error> {
        self.permit()?;
        if let Err(error) = self.inner.ring_loads.call(()).await {
            tracing::warn!(error = %error.in_full(), "the published keys may be older than they should be");
        }
        Ok(self.ring().jwks().clone())
    }

    /// The algorithm of the key that signs, where others can verify by it.
    ///
    /// # Errors
    ///
    /// [`is_unavailable`](Error::is_unavailable) as for [`jwks`](Self::jwks).
    pub(crate) fn public_algorithm(&self) -> Result<Option<&'static str>, Error> {
        self.permit()?;
        Ok(self.ring().public_algorithm())
    }

    pub(super) async fn load_ring(&self) -> Result<(), Error> {
        self.inner.ring.load(&*self.inner.store, false).await
    }

    /// The same for background work, over the connection of whoever follows: no crowd of requests is in its way.
    pub(super) async fn load_ring_to_follow(&self) -> Result<(), Error> {
        self.inner.ring.load(&*self.inner.store, true).await
    }

    /// Verifies size, shape and signature of a token. A key that is not known here is looked for in the table.
    pub(super) async fn verify(&self, token: &str) -> Result<Verified, Denial> {
        self.verify_by(token, false).await
    }

    /// The same for whoever says that there is nothing to change where a token is none of ours: under a lease too the
    /// key is looked for each time, since another process may sign with it already.
    pub(super) async fn verify_surely(&self, token: &str) -> Result<Verified, Denial> {
        self.verify_by(token, true).await
    }

    async fn verify_by(&self, token: &str, surely: bool) -> Result<Verified, Denial> {
        // The lease first: a ring that is looked at later knows whatever was acknowledged before.
        let is_leased = self.is_leased();
        let ring = self.ring();
        let verdict = ring.verify(token);
        let is_sealed = self.inner.ring.source.is_sealed();
        if verdict.as_ref().err() != Some(&Denial::Invalid) || !is_sealed || !ring.is_of_unknown_key(token) {
            return verdict;
        }
        // Anybody can name one, and under a lease it is none that anybody was told of: a look from time to time is
        // enough.
        let may_guess = is_leased && !surely;
        if may_guess && !self.inner.ring.may_ask(self.clock().steady()) {
            return verdict;
        }
        // Without one the keys are those in the table now. Whoever looks for one together looks once.
        let loaded = match self.permit() {
            Ok(()) => self.inner.ring_loads.call(()).await,
            Err(error) => Err(error),
        };
        match loaded {
            Ok(()) => self.ring().verify(token),
            Err(error) => {
                tracing::warn!(error = %error.in_full(), "the key that a token names can't be looked for");
                if may_guess { verdict } else { Err(Denial::Unavailable) }
            }
        }
    }

    /// Whether a key that verified a token without a record is still good. Of a `reading` under a lease the ring knows,
    /// and what changes from there on voids the reading.
    pub(super) async fn check_key(&self, kid: &str, reading: Option<Reading>) -> Result<(), Denial> {
        if reading.is_some() {
            let ring = self.ring();
            return match ring.accepts(kid) {
                true => Ok(()),
                false if ring.is_retired(kid) => Err(Denial::Revoked),
                false => Err(Denial::Invalid),
            };
        }
        match self.is_retired(kid).await {
            Ok(false) => Ok(()),
            Ok(true) => Err(Denial::Revoked),
            Err(error) => {
                tracing::warn!(error = %error.in_full(), "whether a key was retired can't be told");
                Err(Denial::Unavailable)
            }
        }
    }

    /// To be called once tokens that this ring signed are on the registry, and before they are handed out.
    ///
    /// # Errors
    ///
    /// [`is_unavailable`](Error::is_unavailable) where the key was retired meanwhile; another one signs at the next
    /// attempt.
    pub(super) async fn still_signs(&self, ring: &KeyRing) -> Result<(), Error> {
        if !self.was_retired(ring.current_kid()).await? {
            return Ok(());
        }
        self.load_ring().await?;
        Err(Error::unavailable("the key that signs was retired just now: try again"))
    }

    /// Whether a key that was good a moment ago has been retired since.
    pub(super) async fn was_retired(&self, kid: &str) -> Result<bool, Error> {
        // The lease first: a ring that is looked at later knows whatever was acknowledged before.
        if self.is_leased() { Ok(self.ring().is_retired(kid)) } else { self.is_retired(kid).await }
    }

    async fn is_retired(&self, kid: &str) -> Result<bool, Error> {
        self.permit()?;
        self.inner.retirements.call(kid.to_owned()).await
    }

    /// Reads the table from time to time where no lease makes it read, and rotates the keys when that is due.
    pub(super) async fn keep_keys(&self, mut stop: Stop) {
        let mut said = None;
        loop {
            tokio::select! {
                biased;
                () = stop.asked() => return,
                () = tokio::time::sleep(LOOK_PAUSE) => {}
            }
            match self.look_after_keys().await {
                Ok(()) => said = None,
                Err(error) if said.as_ref() != Some(&error.to_string()) => {
                    tracing::warn!(error = %error.in_full(), "the keys can't be looked after");
                    said = Some(error.to_string());
                }
                Err(_) => {}
            }
        }
    }

    async fn look_after_keys(&self) -> Result<(), Error> {
        self.permit()?;
        if !self.is_leased() {
            self.load_ring_to_follow().await?;
        }
        self.rotate_if_due().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    #[test]
    fn an_unknown_key_has_the_table_read_once_a_second() {
        let ring = Ring::new(KeySource::load(&Settings::for_tests(), false).unwrap());
        let now = Duration::from_secs(1_000);
        assert!(ring.may_ask(now));
        assert!(!ring.may_ask(now + ASK_PAUSE - Duration::from_millis(1)));
        assert!(ring.may_ask(now + ASK_PAUSE));
        assert!(!ring.may_ask(now + ASK_PAUSE));
    }
}
