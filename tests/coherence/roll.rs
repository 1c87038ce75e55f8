//! Who is on the roll of replicas, what each is said to know, and what is told of it.

use std::process::Command;
use std::time::{Duration, Instant};

use counterfoil::Actor;

use super::remembers;
use crate::support::console::Visitor;
use crate::support::forge::{jti_of, kid_of, sid_of};
use crate::support::process::{Home, PATIENCE};
use crate::support::server::{at_once, until, until_leased};
use crate::support::{Database, Server, on_both, postgres};

async fn revoke(server: &Server, token: &str) {
    server.registry.revoke(jti_of(token).parse().unwrap(), Actor::application("test")).await.unwrap();
}

/// Revokes a token, does something else when that is in force here, and lets the leases of others pass as long as it
/// waits.
async fn revoke_in_time(server: &Server, token: &str, meanwhile: &str) {
    let (registry, jti) = (server.registry.clone(), jti_of(token).parse().unwrap());
    let revoking = tokio::spawn(async move { registry.revoke(jti, Actor::application("test")).await });
    until("it is in force", async || server.protected(token).await.status == 401).await;
    server.sql(meanwhile).await;
    let began = Instant::now();
    while !revoking.is_finished() {
        assert!(began.elapsed() < PATIENCE, "it waits for ever");
        server.advance(10);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    revoking.await.unwrap().unwrap();
}

/// Waits until this is so of one replica and the position.
async fn until_so(server: &Server, so: &str) {
    let count = format!("select count(*) from cf_replicas r, cf_position p where {so}");
    until(so, async || server.count(&count).await == 1).await;
}

async fn metric(server: &Server, name: &str) -> f64 {
    let text = server.registry.metrics_text().await.unwrap();
    let start = format!("{name} ");
    text.lines().find_map(|line| line.strip_prefix(&start)).expect("it is there").parse().unwrap()
}

on_both! {
    async fn what_a_server_takes_back_itself_it_has_forgotten_when_it_answers(database: Database) {
        // So seldom does it look at the log that it does not hear of it there.
        let seldom = |settings| at_once(settings).set("lease", "60s").set("poll", "10s").set("listen", false);
        let server = Server::start(database, seldom).await;
        until_leased(&server).await;
        let (registry, by) = (&server.registry, || Actor::application("test"));
        let remembered = async || {
            let token = server.issue("alice", "").await.access;
            remembers(&server, &token).await;
            token
        };
        let token = remembered().await;
        registry.revoke(jti_of(&token).parse().unwrap(), by()).await.unwrap();
        server.refuses(&token, "token_revoked").await;
        // Nor did it wait until it heard.
        assert_eq!(server.count("select count(*) from cf_replicas r, cf_position p where r.applied < p.seq").await, 1);

        let token = remembered().await;
        registry.end_session(sid_of(&token).parse().unwrap(), by()).await.unwrap();
        server.refuses(&token, "token_revoked").await;

        let token = remembered().await;
        registry.revoke_all(&"alice".parse().unwrap(), None, by()).await.unwrap();
        server.refuses(&token, "token_revoked").await;

        let token = remembered().await;
        let retire = format!("/console/admin/keys/{}/retire", kid_of(&token));
        Visitor::admin(&server).await.post(&server, &retire, &[("reason", "")]).await.see_other();
        server.refuses(&token, "token_revoked").await;
    }

    async fn one_who_was_gone_and_comes_back_with_a_backup_is_waited_for(server: Server) {
        until_leased(&server).await;
        server.add_gone(60_000).await;
        server.sql("create table backup as select r.*, p.roll from cf_replicas r, cf_position p where r.name = 'gone'").await;
        let on_the_roll = async || server.count("select count(*) from cf_replicas").await;
        let revoke = async || revoke_in_time(&server, &server.issue("alice", "").await.access, "").await;
        revoke().await;
        assert_eq!(on_the_roll().await, 1);
        // Now it knows to be alone, and looks no more.
        for _ in 0..2 {
            revoke().await;
        }
        let columns = "id, name, lease_ms, applied, granted, joined_at, seen_at";
        server.sql(&format!("insert into cf_replicas ({columns}) select {columns} from backup")).await;
        server.sql("update cf_position set roll = (select roll from backup)").await;
        assert_eq!(on_the_roll().await, 2);
        revoke().await;
        // It has looked, and waited.
        assert_eq!(on_the_roll().await, 1);
    }

    async fn who_finds_nothing_left_to_change_waits_as_well(server: Server) {
        until_leased(&server).await;
        let token = server.issue("alice", "").await.access;
        revoke(&server, &token).await;
        server.add_gone(60_000).await;
        server.sql("update cf_replicas set applied = applied - 1, granted = granted - 1 where name = 'gone'").await;
        revoke_in_time(&server, &token, "").await;
        // It has waited, and marked it out.
        assert_eq!(server.count("select count(*) from cf_replicas").await, 1);
    }

    async fn nobody_is_marked_out_who_was_told_meanwhile_or_in_another_history(server: Server) {
        until_leased(&server).await;
        server.add_gone(60_000).await;
        let random = server.random_id();
        let told = "update cf_replicas set granted = granted + 1 where name = 'gone'";
        let other = format!("update cf_changes set change = {random}; update cf_position set change = {random}");
        for meanwhile in [told, &other] {
            revoke_in_time(&server, &server.issue("alice", "").await.access, meanwhile).await;
            assert_eq!(server.count("select count(*) from cf_replicas where name = 'gone'").await, 1);
        }
        revoke_in_time(&server, &server.issue("alice", "").await.access, "").await;
        assert_eq!(server.count("select count(*) from cf_replicas where name = 'gone'").await, 0);
    }

    async fn the_roll_says_with_which_changes_a_lease_was_given(database: Database) {
        let server = Server::start(database, |settings| settings.set("lease", "60s")).await;
        until_leased(&server).await;
        revoke(&server, &server.issue("alice", "").await.access).await;
        // News give none.
        until_so(&server, "r.applied = p.seq").await;
        until_so(&server, "r.granted < p.seq").await;
        server.advance(15);
        until_so(&server, "r.granted = p.seq").await;
    }

    async fn another_history_is_noticed_whether_it_is_longer_or_not(server: Server) {
        until_leased(&server).await;
        let random = server.random_id();
        let others = format!("update cf_changes set change = {random}");
        // Of the same length; a longer one; and so much longer that it is as good as another.
        for (change, more) in [("delete from cf_changes", 0), (others.as_str(), 1), ("select 1", 10_001)] {
            revoke(&server, &server.issue("alice", "").await.access).await;
            until_so(&server, "r.applied = p.seq").await;
            server.sql("drop table if exists before; create table before as select id from cf_replicas").await;
            let position = format!("update cf_position set seq = seq + {more}, change = {random}");
            server.sql(&format!("begin; {change}; {position}; commit")).await;
            until_so(&server, "r.id not in (select id from before)").await;
            // In the place of the one it had.
            assert_eq!(server.count("select count(*) from cf_replicas").await, 1);
        }
    }

    async fn how_it_stands_with_the_log_is_measured(database: Database) {
        let one = Server::start(database, |settings| settings).await;
        let other = one.another(|settings| settings).await;
        let strict = one.another(|settings| settings.set("consistency", "strict")).await;
        for server in [&one, &other] {
            until_leased(server).await;
        }
        revoke(&one, &one.issue("alice", "").await.access).await;
        one.advance(100);
        for server in [&one, &other] {
            until_leased(server).await;
            until("it is not behind", async || {
                metric(server, "counterfoil_changes_behind").await <= 0.0
                    && metric(server, "counterfoil_database_silence_seconds").await < 100.0
            })
            .await;
            assert!((metric(server, "counterfoil_replicas").await - 2.0).abs() < 0.1);
        }
        assert!((metric(&one, "counterfoil_acknowledge_seconds_count").await - 1.0).abs() < 0.1);
        assert!(metric(&strict, "counterfoil_leased").await < 0.1);
    }

    async fn the_log_says_who_is_waited_for_and_who_no_longer(server: Server) {
        let token = server.issue("alice", "").await.access;
        server.add_gone(1_000).await;
        let log = server.command_with(&[("RUST_LOG", "warn")], &["token", "revoke", &jti_of(&token)], "").ok().err;
        for said in ["a change waits for replicas that", "a change waits no longer for replicas that"] {
            assert!(log.lines().any(|line| line.contains(said) && line.contains("gone")), "{log}");
        }
    }
}

/// A renewal that was given up goes on in the server, and may come after one that told more.
#[test]
fn a_renewal_takes_back_nothing_that_another_has_told() {
    crate::support::run(async {
        let server = Server::start(Database::Postgres, |settings| settings).await;
        until_leased(&server).await;
        server.sql("update cf_replicas set granted = granted + 1").await;
        server.advance(2);
        until_leased(&server).await;
        assert_eq!(
            server.count("select count(*) from cf_replicas r, cf_position p where r.granted = p.seq + 1").await,
            1
        );
    });
}

/// PostgreSQL wakes whoever has to hear, and it says at once that it has.
#[test]
fn whoever_has_to_hear_of_a_change_need_not_look_for_it() {
    crate::support::run(async {
        let one = Server::start(Database::Postgres, |settings| settings).await;
        let other = one.another(|settings| settings.set("lease", "60s").set("poll", "10s")).await;
        until_leased(&one).await;
        until_leased(&other).await;
        let began = Instant::now();
        for _ in 0..3 {
            let token = one.issue("alice", "").await.access;
            revoke(&one, &token).await;
            one.registry.end_session(sid_of(&token).parse().unwrap(), Actor::application("test")).await.unwrap();
        }
        // It has looked by itself twice at most.
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    });
}

/// Where the database writes nothing to its disk that nobody waits for, the place on the roll is there after a crash,
/// and what its lease was given with.
#[test]
fn what_a_lease_rests_on_outlasts_a_crash() {
    crate::support::run(async {
        let cluster = postgres::Cluster::start();
        cluster.sql("postgres", "alter system set wal_writer_delay = '10s'");
        cluster.sql("postgres", "select pg_reload_conf()");
        for name in ["joined", "told"] {
            let url = cluster.create(name);
            cluster.sql("postgres", &format!("alter database {name} set synchronous_commit = off"));
            let server = Server::start_on(url, |settings| settings.set("lease", "60s")).await;
            until_leased(&server).await;
            if name == "told" {
                revoke(&server, &server.issue("alice", "").await.access).await;
                server.advance(15);
                until_so(&server, "r.granted = p.seq and p.seq > 0").await;
            }
            let place = || cluster.sql(name, "select id, granted from cf_replicas");
            let before = place();
            cluster.kill();
            cluster.start_again();
            assert_eq!(place(), before);
        }
    });
}

#[test]
fn a_server_that_has_lost_its_place_says_so() {
    let home = Home::sqlite();
    let serving = home.serve();
    let until = |what: &dyn Fn() -> bool, why: &str| {
        let began = Instant::now();
        while !what() {
            assert!(began.elapsed() < PATIENCE, "{why}: {}", serving.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until(&|| home.run(&["replicas", "--json"]).ok().json() != serde_json::json!([]), "it does not join");
    let removed =
        Command::new("sqlite3").arg(home.path("registry.db")).arg("delete from cf_replicas").status().unwrap();
    assert!(removed.success());
    until(&|| serving.log().contains("has no place on the roll of replicas any more"), "it does not say so");
}
