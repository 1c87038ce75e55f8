//! Keys in the database: made once, published before they sign, rotated without anybody noticing, and retired at once.

mod retiring;
mod sealing;

use counterfoil::{Registry, SystemClock};

use crate::support::forge::{Key, claims_of, header_of, kid_of};
use crate::support::server::{MASTER_KEY, at_once, until, until_leased};
use crate::support::{Pair, Server, Value, json, on_both};

/// The command line with the servers' own settings.
#[track_caller]
fn keys(server: &Server, arguments: &[&str]) -> Value {
    let variables = [("COUNTERFOIL_MASTER_KEY", MASTER_KEY), ("COUNTERFOIL_JWKS_MAX_AGE", "0s")];
    server.command_with(&variables, &[&["keys", "--json"], arguments].concat(), "").ok().json()
}

/// The ids of the keys in this state.
fn in_state(listed: &Value, state: &str) -> Vec<String> {
    let of = |key: &&Value| key["state"] == state;
    listed.as_array().unwrap().iter().filter(of).map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

async fn published(server: &Server) -> Vec<String> {
    let jwks = server.get("/.well-known/jwks.json").send().await.ok(200);
    jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

on_both! {
    async fn all_servers_share_the_keys_that_the_first_one_made(database: Database) {
        let one = Server::start(database, at_once).await;
        let other = one.another(at_once).await;
        let token = one.issue("alice", "").await.access;
        other.accepts(&token).await;
        assert_eq!(kid_of(&other.issue("alice", "").await.access), kid_of(&token));
        let listed = keys(&one, &["list"]);
        assert_eq!(in_state(&listed, "current"), [kid_of(&token)]);
        assert_eq!(published(&other).await, [in_state(&listed, "current"), in_state(&listed, "next")].concat());
        assert_eq!(one.count("select count(*) from cf_keys").await, 2);
        let file = one.home().join("master_key");
        std::fs::write(&file, MASTER_KEY).unwrap();
        one.another(|settings| settings.set("master_key_file", json!(file))).await.accepts(&token).await;
    }

    async fn a_server_that_cant_read_the_keys_calls_no_token_forged(database: Database) {
        let one = Server::start(database, |settings| at_once(settings).set("consistency", "strict")).await;
        let admin = one.login().await;
        // As one does that is cut off while the keys are rotated, or has not got the new master key.
        one.sql("update cf_keys set kid = 'another' where state = 'next'").await;
        let (key, mut claims) = (Key::generate(), claims_of(&admin.access));
        claims["jti"] = json!(one.random_id());
        let unknown = key.sign(&key.header(), &claims);
        for _ in 0..3 {
            one.get("/protected").bearer(&unknown).send().await.error(503, "registry_unavailable");
        }
        one.accepts(&admin.access).await;
    }

    async fn many_who_open_at_once_make_one_key(database: Database) {
        let first = Server::start(database, |settings| settings).await;
        let toml = format!("database_url = {:?}\nmaster_key = {MASTER_KEY:?}", first.database_url());
        let open = || async {
            let settings = counterfoil::Settings::for_tests_with(&toml).unwrap();
            Registry::open(settings, SystemClock).await.unwrap().close().await;
        };
        tokio::join!(open(), open(), open(), open());
        assert_eq!(first.count("select count(*) from cf_keys").await, 2);
    }

    async fn the_next_key_is_published_before_it_signs(database: Database) {
        let server = Server::start(database, |settings| settings.set("master_key", MASTER_KEY)).await;
        let (signs, before) = (kid_of(&server.issue("alice", "").await.access), published(&server).await);
        assert_eq!(before.len(), 2);
        let variables = [("COUNTERFOIL_MASTER_KEY", MASTER_KEY)];
        let text = server.command_with(&variables, &["keys", "rotate", "--json"], "").code(1).err;
        assert!(text.contains("conflict") && text.contains("it can sign from 20") && text.contains("Z on"), "{text}");
        assert_eq!(kid_of(&server.issue("alice", "").await.access), signs);

        // The time of the published key cannot be moved for another process, so it is said to be an earlier one.
        server.sql("update cf_keys set published_at = published_at - 300").await;
        let old = server.issue("alice", "").await;
        let rotated = server.command_with(&variables, &["keys", "rotate", "--json"], "").ok().json();
        assert_eq!((&rotated["state"], rotated["kid"].as_str()), (&json!("current"), Some(before[1].as_str())));
        // It was in whatever anybody cached, and what the other signed goes on.
        let token = server.issue("alice", "").await.access;
        assert!(before.contains(&kid_of(&token)) && kid_of(&token) != signs);
        server.accepts(&old.access).await;
        let refreshed = server.post("/refresh").bearer(&server.login().await.refresh).send().await;
        assert_eq!(refreshed.status, 200);
        let after = published(&server).await;
        assert_eq!((after.len(), &after[0], after[2].as_str()), (3, &before[1], signs.as_str()));
    }

    async fn another_server_follows_a_rotation(database: Database) {
        let one = Server::start(database, at_once).await;
        let other = one.another(at_once).await;
        let strict = one.another(|settings| at_once(settings).set("consistency", "strict")).await;
        until_leased(&one).await;
        until_leased(&other).await;
        let old = one.issue("alice", "").await.access;
        for _ in 0..3 {
            let kid = keys(&one, &["rotate"])["kid"].as_str().unwrap().to_owned();
            // Acknowledged, so every replica has it.
            let token = other.issue("alice", "").await.access;
            assert_eq!(kid_of(&token), kid);
            for server in [&one, &other, &strict] {
                server.accepts(&token).await;
                server.accepts(&old).await;
            }
        }
        assert_eq!(published(&strict).await.len(), 5);
        let audited: Value = serde_json::from_str(&one.command_ok(&["audit", "--json"], "")).unwrap();
        let of = |action: &str| audited.as_array().unwrap().iter().filter(|entry| entry["action"] == action).count();
        assert_eq!((of("key.rotated"), of("key.published")), (3, 5));
    }

    async fn a_server_without_a_lease_signs_with_the_key_of_now(database: Database) {
        let server = Server::start(database, |settings| at_once(settings).set("consistency", "strict")).await;
        let kid = keys(&server, &["rotate"])["kid"].as_str().unwrap().to_owned();
        // Nobody tells it, and nothing that it is asked makes it look.
        until("it signs with the new one", async || kid_of(&server.issue("alice", "").await.access) == kid).await;
    }

    async fn whoever_asks_by_the_tag_learns_of_a_rotation(database: Database) {
        let one = Server::start(database, at_once).await;
        let other = one.another(at_once).await;
        let ask = |server: &Server, tag: &str| server.get("/.well-known/jwks.json").header("If-None-Match", tag).send();
        let old = ask(&one, "\"none\"").await.header("ETag").unwrap().to_owned();
        keys(&one, &["rotate"]);
        for server in [&one, &other] {
            let answer = ask(server, &old).await;
            assert_eq!(answer.ok(200)["keys"].as_array().unwrap().len(), 3);
            let new = answer.header("ETag").unwrap();
            assert_ne!(new, old);
            // Whichever server is asked next.
            assert_eq!(ask(&one, new).await.status, 304);
        }
    }

    async fn a_retry_after_a_rotation_is_signed_by_the_key_of_now(database: Database) {
        let server = Server::start(database, at_once).await;
        let client = server.add_client("shop", &["--scope", "tokens:issue"]);
        let ask = || {
            let call = server.post("/tokens").basic(&client).header("Idempotency-Key", "k");
            call.json(&json!({ "subject": "alice" })).send()
        };
        let first = Pair::of(&ask().await.ok(201));
        let now = keys(&server, &["rotate"])["kid"].as_str().unwrap().to_owned();
        let again = Pair::of(&ask().await.ok(201));
        assert_eq!((kid_of(&again.access), kid_of(&again.refresh)), (now.clone(), now));
        assert_eq!(claims_of(&again.access), claims_of(&first.access));
        until_leased(&server).await;
        // More than once, so that it could be answered from memory.
        for token in [&first.access, &again.access, &again.access] {
            server.accepts(token).await;
        }
        keys(&server, &["retire", &kid_of(&first.access)]);
        // Its record is that of the retired key, whatever signed it.
        server.refuses(&again.access, "token_revoked").await;
        ask().await.error(409, "result_revoked");
    }

    async fn a_key_stays_for_what_it_signed_again(database: Database) {
        let server = Server::start(database, at_once).await;
        let client = server.add_client("shop", &["--scope", "tokens:issue", "--first-party"]);
        let ask = || {
            let call = server.post("/tokens").basic(&client).header("Idempotency-Key", "k");
            call.json(&json!({ "subject": "alice" })).send()
        };
        ask().await.ok(201);
        keys(&server, &["rotate"]);
        let again = Pair::of(&ask().await.ok(201));
        keys(&server, &["rotate"]);
        // No token that is on the registry was signed with it, and those without a record have expired.
        server.advance(2 * 24 * 60 * 60);
        server.registry.purge().await.unwrap();
        server.post("/refresh").bearer(&again.refresh).send().await.ok(200);
    }

    async fn the_purge_removes_a_previous_key_with_its_last_token(database: Database) {
        let server = Server::start(database, |settings| at_once(settings).set("issue", json!({ "max_access_expires": "15m" }))).await;
        let pair = server.issue("alice", "").await;
        keys(&server, &["rotate"]);
        server.advance(24 * 60 * 60);
        server.registry.purge().await.unwrap();
        assert_eq!(published(&server).await.len(), 3);
        server.post("/refresh").bearer(&pair.refresh).send().await.ok(200);
        server.advance(30 * 24 * 60 * 60);
        server.registry.purge().await.unwrap();
        let left = published(&server).await;
        assert!(left.len() == 2 && !left.contains(&kid_of(&pair.access)), "{left:?}");
    }

    async fn a_previous_key_stays_for_tokens_without_a_record(database: Database) {
        let settings = |all| at_once(all).set("check", "refresh").set("refresh_expires", "15m");
        let limits = json!({ "max_access_expires": "15m", "max_refresh_expires": "15m" });
        let server = Server::start(database, |all| settings(all).set("issue", limits)).await;
        let token = server.issue_with("alice", "", |grant| grant.without_refresh()).await.access;
        keys(&server, &["rotate"]);
        // The command line goes by the machine's clock, which may be a little ahead.
        server.advance(890);
        server.registry.purge().await.unwrap();
        server.accepts(&token).await;
        server.advance(200);
        server.registry.purge().await.unwrap();
        let left = published(&server).await;
        assert!(left.len() == 2 && !left.contains(&kid_of(&token)), "{left:?}");
    }

    async fn keys_rotate_by_themselves_where_that_is_set(database: Database) {
        let by_themselves = |settings| at_once(settings).set("keys", json!({ "rotate_every": "1h" }));
        let one = Server::start(database, by_themselves).await;
        let other = one.another(by_themselves).await;
        let first = kid_of(&one.issue("alice", "").await.access);
        one.advance(60 * 60);
        until("the keys rotate", async || kid_of(&other.issue("alice", "").await.access) != first).await;
        assert_ne!(kid_of(&other.issue("alice", "").await.access), first);
        assert_eq!(one.count("select count(*) from cf_keys").await, 3);
    }

    async fn a_changed_algorithm_takes_effect_at_the_next_rotation(database: Database) {
        let one = Server::start(database, at_once).await;
        let other = one.another(|settings| at_once(settings).set("algorithm", "ES256")).await;
        let before = one.issue("alice", "").await.access;
        assert_eq!(header_of(&other.issue("alice", "").await.access)["alg"], "EdDSA");
        let variables = [
            ("COUNTERFOIL_MASTER_KEY", MASTER_KEY),
            ("COUNTERFOIL_JWKS_MAX_AGE", "0s"),
            ("COUNTERFOIL_ALGORITHM", "ES256"),
        ];
        other.command_with(&variables, &["keys", "rotate"], "").ok();
        until_leased(&other).await;
        let after = other.issue("alice", "").await.access;
        assert_eq!(header_of(&after)["alg"], "ES256");
        // The one that was to be next, of the algorithm before, had signed nothing and made room.
        assert_eq!(other.count("select count(*) from cf_audit where action = 'key.removed'").await, 1);
        for server in [&one, &other] {
            server.accepts(&before).await;
            server.accepts(&after).await;
        }
    }

    async fn a_command_with_other_settings_replaces_no_key(database: Database) {
        let server = Server::start(database, |settings| at_once(settings).set("algorithm", "ES256")).await;
        let before = published(&server).await;
        // It has the default, EdDSA.
        let variables = [("COUNTERFOIL_MASTER_KEY", MASTER_KEY)];
        for arguments in [&["user", "list"][..], &["keys", "list"], &["token", "list"]] {
            server.command_with(&variables, arguments, "").ok();
        }
        assert_eq!(published(&server).await, before);
        assert_eq!(server.count("select count(*) from cf_audit where action = 'key.removed'").await, 0);
    }

    async fn a_secret_is_shared_and_never_published(database: Database) {
        let symmetric = |settings| at_once(settings).set("algorithm", "HS256");
        let one = Server::start(database, symmetric).await;
        let other = one.another(symmetric).await;
        let token = one.issue("alice", "").await.access;
        assert_eq!(header_of(&token)["alg"], "HS256");
        other.accepts(&token).await;
        assert_eq!(published(&one).await, [""; 0]);
    }

    async fn keys_changed_by_plain_sql_are_heard_of(database: Database) {
        let server = Server::start(database, at_once).await;
        until_leased(&server).await;
        let token = server.issue("alice", "").await.access;
        server.accepts(&token).await;
        server.accepts(&token).await;
        let retire = format!(
            "update cf_keys set state = 'retired', sealed = null, retired_at = 1, retired_by_kind = 'system',
                retired_by = 'test' where kid = '{}'",
            kid_of(&token)
        );
        server.sql(&retire).await;
        until("the token is refused", async || server.protected(&token).await.status != 200).await;
        server.refuses(&token, "token_revoked").await;
    }

    async fn it_starts_after_the_current_key_was_taken_out_by_hand(database: Database) {
        let server = Server::start(database, at_once).await;
        let retired = "update cf_keys set state = 'retired', sealed = null, retired_at = 1, retired_by_kind = 'system',
            retired_by = 'test' where state = 'current'";
        server.sql(retired).await;
        let again = server.another(at_once).await;
        again.accepts(&again.issue("alice", "").await.access).await;
        assert_eq!(again.count("select count(*) from cf_keys where state in ('current', 'next')").await, 2);
    }
}
