//! `POST /oauth/token`.

use crate::support::forge::{claims_of, header_of};
use crate::support::{ISSUER, Server, json, on_both};

on_both! {
    async fn a_client_gets_a_token_for_itself(server: Server) {
        let client = server.add_client("shop", &["--scope", "tokens:introspect notes:read"]);
        let call = |fields: &[(&str, &str)]| server.post("/oauth/token").basic(&client).form(fields).send();
        let answer = call(&[("grant_type", "client_credentials")]).await;
        assert_eq!(answer.header("Pragma"), Some("no-cache"));
        let body = answer.ok(200);
        assert_eq!(
            (&body["token_type"], &body["expires_in"], &body["scope"], &body["refresh_token"]),
            (&json!("Bearer"), &json!(900), &json!("notes:read tokens:introspect"), &json!(null))
        );
        let token = body["access_token"].as_str().unwrap();
        let claims = claims_of(token);
        assert_eq!((&claims["sub"], &claims["client_id"]), (&json!(client.id), &json!(client.id)));
        assert_eq!((&claims["aud"], &claims["fresh"]), (&json!(ISSUER), &json!(false)));
        assert_eq!(header_of(token)["typ"], "at+jwt");
        server.accepts(token).await;
        let records = server.get("/auth/tokens").bearer(token).send().await.ok(200);
        assert_eq!(records[0]["client"], "shop");

        let spaced = "grant_type=client_credentials&scope=notes:read+tokens:introspect";
        let call_by_hand = server.post("/oauth/token").basic(&client).body("application/x-www-form-urlencoded", spaced);
        assert_eq!(call_by_hand.send().await.ok(200)["scope"], "notes:read tokens:introspect");

        let narrowed = call(&[("grant_type", "client_credentials"), ("scope", "notes:read")]).await.ok(200);
        assert_eq!(narrowed["scope"], "notes:read");
        let token = narrowed["access_token"].as_str().unwrap();
        let call = server.post("/oauth/introspect").bearer(token).form(&[("token", token)]);
        let msg = call.send().await.oauth_error(403, "insufficient_scope");
        assert_eq!(msg, "The token lacks the scope tokens:introspect");
    }

    async fn what_is_wrong_has_the_codes_of_rfc_6749(server: Server) {
        let client = server.add_client("shop", &["--scope", "notes:read"]);
        let post = || server.post("/oauth/token").basic(&client);
        let call = |fields: &[(&str, &str)]| post().form(fields).send();
        let credentials = ("grant_type", "client_credentials");
        call(&[credentials, ("scope", "notes:write")]).await.oauth_error(400, "invalid_scope");
        call(&[credentials, ("scope", "a\"b")]).await.oauth_error(400, "invalid_scope");
        call(&[]).await.oauth_error(400, "invalid_request");
        call(&[("grant_type", "")]).await.oauth_error(400, "invalid_request");
        call(&[credentials, credentials]).await.oauth_error(400, "invalid_request");
        for other in ["password", "authorization_code", "urn:x"] {
            call(&[("grant_type", other), ("username", "a"), ("password", "b")])
                .await
                .oauth_error(400, "unsupported_grant_type");
        }
        post().json(&json!({ "grant_type": "client_credentials" })).send().await.oauth_error(400, "invalid_request");
        post().send().await.oauth_error(400, "invalid_request");
        post().body("text/plain", "grant_type=client_credentials").send().await.oauth_error(400, "invalid_request");
        let bytes = "grant_type=%ff";
        post().body("application/x-www-form-urlencoded", bytes).send().await.oauth_error(400, "invalid_request");
        let long = format!("grant_type={}", "x".repeat(100_000));
        for path in ["/oauth/token", "/oauth/introspect", "/oauth/revoke"] {
            let call = server.post(path).basic(&client).body("application/x-www-form-urlencoded", long.clone());
            call.send().await.oauth_error(413, "invalid_request");
        }
        // A token is no credential of a client's here.
        let token = server.client_token(&client).await;
        let by_token = server.post("/oauth/token").bearer(&token).form(&[credentials]);
        by_token.send().await.oauth_error(401, "invalid_client");
        for bad in ["x.y.z", &format!("{token}x")] {
            server.post("/oauth/token").bearer(bad).form(&[credentials]).send().await.oauth_error(401, "invalid_client");
        }
        // What no route answers has the same form.
        server.get("/oauth/token").send().await.oauth_error(405, "method_not_allowed");
        server.get("/oauth/nothing").send().await.oauth_error(404, "not_found");
    }
}
