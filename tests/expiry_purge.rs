//! Expiry, leeway, and the purge, which removes what has expired for every checker, and nothing else.

use std::time::Duration;

use crate::support::forge::jti_of;
use crate::support::{PASSWORD, Pair, Server, json, on_both};

const DAY: u64 = 24 * 60 * 60;

async fn held(server: &Server, by: &Pair) -> usize {
    server.get("/auth/all-tokens?limit=1000").bearer(&by.access).send().await.ok(200).as_array().unwrap().len()
}

/// An administrator whose tokens outlive the test.
async fn watcher(server: &Server) -> Pair {
    let long = Duration::from_secs(365 * DAY);
    server.issue_with("watcher", "registry:admin", |grant| grant.access_expires(long).refresh_expires(long)).await
}

on_both! {
    async fn the_purge_removes_what_has_expired_and_nothing_else(server: Server) {
        let watcher = watcher(&server).await;
        let alice = server.issue("alice", "").await;
        let revoked = server.issue("bob", "").await;
        server
            .put(&format!("/auth/tokens/revoke/{}", jti_of(&revoked.refresh)))
            .bearer(&revoked.access)
            .send()
            .await
            .ok(200);
        assert_eq!(held(&server, &watcher).await, 6);

        server.advance(899);
        assert_eq!(server.registry.purgeable().await.unwrap(), 0);
        assert_eq!(server.registry.purge().await.unwrap().tokens, 0);
        server.accepts(&alice.access).await;

        server.advance(2);
        assert_eq!(server.registry.purgeable().await.unwrap(), 2);
        let purged = server.registry.purge().await.unwrap();
        assert_eq!((purged.tokens, purged.complete), (2, true));
        assert_eq!(held(&server, &watcher).await, 4);
        // Gone or not, an expired token is expired.
        server.refuses(&alice.access, "token_expired").await;
        // Revoked and not expired stays, and stays revoked.
        server.post("/refresh").bearer(&revoked.refresh).send().await.error(401, "token_revoked");
        server.post("/refresh").bearer(&alice.refresh).send().await.ok(200);

        server.advance(30 * DAY + 1);
        assert_eq!(server.registry.purge().await.unwrap().tokens, 4);
        assert_eq!(held(&server, &watcher).await, 2);
        server.accepts(&watcher.access).await;
        assert_eq!(server.registry.purge().await.unwrap().tokens, 0);
        server.post("/refresh").bearer(&alice.refresh).send().await.error(401, "token_expired");
        server.login().await;
    }

    async fn a_user_of_whom_nothing_else_is_left_still_has_the_name(server: Server) {
        server.add_user("alice", PASSWORD, &[]);
        server.login_as("alice", PASSWORD).await;
        let client = server.add_client("shop", &["--scope", "tokens:issue"]);
        server.advance(31 * DAY);
        assert!(server.registry.purge().await.unwrap().complete);
        let call = server.post("/tokens").basic(&client).json(&json!({ "subject": "alice" }));
        call.send().await.error(403, "subject_reserved");
    }

    async fn logging_out_with_a_purged_token_ends_its_session(server: Server) {
        let pair = server.login().await;
        server.advance(901);
        assert_eq!(server.registry.purge().await.unwrap().tokens, 1);
        server.post("/logout").bearer(&pair.access).send().await.says("Successfully logged out");
        server.post("/refresh").bearer(&pair.refresh).send().await.error(401, "token_revoked");
    }

    async fn a_purge_brings_no_ended_session_back(server: Server) {
        let watcher = watcher(&server).await;
        let (one, two) = (server.issue("alice", "").await, server.issue("alice", "").await);
        server.post("/logout").bearer(&one.access).send().await.says("Successfully logged out");
        server.post("/auth/tokens/revoke-all").bearer(&two.access).json(&serde_json::json!({})).send().await.ok(200);
        for _ in 0..3 {
            server.advance(901);
            server.registry.purge().await.unwrap();
            for pair in [&one, &two] {
                server.post("/refresh").bearer(&pair.refresh).send().await.error(401, "token_revoked");
            }
        }
        let listed = server.get("/auth/all-tokens?subject=alice").bearer(&watcher.access).send().await.ok(200);
        assert!(listed.as_array().unwrap().iter().all(|record| record["revoked"] == true), "{listed}");
    }

    async fn leeway_and_retention_put_the_purge_off(database: Database) {
        let server = Server::start(database, |settings| settings.set("leeway", "30s").set("purge.retain", "1h")).await;
        let watcher = watcher(&server).await;
        let pair = server.issue("alice", "").await;
        server.advance(929);
        server.accepts(&pair.access).await;
        server.advance(1);
        server.refuses(&pair.access, "token_expired").await;
        assert_eq!(server.registry.purge().await.unwrap().tokens, 0);
        server.advance(3_600 - 1);
        assert_eq!(server.registry.purge().await.unwrap().tokens, 0);
        assert_eq!(held(&server, &watcher).await, 4);
        server.advance(2);
        assert_eq!(server.registry.purge().await.unwrap().tokens, 1);
        assert_eq!(held(&server, &watcher).await, 3);
    }

    async fn the_audit_is_kept_as_long_as_is_set(database: Database) {
        let server = Server::start(database, |settings| settings.set("audit.retain", "2d")).await;
        let watcher = watcher(&server).await;
        let audited = async |subject: &str| {
            let path = format!("/admin/audit?subject={subject}");
            server.get(&path).bearer(&watcher.access).send().await.ok(200).as_array().unwrap().len()
        };
        for subject in ["alice", "bob"] {
            let pair = server.issue(subject, "").await;
            server.post("/logout").bearer(&pair.access).send().await.says("Successfully logged out");
            server.advance(DAY);
        }
        server.registry.purge().await.unwrap();
        assert_eq!((audited("alice").await, audited("bob").await), (1, 1));
        server.advance(1);
        server.registry.purge().await.unwrap();
        assert_eq!((audited("alice").await, audited("bob").await), (0, 1));
    }

    async fn many_batches_make_one_purge(database: Database) {
        let server = Server::start(database, |settings| settings.set("purge.batch", 2).set("purge.pause", "0s")).await;
        let watcher = watcher(&server).await;
        let sessions = "select count(*) from cf_sessions where subject <> 'watcher'";
        for (subject, later) in [("a", 1), ("b", 0), ("c", 0), ("d", 0), ("e", 1), ("f", 1), ("g", 1)] {
            server.issue(subject, "").await;
            server.advance(later);
        }
        server.advance(900);
        let purged = server.registry.purge().await.unwrap();
        assert_eq!((purged.tokens, purged.complete), (7, true));
        assert_eq!(server.count(sessions).await, 7);
        server.advance(30 * DAY);
        assert_eq!(server.registry.purge().await.unwrap().tokens, 7);
        assert_eq!(held(&server, &watcher).await, 2);
        assert_eq!(server.count(sessions).await, 0);
    }
}
