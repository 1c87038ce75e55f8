//! What administrators look at closely: why a token is refused, what happened to it, sessions that have ended, and the
//! runs of the purge.

use uuid::Uuid;

use super::Sqlite;
use super::keys::note;
use crate::store::rows::{self, AuditRow, ParticularsRow, PurgeRunRow, SessionRecordRow};
use crate::store::{PURGE_RUNS_KEPT, Particulars};
use crate::token::{Act, AuditEvent, Cursor, Jti, PurgeRun, SessionPage, SessionRecord, Sid, Subject};

/// Sessions, ended or not, by a condition: by the session's own end, or by the end of its generation.
macro_rules! select_session_records {
    ($condition:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            SessionRecordRow,
            r#"select s.sid as "sid: Uuid", s.subject, s.label, s.client, s.ip, s.user_agent, s.created_at, s.last_seen_at, s.expires_at,
                (s.ended_at is null and s.generation <> u.generation) as "with_subject!: bool",
                coalesce(s.ended_at, e.ended_at) as "ended_at?: i64", coalesce(s.ended_by_kind, e.ended_by_kind) as "ended_by_kind?: String",
                coalesce(s.ended_by, e.ended_by) as "ended_by?: String",
                case when s.ended_at is not null then s.ended_reason else e.ended_reason end as "ended_reason?: String"
            from cf_sessions s
            join cf_subjects u on u.subject = s.subject
            left join cf_subject_endings e
                on e.subject = s.subject and e.generation = s.generation + 1 and s.generation <> u.generation
            "# + $condition
            $(, $argument)*
        )
    };
}

impl Sqlite {
    pub(super) async fn particulars(&self, jti: Jti) -> Result<Option<Particulars>, sqlx::Error> {
        let found = sqlx::query_as!(
            ParticularsRow,
            r#"select t.revoked_at, t.revoked_by_kind, t.revoked_by, t.revoked_reason, t.revoked_final as "revoked_final: bool", t.spent_at,
                t.successor as "successor: Uuid", t.replaced_at,
                (select p.jti from cf_tokens p
                    where (t.token_type = 'refresh' or t.issued_with is not null) and p.sid = t.sid and p.issued_at <= t.issued_at
                        and p.successor = coalesce(t.issued_with, t.jti)
                    order by p.issued_at desc, p.jti desc limit 1)
                    as "predecessor?: Uuid",
                s.ended_at as "session_ended_at?: i64", s.ended_by_kind as "session_ended_by_kind?: String",
                s.ended_by as "session_ended_by?: String", s.ended_reason as "session_ended_reason?: String",
                e.ended_at as "subject_ended_at?: i64", e.ended_by_kind as "subject_ended_by_kind?: String",
                e.ended_by as "subject_ended_by?: String", e.ended_reason as "subject_ended_reason?: String",
                k.retired_at as "retired_at?: i64", k.retired_by_kind as "retired_by_kind?: String",
                k.retired_by as "retired_by?: String", k.retired_reason as "retired_reason?: String",
                exists (select 1 from cf_users n where n.username = t.subject and n.disabled) as "user_disabled!: bool",
                exists (select 1 from cf_clients c where (c.client_id = t.subject or c.name = t.client) and c.disabled)
                    as "client_disabled!: bool"
            from cf_tokens t
            join cf_sessions s on s.sid = t.sid
            join cf_subjects u on u.subject = s.subject
            left join cf_subject_endings e
                on e.subject = s.subject and e.generation = s.generation + 1 and s.generation <> u.generation
            left join cf_keys k on k.kid = t.kid and k.state = 'retired'
            where t.jti = ?1"#,
            jti.as_uuid()
        )
        .fetch_optional(&self.readers)
        .await?;
        found.map(rows::read_one).transpose()
    }

    pub(super) async fn history(
        &self,
        targets: &[String],
        subject: &Subject,
        since: i64,
        limit: u16,
    ) -> Result<Vec<AuditEvent>, sqlx::Error> {
        let targets = rows::json(&targets)?;
        let found = sqlx::query_as!(
            AuditRow,
            r#"select id as "id!", at as "at!", actor_kind as "actor_kind!", actor as "actor!", action as "action!", subject,
                target, reason, ip
            from (
                select * from cf_audit a where a.target in (select value from json_each(?1)) and a.at >= ?3
                union all
                select * from cf_audit a where a.subject = ?2 and a.target is null and a.at >= ?3
            ) as found
            order by id desc limit ?4"#,
            targets,
            subject.as_str(),
            since,
            limit
        )
        .fetch_all(&self.readers)
        .await?;
        rows::read(found)
    }

    pub(super) async fn session(&self, sid: Sid) -> Result<Option<SessionRecord>, sqlx::Error> {
        let found = select_session_records!("where s.sid = ?1", sid.as_uuid()).fetch_optional(&self.readers).await?;
        found.map(rows::read_one).transpose()
    }

    pub(super) async fn all_sessions(
        &self,
        subject: &Subject,
        after: Option<Cursor>,
        limit: u16,
    ) -> Result<SessionPage<SessionRecord>, sqlx::Error> {
        let (created_at, sid) = rows::before(after);
        let beyond = i64::from(limit) + 1;
        let found = select_session_records!(
            "where s.subject = ?1 and s.created_at <= ?2 and (s.created_at, s.sid) < (?2, ?3)
            order by s.created_at desc, s.sid desc limit ?4",
            subject.as_str(),
            created_at,
            sid,
            beyond
        )
        .fetch_all(&self.readers)
        .await?;
        Ok(rows::session_page(rows::read(found)?, limit, |record| &record.session))
    }

    pub(super) async fn note_purge_asked(&self, act: &Act, now: i64) -> Result<(), sqlx::Error> {
        let mut tx = self.begin().await?;
        note(&mut tx, "purge.asked", None, act, now).await?;
        tx.commit().await
    }

    pub(super) async fn note_purge_run(&self, run: &PurgeRun) -> Result<(), sqlx::Error> {
        let records = i64::try_from(run.records).unwrap_or(i64::MAX);
        let (started_at, seen_at) = (run.started_at.timestamp(), run.seen_at.timestamp());
        let mut tx = self.begin().await?;
        sqlx::query!(
            "insert into cf_purge_runs (holder, process, started_at, seen_at, ended_at, records, complete, error)
            values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
            on conflict (holder) do update set seen_at = ?4, ended_at = ?5, records = ?6, complete = ?7, error = ?8",
            run.holder,
            run.process,
            started_at,
            seen_at,
            run.ended_at.map(|at| at.timestamp()),
            records,
            run.complete,
            run.error
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "delete from cf_purge_runs where holder in (
                select holder from cf_purge_runs order by started_at desc, holder limit -1 offset ?1
            )",
            i64::from(PURGE_RUNS_KEPT)
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    }

    pub(super) async fn purge_runs(&self, now: i64) -> Result<(Vec<PurgeRun>, Option<Uuid>), sqlx::Error> {
        let found = sqlx::query_as!(
            PurgeRunRow,
            r#"/* sqlite */ select holder as "holder: Uuid", process, started_at, seen_at, ended_at, records, complete as "complete: bool", error
            from cf_purge_runs order by started_at desc, holder"#
        )
        .fetch_all(&self.readers)
        .await?;
        let holder = sqlx::query_scalar!(
            r#"select holder as "holder!: Uuid" from cf_jobs where name = 'purge' and holder is not null and held_until > ?1"#,
            now
        )
        .fetch_optional(&self.readers)
        .await?;
        Ok((rows::read(found)?, holder))
    }
}
