//! What the databases' errors mean to callers, and how long a call waits for an answer.

use std::future::Future;
use std::time::Duration;

use sqlx::migrate::{AppliedMigration, Migrate, MigrateError, Migrator};

use super::Schema;
use crate::error::{Error, Kind};

/// How often a transaction that lost to another one is tried again.
pub(super) const RETRIES: u32 = 2;

/// The table that says which migrations were applied. Its name is our own, so that an application can keep its own
/// migrations with sqlx in the same database.
pub(super) const MIGRATIONS_TABLE: &str = "cf_migrations";

/// Waits for an answer, but not for ever: a server that is stopped or cut off neither answers nor hangs up.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(limit, call).await {
        Ok(outcome) => outcome,
        Err(_) => Err(sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::TimedOut))),
    }
}

/// Whether another transaction came first, and trying again is all there is to do.
pub(super) fn lost_to_another(error: &sqlx::Error) -> bool {
    // serialization_failure and deadlock_detected
    matches!(code(error).as_deref(), Some("40001" | "40P01"))
}

/// What an error of a running database means: it can't be asked just now, or something is wrong that should not be.
pub(super) fn failed(error: sqlx::Error) -> Error {
    if is_outage(&error) {
        Error::unavailable("the database can't be asked").with_source(error)
    } else {
        Error::internal("the database answered what it should not").with_source(error)
    }
}

/// What an error at the first contact means: settings that can't work are named.
pub(super) fn unreachable(error: sqlx::Error) -> Error {
    let message = match (&error, code(&error).as_deref()) {
        (_, Some("28P01" | "28000")) => "database_url: the database refuses the log-in: check user and password",
        (_, Some("3D000")) => "database_url: there is no such database on the server: create it first",
        // CANTOPEN, NOTADB, READONLY, PERM
        (_, Some(code)) if is_sqlite(code, &[14, 26, 8, 3]) => {
            "database_url: the file can't be opened as a SQLite database that may be written: check its path and permissions"
        }
        (sqlx::Error::Configuration(_), _) => "database_url is not a database URL",
        (sqlx::Error::Tls(_), _) => {
            "database_url: TLS to the database can't be set up: check sslmode and the certificates"
        }
        _ => return failed(error),
    };
    Error::config(message).with_source(error)
}

/// What a migration that failed means.
pub(super) fn not_migrated(error: MigrateError) -> Error {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) if is_outage(&error) => failed(error),
        error @ (MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_)) => {
            Error::new(Kind::Schema, "the database has migrations that this program does not know").with_source(error)
        }
        error => Error::internal("the database can't be migrated").with_source(error),
    }
}

/// Compares what was applied with what this program knows.
pub(super) fn compare(known: &Migrator, applied: &[AppliedMigration]) -> Schema {
    let same = |row: &AppliedMigration| known.iter().any(|m| m.version == row.version && m.checksum == row.checksum);
    if !applied.iter().all(same) {
        return Schema::Newer;
    }
    let missing: Vec<String> = known
        .iter()
        .filter(|migration| applied.iter().all(|row| row.version != migration.version))
        .map(|migration| migration.description.to_string())
        .collect();
    if missing.is_empty() { Schema::Current } else { Schema::Older(missing) }
}

/// Applies what is missing beside what was applied before, and says what that was.
pub(super) async fn apply(
    known: &Migrator,
    applied: &[AppliedMigration],
    connection: &mut (impl Migrate + Send),
) -> Result<Vec<String>, Error> {
    known.run_direct(None, connection, false).await.map_err(not_migrated)?;
    Ok(match compare(known, applied) {
        Schema::Older(missing) => missing,
        Schema::Current | Schema::Newer => Vec::new(),
    })
}

fn is_outage(error: &sqlx::Error) -> bool {
    use sqlx::Error::{BeginFailed, Database, Io, PoolClosed, PoolTimedOut, Protocol, Tls, WorkerCrashed};
    match error {
        // A connection that ends in the middle of its handshake is a breach of the protocol to the driver: a proxy
        // whose database is away accepts and hangs up.
        Io(_) | Tls(_) | Protocol(_) | PoolTimedOut | PoolClosed | WorkerCrashed | BeginFailed => true,
        Database(cause) => match cause.code().as_deref() {
            Some(state) if state.len() == 5 => is_outage_state(state),
            // BUSY, LOCKED, NOMEM, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB
            Some(code) if is_sqlite(code, &[5, 6, 7, 8, 10, 11, 13, 14, 26]) => true,
            _ => cause.message().starts_with("no such table"),
        },
        _ => false,
    }
}

/// The SQLSTATEs that say that the server can't answer now, whatever was asked: lost connections, resources, operators
/// and limits at work, a server in recovery, a database that lost its tables or its permissions.
fn is_outage_state(state: &str) -> bool {
    const CLASSES: [&str; 6] = ["08", "28", "40", "53", "57", "58"];
    const STATES: [&str; 6] = ["25006", "25P03", "3D000", "42501", "42P01", "55P03"];
    CLASSES.iter().any(|class| state.starts_with(class)) || STATES.contains(&state)
}

/// Whether a code of SQLite's is, or extends, one of these primary codes.
fn is_sqlite(code: &str, primary: &[i32]) -> bool {
    code.len() != 5 && code.parse::<i32>().is_ok_and(|code| primary.contains(&(code & 0xFF)))
}

fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|cause| cause.code()).map(std::borrow::Cow::into_owned)
}

/// Whether SQLite found the file in use by another process.
#[cfg(feature = "sqlite")]
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| is_sqlite(&code, &[5, 6]))
}
