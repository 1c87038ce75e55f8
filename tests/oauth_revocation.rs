//! `POST /oauth/revoke`: a client takes back what was issued to it.

use crate::support::forge::jti_of;
use crate::support::{ClientSecret, Pair, Server, json, on_both};

async fn issue(server: &Server, client: &ClientSecret) -> Pair {
    let answer = server.post("/tokens").basic(client).json(&json!({ "subject": "alice" })).send().await;
    Pair::of(&answer.ok(201))
}

async fn revoke(server: &Server, client: &ClientSecret, token: &str) {
    let answer = server.post("/oauth/revoke").basic(client).form(&[("token", token)]).send().await;
    assert_eq!((answer.status, answer.body.len()), (200, 0), "{answer:?}");
}

on_both! {
    async fn a_client_revokes_what_was_issued_to_it_for_good(server: Server) {
        let client = server.add_client("shop", &["--scope", "tokens:issue"]);
        let (one, two) = (issue(&server, &client).await, issue(&server, &client).await);
        server.accepts(&one.access).await;
        revoke(&server, &client, &one.access).await;
        server.refuses(&one.access, "token_revoked").await;
        // The refresh token of the same session is as it was.
        let call = server.post("/oauth/revoke").basic(&client).form(&[("token", &one.refresh), ("token_type_hint", "access_token")]);
        assert_eq!(call.send().await.status, 200);
        server.post("/logout").bearer(&one.refresh).send().await.error(401, "token_revoked");

        // A refresh token takes its session with it.
        server.accepts(&two.access).await;
        revoke(&server, &client, &two.refresh).await;
        server.refuses(&two.access, "token_revoked").await;

        let admin = server.login().await;
        for token in [&one.access, &two.access] {
            let path = format!("/admin/tokens/unrevoke/{}", jti_of(token));
            server.put(&path).bearer(&admin.access).send().await.error(409, "revocation_final");
        }
        // Again, and what never was a token: done already.
        for token in [&one.access, &two.refresh, &"x".to_owned(), &"a.b.c".to_owned()] {
            revoke(&server, &client, token).await;
        }
        let audit = server.get("/admin/audit?subject=alice").bearer(&admin.access).send().await.ok(200);
        assert_eq!(audit[0]["actor"], json!({ "kind": "client", "name": "shop" }));
    }

    async fn it_makes_an_undoable_revocation_final(server: Server) {
        let client = server.add_client("shop", &["--scope", "tokens:issue"]);
        let (one, two) = (issue(&server, &client).await, issue(&server, &client).await);
        let admin = server.login().await;
        let path = |verb: &str, token: &str| format!("/admin/tokens/{verb}/{}", jti_of(token));
        server.put(&path("revoke", &one.access)).bearer(&admin.access).send().await.says("Token successfully revoked");
        revoke(&server, &client, &one.access).await;
        let undo = server.put(&path("unrevoke", &one.access)).bearer(&admin.access);
        undo.send().await.error(409, "revocation_final");
        server.accepts(&two.access).await;
        revoke(&server, &client, &two.access).await;
        let own = server.put(&format!("/auth/tokens/unrevoke/{}", jti_of(&two.access)));
        own.bearer(&issue(&server, &client).await.access).send().await.error(409, "revocation_final");
    }

    async fn another_clients_token_is_left_alone(server: Server) {
        let client = server.add_client("shop", &["--scope", "tokens:issue"]);
        let other = server.add_client("other", &["--scope", "tokens:issue"]);
        let pair = issue(&server, &client).await;
        let login = server.login().await;
        for token in [&pair.access, &pair.refresh, &login.access] {
            let answer = server.post("/oauth/revoke").basic(&other).form(&[("token", token)]).send().await;
            answer.oauth_error(400, "unauthorized_client");
        }
        server.accepts(&pair.access).await;
        server.accepts(&login.access).await;
        server.post("/oauth/revoke").form(&[("token", &pair.access)]).send().await.oauth_error(401, "invalid_client");
        server.post("/oauth/revoke").basic(&client).form(&[]).send().await.oauth_error(400, "invalid_request");
        server.accepts(&pair.access).await;
    }

    async fn a_token_of_a_user_is_no_credential_of_the_client_that_got_it(server: Server) {
        let client = server.add_client("shop", &["--scope", "tokens:issue"]);
        let (pair, other) = (issue(&server, &client).await, issue(&server, &client).await);
        let call = server.post("/oauth/revoke").bearer(&pair.access).form(&[("token", &other.access)]);
        call.send().await.oauth_error(401, "invalid_token");
        server.accepts(&other.access).await;
    }

    async fn what_is_not_on_the_registry_cant_be_revoked(database: Database) {
        let server = Server::start(database, |settings| settings.set("check", "refresh")).await;
        let client = server.add_client("shop", &["--scope", "tokens:issue"]);
        let pair = issue(&server, &client).await;
        let answer = server.post("/oauth/revoke").basic(&client).form(&[("token", &pair.access)]).send().await;
        answer.oauth_error(400, "unsupported_token_type");
        revoke(&server, &client, &pair.refresh).await;
    }
}
