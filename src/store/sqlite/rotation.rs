//! Refresh tokens that are good for one use, and the cap on a subject's sessions.

use sqlx::sqlite::SqliteConnection;
use uuid::Uuid;

use super::Sqlite;
use super::changes::note;
use super::coherence::mark;
use super::inserts::{insert_all, insert_alone};
use crate::store::rotation::{Link, Verdict};
use crate::store::rows;
use crate::store::{Cap, Capped, Done, Insert, Inserted, Rotated, Rotation};
use crate::token::{Jti, Mark, Sid};

impl Sqlite {
    pub(super) async fn rotate(&self, asked: &Rotation) -> Result<Done<Rotated>, sqlx::Error> {
        let mut tx = self.begin().await?;
        let (sid, presented) = (asked.sid.as_uuid(), asked.presented.as_uuid());
        let generation =
            sqlx::query_scalar!("select generation from cf_subjects where subject = ?1", asked.subject.as_str())
                .fetch_optional(&mut *tx)
                .await?;
        let is_live = sqlx::query_scalar!(
            r#"select (ended_at is null and generation = ?3) as "is_live!: bool" from cf_sessions
            where sid = ?1 and subject = ?2"#,
            sid,
            asked.subject.as_str(),
            generation
        )
        .fetch_optional(&mut *tx)
        .await?;
        let link = lock_link(&mut tx, presented, sid).await?.filter(|_| is_live == Some(true));
        let Some((link, successor)) = link else {
            tx.rollback().await?;
            return Ok(Done { outcome: Rotated::Superseded, mark: None });
        };
        let next = match successor {
            Some(successor) => lock_link(&mut tx, successor, sid).await?.map(|(next, _)| (successor, next)),
            None => None,
        };
        let mut mark = None;
        let outcome = match asked.judge(&link, next.as_ref().map(|(_, next)| next)) {
            Verdict::Refuse => {
                tx.rollback().await?;
                return Ok(Done { outcome: Rotated::Superseded, mark: None });
            }
            Verdict::Theft => {
                mark = Some(end_for_reuse(&mut tx, asked).await?);
                Rotated::Reused
            }
            Verdict::GiveAgain => {
                let (successor, next) = next.ok_or(sqlx::Error::RowNotFound)?;
                insert_alone(&mut tx, asked, asked.access.as_slice(), Some(successor)).await?;
                Rotated::Again { claims: next.claims }
            }
            verdict => {
                let mut replaced = Vec::new();
                if let (Verdict::Replace, Some((successor, _))) = (verdict, &next) {
                    (replaced, mark) = replace(&mut tx, *successor, asked).await?;
                }
                sqlx::query!(
                    "update cf_tokens set spent_at = ?3, successor = ?2,
                        revoked_at = coalesce(revoked_at, ?3), revoked_by_kind = 'system', revoked_by = 'rotation',
                        revoked_reason = 'spent', revoked_final = true
                    where jti = ?1",
                    presented,
                    asked.refresh.jti.as_uuid(),
                    asked.now
                )
                .execute(&mut *tx)
                .await?;
                let refresh = std::slice::from_ref(&asked.refresh);
                insert_alone(&mut tx, asked, refresh, None).await?;
                let with = Some(asked.refresh.jti.as_uuid());
                insert_alone(&mut tx, asked, asked.access.as_slice(), with).await?;
                Rotated::Stored { replaced }
            }
        };
        sqlx::query!(
            "update cf_sessions set last_seen_at = max(last_seen_at, ?2), expires_at = max(expires_at, ?3)
            where sid = ?1",
            sid,
            asked.now,
            asked.session_expires_at
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Done { outcome, mark })
    }

    pub(super) async fn insert_capped(&self, insert: &Insert, cap: Cap) -> Result<Done<Capped>, sqlx::Error> {
        let mut tx = self.begin().await?;
        let subject = insert.subject.as_str();
        sqlx::query!("insert into cf_subjects (subject) values (?1) on conflict do nothing", subject)
            .execute(&mut *tx)
            .await?;
        // One at a time: who comes next counts what this one began.
        let generation = sqlx::query_scalar!("select generation from cf_subjects where subject = ?1", subject)
            .fetch_one(&mut *tx)
            .await?;
        // A token that is its own session is none that anybody logged in for. Nor is one a session any more of whose
        // tokens none is good for anything: each was revoked, or its key was retired.
        let live = sqlx::query_scalar!(
            r#"select s.sid as "sid: Uuid" from cf_sessions s
            where s.subject = ?1 and s.generation = ?2 and s.ended_at is null and s.expires_at > ?3
                and not exists (select 1 from cf_tokens t where t.jti = s.sid)
                and (not exists (select 1 from cf_tokens t where t.sid = s.sid) or exists (
                    select 1 from cf_tokens t where t.sid = s.sid and t.expires_at > ?3 and t.revoked_at is null
                        and not exists (select 1 from cf_keys k where k.kid = t.kid and k.state = 'retired')))
            order by s.created_at, s.sid"#,
            subject,
            generation,
            cap.live_at
        )
        .fetch_all(&mut *tx)
        .await?;
        let over = (live.len() + 1).saturating_sub(cap.sessions_max);
        if over > 0 && !cap.ends_oldest {
            tx.rollback().await?;
            return Ok(Done { outcome: Capped::refused(), mark: None });
        }
        let inserts = std::slice::from_ref(insert);
        let inserted = match rows::alone_not_twice(inserts, insert_all(&mut tx, inserts).await)? {
            Some(mut outcomes) => outcomes.pop().unwrap_or(Inserted::Superseded),
            None => Inserted::Duplicate,
        };
        if inserted != Inserted::Stored {
            tx.rollback().await?;
            return Ok(Done { outcome: Capped { inserted, ended: Vec::new() }, mark: None });
        }
        let ended: Vec<Uuid> = live.into_iter().take(over).collect();
        if !ended.is_empty() {
            let (act, ids) = (rows::cap_act(), rows::json(&ended)?);
            sqlx::query!(
                "update cf_sessions set ended_at = ?2, ended_by_kind = ?3, ended_by = ?4, ended_reason = ?5
                where sid in (select unhex(value, '-') from json_each(?1))",
                ids,
                insert.now,
                act.actor.kind.as_str(),
                act.actor.name,
                act.reason
            )
            .execute(&mut *tx)
            .await?;
            sqlx::query!(
                "insert into cf_audit (at, actor_kind, actor, action, subject, target, reason)
                select ?2, ?3, ?4, 'session.ended', ?6, value, ?5 from json_each(?1) order by key",
                ids,
                insert.now,
                act.actor.kind.as_str(),
                act.actor.name,
                act.reason,
                subject
            )
            .execute(&mut *tx)
            .await?;
        }
        let mark = if ended.is_empty() { None } else { Some(mark(&mut tx).await?) };
        tx.commit().await?;
        let ended = ended.into_iter().map(Sid::from).collect();
        Ok(Done { outcome: Capped { inserted, ended }, mark })
    }
}

/// A refresh token of this session, and what was issued for it.
async fn lock_link(
    connection: &mut SqliteConnection,
    jti: Uuid,
    sid: Uuid,
) -> Result<Option<(Link, Option<Uuid>)>, sqlx::Error> {
    let row = sqlx::query!(
        r#"select revoked_at is not null and not ((spent_at is not null or replaced_at is not null)
                and revoked_by_kind = 'system' and revoked_by = 'rotation') as "revoked!: bool", spent_at, replaced_at is not null as "replaced!: bool", kid, claims,
            expires_at, successor as "successor: Uuid"
        from cf_tokens where jti = ?1 and sid = ?2 and token_type = 'refresh'"#,
        jti,
        sid
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| {
        let link = Link {
            revoked: row.revoked,
            spent_at: row.spent_at,
            replaced: row.replaced,
            kid: row.kid,
            claims: row.claims,
            expires_at: row.expires_at,
        };
        (link, row.successor)
    }))
}

/// Takes back a successor that nobody used, and the access tokens that were issued with it, for good.
async fn replace(
    connection: &mut SqliteConnection,
    successor: Uuid,
    asked: &Rotation,
) -> Result<(Vec<Jti>, Option<Mark>), sqlx::Error> {
    sqlx::query!(
        "update cf_tokens set replaced_at = ?2, revoked_at = ?2, revoked_by_kind = 'system', revoked_by = 'rotation',
            revoked_reason = 'replaced', revoked_final = true
        where jti = ?1",
        successor,
        asked.now
    )
    .execute(&mut *connection)
    .await?;
    let gone = sqlx::query_scalar!(
        r#"update cf_tokens set revoked_at = coalesce(revoked_at, ?3), revoked_by_kind = coalesce(revoked_by_kind, 'system'),
            revoked_by = coalesce(revoked_by, 'rotation'), revoked_reason = coalesce(revoked_reason, 'replaced'),
            revoked_final = true
        where sid = ?1 and issued_with = ?2 and not revoked_final
        returning jti as "jti: Uuid""#,
        asked.sid.as_uuid(),
        successor,
        asked.now
    )
    .fetch_all(&mut *connection)
    .await?;
    let mark = if gone.is_empty() { None } else { Some(mark(connection).await?) };
    Ok((gone.into_iter().map(Jti::from).collect(), mark))
}

async fn end_for_reuse(connection: &mut SqliteConnection, asked: &Rotation) -> Result<Mark, sqlx::Error> {
    let (act, target) = (rows::reuse_act(), asked.sid.to_string());
    sqlx::query!(
        "update cf_sessions set ended_at = ?2, ended_by_kind = ?3, ended_by = ?4, ended_reason = ?5 where sid = ?1",
        asked.sid.as_uuid(),
        asked.now,
        act.actor.kind.as_str(),
        act.actor.name,
        act.reason
    )
    .execute(&mut *connection)
    .await?;
    let (subject, reason) = (asked.subject.as_str(), act.reason.as_deref());
    note(&mut *connection, "refresh.reused", subject, Some(&target), &act, reason, asked.now).await?;
    mark(connection).await
}
