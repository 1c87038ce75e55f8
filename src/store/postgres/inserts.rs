//! Putting tokens on the registry, many at once.

use sqlx::postgres::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::Postgres;
use crate::store::rows;
use crate::store::{Insert, Inserted, NewToken, Premise, Within};
use crate::token::{Sid, Subject};

impl Postgres {
    pub(super) async fn insert(&self, inserts: &[Insert]) -> Result<Vec<Inserted>, sqlx::Error> {
        let mut outcomes = vec![Inserted::Superseded; inserts.len()];
        let is_new = |insert: &Insert| matches!(insert.within, Within::New(..));
        let (mut new, joining): (Vec<usize>, Vec<usize>) =
            (0..inserts.len()).partition(|place| is_new(&inserts[*place]));
        let mut tries_left = ADDING_TRIES;
        while !new.is_empty() && tries_left > 0 {
            let of = Columns::of(inserts, &new);
            let Some(found) =
                rows::not_twice(self.inserter.with(async |connection| insert_new(connection, &of).await).await)?
            else {
                return Ok(vec![Inserted::Duplicate; inserts.len()]);
            };
            for place in new {
                outcomes[place] = Inserted::Stored;
            }
            for refused in &found {
                outcomes[at(refused.place)] = match refused.is_known {
                    true => inserts[at(refused.place)].outcome(false),
                    false => Inserted::Superseded,
                };
            }
            // One whose subject somebody else adds just now is to be tried again, when it can be seen.
            new = found.iter().filter(|refused| !refused.is_known).map(|refused| at(refused.place)).collect();
            tries_left -= 1;
        }
        if !joining.is_empty() {
            let of = Columns::of(inserts, &joining);
            let Some(found) =
                rows::not_twice(self.inserter.with(async |connection| insert_joining(connection, &of).await).await)?
            else {
                return Ok(vec![Inserted::Duplicate; inserts.len()]);
            };
            for place in found {
                outcomes[at(place)] = Inserted::Stored;
            }
        }
        Ok(outcomes)
    }
}

/// How often the insert of a new session is tried whose subject is being added by somebody else.
const ADDING_TRIES: u32 = 4;

/// An insert that was not stored.
struct Refused {
    place: i32,
    /// Whether the subject could be seen as it is now.
    is_known: bool,
}

fn at(place: i32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

/// Begins sessions, each if its premise is true, and gives those whose is not: mostly none, which spares a row for each. One
/// statement that commits by itself, with the subjects locked in order.
///
/// Where a lock was waited for, the subject's row is as it is now, but the users and clients are as they were before: whoever
/// adds one to a subject that is there moves its generation on, by which that is seen.
async fn insert_new(executor: impl PgExecutor<'_>, of: &Columns<'_>) -> Result<Vec<Refused>, sqlx::Error> {
    sqlx::query_as!(
        Refused,
        r#"with limits as materialized (
            select set_config('lock_timeout', '3s', true),
                case when current_setting('synchronous_commit') in ('off', 'local', 'remote_write')
                    then set_config('synchronous_commit', 'on', true) end
        ), asked as materialized (
            select a.* from limits cross join unnest($1::int[], $2::text[], $3::uuid[], $4::bigint[], $5::bigint[],
                $6::bigint[], $7::text[], $8::text[], $9::text[], $10::text[], $26::bool[])
                as a (place, subject, sid, generation, now, expires_at, client, label, ip, user_agent, is_foreign)
        ), held as materialized (
            select u.subject, u.generation from cf_subjects u where u.subject in (select subject from asked)
            order by u.subject for share
        ), added as (
            insert into cf_subjects (subject)
            select distinct a.subject from asked a
            where not exists (select from held h where h.subject = a.subject) order by a.subject
            on conflict do nothing returning subject, generation
        ), known as (
            select subject, generation from held union all select subject, generation from added
        ), foreign_ones as materialized (
            select a.place, coalesce(s.generation, 0) as generation,
                exists (select from cf_users n where n.username = a.subject)
                    or exists (select from cf_clients c where c.client_id = a.subject) as is_own
            from asked a left join cf_subjects s on s.subject = a.subject where a.is_foreign
        ), begun as (
            insert into cf_sessions
                (sid, subject, generation, client, label, ip, user_agent, created_at, last_seen_at, expires_at)
            select a.sid, a.subject, k.generation, a.client, a.label, a.ip, a.user_agent, a.now, a.now, a.expires_at
            from asked a join known k on k.subject = a.subject left join foreign_ones f on f.place = a.place
            where (a.generation is null or a.generation = k.generation)
                and (not a.is_foreign or (f.generation = k.generation and not f.is_own))
            returning sid
        ), stored as (
            insert into cf_tokens (sid, subject, jti, token_type, issued_at, not_before, expires_at, scope, claims, granted,
                kid, client, label, ip, user_agent, imported)
            select a.sid, a.subject, t.jti, t.token_type, t.issued_at, t.not_before, t.expires_at, t.scope, t.claims,
                t.granted, t.kid, t.client, t.label, t.ip, t.user_agent, t.imported
            from unnest($11::int[], $12::uuid[], $13::text[], $14::bigint[], $15::bigint[], $16::bigint[], $17::text[],
                $18::text[], $19::text[], $20::text[], $21::text[], $22::text[], $23::text[], $24::text[], $25::bool[])
                as t (place, jti, token_type, issued_at, not_before, expires_at, scope, claims, granted, kid, client, label,
                    ip, user_agent, imported)
            join asked a on a.place = t.place join begun b on b.sid = a.sid
        )
        select a.place as "place!",
            k.subject is not null and (not a.is_foreign or f.generation = k.generation) as "is_known!"
        from asked a left join known k on k.subject = a.subject left join foreign_ones f on f.place = a.place
        where a.sid not in (select sid from begun)"#,
        &of.place,
        &of.subject as &[&str],
        &of.sid,
        &of.generation as &[Option<i64>],
        &of.now,
        &of.session_expires_at,
        &of.session_client as &[Option<&str>],
        &of.session_label as &[Option<&str>],
        &of.session_ip as &[Option<&str>],
        &of.session_user_agent as &[Option<&str>],
        &of.tokens.place,
        &of.tokens.jti,
        &of.tokens.token_type as &[&str],
        &of.tokens.issued_at,
        &of.tokens.not_before,
        &of.tokens.expires_at,
        &of.tokens.scope,
        &of.tokens.claims as &[&str],
        &of.tokens.granted as &[Option<&str>],
        &of.tokens.kid as &[&str],
        &of.tokens.client as &[Option<&str>],
        &of.tokens.label as &[Option<&str>],
        &of.tokens.ip as &[Option<&str>],
        &of.tokens.user_agent as &[Option<&str>],
        &of.tokens.imported,
        &of.is_foreign
    )
    .fetch_all(executor)
    .await
}

/// The same for one, in a transaction that has locked its subject.
pub(super) async fn insert_new_on(connection: &mut PgConnection, insert: &Insert) -> Result<Inserted, sqlx::Error> {
    let of = Columns::of(std::slice::from_ref(insert), &[0]);
    let Some(found) = rows::not_twice(insert_new(connection, &of).await)? else { return Ok(Inserted::Duplicate) };
    Ok(insert.outcome(found.is_empty()))
}

/// Puts tokens into a session that is locked, as issued with a refresh token where one is named.
pub(super) async fn insert_tokens(
    connection: &mut PgConnection,
    sid: Sid,
    subject: &Subject,
    tokens: &[NewToken],
    issued_with: Option<Uuid>,
) -> Result<(), sqlx::Error> {
    for token in tokens {
        sqlx::query!(
            "insert into cf_tokens (sid, subject, jti, token_type, issued_at, not_before, expires_at, scope, claims, granted,
                kid, client, label, ip, user_agent, imported, issued_with)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
            sid.as_uuid(),
            subject.as_str(),
            token.jti.as_uuid(),
            token.token_type.as_str(),
            token.issued_at,
            token.not_before,
            token.expires_at,
            token.scope.to_string(),
            token.claims,
            token.granted,
            token.kid,
            token.client,
            token.label,
            token.ip,
            token.user_agent,
            token.imported,
            issued_with
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Joins live sessions, each if the token presented for it is still not revoked. One statement that commits by itself. The
/// rows are locked in order, and looked at again where a lock was waited for.
async fn insert_joining(executor: impl PgExecutor<'_>, of: &Columns<'_>) -> Result<Vec<i32>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"with limits as materialized (
            select set_config('lock_timeout', '3s', true),
                case when current_setting('synchronous_commit') in ('off', 'local', 'remote_write')
                    then set_config('synchronous_commit', 'on', true) end
        ), asked as materialized (
            select a.* from limits cross join
                unnest($1::int[], $2::text[], $3::uuid[], $4::uuid[], $5::bigint[], $6::bigint[])
                as a (place, subject, sid, presented, now, expires_at)
        ), subjects as materialized (
            select u.subject, u.generation from cf_subjects u where u.subject in (select subject from asked)
            order by u.subject for share
        ), sessions as materialized (
            select s.sid, s.subject, s.generation, s.ended_at from cf_sessions s
            where s.sid in (select sid from asked) and (select count(*) from subjects) > 0
            order by s.sid for no key update
        ), presented as materialized (
            select t.jti, t.sid, t.revoked_at from cf_tokens t
            where t.jti in (select presented from asked) and (select count(*) from sessions) > 0
            order by t.jti for share
        ), live as materialized (
            select a.* from asked a
            join subjects u on u.subject = a.subject
            join sessions s on s.sid = a.sid and s.subject = a.subject and s.generation = u.generation
            join presented p on p.jti = a.presented and p.sid = a.sid
            where s.ended_at is null and p.revoked_at is null
        ), seen as (
            update cf_sessions s
            set last_seen_at = greatest(s.last_seen_at, l.now), expires_at = greatest(s.expires_at, l.expires_at)
            from (select sid, max(now) as now, max(expires_at) as expires_at from live group by sid) l where s.sid = l.sid
        ), stored as (
            insert into cf_tokens (sid, subject, jti, token_type, issued_at, not_before, expires_at, scope, claims, granted,
                kid, client, label, ip, user_agent, imported)
            select l.sid, l.subject, t.jti, t.token_type, t.issued_at, t.not_before, t.expires_at, t.scope, t.claims,
                t.granted, t.kid, t.client, t.label, t.ip, t.user_agent, t.imported
            from unnest($7::int[], $8::uuid[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::text[],
                $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::text[], $20::text[], $21::bool[])
                as t (place, jti, token_type, issued_at, not_before, expires_at, scope, claims, granted, kid, client, label,
                    ip, user_agent, imported)
            join live l on l.place = t.place
        )
        select place as "place!" from live"#,
        &of.place,
        &of.subject as &[&str],
        &of.sid,
        &of.presented as &[Option<Uuid>],
        &of.now,
        &of.session_expires_at,
        &of.tokens.place,
        &of.tokens.jti,
        &of.tokens.token_type as &[&str],
        &of.tokens.issued_at,
        &of.tokens.not_before,
        &of.tokens.expires_at,
        &of.tokens.scope,
        &of.tokens.claims as &[&str],
        &of.tokens.granted as &[Option<&str>],
        &of.tokens.kid as &[&str],
        &of.tokens.client as &[Option<&str>],
        &of.tokens.label as &[Option<&str>],
        &of.tokens.ip as &[Option<&str>],
        &of.tokens.user_agent as &[Option<&str>],
        &of.tokens.imported
    )
    .fetch_all(executor)
    .await
}

/// Inserts, column by column.
#[derive(Default)]
struct Columns<'a> {
    /// Which insert it is.
    place: Vec<i32>,
    subject: Vec<&'a str>,
    sid: Vec<Uuid>,
    generation: Vec<Option<i64>>,
    is_foreign: Vec<bool>,
    presented: Vec<Option<Uuid>>,
    now: Vec<i64>,
    session_expires_at: Vec<i64>,
    session_client: Vec<Option<&'a str>>,
    session_label: Vec<Option<&'a str>>,
    session_ip: Vec<Option<&'a str>>,
    session_user_agent: Vec<Option<&'a str>>,
    tokens: TokenColumns<'a>,
}

/// The tokens of all of them.
#[derive(Default)]
struct TokenColumns<'a> {
    /// Which insert it belongs to.
    place: Vec<i32>,
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
    fn of(inserts: &'a [Insert], places: &[usize]) -> Self {
        let mut columns = Self::default();
        for place in places {
            let insert = &inserts[*place];
            let place = i32::try_from(*place).unwrap_or(i32::MAX);
            columns.place.push(place);
            columns.subject.push(insert.subject.as_str());
            columns.now.push(insert.now);
            columns.session_expires_at.push(insert.session_expires_at);
            let (session, premise, sid, presented) = match &insert.within {
                Within::New(session, premise) => (Some(session), *premise, session.sid, None),
                Within::Existing { sid, presented } => (None, Premise::None, *sid, Some(presented.as_uuid())),
            };
            columns.sid.push(sid.as_uuid());
            columns.generation.push(rows::generation_of(premise));
            columns.is_foreign.push(premise == Premise::Foreign);
            columns.presented.push(presented);
            columns.session_client.push(session.and_then(|session| session.client.as_deref()));
            columns.session_label.push(session.and_then(|session| session.label.as_deref()));
            columns.session_ip.push(session.and_then(|session| session.ip.as_deref()));
            columns.session_user_agent.push(session.and_then(|session| session.user_agent.as_deref()));
            for token in &insert.tokens {
                columns.tokens.push(place, token);
            }
        }
        columns
    }
}

impl<'a> TokenColumns<'a> {
    fn push(&mut self, place: i32, token: &'a NewToken) {
        self.place.push(place);
        self.jti.push(token.jti.as_uuid());
        self.token_type.push(token.token_type.as_str());
        self.issued_at.push(token.issued_at);
        self.not_before.push(token.not_before);
        self.expires_at.push(token.expires_at);
        self.scope.push(token.scope.to_string());
        self.claims.push(&token.claims);
        self.granted.push(token.granted.as_deref());
        self.kid.push(&token.kid);
        self.client.push(token.client.as_deref());
        self.label.push(token.label.as_deref());
        self.ip.push(token.ip.as_deref());
        self.user_agent.push(token.user_agent.as_deref());
        self.imported.push(token.imported);
    }
}
