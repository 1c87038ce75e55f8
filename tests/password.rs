//! Changing one's password.

use crate::support::{ADMIN, Call, PASSWORD, Pair, Server, json, on_both};

const NEW: &str = "another long password";

fn change(server: &Server, by: &Pair, body: &crate::support::Value) -> Call {
    server.post("/auth/password").bearer(&by.access).json(body)
}

on_both! {
    async fn a_new_password_replaces_the_old_and_ends_all_other_sessions(server: Server) {
        let (here, elsewhere) = (server.login().await, server.login().await);
        let answer = change(&server, &here, &json!({ "current": PASSWORD, "new": NEW })).send().await.ok(200);
        assert!(answer["msg"].is_string(), "{answer}");
        server.accepts(&here.access).await;
        server.refuses(&elsewhere.access, "token_revoked").await;
        server.post("/refresh").bearer(&elsewhere.refresh).send().await.error(401, "token_revoked");
        server.post("/refresh").bearer(&here.refresh).send().await.ok(200);

        let old = server.post("/login").json(&json!({ "username": ADMIN, "password": PASSWORD })).send().await;
        assert_eq!(old.error(401, "bad_credentials"), "Bad username or password");
        server.login_as(ADMIN, NEW).await;
    }

    async fn other_sessions_are_kept_on_demand(server: Server) {
        let (here, elsewhere) = (server.login().await, server.login().await);
        let body = json!({ "current": PASSWORD, "new": NEW, "keep_sessions": true });
        change(&server, &here, &body).send().await.ok(200);
        server.accepts(&here.access).await;
        server.accepts(&elsewhere.access).await;
        server.login_as(ADMIN, NEW).await;
    }

    async fn a_wrong_current_password_changes_nothing(server: Server) {
        let (here, elsewhere) = (server.login().await, server.login().await);
        change(&server, &here, &json!({ "current": "wrong", "new": NEW })).send().await.error(401, "bad_credentials");
        server.accepts(&elsewhere.access).await;
        server.login().await;
    }

    async fn guesses_at_the_current_password_are_limited(database: Database) {
        // Of the account and of the address, each by itself.
        for settings in [json!({ "limit": 3, "address_limit": 0 }), json!({ "limit": 0, "address_limit": 3 })] {
            let server = Server::start(database, |all| all.set("login", settings)).await;
            let pair = server.login().await;
            let body = json!({ "current": "a guess", "new": "another long password" });
            let change = || server.post("/auth/password").bearer(&pair.access).json(&body);
            for _ in 0..3 {
                change().send().await.error(401, "bad_credentials");
            }
            change().send().await.error(429, "rate_limited");
        }
    }

    async fn a_new_password_must_be_one(server: Server) {
        let here = server.login().await;
        for new in [json!(""), json!("short"), json!("x".repeat(100_000 / 2)), json!(7)] {
            let answer = change(&server, &here, &json!({ "current": PASSWORD, "new": new })).send().await;
            let msg = answer.error(422, "invalid_request");
            assert!(msg.contains("new"), "{msg}");
        }
        let answer = change(&server, &here, &json!({ "current": PASSWORD })).send().await;
        assert!(answer.error(422, "invalid_request").contains("new"));
        server.login().await;
    }

    async fn who_is_no_user_of_the_server_has_no_password(server: Server) {
        let alice = server.issue("alice", "").await;
        let answer = change(&server, &alice, &json!({ "current": PASSWORD, "new": NEW })).send().await;
        answer.error(401, "bad_credentials");
    }
}
