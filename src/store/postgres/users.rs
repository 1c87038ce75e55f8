//! The server's users, and their failed log-ins.

use sqlx::postgres::PgConnection;

use super::Postgres;
use super::changes::{end_generation, note};
use super::coherence::note_changes;
use crate::store::notice::{Change, LEEWAY_SECONDS_MAX};
use crate::store::rows::{self, UserRow, reason_or};
use crate::store::users::{ADDRESSES_MAX, SCOPED_MAX};
use crate::store::{Done, EndSessions, Replaced, StoredUser, UserChange, UserChanged};
use crate::token::{Act, Action, Subject};

impl Postgres {
    pub(super) async fn user(&self, username: &Subject) -> Result<Option<StoredUser>, sqlx::Error> {
        let row = sqlx::query_as!(
            UserRow,
            "select username, password_hash, scope, disabled, created_at, password_changed_at
            from cf_users where username = $1",
            username.as_str()
        )
        .fetch_optional(&self.pool)
        .await?;
        row.map(rows::read_one).transpose()
    }

    pub(super) async fn users(&self, after: Option<&str>, limit: u16) -> Result<Vec<StoredUser>, sqlx::Error> {
        let found = sqlx::query_as!(
            UserRow,
            "select username, password_hash, scope, disabled, created_at, password_changed_at
            from cf_users where username > $1 order by username limit $2",
            after.unwrap_or_default(),
            i64::from(limit)
        )
        .fetch_all(&self.pool)
        .await?;
        rows::read(found)
    }

    pub(super) async fn add_user(&self, user: &StoredUser, act: &Act, now: i64) -> Result<Done<bool>, sqlx::Error> {
        let mut tx = self.begin().await?;
        let added = add(&mut tx, user, act, now).await?;
        if added.outcome {
            tx.commit().await?
        } else {
            tx.rollback().await?
        }
        Ok(added)
    }

    pub(super) async fn add_first_admin(
        &self,
        user: &StoredUser,
        act: &Act,
        now: i64,
    ) -> Result<Done<bool>, sqlx::Error> {
        let mut tx = self.begin().await?;
        // One process settles it; the others wait here for its end, and then find it settled.
        let settled =
            sqlx::query!("update cf_installation set first_admin_at = $1 where id = 1 and first_admin_at is null", now)
                .execute(&mut *tx)
                .await?;
        if settled.rows_affected() == 0 {
            tx.rollback().await?;
            return Ok(Done { outcome: false, mark: None });
        }
        let is_first = sqlx::query_scalar!(r#"/* postgres */ select not exists (select from cf_users) as "is_first!""#)
            .fetch_one(&mut *tx)
            .await?;
        let added = match is_first {
            true => add(&mut tx, user, act, now).await?,
            false => Done { outcome: false, mark: None },
        };
        tx.commit().await?;
        Ok(added)
    }

    pub(super) async fn needs_first_admin(&self) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar!(
            r#"/* postgres */ select first_admin_at is null as "needed!" from cf_installation where id = 1"#
        )
        .fetch_one(&self.pool)
        .await
    }

    pub(super) async fn set_user(
        &self,
        username: &Subject,
        change: UserChange<'_>,
        act: &Act,
        now: i64,
    ) -> Result<Done<UserChanged>, sqlx::Error> {
        let mut tx = self.begin().await?;
        let name = username.as_str();
        // The subject first, as everywhere: a token can't be registered between the look and the change.
        sqlx::query!("select subject from cf_subjects where subject = $1 for no key update", name)
            .fetch_optional(&mut *tx)
            .await?;
        let row = sqlx::query_as!(
            UserRow,
            "select username, password_hash, scope, disabled, created_at, password_changed_at
            from cf_users where username = $1 for update",
            name
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else {
            tx.rollback().await?;
            return Ok(Done { outcome: UserChanged::NotFound, mark: None });
        };
        let before: StoredUser = rows::read_one(row)?;
        let Some(user) = change.apply(&before) else {
            tx.rollback().await?;
            return Ok(Done { outcome: UserChanged::Overtaken, mark: None });
        };
        let mut changes = Vec::new();
        let lost: Vec<String> = before.scope.difference(&user.scope).iter().map(str::to_owned).collect();
        if !lost.is_empty() {
            // One that is revoked already becomes final too: it must not come back with what was taken away. Nobody
            // takes one that has expired, of which there may be very many. They are locked in the order of their ids,
            // but neither the primary key is to be walked for that, which for a subject with few tokens is read to its
            // end, nor the index by expiry, which has everybody's.
            let revoked = sqlx::query!(
                r#"with due as (
                    select jti, revoked_at is null as was_live from cf_tokens
                    where subject = $1 and token_type = 'access' and not revoked_final and expires_at + 0 > $7
                        and string_to_array(scope, ' ') && $2::text[]
                    order by jti::text collate "C" limit $8 for no key update
                )
                update cf_tokens t set revoked_at = coalesce(revoked_at, $3),
                    revoked_by_kind = coalesce(revoked_by_kind, $4), revoked_by = coalesce(revoked_by, $5),
                    revoked_reason = case when revoked_at is null then $6 else revoked_reason end, revoked_final = true
                from due where t.jti = due.jti
                returning t.jti, t.expires_at, due.was_live as "was_live!""#,
                name,
                &lost,
                now,
                act.actor.kind.as_str(),
                act.actor.name,
                reason_or(act, "scope removed"),
                now - LEEWAY_SECONDS_MAX,
                SCOPED_MAX
            )
            .fetch_all(&mut *tx)
            .await?;
            let told = revoked.iter().filter(|token| token.was_live);
            changes.extend(told.map(|token| Change::token(token.jti, Action::Revoked, token.expires_at)));
            changes.push(Change::subject(name));
            if i64::try_from(revoked.len()) == Ok(SCOPED_MAX) {
                let mark = Some(note_changes(&mut tx, &changes, now).await?);
                tx.commit().await?;
                return Ok(Done { outcome: UserChanged::Begun, mark });
            }
        }
        sqlx::query!(
            "update cf_users set scope = $2, disabled = $3 where username = $1",
            name,
            user.scope.to_string(),
            user.disabled
        )
        .execute(&mut *tx)
        .await?;
        if user.scope != before.scope {
            note(&mut tx, "user.changed", name, Some(name), act, act.reason.as_deref(), now).await?;
        }
        if user.disabled && !before.disabled {
            let ended = end_generation(&mut tx, name, None, act, reason_or(act, "user disabled"), now).await?;
            changes.extend(ended.1);
            note(&mut tx, "user.disabled", name, Some(name), act, act.reason.as_deref(), now).await?;
        } else if before.disabled && !user.disabled {
            note(&mut tx, "user.enabled", name, Some(name), act, act.reason.as_deref(), now).await?;
        }
        let mark = if changes.is_empty() { None } else { Some(note_changes(&mut tx, &changes, now).await?) };
        tx.commit().await?;
        Ok(Done { outcome: UserChanged::Done(user), mark })
    }

    pub(super) async fn set_password(
        &self,
        username: &Subject,
        password_hash: &str,
        replacing: Option<Replaced<'_>>,
        ends: Option<EndSessions>,
        act: &Act,
        now: i64,
    ) -> Result<Done<bool>, sqlx::Error> {
        let mut tx = self.begin().await?;
        let name = username.as_str();
        let changes = match ends {
            Some(EndSessions { keep }) => {
                end_generation(&mut tx, name, keep, act, reason_or(act, "password changed"), now).await?.1
            }
            None => Vec::new(),
        };
        let changed = sqlx::query!(
            "update cf_users set password_hash = $2, password_changed_at = $3
            where username = $1 and ($4::text is null or password_hash = $4)",
            name,
            password_hash,
            now,
            replacing.map(|replaced| replaced.hash)
        )
        .execute(&mut *tx)
        .await?;
        if changed.rows_affected() == 0 {
            tx.rollback().await?;
            return Ok(Done { outcome: false, mark: None });
        }
        forget_addresses(&mut tx, name, replacing.and_then(|replaced| replaced.at_address)).await?;
        note(&mut tx, "user.password", name, Some(name), act, act.reason.as_deref(), now).await?;
        let mark = if changes.is_empty() { None } else { Some(note_changes(&mut tx, &changes, now).await?) };
        tx.commit().await?;
        Ok(Done { outcome: true, mark })
    }

    pub(super) async fn rehash_password(&self, username: &Subject, old: &str, new: &str) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "update cf_users set password_hash = $3 where username = $1 and password_hash = $2",
            username.as_str(),
            old,
            new
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(super) async fn delete_user(&self, username: &Subject, act: &Act, now: i64) -> Result<Done<bool>, sqlx::Error> {
        let mut tx = self.begin().await?;
        let name = username.as_str();
        let (_, changes) = end_generation(&mut tx, name, None, act, reason_or(act, "user deleted"), now).await?;
        let deleted = sqlx::query!("delete from cf_users where username = $1", name).execute(&mut *tx).await?;
        if deleted.rows_affected() == 0 {
            tx.rollback().await?;
            return Ok(Done { outcome: false, mark: None });
        }
        forget_addresses(&mut tx, name, None).await?;
        note(&mut tx, "user.deleted", name, Some(name), act, act.reason.as_deref(), now).await?;
        let mark = Some(note_changes(&mut tx, &changes, now).await?);
        tx.commit().await?;
        Ok(Done { outcome: true, mark })
    }

    pub(super) async fn knows_address(
        &self,
        username: &Subject,
        address: &str,
        since: i64,
    ) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar!(
            r#"select exists (
                select from cf_known_addresses where subject = $1 and address = $2 and logged_in_at > $3
            ) as "known!""#,
            username.as_str(),
            address,
            since
        )
        .fetch_one(&self.pool)
        .await
    }

    pub(super) async fn note_address(
        &self,
        username: &Subject,
        address: &str,
        password_hash: &str,
        now: i64,
    ) -> Result<(), sqlx::Error> {
        let mut tx = self.begin().await?;
        let name = username.as_str();
        // Whoever replaces the password holds the user's row, and forgets what is here by then.
        sqlx::query!(
            "insert into cf_known_addresses (subject, address, logged_in_at)
            select n.username, $2, $3 from cf_users n where n.username = $1 and n.password_hash = $4 for share
            on conflict (subject, address) do update set logged_in_at = excluded.logged_in_at",
            name,
            address,
            now,
            password_hash
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "delete from cf_known_addresses where subject = $1 and address in (
                select address from cf_known_addresses where subject = $1
                order by logged_in_at desc, address offset $2 for update skip locked
            )",
            name,
            ADDRESSES_MAX
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    }

    pub(super) async fn login_arrivals(&self, names: &[String]) -> Result<Vec<i64>, sqlx::Error> {
        sqlx::query_scalar!(
            r#"select coalesce(l.arrival_ms, 0) as "arrival_ms!"
            from unnest($1::text[]) with ordinality as n (name, place)
            left join cf_login_limits l on l.name = n.name
            order by n.place"#,
            names
        )
        .fetch_all(&self.pool)
        .await
    }

    pub(super) async fn login_failed(&self, names: &[(String, i64)], now_ms: i64) -> Result<(), sqlx::Error> {
        // In order of name, so that two failures at once don't wait for each other.
        let (names, intervals): (Vec<String>, Vec<i64>) = rows::by_name(names).into_iter().unzip();
        sqlx::query!(
            "insert into cf_login_limits (name, arrival_ms)
            select n.name, $3 + n.step from unnest($1::text[], $2::bigint[]) as n (name, step) order by n.name collate \"C\"
            on conflict (name) do update
            set arrival_ms = greatest(cf_login_limits.arrival_ms, $3) + (excluded.arrival_ms - $3)",
            &names,
            &intervals,
            now_ms
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

/// Forgets where a user logged in, but for one address.
async fn forget_addresses(connection: &mut PgConnection, name: &str, keep: Option<&str>) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from cf_known_addresses where subject = $1 and address is distinct from $2", name, keep)
        .execute(connection)
        .await?;
    Ok(())
}

/// Adds a user, unless there is one of that name, or a client with that id. A name that has been used before inherits
/// no tokens.
async fn add(connection: &mut PgConnection, user: &StoredUser, act: &Act, now: i64) -> Result<Done<bool>, sqlx::Error> {
    let name = user.username.as_str();
    let fresh = sqlx::query!("insert into cf_subjects (subject) values ($1) on conflict (subject) do nothing", name)
        .execute(&mut *connection)
        .await?;
    let was_used = fresh.rows_affected() == 0;
    let changes = match was_used {
        true => end_generation(&mut *connection, name, None, act, reason_or(act, "user added"), now).await?.1,
        false => Vec::new(),
    };
    let added = sqlx::query!(
        "insert into cf_users (username, password_hash, scope, disabled, created_at, password_changed_at)
        select $1, $2, $3, $4, $5, $6 where not exists (select from cf_clients where client_id = $1)
        on conflict (username) do nothing",
        name,
        user.password_hash,
        user.scope.to_string(),
        user.disabled,
        user.created_at,
        user.password_changed_at
    )
    .execute(&mut *connection)
    .await?;
    if added.rows_affected() == 0 {
        return Ok(Done { outcome: false, mark: None });
    }
    note(&mut *connection, "user.added", name, Some(name), act, act.reason.as_deref(), now).await?;
    let mark = if changes.is_empty() { None } else { Some(note_changes(connection, &changes, now).await?) };
    Ok(Done { outcome: true, mark })
}
