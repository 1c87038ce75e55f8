//! PostgreSQL.

mod changes;
mod clients;
mod coherence;
mod console;
mod inserts;
mod keys;
mod purge;
mod rotation;
mod tokens;
mod undo;
mod users;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::migrate::{AppliedMigration, Migrate, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPool, PgPoolOptions};
use sqlx::{Connection, Transaction};

use super::lane::{Lane, Trust};
use super::*;

/// Begins a change, in one round trip. Whatever the server's defaults are, each of its statements sees what was
/// committed when it began, and looks again where it waited, and it is durable when it is acknowledged. It notes by
/// itself what others have to hear of, and never waits for ever, nor lets others wait for a process that was stopped
/// between two statements: its transaction ends before the patience of those who wait for its locks.
const BEGIN: &str = "begin isolation level read committed; \
    select set_config('synchronous_commit', 'on', true) \
        where current_setting('synchronous_commit') in ('off', 'local', 'remote_write'); \
    set local counterfoil.noted = 'on'; \
    set local lock_timeout = '3s'; \
    set local statement_timeout = '4s'; \
    set local idle_in_transaction_session_timeout = '2s'";

/// Begins to read a page: as of one moment, along an index and in its order. A plan that reads what a page does not
/// need and sorts it would be taken for cheaper where an average subject or address has few tokens, and this one has
/// millions.
const BROWSE: &str = "begin isolation level repeatable read read only; \
    set local enable_seqscan = off; set local enable_bitmapscan = off; set local enable_sort = off; \
    set local enable_hashjoin = off; set local enable_mergejoin = off; set local max_parallel_workers_per_gather = 0; \
    set local jit = off";

/// Begins to migrate. Whoever waited for another process to migrate sees what that one made, whatever the server's
/// defaults are, and waits for as long as it takes.
const BEGIN_TO_MIGRATE: &str = "begin isolation level read committed; set local lock_timeout = 0";

/// Held for the length of a migration, so that one process migrates at a time ("cfoil" and a number).
const MIGRATION_LOCK: i64 = 0x6366_6f69_6c01;

/// How long a statement waits for a lock in the server: less than its caller does for an answer. Otherwise each that is
/// given up here would go on waiting there, and its lane open another connection. It is the session's, because the lock
/// of a table is waited for before a statement has a chance to say anything.
const LOCK_LIMIT: &str = "3s";
/// The same for what follows the log.
const FOLLOW_LOCK_LIMIT: &str = "1500ms";
/// How long a request waits for a connection.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(2);
/// How long the first contact may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// A connection that was idle for longer is tried before it is used: the server may have been restarted meanwhile.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

pub(super) struct Postgres {
    options: PgConnectOptions,
    pool: PgPool,
    /// One connection, which renews and acknowledges, so that no crowd of requests can come in its way.
    follower: Lane<sqlx::Postgres, Idle>,
    /// For what comes in batches.
    inserter: Lane<sqlx::Postgres, Idle>,
    revoker: Lane<sqlx::Postgres, Idle>,
    /// For the roll, which whoever waits for others looks at.
    looker: Lane<sqlx::Postgres, Idle>,
    sweeper: Lane<sqlx::Postgres, Idle>,
    /// One connection, which listens. `None` where it may not.
    listener: Option<PgPool>,
    listening: tokio::sync::Mutex<Option<PgListener>>,
    /// The replica that joined the roll here, which need not be woken for what is revoked here.
    joined: Mutex<Option<Uuid>>,
    connections_max: u32,
}

impl Postgres {
    const ANSWER_LIMIT: Duration = Duration::from_secs(5);
    const FOLLOW_LIMIT: Duration = Duration::from_secs(2);
    const SWEEP_LIMIT: Duration = Duration::from_secs(60);
    const INSERTS_AT_ONCE: u32 = 2;
    const CHECKS_AT_ONCE: u32 = 2;

    pub(super) fn new(options: &Options) -> Result<Self, Error> {
        let connect: PgConnectOptions = options.url.parse().map_err(failure::unreachable)?;
        let connect = match connect.get_application_name() {
            Some(_) => connect,
            None => connect.application_name("counterfoil"),
        };
        let pool = |connections_max: u32, lock_limit: &'static str| {
            PgPoolOptions::new()
                .max_connections(connections_max)
                .acquire_timeout(ACQUIRE_LIMIT)
                .test_before_acquire(false)
                .before_acquire(|connection, meta| {
                    Box::pin(async move {
                        if meta.idle_for > TRUSTED_IDLE {
                            connection.ping().await?;
                        }
                        Ok(true)
                    })
                })
                .after_connect(move |connection, _| {
                    Box::pin(async move {
                        // Every statement is made so that one plan fits all its parameters, and making a plan takes
                        // longer than most of them. It is made along an index though the table may be empty as yet: it
                        // is kept while that grows. Where there is none, a scan counts as too dear for words, and is
                        // not to be compiled for that. A statement by itself that waited for a row is to find it as it
                        // is now, as in a change.
                        sqlx::query!(
                            "select set_config('plan_cache_mode', 'force_generic_plan', false) as plans,
                                set_config('enable_seqscan', 'off', false) as scans, set_config('jit', 'off', false) as jit,
                                set_config('default_transaction_isolation', 'read committed', false) as isolation,
                                set_config('standard_conforming_strings', 'on', false) as strings,
                                set_config('lock_timeout', $1, false) as locks",
                            lock_limit
                        )
                        .fetch_one(&mut *connection)
                        .await?;
                        // What a replica says of a token may be old: after a failover it is as good as no answer.
                        match is_replica(connection).await? {
                            true => Err(sqlx::Error::Protocol("it is a replica, which can't be written to".to_owned())),
                            false => Ok(()),
                        }
                    })
                })
                .connect_lazy_with(connect.clone())
        };
        let shared = pool(options.connections_max, LOCK_LIMIT);
        Ok(Self {
            follower: Lane::new(&pool(1, FOLLOW_LOCK_LIMIT), 1, Idle),
            inserter: Lane::new(&shared, Self::INSERTS_AT_ONCE, Idle),
            revoker: Lane::new(&shared, 1, Idle),
            looker: Lane::new(&shared, 1, Idle),
            sweeper: Lane::new(&shared, 1, Idle),
            pool: shared,
            listener: options.listen.then(|| pool(1, LOCK_LIMIT)),
            listening: tokio::sync::Mutex::default(),
            joined: Mutex::default(),
            options: connect,
            connections_max: options.connections_max,
        })
    }

    async fn schema(&self) -> Result<Schema, Error> {
        let mut connection = self.connect().await?;
        if is_replica(&mut connection).await.map_err(failure::failed)? {
            return Err(Error::unavailable("the database is a replica that can't be written to"));
        }
        let applied = applied(&mut connection).await?;
        Ok(failure::compare(&migrator(), &applied))
    }

    async fn migrate(&self) -> Result<Vec<String>, Error> {
        let mut connection = self.connect().await?;
        // A lock of the transaction, not of the session, so that poolers work; and all migrations or none.
        let mut tx = connection.begin_with(BEGIN_TO_MIGRATE).await.map_err(failure::failed)?;
        sqlx::query!("select pg_advisory_xact_lock($1)", MIGRATION_LOCK)
            .execute(&mut *tx)
            .await
            .map_err(failure::failed)?;
        let before = applied(&mut tx).await?;
        let missing = failure::apply(&migrator(), &before, &mut *tx).await?;
        tx.commit().await.map_err(failure::failed)?;
        Ok(missing)
    }

    async fn time(&self) -> Result<DateTime<Utc>, sqlx::Error> {
        let millis = sqlx::query_scalar!(
            r#"/* postgres */ select (extract(epoch from clock_timestamp()) * 1000)::bigint as "millis!""#
        )
        .fetch_one(&self.pool)
        .await?;
        rows::millis(millis)
    }

    fn pool_use(&self) -> PoolUse {
        let idle = u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX);
        PoolUse { open: self.pool.size(), idle, max: self.connections_max }
    }

    async fn close(&self) {
        if let Some(listener) = &self.listener {
            // Whoever listens hears that it closes, and who doesn't just now has left the connection here.
            tokio::join!(listener.close(), async { drop(self.listening.lock().await.take()) });
        }
        self.follower.close().await;
        tokio::join!(self.inserter.close(), self.revoker.close(), self.looker.close(), self.sweeper.close());
        self.pool.close().await;
    }

    fn joined(&self) -> Option<Uuid> {
        *self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn begin(&self) -> Result<Transaction<'static, sqlx::Postgres>, sqlx::Error> {
        self.pool.begin_with(BEGIN).await
    }

    /// A connection of its own, whose error says more than the pool's. In another encoding than this program's there
    /// are texts that can't be stored, and lengths are of something else.
    async fn connect(&self) -> Result<PgConnection, Error> {
        let connecting = failure::within(CONNECT_LIMIT, PgConnection::connect_with(&self.options));
        let mut connection = connecting.await.map_err(failure::unreachable)?;
        let place = sqlx::query!(
            r#"select current_setting('server_encoding') as "encoding!", current_schema()::text as first,
                (select n.nspname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
                where c.oid = to_regclass($1::text)) as found"#,
            failure::MIGRATIONS_TABLE
        )
        .fetch_one(&mut connection)
        .await
        .map_err(failure::failed)?;
        let encoding = place.encoding;
        if encoding != "UTF8" {
            return Err(Error::config(format!(
                "database_url: the database's encoding is {encoding}, but has to be UTF8: create another with `encoding 'UTF8'`"
            )));
        }
        // What is made goes into the first schema of the path, and what is looked for is found in any.
        let Some(first) = place.first else {
            return Err(Error::config("database_url: there is no schema of those that search_path names"));
        };
        match place.found {
            Some(found) if found != first => Err(Error::config(format!(
                "database_url: search_path begins with the schema {first}, but the registry is in {found}: name that \
                 alone, by ?options[search_path]={found}"
            ))),
            _ => Ok(connection),
        }
    }
}

/// The migrations that were applied.
async fn applied(connection: &mut PgConnection) -> Result<Vec<AppliedMigration>, Error> {
    // As any other query: `to_regclass` may not have heard yet of what another process has just made.
    let is_migrated = sqlx::query_scalar!(
        r#"select exists (
            select from pg_tables where schemaname = current_schema() and tablename = $1
        ) as "is_migrated!""#,
        failure::MIGRATIONS_TABLE
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(failure::failed)?;
    match is_migrated {
        true => connection.list_applied_migrations(failure::MIGRATIONS_TABLE).await.map_err(failure::not_migrated),
        false => Ok(Vec::new()),
    }
}

/// Trusts a connection that was used just now: after a while the server may have been restarted, or another one have
/// its name.
struct Idle;

impl Trust<sqlx::Postgres> for Idle {
    async fn trusts(&self, connection: &mut PgConnection, _: Duration, idle: Duration) -> bool {
        idle <= TRUSTED_IDLE || connection.ping().await.is_ok()
    }
}

async fn is_replica(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(r#"/* postgres */ select pg_is_in_recovery() as "is_replica!""#).fetch_one(connection).await
}

/// Without a lock of sqlx's: that one belongs to the session.
fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("./migrations/postgres");
    migrator.set_locking(false);
    migrator.dangerous_set_table_name(failure::MIGRATIONS_TABLE);
    migrator
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("connections_max", &self.connections_max).finish_non_exhaustive()
    }
}

implement_store!(Postgres);
