//! Removing what nothing that could still be presented needs, in bounded batches that wait for no lock, and for no
//! disk: what a crash brings back has still expired.

use std::ops::Range;

use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::Postgres;
use crate::store::rows::{self, ENDING_KEPT_SECONDS};
use crate::store::{ADDRESS_KNOWN_SECONDS, Job, PurgedBatch};

impl Postgres {
    pub(super) async fn hold_job(&self, job: Job, holder: Uuid, now: i64, until: i64) -> Result<bool, sqlx::Error> {
        let job = job.as_str();
        let held = sqlx::query!(
            "update cf_jobs set holder = $2, held_until = $4
            where name = $1 and (holder is null or holder = $2 or held_until <= $3)",
            job,
            holder,
            now,
            until
        )
        .execute(&self.pool)
        .await?;
        Ok(held.rows_affected() > 0)
    }

    pub(super) async fn release_job(&self, job: Job, holder: Uuid) -> Result<(), sqlx::Error> {
        let job = job.as_str();
        sqlx::query!("update cf_jobs set holder = null, held_until = 0 where name = $1 and holder = $2", job, holder)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    pub(super) async fn purge_batch(&self, from: i64, cutoff: i64, rows_max: u32) -> Result<PurgedBatch, sqlx::Error> {
        let statement = sqlx::query!(
            r#"with loosely as materialized (
                select set_config('synchronous_commit', 'off', true)
            ), due as (
                select t.ctid from loosely cross join cf_tokens t where t.expires_at >= $1 and t.expires_at < $2
                order by t.expires_at limit $3 for update of t skip locked
            ), gone as (
                delete from cf_tokens where ctid = any(array(select ctid from due)) returning expires_at
            )
            select count(*) as "tokens!", max(expires_at) as up_to from gone"#,
            from,
            cutoff,
            i64::from(rows_max)
        );
        let gone = self.sweeper.with(async |connection| statement.fetch_one(connection).await).await?;
        Ok(PurgedBatch { tokens: rows::count(gone.tokens), up_to: gone.up_to })
    }

    /// One statement, so that what rests between is short. A session that somebody joins meanwhile expires later, which
    /// is looked at again under its lock; a token that plain SQL puts into one is found by a trigger, and nothing goes.
    pub(super) async fn purge_sessions(&self, expired: &Range<i64>, rows_max: u32) -> Result<u64, sqlx::Error> {
        let statement = sqlx::query!(
            r#"with loosely as materialized (
                select set_config('synchronous_commit', 'off', true)
            ), due as materialized (
                select s.sid from loosely cross join cf_sessions s
                where s.expires_at >= $1 and s.expires_at < $2
                    and (select t.jti from cf_tokens t where t.sid = s.sid limit 1) is null
                order by s.expires_at limit $3 for update of s skip locked
            ), gone as (
                delete from cf_sessions s using due where s.sid = due.sid returning s.sid, s.subject
            )
            select count(*) as "sessions!",
                coalesce(array_agg(distinct g.subject) filter (where not exists (
                    select from cf_sessions s where s.subject = g.subject and s.sid not in (select sid from gone)
                )), '{}') as "bereft!"
            from gone g"#,
            expired.start,
            expired.end,
            i64::from(rows_max)
        );
        let gone = self.sweeper.with(async |connection| statement.fetch_one(connection).await).await?;
        if !gone.bereft.is_empty() {
            // One that is left over, by a crash just now, goes with the next session that it has.
            let mut tx = self.begin().await?;
            forget_subjects(&mut tx, &gone.bereft).await?;
            tx.commit().await?;
        }
        Ok(rows::count(gone.sessions))
    }

    pub(super) async fn purge_remains(&self, cutoff: i64, now_ms: i64, rows_max: u32) -> Result<u64, sqlx::Error> {
        let rows_max = i64::from(rows_max);
        let mut tx = self.begin().await?;
        let endings = sqlx::query_scalar!(
            "with due as (
                select e.subject, e.generation from cf_subject_endings e
                where e.ended_at < $1 and not exists (
                    select from cf_sessions s where s.subject = e.subject and s.generation < e.generation
                )
                order by e.ended_at limit $2 for update skip locked
            )
            delete from cf_subject_endings e using due
            where e.subject = due.subject and e.generation = due.generation returning e.subject",
            cutoff - ENDING_KEPT_SECONDS,
            rows_max
        )
        .fetch_all(&mut *tx)
        .await?;
        let subjects = forget_subjects(&mut tx, &endings).await?;
        let limits = sqlx::query!(
            "with due as (
                select name from cf_login_limits where arrival_ms < $1
                order by arrival_ms limit $2 for update skip locked
            )
            delete from cf_login_limits l using due where l.name = due.name",
            now_ms,
            rows_max
        )
        .execute(&mut *tx)
        .await?;
        let addresses = sqlx::query!(
            "delete from cf_known_addresses where (subject, address) in (
                select subject, address from cf_known_addresses where logged_in_at <= $1
                order by logged_in_at limit $2 for update skip locked
            )",
            now_ms / 1_000 - ADDRESS_KNOWN_SECONDS,
            rows_max
        )
        .execute(&mut *tx)
        .await?;
        let repeats = sqlx::query!(
            "delete from cf_repeats where (client_id, repeat_key) in (
                select client_id, repeat_key from cf_repeats where expires_at < $1
                order by expires_at limit $2 for update skip locked
            )",
            now_ms / 1_000,
            rows_max
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        let others = [limits, addresses, repeats].map(|gone| gone.rows_affected());
        Ok(endings.len() as u64 + subjects + others.iter().sum::<u64>())
    }

    pub(super) async fn purge_audit(&self, cutoff: i64, rows_max: u32) -> Result<u64, sqlx::Error> {
        let gone = sqlx::query!(
            "delete from cf_audit where id = any(array(select id from cf_audit where at < $1 order by at limit $2))",
            cutoff,
            i64::from(rows_max)
        )
        .execute(&self.pool)
        .await?;
        Ok(gone.rows_affected())
    }

    pub(super) async fn purgeable(&self, cutoff: i64, at_most: i64) -> Result<u64, sqlx::Error> {
        let due = sqlx::query_scalar!(
            r#"select count(*) as "due!" from (select from cf_tokens where expires_at < $1 limit $2) due"#,
            cutoff,
            at_most
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(rows::count(due))
    }

    pub(super) async fn records_held(&self) -> Result<u64, sqlx::Error> {
        /// Up to here counting is quick, and exact.
        const COUNTED_MAX: i64 = 100_000;
        let estimate = sqlx::query_scalar!(
            r#"/* postgres */ select reltuples::bigint as "estimate!" from pg_class where oid = to_regclass('cf_tokens')"#
        )
        .fetch_optional(&self.pool)
        .await?
        .unwrap_or(0);
        if estimate > COUNTED_MAX {
            return Ok(rows::count(estimate));
        }
        let held = sqlx::query_scalar!(r#"/* postgres */ select count(*) as "held!" from cf_tokens"#)
            .fetch_one(&self.pool)
            .await?;
        Ok(rows::count(held))
    }
}

/// Removes those of these subjects that nothing is left of. A subject loses its last row in a purge or never, so those
/// of what goes are all there is to look at, with those for whom nothing was stored after all. They are locked first and
/// looked at again by the next statement.
pub(super) async fn forget_subjects(connection: &mut PgConnection, bereft: &[String]) -> Result<u64, sqlx::Error> {
    let idle = sqlx::query_scalar!(
        "select subject from cf_subjects where subject = any($1) order by subject for update skip locked",
        bereft
    )
    .fetch_all(&mut *connection)
    .await?;
    let gone = sqlx::query!(
        "delete from cf_subjects u where u.subject = any($1)
            and not exists (select from cf_sessions s where s.subject = u.subject)
            and not exists (select from cf_subject_endings e where e.subject = u.subject)
            and not u.own",
        &idle
    )
    .execute(connection)
    .await?;
    Ok(gone.rows_affected())
}
