//! SQLite.
//!
//! One connection writes, so that writers of this process queue in the order they came instead of trying each other's
//! patience; other processes are waited for by SQLite's busy time-out. Readers never wait (WAL).

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
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::migrate::{AppliedMigration, Migrate, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Transaction};

use super::lane::{Lane, Trust};
use super::*;

/// The oldest version that has `jsonb_each`. The one that comes with the crate is newer; a build may be told to take
/// the system's.
const VERSION_MIN: (u32, u32) = (3, 51);

/// Begins a change: the one writer at a time is told apart before anything is read.
const BEGIN: &str = "begin immediate";

/// How long a change waits for another process's.
const BUSY_LIMIT: Duration = Duration::from_secs(5);
/// How long a request waits for a connection.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(10);
/// How often, and after what pause each, a new file is tried to be put in WAL mode, for which SQLite doesn't wait.
const WAL_TRIES: u32 = 100;
const WAL_PAUSE: Duration = Duration::from_millis(50);
/// After how many pages of its log (16 MB) SQLite writes them to the database. By default it does at a quarter of that,
/// which a few batches of tokens fill with the same pages of indexes again and again.
const CHECKPOINT_PAGES: &str = "4000";
/// How much the connection that writes keeps of the database, in KiB: no batch has to read again what the last one
/// wrote.
const WRITER_CACHE: &str = "-16000";

pub(super) struct Sqlite {
    /// `None` for a database in memory.
    file: Option<SqliteConnectOptions>,
    readers: SqlitePool,
    /// For checks, which come in batches.
    checker: Lane<sqlx::Sqlite, Arc<Watched>>,
    writer: SqlitePool,
    /// Renews and acknowledges. What it writes need not survive a power cut, which ends all leases.
    follower: Lane<sqlx::Sqlite, Arc<Watched>>,
    connections_max: u32,
}

impl Sqlite {
    const ANSWER_LIMIT: Duration = Duration::from_secs(20);
    const FOLLOW_LIMIT: Duration = Duration::from_secs(2);
    const SWEEP_LIMIT: Duration = Duration::from_secs(60);
    /// One connection writes.
    const INSERTS_AT_ONCE: u32 = 1;
    /// What takes time is the CPU, and the hand-over of each batch to the connection's own thread.
    const CHECKS_AT_ONCE: u32 = 1;

    pub(super) fn new(options: &Options) -> Result<Self, Error> {
        let connect = SqliteConnectOptions::from_str(&options.url)
            .map_err(failure::unreachable)?
            .create_if_missing(false)
            .foreign_keys(true)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_LIMIT)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES);
        let pool = SqlitePoolOptions::new().acquire_timeout(ACQUIRE_LIMIT).test_before_acquire(false);
        let watched = Arc::new(Watched::new(connect.get_filename()));
        if options.in_memory {
            // It is gone when its connection is, so there is one, for all, for good.
            let only = pool.min_connections(1).max_connections(1).idle_timeout(None).max_lifetime(None);
            let only = only.connect_lazy_with(connect.shared_cache(false));
            let lane = || Lane::new(&only, 0, Arc::clone(&watched));
            let (checker, follower, readers) = (lane(), lane(), only.clone());
            return Ok(Self { file: None, readers, checker, writer: only, follower, connections_max: 1 });
        }
        // Before anything is made beside it, such as a key.
        exists(&connect)?;
        let pool = |connections_max: u32, connect: SqliteConnectOptions| {
            let watched = Arc::clone(&watched);
            let pool = pool.clone().max_connections(connections_max).before_acquire(move |connection, meta| {
                // One whose transaction SQLite rolled back by itself, as where the disk is full, is taken for one
                // within it for ever, and begins no other.
                let is_good = watched.is_current(meta.age) && !sqlx::Connection::is_in_transaction(connection);
                Box::pin(async move { Ok(is_good) })
            });
            pool.connect_lazy_with(connect)
        };
        let readers = pool(options.connections_max, connect.clone().pragma("query_only", "on"));
        let follower = pool(1, connect.clone().synchronous(SqliteSynchronous::Normal));
        Ok(Self {
            checker: Lane::new(&readers, Self::CHECKS_AT_ONCE, Arc::clone(&watched)),
            readers,
            writer: pool(1, connect.clone().pragma("cache_size", WRITER_CACHE)),
            follower: Lane::new(&follower, 1, Arc::clone(&watched)),
            file: Some(connect),
            connections_max: options.connections_max,
        })
    }

    async fn schema(&self) -> Result<Schema, Error> {
        if let Some(file) = &self.file
            && !exists(file)?
        {
            return Ok(failure::compare(&migrator(), &[]));
        }
        let mut connection = self.connect().await?;
        // Refuses a file that is no database, or may not be written, before the first request finds out: what begins a
        // change only reads where nothing may be written.
        let mut tx = sqlx::Connection::begin_with(&mut *connection, BEGIN).await.map_err(failure::unreachable)?;
        sqlx::query("create table cf_written (a)").execute(&mut *tx).await.map_err(failure::unreachable)?;
        let applied = applied(&mut tx).await?;
        tx.rollback().await.map_err(failure::failed)?;
        // A copy by `VACUUM INTO` or out of a dump is in the mode in which readers and writers wait for each other.
        if let Some(file) = self.file.as_ref().filter(|_| !applied.is_empty()) {
            let mode: String =
                sqlx::query_scalar("pragma journal_mode").fetch_one(&mut *connection).await.map_err(failure::failed)?;
            if mode != "wal" {
                drop(connection);
                create(file).await?;
            }
        }
        Ok(failure::compare(&migrator(), &applied))
    }

    async fn migrate(&self) -> Result<Vec<String>, Error> {
        if let Some(file) = &self.file {
            create(file).await?;
        }
        let mut connection = self.connect().await?;
        // One process at a time, and all migrations or none.
        let mut tx = sqlx::Connection::begin_with(&mut *connection, BEGIN).await.map_err(failure::unreachable)?;
        let before = applied(&mut tx).await?;
        let missing = failure::apply(&migrator(), &before, &mut *tx).await?;
        tx.commit().await.map_err(failure::failed)?;
        Ok(missing)
    }

    async fn time(&self) -> Result<DateTime<Utc>, sqlx::Error> {
        let millis =
            sqlx::query_scalar!(r#"/* sqlite */ select cast(unixepoch('subsec') * 1000 as integer) as "millis!: i64""#)
                .fetch_one(&self.readers)
                .await?;
        rows::millis(millis)
    }

    fn pool_use(&self) -> PoolUse {
        let idle = u32::try_from(self.readers.num_idle()).unwrap_or(u32::MAX);
        PoolUse { open: self.readers.size(), idle, max: self.connections_max }
    }

    async fn close(&self) {
        self.follower.close().await;
        self.checker.close().await;
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn begin(&self) -> Result<Transaction<'static, sqlx::Sqlite>, sqlx::Error> {
        self.writer.begin_with(BEGIN).await
    }

    async fn connect(&self) -> Result<PoolConnection<sqlx::Sqlite>, Error> {
        let mut connection = self.writer.acquire().await.map_err(failure::unreachable)?;
        let version = sqlx::query_scalar!(r#"/* sqlite */ select sqlite_version() as "version!: String""#)
            .fetch_one(&mut *connection)
            .await
            .map_err(failure::unreachable)?;
        match is_recent(&version) {
            true => Ok(connection),
            false => Err(Error::config(format!(
                "this program was linked with SQLite {version} and needs {}.{} or newer: build it with the one that \
                libsqlite3-sys brings",
                VERSION_MIN.0, VERSION_MIN.1
            ))),
        }
    }
}

/// Whether a SQLite of this version can do all that is asked of it.
fn is_recent(version: &str) -> bool {
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    parts.next().zip(parts.next()) >= Some(VERSION_MIN)
}

/// The migrations that were applied.
async fn applied(connection: &mut SqliteConnection) -> Result<Vec<AppliedMigration>, Error> {
    let is_migrated = sqlx::query_scalar!(
        r#"select exists (select 1 from sqlite_master where type = 'table' and name = ?1) as "is_migrated!: bool""#,
        failure::MIGRATIONS_TABLE
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(failure::unreachable)?;
    match is_migrated {
        true => connection.list_applied_migrations(failure::MIGRATIONS_TABLE).await.map_err(failure::not_migrated),
        false => Ok(Vec::new()),
    }
}

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("./migrations/sqlite");
    migrator.dangerous_set_table_name(failure::MIGRATIONS_TABLE);
    migrator
}

/// Whether the file is there. A directory that is not is an error of the settings, and so is a log without its
/// database: SQLite would throw it away, and what it has of the database with it.
fn exists(file: &SqliteConnectOptions) -> Result<bool, Error> {
    let path = file.get_filename();
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    if directory.is_some_and(|directory| !directory.is_dir()) {
        return Err(Error::config(format!(
            "database_url: {} can't be created: its directory does not exist",
            path.display()
        )));
    }
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    if length(path) == 0 && length(&log_of(path)) > 0 {
        return Err(Error::config(format!(
            "database_url: {} is not there, but its log is: put the database back, or remove {}",
            path.display(),
            log_of(path).display()
        )));
    }
    Ok(path.exists())
}

/// Creates the file, if it is not there, and puts it in WAL mode, in which it stays.
async fn create(file: &SqliteConnectOptions) -> Result<(), Error> {
    if !exists(file)? {
        create_private(file.get_filename());
    }
    let options = file.clone().create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
    let mut tries_left = WAL_TRIES;
    loop {
        match options.connect().await {
            Ok(connection) => return sqlx::Connection::close(connection).await.map_err(failure::failed),
            Err(error) if tries_left > 0 && failure::is_busy(&error) => tries_left -= 1,
            Err(error) => return Err(failure::unreachable(error)),
        }
        tokio::time::sleep(WAL_PAUSE).await;
    }
}

/// Creates an empty file that is its owner's alone: it will hold password hashes. SQLite gives the files beside it the
/// same mode. Where this fails, connecting does too, and says why.
fn create_private(path: &Path) {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    drop(options.open(path));
}

/// The log that SQLite keeps beside a database.
fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Notices when the file is replaced by another one, or removed: a connection goes on with the file that it opened,
/// wherever that is now. It looks at no log beside it: where that alone was removed, whoever closes a connection to the
/// old one writes it over what has come to the database since, so that to open others would destroy more than it saves.
struct Watched {
    path: PathBuf,
    found: Mutex<Found>,
}

/// What was found at the path.
#[derive(Default)]
struct Found {
    id: Option<FileId>,
    /// When it was last found to be another file, or gone.
    changed_at: Option<Instant>,
}

/// What tells a file from another one that has its path, and from itself when it could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
    mode: u32,
    owner: (u32, u32),
}

impl Watched {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), found: Mutex::default() }
    }

    /// Whether a connection of this age is one to the file that has the path now.
    fn is_current(&self, age: Duration) -> bool {
        let id = file_id(&self.path);
        let now = Instant::now();
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.id != id {
            // What was opened before this look is of the old file, as far as anybody knows.
            found.changed_at = found.id.map(|_| now).or(found.changed_at);
            found.id = id;
        }
        let is_since = |changed_at| now.checked_sub(age).is_none_or(|opened| opened >= changed_at);
        found.changed_at.is_none_or(is_since)
    }
}

impl Trust<sqlx::Sqlite> for Arc<Watched> {
    async fn trusts(&self, _: &mut SqliteConnection, age: Duration, _: Duration) -> bool {
        self.is_current(age)
    }
}

#[cfg(unix)]
fn file_id(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;

    std::fs::metadata(path).ok().map(|metadata| FileId {
        device: metadata.dev(),
        inode: metadata.ino(),
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
    })
}

/// Elsewhere an open file can't be replaced.
#[cfg(not(unix))]
fn file_id(_: &Path) -> Option<FileId> {
    None
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("connections_max", &self.connections_max).finish_non_exhaustive()
    }
}

implement_store!(Sqlite);

#[cfg(all(test, unix))]
mod tests;
