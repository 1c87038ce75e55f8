//! Tokens and sessions: checking and listing.

use sqlx::sqlite::SqliteConnection;
use uuid::Uuid;

use super::Sqlite;
use crate::store::rows::{self, RecordRow, SessionRow, StatusRow};
use crate::store::{Generation, Refreshable, Status};
use crate::token::{Along, Cursor, Filter, Jti, Record, RecordPage, Session, SessionPage, Subject};

/// Records, by a condition. Whose session ended is told how: by the session's own end, or by the end of its generation.
/// The retirement of the key that signed it is told where neither is there. Records come first in every plan
/// (`cross join`), so that they come in order.
macro_rules! select_records {
    ($condition:literal $(+ $more:literal)* $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            RecordRow,
            r#"select t.jti as "jti: Uuid", t.sid as "sid: Uuid", t.subject, t.token_type, t.issued_at, t.expires_at, t.scope, t.claims, t.client, t.label,
                t.ip, t.user_agent, t.last_used_at, t.revoked_at, t.revoked_by_kind, t.revoked_by, t.revoked_reason,
                t.revoked_final as "revoked_final: bool",
                (s.ended_at is not null or s.generation <> u.generation or k.kid is not null) as "over!: bool",
                coalesce(s.ended_at, e.ended_at, k.retired_at) as "ended_at?: i64",
                coalesce(s.ended_by_kind, e.ended_by_kind, k.retired_by_kind) as "ended_by_kind?: String",
                coalesce(s.ended_by, e.ended_by, k.retired_by) as "ended_by?: String",
                case when s.ended_at is not null then s.ended_reason when e.ended_at is not null then e.ended_reason
                    else k.retired_reason end as "ended_reason?: String"
            from cf_tokens t
            cross join cf_sessions s on s.sid = t.sid
            cross join cf_subjects u on u.subject = s.subject
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
            "where " + $whose + "(t.issued_at, t.jti) < (?1, ?2) and (t.issued_at, t.jti) >= (?11, ?12)
                        and (?3 is null or t.token_type = ?3)
                        and (?7 is null or t.subject = ?7)
                        and (?8 is null or t.sid = ?8)
                        and (?9 is null or t.client = ?9)
                        and (?10 is null or t.ip = ?10)
                        and case ?4
                            when 'revoked' then t.revoked_at is not null or s.ended_at is not null
                                or s.generation <> u.generation or k.kid is not null
                            when 'live' then t.revoked_at is null and s.ended_at is null
                                and s.generation = u.generation and k.kid is null and t.expires_at > ?5
                            when 'expired' then t.revoked_at is null and s.ended_at is null
                                and s.generation = u.generation and k.kid is null and t.expires_at <= ?5
                            else true end
                    order by t.issued_at desc, t.jti desc limit ?6"
            $(, $argument)*
        )
    };
}

/// The place of the last record that one page looks at, along the same index; none where there are no more than that.
macro_rules! select_walk {
    ($whose:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query!(
            r#"select t.issued_at, t.jti as "jti: Uuid" from cf_tokens t where "# + $whose + "(t.issued_at, t.jti) < (?1, ?2)
            order by t.issued_at desc, t.jti desc limit 1 offset ?3"
            $(, $argument)*
        )
    };
}

/// A status as JSON has it; the order is that of the query.
type StatusTuple = (Uuid, Uuid, String, String, i64, i64, u8, u8, u8, String, String);

impl From<StatusTuple> for StatusRow {
    fn from(row: StatusTuple) -> Self {
        let (jti, sid, subject, token_type, not_before, expires_at, imported, revoked, spent, kid, claims) = row;
        let (imported, revoked, spent) = (imported != 0, revoked != 0, spent != 0);
        Self { jti, sid, subject, token_type, not_before, expires_at, imported, revoked, spent, kid, claims }
    }
}

impl Sqlite {
    pub(super) async fn generations(&self, asked: &[Subject]) -> Result<Vec<Generation>, sqlx::Error> {
        let asked = rows::json(&asked)?;
        let found = sqlx::query_scalar!(
            r#"select coalesce(u.generation, 0) as "generation!: i64"
            from json_each(?1) as a
            left join cf_subjects u on u.subject = a.value
            order by a.key"#,
            asked
        )
        .fetch_all(&self.readers)
        .await?;
        Ok(found.into_iter().map(Generation).collect())
    }

    pub(super) async fn status(&self, ids: &[Jti]) -> Result<Vec<Option<Status>>, sqlx::Error> {
        let asked = rows::json(&ids.iter().map(|jti| rows::hex(jti.as_uuid())).collect::<Vec<_>>())?;
        // One row, however many tokens: each row is passed by itself from the connection's own thread to the one that
        // waits.
        let statement = sqlx::query_scalar!(
            r#"select json_group_array(json_array(
                hex(t.jti), hex(t.sid), t.subject, t.token_type, t.not_before, t.expires_at, t.imported,
                t.revoked_at is not null or s.ended_at is not null or s.generation <> u.generation or k.kid is not null,
                (t.spent_at is not null or t.replaced_at is not null) and s.ended_at is null
                    and s.generation = u.generation and k.kid is null, t.kid, t.claims
            )) as "found!: String"
            from json_each(?1) as a
            join cf_tokens t on t.jti = unhex(a.value)
            join cf_sessions s on s.sid = t.sid
            join cf_subjects u on u.subject = s.subject
            left join cf_keys k on k.kid = t.kid and k.state = 'retired'"#,
            asked
        );
        let found = self.checker.with(async |connection| statement.fetch_one(connection).await).await?;
        rows::statuses(ids, rows::from_json::<StatusTuple>(&found)?.into_iter().map(StatusRow::from).collect())
    }

    pub(super) async fn refreshable(&self, jti: Jti) -> Result<Option<Refreshable>, sqlx::Error> {
        sqlx::query_as!(
            Refreshable,
            r#"select t.granted as "granted!", t.label, t.client, s.created_at as began_at
            from cf_tokens t join cf_sessions s on s.sid = t.sid where t.jti = ?1 and t.granted is not null"#,
            jti.as_uuid()
        )
        .fetch_optional(&self.readers)
        .await
    }

    pub(super) async fn record(&self, jti: Jti) -> Result<Option<Record>, sqlx::Error> {
        let row = select_records!("where t.jti = ?1", jti.as_uuid()).fetch_optional(&self.readers).await?;
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
        let mut tx = self.readers.begin().await?;
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
            Along::Session => page!("t.sid = ?8 and "),
            Along::Subject => page!("t.subject = ?7 and "),
            Along::Address => page!("t.ip = ?10 and "),
            Along::Client => page!("t.client = ?9 and "),
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
            "update cf_sessions set label = ?3
            where sid = (select sid from cf_tokens where jti = ?1 and subject = ?2)",
            jti.as_uuid(),
            subject.as_str(),
            label
        )
        .execute(&mut *tx)
        .await?;
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

    pub(super) async fn sessions(
        &self,
        subject: &Subject,
        live_at: i64,
        after: Option<Cursor>,
        limit: u16,
    ) -> Result<SessionPage<Session>, sqlx::Error> {
        let (created_at, sid) = rows::before(after);
        let beyond = i64::from(limit) + 1;
        let found = sqlx::query_as!(
            SessionRow,
            r#"select s.sid as "sid: Uuid", s.label, s.client, s.ip, s.user_agent, s.created_at, s.last_seen_at, s.expires_at
            from cf_sessions s
            join cf_subjects u on u.subject = s.subject
            where s.subject = ?1 and s.ended_at is null and s.generation = u.generation and s.expires_at > ?2
                and s.created_at <= ?3 and (s.created_at, s.sid) < (?3, ?4)
            order by s.created_at desc, s.sid desc limit ?5"#,
            subject.as_str(),
            live_at,
            created_at,
            sid,
            beyond
        )
        .fetch_all(&self.readers)
        .await?;
        Ok(rows::session_page(rows::read(found)?, limit, |session| session))
    }

    pub(super) async fn touch(&self, used: &[(Jti, i64)]) -> Result<(), sqlx::Error> {
        // A transaction for each part, so that the changes of requests come in between.
        for some in used.chunks(rows::TOUCHED_AT_ONCE) {
            let notes: Vec<(String, i64)> = some.iter().map(|(jti, at)| (rows::hex(jti.as_uuid()), *at)).collect();
            let notes = rows::json(&notes)?;
            let mut tx = self.begin().await?;
            sqlx::query!(
                "update cf_sessions set last_seen_at = used.at
                from (
                    select t.sid, max(n.value ->> 1) as at from jsonb_each(?1) as n
                    join cf_tokens t on t.jti = unhex(n.value ->> 0) group by t.sid
                ) as used
                where cf_sessions.sid = used.sid and cf_sessions.last_seen_at < used.at",
                notes
            )
            .execute(&mut *tx)
            .await?;
            sqlx::query!(
                "update cf_tokens set last_used_at = used.at
                from (select unhex(n.value ->> 0) as jti, n.value ->> 1 as at from jsonb_each(?1) as n) as used
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

/// Where one page ends at the latest, whatever it finds.
async fn walk(
    connection: &mut SqliteConnection,
    filter: &Filter,
    walk_max: u32,
) -> Result<Option<Cursor>, sqlx::Error> {
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
        Along::Session => last!("t.sid = ?4 and ", filter.session.map(|sid| sid.as_uuid())),
        Along::Subject => last!("t.subject = ?4 and ", filter.subject.as_ref().map(Subject::as_str)),
        Along::Address => last!("t.ip = ?4 and ", filter.address),
        Along::Client => last!("t.client = ?4 and ", filter.client),
        Along::All => last!(""),
    })
}
