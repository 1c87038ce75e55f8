//! Half of a large table is purged while strict checks go on, and a server starts on it.

use std::path::Path;
use std::time::Instant;

use sqlx::{Connection, Executor};

use crate::library::{self, Replica, Token};
use crate::postgres::settle;
use crate::protected::answers_are_right;
use crate::rows::Rows;
use crate::server::Server;
use crate::setup::Setup;
use crate::statistics::ratio;
use crate::table::{MILLIS, PER_SECOND, Reach, Table, Unit};
use crate::wrk::Requests;
use crate::{Bench, Outcome};

/// The database that is only copied.
const HELD: &str = "held";
/// Connections that check: few, since 99 of a hundred checks wait for the CPU alone where there are many.
const CHECKING: u32 = 8;
/// Tokens that the checks are made with.
const TOKENS_MAX: usize = 20_000;
/// Pairs of measurements, with and without purge, while one copy of the table is purged of at most half of what is due.
const PAIRS_MAX: usize = 5;

pub(crate) async fn measure(bench: &Bench, table: &mut Table) -> Outcome<()> {
    let folder = bench.folder("purge")?;
    let setup = Setup::new(&bench.postgres.create(HELD).await?, &folder).with("purge.every", "off");
    let replica = Replica::open(&setup).await?;
    let due = bench.options.held / 2;
    bench.say("purge", format!("{} records, {due} of them expired", bench.options.held));
    let mut connection = bench.postgres.connect(HELD).await?;
    Rows::expired(due).load_postgres(&mut connection).await?;
    Rows::live(bench.options.held - due).load_postgres(&mut connection).await?;
    let tokens = library::issue(&replica.registry, bench.options.tokens.min(TOKENS_MAX)).await?;
    settle(&mut connection).await?;
    connection.close().await?;
    replica.close().await;

    if bench.options.wants("purge") {
        while_purged(bench, table, &folder, &setup, &tokens).await?;
    }
    if bench.options.wants("start") {
        start(bench, table, &setup)?;
    }
    bench.postgres.drop_database(HELD).await
}

/// What the rounds gave.
#[derive(Default)]
struct Measured {
    quiet_p99: Vec<f64>,
    purged_p99: Vec<f64>,
    purge_rate: Vec<f64>,
    delete_rate: Vec<f64>,
}

async fn while_purged(bench: &Bench, table: &mut Table, folder: &Path, setup: &Setup, tokens: &[Token]) -> Outcome<()> {
    let texts: Vec<String> = tokens.iter().map(|token| token.text.clone()).collect();
    let requests = Requests::with_tokens(folder.join("protected"), "GET", "/protected", &texts)?;
    let mut measured = Measured::default();
    let rounds = bench.options.rounds_up_to(3);
    for round in 0..rounds {
        bench.say("purge", format!("round {} of {rounds}", round + 1));
        let deleted = format!("deleted_{round}");
        bench.postgres.copy(HELD, &deleted).await?;
        measured.delete_rate.push(delete(bench, &deleted).await?);
        bench.postgres.drop_database(&deleted).await?;

        let purged = format!("purged_{round}");
        bench.postgres.copy(HELD, &purged).await?;
        purge(bench, &mut measured, &purged, setup, &requests, &tokens[0]).await?;
        bench.postgres.drop_database(&purged).await?;
    }
    table.ratio(
        format!("strict checks on {CHECKING} connections while records are purged, p99"),
        MILLIS,
        &measured.purged_p99,
        ("without purge", &measured.quiet_p99),
        Reach::AtMost(1.5),
    );
    table.ratio(
        "records purged, pauses excluded",
        PER_SECOND,
        &measured.purge_rate,
        ("one bare DELETE of as many", &measured.delete_rate),
        Reach::AtLeast(0.3),
    );
    Ok(())
}

/// One bare DELETE of what has expired, and of the sessions that are empty with it: the rows that the purge removes.
async fn delete(bench: &Bench, database: &str) -> Outcome<f64> {
    let mut connection = bench.postgres.connect(database).await?;
    connection.execute("checkpoint").await?;
    let began = Instant::now();
    let mut tx = connection.begin().await?;
    let tokens = tx.execute("delete from cf_tokens where expires_at < extract(epoch from now())").await?;
    tx.execute("delete from cf_sessions where expires_at < extract(epoch from now())").await?;
    tx.commit().await?;
    let rate = ratio(usize::try_from(tokens.rows_affected())?, 1) / began.elapsed().as_secs_f64();
    connection.close().await?;
    Ok(rate)
}

/// Checks with and without the purge in turn, until half of what is due has gone; then the purge of the rest by itself,
/// which is compared with the DELETE.
async fn purge(
    bench: &Bench,
    measured: &mut Measured,
    database: &str,
    setup: &Setup,
    requests: &Requests,
    live: &Token,
) -> Outcome<()> {
    let seconds = bench.options.seconds;
    let setup = setup.clone().with("database_url", bench.postgres.url(database));
    let server = Server::counterfoil(&setup.clone().strict())?;
    // Each run of it ends with the measurement that it runs beside.
    let beside = Replica::open(&setup.clone().with("purge.budget", format!("{seconds}s"))).await?;
    answers_are_right(&server, &beside.registry, live).await?;
    requests.send(server.port, CHECKING, seconds)?;
    let due = beside.registry.purgeable().await?;
    let mut left = due;
    for _ in 0..PAIRS_MAX {
        let quiet = requests.send(server.port, CHECKING, seconds)?;
        let registry = beside.registry.clone();
        let purging = tokio::spawn(async move { registry.purge().await });
        let purged = requests.send(server.port, CHECKING, seconds)?;
        let gone = purging.await??;
        measured.quiet_p99.push(quiet.p99_millis);
        measured.purged_p99.push(purged.p99_millis);
        left -= gone.tokens;
        if gone.complete || left < due / 2 {
            break;
        }
    }
    server.stop()?;
    beside.close().await;
    if left == 0 {
        // So few that there is no rate to speak of.
        return Ok(());
    }

    // Pauses are excluded, so they may be as short as they like.
    let alone = Replica::open(&setup.with("purge.budget", "1h").with("purge.pause", "20ms")).await?;
    bench.postgres.connect(database).await?.execute("checkpoint").await?;
    let began = Instant::now();
    let gone = alone.registry.purge().await?;
    let took = began.elapsed().saturating_sub(gone.rested);
    if !gone.complete || gone.tokens != left {
        return Err(format!("{} records were purged, and not {left}", gone.tokens).into());
    }
    measured.purge_rate.push(ratio(usize::try_from(gone.tokens)?, 1) / took.as_secs_f64());
    alone.close().await;
    Ok(())
}

fn start(bench: &Bench, table: &mut Table, setup: &Setup) -> Outcome<()> {
    let mut took = Vec::new();
    for _ in 0..bench.options.rounds_up_to(10) {
        let server = Server::counterfoil(setup)?;
        took.push(server.took.as_secs_f64() * 1_000.0);
        server.stop()?;
    }
    let figure = format!("start to ready with {} records", bench.options.held);
    table.value(figure, Unit(" ms", 0), &took, Reach::AtMost(1_000.0));
    Ok(())
}
