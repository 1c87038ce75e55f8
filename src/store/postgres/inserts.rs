//! Putting tokens on the registry, many at once.

use sqlx::postgres::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::Postgres;
use super::purge::forget_subjects;
use crate::store::rows;
use crate::store::{Insert, Inserted, NewToken, Premise, Rotation, Within};

impl Postgres {
    pub(super) async fn insert(&self, inserts: &[Insert]) -> Result<Vec<Inserted>, sqlx::Error> {
        let mut added = Vec::new();
        let outcomes = self.insert_adding(inserts, &mut added).await?;
        if !added.is_empty() && outcomes.iter().any(|outcome| *outcome != Inserted::Stored) {
            // Those for whom nothing was stored go again: nothing would ever remove them. What was stored is, even
            // where this fails.
            let _ = self.forget_added(&added).await;
        }
        Ok(outcomes)
    }

    async fn forget_added(&self, subjects: &[String]) -> Result<(), sqlx::Error> {
        let mut tx = self.begin().await?;
        // The insert that has just failed may still hold them for a moment: an error is told before all is undone.
        sqlx::query!("select from cf_subjects where subject = any($1) order by subject for update", subjects)
            .execute(&mut *tx)
            .await?;
        forget_subjects(&mut tx, subjects).await?;
        tx.commit().await
    }

    /// Inserts, with the names of the subjects that had to be added first.
    async fn insert_adding(&self, inserts: &[Insert], added: &mut Vec<String>) -> Result<Vec<Inserted>, sqlx::Error> {
        let mut outcomes = vec![Inserted::Superseded; inserts.len()];
        let is_new = |insert: &Insert| matches!(insert.within, Within::New(..));
        let (mut new, joining): (Vec<usize>, Vec<usize>) =
            (0..inserts.len()).partition(|place| is_new(&inserts[*place]));
        let mut tries_left = ADDING_TRIES;
        while !new.is_empty() && tries_left > 0 {
            let of = Rows::of(inserts, &new);
            let found = self.inserter.with(async |connection| insert_new(connection, &of).await).await;
            let Some(found) = rows::alone_not_twice(inserts, found)? else { return Ok(vec![Inserted::Duplicate]) };
            for place in new {
                outcomes[place] = Inserted::Stored;
            }
            for refused in &found {
                outcomes[at(refused.place)] = match refused.is_known {
                    true => inserts[at(refused.place)].outcome(false),
                    false => Inserted::Superseded,
                };
            }
            new = found.iter().filter(|refused| !refused.is_known).map(|refused| at(refused.place)).collect();
            if !new.is_empty() {
                let subjects: Vec<&str> = new.iter().map(|place| inserts[*place].subject.as_str()).collect();
                self.inserter.with(async |connection| add_subjects(connection, &subjects).await).await?;
                added.extend(subjects.into_iter().map(str::to_owned));
            }
            tries_left -= 1;
        }
        if !joining.is_empty() {
            let of = Rows::of(inserts, &joining);
            let found = self.inserter.with(async |connection| insert_joining(connection, &of).await).await;
            let Some(found) = rows::alone_not_twice(inserts, found)? else { return Ok(vec![Inserted::Duplicate]) };
            for place in found {
                outcomes[at(place)] = Inserted::Stored;
            }
        }
        Ok(outcomes)
    }
}

/// How often the insert of a new session is tried: at first its subject may not be there yet, and later somebody else
/// may remove it at this very moment.
const ADDING_TRIES: u32 = 4;

/// An insert that was not stored.
struct Refused {
    place: i32,
    /// Whether its subject is there.
    is_known: bool,
}

fn at(place: i32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

/// Begins sessions, each if its premise is true, and gives those whose is not: mostly none, which spares a row for
/// each. One statement that commits by itself, with the subjects locked in order. Where a lock was waited for, the
/// subject's row is as it is now, and so is all that a premise rests on.
///
/// The session's subject and the tokens' session are there, since they are held or begun here; so no trigger has to
/// look (`counterfoil.noted`).
async fn insert_new(executor: impl PgExecutor<'_>, of: &Rows<'_>) -> Result<Vec<Refused>, sqlx::Error> {
    sqlx::query_as!(
        Refused,
        r#"with limits as materialized (
            select set_config('counterfoil.noted', 'on', true), set_config('lock_timeout', '3s', true),
                case when current_setting('synchronous_commit') in ('off', 'local', 'remote_write')
                    then set_config('synchronous_commit', 'on', true) end
        ), asked as materialized (
            select a.* from limits cross join unnest($1::int[], $2::bool[], $3::text[], $4::uuid[], $5::bigint[], $6::bool[],
                $7::bigint[], $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[], $13::uuid[], $14::text[],
                $15::bigint[], $16::bigint[], $17::bigint[], $18::text[], $19::text[], $20::text[], $21::text[], $22::bool[])
                as a (place, is_first, subject, sid, generation, is_foreign, now, session_expires_at, client, label, ip,
                    user_agent, jti, token_type, issued_at, not_before, expires_at, scope, claims, granted, kid, imported)
        ), held as materialized (
            select u.subject, u.generation, u.own from cf_subjects u where u.subject in (select subject from asked)
            order by u.subject for share
        ), begun as (
            insert into cf_sessions
                (sid, subject, generation, client, label, ip, user_agent, created_at, last_seen_at, expires_at)
            select a.sid, a.subject, h.generation, a.client, a.label, a.ip, a.user_agent, a.now, a.now, a.session_expires_at
            from asked a join held h on h.subject = a.subject
            where a.is_first and (a.generation is null or a.generation = h.generation)
                and not (a.is_foreign and h.own)
            returning sid
        ), stored as (
            insert into cf_tokens (sid, subject, jti, token_type, issued_at, not_before, expires_at, scope, claims, granted,
                kid, client, label, ip, user_agent, imported)
            select a.sid, a.subject, a.jti, a.token_type, a.issued_at, a.not_before, a.expires_at, a.scope, a.claims,
                a.granted, a.kid, a.client, a.label, a.ip, a.user_agent, a.imported
            from asked a join begun b on b.sid = a.sid where a.jti is not null
        )
        select a.place as "place!", h.subject is not null as "is_known!"
        from asked a left join held h on h.subject = a.subject
        where a.is_first and a.sid not in (select sid from begun)"#,
        &of.place,
        &of.is_first,
        &of.subject as &[&str],
        &of.sid,
        &of.generation as &[Option<i64>],
        &of.is_foreign,
        &of.now,
        &of.session_expires_at,
        &of.client as &[Option<&str>],
        &of.label as &[Option<&str>],
        &of.ip as &[Option<&str>],
        &of.user_agent as &[Option<&str>],
        &of.jti as &[Option<Uuid>],
        &of.token_type as &[Option<&str>],
        &of.issued_at as &[Option<i64>],
        &of.not_before as &[Option<i64>],
        &of.expires_at as &[Option<i64>],
        &of.scope as &[Option<String>],
        &of.claims as &[Option<&str>],
        &of.granted as &[Option<&str>],
        &of.kid as &[Option<&str>],
        &of.imported as &[Option<bool>]
    )
    .fetch_all(executor)
    .await
}

/// Adds subjects that are not there. It need not be durable: what is then put on the registry for them is, and with it
/// whatever came before.
async fn add_subjects(executor: impl PgExecutor<'_>, subjects: &[&str]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "with limits as materialized (
            select set_config('lock_timeout', '3s', true), set_config('synchronous_commit', 'off', true)
        )
        insert into cf_subjects (subject) select distinct s.subject from limits cross join unnest($1::text[]) as s (subject)
        order by s.subject on conflict do nothing",
        subjects as &[&str]
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// [`insert_new`] of one, in a transaction that has locked its subject.
pub(super) async fn insert_new_on(connection: &mut PgConnection, insert: &Insert) -> Result<Inserted, sqlx::Error> {
    let of = Rows::of(std::slice::from_ref(insert), &[0]);
    let Some(found) = rows::not_twice(insert_new(connection, &of).await)? else { return Ok(Inserted::Duplicate) };
    Ok(insert.outcome(found.is_empty()))
}

/// Puts tokens into the session of a rotation, which is locked, as issued with a refresh token where one is named.
pub(super) async fn insert_tokens(
    connection: &mut PgConnection,
    asked: &Rotation,
    tokens: &[NewToken],
    issued_with: Option<Uuid>,
) -> Result<(), sqlx::Error> {
    for token in tokens {
        sqlx::query!(
            "insert into cf_tokens (sid, subject, jti, token_type, issued_at, not_before, expires_at, scope, claims, granted,
                kid, client, label, ip, user_agent, imported, issued_with)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
            asked.sid.as_uuid(),
            asked.subject.as_str(),
            token.jti.as_uuid(),
            token.token_type.as_str(),
            token.issued_at,
            token.not_before,
            token.expires_at,
            token.scope.to_string(),
            token.claims,
            token.granted,
            token.kid,
            asked.origin.client,
            asked.origin.label,
            asked.origin.ip,
            asked.origin.user_agent,
            token.imported,
            issued_with
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Joins live sessions, each if the token presented for it is still not revoked. One statement that commits by itself.
/// The rows are locked in order, and looked at again where a lock was waited for.
async fn insert_joining(executor: impl PgExecutor<'_>, of: &Rows<'_>) -> Result<Vec<i32>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"with limits as materialized (
            select set_config('counterfoil.noted', 'on', true), set_config('lock_timeout', '3s', true),
                case when current_setting('synchronous_commit') in ('off', 'local', 'remote_write')
                    then set_config('synchronous_commit', 'on', true) end
        ), asked as materialized (
            select a.* from limits cross join unnest($1::int[], $2::bool[], $3::text[], $4::uuid[], $5::uuid[], $6::bigint[],
                $7::bigint[], $8::text[], $9::text[], $10::text[], $11::text[], $12::uuid[], $13::text[], $14::bigint[],
                $15::bigint[], $16::bigint[], $17::text[], $18::text[], $19::text[], $20::text[], $21::bool[])
                as a (place, is_first, subject, sid, presented, now, session_expires_at, client, label, ip, user_agent, jti,
                    token_type, issued_at, not_before, expires_at, scope, claims, granted, kid, imported)
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
            from (select sid, max(now) as now, max(session_expires_at) as expires_at from live group by sid) l
            where s.sid = l.sid
        ), stored as (
            insert into cf_tokens (sid, subject, jti, token_type, issued_at, not_before, expires_at, scope, claims, granted,
                kid, client, label, ip, user_agent, imported)
            select l.sid, l.subject, l.jti, l.token_type, l.issued_at, l.not_before, l.expires_at, l.scope, l.claims,
                l.granted, l.kid, l.client, l.label, l.ip, l.user_agent, l.imported
            from live l where l.jti is not null
        )
        select place as "place!" from live where is_first"#,
        &of.place,
        &of.is_first,
        &of.subject as &[&str],
        &of.sid,
        &of.presented as &[Option<Uuid>],
        &of.now,
        &of.session_expires_at,
        &of.client as &[Option<&str>],
        &of.label as &[Option<&str>],
        &of.ip as &[Option<&str>],
        &of.user_agent as &[Option<&str>],
        &of.jti as &[Option<Uuid>],
        &of.token_type as &[Option<&str>],
        &of.issued_at as &[Option<i64>],
        &of.not_before as &[Option<i64>],
        &of.expires_at as &[Option<i64>],
        &of.scope as &[Option<String>],
        &of.claims as &[Option<&str>],
        &of.granted as &[Option<&str>],
        &of.kid as &[Option<&str>],
        &of.imported as &[Option<bool>]
    )
    .fetch_all(executor)
    .await
}

/// Inserts, column by column: a row for each token, or one without a token where there is none to store.
#[derive(Default)]
struct Rows<'a> {
    /// Which insert it is of.
    place: Vec<i32>,
    /// Whether it is the first of its insert.
    is_first: Vec<bool>,
    subject: Vec<&'a str>,
    sid: Vec<Uuid>,
    generation: Vec<Option<i64>>,
    is_foreign: Vec<bool>,
    presented: Vec<Option<Uuid>>,
    now: Vec<i64>,
    session_expires_at: Vec<i64>,
    client: Vec<Option<&'a str>>,
    label: Vec<Option<&'a str>>,
    ip: Vec<Option<&'a str>>,
    user_agent: Vec<Option<&'a str>>,
    jti: Vec<Option<Uuid>>,
    token_type: Vec<Option<&'a str>>,
    issued_at: Vec<Option<i64>>,
    not_before: Vec<Option<i64>>,
    expires_at: Vec<Option<i64>>,
    scope: Vec<Option<String>>,
    claims: Vec<Option<&'a str>>,
    granted: Vec<Option<&'a str>>,
    kid: Vec<Option<&'a str>>,
    imported: Vec<Option<bool>>,
}

impl<'a> Rows<'a> {
    fn of(inserts: &'a [Insert], places: &[usize]) -> Self {
        let mut rows = Self::default();
        for place in places {
            let insert = &inserts[*place];
            let mut tokens = insert.tokens.iter();
            rows.push(*place, insert, true, tokens.next());
            tokens.for_each(|token| rows.push(*place, insert, false, Some(token)));
        }
        rows
    }

    fn push(&mut self, place: usize, insert: &'a Insert, is_first: bool, token: Option<&'a NewToken>) {
        let (premise, presented) = match &insert.within {
            Within::New(_, premise) => (*premise, None),
            Within::Existing { presented, .. } => (Premise::None, Some(presented.as_uuid())),
        };
        self.place.push(i32::try_from(place).unwrap_or(i32::MAX));
        self.is_first.push(is_first);
        self.subject.push(insert.subject.as_str());
        self.sid.push(insert.sid().as_uuid());
        self.generation.push(rows::generation_of(premise));
        self.is_foreign.push(premise == Premise::Foreign);
        self.presented.push(presented);
        self.now.push(insert.now);
        self.session_expires_at.push(insert.session_expires_at);
        self.client.push(insert.origin.client.as_deref());
        self.label.push(insert.origin.label.as_deref());
        self.ip.push(insert.origin.ip.as_deref());
        self.user_agent.push(insert.origin.user_agent.as_deref());
        self.jti.push(token.map(|token| token.jti.as_uuid()));
        self.token_type.push(token.map(|token| token.token_type.as_str()));
        self.issued_at.push(token.map(|token| token.issued_at));
        self.not_before.push(token.map(|token| token.not_before));
        self.expires_at.push(token.map(|token| token.expires_at));
        self.scope.push(token.map(|token| token.scope.to_string()));
        self.claims.push(token.map(|token| token.claims.as_str()));
        self.granted.push(token.and_then(|token| token.granted.as_deref()));
        self.kid.push(token.map(|token| token.kid.as_str()));
        self.imported.push(token.map(|token| token.imported));
    }
}
