//! A cap on the sessions of a subject.

use crate::support::forge::{header_of, jti_of};
use crate::support::server::{MASTER_KEY, at_once};
use crate::support::{ADMIN, PASSWORD, Pair, Server, json, on_both};

const LIVE: &str = "select count(*) from cf_sessions where subject = 'admin' and ended_at is null";

on_both! {
    async fn one_too_many_is_refused(database: Database) {
        let server = Server::start(database, |settings| settings.set("sessions", json!({ "max": 2 }))).await;
        let (first, _second) = (server.login().await, server.login().await);
        let login = || server.post("/login").json(&json!({ "username": ADMIN, "password": PASSWORD }));
        login().send().await.error(409, "session_limit");
        server.accepts(&first.access).await;
        // Personal tokens are no sessions that somebody logged in for.
        let personal = server.post("/auth/tokens").bearer(&first.access).json(&json!({ "label": "script" }));
        personal.send().await.ok(201);
        server.post("/logout").bearer(&first.access).send().await.says("Successfully logged out");
        server.login().await;
        login().send().await.error(409, "session_limit");
        // What a client gets for itself neither.
        let client = server.add_client("api", &["--scope", "tokens:introspect"]);
        for _ in 0..3 {
            server.client_token(&client).await;
        }
        // What has expired is none any more, though nothing has purged it.
        server.advance(30 * 24 * 60 * 60);
        server.login().await;
        server.login().await;
        login().send().await.error(409, "session_limit");
        // Another subject has its own.
        server.issue("alice", "").await;
        assert!(server.registry.issue(counterfoil::Grant::to(ADMIN.parse().unwrap())).await.unwrap_err().is_session_limit());
    }

    async fn a_session_whose_tokens_are_good_for_nothing_is_none(database: Database) {
        let server = Server::start(database, |settings| at_once(settings).set("sessions", json!({ "max": 1 }))).await;
        let first = server.login().await;
        let header = header_of(&first.access);
        let retire = ["keys", "retire", header["kid"].as_str().unwrap()];
        server.command_with(&[("COUNTERFOIL_MASTER_KEY", MASTER_KEY)], &retire, "").ok();
        server.refuses(&first.access, "token_revoked").await;
        let second = server.login().await;
        // One of its tokens is enough to go on.
        server.put(&format!("/auth/tokens/revoke/{}", jti_of(&second.access))).bearer(&second.access).send().await.ok(200);
        let login = || server.post("/login").json(&json!({ "username": ADMIN, "password": PASSWORD }));
        login().send().await.error(409, "session_limit");
        server.sql("update cf_tokens set revoked_at = 1, revoked_by_kind = 'system', revoked_by = 'sql' where revoked_at is null").await;
        server.login().await;
    }

    async fn a_session_counts_until_the_last_of_its_good_tokens_has_expired(database: Database) {
        let server = Server::start(database, |settings| settings.set("sessions", json!({ "max": 1 }))).await;
        let first = server.login().await;
        let revoke = server.put(&format!("/auth/tokens/revoke/{}", jti_of(&first.refresh))).bearer(&first.access);
        revoke.send().await.ok(200);
        let login = || server.post("/login").json(&json!({ "username": ADMIN, "password": PASSWORD }));
        login().send().await.error(409, "session_limit");
        server.advance(20 * 60);
        let second = server.login().await;
        login().send().await.error(409, "session_limit");
        // What ended with all of the subject's has no end of its own.
        server.post("/auth/tokens/revoke-all").bearer(&second.access).send().await.ok(200);
        server.login().await;
    }

    async fn a_session_that_has_no_records_counts_until_it_expires(database: Database) {
        let server = Server::start(database, |settings| {
            settings.set("sessions", json!({ "max": 1 })).set("check", "refresh")
        }).await;
        let client = server.add_client("shop", &["--scope", "tokens:issue"]);
        let call = || server.post("/tokens").basic(&client).json(&json!({ "subject": "alice", "refresh": false })).send();
        call().await.ok(201);
        call().await.error(409, "session_limit");
        server.advance(20 * 60);
        call().await.ok(201);
    }

    async fn applications_are_refused_too_and_may_ask_again(database: Database) {
        let server = Server::start(database, |settings| settings.set("sessions", json!({ "max": 1 }))).await;
        let client = server.add_client("shop", &["--scope", "tokens:issue"]);
        let call = || server.post("/tokens").basic(&client).json(&json!({ "subject": "alice" }));
        let once = || call().header("Idempotency-Key", "k").send();
        let first = call().send().await.ok(201);
        call().send().await.error(409, "session_limit");
        once().await.error(409, "session_limit");
        let logout = server.post("/logout").bearer(first["access_token"].as_str().unwrap());
        logout.send().await.says("Successfully logged out");
        let second = once().await.ok(201);
        // What was issued is no session more.
        assert_eq!(once().await.ok(201), second);
        call().send().await.error(409, "session_limit");
    }

    async fn retries_at_once_are_one_session(database: Database) {
        for when_full in ["refuse", "end_oldest"] {
            let settings = json!({ "max": 1, "when_full": when_full });
            let server = Server::start(database, |all| all.set("sessions", settings)).await;
            let client = server.add_client("shop", &["--scope", "tokens:issue"]);
            for subject in ["alice", "bob", "carol"] {
                let call = || server.post("/tokens").basic(&client).json(&json!({ "subject": subject }));
                let asked: Vec<_> =
                    (0..8).map(|_| tokio::spawn(call().header("Idempotency-Key", subject).send())).collect();
                let mut answers = Vec::new();
                for answer in asked {
                    answers.push(answer.await.unwrap().ok(201));
                }
                assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
                server.accepts(answers[0]["access_token"].as_str().unwrap()).await;
            }
        }
    }

    async fn the_oldest_makes_room_everywhere_at_once(database: Database) {
        let settings = json!({ "max": 2, "when_full": "end_oldest" });
        let server = Server::start(database, |all| all.set("sessions", settings)).await;
        let other = server.another(|settings| settings).await;
        let first = server.login().await;
        server.advance(1);
        let second = server.login().await;
        server.advance(1);
        // The one that began first, however lately it was seen.
        server.post("/refresh").bearer(&first.refresh).send().await.ok(200);
        other.accepts(&first.access).await;
        let third = server.login().await;
        for server in [&server, &other] {
            server.refuses(&first.access, "token_revoked").await;
            server.accepts(&second.access).await;
            server.accepts(&third.access).await;
        }
        server.post("/refresh").bearer(&first.refresh).send().await.error(401, "token_revoked");
        let audit = server.get("/admin/audit?action=session.ended").bearer(&third.access).send().await.ok(200);
        assert_eq!(audit[0]["actor"], json!({ "kind": "system", "name": "sessions.max" }));
    }

    async fn all_that_are_over_a_lowered_cap_make_room(database: Database) {
        let settings = json!({ "max": 2, "when_full": "end_oldest" });
        let server = Server::start(database, |all| all.set("sessions", settings)).await;
        let kept = server.login().await;
        // Of earlier, when there was no cap.
        let columns = "subject, generation, created_at, last_seen_at, expires_at";
        server
            .sql(&format!(
                "with recursive n (n) as (select 1 union all select n + 1 from n where n < 40)
                insert into cf_sessions (sid, {columns})
                select {}, subject, generation, created_at - n, last_seen_at, expires_at from cf_sessions, n",
                server.random_id()
            ))
            .await;
        let last = server.login().await;
        for pair in [&kept, &last] {
            server.accepts(&pair.access).await;
        }
        assert_eq!(server.count(LIVE).await, 2);
        let audit = "select count(*) from cf_audit a join cf_sessions s on replace(a.target, '-', '') = ID
            where a.action = 'session.ended' and a.actor = 'sessions.max' and a.subject = s.subject
                and a.reason = s.ended_reason and a.at = s.ended_at";
        let id = if server.database_url().starts_with("sqlite:") { "lower(hex(s.sid))" } else { "replace(s.sid::text, '-', '')" };
        assert_eq!(server.count(&audit.replace("ID", id)).await, 40);
        // From the one that began first on.
        let out_of_order = "select count(*) from cf_audit a join cf_audit b on b.id > a.id
            join cf_sessions s on replace(a.target, '-', '') = ID join cf_sessions t on replace(b.target, '-', '') = OTHER
            where s.created_at > t.created_at";
        let out_of_order = out_of_order.replace("ID", id).replace("OTHER", &id.replace("s.sid", "t.sid"));
        assert_eq!(server.count(&out_of_order).await, 0);
    }

    async fn it_holds_for_many_at_once(database: Database) {
        for (when_full, live) in [("refuse", 3), ("end_oldest", 3)] {
            let settings = json!({ "max": 3, "when_full": when_full });
            let server = Server::start(database, |all| all.set("sessions", settings.clone())).await;
            let other = server.another(|all| all.set("sessions", settings.clone())).await;
            let mut asked = Vec::new();
            for number in 0..12 {
                let server = if number % 2 == 0 { &server } else { &other };
                let call = server.post("/login").json(&json!({ "username": ADMIN, "password": PASSWORD }));
                asked.push(tokio::spawn(call.send()));
            }
            let mut good = 0;
            for answer in asked {
                let answer = answer.await.unwrap();
                match answer.status {
                    200 => {
                        Pair::of(&answer.ok(200));
                        good += 1;
                    }
                    // More than the machine hashes at once.
                    429 => drop(answer.error(429, "rate_limited")),
                    _ => drop(answer.error(409, "session_limit")),
                }
            }
            assert_eq!(server.count(LIVE).await, live, "{when_full}");
            assert!(if when_full == "refuse" { good == 3 } else { good >= 3 }, "{when_full}: {good}");
        }
    }
}
