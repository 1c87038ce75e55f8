//! A connection that is kept for one kind of work.

use std::time::Instant;

use sqlx::Connection;
use sqlx::postgres::{PgConnection, PgPool};

use super::TRUSTED_IDLE;

/// A connection of its own for work of which there is always more, done by one at a time. A pool tries each connection when it
/// gets it back, which takes as long as a short statement, and hands out another one meanwhile, which has seen none of
/// the work.
pub(super) struct Lane {
    pool: PgPool,
    kept: tokio::sync::Mutex<Option<Kept>>,
}

/// It is none of the pool's any more, which could not take it back where no runtime is left.
struct Kept {
    connection: PgConnection,
    used_at: Instant,
}

impl Lane {
    /// With connections that this pool opens.
    pub(super) fn new(pool: &PgPool) -> Self {
        Self { pool: pool.clone(), kept: tokio::sync::Mutex::default() }
    }

    /// Has work done: on the connection that is kept, or on one of the pool's where somebody is at work there already, who may
    /// wait for a lock. Where it fails, or is given up half-way, nobody knows what the connection is still good for, and the
    /// next work gets another.
    pub(super) async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let Ok(mut kept) = self.kept.try_lock() else {
            return work(&mut *self.pool.acquire().await?).await;
        };
        let tried = match kept.take() {
            Some(kept) => kept.tried().await,
            None => None,
        };
        let mut connection = match tried {
            Some(connection) => connection,
            None => self.pool.acquire().await?.detach(),
        };
        let done = work(&mut connection).await?;
        *kept = Some(Kept { connection, used_at: Instant::now() });
        Ok(done)
    }

    /// Nothing more is to be done, on it or on its pool.
    pub(super) async fn close(&self) {
        self.pool.close().await;
        if let Some(Kept { connection, .. }) = self.kept.lock().await.take() {
            // Where the server does not hear of it any more, that is as well.
            let _ = connection.close().await;
        }
    }
}

impl Kept {
    /// The connection, where it is still good: after a while the server may have been restarted.
    async fn tried(mut self) -> Option<PgConnection> {
        let is_good = self.used_at.elapsed() <= TRUSTED_IDLE || self.connection.ping().await.is_ok();
        is_good.then_some(self.connection)
    }
}
