//! Revoking until every replica has taken note: this process is one of them, the others are real servers.

use std::error::Error;
use std::time::{Duration, Instant};

use counterfoil::{Actor, Jti, Registry};
use sqlx::{Executor, PgConnection};
use uuid::Uuid;

use crate::library::{self, Replica};
use crate::postgres::settle;
use crate::protected::answers_are_right;
use crate::rows::Rows;
use crate::server::Server;
use crate::setup::Setup;
use crate::statistics::percentile;
use crate::table::{MILLIS, Reach, Table};
use crate::{Bench, Outcome};

/// The lease as shipped.
const LEASE: Duration = Duration::from_secs(2);
/// How long replicas may take to join.
const JOIN_LIMIT: Duration = Duration::from_secs(20);
/// Replicas altogether, and how many times its own commit a revocation may take.
const HEALTHY: [(usize, f64); 3] = [(1, 1.3), (3, 3.5), (8, 7.0)];
const SUBJECT: &str = "bench";

/// This process as a replica, the servers beside it, and live tokens to revoke.
struct Replicas {
    own: Replica,
    others: Vec<Server>,
    setup: Setup,
    connection: PgConnection,
    live: Vec<Uuid>,
}

impl Replicas {
    async fn start(bench: &Bench, database: &str, setup: Setup, count: usize) -> Outcome<Self> {
        let own = Replica::open(&setup).await?;
        let mut connection = bench.postgres.connect(database).await?;
        let needed = 2 * (bench.options.rounds + 2) * bench.options.revocations;
        Rows::live(needed.max(10_000)).of(SUBJECT).load_postgres(&mut connection).await?;
        settle(&mut connection).await?;
        let live = sqlx::query_scalar("select jti from cf_tokens where subject = $1 and revoked_at is null")
            .bind(SUBJECT)
            .fetch_all(&mut connection)
            .await?;
        let others = (1..count).map(|_| Server::counterfoil(&setup)).collect::<Outcome<Vec<Server>>>()?;
        let mut replicas = Self { own, others, setup, connection, live };
        replicas.until_joined(count).await?;
        let token = library::issue(&replicas.own.registry, 1).await?.remove(0);
        for server in &replicas.others {
            answers_are_right(server, &replicas.own.registry, &token).await?;
        }
        Ok(replicas)
    }

    /// Until so many replicas are on the roll.
    async fn until_joined(&mut self, count: usize) -> Outcome<()> {
        let began = Instant::now();
        loop {
            let joined: i64 =
                sqlx::query_scalar("select count(*) from cf_replicas").fetch_one(&mut self.connection).await?;
            if usize::try_from(joined)? == count {
                return Ok(());
            }
            if began.elapsed() > JOIN_LIMIT {
                return Err(format!("{joined} replicas are on the roll, and not {count}").into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn next(&mut self) -> Outcome<Uuid> {
        Ok(self.live.pop().ok_or("there are no live tokens left to revoke")?)
    }

    /// Revokes a token until that is acknowledged; in milliseconds.
    async fn revoke(&mut self) -> Outcome<f64> {
        let jti = Jti::from(self.next()?);
        let began = Instant::now();
        self.own.registry.revoke(jti, Actor::application("bench")).await?;
        Ok(millis(began.elapsed()))
    }

    /// Revokes tokens, and does the same by the bare statement, in turn; in milliseconds. In one task, as a request is
    /// answered: from outside of the runtime each answer would have to wake another thread.
    async fn in_turn(&mut self, bare: PgConnection, count: usize) -> Outcome<(PgConnection, Turns)> {
        let ids = (0..2 * count).map(|_| self.next()).collect::<Outcome<Vec<Uuid>>>()?;
        Ok(tokio::spawn(turns(self.own.registry.clone(), bare, ids)).await?.map_err(|error| error.to_string())?)
    }

    async fn stop(self) -> Outcome<()> {
        self.own.close().await;
        self.others.into_iter().try_for_each(Server::stop)
    }
}

/// How long each took, in milliseconds.
#[derive(Default)]
struct Turns {
    own: Vec<f64>,
    base: Vec<f64>,
}

async fn turns(
    registry: Registry,
    mut bare: PgConnection,
    ids: Vec<Uuid>,
) -> Result<(PgConnection, Turns), Box<dyn Error + Send + Sync>> {
    let mut turns = Turns::default();
    for (place, jti) in ids.into_iter().enumerate() {
        if place % 2 == 0 {
            turns.base.push(update(&mut bare, jti).await?);
            continue;
        }
        let began = Instant::now();
        registry.revoke(Jti::from(jti), Actor::application("bench")).await?;
        turns.own.push(millis(began.elapsed()));
    }
    Ok((bare, turns))
}

/// The bare statement, committed by itself; in milliseconds.
async fn update(connection: &mut PgConnection, jti: Uuid) -> Result<f64, sqlx::Error> {
    let began = Instant::now();
    let changed = sqlx::query(
        "update cf_tokens set revoked_at = $2, revoked_by_kind = 'application', revoked_by = 'bench' where jti = $1",
    )
    .bind(jti)
    .bind(1_750_000_000_i64)
    .execute(connection)
    .await?;
    let took = began.elapsed();
    assert_eq!(changed.rows_affected(), 1, "the row is there");
    Ok(millis(took))
}

/// With all replicas healthy: woken by NOTIFY, and by polling alone.
pub(crate) async fn healthy(bench: &Bench, table: &mut Table) -> Outcome<()> {
    for (count, reach) in HEALTHY {
        for notified in [true, false] {
            if !notified && count == 1 {
                // Nobody is there to be notified.
                continue;
            }
            let name = format!("revoke_{count}_{}", if notified { "notified" } else { "polling" });
            let folder = bench.folder(&name)?;
            let setup = Setup::new(&bench.postgres.create(&name).await?, &folder);
            let setup = if notified { setup } else { setup.polling() };
            let mut replicas = Replicas::start(bench, &name, setup, count).await?;
            // What changes a row by plain SQL is a change as well, and would be made one by a trigger: that is no part
            // of the bare statement.
            let mut bare = bench.postgres.connect(&name).await?;
            bare.execute("set session_replication_role = replica").await?;
            (bare, _) = replicas.in_turn(bare, bench.options.revocations.min(20)).await?;
            let (mut own_p50, mut base_p50, mut all) = (Vec::new(), Vec::new(), Vec::new());
            for round in 0..bench.options.rounds {
                bench.say("revoke", format!("{name}, round {} of {}", round + 1, bench.options.rounds));
                let (back, Turns { mut own, base }) = replicas.in_turn(bare, bench.options.revocations).await?;
                bare = back;
                own_p50.push(percentile(&own, 0.5));
                base_p50.push(percentile(&base, 0.5));
                all.append(&mut own);
            }
            drop(bare);
            replicas.stop().await?;
            bench.postgres.drop_database(&name).await?;

            let how = if notified { "" } else { ", polling only" };
            let figure = |what: &str| format!("revoke until acknowledged, healthy replicas: {count}{how}, {what}");
            let (p50, p99) = match notified {
                true => (Reach::AtMost(reach), Reach::AtMost(25.0)),
                false => (Reach::Report, Reach::Report),
            };
            table.ratio(figure("p50"), MILLIS, &own_p50, ("bare UPDATE and commit", &base_p50), p50);
            let of = all.len();
            table.value(figure(&format!("p99 of {of}")), MILLIS, &[percentile(&all, 0.99)], p99);
        }
    }
    Ok(())
}

/// With one of three replicas gone without a word, and then again once it has been marked out.
pub(crate) async fn one_killed(bench: &Bench, table: &mut Table) -> Outcome<()> {
    let folder = bench.folder("revoke-killed")?;
    let setup = Setup::new(&bench.postgres.create("revoke_killed").await?, &folder);
    let mut replicas = Replicas::start(bench, "revoke_killed", setup, 3).await?;
    let (mut waited, mut after) = (Vec::new(), Vec::new());
    let rounds = bench.options.rounds_up_to(10);
    for round in 0..rounds {
        bench.say("revoke-killed", format!("round {} of {rounds}", round + 1));
        replicas.revoke().await?;
        replicas.others.pop().ok_or("there is no server to kill")?.kill()?;
        waited.push(replicas.revoke().await?);
        after.push(replicas.revoke().await?);
        replicas.others.push(Server::counterfoil(&replicas.setup)?);
        replicas.until_joined(3).await?;
    }
    replicas.stop().await?;
    bench.postgres.drop_database("revoke_killed").await?;
    let bound = millis(LEASE) + 250.0;
    let longest = percentile(&waited, 1.0);
    table.value("revoke, one of three replicas just killed", MILLIS, &waited, Reach::Report);
    table.value("revoke, one of three replicas just killed, the longest", MILLIS, &[longest], Reach::AtMost(bound));
    table.value("the next revocation after that", MILLIS, &after, Reach::AtMost(25.0));
    Ok(())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
