//! Refresh tokens that are good for one use: a retry gets the same again, and theft ends the session.

use crate::support::feed::{events, service};
use crate::support::forge::{claims_of, jti_of, sid_of};
use crate::support::{ClientSecret, Pair, Server, Value, json, on_both};

async fn refresh(server: &Server, token: &str) -> Pair {
    Pair::of(&server.post("/refresh").bearer(token).send().await.ok(200))
}

async fn is_refused(server: &Server, token: &str) {
    server.post("/refresh").bearer(token).send().await.error(401, "token_revoked");
}

/// That the session is over, and says why.
async fn was_ended_for_theft(server: &Server, pair: &Pair) {
    let admin = server.login().await;
    let audit = server.get("/admin/audit?action=refresh.reused").bearer(&admin.access).send().await.ok(200);
    assert_eq!(audit[0]["target"], json!(sid_of(&pair.access)), "{audit}");
    assert_eq!(audit[0]["actor"], json!({ "kind": "system", "name": "refresh_reuse" }));
    let path = format!("/admin/tokens/unrevoke/{}", jti_of(&pair.access));
    server.put(&path).bearer(&admin.access).send().await.error(409, "revocation_final");
}

on_both! {
    async fn each_use_gives_another(server: Server) {
        let first = server.login().await;
        let second = refresh(&server, &first.refresh).await;
        let third = refresh(&server, &second.refresh).await;
        assert_eq!(sid_of(&first.refresh), sid_of(&third.refresh));
        let (access, claims) = (claims_of(&third.access), claims_of(&third.refresh));
        assert_eq!((&access["fresh"], &access["scope"]), (&json!(false), &json!("registry:admin")));
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 30 * 24 * 60 * 60);
        for pair in [&first, &second, &third] {
            server.accepts(&pair.access).await;
        }
        // A spent one opens nothing, says so in the list, and is no way to undo that.
        server.post("/logout").bearer(&first.refresh).send().await.error(401, "token_revoked");
        let path = format!("/auth/tokens/{}", jti_of(&first.refresh));
        let record = server.get(&path).bearer(&third.access).send().await.ok(200);
        assert_eq!((&record["revoked"], &record["revoked_reason"]), (&json!(true), &json!("spent")));
        let path = format!("/auth/tokens/unrevoke/{}", jti_of(&first.refresh));
        server.put(&path).bearer(&third.access).send().await.error(409, "revocation_final");
        let sessions = server.get("/auth/sessions").bearer(&third.access).send().await.ok(200);
        assert_eq!(sessions.as_array().unwrap().len(), 1);
    }

    async fn a_lost_answer_is_given_again(server: Server) {
        let first = server.login().await;
        let second = refresh(&server, &first.refresh).await;
        server.advance(10);
        let again = refresh(&server, &first.refresh).await;
        assert_eq!(again.refresh, second.refresh);
        assert_ne!(again.access, second.access);
        for pair in [&second, &again] {
            server.accepts(&pair.access).await;
        }
        // Whichever of the two goes on, the other may still come late.
        let third = refresh(&server, &again.refresh).await;
        assert_eq!(refresh(&server, &second.refresh).await.refresh, third.refresh);
    }

    async fn after_the_grace_a_successor_that_nobody_used_is_replaced(server: Server) {
        let other = server.another(|settings| settings).await;
        let first = server.login().await;
        let lost = refresh(&server, &first.refresh).await;
        server.accepts(&lost.access).await;
        other.accepts(&lost.access).await;
        server.advance(11);
        let second = refresh(&server, &first.refresh).await;
        assert_ne!(second.refresh, lost.refresh);
        // What came with it goes with it, everywhere, before the answer.
        for server in [&server, &other] {
            server.refuses(&lost.access, "token_revoked").await;
            server.accepts(&second.access).await;
            server.accepts(&first.access).await;
        }
        let third = refresh(&server, &second.refresh).await;
        // Whoever has the replaced one has it from somebody.
        is_refused(&server, &lost.refresh).await;
        for server in [&server, &other] {
            server.refuses(&third.access, "token_revoked").await;
        }
        is_refused(&server, &third.refresh).await;
        was_ended_for_theft(&server, &third).await;
    }

    async fn what_was_revoked_before_it_was_replaced_is_told_of_once(server: Server) {
        let service = service(&server).await;
        let first = server.login().await;
        let (lost, again) = (refresh(&server, &first.refresh).await, refresh(&server, &first.refresh).await);
        let path = format!("/auth/tokens/revoke/{}", jti_of(&lost.access));
        server.put(&path).bearer(&first.access).send().await.says("Token successfully revoked");
        server.advance(11);
        refresh(&server, &first.refresh).await;
        let told = events(&server, &service, 0).await;
        let told_of = |pair: &Pair| told.iter().filter(|event| event["jti"] == jti_of(&pair.access)).count();
        assert_eq!((told_of(&lost), told_of(&again)), (1, 1), "{told:?}");
        // It is as final as the other.
        for pair in [&lost, &again] {
            let undo = format!("/auth/tokens/unrevoke/{}", jti_of(&pair.access));
            server.put(&undo).bearer(&first.access).send().await.error(409, "revocation_final");
        }
    }

    async fn a_token_whose_successor_was_used_is_in_two_hands(server: Server) {
        let other = server.another(|settings| settings).await;
        let first = server.login().await;
        let second = refresh(&server, &first.refresh).await;
        let third = refresh(&server, &second.refresh).await;
        other.accepts(&third.access).await;
        // Even within the grace: the successor is used already.
        is_refused(&server, &first.refresh).await;
        for server in [&server, &other] {
            for pair in [&first, &second, &third] {
                server.refuses(&pair.access, "token_revoked").await;
                is_refused(server, &pair.refresh).await;
            }
        }
        was_ended_for_theft(&server, &first).await;
        // Another session of the same user goes on.
        server.accepts(&server.login().await.access).await;
    }

    async fn what_was_taken_back_is_no_theft(server: Server) {
        let admin = server.login().await;
        let (first, other) = (server.login().await, server.login().await);
        let second = refresh(&server, &first.refresh).await;
        let path = format!("/auth/tokens/revoke/{}", jti_of(&second.refresh));
        server.put(&path).bearer(&admin.access).send().await.says("Token successfully revoked");
        is_refused(&server, &second.refresh).await;
        is_refused(&server, &first.refresh).await;
        server.accepts(&second.access).await;

        server.post("/logout").bearer(&other.refresh).send().await.says("Successfully logged out");
        is_refused(&server, &other.refresh).await;
        let audit = server.get("/admin/audit?action=refresh.reused").bearer(&admin.access).send().await.ok(200);
        assert_eq!(audit, json!([]));
    }

    async fn what_is_taken_back_once_it_was_spent_gets_nothing_any_more(server: Server) {
        let admin = server.login().await;
        for (path, seconds) in [("/auth/tokens/revoke", 0), ("/auth/tokens/revoke", 11), ("/admin/tokens/revoke", 11)] {
            let first = server.login().await;
            let second = refresh(&server, &first.refresh).await;
            server.advance(seconds);
            let jti = jti_of(&first.refresh);
            let path = format!("{path}/{jti}");
            server.put(&path).bearer(&admin.access).send().await.says("Token successfully revoked");
            is_refused(&server, &first.refresh).await;
            // What was issued for it goes on, and that it is in two hands is found out still.
            server.accepts(&second.access).await;
            let record = server.get(&format!("/auth/tokens/{jti}")).bearer(&second.access).send().await.ok(200);
            assert_eq!((&record["revoked"], &record["revoked_reason"]), (&json!(true), &json!(null)));
            let audit = format!("/admin/audit?action=token.revoked&target={jti}");
            assert_eq!(server.get(&audit).bearer(&admin.access).send().await.ok(200).as_array().unwrap().len(), 1);
            let undo = format!("/admin/tokens/unrevoke/{jti}");
            server.put(&undo).bearer(&admin.access).send().await.error(409, "revocation_final");
            let third = refresh(&server, &second.refresh).await;
            is_refused(&server, &first.refresh).await;
            server.refuses(&third.access, "token_revoked").await;
        }
    }

    async fn many_at_once_leave_one_chain(server: Server) {
        let others = [server.another(|settings| settings).await, server.another(|settings| settings).await];
        let servers = [&server, &others[0], &others[1]];
        let first = server.login().await;
        let mut asked = Vec::new();
        for number in 0..64 {
            let call = servers[number % 3].post("/refresh").bearer(&first.refresh);
            asked.push(tokio::spawn(call.send()));
        }
        let mut pairs = Vec::new();
        for answer in asked {
            pairs.push(Pair::of(&answer.await.unwrap().ok(200)));
        }
        assert!(pairs.iter().all(|pair| pair.refresh == pairs[0].refresh), "one successor");
        let spendable = "select count(*) from cf_tokens where token_type = 'refresh' and subject = 'admin' and revoked_at is null";
        assert_eq!(server.count(spendable).await, 1);
        for (number, pair) in pairs.iter().enumerate() {
            servers[(number + 1) % 3].accepts(&pair.access).await;
        }
    }

    async fn many_at_once_after_the_grace_leave_one_chain_too(server: Server) {
        let other = server.another(|settings| settings).await;
        let first = server.login().await;
        let lost = refresh(&server, &first.refresh).await;
        server.advance(11);
        let mut asked = Vec::new();
        for number in 0..16 {
            let server = if number % 2 == 0 { &server } else { &other };
            asked.push(tokio::spawn(server.post("/refresh").bearer(&first.refresh).send()));
        }
        let mut pairs = Vec::new();
        for answer in asked {
            pairs.push(Pair::of(&answer.await.unwrap().ok(200)));
        }
        assert!(pairs.iter().all(|pair| pair.refresh == pairs[0].refresh && pair.refresh != lost.refresh));
        for pair in &pairs {
            server.accepts(&pair.access).await;
        }
        let spendable = "select count(*) from cf_tokens where token_type = 'refresh' and subject = 'admin' and revoked_at is null";
        assert_eq!(server.count(spendable).await, 1);
    }

    async fn what_a_token_that_comes_again_is_worth_is_counted(server: Server) {
        let count = async |metric: &str| -> u32 {
            let text = String::from_utf8(server.get("/metrics").send().await.body).unwrap();
            let value = text.lines().find_map(|line| line.strip_prefix("counterfoil_")?.strip_prefix(metric)?.strip_prefix(' '));
            value.map_or(0, |value| value.parse().unwrap())
        };
        let accepted = async || count(r#"checks_total{outcome="accepted"}"#).await;
        let first = server.login().await;
        let second = refresh(&server, &first.refresh).await;
        // Its answer was lost: the same successor again, with another access token.
        refresh(&server, &first.refresh).await;
        assert_eq!(count(r#"issued_total{type="refresh"}"#).await, 2);
        assert_eq!(count(r#"issued_total{type="access"}"#).await, 3);
        assert_eq!(accepted().await, 2);

        refresh(&server, &second.refresh).await;
        assert_eq!(accepted().await, 3);
        server.post("/refresh").bearer(&first.refresh).send().await.error(401, "token_revoked");
        assert_eq!(accepted().await, 3);
        assert_eq!(count(r#"checks_total{outcome="token_revoked"}"#).await, 1);
        assert_eq!(count(r#"revocations_total{of="session"}"#).await, 1);
        assert_eq!(count("refresh_reuses_total").await, 1);
    }

    async fn a_chain_has_an_end(database: Database) {
        let settings = |all: crate::support::server::Settings| {
            all.set("refresh_expires", "60s").set("access_expires", "60s").set("refresh.max_age", "100s")
        };
        let server = Server::start(database, settings).await;
        let first = server.login().await;
        let began = claims_of(&first.access)["iat"].as_i64().unwrap();
        server.advance(50);
        let second = refresh(&server, &first.refresh).await;
        assert_eq!(claims_of(&second.refresh)["exp"], json!(began + 100));
        server.advance(49);
        let third = refresh(&server, &second.refresh).await;
        assert_eq!(claims_of(&third.refresh)["exp"], json!(began + 100));
        server.advance(1);
        server.post("/refresh").bearer(&third.refresh).send().await.error(401, "token_expired");
        // What is spent and expired is expired: that is no theft any more.
        server.post("/refresh").bearer(&first.refresh).send().await.error(401, "token_expired");
        server.accepts(&third.access).await;
        // Not even the first one may last longer.
        let long = std::time::Duration::from_secs(1_000);
        let pair = server.issue_with("alice", "", |grant| grant.refresh_expires(long)).await;
        let claims = claims_of(&pair.refresh);
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 100);
    }

    async fn without_rotation_a_refresh_token_stays(database: Database) {
        let server = Server::start(database, |settings| settings.set("refresh.rotation", false)).await;
        let first = server.login().await;
        for _ in 0..2 {
            let body = server.post("/refresh").bearer(&first.refresh).send().await.ok(200);
            assert_eq!(body.get("refresh_token"), None);
        }
        // One that was spent while rotation was on is refused.
        let rotating = server.another(|settings| settings).await;
        refresh(&rotating, &first.refresh).await;
        is_refused(&server, &first.refresh).await;
    }

    async fn at_the_token_endpoint_it_rotates_whatever_is_set(database: Database) {
        let server = Server::start(database, |settings| settings.set("refresh.rotation", false)).await;
        let client = server.add_client("shop", &["--scope", "tokens:issue"]);
        let first = server.post("/tokens").basic(&client).json(&json!({ "subject": "alice" })).send().await.ok(201);
        let ask = async |token: &Value| {
            let fields = [("grant_type", "refresh_token"), ("refresh_token", token.as_str().unwrap())];
            server.post("/oauth/token").basic(&client).form(&fields).send().await
        };
        let second = ask(&first["refresh_token"]).await.ok(200);
        assert_ne!(second["refresh_token"], first["refresh_token"]);
        ask(&second["refresh_token"]).await.ok(200);
        ask(&first["refresh_token"]).await.oauth_error(400, "invalid_grant");
    }

    async fn with_unrecorded_access_tokens_it_rotates_all_the_same(database: Database) {
        let server = Server::start(database, |settings| settings.set("check", "refresh")).await;
        let first = server.login().await;
        let second = refresh(&server, &first.refresh).await;
        assert_eq!(refresh(&server, &first.refresh).await.refresh, second.refresh);
        refresh(&server, &second.refresh).await;
        is_refused(&server, &first.refresh).await;
        is_refused(&server, &second.refresh).await;
    }

    async fn clients_rotate_at_the_token_endpoint(server: Server) {
        let client = server.add_client("shop", &["--scope", "tokens:issue", "--grant-scope", "a b"]);
        let other = server.add_client("other", &["--scope", "tokens:issue"]);
        let issue = async || {
            let body = json!({ "subject": "alice", "scope": "a b", "refresh_expires_in": 1000 });
            Pair::of(&server.post("/tokens").basic(&client).json(&body).send().await.ok(201))
        };
        let first = issue().await;
        let ask = async |client: &ClientSecret, token: &str, more: &[(&str, &str)]| {
            let fields = [&[("grant_type", "refresh_token"), ("refresh_token", token)], more].concat();
            server.post("/oauth/token").basic(client).form(&fields).send().await
        };
        ask(&other, &first.refresh, &[]).await.oauth_error(400, "invalid_grant");
        ask(&client, &first.access, &[]).await.oauth_error(400, "invalid_grant");
        ask(&client, "x", &[]).await.oauth_error(400, "invalid_grant");
        ask(&client, "", &[]).await.oauth_error(400, "invalid_request");
        ask(&client, &first.refresh, &[("scope", "a c")]).await.oauth_error(400, "invalid_scope");
        let login = server.login().await;
        ask(&client, &login.refresh, &[]).await.oauth_error(400, "invalid_grant");

        let narrowed = ask(&client, &first.refresh, &[("scope", "a")]).await.ok(200);
        assert_eq!(narrowed["scope"], "a");
        let second = Pair::of(&narrowed);
        let claims = claims_of(&second.refresh);
        assert_eq!(claims["client_id"], json!(client.id));
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 1000);
        let whole = ask(&client, &second.refresh, &[]).await.ok(200);
        assert_eq!(whole["scope"], "a b");
        let third = Pair::of(&whole);
        server.accepts(&third.access).await;
        let records: Value = server.get("/auth/tokens").bearer(&third.access).send().await.ok(200);
        assert!(records.as_array().unwrap().iter().all(|record| record["client"] == "shop"), "{records}");
        ask(&client, &first.refresh, &[]).await.oauth_error(400, "invalid_grant");
        server.refuses(&third.access, "token_revoked").await;

        // What the client may not give any more it gets no more either.
        let first = issue().await;
        server.command_ok(&["client", "set", "shop", "--grant-scope", "b"], "");
        ask(&client, &first.refresh, &[("scope", "a")]).await.oauth_error(400, "invalid_scope");
        assert_eq!(ask(&client, &first.refresh, &[]).await.ok(200)["scope"], "b");
        server.command_ok(&["client", "set", "shop", "--grant-scope", "a b"], "");

        // A spent one, brought to be revoked, takes its session with it.
        let first = issue().await;
        let second = Pair::of(&ask(&client, &first.refresh, &[]).await.ok(200));
        let revoke = server.post("/oauth/revoke").basic(&client).form(&[("token", &first.refresh)]).send().await;
        assert_eq!(revoke.status, 200, "{revoke:?}");
        server.refuses(&second.access, "token_revoked").await;
    }
}
