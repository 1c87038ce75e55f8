//! Tokens and sessions: checking and listing.

use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::{BROWSE, Postgres};
use crate::store::rows::{self, RecordRow, SessionRow, StatusRow};
use crate::store::{Generation, Refreshable, Status};
use crate::token::{Along, Cursor, Filter, Jti, Record, RecordPage, Session, SessionPage, Subject};

/// Records, by a condition. Whose session ended is told how: by the session's own end, or by the end
/// of its generation. The retirement of the key that signed it is told where neither is there.
macro_rules! select_records {
    ($condition:literal $(+ $more:literal)* $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            RecordRow,
            r#"select t.jti, t.sid, t.subject, t.token_type, t.issued_at, t.expires_at, t.scope, t.claims, t.client, t.label,
                t.ip, t.user_agent, t.last_used_at, t.revoked_at, t.revoked_by_kind, t.revoked_by, t.revoked_reason,
                t.revoked_final, (s.ended_at is not null or s.generation <> u.generation or k.kid is not null) as "over!",
                coalesce(s.ended_at, e.ended_at, k.retired_at) as ended_at, coalesce(s.ended_by_kind, e.ended_by_kind, k.retired_by_kind) as ended_by_kind,
                coalesce(s.ended_by, e.ended_by, k.retired_by) as ended_by,
                case when s.ended_at is not null then s.ended_reason when e.ended_at is not null then e.ended_reason
                    else k.retired_reason end as ended_reason
            from cf_tokens t
            join cf_sessions s on s.sid = t.sid
            join cf_subjects u on u.subject = s.subject
            left join cf_subject_endings e
                on e.subject = s.subject and e.generation = s.generation + 1 and s.generation <> u.generation
            left join cf_keys k on k.kid = t.kid and k.state = 'retired'
            "# + $condition $(+ $more)*
            $(, $argument)*
        )
    };
}

/// One page of records, newest first, along one index. A query for each, and not one whose subject may be null: a plan
/// that fits them all would use the index of none.
macro_rules! select_page {
    ($whose:literal $(, $argument:expr)* $(,)?) => {
        select_records!(
            "where " + $whose + "(t.issued_at, t.jti) < ($1, $2) and (t.issued_at, t.jti) >= ($11, $12)
                        and ($3::text is null or t.token_type = $3)
                        and ($7::text is null or t.subject = $7)
                        and ($8::uuid is null or t.sid = $8)
                        and ($9::text is null or t.client = $9)
                        and ($10::text is null or t.ip = $10)
                        and case $4::text
                            when 'revoked' then t.revoked_at is not null or s.ended_at is not null
                                or s.generation <> u.generation or k.kid is not null
                            when 'live' then t.revoked_at is null and s.ended_at is null
                                and s.generation = u.generation and k.kid is null and t.expires_at > $5
                            when 'expired' then t.revoked_at is null and s.ended_at is null
                                and s.generation = u.generation and k.kid is null and t.expires_at <= $5
                            else true end
                    order by t.issued_at desc, t.jti desc limit $6"
            $(, $argument)*
        )
    };
}

/// The place of the last record that one page looks at, along the same index; none where there are no more than that.
macro_rules! select_walk {
    ($whose:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query!(
            "select t.issued_at, t.jti from cf_tokens t where " + $whose + "(t.issued_at, t.jti) < ($1, $2)
            order by t.issued_at desc, t.jti desc limit 1 offset $3"
            $(, $argument)*
        )
    };
}

impl Postgres {
    pub(super) async fn generations(&self, asked: &[Subject]) -> Result<Vec<Generation>, sqlx::Error> {
        let asked: Vec<String> = asked.iter().map(|subject| subject.as_str().to_owned()).collect();
        let found = sqlx::query_scalar!(
            r#"select coalesce(u.generation, 0) as "generation!"
            from unnest($1::text[]) with ordinality as a (subject, place)
            left join cf_subjects u on u.subject = a.subject
            order by a.place"#,
            &asked
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(found.into_iter().map(Generation).collect())
    }

    pub(super) async fn status(&self, ids: &[Jti]) -> Result<Vec<Option<Status>>, sqlx::Error> {
        let asked: Vec<Uuid> = ids.iter().map(|jti| jti.as_uuid()).collect();
        let found = sqlx::query_as!(
            StatusRow,
            r#"select t.jti, t.sid, t.subject, t.token_type, t.not_before, t.expires_at, t.imported,
                (t.revoked_at is not null or s.ended_at is not null or s.generation <> u.generation
                    or k.kid is not null) as "revoked!",
                ((t.spent_at is not null or t.replaced_at is not null) and s.ended_at is null
                    and s.generation = u.generation and k.kid is null) as "spent!", t.kid, t.claims
            from unnest($1::uuid[]) as a (jti)
            join cf_tokens t on t.jti = a.jti
            join cf_sessions s on s.sid = t.sid
            join cf_subjects u on u.subject = s.subject
            left join cf_keys k on k.kid = t.kid and k.state = 'retired'"#,
            &asked
        )
        .fetch_all(&self.pool)
        .await?;
        rows::statuses(ids, found)
    }

    pub(super) async fn refreshable(&self, jti: Jti) -> Result<Option<Refreshable>, sqlx::Error> {
        sqlx::query_as!(
            Refreshable,
            r#"select t.granted as "granted!", t.label, t.client, s.created_at as began_at
            from cf_tokens t join cf_sessions s on s.sid = t.sid where t.jti = $1 and t.granted is not null"#,
            jti.as_uuid()
        )
        .fetch_optional(&self.pool)
        .await
    }

    pub(super) async fn record(&self, jti: Jti) -> Result<Option<Record>, sqlx::Error> {
        let row = select_records!("where t.jti = $1", jti.as_uuid()).fetch_optional(&self.pool).await?;
        row.map(rows::read_one).transpose()
    }

    pub(super) async fn list(&self, filter: &Filter, live_at: i64, walk_max: u32) -> Result<RecordPage, sqlx::Error> {
        // A token that is not yet valid counts as live here: nothing has taken it back.
        let (issued_at, jti) = rows::before(filter.after);
        let token_type = filter.token_type.map(crate::token::TokenType::as_str);
        let state = filter.state.map(crate::token::State::as_str);
        let (subject, sid) = (filter.subject.as_ref().map(Subject::as_str), filter.session.map(|sid| sid.as_uuid()));
        let (client, ip) = (filter.client.as_deref(), filter.address.as_deref());
        // One more than the page holds tells whether another follows.
        let limit = i64::from(filter.limit) + 1;
        let mut tx = self.pool.begin_with(BROWSE).await?;
        let end = if filter.leaves_out() { walk(&mut tx, filter, walk_max).await? } else { None };
        let (last_at, last) = rows::down_to(end);
        macro_rules! page {
            ($whose:literal) => {
                select_page!(
                    $whose, issued_at, jti, token_type, state, live_at, limit, subject, sid, client, ip, last_at, last
                )
                .fetch_all(&mut *tx)
                .await?
            };
        }
        let found = match filter.along() {
            Along::Session => page!("t.sid = $8 and "),
            Along::Subject => page!("t.subject = $7 and "),
            Along::Address => page!("t.ip = $10 and "),
            Along::Client => page!("t.client = $9 and "),
            Along::All => page!(""),
        };
        tx.commit().await?;
        Ok(rows::page(rows::read(found)?, filter.limit, end))
    }

    pub(super) async fn set_label(
        &self,
        jti: Jti,
        subject: &Subject,
        label: Option<&str>,
    ) -> Result<bool, sqlx::Error> {
        let mut tx = self.begin().await?;
        sqlx::query!(
            "update cf_sessions set label = $3
            where sid = (select sid from cf_tokens where jti = $1 and subject = $2)",
            jti.as_uuid(),
            subject.as_str(),
            label
        )
        .execute(&mut *tx)
        .await?;
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

    pub(super) async fn sessions(
        &self,
        subject: &Subject,
        live_at: i64,
        after: Option<Cursor>,
        limit: u16,
    ) -> Result<SessionPage<Session>, sqlx::Error> {
        let (created_at, sid) = rows::before(after);
        let mut tx = self.pool.begin_with(BROWSE).await?;
        let found = sqlx::query_as!(
            SessionRow,
            "select s.sid, s.label, s.client, s.ip, s.user_agent, s.created_at, s.last_seen_at, s.expires_at
            from cf_sessions s
            join cf_subjects u on u.subject = s.subject
            where s.subject = $1 and s.ended_at is null and s.generation = u.generation and s.expires_at > $2
                and s.created_at <= $3 and (s.created_at, s.sid) < ($3, $4)
            order by s.created_at desc, s.sid desc limit $5",
            subject.as_str(),
            live_at,
            created_at,
            sid,
            i64::from(limit) + 1
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(rows::session_page(rows::read(found)?, limit, |session| session))
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

/// Where one page ends at the latest, whatever it finds.
async fn walk(connection: &mut PgConnection, filter: &Filter, walk_max: u32) -> Result<Option<Cursor>, sqlx::Error> {
    let (issued_at, jti) = rows::before(filter.after);
    let beyond = i64::from(walk_max.saturating_sub(1));
    macro_rules! last {
        ($whose:literal $(, $argument:expr)?) => {
            select_walk!($whose, issued_at, jti, beyond $(, $argument)?)
                .fetch_optional(&mut *connection)
                .await?
                .map(|row| Cursor { at: row.issued_at, id: row.jti })
        };
    }
    Ok(match filter.along() {
        Along::Session => last!("t.sid = $4 and ", filter.session.map(|sid| sid.as_uuid())),
        Along::Subject => last!("t.subject = $4 and ", filter.subject.as_ref().map(Subject::as_str)),
        Along::Address => last!("t.ip = $4 and ", filter.address),
        Along::Client => last!("t.client = $4 and ", filter.client),
        Along::All => last!(""),
    })
}
