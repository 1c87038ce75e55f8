//! `check = "refresh"`: access tokens are checked by signature and times alone and are not stored; refresh and personal
//! tokens are as ever, and everything that lists or revokes says so.

use crate::support::forge::{jti_of, sid_of};
use crate::support::server::Settings;
use crate::support::{Server, json, on_both};

fn refresh_only(settings: Settings) -> Settings {
    settings.set("check", "refresh")
}

on_both! {
    async fn access_tokens_have_no_record_and_live_until_they_expire(database: Database) {
        let server = Server::start(database, refresh_only).await;
        let pair = server.login().await;
        server.accepts(&pair.access).await;
        let listed = server.get("/auth/tokens").bearer(&pair.access).send().await;
        assert_eq!(listed.header("Counterfoil-Check"), Some("refresh"));
        let listed = listed.ok(200);
        assert_eq!(listed.as_array().unwrap().len(), 1);
        assert_eq!(listed[0]["token"]["jti"], jti_of(&pair.refresh));
        let path = format!("/auth/tokens/revoke/{}", jti_of(&pair.access));
        assert_eq!(server.put(&path).bearer(&pair.access).send().await.error(404, "not_found"), "Token not found");

        server.post("/logout").bearer(&pair.access).send().await.says("Successfully logged out");
        server.accepts(&pair.access).await;
        assert_eq!(server.get("/auth/check").bearer(&pair.access).send().await.status, 204);
        server.post("/refresh").bearer(&pair.refresh).send().await.error(401, "token_revoked");
        server.advance(900);
        server.refuses(&pair.access, "token_expired").await;
    }

    async fn a_well_signed_access_token_is_enough_and_a_refresh_token_is_not(database: Database) {
        let server = Server::start(database, refresh_only).await;
        let token = server.key.sign(&server.key.header(), &server.claims());
        server.accepts(&token).await;
        let mut claims = server.claims();
        claims["type"] = json!("refresh");
        claims.as_object_mut().unwrap().remove("fresh");
        let mut header = server.key.header();
        header["typ"] = json!("rt+jwt");
        let answer = server.post("/refresh").bearer(&server.key.sign(&header, &claims)).send().await;
        answer.error(401, "token_unknown");
    }

    async fn refresh_tokens_are_revoked_and_taken_back_as_ever(database: Database) {
        let server = Server::start(database, refresh_only).await;
        let pair = server.login().await;
        let jti = jti_of(&pair.refresh);
        let answer = server.put(&format!("/auth/tokens/revoke/{jti}")).bearer(&pair.access).send().await;
        answer.says("Token successfully revoked");
        assert_eq!(answer.header("Counterfoil-Check"), Some("refresh"));
        server.post("/refresh").bearer(&pair.refresh).send().await.error(401, "token_revoked");
        let answer = server.put(&format!("/auth/tokens/unrevoke/{jti}")).bearer(&pair.access).send().await;
        answer.says("Token successfully unrevoked");
        let refreshed = server.post("/refresh").bearer(&pair.refresh).send().await.ok(200);
        server.accepts(refreshed["access_token"].as_str().unwrap()).await;

        let answer = server.post("/auth/tokens/revoke-all").bearer(&pair.access).json(&json!({})).send().await;
        assert_eq!(answer.header("Counterfoil-Check"), Some("refresh"));
        assert_eq!(answer.ok(200)["revoked"], 1);
        server.post("/refresh").bearer(&pair.refresh).send().await.error(401, "token_revoked");
    }

    async fn personal_tokens_are_recorded_and_checked(database: Database) {
        let server = Server::start(database, refresh_only).await;
        let pair = server.login().await;
        let made =
            server.post("/auth/tokens").bearer(&pair.access).json(&json!({ "label": "script" })).send().await.ok(201);
        let token = made["access_token"].as_str().unwrap();
        server.accepts(token).await;
        let path = format!("/auth/tokens/revoke/{}", jti_of(token));
        server.put(&path).bearer(&pair.access).send().await.says("Token successfully revoked");
        server.refuses(token, "token_revoked").await;

        let made =
            server.post("/auth/tokens").bearer(&pair.access).json(&json!({ "label": "script" })).send().await.ok(201);
        let token = made["access_token"].as_str().unwrap();
        let ended = server.delete(&format!("/auth/sessions/{}", sid_of(token))).bearer(&pair.access).send().await;
        assert_eq!(ended.ok(200)["revoked"], 1);
        server.refuses(token, "token_revoked").await;

        // One that was never issued is not let in by claiming to be one.
        let mut claims = server.claims();
        claims["sid"] = claims["jti"].clone();
        server.refuses(&server.key.sign(&server.key.header(), &claims), "token_unknown").await;
    }

    async fn a_personal_token_has_no_scope_that_was_taken_away(database: Database) {
        let server = Server::start(database, refresh_only).await;
        server.add_user("alice", "alice password", &["notes:read", "notes:write"]);
        let pair = server.login_as("alice", "alice password").await;
        server.command_ok(&["user", "set", "alice", "--remove-scope", "notes:write"], "");
        // The access token still says that it may write.
        server.accepts(&pair.access).await;
        let ask = |body| server.post("/auth/tokens").bearer(&pair.access).json(&body).send();
        assert_eq!(ask(json!({ "label": "script" })).await.ok(201)["scope"], "notes:read");
        ask(json!({ "label": "script", "scope": "notes:write" })).await.error(403, "insufficient_scope");
    }

    async fn where_every_token_is_checked_nothing_is_said(server: Server) {
        let pair = server.login().await;
        assert_eq!(server.get("/auth/tokens").bearer(&pair.access).send().await.header("Counterfoil-Check"), None);
    }
}
