//! The log of changes, and the roll of the replicas that follow it.

use std::sync::PoisonError;

use sqlx::postgres::{PgConnection, PgListener, PgPool};
use uuid::Uuid;

use super::Postgres;
use crate::store::notice::{self, Change, FeedRow};
use crate::store::rows::{self, BEHIND_MAX, Noted, RollRow};
use crate::token::{FeedPage, Mark, News, Position, Roll};

/// What is notified of every change.
const CHANNEL: &str = "counterfoil";

impl Postgres {
    pub(super) async fn join(
        &self,
        id: Uuid,
        name: &str,
        lease_ms: i64,
        instead_of: Option<Uuid>,
    ) -> Result<Position, sqlx::Error> {
        // The position is locked last, as everywhere. An earlier place that somebody has locked stays, and is waited
        // for once.
        let statement = sqlx::query_as!(
            Position,
            r#"with limits as materialized (
                select set_config('lock_timeout', '1500ms', true),
                    case when current_setting('synchronous_commit') in ('off', 'local', 'remote_write')
                        then set_config('synchronous_commit', 'on', true) end
            ), held as materialized (
                select r.id from limits cross join cf_replicas r where r.id = $4 for update of r skip locked
            ), gone as (
                delete from cf_replicas where id in (select id from held) returning id
            ), place as (
                update cf_position set roll = gen_random_uuid() where id = 1 and (select count(*) from gone) >= 0
                returning seq, change
            ), joined as (
                insert into cf_replicas (id, name, lease_ms, applied, granted, joined_at, seen_at)
                select $1, $2, $3, p.seq, p.seq, extract(epoch from now())::bigint, extract(epoch from now())::bigint
                from place p
            )
            select seq as "seq!", change as "change!" from place"#,
            id,
            name,
            lease_ms,
            instead_of
        );
        let position = self.follower.with(async |connection| statement.fetch_one(connection).await).await?;
        *self.joined.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
        Ok(position)
    }

    pub(super) async fn renew(&self, id: Uuid, applied: Position) -> Result<Option<News>, sqlx::Error> {
        // One statement, so one snapshot. It may be an old one: a renewal that was given up goes on in the server, and
        // must not take back what a later one has told. What it says to have told must be as durable as the lease that
        // rests on it: only a renewal that tells nothing new may be lost in a crash.
        let statement = sqlx::query_as!(
            Noted,
            r#"with mine as (
                update cf_replicas r
                set applied = $2, granted = greatest(r.granted, p.seq), seen_at = extract(epoch from clock_timestamp())::bigint
                from cf_position p
                where r.id = $1 and p.id = 1 and p.seq - $2 between 0 and $4
                    and ((p.seq = $2 and p.change = $3)
                        or exists (select from cf_changes c where c.seq = $2 and c.change = $3))
                    and set_config('synchronous_commit', case when r.granted < p.seq then 'on' else 'off' end, true) <> ''
                returning p.seq, p.change
            )
            select m.seq as "seq!", m.change as "change!", c.kind as "kind?", c.target as "target?"
            from mine m left join cf_changes c on c.seq > $2 and c.seq <= m.seq
            order by c.seq"#,
            id,
            applied.seq,
            applied.change,
            BEHIND_MAX
        );
        let noted = self.follower.with(async |connection| statement.fetch_all(connection).await).await?;
        rows::news(noted)
    }

    pub(super) async fn hear(&self, id: Uuid, applied: Position) -> Result<Option<News>, sqlx::Error> {
        // Nothing is written where nothing is said anew. Whoever waits sees the row before it is on a disk, and a crash
        // that undoes it lets them wait for longer, never for less.
        let statement = sqlx::query_as!(
            Noted,
            r#"with mine as materialized (
                select p.seq, p.change, r.applied
                from cf_replicas r cross join cf_position p
                where r.id = $1 and p.id = 1 and p.seq - $2 between 0 and $4
                    and ((p.seq = $2 and p.change = $3)
                        or exists (select from cf_changes c where c.seq = $2 and c.change = $3))
            ), told as (
                update cf_replicas set applied = $2, seen_at = extract(epoch from clock_timestamp())::bigint
                where id = $1 and exists (select from mine m where m.applied <> $2)
                    and set_config('synchronous_commit', 'off', true) <> ''
            )
            select m.seq as "seq!", m.change as "change!", c.kind as "kind?", c.target as "target?"
            from mine m left join cf_changes c on c.seq > $2 and c.seq <= m.seq
            order by c.seq"#,
            id,
            applied.seq,
            applied.change,
            BEHIND_MAX
        );
        let noted = self.follower.with(async |connection| statement.fetch_all(connection).await).await?;
        rows::news(noted)
    }

    pub(super) async fn position(&self) -> Result<Position, sqlx::Error> {
        let statement = sqlx::query_as!(Position, "/* postgres */ select seq, change from cf_position where id = 1");
        self.follower.with(async |connection| statement.fetch_one(connection).await).await
    }

    pub(super) async fn leave(&self, id: Uuid) -> Result<(), sqlx::Error> {
        let statement = sqlx::query!("delete from cf_replicas where id = $1", id);
        self.follower.with(async |connection| statement.execute(connection).await.map(drop)).await
    }

    pub(super) async fn roll(&self) -> Result<Roll, sqlx::Error> {
        let statement = sqlx::query_as!(
            RollRow,
            r#"/* postgres */ select p.seq, p.change, p.roll, r.id as "id?", r.name as "name?", r.lease_ms as "lease_ms?",
                r.applied as "applied?", r.granted as "granted?", r.joined_at as "joined_at?", r.seen_at as "seen_at?"
            from cf_position p left join cf_replicas r on true
            where p.id = 1
            order by r.joined_at, r.id"#
        );
        let found = self.looker.with(async |connection| statement.fetch_all(connection).await).await?;
        rows::roll(found)
    }

    pub(super) async fn mark_out(&self, ids: &[Uuid], untold: Position) -> Result<(), sqlx::Error> {
        // Looked at again with each row locked: one that renews just now has been told, and stays. In another history,
        // as after a restored backup, the number means another change, and nobody goes. The roll gets another id, so
        // that who was alone without them looks again, should they come back with a backup or a crash.
        //
        // A row that somebody has locked stays on the roll, and the next who waits waits for it too: nobody else has
        // to. The position is locked last, and where nobody goes not at all.
        sqlx::query!(
            "with limits as materialized (
                select set_config('lock_timeout', '3s', true)
            ), held as materialized (
                select r.id from limits cross join cf_replicas r
                where r.id = any($1) and r.granted < $2 and exists (select from cf_changes where seq = $2 and change = $3)
                order by r.id for update of r skip locked
            ), gone as (
                delete from cf_replicas where id in (select id from held) returning id
            )
            update cf_position set roll = gen_random_uuid() where id = 1 and exists (select from gone)",
            ids,
            untold.seq,
            untold.change
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(super) async fn purge_changes(&self, cutoff: i64, rows_max: u32) -> Result<u64, sqlx::Error> {
        // The last one stays: it is where all replicas stand. Up to the first that is kept, so that none is missing
        // between two that are there, whichever clock their times are from.
        let gone = sqlx::query!(
            "delete from cf_changes where seq in (
                select seq from cf_changes
                where seq < coalesce((select min(seq) from cf_changes where at >= $1), (select seq from cf_position where id = 1))
                    and seq < (select seq from cf_position where id = 1)
                order by seq limit $2
            )",
            cutoff,
            i64::from(rows_max)
        )
        .execute(&self.pool)
        .await?;
        Ok(gone.rows_affected())
    }

    pub(super) async fn feed(
        &self,
        after: Option<i64>,
        limit: u16,
        serves: Option<&[String]>,
        issuer: &str,
        now: i64,
    ) -> Result<Option<FeedPage>, sqlx::Error> {
        // One statement, so one snapshot: what it does not see has a larger number than the position that it sees. An
        // imported token that has not all that one of our own form has is for the issuer, as whoever checks it says.
        // Claims may have a NUL in a text, which jsonb refuses; written as another character it leaves all else as it
        // is, an escaped backslash before it too.
        let found = sqlx::query_as!(
            FeedRow,
            r#"with looked as materialized (
                select c.* from cf_changes c where c.seq > $1 and c.action is not null order by c.seq limit $5
            ), aimed as not materialized (
                select t.jti, t.sid, t.subject, t.issued_at, t.expires_at, coalesce(case
                    when t.imported and (m.claims ->> 'iss' = $7
                        and m.claims ?& '{sub, aud, exp, nbf, iat, jti, type, sid, client_id}') is not true
                        then to_jsonb($7::text)
                    else coalesce(nullif(replace(t.granted, '\u0000', '\u0001')::jsonb -> 'audience', '[]'),
                        m.claims -> 'aud') end ?| $3, false) as is_for
                from cf_tokens t cross join lateral (select replace(t.claims, '\u0000', '\u0001')::jsonb as claims) m
            )
            select p.seq as "position!",
                ($1::bigint is null or $1 = p.seq
                    or ($1 < p.seq and exists (select from cf_changes k where k.seq = $1 + 1))) as "is_kept!",
                (select case when count(*) = $5 then max(seq) end from looked) as "looked?",
                e.seq as "seq?", e.kind as "kind?", e.target as "target?", e.action as "action?", e.at as "at?",
                e.last_sid as "last_sid?", e.expires_at as "expires_at?"
            from cf_position p left join (
                select c.* from looked c
                where ($3::text[] is null or coalesce(case c.kind
                        when 'token' then (select bool_or(t.is_for) from aimed t where t.jti = c.target::uuid)
                        when 'session' then (
                            select case when count(*) = $6 then true else bool_or(is_for) end from (
                                select t.is_for from aimed t where t.sid = c.target::uuid and t.expires_at > c.at limit $6) a)
                        when 'subject' then (
                            select case when count(*) = $6 then true else bool_or(is_for) end from (
                                select t.is_for from aimed t
                                where t.subject = c.target and t.issued_at <= c.at and t.expires_at > c.at
                                order by t.issued_at desc limit $6) a)
                        end, c.kind = 'key' or c.expires_at > $4))
                order by c.seq limit $2
            ) e on true
            where p.id = 1 order by e.seq"#,
            after,
            i64::from(limit),
            serves,
            now,
            i64::from(notice::looked_max(limit, serves)),
            i64::from(notice::READ_MAX),
            issuer
        )
        .fetch_all(&self.pool)
        .await?;
        notice::page(found, limit)
    }

    pub(super) async fn woken(&self) -> bool {
        let Some(pool) = &self.listener else { return false };
        // Nothing may be heard for hours; closing the store doesn't wait for that.
        let mut closed = pool.close_event();
        let heard = closed.do_until(async {
            let mut listening = self.listening.lock().await;
            let mut listener = match listening.take() {
                Some(listener) => listener,
                None => listen(pool).await?,
            };
            let is_kept = loop {
                match listener.try_recv().await? {
                    Some(word) if self.is_own(word.payload()) => {}
                    word => break word.is_some(),
                }
            };
            // Without a word the connection was lost, and words with it: that too is a reason to look.
            *listening = is_kept.then_some(listener);
            Ok::<_, sqlx::Error>(())
        });
        matches!(heard.await, Ok(Ok(())))
    }

    /// Whether a word is of what this process did itself, and has forgotten already: it is enough to say so at the next
    /// poll.
    fn is_own(&self, payload: &str) -> bool {
        self.joined().is_some_and(|id| payload == id.to_string())
    }
}

async fn listen(pool: &PgPool) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Notes what others have to forget, and what the feed says of it, as the last thing that a transaction does: the
/// position stays locked until its end.
pub(super) async fn note_changes(
    connection: &mut PgConnection,
    changes: &[Change],
    now: i64,
) -> Result<Mark, sqlx::Error> {
    let kinds: Vec<&str> = changes.iter().map(|change| change.kind).collect();
    let targets: Vec<&str> = changes.iter().map(|change| change.target.as_str()).collect();
    let told = |change: &Change| change.told;
    let actions: Vec<Option<&str>> = changes.iter().map(|change| Some(told(change)?.action.as_str())).collect();
    let last: Vec<Option<Uuid>> = changes.iter().map(|change| told(change)?.last_sid).collect();
    let ends: Vec<Option<i64>> = changes.iter().map(|change| Some(told(change)?.expires_at)).collect();
    let noted = sqlx::query!(
        r#"with asked as materialized (
            select a.*, count(*) over () as places
            from unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::bigint[]) with ordinality
                as a (kind, target, action, last_sid, expires_at, place)
        ), place as (
            update cf_position set seq = seq + (select count(*) from asked), change = gen_random_uuid()
            where id = 1 returning seq, change, roll
        ), noted as (
            insert into cf_changes (seq, change, kind, target, at, action, last_sid, expires_at)
            select p.seq - a.places + a.place, p.change, a.kind, a.target, $6, a.action, a.last_sid, a.expires_at
            from place p cross join asked a
        ), woken as (
            select pg_notify('counterfoil', '') from place
        )
        select p.seq as "seq!", p.change as "change!", p.roll as "roll!" from place p cross join woken"#,
        &kinds as &[&str],
        &targets as &[&str],
        &actions as &[Option<&str>],
        &last as &[Option<Uuid>],
        &ends as &[Option<i64>],
        now
    )
    .fetch_one(connection)
    .await?;
    Ok(Mark { position: Position { seq: noted.seq, change: noted.change }, roll: noted.roll })
}
