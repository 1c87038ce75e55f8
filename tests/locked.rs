//! What somebody else has locked in PostgreSQL, for as long as they like: it holds up what needs it, and nothing
//! besides.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use counterfoil::Actor;
use sqlx::Connection;
use sqlx::postgres::{PgConnection, PgTransaction};

use crate::support::forge::jti_of;
use crate::support::process::PATIENCE;
use crate::support::server::{until, until_leased};
use crate::support::{Database, Server, run};

async fn session(server: &Server) -> PgConnection {
    PgConnection::connect(server.database_url()).await.unwrap()
}

/// Begins a transaction that holds what this locks.
async fn locked<'s>(session: &'s mut PgConnection, sql: &'static str) -> PgTransaction<'s> {
    let mut transaction = session.begin().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut *transaction).await.unwrap();
    transaction
}

async fn two_servers() -> (Server, Server) {
    let one = Server::start(Database::Postgres, |settings| settings).await;
    let other = one.another(|settings| settings).await;
    until_leased(&one).await;
    until_leased(&other).await;
    (one, other)
}

/// One revokes a token that the other has accepted.
async fn revoke(one: &Server, other: &Server) {
    let token = one.issue("alice", "").await.access;
    other.accepts(&token).await;
    one.registry.revoke(jti_of(&token).parse().unwrap(), Actor::application("test")).await.unwrap();
    for server in [one, other] {
        server.refuses(&token, "token_revoked").await;
    }
}

#[test]
fn a_place_on_the_roll_holds_up_no_revocation_for_longer_than_a_lease() {
    run(async {
        let (one, other) = two_servers().await;
        let mut session = session(&one).await;
        let held = locked(&mut session, "select from cf_replicas for update").await;
        for _ in 0..3 {
            revoke(&one, &other).await;
        }
        held.rollback().await.unwrap();
        until_leased(&other).await;
        revoke(&one, &other).await;
    });
}

#[test]
fn whoever_has_lost_a_place_on_the_roll_that_is_locked_gets_another() {
    run(async {
        let (one, other) = two_servers().await;
        let mut session = session(&one).await;
        let held = locked(&mut session, "select from cf_replicas for update").await;
        // The history is another one.
        one.sql("delete from cf_changes").await;
        one.sql("update cf_position set change = gen_random_uuid()").await;
        until("both join anew", async || one.count("select count(*) from cf_replicas").await == 4).await;
        revoke(&one, &other).await;
        held.rollback().await.unwrap();
    });
}

/// Whoever gives up takes along what waits in the server.
#[test]
fn a_table_that_is_locked_does_not_gather_connections() {
    run(async {
        let server = Server::start(Database::Postgres, |settings| settings).await;
        until_leased(&server).await;
        let mut session = session(&server).await;
        let mut held = locked(&mut session, "lock table cf_changes, cf_replicas in access exclusive mode").await;
        let (mut tried, began) = (HashSet::new(), Instant::now());
        while tried.len() < 4 {
            let waiting =
                "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
            let waiting: Vec<i32> = sqlx::query_scalar(waiting).fetch_all(&mut *held).await.unwrap();
            assert!(waiting.len() <= 2, "{} wait", waiting.len());
            tried.extend(waiting);
            assert!(began.elapsed() < PATIENCE, "it does not try again: {tried:?}");
            // As of now, not as of the first look.
            sqlx::raw_sql("select pg_stat_clear_snapshot()").execute(&mut *held).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        held.rollback().await.unwrap();
        until_leased(&server).await;
    });
}
