//! The log of changes, and the roll of the replicas that follow it.

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use uuid::Uuid;

use super::{BEGIN, Sqlite};
use crate::store::notice::{self, FeedRow};
use crate::store::rows::{self, BEHIND_MAX, Noted, RollRow};
use crate::token::{FeedPage, Mark, News, Position, Roll};

impl Sqlite {
    pub(super) async fn join(
        &self,
        id: Uuid,
        name: &str,
        lease_ms: i64,
        instead_of: Option<Uuid>,
    ) -> Result<Position, sqlx::Error> {
        let join = async |connection: &mut SqliteConnection| {
            let mut tx = connection.begin_with(BEGIN).await?;
            sqlx::query!("delete from cf_replicas where id = ?1", instead_of).execute(&mut *tx).await?;
            let position = sqlx::query_as!(
                Position,
                r#"/* sqlite */ update cf_position set roll = randomblob(16) where id = 1
                returning seq, change as "change: Uuid""#
            )
            .fetch_one(&mut *tx)
            .await?;
            sqlx::query!(
                "insert into cf_replicas (id, name, lease_ms, applied, granted, joined_at, seen_at)
                values (?1, ?2, ?3, ?4, ?4, unixepoch(), unixepoch())",
                id,
                name,
                lease_ms,
                position.seq
            )
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(position)
        };
        self.follower.with(join).await
    }

    pub(super) async fn renew(&self, id: Uuid, applied: Position) -> Result<Option<News>, sqlx::Error> {
        self.follower.with(async |connection| follow(connection, id, applied, true).await).await
    }

    pub(super) async fn hear(&self, id: Uuid, applied: Position) -> Result<Option<News>, sqlx::Error> {
        self.follower.with(async |connection| follow(connection, id, applied, false).await).await
    }

    pub(super) async fn position(&self) -> Result<Position, sqlx::Error> {
        let statement = sqlx::query_as!(
            Position,
            r#"/* sqlite */ select seq, change as "change: Uuid" from cf_position where id = 1"#
        );
        self.follower.with(async |connection| statement.fetch_one(connection).await).await
    }

    pub(super) async fn leave(&self, id: Uuid) -> Result<(), sqlx::Error> {
        let statement = sqlx::query!("delete from cf_replicas where id = ?1", id);
        self.follower.with(async |connection| statement.execute(connection).await.map(drop)).await
    }

    pub(super) async fn roll(&self) -> Result<Roll, sqlx::Error> {
        let found = sqlx::query_as!(
            RollRow,
            r#"/* sqlite */ select p.seq, p.change as "change: Uuid", p.roll as "roll: Uuid", r.id as "id?: Uuid", r.name as "name?",
                r.lease_ms as "lease_ms?", r.applied as "applied?", r.granted as "granted?", r.joined_at as "joined_at?",
                r.seen_at as "seen_at?"
            from cf_position p left join cf_replicas r on true
            where p.id = 1
            order by r.joined_at, r.id"#
        )
        .fetch_all(&self.readers)
        .await?;
        rows::roll(found)
    }

    pub(super) async fn mark_out(&self, ids: &[Uuid], untold: Position) -> Result<(), sqlx::Error> {
        let ids = rows::json(&ids.iter().copied().map(rows::hex).collect::<Vec<_>>())?;
        // In another history, as after a restored backup, the number means another change, and nobody goes. The roll
        // gets another id, so that who was alone without them looks again, should they come back with a backup.
        let mut tx = self.begin().await?;
        let is_own_history = sqlx::query!(
            "update cf_position set roll = randomblob(16)
            where id = 1 and exists (select 1 from cf_changes where seq = ?1 and change = ?2)",
            untold.seq,
            untold.change
        )
        .execute(&mut *tx)
        .await?
        .rows_affected()
            > 0;
        if is_own_history {
            sqlx::query!(
                "delete from cf_replicas where id in (select unhex(value) from json_each(?1)) and granted < ?2",
                ids,
                untold.seq
            )
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await
    }

    pub(super) async fn purge_changes(&self, cutoff: i64, rows_max: u32) -> Result<u64, sqlx::Error> {
        // The last one stays: it is where all replicas stand. Up to the first that is kept, so that none is missing
        // between two that are there, whichever clock their times are from.
        let gone = sqlx::query!(
            "delete from cf_changes where seq in (
                select seq from cf_changes
                where seq < coalesce((select min(seq) from cf_changes where at >= ?1), (select seq from cf_position where id = 1))
                    and seq < (select seq from cf_position where id = 1)
                order by seq limit ?2
            )",
            cutoff,
            rows_max
        )
        .execute(&self.writer)
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
        let looked_max = notice::looked_max(limit, serves);
        let serves = serves.map(|serves| rows::json(&serves)).transpose()?;
        // One statement, so one snapshot: what it does not see has a larger number than the position that it sees. An
        // imported token that has not all that one of our own form has is for the issuer, as whoever checks it says.
        let found = sqlx::query_as!(
            FeedRow,
            r#"with looked as materialized (
                select c.* from cf_changes c where c.seq > ?1 and c.action is not null order by c.seq limit ?5
            ), aimed as not materialized (
                select t.jti, t.sid, t.subject, t.issued_at, t.expires_at, exists (
                    select 1 from json_each(case
                        when t.imported and (t.claims ->> '$.iss' = ?7 and (
                            select count(*) from json_each(t.claims) m
                            where m.key in ('sub', 'aud', 'exp', 'nbf', 'iat', 'jti', 'type', 'sid', 'client_id')) = 9) is not true
                            then json_array(?7)
                        else coalesce(nullif(t.granted -> '$.audience', '[]'), t.claims -> '$.aud') end) a
                    where a.value in (select value from json_each(?3))) as is_for
                from cf_tokens t
            )
            select p.seq as "position!: i64",
                (?1 is null or ?1 = p.seq
                    or (?1 < p.seq and exists (select 1 from cf_changes k where k.seq = ?1 + 1))) as "is_kept!: bool",
                (select case when count(*) = ?5 then max(seq) end from looked) as "looked?: i64",
                e.seq as "seq?: i64", e.kind as "kind?", e.target as "target?", e.action as "action?", e.at as "at?: i64",
                e.last_sid as "last_sid?: Uuid", e.expires_at as "expires_at?: i64"
            from cf_position p left join (
                select c.* from looked c
                where (?3 is null or coalesce(case c.kind
                        when 'token' then (select max(t.is_for) from aimed t where t.jti = unhex(c.target))
                        when 'session' then (
                            select case when count(*) = ?6 then 1 else max(is_for) end from (
                                select t.is_for from aimed t where t.sid = unhex(c.target) and t.expires_at > c.at limit ?6))
                        when 'subject' then (
                            select case when count(*) = ?6 then 1 else max(is_for) end from (
                                select t.is_for from aimed t
                                where t.subject = c.target and t.issued_at <= c.at and t.expires_at > c.at
                                order by t.issued_at desc limit ?6))
                        end, c.kind = 'key' or c.expires_at > ?4))
                order by c.seq limit ?2
            ) e on true
            where p.id = 1 order by e.seq"#,
            after,
            limit,
            serves,
            now,
            looked_max,
            notice::READ_MAX,
            issuer
        )
        .fetch_all(&self.readers)
        .await?;
        notice::page(found, limit)
    }

    /// Another process's commits make no sound here.
    pub(super) async fn woken(&self) -> bool {
        false
    }
}

/// Says how far a replica has applied the changes, and what came after; where it leases, the answer is told.
async fn follow(
    connection: &mut SqliteConnection,
    id: Uuid,
    applied: Position,
    leases: bool,
) -> Result<Option<News>, sqlx::Error> {
    // What it says to have told is written before it is told: a crash of the machine ends all processes on it.
    let mut tx = connection.begin_with(BEGIN).await?;
    let renewed = sqlx::query!(
        "update cf_replicas
        set applied = ?2, granted = case when ?5 then p.seq else granted end, seen_at = unixepoch()
        from cf_position p
        where cf_replicas.id = ?1 and p.id = 1 and p.seq - ?2 between 0 and ?4
            and ((p.seq = ?2 and p.change = ?3)
                or exists (select 1 from cf_changes c where c.seq = ?2 and c.change = ?3))",
        id,
        applied.seq,
        applied.change,
        BEHIND_MAX,
        leases
    )
    .execute(&mut *tx)
    .await?;
    if renewed.rows_affected() == 0 {
        tx.rollback().await?;
        return Ok(None);
    }
    let noted = sqlx::query_as!(
        Noted,
        r#"select p.seq, p.change as "change: Uuid", c.kind as "kind?", c.target as "target?"
        from cf_position p left join cf_changes c on c.seq > ?1 and c.seq <= p.seq
        where p.id = 1 order by c.seq"#,
        applied.seq
    )
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    rows::news(noted)
}

/// Where the changes of a transaction stand, as the last thing that it does. Triggers have noted them.
pub(super) async fn mark(connection: &mut SqliteConnection) -> Result<Mark, sqlx::Error> {
    let noted = sqlx::query!(
        r#"/* sqlite */ select seq, change as "change: Uuid", roll as "roll: Uuid" from cf_position where id = 1"#
    )
    .fetch_one(connection)
    .await?;
    Ok(Mark { position: Position { seq: noted.seq, change: noted.change }, roll: noted.roll })
}

/// Where the log stands before the changes of a transaction.
pub(super) async fn place(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!("/* sqlite */ select seq from cf_position where id = 1").fetch_one(connection).await
}

/// Moves the position behind what was noted without a trigger, `places` changes of which the last is `change`.
pub(super) async fn move_position(
    connection: &mut SqliteConnection,
    places: i64,
    change: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "/* sqlite */ update cf_position set seq = seq + ?1, change = ?2 where id = 1 and ?1 > 0",
        places,
        change
    )
    .execute(connection)
    .await?;
    Ok(())
}
