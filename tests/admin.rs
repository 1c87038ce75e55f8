//! What the scope `registry:admin` opens, and what keeps it shut.

use crate::support::forge::{jti_of, sid_of};
use crate::support::{ADMIN, Server, Value, json, on_both};

on_both! {
    async fn without_the_scope_nothing_opens(server: Server) {
        let alice = server.issue("alice", "notes:read registry:audit registry").await;
        let admin = server.login().await;
        let (jti, sid) = (jti_of(&admin.access), sid_of(&admin.access));
        for (method, path) in [
            ("GET", "/auth/all-tokens".to_owned()),
            ("GET", "/auth/all-tokens?subject=alice".to_owned()),
            ("PUT", format!("/admin/tokens/revoke/{jti}")),
            ("PUT", format!("/admin/tokens/unrevoke/{jti}")),
            ("DELETE", format!("/admin/sessions/{sid}")),
            ("POST", format!("/admin/subjects/{ADMIN}/revoke-all")),
            ("GET", "/admin/audit".to_owned()),
        ] {
            server.call(method, &path).send().await.error(401, "token_missing");
            let answer = server.call(method, &path).bearer(&alice.access).send().await;
            answer.error(403, "insufficient_scope");
            assert!(answer.header("WWW-Authenticate").unwrap().contains(r#"scope="registry:admin""#), "{answer:?}");
        }
        server.accepts(&admin.access).await;
    }

    async fn all_tokens_are_listed_and_can_be_narrowed_to_a_subject(server: Server) {
        let admin = server.login().await;
        server.issue("alice", "").await;
        server.issue("Zoë / 100%", "").await;
        let subjects = |path: &'static str| {
            let call = server.get(path).bearer(&admin.access);
            async move {
                let listed = call.send().await.ok(200);
                let records = listed.as_array().unwrap().iter();
                records.map(|record| record["token"]["sub"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
            }
        };
        assert_eq!(subjects("/auth/all-tokens").await.len(), 6);
        let page = server.get("/auth/all-tokens?subject=Zo%C3%AB%20/%20100%25&limit=1").bearer(&admin.access).send().await;
        let next = page.header("Link").unwrap();
        assert!(next.starts_with("</auth/all-tokens?subject=Zo%C3%AB%20%2F%20100%25&limit=1&cursor="), "{next}");
        assert_eq!(subjects("/auth/all-tokens?subject=alice").await, ["alice", "alice"]);
        assert_eq!(subjects("/auth/all-tokens?subject=Zo%C3%AB%20/%20100%25&type=access").await, ["Zoë / 100%"]);
        assert_eq!(subjects("/auth/all-tokens?subject=nobody").await, [""; 0]);
        assert_eq!(subjects("/auth/all-tokens?limit=2").await.len(), 2);
    }

    async fn a_reason_is_kept_in_the_record_and_the_audit(server: Server) {
        let admin = server.login().await;
        let alice = server.issue("alice", "").await;
        let jti = jti_of(&alice.access);
        let reason = "lost at the airport – ✈";
        let call = server.put(&format!("/admin/tokens/revoke/{jti}")).bearer(&admin.access);
        call.json(&json!({ "reason": reason })).send().await.says("Token successfully revoked");
        server.refuses(&alice.access, "token_revoked").await;

        let listed =
            server.get("/auth/all-tokens?subject=alice&state=revoked").bearer(&admin.access).send().await.ok(200);
        let record = &listed.as_array().unwrap()[0];
        assert_eq!(listed.as_array().unwrap().len(), 1);
        assert_eq!((&record["token"]["jti"], &record["revoked_reason"]), (&json!(jti), &json!(reason)));
        assert_eq!(record["revoked"], true);
        let now = server.registry.now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        assert_eq!(record["revoked_at"], json!(now));

        let audit = server.get("/admin/audit?subject=alice").bearer(&admin.access).send().await.ok(200);
        let entry = &audit.as_array().unwrap()[0];
        assert_eq!(entry["actor"], json!({ "kind": "administrator", "name": ADMIN }));
        assert_eq!((&entry["target"], &entry["reason"]), (&json!(jti), &json!(reason)));
        assert_eq!((&entry["at"], &entry["ip"]), (&json!(now), &json!("127.0.0.1")));

        for bad in [json!("x".repeat(256)), json!("a\u{0}b"), json!(1)] {
            let call = server.put(&format!("/admin/tokens/revoke/{jti}")).bearer(&admin.access);
            let msg = call.json(&json!({ "reason": bad })).send().await.error(422, "invalid_request");
            assert!(msg.contains("reason"), "{msg}");
        }
    }

    async fn of_two_administrators_the_first_revoked_it(server: Server) {
        let admin = server.login().await;
        let alice = server.issue("alice", "").await;
        let path = format!("/admin/tokens/revoke/{}", jti_of(&alice.access));
        for reason in ["lost", "found"] {
            server.put(&path).bearer(&admin.access).json(&json!({ "reason": reason })).send().await.ok(200);
        }
        let listed = server.get("/auth/all-tokens?subject=alice&state=revoked").bearer(&admin.access).send().await;
        assert_eq!(listed.ok(200)[0]["revoked_reason"], "lost");
        let audit = server.get("/admin/audit?action=token.revoked").bearer(&admin.access).send().await.ok(200);
        assert_eq!(audit.as_array().unwrap().len(), 1, "{audit}");
    }

    async fn an_administrator_ends_anybodys_sessions(server: Server) {
        let admin = server.login().await;
        let (one, two) = (server.issue("alice", "").await, server.issue("alice", "").await);
        let path = format!("/admin/sessions/{}", sid_of(&one.access));
        let answer =
            server.delete(&path).bearer(&admin.access).json(&json!({ "reason": "stolen" })).send().await.ok(200);
        assert_eq!(answer["revoked"], 2);
        server.refuses(&one.access, "token_revoked").await;
        server.accepts(&two.access).await;

        let three = server.issue("alice", "").await;
        let answer = server.post("/admin/subjects/alice/revoke-all").bearer(&admin.access).send().await.ok(200);
        assert_eq!(answer["revoked"], 4);
        for pair in [&two, &three] {
            server.refuses(&pair.access, "token_revoked").await;
            let path = format!("/admin/tokens/unrevoke/{}", jti_of(&pair.access));
            server.put(&path).bearer(&admin.access).send().await.error(409, "revocation_final");
        }
        let answer = server.delete(&path).bearer(&admin.access).send().await;
        assert!(matches!(answer.status, 200 | 404), "{answer:?}");
        let missing = "/admin/sessions/0190a5a0-0000-7000-8000-000000000001";
        assert_eq!(
            server.delete(missing).bearer(&admin.access).send().await.error(404, "not_found"),
            "Session not found"
        );
        for jti in ["0190a5a0-0000-7000-8000-000000000001", "x"] {
            for verb in ["revoke", "unrevoke"] {
                let answer = server.put(&format!("/admin/tokens/{verb}/{jti}")).bearer(&admin.access).send().await;
                assert_eq!(answer.error(404, "not_found"), "Token not found");
            }
        }
        server.accepts(&admin.access).await;
    }

    // Before the database has any statistics of its tables, too.
    async fn thirty_thousand_sessions_of_a_subject_end_at_once(server: Server) {
        let admin = server.login().await;
        let pair = server.issue("alice", "").await;
        let sessions = "insert into cf_sessions (sid, subject, generation, created_at, last_seen_at, expires_at)";
        let tokens = "insert into cf_tokens
            (jti, sid, subject, token_type, issued_at, not_before, expires_at, scope, claims, kid)";
        let (numbers, session, token) = match server.database_url().starts_with("sqlite:") {
            true => (
                "(with recursive n (i) as (select 1 union all select i + 1 from n where i < 30000) select i from n)",
                "unhex('0190a5a0000070008000' || printf('%012x', i))",
                "unhex('0190a5a1000070008000' || printf('%012x', i))",
            ),
            false => (
                "generate_series(1, 30000) as n (i)",
                "('0190a5a0-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid",
                "('0190a5a1-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid",
            ),
        };
        server.sql(&format!("{sessions} select {session}, 'alice', 0, 1, 1, 4000000000 from {numbers}")).await;
        let row = "'alice', 'access', 1, 1, 4000000000, '', '{}', 'some-key'";
        server.sql(&format!("{tokens} select {token}, {session}, {row} from {numbers}")).await;

        let answer = server.post("/admin/subjects/alice/revoke-all").bearer(&admin.access).send().await.ok(200);
        assert_eq!(answer["revoked"], 30_002);
        server.refuses(&pair.access, "token_revoked").await;
    }

    async fn the_audit_is_paged_and_can_be_narrowed(server: Server) {
        let admin = server.login().await;
        for subject in ["alice", "bob", "alice"] {
            let pair = server.issue(subject, "").await;
            server.post("/logout").bearer(&pair.access).send().await.says("Successfully logged out");
            server.advance(1);
        }
        let all = server.get("/admin/audit").bearer(&admin.access).send().await.ok(200);
        let all: Vec<Value> = all.as_array().unwrap().clone();
        assert!(all.len() >= 3, "{all:?}");
        assert_eq!((&all[0]["subject"], &all[1]["subject"]), (&json!("alice"), &json!("bob")));
        assert_eq!(all[0]["actor"], json!({ "kind": "subject", "name": "alice" }));

        let mut seen = Vec::new();
        let mut path = Some("/admin/audit?limit=1".to_owned());
        while let Some(page) = path {
            let answer = server.get(&page).bearer(&admin.access).send().await;
            let link = answer.header("Link").map(|link| link[1..link.find('>').unwrap()].to_owned());
            path = link.map(|target| target[target.find("/admin").unwrap()..].to_owned());
            seen.extend(answer.ok(200).as_array().unwrap().clone());
        }
        assert_eq!(seen, all);
        let bobs = server.get("/admin/audit?subject=bob").bearer(&admin.access).send().await.ok(200);
        assert_eq!(bobs, json!(all.iter().filter(|entry| entry["subject"] == "bob").collect::<Vec<_>>()));
        // Each filter alone, the same by HTTP and on the command line.
        let member = |entry: &Value, name: &str| match name {
            "actor" => entry["actor"]["name"].clone(),
            name => entry[name].clone(),
        };
        for name in ["subject", "actor", "action", "target"] {
            let value = member(&all[0], name);
            let wanted: Vec<&Value> = all.iter().filter(|entry| member(entry, name) == value).collect();
            assert!(!wanted.is_empty() && wanted.len() < all.len(), "{name}");
            let value = value.as_str().unwrap();
            let found = server.get(&format!("/admin/audit?{name}={value}")).bearer(&admin.access).send().await.ok(200);
            assert_eq!(found, json!(wanted), "{name}");
            let shown = server.command_ok(&["audit", &format!("--{name}"), value, "--json"], "");
            assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), found, "{name}");
        }
        for query in ["limit=0", "limit=1001", "cursor=x"] {
            server
                .get(&format!("/admin/audit?{query}"))
                .bearer(&admin.access)
                .send()
                .await
                .error(422, "invalid_request");
        }
    }

    async fn the_metrics_count_what_was_done(server: Server) {
        let counted = async |name: &str| {
            let text = server.registry.metrics_text().await.unwrap();
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.unwrap_or("0").parse::<u64>().unwrap()
        };
        let admin = server.login().await;
        let alice = server.issue("alice", "").await;
        for verb in ["revoke", "unrevoke"] {
            let path = format!("/admin/tokens/{verb}/{}", jti_of(&alice.access));
            server.put(&path).bearer(&admin.access).send().await.ok(200);
        }
        assert_eq!(counted("counterfoil_revocations_total{of=\"token\"}").await, 1);
        assert_eq!(counted("counterfoil_unrevocations_total").await, 1);

        let wrong = json!({ "username": ADMIN, "password": "wrong" });
        server.post("/login").json(&wrong).send().await.error(401, "bad_credentials");
        assert_eq!(counted("counterfoil_login_failures_total").await, 1);

        let next = server.post("/refresh").bearer(&alice.refresh).send().await.ok(200);
        server.post("/refresh").bearer(next["refresh_token"].as_str().unwrap()).send().await.ok(200);
        server.post("/refresh").bearer(&alice.refresh).send().await.error(401, "token_revoked");
        assert_eq!(counted("counterfoil_refresh_reuses_total").await, 1);

        server.advance(31 * 24 * 60 * 60);
        let purged = server.registry.purge().await.unwrap().tokens;
        assert_eq!((counted("counterfoil_purged_records_total").await, purged > 0), (purged, true));
    }

    async fn an_overview_says_what_the_metrics_say(server: Server) {
        let admin = server.login().await;
        let pair = server.issue("alice", "").await;
        server.get("/admin/overview").bearer(&pair.access).send().await.error(403, "insufficient_scope");
        server.protected("x").await;
        server.put(&format!("/admin/tokens/revoke/{}", jti_of(&pair.access))).bearer(&admin.access).send().await.ok(200);
        let overview = server.get("/admin/overview").bearer(&admin.access).send().await.ok(200);
        assert_eq!((&overview["issued"], &overview["revoked"], &overview["records"]), (&json!(4), &json!(1), &json!(4)));
        assert_eq!(overview["waits_for"], json!([]));
        assert!(overview["last_hour"].is_array(), "{overview}");
        let text = server.registry.metrics_text().await.unwrap();
        for (outcome, count) in overview["checks"].as_object().unwrap() {
            let line = format!("counterfoil_checks_total{{outcome=\"{outcome}\"}} {count}");
            assert!(text.lines().any(|written| written == line), "{line} is not in:\n{text}");
        }
        assert_eq!(overview["checks"]["token_malformed"], json!(1));
    }
}
