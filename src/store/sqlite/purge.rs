//! Removing what nothing that could still be presented needs, in bounded batches.

use std::ops::Range;

use sqlx::sqlite::SqliteConnection;
use uuid::Uuid;

use super::Sqlite;
use crate::store::rows::{self, ENDING_KEPT_SECONDS};
use crate::store::{ADDRESS_KNOWN_SECONDS, Job, PurgedBatch};

impl Sqlite {
    pub(super) async fn hold_job(&self, job: Job, holder: Uuid, now: i64, until: i64) -> Result<bool, sqlx::Error> {
        let job = job.as_str();
        let held = sqlx::query!(
            "update cf_jobs set holder = ?2, held_until = ?4
            where name = ?1 and (holder is null or holder = ?2 or held_until <= ?3)",
            job,
            holder,
            now,
            until
        )
        .execute(&self.writer)
        .await?;
        Ok(held.rows_affected() > 0)
    }

    pub(super) async fn release_job(&self, job: Job, holder: Uuid) -> Result<(), sqlx::Error> {
        let job = job.as_str();
        sqlx::query!("update cf_jobs set holder = null, held_until = 0 where name = ?1 and holder = ?2", job, holder)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    pub(super) async fn purge_batch(&self, from: i64, cutoff: i64, rows_max: u32) -> Result<PurgedBatch, sqlx::Error> {
        let mut tx = self.begin().await?;
        let due = sqlx::query!(
            r#"select count(*) as "tokens!: i64", max(expires_at) as "up_to: i64" from (
                select expires_at from cf_tokens where expires_at >= ?1 and expires_at < ?2
                order by expires_at, rowid limit ?3
            )"#,
            from,
            cutoff,
            rows_max
        )
        .fetch_one(&mut *tx)
        .await?;
        sqlx::query!(
            "delete from cf_tokens where rowid in (
                select rowid from cf_tokens where expires_at >= ?1 and expires_at < ?2
                order by expires_at, rowid limit ?3
            )",
            from,
            cutoff,
            rows_max
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(PurgedBatch { tokens: rows::count(due.tokens), up_to: due.up_to })
    }

    pub(super) async fn purge_sessions(&self, expired: &Range<i64>, rows_max: u32) -> Result<u64, sqlx::Error> {
        let mut tx = self.begin().await?;
        let bereft = sqlx::query_scalar!(
            "delete from cf_sessions where sid in (
                select s.sid from cf_sessions s
                where s.expires_at >= ?1 and s.expires_at < ?2
                    and not exists (select 1 from cf_tokens t where t.sid = s.sid)
                order by s.expires_at limit ?3
            ) returning subject",
            expired.start,
            expired.end,
            rows_max
        )
        .fetch_all(&mut *tx)
        .await?;
        forget_subjects(&mut tx, &bereft).await?;
        tx.commit().await?;
        Ok(bereft.len() as u64)
    }

    pub(super) async fn purge_remains(&self, cutoff: i64, now_ms: i64, rows_max: u32) -> Result<u64, sqlx::Error> {
        let mut tx = self.begin().await?;
        let ended_before = cutoff - ENDING_KEPT_SECONDS;
        let endings = sqlx::query_scalar!(
            "delete from cf_subject_endings where (subject, generation) in (
                select e.subject, e.generation from cf_subject_endings e
                where e.ended_at < ?1 and not exists (
                    select 1 from cf_sessions s where s.subject = e.subject and s.generation < e.generation
                )
                order by e.ended_at limit ?2
            ) returning subject",
            ended_before,
            rows_max
        )
        .fetch_all(&mut *tx)
        .await?;
        let subjects = forget_subjects(&mut tx, &endings).await?;
        let limits = sqlx::query!(
            "delete from cf_login_limits where name in (
                select name from cf_login_limits where arrival_ms < ?1 order by arrival_ms limit ?2
            )",
            now_ms,
            rows_max
        )
        .execute(&mut *tx)
        .await?;
        let known_until = now_ms / 1_000 - ADDRESS_KNOWN_SECONDS;
        let addresses = sqlx::query!(
            "delete from cf_known_addresses where (subject, address) in (
                select subject, address from cf_known_addresses where logged_in_at <= ?1 order by logged_in_at limit ?2
            )",
            known_until,
            rows_max
        )
        .execute(&mut *tx)
        .await?;
        let repeats = sqlx::query!(
            "delete from cf_repeats where (client_id, repeat_key) in (
                select client_id, repeat_key from cf_repeats where expires_at < ?1 order by expires_at limit ?2
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
            "delete from cf_audit where id in (select id from cf_audit where at < ?1 order by at limit ?2)",
            cutoff,
            rows_max
        )
        .execute(&self.writer)
        .await?;
        Ok(gone.rows_affected())
    }

    pub(super) async fn purgeable(&self, cutoff: i64, at_most: i64) -> Result<u64, sqlx::Error> {
        let due = sqlx::query_scalar!(
            r#"select count(*) as "due!: i64" from (select 1 from cf_tokens where expires_at < ?1 limit ?2)"#,
            cutoff,
            at_most
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(rows::count(due))
    }

    pub(super) async fn records_held(&self) -> Result<u64, sqlx::Error> {
        let held = sqlx::query_scalar!(r#"/* sqlite */ select count(*) as "held!: i64" from cf_tokens"#)
            .fetch_one(&self.readers)
            .await?;
        Ok(rows::count(held))
    }
}

/// Removes those of these subjects that nothing is left of. A subject loses its last row in a purge or never, so those
/// of what goes are all there is to look at.
async fn forget_subjects(connection: &mut SqliteConnection, bereft: &[String]) -> Result<u64, sqlx::Error> {
    let bereft = rows::json(&bereft)?;
    let gone = sqlx::query!(
        "delete from cf_subjects where subject in (select value from json_each(?1))
            and not exists (select 1 from cf_sessions s where s.subject = cf_subjects.subject)
            and not exists (select 1 from cf_subject_endings e where e.subject = cf_subjects.subject)
            and not cf_subjects.own",
        bereft
    )
    .execute(connection)
    .await?;
    Ok(gone.rows_affected())
}
