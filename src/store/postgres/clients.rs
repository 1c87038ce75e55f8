//! The clients, and what they asked for under keys of their own.

use super::Postgres;
use super::changes::{end_generation, note};
use super::coherence::note_changes;
use crate::store::notice::Change;
use crate::store::rows::{self, ClientRow, RepeatRow, reason_or};
use crate::store::{ClientChange, ClientChanged, Done, Repeat, Sha256, StoredClient};
use crate::token::{Act, Jti};

/// Clients, by a condition.
macro_rules! select_clients {
    ($condition:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            ClientRow,
            "select client_id, name, scope, grant_scope, audience, serves, first_party, disabled, secret_digest,
                old_secret_digest, old_secret_until, created_at, secret_changed_at
            from cf_clients " + $condition
            $(, $argument)*
        )
    };
}

impl Postgres {
    pub(super) async fn client(&self, client_id: &str) -> Result<Option<StoredClient>, sqlx::Error> {
        let row = select_clients!("where client_id = $1", client_id).fetch_optional(&self.pool).await?;
        row.map(rows::read_one).transpose()
    }

    pub(super) async fn find_client(&self, id_or_name: &str) -> Result<Option<StoredClient>, sqlx::Error> {
        // One whose name is another's id is found by its own id alone.
        let row = select_clients!("where client_id = $1 or name = $1 order by client_id = $1 desc limit 1", id_or_name)
            .fetch_optional(&self.pool)
            .await?;
        row.map(rows::read_one).transpose()
    }

    pub(super) async fn clients(&self, after: Option<&str>, limit: u16) -> Result<Vec<StoredClient>, sqlx::Error> {
        let found =
            select_clients!("where name > $1 order by name limit $2", after.unwrap_or_default(), i64::from(limit))
                .fetch_all(&self.pool)
                .await?;
        rows::read(found)
    }

    pub(super) async fn add_client(&self, client: &StoredClient, act: &Act, now: i64) -> Result<bool, sqlx::Error> {
        let mut tx = self.begin().await?;
        sqlx::query!("insert into cf_subjects (subject) values ($1)", client.client_id).execute(&mut *tx).await?;
        let added = sqlx::query!(
            "insert into cf_clients (client_id, name, scope, grant_scope, audience, serves, first_party, disabled,
                secret_digest, created_at, secret_changed_at)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) on conflict (name) do nothing",
            client.client_id,
            client.name,
            client.scope.to_string(),
            client.grant_scope.to_string(),
            rows::json(&client.audience)?,
            client.serves.as_ref().map(rows::json).transpose()?,
            client.first_party,
            client.disabled,
            client.secret_digest.as_slice(),
            client.created_at,
            client.secret_changed_at
        )
        .execute(&mut *tx)
        .await?;
        if added.rows_affected() == 0 {
            tx.rollback().await?;
            return Ok(false);
        }
        let id = client.client_id.as_str();
        note(&mut tx, "client.added", id, Some(&client.name), act, act.reason.as_deref(), now).await?;
        tx.commit().await?;
        Ok(true)
    }

    pub(super) async fn set_client(
        &self,
        client_id: &str,
        change: &ClientChange,
        act: &Act,
        now: i64,
    ) -> Result<Done<ClientChanged>, sqlx::Error> {
        let mut tx = self.begin().await?;
        sqlx::query!("select subject from cf_subjects where subject = $1 for no key update", client_id)
            .fetch_optional(&mut *tx)
            .await?;
        let row = select_clients!("where client_id = $1 for update", client_id).fetch_optional(&mut *tx).await?;
        let Some(row) = row else {
            tx.rollback().await?;
            return Ok(Done { outcome: ClientChanged::NotFound, mark: None });
        };
        let before: StoredClient = rows::read_one(row)?;
        let client = change.apply(&before);
        let changed = sqlx::query!(
            "update cf_clients set name = $2, scope = $3, grant_scope = $4, audience = $5, serves = $6, first_party = $7,
                disabled = $8
            where client_id = $1",
            client_id,
            client.name,
            client.scope.to_string(),
            client.grant_scope.to_string(),
            rows::json(&client.audience)?,
            client.serves.as_ref().map(rows::json).transpose()?,
            client.first_party,
            client.disabled
        )
        .execute(&mut *tx)
        .await;
        if rows::not_twice(changed)?.is_none() {
            tx.rollback().await?;
            return Ok(Done { outcome: ClientChanged::NameTaken, mark: None });
        }
        let changes = match rows::client_loss(&before, &client) {
            Some(otherwise) => end_generation(&mut tx, client_id, None, act, reason_or(act, otherwise), now).await?.1,
            None => vec![Change::subject(client_id)],
        };
        let action = rows::client_action(&before, &client);
        note(&mut tx, action, client_id, Some(&client.name), act, act.reason.as_deref(), now).await?;
        let mark = note_changes(&mut tx, &changes, now).await?;
        tx.commit().await?;
        Ok(Done { outcome: ClientChanged::Done(Box::new(client)), mark: Some(mark) })
    }

    pub(super) async fn rotate_client_secret(
        &self,
        client_id: &str,
        digest: &Sha256,
        old_until: Option<i64>,
        act: &Act,
        now: i64,
    ) -> Result<Done<bool>, sqlx::Error> {
        let mut tx = self.begin().await?;
        let name = sqlx::query_scalar!(
            "update cf_clients set secret_digest = $2, secret_changed_at = $4, old_secret_until = $3,
                old_secret_digest = case when $3::bigint is null then null else secret_digest end
            where client_id = $1 returning name",
            client_id,
            digest.as_slice(),
            old_until,
            now
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(name) = name else {
            tx.rollback().await?;
            return Ok(Done { outcome: false, mark: None });
        };
        note(&mut tx, "client.secret", client_id, Some(&name), act, act.reason.as_deref(), now).await?;
        let mark = note_changes(&mut tx, &[Change::subject(client_id)], now).await?;
        tx.commit().await?;
        Ok(Done { outcome: true, mark: Some(mark) })
    }

    pub(super) async fn delete_client(&self, client_id: &str, act: &Act, now: i64) -> Result<Done<bool>, sqlx::Error> {
        let mut tx = self.begin().await?;
        let (_, changes) = end_generation(&mut tx, client_id, None, act, reason_or(act, "client deleted"), now).await?;
        let name = sqlx::query_scalar!("delete from cf_clients where client_id = $1 returning name", client_id)
            .fetch_optional(&mut *tx)
            .await?;
        let Some(name) = name else {
            tx.rollback().await?;
            return Ok(Done { outcome: false, mark: None });
        };
        note(&mut tx, "client.deleted", client_id, Some(&name), act, act.reason.as_deref(), now).await?;
        let mark = note_changes(&mut tx, &changes, now).await?;
        tx.commit().await?;
        Ok(Done { outcome: true, mark: Some(mark) })
    }

    pub(super) async fn repeat(
        &self,
        client_id: &str,
        key: &str,
        asked: &Repeat,
    ) -> Result<Option<Repeat>, sqlx::Error> {
        // What has run out is asked for anew; what hasn't is locked by writing it as it is, and so is the one to be
        // read.
        let kept = sqlx::query_as!(
            RepeatRow,
            r#"insert into cf_repeats as r (client_id, repeat_key, body_digest, sid, access_jti, refresh_jti, asked_at, expires_at)
            values ($1, $2, $3, $4, $5, $6, $7, $8)
            on conflict (client_id, repeat_key) do update set
                body_digest = case when r.expires_at <= $7 then excluded.body_digest else r.body_digest end,
                sid = case when r.expires_at <= $7 then excluded.sid else r.sid end,
                access_jti = case when r.expires_at <= $7 then excluded.access_jti else r.access_jti end,
                refresh_jti = case when r.expires_at <= $7 then excluded.refresh_jti else r.refresh_jti end,
                asked_at = case when r.expires_at <= $7 then excluded.asked_at else r.asked_at end,
                expires_at = case when r.expires_at <= $7 then excluded.expires_at else r.expires_at end
            returning r.body_digest, r.sid, r.access_jti, r.refresh_jti, r.asked_at, r.expires_at"#,
            client_id,
            key,
            asked.body_digest.as_slice(),
            asked.sid.as_uuid(),
            asked.access.as_uuid(),
            asked.refresh.as_uuid(),
            asked.asked_at,
            asked.expires_at
        )
        .fetch_one(&self.pool)
        .await;
        rows::not_orphaned(kept)?.map(rows::read_one).transpose()
    }

    pub(super) async fn forget_repeat(&self, client_id: &str, key: &str, access: Jti) -> Result<(), sqlx::Error> {
        let mut tx = self.begin().await?;
        // Whoever puts the session there looks for the note afterwards: the note is locked first, and the session
        // looked for by a statement that begins then.
        sqlx::query_scalar!(
            "select sid from cf_repeats where client_id = $1 and repeat_key = $2 and access_jti = $3 for update",
            client_id,
            key,
            access.as_uuid()
        )
        .fetch_optional(&mut *tx)
        .await?;
        sqlx::query!(
            "delete from cf_repeats where client_id = $1 and repeat_key = $2 and access_jti = $3
                and not exists (select 1 from cf_sessions s where s.sid = cf_repeats.sid)",
            client_id,
            key,
            access.as_uuid()
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    }
}
