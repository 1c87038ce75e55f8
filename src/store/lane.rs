//! Connections that are kept for one kind of work.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::{Connection, Database, Pool};
use tokio::sync::Semaphore;

/// How long one is kept: as long as sqlx's pools keep theirs.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// What tells whether a kept connection is still good.
pub(super) trait Trust<DB: Database>: Send + Sync {
    /// Whether a connection still is that was opened so long ago, and has had nothing to do for so long.
    fn trusts(
        &self,
        connection: &mut DB::Connection,
        age: Duration,
        idle: Duration,
    ) -> impl Future<Output = bool> + Send;
}

/// Connections of its own for work of which there is always more. A pool tries each connection when it gets it back,
/// which takes as long as a short statement, and hands out another one meanwhile, which has seen none of the work.
pub(super) struct Lane<DB: Database, T> {
    pool: Pool<DB>,
    trust: T,
    free: Semaphore,
    kept: Mutex<Vec<Kept<DB>>>,
}

/// It is none of the pool's any more, which could not take it back where no runtime is left.
struct Kept<DB: Database> {
    connection: DB::Connection,
    opened_at: Instant,
    used_at: Instant,
}

impl<DB: Database, T: Trust<DB>> Lane<DB, T> {
    /// With up to so many connections at once, opened by this pool. With none, all work is done on the pool's.
    pub(super) fn new(pool: &Pool<DB>, width: u32, trust: T) -> Self {
        let free = Semaphore::new(usize::try_from(width).unwrap_or(1));
        Self { pool: pool.clone(), trust, free, kept: Mutex::default() }
    }

    /// Has work done: on a connection that is kept, or on one of the pool's where all of those are at work, and may
    /// wait for a lock. Where it fails, or is given up half-way, nobody knows what the connection is still good for,
    /// and the next work gets another.
    pub(super) async fn with<R>(
        &self,
        work: impl AsyncFnOnce(&mut DB::Connection) -> Result<R, sqlx::Error>,
    ) -> Result<R, sqlx::Error> {
        let Ok(_place) = self.free.try_acquire() else {
            return work(&mut *self.pool.acquire().await?).await;
        };
        let kept = self.kept().pop();
        let tried = match kept {
            Some(kept) => kept.tried(&self.trust).await,
            None => None,
        };
        let mut kept = match tried {
            Some(kept) => kept,
            None => Kept::from(&self.pool).await?,
        };
        let done = work(&mut kept.connection).await?;
        kept.used_at = Instant::now();
        self.kept().push(kept);
        Ok(done)
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept<DB>>> {
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

impl<DB: Database> Kept<DB> {
    async fn from(pool: &Pool<DB>) -> Result<Self, sqlx::Error> {
        // Before the pool looks at it: what comes to light after that counts against it.
        let now = Instant::now();
        let connection = pool.acquire().await?.detach();
        Ok(Self { connection, opened_at: now, used_at: now })
    }

    /// Itself, where it is still good.
    async fn tried(mut self, trust: &impl Trust<DB>) -> Option<Self> {
        let (age, idle) = (self.opened_at.elapsed(), self.used_at.elapsed());
        let is_good = age <= LIFETIME && trust.trusts(&mut self.connection, age, idle).await;
        is_good.then_some(self)
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use sqlx::SqliteConnection;
    use sqlx::sqlite::{Sqlite, SqlitePool};

    use super::*;

    struct AsTold(AtomicBool);

    impl Trust<Sqlite> for AsTold {
        async fn trusts(&self, _: &mut SqliteConnection, _: Duration, _: Duration) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// Whether this connection was marked before; it is from now on.
    async fn is_marked(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        let marks = "select count(*) from sqlite_temp_schema";
        let marks: i64 = sqlx::query_scalar(marks).fetch_one(&mut *connection).await?;
        sqlx::query("create temp table if not exists mark (x)").execute(connection).await?;
        Ok(marks == 1)
    }

    #[tokio::test]
    async fn a_connection_is_kept_while_its_work_succeeds_and_it_is_trusted() {
        let pool = SqlitePool::connect_lazy("sqlite::memory:").unwrap();
        let lane = Lane::new(&pool, 1, AsTold(AtomicBool::new(true)));
        assert!(!lane.with(is_marked).await.unwrap());
        assert!(lane.with(is_marked).await.unwrap());

        let failed = lane.with(async |_| Err::<(), _>(sqlx::Error::RowNotFound)).await;
        assert!(failed.is_err());
        assert!(!lane.with(is_marked).await.unwrap());
        assert!(lane.with(is_marked).await.unwrap());

        lane.trust.0.store(false, Ordering::Relaxed);
        assert!(!lane.with(is_marked).await.unwrap());
    }
}
