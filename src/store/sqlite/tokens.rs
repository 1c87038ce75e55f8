//! Tokens and sessions: registering, checking, listing.

use sqlx::sqlite::SqliteConnection;

use super::Sqlite;
use crate::store::rows::{self, RecordRow, SessionRow};
use crate::store::{Generation, Insert, Inserted, NewSession, Refreshable, Status, Within};
use crate::token::{Filter, Jti, Record, Session, Sid, Subject};
use uuid::Uuid;

/// Records, by a condition. Whose session ended is told how: by the session's own end, or by the end of its generation.
macro_rules! select_records {
    ($condition:literal $(+ $more:literal)* $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            RecordRow,
            r#"select t.jti as "jti: Uuid", t.sid as "sid: Uuid", t.subject, t.token_type, t.issued_at, t.expires_at, t.scope, t.claims, t.client, t.label,
                t.ip, t.user_agent, t.last_used_at, t.revoked_at, t.revoked_by_kind, t.revoked_by, t.revoked_reason,
                t.revoked_final as "revoked_final: bool",
                (s.ended_at is not null or s.generation <> u.generation) as "over!: bool",
                coalesce(s.ended_at, e.ended_at) as "ended_at?: i64",
                coalesce(s.ended_by_kind, e.ended_by_kind) as "ended_by_kind?: String",
                coalesce(s.ended_by, e.ended_by) as "ended_by?: String",
                case when s.ended_at is null then e.ended_reason else s.ended_reason end as "ended_reason?: String"
            from cf_tokens t
            join cf_sessions s on s.sid = t.sid
            join cf_subjects u on u.subject = s.subject
            left join cf_subject_endings e
                on e.subject = s.subject and e.generation = s.generation + 1 and s.generation <> u.generation
            "# + $condition $(+ $more)*
            $(, $argument)*
        )
    };
}

/// One page of records, newest first. Two queries, and not one whose subject may be null: a plan that fits both would use
/// the index of neither.
macro_rules! select_page {
    ($whose:literal $(, $argument:expr)* $(,)?) => {
        select_records!(
            $whose + "(t.issued_at, t.jti) < (?1, ?2)
                        and (?3 is null or t.token_type = ?3)
                        and case ?4
                            when 'revoked' then t.revoked_at is not null or s.ended_at is not null
                                or s.generation <> u.generation
                            when 'live' then t.revoked_at is null and s.ended_at is null
                                and s.generation = u.generation and t.expires_at > ?5
                            when 'expired' then t.revoked_at is null and s.ended_at is null
                                and s.generation = u.generation and t.expires_at <= ?5
                            else true end
                    order by t.issued_at desc, t.jti desc limit ?6"
            $(, $argument)*
        )
    };
}

impl Sqlite {
    pub(super) async fn generation(&self, subject: &Subject) -> Result<Generation, sqlx::Error> {
        let generation = sqlx::query_scalar!("select generation from cf_subjects where subject = ?1", subject.as_str())
            .fetch_optional(&self.readers)
            .await?;
        Ok(Generation(generation.unwrap_or(0)))
    }

    pub(super) async fn insert(&self, insert: &Insert) -> Result<Inserted, sqlx::Error> {
        let mut tx = self.begin().await?;
        let stored = match &insert.within {
            Within::New(session, generation) => insert_new(&mut tx, insert, session, *generation).await,
            Within::Existing { sid, presented } => insert_existing(&mut tx, insert, *sid, *presented).await,
        };
        match stored {
            Ok(true) => tx.commit().await.map(|()| Inserted::Stored),
            Ok(false) => tx.rollback().await.map(|()| Inserted::Superseded),
            Err(sqlx::Error::Database(cause)) if cause.is_unique_violation() => {
                tx.rollback().await.map(|()| Inserted::Duplicate)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn status(&self, jti: Jti) -> Result<Option<Status>, sqlx::Error> {
        let row = sqlx::query!(
            r#"select t.sid as "sid: Uuid", t.subject, t.token_type, t.not_before, t.expires_at, t.imported as "imported: bool",
                (t.revoked_at is not null or s.ended_at is not null or s.generation <> u.generation) as "revoked!: bool",
                t.claims
            from cf_tokens t
            join cf_sessions s on s.sid = t.sid
            join cf_subjects u on u.subject = s.subject
            where t.jti = ?1"#,
            jti.as_uuid()
        )
        .fetch_optional(&self.readers)
        .await?;
        row.map(|row| {
            Ok(Status {
                sid: row.sid.into(),
                subject: rows::subject(row.subject)?,
                token_type: rows::parsed(&row.token_type)?,
                not_before: row.not_before,
                expires_at: row.expires_at,
                revoked: row.revoked,
                imported: row.imported,
                claims: row.claims,
            })
        })
        .transpose()
    }

    pub(super) async fn refreshable(&self, jti: Jti) -> Result<Option<Refreshable>, sqlx::Error> {
        sqlx::query_as!(
            Refreshable,
            r#"select granted as "granted!", label from cf_tokens where jti = ?1 and granted is not null"#,
            jti.as_uuid()
        )
        .fetch_optional(&self.readers)
        .await
    }

    pub(super) async fn record(&self, jti: Jti) -> Result<Option<Record>, sqlx::Error> {
        let row = select_records!("where t.jti = ?1", jti.as_uuid()).fetch_optional(&self.readers).await?;
        row.map(rows::read_one).transpose()
    }

    pub(super) async fn list(&self, filter: &Filter, live_at: i64) -> Result<Vec<Record>, sqlx::Error> {
        // A token that is not yet valid counts as live here: nothing has taken it back.
        let (issued_at, jti) = rows::before(filter.after);
        let token_type = filter.token_type.map(crate::token::TokenType::as_str);
        let state = filter.state.map(crate::token::State::as_str);
        let limit = i64::from(filter.limit);
        let found = match &filter.subject {
            Some(subject) => {
                select_page!(
                    "where t.subject = ?7 and ",
                    issued_at,
                    jti,
                    token_type,
                    state,
                    live_at,
                    limit,
                    subject.as_str()
                )
                .fetch_all(&self.readers)
                .await?
            }
            None => {
                select_page!("where ", issued_at, jti, token_type, state, live_at, limit)
                    .fetch_all(&self.readers)
                    .await?
            }
        };
        rows::read(found)
    }

    pub(super) async fn set_label(
        &self,
        jti: Jti,
        subject: &Subject,
        label: Option<&str>,
    ) -> Result<bool, sqlx::Error> {
        let mut tx = self.begin().await?;
        let done = sqlx::query!(
            "update cf_tokens set label = ?3 where jti = ?1 and subject = ?2",
            jti.as_uuid(),
            subject.as_str(),
            label
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    pub(super) async fn sessions(&self, subject: &Subject, live_at: i64) -> Result<Vec<Session>, sqlx::Error> {
        let found = sqlx::query_as!(
            SessionRow,
            r#"select s.sid as "sid: Uuid", s.label, s.client, s.ip, s.user_agent, s.created_at, s.last_seen_at, s.expires_at
            from cf_sessions s
            join cf_subjects u on u.subject = s.subject
            where s.subject = ?1 and s.ended_at is null and s.generation = u.generation and s.expires_at > ?2
            order by s.created_at desc, s.sid desc"#,
            subject.as_str(),
            live_at
        )
        .fetch_all(&self.readers)
        .await?;
        rows::read(found)
    }

    pub(super) async fn touch(&self, used: &[(Jti, i64)]) -> Result<(), sqlx::Error> {
        // A transaction for each part, so that the changes of requests come in between.
        for some in used.chunks(rows::TOUCHED_AT_ONCE) {
            let notes: Vec<(String, i64)> =
                some.iter().map(|(jti, at)| (jti.as_uuid().simple().to_string(), *at)).collect();
            let notes = rows::json(&notes)?;
            let mut tx = self.begin().await?;
            sqlx::query!(
                "update cf_sessions set last_seen_at = used.at
                from (
                    select t.sid, max(n.value ->> 1) as at from json_each(?1) as n
                    join cf_tokens t on t.jti = unhex(n.value ->> 0) group by t.sid
                ) as used
                where cf_sessions.sid = used.sid and cf_sessions.last_seen_at < used.at",
                notes
            )
            .execute(&mut *tx)
            .await?;
            sqlx::query!(
                "update cf_tokens set last_used_at = used.at
                from (select unhex(n.value ->> 0) as jti, n.value ->> 1 as at from json_each(?1) as n) as used
                where cf_tokens.jti = used.jti and coalesce(cf_tokens.last_used_at, 0) < used.at",
                notes
            )
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
        }
        Ok(())
    }
}

/// Begins a session, if the subject's generation is still the one it was.
async fn insert_new(
    connection: &mut SqliteConnection,
    insert: &Insert,
    session: &NewSession,
    generation: Generation,
) -> Result<bool, sqlx::Error> {
    let (sid, subject) = (session.sid.as_uuid(), insert.subject.as_str());
    sqlx::query!("insert into cf_subjects (subject) values (?1) on conflict do nothing", subject)
        .execute(&mut *connection)
        .await?;
    let current = sqlx::query_scalar!("select generation from cf_subjects where subject = ?1 limit 1", subject)
        .fetch_one(&mut *connection)
        .await?;
    if current != generation.0 {
        return Ok(false);
    }
    sqlx::query!(
        "insert into cf_sessions
            (sid, subject, generation, client, label, ip, user_agent, created_at, last_seen_at, expires_at)
        values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9)",
        sid,
        subject,
        generation.0,
        session.client,
        session.label,
        session.ip,
        session.user_agent,
        insert.now,
        insert.session_expires_at
    )
    .execute(&mut *connection)
    .await?;
    insert_tokens(connection, insert, session.sid).await?;
    Ok(true)
}

/// Joins a live session, if the presented token is still not revoked.
async fn insert_existing(
    connection: &mut SqliteConnection,
    insert: &Insert,
    sid: Sid,
    presented: Jti,
) -> Result<bool, sqlx::Error> {
    let (session, presented, subject) = (sid.as_uuid(), presented.as_uuid(), insert.subject.as_str());
    let joined = sqlx::query!(
        "update cf_sessions set last_seen_at = max(last_seen_at, ?4), expires_at = max(expires_at, ?5)
        where sid = ?2 and subject = ?1 and ended_at is null
            and generation = (select generation from cf_subjects where subject = ?1)
            and exists (select 1 from cf_tokens t where t.jti = ?3 and t.sid = ?2 and t.revoked_at is null)",
        subject,
        session,
        presented,
        insert.now,
        insert.session_expires_at
    )
    .execute(&mut *connection)
    .await?;
    if joined.rows_affected() == 0 {
        return Ok(false);
    }
    insert_tokens(connection, insert, sid).await?;
    Ok(true)
}

async fn insert_tokens(connection: &mut SqliteConnection, insert: &Insert, sid: Sid) -> Result<(), sqlx::Error> {
    for token in &insert.tokens {
        let (jti, sid, subject) = (token.jti.as_uuid(), sid.as_uuid(), insert.subject.as_str());
        let (token_type, scope) = (token.token_type.as_str(), token.scope.to_string());
        sqlx::query!(
            "insert into cf_tokens (jti, sid, subject, token_type, issued_at, not_before, expires_at, scope, claims, granted,
                kid, client, label, ip, user_agent, imported)
            values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
            jti,
            sid,
            subject,
            token_type,
            token.issued_at,
            token.not_before,
            token.expires_at,
            scope,
            token.claims,
            token.granted,
            token.kid,
            token.client,
            token.label,
            token.ip,
            token.user_agent,
            token.imported
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
