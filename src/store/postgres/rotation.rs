//! Refresh tokens that are good for one use, and the cap on a subject's sessions.

use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::Postgres;
use super::changes::note;
use super::coherence::note_changes;
use super::inserts::{insert_new_on, insert_tokens};
use crate::store::notice::Change;
use crate::store::rotation::{Link, Verdict};
use crate::store::rows;
use crate::store::{Cap, Capped, Done, Insert, Inserted, Rotated, Rotation};
use crate::token::{Action, Jti, Mark, Sid};

impl Postgres {
    pub(super) async fn rotate(&self, asked: &Rotation) -> Result<Done<Rotated>, sqlx::Error> {
        let mut tx = self.begin().await?;
        let (sid, presented) = (asked.sid.as_uuid(), asked.presented.as_uuid());
        // Subject, session and token, in this order as everywhere.
        let generation = sqlx::query_scalar!(
            "select generation from cf_subjects where subject = $1 for share",
            asked.subject.as_str()
        )
        .fetch_optional(&mut *tx)
        .await?;
        let is_live = sqlx::query_scalar!(
            r#"select (ended_at is null and generation = $3) as "is_live!" from cf_sessions
            where sid = $1 and subject = $2 for no key update"#,
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
        let mut changes = Vec::new();
        let outcome = match asked.judge(&link, next.as_ref().map(|(_, next)| next)) {
            Verdict::Refuse => {
                tx.rollback().await?;
                return Ok(Done { outcome: Rotated::Superseded, mark: None });
            }
            Verdict::Theft => {
                changes.push(end_for_reuse(&mut tx, asked).await?);
                Rotated::Reused
            }
            Verdict::GiveAgain => {
                let (successor, next) = next.ok_or(sqlx::Error::RowNotFound)?;
                insert_tokens(&mut tx, asked, asked.access.as_slice(), Some(successor)).await?;
                Rotated::Again { claims: next.claims }
            }
            verdict => {
                let mut replaced = Vec::new();
                if let (Verdict::Replace, Some((successor, _))) = (verdict, &next) {
                    (replaced, changes) = replace(&mut tx, *successor, asked).await?;
                }
                sqlx::query!(
                    "update cf_tokens set spent_at = $3, successor = $2,
                        revoked_at = coalesce(revoked_at, $3), revoked_by_kind = 'system', revoked_by = 'rotation',
                        revoked_reason = 'spent', revoked_final = true
                    where jti = $1",
                    presented,
                    asked.refresh.jti.as_uuid(),
                    asked.now
                )
                .execute(&mut *tx)
                .await?;
                let refresh = std::slice::from_ref(&asked.refresh);
                insert_tokens(&mut tx, asked, refresh, None).await?;
                let with = Some(asked.refresh.jti.as_uuid());
                insert_tokens(&mut tx, asked, asked.access.as_slice(), with).await?;
                Rotated::Stored { replaced }
            }
        };
        sqlx::query!(
            "update cf_sessions set last_seen_at = greatest(last_seen_at, $2), expires_at = greatest(expires_at, $3)
            where sid = $1",
            sid,
            asked.now,
            asked.session_expires_at
        )
        .execute(&mut *tx)
        .await?;
        let mark = note_any(&mut tx, &changes, asked.now).await?;
        tx.commit().await?;
        Ok(Done { outcome, mark })
    }

    pub(super) async fn insert_capped(&self, insert: &Insert, cap: Cap) -> Result<Done<Capped>, sqlx::Error> {
        let mut tx = self.begin().await?;
        let subject = insert.subject.as_str();
        // One at a time: who comes next counts what this one began. A purge may remove the subject between the two.
        let generation = loop {
            sqlx::query!("insert into cf_subjects (subject) values ($1) on conflict do nothing", subject)
                .execute(&mut *tx)
                .await?;
            let held =
                sqlx::query_scalar!("select generation from cf_subjects where subject = $1 for no key update", subject)
                    .fetch_optional(&mut *tx)
                    .await?;
            if let Some(generation) = held {
                break generation;
            }
        };
        // A token that is its own session is none that anybody logged in for. Nor is one a session any more of whose
        // tokens none is good for anything: each was revoked, or its key was retired.
        let live = sqlx::query!(
            "select s.sid, s.expires_at from cf_sessions s
            where s.subject = $1 and s.generation = $2 and s.ended_at is null and s.expires_at > $3
                and not exists (select from cf_tokens t where t.jti = s.sid)
                and (not exists (select from cf_tokens t where t.sid = s.sid) or exists (
                    select from cf_tokens t where t.sid = s.sid and t.expires_at > $3 and t.revoked_at is null
                        and not exists (select from cf_keys k where k.kid = t.kid and k.state = 'retired')))
            order by s.created_at, s.sid for no key update of s",
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
        let inserted = insert_new_on(&mut tx, insert).await?;
        if inserted != Inserted::Stored {
            tx.rollback().await?;
            return Ok(Done { outcome: Capped { inserted, ended: Vec::new() }, mark: None });
        }
        let oldest: Vec<_> = live.into_iter().take(over).collect();
        let ended: Vec<Uuid> = oldest.iter().map(|session| session.sid).collect();
        if !ended.is_empty() {
            let act = rows::cap_act();
            sqlx::query!(
                "update cf_sessions set ended_at = $2, ended_by_kind = $3, ended_by = $4, ended_reason = $5 where sid = any($1)",
                &ended,
                insert.now,
                act.actor.kind.as_str(),
                act.actor.name,
                act.reason
            )
            .execute(&mut *tx)
            .await?;
            sqlx::query!(
                "insert into cf_audit (at, actor_kind, actor, action, subject, target, reason)
                select $2, $3, $4, 'session.ended', $6, e.sid::text, $5
                from unnest($1::uuid[]) with ordinality as e (sid, place) order by e.place",
                &ended,
                insert.now,
                act.actor.kind.as_str(),
                act.actor.name,
                act.reason,
                subject
            )
            .execute(&mut *tx)
            .await?;
        }
        let changes: Vec<Change> =
            oldest.iter().map(|session| Change::session(session.sid, session.expires_at)).collect();
        let mark = note_any(&mut tx, &changes, insert.now).await?;
        tx.commit().await?;
        let ended = ended.into_iter().map(Sid::from).collect();
        Ok(Done { outcome: Capped { inserted, ended }, mark })
    }
}

/// A refresh token of this session, its row locked, and what was issued for it.
async fn lock_link(
    connection: &mut PgConnection,
    jti: Uuid,
    sid: Uuid,
) -> Result<Option<(Link, Option<Uuid>)>, sqlx::Error> {
    let row = sqlx::query!(
        r#"select revoked_at is not null and not ((spent_at is not null or replaced_at is not null)
                and revoked_by_kind = 'system' and revoked_by = 'rotation') as "revoked!", spent_at, replaced_at is not null as "replaced!", kid, claims,
            expires_at, successor
        from cf_tokens where jti = $1 and sid = $2 and token_type = 'refresh' for no key update"#,
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
    connection: &mut PgConnection,
    successor: Uuid,
    asked: &Rotation,
) -> Result<(Vec<Jti>, Vec<Change>), sqlx::Error> {
    sqlx::query!(
        "update cf_tokens set replaced_at = $2, revoked_at = $2, revoked_by_kind = 'system', revoked_by = 'rotation',
            revoked_reason = 'replaced', revoked_final = true
        where jti = $1",
        successor,
        asked.now
    )
    .execute(&mut *connection)
    .await?;
    // One that was revoked already becomes final, which is nothing new to anybody.
    let gone = sqlx::query!(
        r#"with due as (
            select jti, revoked_at is null as was_live from cf_tokens
            where sid = $1 and issued_with = $2 and not revoked_final for no key update
        )
        update cf_tokens t set revoked_at = coalesce(revoked_at, $3), revoked_by_kind = coalesce(revoked_by_kind, 'system'),
            revoked_by = coalesce(revoked_by, 'rotation'), revoked_reason = coalesce(revoked_reason, 'replaced'),
            revoked_final = true
        from due where t.jti = due.jti
        returning t.jti, t.expires_at, due.was_live as "was_live!""#,
        asked.sid.as_uuid(),
        successor,
        asked.now
    )
    .fetch_all(&mut *connection)
    .await?;
    let told = gone.iter().filter(|row| row.was_live);
    let changes = told.map(|row| Change::token(row.jti, Action::Revoked, row.expires_at)).collect();
    Ok((gone.into_iter().map(|row| Jti::from(row.jti)).collect(), changes))
}

async fn end_for_reuse(connection: &mut PgConnection, asked: &Rotation) -> Result<Change, sqlx::Error> {
    let (act, target) = (rows::reuse_act(), asked.sid.to_string());
    let expires_at = sqlx::query_scalar!(
        "update cf_sessions set ended_at = $2, ended_by_kind = $3, ended_by = $4, ended_reason = $5 where sid = $1
        returning expires_at",
        asked.sid.as_uuid(),
        asked.now,
        act.actor.kind.as_str(),
        act.actor.name,
        act.reason
    )
    .fetch_one(&mut *connection)
    .await?;
    let (subject, reason) = (asked.subject.as_str(), act.reason.as_deref());
    note(connection, "refresh.reused", subject, Some(&target), &act, reason, asked.now).await?;
    Ok(Change::session(target, expires_at))
}

/// Notes the changes, if any, as the last thing that a transaction does.
async fn note_any(connection: &mut PgConnection, changes: &[Change], now: i64) -> Result<Option<Mark>, sqlx::Error> {
    match changes {
        [] => Ok(None),
        changes => note_changes(connection, changes, now).await.map(Some),
    }
}
