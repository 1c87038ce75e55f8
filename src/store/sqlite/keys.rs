//! The keys that sign, and those that were retired.

use sqlx::sqlite::SqliteConnection;

use super::Sqlite;
use super::coherence::mark;
use crate::store::rows::{self, KeyRow};
use crate::store::{Done, KeyRotation, REPEATED_SECONDS, Resealed, Retire, Retired};
use crate::token::{Act, NewKey, StoredKey};

impl Sqlite {
    pub(super) async fn keys(&self, follows: bool) -> Result<Vec<StoredKey>, sqlx::Error> {
        let statement = sqlx::query_as!(
            KeyRow,
            "/* sqlite */ select kid, algorithm, state, sealed, published_at, current_at, replaced_at, retired_at, retired_reason
            from cf_keys order by published_at desc, kid"
        );
        let found = match follows {
            true => self.follower.with(async |connection| statement.fetch_all(connection).await).await?,
            false => statement.fetch_all(&self.readers).await?,
        };
        rows::read(found)
    }

    pub(super) async fn retired(&self, kids: &[String]) -> Result<Vec<bool>, sqlx::Error> {
        let asked = rows::json(&kids)?;
        let found = sqlx::query_scalar!(
            "select kid from cf_keys where kid in (select value from json_each(?1)) and state = 'retired'",
            asked
        )
        .fetch_all(&self.readers)
        .await?;
        Ok(kids.iter().map(|kid| found.contains(kid)).collect())
    }

    pub(super) async fn add_keys(
        &self,
        current: &NewKey,
        next: &NewKey,
        act: &Act,
        now: i64,
    ) -> Result<Done<bool>, sqlx::Error> {
        let mut tx = self.begin().await?;
        // Where the current one was taken out by hand, the published next is there to take its place.
        if promote(&mut tx, None, now).await? {
            publish(&mut tx, next, act, now).await?;
            let mark = mark(&mut tx).await?;
            tx.commit().await?;
            return Ok(Done { outcome: true, mark: Some(mark) });
        }
        let added = sqlx::query!(
            "insert into cf_keys (kid, algorithm, state, sealed, published_at, current_at)
            values (?1, ?2, 'current', ?3, ?4, ?4) on conflict do nothing",
            current.kid,
            current.algorithm,
            current.sealed,
            now
        )
        .execute(&mut *tx)
        .await?;
        if added.rows_affected() == 0 {
            tx.rollback().await?;
            return Ok(Done { outcome: false, mark: None });
        }
        note(&mut tx, "key.published", Some(&current.kid), act, now).await?;
        publish(&mut tx, next, act, now).await?;
        let mark = mark(&mut tx).await?;
        tx.commit().await?;
        Ok(Done { outcome: true, mark: Some(mark) })
    }

    pub(super) async fn replace_next(
        &self,
        unused: &str,
        fresh: &NewKey,
        act: &Act,
        now: i64,
    ) -> Result<Done<bool>, sqlx::Error> {
        let mut tx = self.begin().await?;
        let gone =
            sqlx::query!("delete from cf_keys where kid = ?1 and state = 'next'", unused).execute(&mut *tx).await?;
        if gone.rows_affected() == 0 {
            tx.rollback().await?;
            return Ok(Done { outcome: false, mark: None });
        }
        note(&mut tx, "key.removed", Some(unused), act, now).await?;
        publish(&mut tx, fresh, act, now).await?;
        let mark = mark(&mut tx).await?;
        tx.commit().await?;
        Ok(Done { outcome: true, mark: Some(mark) })
    }

    pub(super) async fn rotate_keys(
        &self,
        rotation: &KeyRotation<'_>,
        act: &Act,
        now: i64,
    ) -> Result<Done<bool>, sqlx::Error> {
        let mut tx = self.begin().await?;
        let replaced = sqlx::query!(
            "update cf_keys set state = 'previous', replaced_at = ?2, sealed = ?3 where kid = ?1 and state = 'current'",
            rotation.current,
            now,
            rotation.replaced
        )
        .execute(&mut *tx)
        .await?;
        if replaced.rows_affected() == 0 || !promote(&mut tx, Some(rotation.next), now).await? {
            tx.rollback().await?;
            return Ok(Done { outcome: false, mark: None });
        }
        note(&mut tx, "key.rotated", Some(rotation.next), act, now).await?;
        publish(&mut tx, rotation.fresh, act, now).await?;
        let mark = mark(&mut tx).await?;
        tx.commit().await?;
        Ok(Done { outcome: true, mark: Some(mark) })
    }

    pub(super) async fn retire_key(
        &self,
        retire: &Retire<'_>,
        act: &Act,
        now: i64,
    ) -> Result<Done<Retired>, sqlx::Error> {
        let nothing = |outcome| Ok(Done { outcome, mark: None });
        // One that the table doesn't have is of the settings, or of another time's. Before anything is locked: where
        // nothing names it, all tokens are looked through.
        if retire.algorithm.is_none() && !self.is_named(retire.kid).await? {
            return nothing(Retired::NotFound);
        }
        let mut tx = self.begin().await?;
        let state = sqlx::query_scalar!("select state from cf_keys where kid = ?1", retire.kid)
            .fetch_optional(&mut *tx)
            .await?;
        match (state.as_deref(), retire.fresh) {
            (Some("retired"), _) => return nothing(Retired::Done),
            (Some("current" | "next"), None) => return nothing(Retired::Needed),
            _ => {}
        }
        sqlx::query!(
            "insert into cf_keys (kid, algorithm, state, published_at, retired_at, retired_by_kind, retired_by, retired_reason)
            values (?1, ?2, 'retired', ?3, ?3, ?4, ?5, ?6)
            on conflict (kid) do update set state = 'retired', sealed = null, retired_at = ?3, retired_by_kind = ?4,
                retired_by = ?5, retired_reason = ?6",
            retire.kid,
            retire.algorithm,
            now,
            act.actor.kind.as_str(),
            act.actor.name,
            act.reason
        )
        .execute(&mut *tx)
        .await?;
        note(&mut tx, "key.retired", Some(retire.kid), act, now).await?;
        if let (Some(was @ ("current" | "next")), Some(fresh)) = (state.as_deref(), retire.fresh) {
            if was == "current" {
                promote(&mut tx, None, now).await?;
            }
            publish(&mut tx, fresh, act, now).await?;
        }
        let mark = mark(&mut tx).await?;
        tx.commit().await?;
        Ok(Done { outcome: Retired::Done, mark: Some(mark) })
    }

    /// Whether the table has this key, or a token was signed with it.
    async fn is_named(&self, kid: &str) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar!(
            r#"select (exists (select 1 from cf_keys where kid = ?1) or exists (select 1 from cf_tokens where kid = ?1)) as "has!: bool""#,
            kid
        )
        .fetch_one(&self.readers)
        .await
    }

    pub(super) async fn reseal_keys(&self, anew: &[Resealed], act: &Act, now: i64) -> Result<bool, sqlx::Error> {
        let mut tx = self.begin().await?;
        for Resealed { kid, before, sealed } in anew {
            let done =
                sqlx::query!("update cf_keys set sealed = ?3 where kid = ?1 and sealed = ?2", kid, before, sealed)
                    .execute(&mut *tx)
                    .await?;
            if done.rows_affected() == 0 {
                tx.rollback().await?;
                return Ok(false);
            }
        }
        note(&mut tx, "keys.resealed", None, act, now).await?;
        tx.commit().await?;
        Ok(true)
    }

    pub(super) async fn purge_keys(
        &self,
        replaced_before: i64,
        cutoff: i64,
        act: &Act,
        now: i64,
    ) -> Result<Done<u64>, sqlx::Error> {
        // Looked up once for each key, and not in the transaction: no index has the tokens of a key. What was issued
        // under an Idempotency-Key before it signed it may have signed again.
        sqlx::query!(
            "update cf_keys set needed_until = coalesce((
                select max(t.expires_at) from cf_tokens t
                where t.kid = cf_keys.kid
                    or (t.client is not null and t.issued_at >= cf_keys.current_at - ?2 and t.issued_at <= cf_keys.replaced_at)
            ), 0)
            where state = 'previous' and needed_until is null and replaced_at < ?1",
            replaced_before,
            REPEATED_SECONDS
        )
        .execute(&self.writer)
        .await?;
        let mut tx = self.begin().await?;
        let gone = sqlx::query_scalar!(
            "delete from cf_keys where state = 'previous' and replaced_at < ?1 and needed_until < ?2 returning kid",
            replaced_before,
            cutoff
        )
        .fetch_all(&mut *tx)
        .await?;
        let mut place = None;
        for kid in &gone {
            note(&mut tx, "key.removed", Some(kid), act, now).await?;
        }
        if !gone.is_empty() {
            place = Some(mark(&mut tx).await?);
        }
        tx.commit().await?;
        Ok(Done { outcome: gone.len() as u64, mark: place })
    }
}

/// Lets the next key sign where none does, if it is this one where one is named.
async fn promote(connection: &mut SqliteConnection, next: Option<&str>, now: i64) -> Result<bool, sqlx::Error> {
    let promoted = sqlx::query!(
        "update cf_keys set state = 'current', current_at = ?2 where state = 'next' and (?1 is null or kid = ?1)
            and not exists (select 1 from cf_keys where state = 'current')",
        next,
        now
    )
    .execute(connection)
    .await?;
    Ok(promoted.rows_affected() > 0)
}

/// Publishes a key as the next.
async fn publish(connection: &mut SqliteConnection, fresh: &NewKey, act: &Act, now: i64) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into cf_keys (kid, algorithm, state, sealed, published_at) values (?1, ?2, 'next', ?3, ?4)",
        fresh.kid,
        fresh.algorithm,
        fresh.sealed,
        now
    )
    .execute(&mut *connection)
    .await?;
    note(connection, "key.published", Some(&fresh.kid), act, now).await
}

/// Writes an audit entry about something that is nobody's, such as a key.
pub(super) async fn note(
    connection: &mut SqliteConnection,
    action: &str,
    target: Option<&str>,
    act: &Act,
    now: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into cf_audit (at, actor_kind, actor, action, target, reason, ip) values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        now,
        act.actor.kind.as_str(),
        act.actor.name,
        action,
        target,
        act.reason,
        act.ip
    )
    .execute(connection)
    .await?;
    Ok(())
}
