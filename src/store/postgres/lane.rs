//! Connections that are kept for one kind of work.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::Connection;
use sqlx::postgres::{PgConnection, PgPool};
use tokio::sync::Semaphore;

use super::TRUSTED_IDLE;

/// How long one is kept: as long as sqlx's pools keep theirs.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// Connections of its own for work of which there is always more. A pool tries each connection when it gets it back, which
/// takes as long as a short statement, and hands out another one meanwhile, which has seen none of the work.
pub(super) struct Lane {
    pool: PgPool,
    free: Semaphore,
    kept: Mutex<Vec<Kept>>,
}

/// It is none of the pool's any more, which could not take it back where no runtime is left.
struct Kept {
    connection: PgConnection,
    opened_at: Instant,
    used_at: Instant,
}

impl Lane {
    /// With up to so many connections at once, opened by this pool.
    pub(super) fn new(pool: &PgPool, width: u32) -> Self {
        let free = Semaphore::new(usize::try_from(width).unwrap_or(1));
        Self { pool: pool.clone(), free, kept: Mutex::default() }
    }

    /// Has work done: on a connection that is kept, or on one of the pool's where all of those are at work, and may wait for
    /// a lock. Where it fails, or is given up half-way, nobody knows what the connection is still good for, and the next work
    /// gets another.
    pub(super) async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let Ok(_place) = self.free.try_acquire() else {
            return work(&mut *self.pool.acquire().await?).await;
        };
        let kept = self.kept().pop();
        let tried = match kept {
            Some(kept) => kept.tried().await,
            None => None,
        };
        let mut kept = match tried {
            Some(kept) => kept,
            None => Kept::new(self.pool.acquire().await?.detach()),
        };
        let done = work(&mut kept.connection).await?;
        kept.used_at = Instant::now();
        self.kept().push(kept);
        Ok(done)
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing more is to be done, here or in its pool.
    pub(super) async fn close(&self) {
        self.pool.close().await;
        let kept = std::mem::take(&mut *self.kept());
        for Kept { connection, .. } in kept {
            // Where the server does not hear of it any more, that is as well.
            let _ = connection.close().await;
        }
    }
}

impl Kept {
    fn new(connection: PgConnection) -> Self {
        let now = Instant::now();
        Self { connection, opened_at: now, used_at: now }
    }

    /// Itself, where it is still good: after a while the server may have been restarted, or another one have its name.
    async fn tried(mut self) -> Option<Self> {
        let is_good = self.opened_at.elapsed() <= LIFETIME
            && (self.used_at.elapsed() <= TRUSTED_IDLE || self.connection.ping().await.is_ok());
        is_good.then_some(self)
    }
}
