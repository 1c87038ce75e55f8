//! Undoing revocations.

use sqlx::sqlite::SqliteConnection;

use super::Sqlite;
use super::changes::{note, standing};
use super::coherence::mark;
use crate::store::rows::Step;
use crate::store::{Done, Unrevoked};
use crate::token::{Act, Jti, Presented};

impl Sqlite {
    pub(super) async fn unrevoke(
        &self,
        jti: Jti,
        act: &Act,
        now: i64,
        live_at: i64,
    ) -> Result<Done<Unrevoked>, sqlx::Error> {
        let mut tx = self.begin().await?;
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
                    where jti = ?1",
                    jti.as_uuid()
                )
                .execute(&mut *tx)
                .await?;
                let (target, reason) = (jti.to_string(), act.reason.as_deref());
                note(&mut tx, "token.unrevoked", &standing.subject, Some(&target), act, reason, now).await?;
                Some(mark(&mut tx).await?)
            }
        };
        tx.commit().await?;
        Ok(Done { outcome: Unrevoked::Done, mark })
    }
}

/// Whether a presented token is live, no other change being under way.
async fn is_live(connection: &mut SqliteConnection, presented: &Presented) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select (
            exists (
                select 1 from cf_sessions s join cf_subjects u on u.subject = s.subject
                where s.sid = ?2 and s.ended_at is null and s.generation = u.generation
            )
            and not exists (select 1 from cf_tokens where jti = ?1 and revoked_at is not null)
            and not exists (select 1 from cf_keys where kid = ?3 and state = 'retired')
        ) as "live!: bool""#,
        presented.jti.as_uuid(),
        presented.sid.as_uuid(),
        presented.kid
    )
    .fetch_one(connection)
    .await
}
