//! The log of changes, and the roll of the replicas that follow it.

use sqlx::postgres::{PgConnection, PgListener, PgPool};
use uuid::Uuid;

use super::Postgres;
use crate::store::rows::{self, BEHIND_MAX, Noted, RollRow};
use crate::token::{Mark, Position, Renewal, Roll};

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
        // The position is locked first here, unlike in a change, which locks no replica's row.
        let position = sqlx::query_as!(
            Position,
            r#"with place as (
                update cf_position set roll = gen_random_uuid() where id = 1 returning seq, change
            ), gone as (
                delete from cf_replicas where id = $4
            ), kept as (
                select set_config('synchronous_commit', 'on', true)
                where current_setting('synchronous_commit') in ('off', 'local', 'remote_write')
            ), joined as (
                insert into cf_replicas (id, name, lease_ms, applied, granted, joined_at, seen_at)
                select $1, $2, $3, p.seq, p.seq, extract(epoch from now())::bigint, extract(epoch from now())::bigint
                from place p left join kept on true
            )
            select seq as "seq!", change as "change!" from place"#,
            id,
            name,
            lease_ms,
            instead_of
        )
        .fetch_one(&self.follower)
        .await?;
        Ok(position)
    }

    pub(super) async fn renew(&self, id: Uuid, applied: Position) -> Result<Option<Renewal>, sqlx::Error> {
        // One statement, so one snapshot. It may be an old one: a renewal that was given up goes on in the server, and must
        // not take back what a later one has told. What it says to have told must be as durable as the lease that rests on it: only
        // a renewal that tells nothing new may be lost in a crash.
        let noted = sqlx::query_as!(
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
        )
        .fetch_all(&self.follower)
        .await?;
        rows::renewal(noted)
    }

    pub(super) async fn position(&self) -> Result<Position, sqlx::Error> {
        sqlx::query_as!(Position, "/* postgres */ select seq, change from cf_position where id = 1")
            .fetch_one(&self.follower)
            .await
    }

    pub(super) async fn leave(&self, id: Uuid) -> Result<(), sqlx::Error> {
        sqlx::query!("delete from cf_replicas where id = $1", id).execute(&self.follower).await?;
        Ok(())
    }

    pub(super) async fn roll(&self) -> Result<Roll, sqlx::Error> {
        let found = sqlx::query_as!(
            RollRow,
            r#"/* postgres */ select p.seq, p.change, p.roll, r.id as "id?", r.name as "name?", r.lease_ms as "lease_ms?",
                r.applied as "applied?", r.granted as "granted?", r.joined_at as "joined_at?", r.seen_at as "seen_at?"
            from cf_position p left join cf_replicas r on true
            where p.id = 1
            order by r.joined_at, r.id"#
        )
        .fetch_all(&self.pool)
        .await?;
        rows::roll(found)
    }

    pub(super) async fn mark_out(&self, ids: &[Uuid], untold: Position) -> Result<(), sqlx::Error> {
        // Looked at again with each row locked: one that renews just now has been told, and stays. In another history, as
        // after a restored backup, the number means another change, and nobody goes. The roll gets another id, so that who
        // was alone without them looks again, should they come back with a backup or a crash.
        sqlx::query!(
            "with place as (
                update cf_position set roll = gen_random_uuid()
                where id = 1 and exists (select from cf_changes where seq = $2 and change = $3) returning id
            )
            delete from cf_replicas where id = any($1) and granted < $2 and exists (select from place)",
            ids,
            untold.seq,
            untold.change
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(super) async fn purge_changes(&self, cutoff: i64, rows_max: u32) -> Result<u64, sqlx::Error> {
        // The last one stays: it is where all replicas stand.
        let gone = sqlx::query!(
            "delete from cf_changes where seq in (
                select seq from cf_changes
                where at < $1 and seq < (select seq from cf_position where id = 1)
                order by at limit $2
            )",
            cutoff,
            i64::from(rows_max)
        )
        .execute(&self.pool)
        .await?;
        Ok(gone.rows_affected())
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
            // Without a word the connection was lost, and words with it: that too is a reason to look.
            let is_kept = listener.try_recv().await?.is_some();
            *listening = is_kept.then_some(listener);
            Ok::<_, sqlx::Error>(())
        });
        matches!(heard.await, Ok(Ok(())))
    }
}

async fn listen(pool: &PgPool) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Notes what others have to forget, all of one kind, as the last thing that a transaction does: the position stays locked
/// until its end.
pub(super) async fn note_change(
    connection: &mut PgConnection,
    kind: &str,
    target: &str,
    now: i64,
) -> Result<Mark, sqlx::Error> {
    let noted = sqlx::query!(
        r#"with place as (
            update cf_position set seq = seq + 1, change = gen_random_uuid() where id = 1 returning seq, change, roll
        ), noted as (
            insert into cf_changes (seq, change, kind, target, at) select seq, change, $1, $2, $3 from place
        ), woken as (
            select pg_notify('counterfoil', '') from place
        )
        select p.seq as "seq!", p.change as "change!", p.roll as "roll!" from place p cross join woken"#,
        kind,
        target,
        now
    )
    .fetch_one(connection)
    .await?;
    Ok(Mark { position: Position { seq: noted.seq, change: noted.change }, roll: noted.roll })
}
