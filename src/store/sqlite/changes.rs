//! Taking tokens back, by token, session and subject, and the audit of it.

use sqlx::sqlite::SqliteConnection;
use uuid::Uuid;

use super::Sqlite;
use super::coherence::{mark, move_position, place};
use crate::store::notice::LEEWAY_SECONDS_MAX;
use crate::store::rows::{self, AuditRow, Standing, Step};
use crate::store::{AuditFilter, Done, Revoke, Revoked};
use crate::token::{Act, AuditEvent, Jti, Sid, Subject};

/// Entries of the audit, newest first, along one index.
macro_rules! select_audit {
    ($which:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            AuditRow,
            "select id, at, actor_kind, actor, action, subject, target, reason, ip from cf_audit
            where " + $which + "id < ?1 and (?2 is null or subject = ?2) and (?3 is null or actor = ?3)
                and (?4 is null or action = ?4) and (?5 is null or target = ?5)
            order by id desc limit ?6"
            $(, $argument)*
        )
    };
}

impl Sqlite {
    pub(super) async fn revoke(&self, asked: &[Revoke]) -> Result<Vec<Done<Revoked>>, sqlx::Error> {
        let mut tx = self.begin().await?;
        let mut done = Vec::with_capacity(asked.len());
        for Revoke { jti, act, is_final, now } in asked {
            let Some(standing) = standing(&mut tx, *jti, act).await? else {
                done.push((Revoked::NotFound, false));
                continue;
            };
            if standing.revoke(act, *is_final) == Step::Change {
                sqlx::query!(
                    "update cf_tokens set revoked_at = coalesce(revoked_at, ?2), revoked_by_kind = ?3, revoked_by = ?4,
                        revoked_reason = ?5, revoked_final = ?6
                    where jti = ?1",
                    jti.as_uuid(),
                    *now,
                    act.actor.kind.as_str(),
                    act.actor.name,
                    act.reason,
                    *is_final || standing.by_rotation
                )
                .execute(&mut *tx)
                .await?;
                let (target, reason) = (jti.to_string(), act.reason.as_deref());
                note(&mut tx, "token.revoked", &standing.subject, Some(&target), act, reason, *now).await?;
            }
            done.push((Revoked::Done, standing.revoked_by_kind.is_none() && !standing.over));
        }
        let mark = mark(&mut tx).await?;
        tx.commit().await?;
        Ok(done.into_iter().map(|(outcome, is_new)| Done { outcome, mark: is_new.then_some(mark) }).collect())
    }

    pub(super) async fn end_session(
        &self,
        sid: Sid,
        act: &Act,
        now: i64,
        live_at: i64,
    ) -> Result<Done<Option<u64>>, sqlx::Error> {
        let mut tx = self.begin().await?;
        let found = sqlx::query!(
            r#"select s.subject, (s.ended_at is not null or s.generation <> u.generation) as "over!: bool"
            from cf_sessions s join cf_subjects u on u.subject = s.subject
            where s.sid = ?1 and (?2 is null or s.subject = ?2)
"#,
            sid.as_uuid(),
            act.actor.confined_to()
        )
        .fetch_optional(&mut *tx)
        .await?;
        let done = match found {
            None => Done { outcome: None, mark: None },
            Some(session) if session.over => Done { outcome: Some(0), mark: None },
            Some(session) => {
                let live = sqlx::query_scalar!(
                    r#"select count(*) as "live!: i64" from cf_tokens
                    where sid = ?1 and revoked_at is null and expires_at > ?2
                        and kid not in (select kid from cf_keys where state = 'retired')"#,
                    sid.as_uuid(),
                    live_at
                )
                .fetch_one(&mut *tx)
                .await?;
                sqlx::query!(
                    "update cf_sessions set ended_at = ?2, ended_by_kind = ?3, ended_by = ?4, ended_reason = ?5
                    where sid = ?1",
                    sid.as_uuid(),
                    now,
                    act.actor.kind.as_str(),
                    act.actor.name,
                    act.reason
                )
                .execute(&mut *tx)
                .await?;
                let (target, reason) = (sid.to_string(), act.reason.as_deref());
                note(&mut tx, "session.ended", &session.subject, Some(&target), act, reason, now).await?;
                Done { outcome: Some(rows::count(live)), mark: Some(mark(&mut tx).await?) }
            }
        };
        tx.commit().await?;
        Ok(done)
    }

    pub(super) async fn end_subject(
        &self,
        subject: &Subject,
        keep: Option<Sid>,
        act: &Act,
        now: i64,
        live_at: i64,
    ) -> Result<Done<u64>, sqlx::Error> {
        let mut tx = self.begin().await?;
        let reason = act.reason.as_deref();
        let generation = end_generation(&mut tx, subject.as_str(), keep, act, reason, now).await?;
        let live = sqlx::query_scalar!(
            r#"select count(*) as "live!: i64" from cf_sessions s join cf_tokens t on t.sid = s.sid
            where s.subject = ?1 and s.generation = ?2 and s.ended_at is null
                and t.revoked_at is null and t.expires_at > ?3
                and t.kid not in (select kid from cf_keys where state = 'retired')"#,
            subject.as_str(),
            generation - 1,
            live_at
        )
        .fetch_one(&mut *tx)
        .await?;
        note(&mut tx, "subject.ended", subject.as_str(), None, act, reason, now).await?;
        let mark = mark(&mut tx).await?;
        tx.commit().await?;
        Ok(Done { outcome: rows::count(live), mark: Some(mark) })
    }

    pub(super) async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEvent>, sqlx::Error> {
        let (before, limit) = (filter.before.unwrap_or(i64::MAX), i64::from(filter.limit));
        let AuditFilter { subject, actor, action, target, .. } = filter;
        macro_rules! entries {
            ($which:literal) => {
                select_audit!($which, before, subject.as_ref(), actor.as_ref(), action.as_ref(), target.as_ref(), limit)
                    .fetch_all(&self.readers)
                    .await?
            };
        }
        let found = match (target, subject) {
            (Some(_), _) => entries!("target = ?5 and "),
            (None, Some(_)) => entries!("subject = ?2 and "),
            (None, None) => entries!(""),
        };
        rows::read(found)
    }
}

/// Ends the sessions of the subject's generation, all but one to keep, and gives the new generation. A subject without
/// a row gets one.
pub(super) async fn end_generation(
    connection: &mut SqliteConnection,
    subject: &str,
    keep: Option<Sid>,
    act: &Act,
    reason: Option<&str>,
    now: i64,
) -> Result<i64, sqlx::Error> {
    let begin = place(connection).await?;
    let generation = sqlx::query_scalar!(
        "insert into cf_subjects (subject, generation) values (?1, 1)
        on conflict (subject) do update set generation = cf_subjects.generation + 1
        returning generation",
        subject
    )
    .fetch_one(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into cf_subject_endings (subject, generation, ended_at, ended_by_kind, ended_by, ended_reason)
        values (?1, ?2, ?3, ?4, ?5, ?6)",
        subject,
        generation,
        now,
        act.actor.kind.as_str(),
        act.actor.name,
        reason
    )
    .execute(&mut *connection)
    .await?;
    if let Some(sid) = keep {
        sqlx::query!(
            "update cf_sessions set generation = ?3
            where sid = ?1 and subject = ?2 and generation = ?3 - 1 and ended_at is null",
            sid.as_uuid(),
            subject,
            generation
        )
        .execute(&mut *connection)
        .await?;
    }
    // Triggers have noted it, and know neither the time nor of one to keep.
    let is_kept = keep.is_some();
    sqlx::query!(
        "update cf_changes set at = ?2, action = iif(?3, null, action), expires_at = iif(?3, null, expires_at)
        where seq > ?1",
        begin,
        now,
        is_kept
    )
    .execute(&mut *connection)
    .await?;
    // By themselves: all, where one of them was kept, and otherwise those whose ids don't say when they began.
    let change = Uuid::new_v4();
    let single = sqlx::query!(
        "insert into cf_changes (seq, change, kind, target, at, action, expires_at)
        select p.seq + row_number() over (order by s.sid), ?5, 'session', lower(hex(s.sid)), ?6, 'revoked', s.expires_at
        from cf_sessions s join cf_position p on p.id = 1
        where s.subject = ?1 and s.generation = ?2 - 1 and s.ended_at is null and s.expires_at > ?3
            and (?4 or substr(hex(s.sid), 13, 1) <> '7'
                or exists (select 1 from cf_tokens t where t.sid = s.sid and t.imported))",
        subject,
        generation,
        now - LEEWAY_SECONDS_MAX,
        is_kept,
        change,
        now
    )
    .execute(&mut *connection)
    .await?;
    move_position(connection, i64::try_from(single.rows_affected()).unwrap_or(i64::MAX), change).await?;
    Ok(generation)
}

/// Writes an audit entry.
pub(super) async fn note(
    connection: &mut SqliteConnection,
    action: &str,
    subject: &str,
    target: Option<&str>,
    act: &Act,
    reason: Option<&str>,
    now: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into cf_audit (at, actor_kind, actor, action, subject, target, reason, ip)
        values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        now,
        act.actor.kind.as_str(),
        act.actor.name,
        action,
        subject,
        target,
        reason,
        act.ip
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Where a record stands, no other change being under way; `None` where the actor reaches no such record.
pub(super) async fn standing(
    connection: &mut SqliteConnection,
    jti: Jti,
    act: &Act,
) -> Result<Option<Standing>, sqlx::Error> {
    sqlx::query_as!(
        Standing,
        r#"select t.subject, t.expires_at, t.revoked_by_kind, t.revoked_final as "revoked_final: bool",
            coalesce((t.spent_at is not null or t.replaced_at is not null)
                and t.revoked_by_kind = 'system' and t.revoked_by = 'rotation', false) as "by_rotation!: bool",
            (s.ended_at is not null or s.generation <> u.generation or k.kid is not null) as "over!: bool"
        from cf_tokens t
        join cf_sessions s on s.sid = t.sid
        join cf_subjects u on u.subject = s.subject
        left join cf_keys k on k.kid = t.kid and k.state = 'retired'
        where t.jti = ?1 and (?2 is null or t.subject = ?2)
"#,
        jti.as_uuid(),
        act.actor.confined_to()
    )
    .fetch_optional(connection)
    .await
}
