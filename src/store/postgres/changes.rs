//! Taking tokens back, by token, session and subject, and the audit of it.

use std::collections::HashMap;

use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::coherence::note_changes;
use super::{BROWSE, Postgres};
use crate::store::notice::{Change, LEEWAY_SECONDS_MAX, Told};
use crate::store::rows::{self, AuditRow};
use crate::store::{AuditFilter, Done, Revoke, Revoked};
use crate::token::{Act, Action, AuditEvent, Mark, Position, Sid, Subject};

/// Entries of the audit, newest first, along one index.
macro_rules! select_audit {
    ($which:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            AuditRow,
            "select id, at, actor_kind, actor, action, subject, target, reason, ip from cf_audit
            where " + $which + "id < $1 and ($2::text is null or subject = $2) and ($3::text is null or actor = $3)
                and ($4::text is null or action = $4) and ($5::text is null or target = $5)
            order by id desc limit $6"
            $(, $argument)*
        )
    };
}

impl Postgres {
    pub(super) async fn revoke(&self, asked: &[Revoke]) -> Result<Vec<Done<Revoked>>, sqlx::Error> {
        let column = |of: fn(&Revoke) -> Option<&str>| -> Vec<Option<String>> {
            asked.iter().map(|revoke| of(revoke).map(str::to_owned)).collect()
        };
        let ids: Vec<Uuid> = asked.iter().map(|revoke| revoke.jti.as_uuid()).collect();
        let times: Vec<i64> = asked.iter().map(|revoke| revoke.now).collect();
        // One statement that commits by itself, so that no process can be stopped between the lock of the position and
        // the end of the transaction. Its first part sets for it what BEGIN sets for others. Where nobody else is on
        // the roll there is nobody to wake.
        let statement = sqlx::query!(
            r#"with limits as materialized (
                select set_config('counterfoil.noted', 'on', true), set_config('lock_timeout', '3s', true),
                    case when current_setting('synchronous_commit') in ('off', 'local', 'remote_write')
                        then set_config('synchronous_commit', 'on', true) end
            ), asked as materialized (
                select a.* from limits cross join unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                    $7::bigint[], $8::bool[]) as a (jti, confined_to, kind, name, reason, ip, now, is_final)
            ), held as materialized (
                select t.jti, t.subject, t.expires_at, t.revoked_by_kind, t.revoked_final,
                    coalesce((t.spent_at is not null or t.replaced_at is not null)
                        and t.revoked_by_kind = 'system' and t.revoked_by = 'rotation', false) as by_rotation,
                    (s.ended_at is not null or s.generation <> u.generation or k.kid is not null) as over
                from asked a
                join cf_tokens t on t.jti = a.jti
                join cf_sessions s on s.sid = t.sid
                join cf_subjects u on u.subject = s.subject
                left join cf_keys k on k.kid = t.kid and k.state = 'retired'
                where a.confined_to is null or t.subject = a.confined_to
                order by t.jti for no key update of t
            ), changed as (
                update cf_tokens t set revoked_at = coalesce(t.revoked_at, a.now), revoked_by_kind = a.kind,
                    revoked_by = a.name, revoked_reason = a.reason, revoked_final = a.is_final or h.by_rotation
                from asked a join held h on h.jti = a.jti
                where t.jti = a.jti and not h.over and (h.revoked_by_kind is null or h.by_rotation
                    or (not h.revoked_final and (a.is_final or (h.revoked_by_kind = 'subject' and a.kind <> 'subject'))))
                returning t.jti, t.subject, a.now, a.kind, a.name, a.reason, a.ip, t.expires_at, h.revoked_by_kind is null as was_live
            ), noted as (
                insert into cf_audit (at, actor_kind, actor, action, subject, target, reason, ip)
                select now, kind, name, 'token.revoked', subject, jti::text, reason, ip from changed
            ), gone as (
                select jti, now, expires_at, row_number() over () as place, count(*) over () as places from changed where was_live
            ), place as (
                update cf_position set seq = seq + (select count(*) from gone), change = gen_random_uuid()
                where id = 1 and exists (select from gone)
                returning seq, change, roll
            ), logged as (
                insert into cf_changes (seq, change, kind, target, at, action, expires_at)
                select p.seq - g.places + g.place, p.change, 'token', g.jti::text, g.now, 'revoked', g.expires_at
                from gone g cross join place p
            ), woken as (
                select pg_notify('counterfoil', coalesce($9::uuid::text, '')) from place
                where exists (select from cf_replicas r where r.id is distinct from $9)
            )
            select h.jti, p.seq as "seq?", p.change as "change?", p.roll as "roll?"
            from held h left join gone g on g.jti = h.jti left join place p on g.jti is not null
                cross join (select count(*) from woken) as told"#,
            &ids,
            &column(|revoke| revoke.act.actor.confined_to()) as &[Option<String>],
            &column(|revoke| Some(revoke.act.actor.kind.as_str())) as &[Option<String>],
            &column(|revoke| Some(&revoke.act.actor.name)) as &[Option<String>],
            &column(|revoke| revoke.act.reason.as_deref()) as &[Option<String>],
            &column(|revoke| revoke.act.ip.as_deref()) as &[Option<String>],
            &times,
            &asked.iter().map(|revoke| revoke.is_final).collect::<Vec<bool>>(),
            self.joined()
        );
        let found = self.revoker.with(async |connection| statement.fetch_all(connection).await).await?;
        let found: HashMap<Uuid, Option<Mark>> = found
            .into_iter()
            .map(|row| {
                let position = row.seq.zip(row.change).map(|(seq, change)| Position { seq, change });
                (row.jti, position.zip(row.roll).map(|(position, roll)| Mark { position, roll }))
            })
            .collect();
        let done = |id: &Uuid| match found.get(id) {
            Some(mark) => Done { outcome: Revoked::Done, mark: *mark },
            None => Done { outcome: Revoked::NotFound, mark: None },
        };
        Ok(ids.iter().map(done).collect())
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
            "select subject, expires_at from cf_sessions where sid = $1 and ($2::text is null or subject = $2)
            for no key update",
            sid.as_uuid(),
            act.actor.confined_to()
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(session) = found else {
            tx.rollback().await?;
            return Ok(Done { outcome: None, mark: None });
        };
        // A statement of its own, which begins when the lock is there: one that waits for it holds the session of now
        // against the subject of before, and takes one for ended that all of the subject's others have just been ended
        // but for.
        let is_over = sqlx::query_scalar!(
            r#"select (s.ended_at is not null or s.generation <> u.generation) as "over!"
            from cf_sessions s join cf_subjects u on u.subject = s.subject where s.sid = $1"#,
            sid.as_uuid()
        )
        .fetch_one(&mut *tx)
        .await?;
        let done = match is_over {
            true => Done { outcome: Some(0), mark: None },
            false => {
                let live = sqlx::query_scalar!(
                    r#"select count(*) as "live!" from cf_tokens
                    where sid = $1 and revoked_at is null and expires_at > $2
                        and not exists (select from cf_keys k where k.kid = cf_tokens.kid and k.state = 'retired')"#,
                    sid.as_uuid(),
                    live_at
                )
                .fetch_one(&mut *tx)
                .await?;
                sqlx::query!(
                    "update cf_sessions set ended_at = $2, ended_by_kind = $3, ended_by = $4, ended_reason = $5
                    where sid = $1",
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
                let mark = note_changes(&mut tx, &[Change::session(&target, session.expires_at)], now).await?;
                Done { outcome: Some(rows::count(live)), mark: Some(mark) }
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
        let (generation, changes) = end_generation(&mut tx, subject.as_str(), keep, act, reason, now).await?;
        // No index is asked by expiry: where the tables have no statistics yet, it would be read through for each
        // session. And nothing is asked that is answered by reading a table: with that switched off, whatever else it
        // costs seems cheap.
        let live = sqlx::query_scalar!(
            r#"select count(*) as "live!" from cf_sessions s join cf_tokens t on t.sid = s.sid
            where s.subject = $1 and s.generation = $2 and s.ended_at is null
                and t.revoked_at is null and t.expires_at + 0 > $3
                and not exists (select from cf_keys k where k.kid = t.kid and k.state = 'retired')"#,
            subject.as_str(),
            generation - 1,
            live_at
        )
        .fetch_one(&mut *tx)
        .await?;
        note(&mut tx, "subject.ended", subject.as_str(), None, act, reason, now).await?;
        let mark = note_changes(&mut tx, &changes, now).await?;
        tx.commit().await?;
        Ok(Done { outcome: rows::count(live), mark: Some(mark) })
    }

    pub(super) async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEvent>, sqlx::Error> {
        let (before, limit) = (filter.before.unwrap_or(i64::MAX), i64::from(filter.limit));
        let AuditFilter { subject, actor, action, target, .. } = filter;
        let mut tx = self.pool.begin_with(BROWSE).await?;
        macro_rules! entries {
            ($which:literal) => {
                select_audit!($which, before, subject.as_ref(), actor.as_ref(), action.as_ref(), target.as_ref(), limit)
                    .fetch_all(&mut *tx)
                    .await?
            };
        }
        let found = match (target, subject) {
            (Some(_), _) => entries!("target = $5 and "),
            (None, Some(_)) => entries!("subject = $2 and "),
            (None, None) => entries!(""),
        };
        tx.commit().await?;
        rows::read(found)
    }
}

/// Ends the sessions of the subject's generation, all but one to keep, and gives the new generation, with what is to be
/// noted of it. A subject without a row gets one.
pub(super) async fn end_generation(
    connection: &mut PgConnection,
    subject: &str,
    keep: Option<Sid>,
    act: &Act,
    reason: Option<&str>,
    now: i64,
) -> Result<(i64, Vec<Change>), sqlx::Error> {
    let generation = sqlx::query_scalar!(
        "insert into cf_subjects (subject, generation) values ($1, 1)
        on conflict (subject) do update set generation = cf_subjects.generation + 1
        returning generation",
        subject
    )
    .fetch_one(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into cf_subject_endings (subject, generation, ended_at, ended_by_kind, ended_by, ended_reason)
        values ($1, $2, $3, $4, $5, $6)",
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
            "update cf_sessions set generation = $3::bigint
            where sid = $1 and subject = $2 and generation = $3::bigint - 1 and ended_at is null",
            sid.as_uuid(),
            subject,
            generation
        )
        .execute(&mut *connection)
        .await?;
    }
    // The subject's row is locked, so nobody begins a session meanwhile.
    let ended = sqlx::query!(
        r#"select max(s.expires_at) as expires_at,
            (max(s.sid::text collate "C") filter (where substr(s.sid::text, 15, 1) = '7'
                and not exists (select from cf_tokens t where t.sid = s.sid and t.imported)))::uuid as last_sid
        from cf_sessions s where s.subject = $1 and s.generation = $2 and s.ended_at is null"#,
        subject,
        generation - 1
    )
    .fetch_one(&mut *connection)
    .await?;
    let told = ended.expires_at.filter(|_| keep.is_none()).map(|expires_at| Told {
        action: Action::Revoked,
        last_sid: ended.last_sid,
        expires_at,
    });
    let mut changes = vec![Change { told, ..Change::subject(subject) }];
    // By themselves: all, where one of them was kept, and otherwise those whose ids don't say when they began.
    let single = sqlx::query!(
        "select s.sid, s.expires_at from cf_sessions s
        where s.subject = $1 and s.generation = $2 and s.ended_at is null and s.expires_at > $3
            and ($4 or substr(s.sid::text, 15, 1) <> '7'
                or exists (select from cf_tokens t where t.sid = s.sid and t.imported))",
        subject,
        generation - 1,
        now - LEEWAY_SECONDS_MAX,
        keep.is_some()
    )
    .fetch_all(&mut *connection)
    .await?;
    changes.extend(single.into_iter().map(|session| Change::session(session.sid, session.expires_at)));
    Ok((generation, changes))
}

/// Writes an audit entry.
pub(super) async fn note(
    connection: &mut PgConnection,
    action: &str,
    subject: &str,
    target: Option<&str>,
    act: &Act,
    reason: Option<&str>,
    now: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into cf_audit (at, actor_kind, actor, action, subject, target, reason, ip)
        values ($1, $2, $3, $4, $5, $6, $7, $8)",
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
