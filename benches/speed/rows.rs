//! Fills a registry with records, by SQL, faster than they could be issued. They are as those of real tokens, but
//! nobody holds the tokens.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};

use crate::Outcome;
use crate::setup::ISSUER;

/// A log-in and some refreshes.
const TOKENS_IN_SESSION: usize = 5;
/// Sessions that one statement adds.
const SESSIONS_AT_ONCE: usize = 50_000;
const SUBJECTS: i64 = 10_000;
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Which records to add.
pub(crate) struct Rows<'a> {
    pub(crate) count: usize,
    /// `None`: of ten thousand different subjects.
    pub(crate) subject: Option<&'a str>,
    /// When the last of them was issued, in seconds from now; the first was a day before that.
    pub(crate) issued_until: i64,
    pub(crate) lifetime: i64,
}

impl<'a> Rows<'a> {
    /// Live ones: issued in the last day, good for another week.
    pub(crate) fn live(count: usize) -> Self {
        Self { count, subject: None, issued_until: 0, lifetime: 8 * DAY_SECONDS }
    }

    /// Ones that expired a day ago or earlier.
    pub(crate) fn expired(count: usize) -> Self {
        Self { count, subject: None, issued_until: -2 * DAY_SECONDS, lifetime: DAY_SECONDS }
    }

    /// Of this subject alone.
    pub(crate) fn of(self, subject: &'a str) -> Self {
        Self { subject: Some(subject), ..self }
    }

    /// From (exclusive) and to (inclusive) which session each statement goes, and how many there are.
    fn portions(&self) -> (impl Iterator<Item = (i64, i64)> + use<>, i64) {
        let sessions = self.count.div_ceil(TOKENS_IN_SESSION);
        let portions = (0..sessions).step_by(SESSIONS_AT_ONCE);
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        (portions.map(move |from| (number(from), number((from + SESSIONS_AT_ONCE).min(sessions)))), number(sessions))
    }

    /// Adds them to a PostgreSQL database that has been migrated. Triggers and references are not looked at, since
    /// nothing is wrong with these rows.
    pub(crate) async fn load_postgres(&self, connection: &mut PgConnection) -> Outcome<()> {
        connection.execute("set session_replication_role = replica").await?;
        sqlx::query(
            "insert into cf_subjects (subject)
            select coalesce($2, 'user-' || i) from generate_series(0, case when $2 is null then $1 - 1 else 0 end) as i
            on conflict do nothing",
        )
        .bind(SUBJECTS)
        .bind(self.subject)
        .execute(&mut *connection)
        .await?;
        let (portions, sessions) = self.portions();
        for (from, to) in portions {
            sqlx::query(POSTGRES)
                .bind(from)
                .bind(to)
                .bind(self.issued_until)
                .bind(self.lifetime)
                .bind(self.subject)
                .bind(SUBJECTS)
                .bind(sessions)
                .bind(ISSUER)
                .bind(i32::try_from(TOKENS_IN_SESSION)?)
                .execute(&mut *connection)
                .await?;
        }
        connection.execute("set session_replication_role = origin").await?;
        Ok(())
    }

    /// Adds them to a SQLite database that has been migrated.
    pub(crate) async fn load_sqlite(&self, file: &Path) -> Outcome<()> {
        let mut connection = sqlite(file, SqliteSynchronous::Off).await?;
        connection.execute("pragma foreign_keys = off").await?;
        sqlx::query(
            "with recursive n (i) as (select 0 union all select i + 1 from n where i + 1 < iif(?2 is null, ?1, 1))
            insert into cf_subjects (subject) select coalesce(?2, 'user-' || i) from n where true on conflict do nothing",
        )
        .bind(SUBJECTS)
        .bind(self.subject)
        .execute(&mut connection)
        .await?;
        let (portions, sessions) = self.portions();
        for (from, to) in portions {
            let mut tx = connection.begin().await?;
            for sql in SQLITE {
                sqlx::query(sql)
                    .bind(from)
                    .bind(to)
                    .bind(self.issued_until)
                    .bind(self.lifetime)
                    .bind(self.subject)
                    .bind(SUBJECTS)
                    .bind(sessions)
                    .bind(ISSUER)
                    .bind(i64::try_from(TOKENS_IN_SESSION)?)
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await?;
        }
        connection.execute("drop table if exists temp.bench_session").await?;
        connection.execute("pragma optimize").await?;
        connection.close().await?;
        Ok(())
    }
}

/// A connection to a SQLite file, as the server opens it but for how durable it is.
pub(crate) async fn sqlite(file: &Path, synchronous: SqliteSynchronous) -> Outcome<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .foreign_keys(true)
        .synchronous(synchronous);
    Ok(options.connect().await?)
}

/// Sessions and their tokens in one statement. Their ids are of version 7, as those of real ones.
const POSTGRES: &str = "
    with session as materialized (
        select i, coalesce($5, 'user-' || (i % $6)) as subject,
            extract(epoch from now())::bigint + $3 - 86400 + 86400 * i / $7 as at,
            replace(gen_random_uuid()::text, '-', '') as r
        from generate_series($1 + 1, $2) as i
    ), known as materialized (
        select subject, at, (lpad(to_hex(at * 1000), 12, '0') || '7' || substr(r, 14, 3) || '8' || substr(r, 18))::uuid as sid
        from session
    ), stored as (
        insert into cf_sessions (sid, subject, generation, created_at, last_seen_at, expires_at)
        select sid, subject, 0, at, at, at + $4 from known
    ), token as materialized (
        select sid, subject, at, replace(gen_random_uuid()::text, '-', '') as r
        from known cross join generate_series(1, $9)
    ), named as (
        select sid, subject, at, (lpad(to_hex(at * 1000), 12, '0') || '7' || substr(r, 14, 3) || '8' || substr(r, 18))::uuid as jti
        from token
    )
    insert into cf_tokens (jti, sid, subject, token_type, issued_at, not_before, expires_at, scope, claims, kid)
    select jti, sid, subject, 'access', at, at, at + $4, '',
        format('{\"aud\":[\"%s\"],\"client_id\":\"counterfoil\",\"exp\":%s,\"fresh\":false,\"iat\":%s,\"iss\":\"%s\",\"jti\":\"%s\",\"nbf\":%s,\"sid\":\"%s\",\"sub\":\"%s\",\"type\":\"access\"}',
            $8, at + $4, at, $8, jti, at, sid, subject),
        'kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k'
    from named";

/// The same, with the sessions in a table of their own meanwhile, since SQLite adds to one table at a time.
const SQLITE: [&str; 4] = [
    "drop table if exists temp.bench_session",
    "create temp table bench_session as
        with recursive n (i) as (select ?1 + 1 union all select i + 1 from n where i < ?2)
        select coalesce(?5, 'user-' || (i % ?6)) as subject, unixepoch() + ?3 - 86400 + 86400 * i / ?7 as at,
            unhex(printf('%012x', (unixepoch() + ?3 - 86400 + 86400 * i / ?7) * 1000) || '7'
                || substr(hex(randomblob(2)), 1, 3) || '8' || substr(hex(randomblob(8)), 1, 15)) as sid
        from n",
    "insert into cf_sessions (sid, subject, generation, created_at, last_seen_at, expires_at)
        select sid, subject, 0, at, at, at + ?4 from temp.bench_session",
    "with recursive n (i) as (select 1 union all select i + 1 from n where i < ?9),
        token as materialized (
            select sid, subject, at, printf('%012x', at * 1000) || '7' || substr(hex(randomblob(2)), 1, 3) || '8'
                || substr(hex(randomblob(8)), 1, 15) as jti
            from temp.bench_session cross join n
        )
        insert into cf_tokens (jti, sid, subject, token_type, issued_at, not_before, expires_at, scope, claims, kid)
        select unhex(jti), sid, subject, 'access', at, at, at + ?4, '',
            printf('{\"aud\":[\"%s\"],\"client_id\":\"counterfoil\",\"exp\":%d,\"fresh\":false,\"iat\":%d,\"iss\":\"%s\",\"jti\":\"%s\",\"nbf\":%d,\"sid\":\"%s\",\"sub\":\"%s\",\"type\":\"access\"}',
                ?8, at + ?4, at, ?8, lower(jti), at, lower(hex(sid)), subject),
            'kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k'
        from token",
];
