//! When tokens were last used: coarse, gathered in memory, and written by a background task, never by a check.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::memory::Known;
use super::{Registry, whole_seconds};
use crate::token::Jti;

/// How many tokens wait for one write at most; those used beyond are noted the next time they are.
const PENDING_MAX: usize = 100_000;

/// What waits to be written.
pub(super) struct LastUsed {
    every: Option<Duration>,
    pending: Mutex<HashMap<Jti, i64>>,
}

impl LastUsed {
    pub(super) fn new(every: Option<Duration>) -> Self {
        Self { every, pending: Mutex::default() }
    }

    /// Notes that a token was accepted at `now`, rounded down to the granularity. Only the first use in each step of
    /// time takes the lock.
    fn note(&self, known: &Known, now: impl FnOnce() -> i64) {
        let Some(every) = self.every else { return };
        let now = now();
        let at = now - now.rem_euclid(whole_seconds(every).max(1));
        if known.last_noted.swap(at, Ordering::Relaxed) == at {
            return;
        }
        let jti = known.claims.jti;
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() < PENDING_MAX || pending.contains_key(&jti) {
            pending.insert(jti, at);
        }
    }

    fn take(&self) -> Vec<(Jti, i64)> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).drain().collect()
    }
}

impl Registry {
    /// Notes that a token was accepted just now, where that is wanted.
    pub(super) fn note_use(&self, known: &Known) {
        self.inner.last_used.note(known, || self.seconds());
    }

    /// Writes what has been gathered. What can't be written is lost, which `last_used_at` may be.
    pub(super) async fn flush_last_used(&self) {
        let used = self.inner.last_used.take();
        if used.is_empty() {
            return;
        }
        let written = match self.store() {
            Ok(store) => store.touch(&used).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::warn!(error = %error.in_full(), tokens = used.len(), "last use can't be noted");
        }
    }

    /// Writes what is gathered, once each granularity, for ever.
    pub(super) async fn keep_flushing_last_used(&self) {
        let Some(every) = self.inner.last_used.every else { return };
        loop {
            tokio::time::sleep(every).await;
            self.flush_last_used().await;
        }
    }
}
