//! `/auth/check`, which proxies ask, and `/protected`.

use crate::support::forge::{jti_of, sid_of};
use crate::support::{ISSUER, Server, json, on_both};

on_both! {
    async fn it_says_who_asks_in_four_headers(server: Server) {
        let pair = server.issue("alice", "notes:write notes:read").await;
        let answer = server.get("/auth/check").bearer(&pair.access).send().await;
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{answer:?}");
        assert_eq!(answer.header("X-Auth-Subject"), Some("alice"));
        assert_eq!(answer.header("X-Auth-Scope"), Some("notes:read notes:write"));
        assert_eq!(answer.header("X-Auth-Jti"), Some(jti_of(&pair.access).as_str()));
        assert_eq!(answer.header("X-Auth-Session"), Some(sid_of(&pair.access).as_str()));
    }

    async fn a_subject_is_percent_encoded_and_an_empty_scope_is_sent_too(server: Server) {
        let pair = server.issue("Zoë 100% ☃", "").await;
        let answer = server.get("/auth/check").bearer(&pair.access).send().await;
        assert_eq!(answer.status, 204, "{answer:?}");
        assert_eq!(answer.header("X-Auth-Subject"), Some("Zo%C3%AB%20100%25%20%E2%98%83"));
        assert_eq!(answer.header("X-Auth-Scope"), Some(""));
        // Other printable ASCII stands for itself, what separates and quotes included.
        let odd = server.issue("a,b;c=\"d\"\\<e>'f", "").await;
        let answer = server.get("/auth/check").bearer(&odd.access).send().await;
        assert_eq!(answer.header("X-Auth-Subject"), Some("a,b;c=\"d\"\\<e>'f"));
    }

    async fn it_asks_for_scopes_freshness_and_audience(server: Server) {
        let pair = server.issue("alice", "a:1 b:2").await;
        for (query, status) in [
            ("scope=a:1", 204),
            ("scope=a:1+b:2", 204),
            ("scope=a%3A1%20b%3A2", 204),
            ("scope=", 204),
            ("fresh=true", 204),
            ("fresh=false", 204),
            ("scope=c", 403),
            ("scope=a:1+c", 403),
            ("audience=https://issuer.example", 204),
            ("audience=https://other.example", 401),
            ("audience=", 401),
        ] {
            let answer = server.get(&format!("/auth/check?{query}")).bearer(&pair.access).send().await;
            assert_eq!(answer.status, status, "{query}: {answer:?}");
        }
        let answer = server.get("/auth/check?scope=a:1+c+d").bearer(&pair.access).send().await;
        answer.error(403, "insufficient_scope");
        assert!(answer.header("WWW-Authenticate").unwrap().contains(r#"scope="c d""#), "{answer:?}");
        for bad in ["fresh=maybe", "scope=%22", "scope=%00", "scopes=notes:read", "Fresh=true", "jwt=x"] {
            let answer = server.get(&format!("/auth/check?{bad}")).bearer(&pair.access).send().await;
            answer.error(422, "invalid_request");
        }
        server.get("/auth/check").send().await.error(401, "token_missing");
        server.get("/auth/check").bearer(&pair.refresh).send().await.error(401, "token_wrong_type");
    }

    async fn an_audience_of_its_own_opens_the_check_alone(server: Server) {
        let other = "https://api.example";
        let pair = server.issue_with("alice", "", |grant| grant.audience([other]).unwrap()).await;
        server.refuses(&pair.access, "token_invalid").await;
        server.get("/auth/check").bearer(&pair.access).send().await.error(401, "token_invalid");
        let asked = format!("/auth/check?audience={other}");
        assert_eq!(server.get(&asked).bearer(&pair.access).send().await.status, 204);
        let issuer = format!("/auth/check?audience={ISSUER}");
        server.get(&issuer).bearer(&pair.access).send().await.error(401, "token_invalid");
        // Logging out takes any audience that was issued here.
        server.post("/logout").bearer(&pair.access).send().await.says("Successfully logged out");
        server.get(&asked).bearer(&pair.access).send().await.error(401, "token_revoked");
    }

    async fn a_configured_audience_opens_everything(database: Database) {
        let server = Server::start(database, |settings| settings.set("audience", json!(["https://api.example"]))).await;
        let pair = server.issue_with("alice", "", |grant| grant.audience(["https://api.example"]).unwrap()).await;
        server.accepts(&pair.access).await;
        server.get("/auth/tokens").bearer(&pair.access).send().await.ok(200);
    }

    async fn by_cookie_it_goes_by_the_method_that_the_proxy_says(database: Database) {
        let server = Server::start(database, |settings| settings.set("locations", json!(["cookie"]))).await;
        let body = json!({ "username": crate::support::ADMIN, "password": crate::support::PASSWORD });
        let login = server.post("/login").json(&body).send().await;
        let cookie = format!("access_token_cookie={}", login.cookie("access_token_cookie"));
        let csrf = login.cookie("csrf_access_token");
        let check = || server.get("/auth/check").header("Cookie", &cookie);
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert_eq!(check().header("X-Forwarded-Method", method).send().await.status, 204, "{method}");
        }
        for method in ["POST", "PUT", "PATCH", "DELETE", "get", "", "GET, POST", "X"] {
            check().header("X-Forwarded-Method", method).send().await.error(403, "csrf_failed");
            let with = check().header("X-Forwarded-Method", method).header("X-CSRF-TOKEN", &csrf).send().await;
            assert_eq!(with.status, 204, "{method}: {with:?}");
        }
        // A proxy that doesn't say is not trusted to mean GET; nor are two who say different things.
        check().send().await.error(403, "csrf_failed");
        let twice = check().header("X-Forwarded-Method", "GET").header("X-Forwarded-Method", "POST").send().await;
        twice.error(403, "csrf_failed");
        assert_eq!(check().header("X-CSRF-TOKEN", &csrf).send().await.status, 204);
    }
}
