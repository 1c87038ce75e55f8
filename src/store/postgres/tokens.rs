//! Tokens and sessions: registering, checking, listing.

use sqlx::postgres::PgConnection;

use super::Postgres;
use crate::store::rows::{self, RecordRow, SessionRow};
use crate::store::{Generation, Insert, Inserted, NewSession, NewToken, Refreshable, Status, Within};
use crate::token::{Filter, Jti, Record, Session, Sid, Subject};
use uuid::Uuid;

/// Records, by a condition. Whose session ended is told how: by the session's own end, or by the end of its generation.
macro_rules! select_records {
    ($condition:literal $(+ $more:literal)* $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            RecordRow,
            r#"select t.jti, t.sid, t.subject, t.token_type, t.issued_at, t.expires_at, t.scope, t.claims, t.client, t.label,
                t.ip, t.user_agent, t.last_used_at, t.revoked_at, t.revoked_by_kind, t.revoked_by, t.revoked_reason,
                t.revoked_final, (s.ended_at is not null or s.generation <> u.generation) as "over!",
                coalesce(s.ended_at, e.ended_at) as ended_at, coalesce(s.ended_by_kind, e.ended_by_kind) as ended_by_kind,
                coalesce(s.ended_by, e.ended_by) as ended_by,
                case when s.ended_at is null then e.ended_reason else s.ended_reason end as ended_reason
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
            $whose + "(t.issued_at, t.jti) < ($1, $2)
                        and ($3::text is null or t.token_type = $3)
                        and case $4::text
                            when 'revoked' then t.revoked_at is not null or s.ended_at is not null
                                or s.generation <> u.generation
                            when 'live' then t.revoked_at is null and s.ended_at is null
                                and s.generation = u.generation and t.expires_at > $5
                            when 'expired' then t.revoked_at is null and s.ended_at is null
                                and s.generation = u.generation and t.expires_at <= $5
                            else true end
                    order by t.issued_at desc, t.jti desc limit $6"
            $(, $argument)*
        )
    };
}

impl Postgres {
    pub(super) async fn generation(&self, subject: &Subject) -> Result<Generation, sqlx::Error> {
        let generation = sqlx::query_scalar!("select generation from cf_subjects where subject = $1", subject.as_str())
            .fetch_optional(&self.pool)
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
            r#"select t.sid, t.subject, t.token_type, t.not_before, t.expires_at, t.imported,
                (t.revoked_at is not null or s.ended_at is not null or s.generation <> u.generation) as "revoked!",
                t.claims
            from cf_tokens t
            join cf_sessions s on s.sid = t.sid
            join cf_subjects u on u.subject = s.subject
            where t.jti = $1"#,
            jti.as_uuid()
        )
        .fetch_optional(&self.pool)
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
            r#"select granted as "granted!", label from cf_tokens where jti = $1 and granted is not null"#,
            jti.as_uuid()
        )
        .fetch_optional(&self.pool)
        .await
    }

    pub(super) async fn record(&self, jti: Jti) -> Result<Option<Record>, sqlx::Error> {
        let row = select_records!("where t.jti = $1", jti.as_uuid()).fetch_optional(&self.pool).await?;
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
                    "where t.subject = $7 and ",
                    issued_at,
                    jti,
                    token_type,
                    state,
                    live_at,
                    limit,
                    subject.as_str()
                )
                .fetch_all(&self.pool)
                .await?
            }
            None => {
                select_page!("where ", issued_at, jti, token_type, state, live_at, limit).fetch_all(&self.pool).await?
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
            "update cf_tokens set label = $3 where jti = $1 and subject = $2",
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
            "select s.sid, s.label, s.client, s.ip, s.user_agent, s.created_at, s.last_seen_at, s.expires_at
            from cf_sessions s
            join cf_subjects u on u.subject = s.subject
            where s.subject = $1 and s.ended_at is null and s.generation = u.generation and s.expires_at > $2
            order by s.created_at desc, s.sid desc",
            subject.as_str(),
            live_at
        )
        .fetch_all(&self.pool)
        .await?;
        rows::read(found)
    }

    pub(super) async fn touch(&self, used: &[(Jti, i64)]) -> Result<(), sqlx::Error> {
        // Two statements that each commit by themselves: a note of use holds nobody up, and waits for nobody.
        for some in used.chunks(rows::TOUCHED_AT_ONCE) {
            let ids: Vec<Uuid> = some.iter().map(|(jti, _)| jti.as_uuid()).collect();
            let times: Vec<i64> = some.iter().map(|(_, at)| *at).collect();
            sqlx::query!(
                "with used as (
                    select t.sid, max(n.at) as at from unnest($1::uuid[], $2::bigint[]) as n (jti, at)
                    join cf_tokens t on t.jti = n.jti group by t.sid
                ), free as (
                    select s.sid from cf_sessions s where s.sid in (select sid from used)
                    order by s.sid for no key update skip locked
                )
                update cf_sessions s set last_seen_at = greatest(s.last_seen_at, used.at)
                from used join free on free.sid = used.sid where s.sid = used.sid and s.last_seen_at < used.at",
                &ids,
                &times
            )
            .execute(&self.pool)
            .await?;
            sqlx::query!(
                "with used as (
                    select n.jti, n.at from unnest($1::uuid[], $2::bigint[]) as n (jti, at)
                ), free as (
                    select t.jti from cf_tokens t where t.jti in (select jti from used)
                    order by t.jti for no key update skip locked
                )
                update cf_tokens t set last_used_at = used.at
                from used join free on free.jti = used.jti
                where t.jti = used.jti and coalesce(t.last_used_at, 0) < used.at",
                &ids,
                &times
            )
            .execute(&self.pool)
            .await?;
        }
        Ok(())
    }
}

/// Begins a session, if the subject's generation is still the one it was.
async fn insert_new(
    connection: &mut PgConnection,
    insert: &Insert,
    session: &NewSession,
    generation: Generation,
) -> Result<bool, sqlx::Error> {
    let subject = insert.subject.as_str();
    let mut current = share_subject(connection, subject).await?;
    if current.is_none() {
        sqlx::query!("insert into cf_subjects (subject) values ($1) on conflict do nothing", subject)
            .execute(&mut *connection)
            .await?;
        current = share_subject(connection, subject).await?;
    }
    if current != Some(generation.0) {
        return Ok(false);
    }
    let tokens = Columns::of(&insert.tokens);
    sqlx::query!(
        "with session as (
            insert into cf_sessions
                (sid, subject, generation, client, label, ip, user_agent, created_at, last_seen_at, expires_at)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9)
        )
        insert into cf_tokens (sid, subject, jti, token_type, issued_at, not_before, expires_at, scope, claims, granted,
            kid, client, label, ip, user_agent, imported)
        select $1, $2, n.* from unnest($10::uuid[], $11::text[], $12::bigint[], $13::bigint[], $14::bigint[], $15::text[],
            $16::text[], $17::text[], $18::text[], $19::text[], $20::text[], $21::text[], $22::text[], $23::bool[]) as n",
        session.sid.as_uuid(),
        subject,
        generation.0,
        session.client.as_deref(),
        session.label.as_deref(),
        session.ip.as_deref(),
        session.user_agent.as_deref(),
        insert.now,
        insert.session_expires_at,
        &tokens.jti,
        &tokens.token_type as &[&str],
        &tokens.issued_at,
        &tokens.not_before,
        &tokens.expires_at,
        &tokens.scope,
        &tokens.claims as &[&str],
        &tokens.granted as &[Option<&str>],
        &tokens.kid as &[&str],
        &tokens.client as &[Option<&str>],
        &tokens.label as &[Option<&str>],
        &tokens.ip as &[Option<&str>],
        &tokens.user_agent as &[Option<&str>],
        &tokens.imported
    )
    .execute(connection)
    .await?;
    Ok(true)
}

/// Joins a live session, if the presented token is still not revoked.
async fn insert_existing(
    connection: &mut PgConnection,
    insert: &Insert,
    sid: Sid,
    presented: Jti,
) -> Result<bool, sqlx::Error> {
    let subject = insert.subject.as_str();
    // The rows are locked in this order, and looked at again where a lock was waited for.
    let live = sqlx::query!(
        "select s.sid from cf_subjects u
        join cf_sessions s on s.subject = u.subject and s.generation = u.generation
        join cf_tokens t on t.sid = s.sid
        where u.subject = $1 and s.sid = $2 and t.jti = $3 and s.ended_at is null and t.revoked_at is null
        for share of u for no key update of s for share of t",
        subject,
        sid.as_uuid(),
        presented.as_uuid()
    )
    .fetch_optional(&mut *connection)
    .await?;
    if live.is_none() {
        return Ok(false);
    }
    let tokens = Columns::of(&insert.tokens);
    sqlx::query!(
        "with session as (
            update cf_sessions
            set last_seen_at = greatest(last_seen_at, $3), expires_at = greatest(expires_at, $4) where sid = $1
        )
        insert into cf_tokens (sid, subject, jti, token_type, issued_at, not_before, expires_at, scope, claims, granted,
            kid, client, label, ip, user_agent, imported)
        select $1, $2, n.* from unnest($5::uuid[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[], $10::text[],
            $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::bool[]) as n",
        sid.as_uuid(),
        subject,
        insert.now,
        insert.session_expires_at,
        &tokens.jti,
        &tokens.token_type as &[&str],
        &tokens.issued_at,
        &tokens.not_before,
        &tokens.expires_at,
        &tokens.scope,
        &tokens.claims as &[&str],
        &tokens.granted as &[Option<&str>],
        &tokens.kid as &[&str],
        &tokens.client as &[Option<&str>],
        &tokens.label as &[Option<&str>],
        &tokens.ip as &[Option<&str>],
        &tokens.user_agent as &[Option<&str>],
        &tokens.imported
    )
    .execute(connection)
    .await?;
    Ok(true)
}

/// The subject's generation, which nobody else moves on before this transaction ends.
async fn share_subject(connection: &mut PgConnection, subject: &str) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar!("select generation from cf_subjects where subject = $1 for share", subject)
        .fetch_optional(connection)
        .await
}

/// New tokens, column by column.
#[derive(Default)]
struct Columns<'a> {
    jti: Vec<Uuid>,
    token_type: Vec<&'a str>,
    issued_at: Vec<i64>,
    not_before: Vec<i64>,
    expires_at: Vec<i64>,
    scope: Vec<String>,
    claims: Vec<&'a str>,
    granted: Vec<Option<&'a str>>,
    kid: Vec<&'a str>,
    client: Vec<Option<&'a str>>,
    label: Vec<Option<&'a str>>,
    ip: Vec<Option<&'a str>>,
    user_agent: Vec<Option<&'a str>>,
    imported: Vec<bool>,
}

impl<'a> Columns<'a> {
    fn of(tokens: &'a [NewToken]) -> Self {
        let mut columns = Self::default();
        for token in tokens {
            columns.jti.push(token.jti.as_uuid());
            columns.token_type.push(token.token_type.as_str());
            columns.issued_at.push(token.issued_at);
            columns.not_before.push(token.not_before);
            columns.expires_at.push(token.expires_at);
            columns.scope.push(token.scope.to_string());
            columns.claims.push(&token.claims);
            columns.granted.push(token.granted.as_deref());
            columns.kid.push(&token.kid);
            columns.client.push(token.client.as_deref());
            columns.label.push(token.label.as_deref());
            columns.ip.push(token.ip.as_deref());
            columns.user_agent.push(token.user_agent.as_deref());
            columns.imported.push(token.imported);
        }
        columns
    }
}
