//! The flow of the page that this project began with, with its exact words: log in, use a token, list, revoke, be
//! refused, take the revocation back, refresh, log out.

use crate::support::forge::{claims_of, jti_of, sid_of};
use crate::support::{ADMIN, ISSUER, PASSWORD, Pair, Server, Value, json, on_both};

on_both! {
    async fn the_whole_flow(server: Server) {
        let answer = server.post("/login").json(&json!({ "username": ADMIN, "password": PASSWORD })).send().await;
        let body = answer.ok(200);
        let pair = Pair::of(&body);
        assert_eq!(body["token_type"], "Bearer");
        assert_eq!(body["expires_in"], 900);
        assert_eq!(body["scope"], "registry:admin");
        server.accepts(&pair.access).await;

        let listed = server.get("/auth/tokens").bearer(&pair.access).send().await.ok(200);
        let jtis: Vec<&str> =
            listed.as_array().unwrap().iter().map(|record| record["token"]["jti"].as_str().unwrap()).collect();
        assert_eq!(jtis.len(), 2);
        assert!(jtis.contains(&jti_of(&pair.access).as_str()) && jtis.contains(&jti_of(&pair.refresh).as_str()));

        // A revoked token can't take its own revocation back: another one of the same subject can.
        let other = server.login().await;
        let jti = jti_of(&pair.access);
        let revoke = format!("/auth/tokens/revoke/{jti}");
        server.put(&revoke).bearer(&pair.access).send().await.says("Token successfully revoked");
        server.refuses(&pair.access, "token_revoked").await;
        let unrevoke = format!("/auth/tokens/unrevoke/{jti}");
        server.put(&unrevoke).bearer(&pair.access).send().await.error(401, "token_revoked");
        server.put(&revoke).bearer(&other.access).send().await.says("Token successfully revoked");
        server.put(&unrevoke).bearer(&other.access).send().await.says("Token successfully unrevoked");
        server.accepts(&pair.access).await;

        let refreshed = server.post("/refresh").bearer(&pair.refresh).send().await.ok(200);
        let access = refreshed["access_token"].as_str().unwrap();
        assert_eq!(refreshed["token_type"], "Bearer");
        assert_eq!(refreshed["expires_in"], 900);
        assert_eq!(claims_of(access)["fresh"], false);
        assert_eq!(sid_of(access), sid_of(&pair.access));
        server.accepts(access).await;

        server.post("/logout").bearer(access).send().await.says("Successfully logged out");
        for token in [access, &pair.access, &pair.refresh] {
            let answer = server.post("/refresh").bearer(token).send().await;
            assert_eq!(answer.status, 401, "{answer:?}");
        }
        server.refuses(access, "token_revoked").await;
        server.refuses(&pair.access, "token_revoked").await;
        server.post("/refresh").bearer(&pair.refresh).send().await.error(401, "token_revoked");
        server.accepts(&other.access).await;
    }

    async fn a_wrong_name_and_a_wrong_password_get_the_same_words(server: Server) {
        for (username, password) in [(ADMIN, "wrong"), ("nobody", PASSWORD), (ADMIN, ""), ("", PASSWORD)] {
            let body = json!({ "username": username, "password": password });
            let answer = server.post("/login").json(&body).send().await;
            assert_eq!(answer.error(401, "bad_credentials"), "Bad username or password");
        }
    }

    async fn another_subjects_token_is_not_found(server: Server) {
        let mine = server.login().await;
        let theirs = server.issue("mallory", "").await;
        let unknown = "0190a5a0-0000-7000-8000-000000000001".to_owned();
        for jti in [jti_of(&mine.access), jti_of(&mine.refresh), unknown, "no-uuid".to_owned()] {
            for call in [
                server.put(&format!("/auth/tokens/revoke/{jti}")),
                server.put(&format!("/auth/tokens/unrevoke/{jti}")),
                server.get(&format!("/auth/tokens/{jti}")),
                server.patch(&format!("/auth/tokens/{jti}")).json(&json!({ "label": "mine now" })),
            ] {
                let answer = call.bearer(&theirs.access).send().await;
                assert_eq!(answer.error(404, "not_found"), "Token not found");
            }
        }
        server.accepts(&mine.access).await;
        let listed = server.get("/auth/tokens").bearer(&theirs.access).send().await.ok(200);
        assert!(listed.as_array().unwrap().iter().all(|record| record["token"]["sub"] == "mallory"), "{listed}");
    }

    async fn a_token_says_what_the_contract_says_and_its_record_the_same(server: Server) {
        let pair = server.login().await;
        let (access, refresh) = (claims_of(&pair.access), claims_of(&pair.refresh));
        let now = server.now();
        let expected = json!({
            "iss": ISSUER, "sub": ADMIN, "aud": ISSUER, "client_id": "counterfoil", "type": "access", "fresh": true,
            "scope": "registry:admin", "iat": now, "nbf": now, "exp": now + 900,
            "jti": access["jti"], "sid": access["sid"],
        });
        assert_eq!(access, expected);
        assert_eq!(refresh["type"], "refresh");
        assert_eq!(refresh["sid"], access["sid"]);
        assert_ne!(refresh["jti"], access["jti"]);
        assert_eq!(refresh["exp"], now + 30 * 24 * 60 * 60);
        assert_eq!(refresh.get("fresh"), None);
        assert_eq!(refresh["aud"], ISSUER);
        for (token, typ) in [(&pair.access, "at+jwt"), (&pair.refresh, "rt+jwt")] {
            let header = crate::support::forge::header_of(token);
            assert_eq!(header, json!({ "alg": "EdDSA", "kid": server.key.kid(), "typ": typ }));
        }

        for claims in [access, refresh] {
            let path = format!("/auth/tokens/{}", claims["jti"].as_str().unwrap());
            let record = server.get(&path).bearer(&pair.access).header("User-Agent", "another").send().await.ok(200);
            assert_eq!(
                record,
                json!({
                    "token": claims, "revoked": false, "revoked_at": Value::Null, "revoked_reason": Value::Null,
                    "last_used_at": Value::Null, "label": Value::Null, "client": Value::Null, "ip": "127.0.0.1",
                    "user_agent": Value::Null,
                })
            );
        }
    }

    async fn logging_out_works_with_either_token_and_with_an_expired_one(server: Server) {
        let by_refresh = server.login().await;
        server.post("/logout").bearer(&by_refresh.refresh).send().await.says("Successfully logged out");
        server.refuses(&by_refresh.access, "token_revoked").await;

        let by_expired = server.login().await;
        server.advance(901);
        server.refuses(&by_expired.access, "token_expired").await;
        server.post("/logout").bearer(&by_expired.access).send().await.says("Successfully logged out");
        server.post("/refresh").bearer(&by_expired.refresh).send().await.error(401, "token_revoked");

        // Whomever it was for.
        let elsewhere = server.issue_with("alice", "", |grant| grant.audience(["x"]).unwrap()).await;
        server.post("/logout").bearer(&elsewhere.access).send().await.says("Successfully logged out");
        server.post("/refresh").bearer(&elsewhere.refresh).send().await.error(401, "token_revoked");
    }

    async fn a_log_in_narrows_its_scopes_and_never_widens_them(server: Server) {
        server.add_user("alice", "a long enough password", &["notes:read", "notes:write"]);
        let login = |scope: &str| {
            let body = json!({ "username": "alice", "password": "a long enough password", "scope": scope });
            server.post("/login").json(&body)
        };
        let narrowed = login("notes:read").send().await.ok(200);
        assert_eq!(narrowed["scope"], "notes:read");
        let pair = Pair::of(&narrowed);
        assert_eq!(claims_of(&pair.access)["scope"], "notes:read");
        let refreshed = server.post("/refresh").bearer(&pair.refresh).send().await.ok(200);
        assert_eq!(refreshed["scope"], "notes:read");

        let refused = login("notes:read registry:admin").send().await;
        assert_eq!(refused.error(403, "insufficient_scope"), "The user lacks the scope registry:admin");
        let all = server.login_as("alice", "a long enough password").await;
        assert_eq!(claims_of(&all.access)["scope"], "notes:read notes:write");

        server.command_ok(&["user", "set", "alice", "--remove-scope", "notes:write"], "");
        let refreshed = server.post("/refresh").bearer(&all.refresh).send().await.ok(200);
        assert_eq!(refreshed["scope"], "notes:read");
        server.refuses(&all.access, "token_revoked").await;
    }
}
