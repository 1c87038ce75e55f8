//! Several servers on one database: what one acknowledges is in force in all, and what they remember asks no database.

mod roll;

use std::time::{Duration, Instant};

use counterfoil::{Actor, ActorKind};
use serde_json::json;

use crate::support::console::Visitor;
use crate::support::forge::{jti_of, sid_of};
use crate::support::process::{Home, PATIENCE};
use crate::support::server::{until, until_leased};
use crate::support::{Database, Server, on_both, postgres};

/// How many checks this server has answered, from memory and by asking the database.
async fn answers(server: &Server) -> (u64, u64) {
    let text = server.registry.metrics_text().await.unwrap();
    let count = |from: &str| {
        let start = format!("counterfoil_check_answers_total{{from=\"{from}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse::<u64>().unwrap()
    };
    (count("memory"), count("database") + count("no_lease"))
}

/// Two servers on one database, and a token that both have in memory.
async fn two_who_remember(database: Database) -> (Server, Server, String) {
    let one = Server::start(database, |settings| settings).await;
    let other = one.another(|settings| settings).await;
    until_leased(&one).await;
    until_leased(&other).await;
    let token = one.issue("alice", "").await.access;
    for server in [&one, &other] {
        remembers(server, &token).await;
    }
    (one, other, token)
}

/// The server answers for this token from memory, after having asked once.
async fn remembers(server: &Server, token: &str) {
    server.accepts(token).await;
    let before = answers(server).await;
    server.accepts(token).await;
    let after = answers(server).await;
    assert_eq!((after.0, after.1), (before.0 + 1, before.1), "asked the database");
}

on_both! {
    async fn a_server_without_a_lease_says_that_it_answers_all_the_same(database: Database) {
        // So seldom does it ask for another lease that this one is over meanwhile.
        let server = Server::start(database, |settings| settings.set("lease", "60s").set("poll", "10s")).await;
        until_leased(&server).await;
        server.advance(60);
        let answer = server.get("/readyz").send().await;
        let said = json!({
            "error": "registry_unavailable", "reason": "lease",
            "msg": "Requests are answered, but by asking the database for each token",
        });
        assert_eq!((answer.status, answer.body_json()), (503, said));
        let token = server.issue("alice", "").await.access;
        server.accepts(&token).await;
    }

    async fn what_was_seen_before_is_answered_without_the_database(server: Server) {
        until_leased(&server).await;
        let token = server.issue("alice", "").await.access;
        remembers(&server, &token).await;
        // Its times are looked at all the same.
        server.advance(15 * 60);
        until_leased(&server).await;
        server.refuses(&token, "token_expired").await;
    }

    async fn a_token_that_one_server_revokes_is_refused_by_the_other_at_once(database: Database) {
        let (one, other, token) = two_who_remember(database).await;
        for round in 0..20 {
            let by = Actor::application("test");
            let jti = jti_of(&token).parse().unwrap();
            one.registry.revoke(jti, by.clone()).await.unwrap();
            other.refuses(&token, "token_revoked").await;
            one.refuses(&token, "token_revoked").await;
            one.registry.unrevoke(jti, by).await.unwrap();
            other.accepts(&token).await;
            assert!(round > 0 || answers(&other).await.0 > 0);
        }
    }

    async fn a_session_and_a_subject_end_everywhere_at_once(database: Database) {
        let (one, other, token) = two_who_remember(database).await;
        let second = one.issue("alice", "").await.access;
        remembers(&other, &second).await;
        one.registry.end_session(sid_of(&token).parse().unwrap(), Actor::application("test")).await.unwrap();
        other.refuses(&token, "token_revoked").await;
        other.accepts(&second).await;

        one.registry.revoke_all(&"alice".parse().unwrap(), None, Actor::application("test")).await.unwrap();
        other.refuses(&second, "token_revoked").await;
    }

    async fn a_user_loses_tokens_everywhere_at_once(database: Database) {
        let one = Server::start(database, |settings| settings).await;
        let other = one.another(|settings| settings).await;
        one.add_user("alice", "alice password", &["notes"]);
        let lose: [(&[&str], &str); 3] = [
            (&["user", "set", "alice", "--remove-scope", "notes"], ""),
            (&["user", "passwd", "alice"], "another password"),
            (&["user", "disable", "alice"], ""),
        ];
        let mut password = "alice password";
        for (command, input) in lose {
            let token = one.login_as("alice", password).await.access;
            other.accepts(&token).await;
            other.accepts(&token).await;
            one.command_ok(command, input);
            other.refuses(&token, "token_revoked").await;
            one.command_ok(&["user", "set", "alice", "--add-scope", "notes"], "");
            password = if input.is_empty() { password } else { input };
        }
    }

    async fn the_command_line_waits_for_the_servers(database: Database) {
        let (one, other, token) = two_who_remember(database).await;
        let jti = jti_of(&token);
        one.command_ok(&["token", "revoke", &jti], "");
        other.refuses(&token, "token_revoked").await;
        one.refuses(&token, "token_revoked").await;
        // Again, with nothing left to change.
        one.command_ok(&["token", "revoke", &jti], "");

        let listed: serde_json::Value = serde_json::from_str(&one.command_ok(&["replicas", "--json"], "")).unwrap();
        let listed = listed.as_array().unwrap();
        assert_eq!(listed.len(), 2, "{listed:?}");
        for replica in listed {
            assert_eq!(replica["lease_ms"], 2_000);
            assert!(replica["name"].as_str().unwrap().ends_with(&format!(":{}", std::process::id())), "{replica}");
        }
    }

    async fn plain_sql_is_noticed(database: Database) {
        let (one, _other, token) = two_who_remember(database).await;
        let (jti, sid) = (jti_of(&token), sid_of(&token));
        let id = |id: &str| match database {
            Database::Sqlite => format!("x'{}'", id.replace('-', "")),
            Database::Postgres => format!("'{id}'"),
        };
        let admin = one.login().await;
        let by = "revoked_by_kind = 'operator', revoked_by = 'sql'";
        let changes = [
            format!("update cf_tokens set revoked_at = 1, {by} where jti = {}", id(&jti)),
            "update cf_tokens set revoked_at = null, revoked_by_kind = null, revoked_by = null".to_owned(),
            format!("update cf_sessions set ended_at = 1, ended_by_kind = 'system', ended_by = 'sql' where sid = {}", id(&sid)),
            "update cf_sessions set ended_at = null, ended_by_kind = null, ended_by = null".to_owned(),
            "update cf_subjects set generation = generation + 1 where subject = 'alice'".to_owned(),
            "update cf_sessions set generation = 1 where subject = 'alice'".to_owned(),
            format!("delete from cf_tokens where jti = {}", id(&jti)),
        ];
        // What leaves everything as it was is no change, nor is what no check looks at.
        let position = async || one.count("select seq from cf_position").await;
        let mut before = position().await;
        one.sql("update cf_tokens set revoked_at = revoked_at, last_used_at = 1").await;
        one.sql("update cf_sessions set ended_at = ended_at, label = 'phone'").await;
        assert_eq!(position().await, before);
        for (place, change) in changes.iter().enumerate() {
            one.sql(change).await;
            let noted = position().await;
            assert!(noted > before, "not noted: {change}");
            before = noted;
            let due = if place % 2 == 0 { 401 } else { 200 };
            until(&format!("{change} is noticed"), async || one.protected(&token).await.status == due).await;
            // Whatever was said of it, or not, it is among the others in a list.
            one.get("/auth/all-tokens?subject=alice").bearer(&admin.access).send().await.ok(200);
            // Of a word that stands for nobody no user did it.
            if place == 0 {
                let revoked = one.registry.get(jti.parse().unwrap()).await.unwrap().revocation.unwrap();
                assert_eq!((revoked.by.kind, revoked.by.name.as_str()), (ActorKind::System, "sql"));
            }
        }
    }

    async fn what_plain_sql_lets_expire_sooner_is_refused_with_its_record_and_without(database: Database) {
        let (one, other, token) = two_who_remember(database).await;
        let strict = one.another(|settings| settings.set("consistency", "strict")).await;
        strict.accepts(&token).await;
        one.sql("update cf_tokens set expires_at = issued_at - 3600").await;
        strict.refuses(&token, "token_expired").await;
        for server in [&one, &other] {
            until("it is noticed", async || server.protected(&token).await.status == 401).await;
            server.refuses(&token, "token_expired").await;
        }
        one.command_ok(&["purge"], "");
        assert_eq!(one.count("select count(*) from cf_tokens where subject = 'alice'").await, 0);
        for server in [&one, &other, &strict] {
            server.refuses(&token, "token_unknown").await;
        }
    }

    async fn clients_that_are_removed_by_plain_sql_are_noticed(database: Database) {
        let server = Server::start(database, |settings| settings).await;
        let client = server.add_client("shop", &["--scope", "tokens:introspect"]);
        let ask = || server.post("/oauth/introspect").basic(&client).form(&[("token", "x")]).send();
        let remove = match database {
            Database::Sqlite => "delete from cf_clients",
            Database::Postgres => "truncate cf_clients cascade",
        };
        assert_eq!(ask().await.status, 200);
        server.sql(remove).await;
        until("it is noticed", async || ask().await.status == 401).await;
    }

    async fn what_a_row_refers_to_is_there(database: Database) {
        let server = Server::start(database, |settings| settings).await;
        let token = server.issue("alice", "").await.access;
        let random = server.random_id();
        let of_token = "token_type, issued_at, not_before, expires_at, scope, claims, granted, kid, imported";
        let of_session = "generation, created_at, last_seen_at, expires_at";
        let refused = [
            format!("insert into cf_tokens (jti, sid, subject, {of_token}) select {random}, {random}, subject, {of_token} from cf_tokens"),
            format!("insert into cf_sessions (sid, subject, {of_session}) select {random}, 'nobody', {of_session} from cf_sessions"),
            format!("update cf_tokens set sid = {random}"),
            "update cf_sessions set subject = 'nobody'".to_owned(),
            format!("update cf_sessions set sid = {random}"),
            "update cf_subjects set subject = 'nobody' where subject = 'alice'".to_owned(),
            "delete from cf_sessions".to_owned(),
            "delete from cf_subjects where subject = 'alice'".to_owned(),
        ];
        // SQLite has no such statement.
        let emptied = match database {
            Database::Sqlite => Vec::new(),
            Database::Postgres => ["truncate cf_sessions", "truncate cf_subjects cascade"].map(str::to_owned).to_vec(),
        };
        for change in refused.into_iter().chain(emptied) {
            let error = server.try_sql(&change).await.expect_err(&change);
            let kind = error.as_database_error().map(sqlx::error::DatabaseError::kind);
            assert!(matches!(kind, Some(sqlx::error::ErrorKind::ForeignKeyViolation)), "{change}: {error}");
        }
        server.accepts(&token).await;
        // In the right order it all goes.
        for table in ["cf_tokens", "cf_sessions", "cf_subjects"] {
            server.sql(&format!("delete from {table} where subject = 'alice'")).await;
        }
    }

    async fn what_is_looked_up_by_its_text_is_compared_by_its_bytes(database: Database) {
        let server = Server::start(database, |settings| settings).await;
        let otherwise = match database {
            Database::Sqlite => {
                "select count(*) from sqlite_schema s, pragma_index_xinfo(s.name) x where s.type = 'index' and x.coll <> 'BINARY'"
            }
            Database::Postgres => {
                "select count(*) from pg_index i, unnest(i.indcollation::oid[]) as by (rules)
                where i.indrelid::regclass::text like 'cf\\_%' and by.rules not in (0, '\"C\"'::regcollation)"
            }
        };
        assert_eq!(server.count(otherwise).await, 0);
    }

    async fn nobody_waits_twice_for_one_who_is_gone(server: Server) {
        let visitor = Visitor::admin(&server).await;
        until_leased(&server).await;
        server.add_gone(60_000).await;
        let pair = server.issue("alice", "").await;
        let (registry, jti) = (server.registry.clone(), jti_of(&pair.access).parse().unwrap());
        let revoking = tokio::spawn(async move { registry.revoke(jti, Actor::application("test")).await });
        // It is in force here long before it is acknowledged.
        until("it is in force", async || server.protected(&pair.access).await.status == 401).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!revoking.is_finished(), "nobody waited for the lease of the dead");
        server.advance(31);
        let named = "for <span class=\"code\">gone</span>";
        let is_named = async || visitor.page(&server, "/console/admin/replicas").await.contains(named);
        until("it is told who is waited for", is_named).await;
        server.advance(29);
        revoking.await.unwrap().unwrap();

        let again = server.issue("alice", "").await;
        let began = Instant::now();
        server.registry.revoke(jti_of(&again.access).parse().unwrap(), Actor::application("test")).await.unwrap();
        assert!(began.elapsed() < PATIENCE, "the dead was waited for again");
        assert_eq!(server.count("select count(*) from cf_replicas").await, 1);
    }

    async fn the_first_change_of_all_finds_who_joined_before_it(server: Server) {
        until_leased(&server).await;
        let on_the_roll = || -> serde_json::Value {
            serde_json::from_str(&server.command_ok(&["replicas", "--json"], "")).unwrap()
        };
        assert_eq!(server.count("select seq from cf_position").await, 0);
        let before = on_the_roll();
        let pair = server.issue("alice", "").await;
        server.registry.revoke(jti_of(&pair.access).parse().unwrap(), Actor::application("test")).await.unwrap();
        let applied = "select count(*) from cf_replicas r, cf_position p where r.applied = p.seq";
        until("the change is applied", async || server.count(applied).await == 1).await;
        // It has its place still.
        assert_eq!(on_the_roll()[0]["id"], before[0]["id"]);
        server.refuses(&pair.access, "token_revoked").await;
    }

    async fn whoever_joins_later_is_waited_for(database: Database) {
        let one = Server::start(database, |settings| settings).await;
        until_leased(&one).await;
        let revoke = async |token: &str| {
            one.registry.revoke(jti_of(token).parse().unwrap(), Actor::application("test")).await.unwrap();
        };
        // It knows to be alone, and does not look.
        revoke(&one.issue("alice", "").await.access).await;
        // So seldom does it look that it does not hear by itself before the answer.
        let other = one.another(|settings| settings.set("lease", "60s").set("poll", "1s").set("listen", false)).await;
        until_leased(&other).await;
        for _ in 0..3 {
            let token = one.issue("alice", "").await.access;
            remembers(&other, &token).await;
            revoke(&token).await;
            other.refuses(&token, "token_revoked").await;
        }
    }

    async fn one_that_was_marked_out_forgets_and_joins_anew(database: Database) {
        let (one, other, token) = two_who_remember(database).await;
        // Behind its back: it is taken from the roll, and the token is revoked without waiting for anybody.
        one.sql("delete from cf_replicas").await;
        until("both join anew", async || one.count("select count(*) from cf_replicas").await == 2).await;
        for server in [&one, &other] {
            until_leased(server).await;
            let before = answers(server).await;
            server.accepts(&token).await;
            assert_eq!(answers(server).await.1, before.1 + 1, "it forgot");
            remembers(server, &token).await;
        }
    }

    async fn a_history_that_is_replaced_is_forgotten(database: Database) {
        let (one, other, token) = two_who_remember(database).await;
        one.registry.revoke(jti_of(&token).parse().unwrap(), Actor::application("test")).await.unwrap();
        // The same number with another id, as after a restored backup or a failover.
        one.sql("delete from cf_changes").await;
        one.sql(&format!("update cf_position set change = {}", one.random_id())).await;
        let kept = one.issue("alice", "").await.access;
        until("both join anew", async || {
            one.registry.revoke(jti_of(&kept).parse().unwrap(), Actor::application("test")).await.unwrap();
            one.count("select count(*) from cf_replicas r, cf_position p where r.applied = p.seq").await == 2
        })
        .await;
        other.refuses(&kept, "token_revoked").await;
    }

    async fn strict_asks_every_time(database: Database) {
        let server = Server::start(database, |settings| settings.set("consistency", "strict")).await;
        assert_eq!(server.get("/readyz").send().await.status, 200);
        let token = server.issue("alice", "").await.access;
        for _ in 0..3 {
            server.accepts(&token).await;
        }
        assert_eq!(answers(&server).await, (0, 3));
        assert_eq!(server.count("select count(*) from cf_replicas").await, 0);
    }

    async fn memory_is_bounded(database: Database) {
        let server = Server::start(database, |settings| settings.set("cache_bytes", 1 << 20)).await;
        until_leased(&server).await;
        let mut tokens = Vec::new();
        for _ in 0..40 {
            let mut issuing = tokio::task::JoinSet::new();
            for _ in 0..100 {
                let registry = server.registry.clone();
                issuing.spawn(async move {
                    let grant = counterfoil::Grant::to("alice".parse().unwrap()).without_refresh();
                    registry.issue(grant).await.unwrap().access_token().to_owned()
                });
            }
            tokens.extend(issuing.join_all().await);
        }
        for token in tokens.iter().chain(&tokens) {
            server.registry.check(token, counterfoil::Expect::access()).await.unwrap();
        }
        let text = server.registry.metrics_text().await.unwrap();
        let bytes = text.lines().find_map(|line| line.strip_prefix("counterfoil_remembered_bytes ")).unwrap();
        assert!(bytes.parse::<u64>().unwrap() <= 1 << 20, "{bytes}");
    }

    async fn a_token_that_is_remembered_logs_out_when_its_record_has_gone(server: Server) {
        until_leased(&server).await;
        let token = server.issue("alice", "").await.access;
        remembers(&server, &token).await;
        server.advance(60 * 60);
        server.registry.purge().await.unwrap();
        server.refuses(&token, "token_expired").await;
        server.post("/logout").bearer(&token).send().await.says("Successfully logged out");
    }

    async fn a_refresh_token_always_asks(server: Server) {
        until_leased(&server).await;
        let pair = server.issue("alice", "").await;
        for _ in 0..2 {
            server.post("/refresh").bearer(&pair.refresh).send().await.ok(200);
        }
        assert_eq!(answers(&server).await.0, 0);
    }
}

/// Without its database a server goes on for what it remembers, as long as its lease lasts, and not longer.
#[test]
fn a_server_that_loses_its_database_goes_on_for_a_lease() {
    crate::support::run(async {
        let cluster = postgres::Cluster::start();
        let url = cluster.create("registry");
        let server = Server::start_on(url, |settings| settings.set("lease", "30s")).await;
        until_leased(&server).await;
        let (seen, unseen) = (server.issue("alice", "").await, server.issue("alice", "").await);
        remembers(&server, &seen.access).await;
        cluster.kill();
        server.accepts(&seen.access).await;
        server.protected(&unseen.access).await.error(503, "registry_unavailable");
        server.post("/refresh").bearer(&seen.refresh).send().await.error(503, "registry_unavailable");
        let jti = jti_of(&seen.access).parse().unwrap();
        assert!(server.registry.revoke(jti, Actor::application("test")).await.unwrap_err().is_unavailable());
        server.advance(30);
        server.protected(&seen.access).await.error(503, "registry_unavailable");
        cluster.start_again();
        until_leased(&server).await;
        remembers(&server, &seen.access).await;
    });
}

/// Where the database goes away while a change waits, the wait ends with the longest lease that was seen; where that
/// lasts for longer than anybody waits without an answer, the change is not acknowledged.
#[test]
fn a_change_whose_database_goes_away_is_acknowledged_when_no_lease_is_left() {
    crate::support::run(async {
        for (lease, half, is_over) in [(4, 2, true), (60, 30, false)] {
            let cluster = postgres::Cluster::start();
            let server = Server::start_on(cluster.create("registry"), |settings| settings).await;
            let visitor = Visitor::admin(&server).await;
            until_leased(&server).await;
            let token = server.issue("alice", "").await.access;
            remembers(&server, &token).await;
            server.add_gone(lease * 1_000).await;
            let (registry, jti) = (server.registry.clone(), jti_of(&token).parse().unwrap());
            let revoking = tokio::spawn(async move { registry.revoke(jti, Actor::application("test")).await });
            until("it is in force", async || server.protected(&token).await.status == 401).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            // Once half of the lease is over it says for whom it waits, so it has looked at the roll.
            server.advance(half.into());
            let named = "for <span class=\"code\">gone</span>";
            let is_named = async || visitor.page(&server, "/console/admin/replicas").await.contains(named);
            until("it is told who is waited for", is_named).await;
            assert!(!revoking.is_finished(), "nobody waited for the lease of the dead");
            cluster.kill();
            if is_over {
                server.advance((lease - half).into());
            }
            let revoked = tokio::time::timeout(PATIENCE, revoking).await.expect("it waits for ever").unwrap();
            match is_over {
                true => revoked.unwrap(),
                false => assert!(revoked.unwrap_err().is_unconfirmed()),
            }
        }
    });
}

/// PostgreSQL wakes the others for what one revokes, and nobody where there are none.
#[test]
fn whoever_has_to_hear_of_a_revocation_is_woken() {
    crate::support::run(async {
        let url = postgres::database();
        let mut listener = sqlx::postgres::PgListener::connect(&url).await.unwrap();
        listener.listen("counterfoil").await.unwrap();
        let one = Server::start_on(url.clone(), |settings| settings).await;
        until_leased(&one).await;
        let revoke = async || {
            let jti = jti_of(&one.issue("alice", "").await.access).parse().unwrap();
            one.registry.revoke(jti, Actor::application("test")).await.unwrap();
        };
        revoke().await;
        let other = Server::start_on(url, |settings| settings).await;
        until_leased(&other).await;
        revoke().await;
        // The words come in order, so the first is of the second revocation: it says which replica made it.
        let id = "select count(*) from cf_replicas where id::text = ";
        let word = listener.recv().await.unwrap();
        assert_eq!(one.count(&format!("{id}'{}'", word.payload())).await, 1, "{}", word.payload());
        let rest = tokio::time::timeout(Duration::from_millis(50), listener.recv()).await;
        assert!(rest.is_err(), "a second word: {rest:?}");
    });
}

/// Whoever is stopped from the outside gives up its place, so that nobody waits for it.
#[test]
fn a_server_that_stops_cleanly_leaves_the_roll() {
    let home = Home::sqlite();
    let mut serving = home.serve();
    let replicas = || home.run(&["replicas", "--json"]).ok().json();
    let began = Instant::now();
    while replicas() == json!([]) {
        assert!(began.elapsed() < PATIENCE, "it does not join");
    }
    serving.signal("TERM");
    assert_eq!(serving.wait(), Some(0));
    assert_eq!(replicas(), json!([]));
    assert_eq!(home.run(&["replicas"]).ok().out, "No process answers from memory.\n");
}
