//! Undoing revocations.

use sqlx::postgres::PgConnection;

use super::Postgres;
use super::changes::note;
use super::coherence::note_changes;
use crate::store::notice::Change;
use crate::store::rows::{Standing, Step};
use crate::store::{Done, Unrevoked};
use crate::token::{Act, Action, Jti, Presented};

impl Postgres {
    pub(super) async fn unrevoke(
        &self,
        jti: Jti,
        act: &Act,
        now: i64,
        live_at: i64,
    ) -> Result<Done<Unrevoked>, sqlx::Error> {
        let mut tx = self.begin().await?;
        lock_to_undo(&mut tx, jti, act).await?;
        if let Some(presented) = &act.presented
            && !is_live(&mut tx, presented).await?
        {
            tx.rollback().await?;
            return Ok(Done { outcome: Unrevoked::Overtaken, mark: None });
        }
        let Some(standing) = standing(&mut tx, jti, act).await? else {
            tx.rollback().await?;
            return Ok(Done { outcome: Unrevoked::NotFound, mark: None });
        };
        let mark = match standing.unrevoke(act, live_at) {
            Step::Refuse => {
                tx.rollback().await?;
                return Ok(Done { outcome: Unrevoked::Final, mark: None });
            }
            Step::Nothing => None,
            Step::Change => {
                sqlx::query!(
                    "update cf_tokens set revoked_at = null, revoked_by_kind = null, revoked_by = null,
                        revoked_reason = null
                    where jti = $1",
                    jti.as_uuid()
                )
                .execute(&mut *tx)
                .await?;
                let (target, reason) = (jti.to_string(), act.reason.as_deref());
                note(&mut tx, "token.unrevoked", &standing.subject, Some(&target), act, reason, now).await?;
                let change = Change::token(&target, Action::Unrevoked, standing.expires_at);
                Some(note_changes(&mut tx, &[change], now).await?)
            }
        };
        tx.commit().await?;
        Ok(Done { outcome: Unrevoked::Done, mark })
    }
}

/// Locks a record that is to be un-revoked and the token that this is asked for with, and what both rest on: subject,
/// session and token, in this order as everywhere.
async fn lock_to_undo(connection: &mut PgConnection, jti: Jti, act: &Act) -> Result<(), sqlx::Error> {
    sqlx::query_scalar!(
        r#"with tokens as materialized (
            select t.jti, t.sid from cf_tokens t
            where (t.jti = $1 and ($2::text is null or t.subject = $2)) or t.jti = $3
        ), subjects as materialized (
            select u.subject from cf_subjects u
            where u.subject in (
                select s.subject from cf_sessions s where s.sid = any(array(select sid from tokens union all select $4)))
            order by u.subject for share
        ), sessions as materialized (
            select s.sid from cf_sessions s
            where s.sid = any(array(select sid from tokens union all select $4)) and (select count(*) from subjects) > 0
            order by s.sid for share
        ), held as materialized (
            select t.jti from cf_tokens t
            where t.jti in (select jti from tokens) and (select count(*) from sessions) > 0
            order by t.jti for no key update
        )
        select count(*) as "held!" from held"#,
        jti.as_uuid(),
        act.actor.confined_to(),
        act.presented.as_ref().map(|presented| presented.jti.as_uuid()),
        act.presented.as_ref().map(|presented| presented.sid.as_uuid())
    )
    .fetch_one(connection)
    .await?;
    Ok(())
}

/// Whether a presented token is live. In a statement that begins when its rows are locked: one that waited for them
/// would hold what is there now against what was.
async fn is_live(connection: &mut PgConnection, presented: &Presented) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select (
            exists (
                select from cf_sessions s join cf_subjects u on u.subject = s.subject
                where s.sid = $2 and s.ended_at is null and s.generation = u.generation
            )
            and not exists (select from cf_tokens where jti = $1 and revoked_at is not null)
            and not exists (select from cf_keys where kid = $3 and state = 'retired')
        ) as "live!""#,
        presented.jti.as_uuid(),
        presented.sid.as_uuid(),
        presented.kid
    )
    .fetch_one(connection)
    .await
}

/// What decides about un-revoking a record, [which is locked](lock_to_undo).
async fn standing(connection: &mut PgConnection, jti: Jti, act: &Act) -> Result<Option<Standing>, sqlx::Error> {
    sqlx::query_as!(
        Standing,
        r#"select t.subject, t.expires_at, t.revoked_by_kind, t.revoked_final,
            coalesce((t.spent_at is not null or t.replaced_at is not null)
                and t.revoked_by_kind = 'system' and t.revoked_by = 'rotation', false) as "by_rotation!",
            (s.ended_at is not null or s.generation <> u.generation or k.kid is not null) as "over!"
        from cf_tokens t
        join cf_sessions s on s.sid = t.sid
        join cf_subjects u on u.subject = s.subject
        left join cf_keys k on k.kid = t.kid and k.state = 'retired'
        where t.jti = $1 and ($2::text is null or t.subject = $2)"#,
        jti.as_uuid(),
        act.actor.confined_to()
    )
    .fetch_optional(connection)
    .await
}
