//! Lists of records, labels, personal tokens, and what can be taken back by whom.

use crate::support::forge::{claims_of, jti_of, sid_of};
use crate::support::{ADMIN, Answer, ISSUER, Pair, Server, Value, json, on_both};

fn jtis(listed: &Value) -> Vec<String> {
    listed.as_array().unwrap().iter().map(|record| record["token"]["jti"].as_str().unwrap().to_owned()).collect()
}

async fn revoke(server: &Server, by: &Pair, token: &str) {
    let path = format!("/auth/tokens/revoke/{}", jti_of(token));
    server.put(&path).bearer(&by.access).send().await.says("Token successfully revoked");
}

async fn unrevoke(server: &Server, by: &Pair, token: &str) -> Answer {
    server.put(&format!("/auth/tokens/unrevoke/{}", jti_of(token))).bearer(&by.access).send().await
}

on_both! {
    async fn a_list_is_newest_first_and_comes_in_pages(server: Server) {
        let mut issued = Vec::new();
        for _ in 0..3 {
            issued.push(server.issue("alice", "").await);
            server.advance(1);
        }
        let reader = &issued[2];
        let all = server.get("/auth/tokens").bearer(&reader.access).send().await;
        assert_eq!(all.next_page(), None);
        let all = jtis(&all.ok(200));
        assert_eq!(all.len(), 6);
        let place = |token: &str| all.iter().position(|jti| *jti == jti_of(token)).unwrap();
        for pair in issued.windows(2) {
            assert!(place(&pair[1].access) < place(&pair[0].access));
            assert!(place(&pair[1].refresh) < place(&pair[0].refresh));
        }

        let mut seen = Vec::new();
        let mut path = Some("/auth/tokens?limit=2".to_owned());
        while let Some(page) = path {
            let answer = server.get(&page).bearer(&reader.access).send().await;
            path = answer.next_page();
            let page = jtis(&answer.ok(200));
            assert!(page.len() <= 2 && !page.is_empty(), "{page:?}");
            seen.extend(page);
            assert!(seen.len() <= all.len(), "it goes in circles: {seen:?}");
        }
        assert_eq!(seen, all);
    }

    async fn a_list_has_the_callers_own_records_alone(server: Server) {
        let (mine, theirs) = (server.issue("alice", "").await, server.login().await);
        for path in ["/auth/tokens", "/auth/tokens?subject=admin", "/auth/tokens?state=live&type=access"] {
            let listed = jtis(&server.get(path).bearer(&mine.access).send().await.ok(200));
            assert!(listed.contains(&jti_of(&mine.access)), "{path}: {listed:?}");
            for token in [&theirs.access, &theirs.refresh] {
                assert!(!listed.contains(&jti_of(token)), "{path}: {listed:?}");
            }
        }
    }

    async fn a_list_can_be_narrowed_by_type_and_state(server: Server) {
        let short =
            server.issue_with("alice", "", |grant| grant.access_expires(std::time::Duration::from_secs(5))).await;
        let revoked = server.issue("alice", "").await;
        let reader = server.issue("alice", "").await;
        revoke(&server, &reader, &revoked.access).await;
        server.advance(6);
        let list = |query: &'static str| {
            let call = server.get(query).bearer(&reader.access);
            async move {
                let mut found = jtis(&call.send().await.ok(200));
                found.sort();
                found
            }
        };
        let of = |tokens: &[&String]| {
            let mut jtis: Vec<String> = tokens.iter().map(|token| jti_of(token)).collect();
            jtis.sort();
            jtis
        };
        assert_eq!(list("/auth/tokens?type=access").await, of(&[&short.access, &revoked.access, &reader.access]));
        assert_eq!(list("/auth/tokens?type=refresh").await, of(&[&short.refresh, &revoked.refresh, &reader.refresh]));
        assert_eq!(list("/auth/tokens?state=expired").await, of(&[&short.access]));
        assert_eq!(list("/auth/tokens?state=revoked").await, of(&[&revoked.access]));
        assert_eq!(list("/auth/tokens?state=live&type=access").await, of(&[&reader.access]));
        assert_eq!(list("/auth/tokens?state=revoked&type=refresh").await, of(&[]));
    }

    async fn a_list_refuses_what_it_does_not_understand(server: Server) {
        let pair = server.login().await;
        for (field, value) in [
            ("limit", "0"),
            ("limit", "1001"),
            ("limit", "-1"),
            ("limit", "ten"),
            ("limit", "99999999999999999999"),
            ("limit", ""),
            ("type", "id"),
            ("type", ""),
            ("state", "dead"),
            ("cursor", "x"),
            ("cursor", "%00"),
            ("cursor", "9223372036854775808.0190a5a0-0000-7000-8000-000000000001"),
        ] {
            let answer = server.get(&format!("/auth/tokens?{field}={value}")).bearer(&pair.access).send().await;
            let msg = answer.error(422, "invalid_request");
            assert!(msg.contains(field), "{field}={value}: {msg}");
        }
    }

    async fn a_label_is_given_at_the_log_in_changed_and_cleared(server: Server) {
        let body = json!({ "username": ADMIN, "password": crate::support::PASSWORD, "label": "Ada's phone" });
        let answer = server.post("/login").header("User-Agent", "Phone/1").json(&body).send().await;
        let pair = Pair::of(&answer.ok(200));
        let path = format!("/auth/tokens/{}", jti_of(&pair.access));
        let record = server.get(&path).bearer(&pair.access).send().await.ok(200);
        assert_eq!(record["label"], "Ada's phone");
        assert_eq!(record["user_agent"], "Phone/1");
        // So do those got by refreshing.
        let refreshed = server.post("/refresh").bearer(&pair.refresh).send().await.ok(200);
        let later = format!("/auth/tokens/{}", jti_of(refreshed["access_token"].as_str().unwrap()));
        assert_eq!(server.get(&later).bearer(&pair.access).send().await.ok(200)["label"], "Ada's phone");

        let patch = |label: Value| server.patch(&path).bearer(&pair.access).json(&json!({ "label": label }));
        assert_eq!(patch(json!("Téléphone 📱")).send().await.ok(200)["label"], "Téléphone 📱");
        let longest = "é".repeat(100);
        assert_eq!(patch(json!(longest)).send().await.ok(200)["label"], longest);
        for bad in [json!("é".repeat(101)), json!("a\u{0}b"), json!("a\nb"), json!(""), json!(7), json!(["x"])] {
            let msg = patch(bad.clone()).send().await.error(422, "invalid_request");
            assert!(msg.contains("label"), "{bad}: {msg}");
        }
        assert_eq!(server.get(&path).bearer(&pair.access).send().await.ok(200)["label"], longest);
        assert_eq!(patch(Value::Null).send().await.ok(200)["label"], Value::Null);
    }

    async fn a_label_is_given_by_its_owner_alone(server: Server) {
        let body = json!({ "username": ADMIN, "password": crate::support::PASSWORD, "label": "Ada's phone" });
        let pair = Pair::of(&server.post("/login").json(&body).send().await.ok(200));
        let other = server.issue("mallory", "").await;
        let path = format!("/auth/tokens/{}", jti_of(&pair.access));
        let call = server.patch(&path).bearer(&other.access).json(&json!({ "label": "mine" }));
        assert_eq!(call.send().await.error(404, "not_found"), "Token not found");
        assert_eq!(server.get(&path).bearer(&pair.access).send().await.ok(200)["label"], "Ada's phone");
        let sessions = server.get("/auth/sessions").bearer(&pair.access).send().await.ok(200);
        assert_eq!(sessions[0]["label"], "Ada's phone");
    }

    async fn a_personal_token_is_its_own_session_and_never_fresh(server: Server) {
        let pair = server.login().await;
        let body = json!({ "label": "backup script", "expires_in": 3600 });
        let made = server.post("/auth/tokens").bearer(&pair.access).json(&body).send().await.ok(201);
        let token = made["access_token"].as_str().unwrap();
        assert_eq!((&made["token_type"], &made["expires_in"]), (&json!("Bearer"), &json!(3600)));
        let claims = claims_of(token);
        assert_eq!(made["jti"], claims["jti"]);
        assert_eq!(claims["sid"], claims["jti"]);
        assert_eq!(claims["fresh"], false);
        assert_eq!(claims["scope"], "registry:admin");
        assert_eq!(made.get("refresh_token"), None);
        server.accepts(token).await;

        // It lives on when the session that made it ends, and dies with everything.
        server.post("/logout").bearer(&pair.access).send().await.says("Successfully logged out");
        server.accepts(token).await;
        let record = server.get(&format!("/auth/tokens/{}", jti_of(token))).bearer(token).send().await.ok(200);
        assert_eq!(record["label"], "backup script");
        server.advance(3600);
        server.refuses(token, "token_expired").await;
    }

    async fn a_personal_token_is_for_whom_the_presenting_one_is(server: Server) {
        let wide = server.issue_with("alice", "", |grant| grant.fresh(true).audience([ISSUER, "x"]).unwrap()).await;
        let made = server.post("/auth/tokens").bearer(&wide.access).json(&json!({ "label": "script" })).send().await;
        assert_eq!(claims_of(made.ok(201)["access_token"].as_str().unwrap())["aud"], json!([ISSUER, "x"]));
    }

    async fn a_personal_token_keeps_within_bounds(server: Server) {
        server.add_user("alice", "a long enough password", &["notes:read", "notes:write"]);
        let pair = server.login_as("alice", "a long enough password").await;
        let make = |body: Value| server.post("/auth/tokens").bearer(&pair.access).json(&body);
        let made = make(json!({ "label": "reader", "scope": "notes:read" })).send().await.ok(201);
        assert_eq!(claims_of(made["access_token"].as_str().unwrap())["scope"], "notes:read");
        let year = 365 * 24 * 60 * 60;
        assert_eq!(make(json!({ "label": "longest", "expires_in": year })).send().await.ok(201)["expires_in"], year);

        let answer = make(json!({ "label": "admin", "scope": "registry:admin" })).send().await;
        answer.error(403, "insufficient_scope");
        for (field, body) in [
            ("expires_in", json!({ "label": "x", "expires_in": year + 1 })),
            ("expires_in", json!({ "label": "x", "expires_in": 0 })),
            ("expires_in", json!({ "label": "x", "expires_in": -1 })),
            ("expires_in", json!({ "label": "x", "expires_in": 1.5 })),
            ("expires_in", json!({ "label": "x", "expires_in": "1h" })),
            ("expires_in", json!({ "label": "x", "expires_in": u64::MAX })),
            ("scope", json!({ "label": "x", "scope": "a\"b" })),
            ("scope", json!({ "label": "x", "scope": ["notes:read"] })),
            ("label", json!({})),
            ("label", json!({ "label": "" })),
            ("label", json!({ "label": "x".repeat(101) })),
        ] {
            let msg = make(body.clone()).send().await.error(422, "invalid_request");
            assert!(msg.contains(field), "{body}: {msg}");
        }
        // A personal token is not fresh, so it can't make another.
        let token = made["access_token"].as_str().unwrap();
        let call = server.post("/auth/tokens").bearer(token).json(&json!({ "label": "child" }));
        call.send().await.error(401, "fresh_token_required");
    }

    async fn revoke_all_ends_every_session_and_counts_what_was_live(server: Server) {
        let expired =
            server.issue_with("alice", "", |grant| grant.access_expires(std::time::Duration::from_secs(1))).await;
        let (one, two) = (server.issue("alice", "").await, server.issue("alice", "").await);
        let other = server.issue("bob", "").await;
        server.advance(2);
        revoke(&server, &two, &one.access).await;

        // Live: the first's refresh token, the second's refresh token, and the pair that asks.
        let call = server.post("/auth/tokens/revoke-all").bearer(&two.access).json(&json!({ "except_current": true }));
        let answer = call.send().await.ok(200);
        assert_eq!(answer["revoked"], 2, "{answer}");
        assert!(answer["msg"].is_string(), "{answer}");
        server.accepts(&two.access).await;
        for token in [&one.refresh, &expired.refresh] {
            server.post("/refresh").bearer(token).send().await.error(401, "token_revoked");
        }
        let call = server.post("/auth/tokens/revoke-all").bearer(&two.access).json(&json!({ "except_current": true }));
        assert_eq!(call.send().await.ok(200)["revoked"], 0);

        let refreshed = server.post("/refresh").bearer(&two.refresh).send().await.ok(200);
        let refreshed = refreshed["access_token"].as_str().unwrap();
        let call = server.post("/auth/tokens/revoke-all").bearer(refreshed).json(&json!({ "except_current": false }));
        assert_eq!(call.send().await.ok(200)["revoked"], 3);
        for token in [refreshed, two.access.as_str()] {
            server.refuses(token, "token_revoked").await;
        }
        server.accepts(&other.access).await;

        // A new log-in is another matter, and can't bring the old ones back.
        let again = server.issue("alice", "").await;
        server.accepts(&again.access).await;
        for token in [&one.access, &one.refresh, &two.access, &two.refresh] {
            unrevoke(&server, &again, token).await.error(409, "revocation_final");
        }
    }

    async fn revoking_twice_is_no_error_and_keeps_the_first_time(server: Server) {
        let (one, two) = (server.issue("alice", "").await, server.issue("alice", "").await);
        let path = format!("/auth/tokens/{}", jti_of(&one.access));
        revoke(&server, &two, &one.access).await;
        let first = server.get(&path).bearer(&two.access).send().await.ok(200);
        assert_eq!(first["revoked"], true);
        server.advance(10);
        revoke(&server, &two, &one.access).await;
        assert_eq!(server.get(&path).bearer(&two.access).send().await.ok(200), first);

        for _ in 0..2 {
            unrevoke(&server, &two, &one.access).await.says("Token successfully unrevoked");
            let record = server.get(&path).bearer(&two.access).send().await.ok(200);
            assert_eq!((&record["revoked"], &record["revoked_at"]), (&json!(false), &Value::Null));
            server.accepts(&one.access).await;
        }
    }

    async fn revoking_by_jti_touches_that_record_alone(server: Server) {
        let (one, two) = (server.issue("alice", "").await, server.issue("alice", "").await);
        revoke(&server, &two, &one.refresh).await;
        server.post("/refresh").bearer(&one.refresh).send().await.error(401, "token_revoked");
        server.accepts(&one.access).await;
        unrevoke(&server, &two, &one.refresh).await.says("Token successfully unrevoked");
        server.post("/refresh").bearer(&one.refresh).send().await.ok(200);
    }

    async fn a_subject_takes_back_only_what_it_did_itself(server: Server) {
        let admin = server.login().await;
        let (one, two) = (server.issue("alice", "").await, server.issue("alice", "").await);
        let path = format!("/admin/tokens/revoke/{}", jti_of(&one.access));
        server.put(&path).bearer(&admin.access).send().await.says("Token successfully revoked");
        unrevoke(&server, &two, &one.access).await.error(409, "revocation_final");
        server.refuses(&one.access, "token_revoked").await;
        // Revoking it oneself afterwards doesn't make it one's own revocation.
        revoke(&server, &two, &one.access).await;
        unrevoke(&server, &two, &one.access).await.error(409, "revocation_final");

        // And an administrator who revokes what the subject had revoked takes it over.
        revoke(&server, &two, &one.refresh).await;
        let path = format!("/admin/tokens/revoke/{}", jti_of(&one.refresh));
        server.put(&path).bearer(&admin.access).send().await.says("Token successfully revoked");
        unrevoke(&server, &two, &one.refresh).await.error(409, "revocation_final");

        let path = format!("/admin/tokens/unrevoke/{}", jti_of(&one.access));
        server.put(&path).bearer(&admin.access).send().await.says("Token successfully unrevoked");
        server.accepts(&one.access).await;

        server.command_ok(&["token", "revoke", &jti_of(&one.access)], "");
        unrevoke(&server, &two, &one.access).await.error(409, "revocation_final");
        server.refuses(&one.access, "token_revoked").await;
    }

    async fn what_has_ended_or_expired_can_not_be_taken_back_by_anybody(server: Server) {
        let admin = server.login().await;
        let alice = server.issue("alice", "").await;
        let ended = server.issue("alice", "").await;
        let short =
            server.issue_with("alice", "", |grant| grant.access_expires(std::time::Duration::from_secs(5))).await;
        revoke(&server, &alice, &short.access).await;
        revoke(&server, &alice, &ended.access).await;
        server.delete(&format!("/auth/sessions/{}", sid_of(&ended.access))).bearer(&alice.access).send().await.ok(200);
        server.advance(5);
        for token in [&short.access, &ended.access, &ended.refresh] {
            unrevoke(&server, &alice, token).await.error(409, "revocation_final");
            let path = format!("/admin/tokens/unrevoke/{}", jti_of(token));
            server.put(&path).bearer(&admin.access).send().await.error(409, "revocation_final");
        }
    }

    async fn a_default_body_of_revoke_all_ends_everything(database: Database) {
        let server = Server::start(database, |settings| settings).await;
        let pair = server.issue("alice", "").await;
        let call = server.post("/auth/tokens/revoke-all").bearer(&pair.access).json(&json!({}));
        assert_eq!(call.send().await.ok(200)["revoked"], 2);
        server.refuses(&pair.access, "token_revoked").await;
    }
}
