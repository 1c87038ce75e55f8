//! Revoking over HTTP, acknowledged, beside a bare route.

use counterfoil::Jti;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::library::{self, Replica};
use crate::postgres::settle;
use crate::protected::answers_are_right;
use crate::rows::Rows;
use crate::server::Server;
use crate::setup::Setup;
use crate::table::{PER_SECOND, Reach, Table};
use crate::wrk::{CONNECTIONS, Requests};
use crate::{Bench, Outcome};

/// Revocations in the second that shows how many tokens are needed.
const TRIED: usize = 40_000;

pub(crate) async fn measure(bench: &Bench, table: &mut Table) -> Outcome<()> {
    let folder = bench.folder("revoke-http")?;
    let setup = Setup::new(&bench.postgres.create("revoke_http").await?, &folder);
    let replica = Replica::open(&setup).await?;
    let server = Server::counterfoil(&setup)?;
    let bare = Server::bare("")?;
    let actor = library::issue(&replica.registry, 1).await?.remove(0);
    answers_are_right(&server, &replica.registry, &actor).await?;
    let checked = replica.registry.check(&actor.text, counterfoil::Expect::access()).await;
    let subject = checked.map_err(|denial| format!("{denial:?}"))?.subject().as_str().to_owned();
    // From here on the server is the only replica.
    replica.close().await;

    let mut connection = bench.postgres.connect("revoke_http").await?;
    let line = |jti: &Uuid| format!("PUT\t/auth/tokens/revoke/{jti}\tBearer {}\t", actor.text);
    let live = more_live(&mut connection, &subject, actor.jti, TRIED).await?;
    let tried = Requests::write(folder.join("tried"), live.iter().map(line))?.once();
    let in_a_second = tried.send(server.port, CONNECTIONS, 1)?.requests;
    // Three times what that second lets expect, which may have been a slow one; and what is under way at the end.
    let in_a_round = usize::try_from(bench.options.seconds)? * in_a_second.max(1_000) * 3 + CONNECTIONS as usize;
    bench.say("revoke-http", format!("{in_a_round} live tokens for each round"));
    let live = more_live(&mut connection, &subject, actor.jti, in_a_round * bench.options.rounds).await?;

    let (mut own, mut base) = (Vec::new(), Vec::new());
    for (round, live) in live.chunks(in_a_round).enumerate() {
        bench.say("revoke-http", format!("round {} of {}", round + 1, bench.options.rounds));
        let requests = Requests::write(folder.join("round"), live.iter().map(line))?;
        base.push(requests.send(bare.port, CONNECTIONS, bench.options.seconds)?.per_second);
        let before = revoked(&mut connection).await?;
        let loaded = requests.once().send(server.port, CONNECTIONS, bench.options.seconds)?;
        let changed = usize::try_from(revoked(&mut connection).await? - before)?;
        assert!(changed >= loaded.requests, "{} revocations, and {changed} records revoked", loaded.requests);
        own.push(loaded.per_second);
    }
    table.ratio(
        "revoke over HTTP (acknowledged, 64 connections, one replica, PostgreSQL)",
        PER_SECOND,
        &own,
        ("a bare PUT route", &base),
        Reach::AtLeast(0.15),
    );
    server.stop()?;
    connection.close().await?;
    bench.postgres.drop_database("revoke_http").await
}

/// Adds live tokens of this subject, and gives as many that are not the one it acts with.
async fn more_live(connection: &mut PgConnection, subject: &str, actor: Jti, count: usize) -> Outcome<Vec<Uuid>> {
    Rows::live(count).of(subject).load_postgres(connection).await?;
    settle(connection).await?;
    let live = sqlx::query_scalar(
        "select jti from cf_tokens where subject = $1 and revoked_at is null and jti <> $2 limit $3",
    );
    Ok(live.bind(subject).bind(actor.as_uuid()).bind(i64::try_from(count)?).fetch_all(connection).await?)
}

async fn revoked(connection: &mut PgConnection) -> Outcome<i64> {
    let count = sqlx::query_scalar("select count(*) from cf_tokens where revoked_at is not null");
    Ok(count.fetch_one(connection).await?)
}
