//! Each row of the contract's table of errors. That every answer has the contract's form, with its challenge and its
//! headers, is in `Answer::error`, which all tests use.

use crate::support::forge::{jti_of, sid_of};
use crate::support::{ADMIN, PASSWORD, Pair, Server, Value, json, on_both};

on_both! {
    async fn without_a_token_or_with_another_scheme_it_is_missing(server: Server) {
        let pair = server.login().await;
        server.get("/protected").send().await.error(401, "token_missing");
        let basic = format!("Basic {}", pair.access);
        for scheme in [basic.as_str(), "Basic dXNlcjpwYXNz", "Negotiate x"] {
            let answer = server.get("/protected").header("Authorization", scheme).send().await;
            answer.error(401, "token_missing");
            assert!(!answer.header("WWW-Authenticate").unwrap().contains("error"), "{answer:?}");
        }
        // RFC 9110 §11.1: the scheme is compared case-insensitively.
        for scheme in ["bearer", "BEARER", "bEaReR"] {
            let value = format!("{scheme} {}", pair.access);
            assert_eq!(server.get("/protected").header("Authorization", &value).send().await.status, 200, "{scheme}");
        }
    }

    async fn no_documented_route_that_asks_who_calls_opens_without_an_answer(server: Server) {
        let document: Value = serde_json::from_str(include_str!("../docs/openapi.json")).unwrap();
        let mut asked = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let Some(ways) = operation["security"].as_array() else { continue };
                let place = ["{jti}", "{sid}", "{sub}"].iter().fold(path.clone(), |path, name| {
                    path.replace(name, "0190a5a0-0000-7000-8000-000000000001")
                });
                let call = server.call(&method.to_uppercase(), &place);
                if path.starts_with("/oauth/") {
                    let form = [("token", "x"), ("grant_type", "client_credentials")];
                    call.form(&form).send().await.oauth_error(401, "invalid_client");
                } else {
                    let is_for_clients = ways.iter().any(|way| way.get("client").is_some());
                    call.send().await.error(401, if is_for_clients { "invalid_client" } else { "token_missing" });
                }
                asked += 1;
            }
        }
        assert_eq!(asked, 27);
    }

    async fn what_is_no_token_is_malformed(server: Server) {
        for token in ["x", "x.y", "a.b.c", "a.b.c.d", "a.b.c.d.e", "..", "eyJhbGciOiJub25lIn0", "%%%"] {
            server.refuses(token, "token_malformed").await;
        }
    }

    async fn another_signature_is_invalid(server: Server) {
        let mut token = server.login().await.access;
        let place = token.len() - 10..token.len() - 9;
        let another = if &token[place.clone()] == "A" { "Q" } else { "A" };
        token.replace_range(place, another);
        let answer = server.protected(&token).await;
        answer.error(401, "token_invalid");
    }

    async fn a_token_expires_at_exp_and_not_before(server: Server) {
        let pair = server.login().await;
        server.advance(899);
        server.accepts(&pair.access).await;
        server.advance(1);
        server.refuses(&pair.access, "token_expired").await;
    }

    async fn each_type_opens_its_own_routes_only(server: Server) {
        let pair = server.login().await;
        server.refuses(&pair.refresh, "token_wrong_type").await;
        server.get("/auth/tokens").bearer(&pair.refresh).send().await.error(401, "token_wrong_type");
        server.post("/refresh").bearer(&pair.access).send().await.error(401, "token_wrong_type");
    }

    async fn a_fresh_route_asks_for_a_fresh_token(server: Server) {
        let pair = server.login().await;
        let refreshed = server.post("/refresh").bearer(&pair.refresh).send().await.ok(200);
        let stale = refreshed["access_token"].as_str().unwrap();
        let personal = server.post("/auth/tokens").bearer(stale).json(&json!({ "label": "script" }));
        personal.send().await.error(401, "fresh_token_required");
        let body = json!({ "current": PASSWORD, "new": "another long password" });
        server.post("/auth/password").bearer(stale).json(&body).send().await.error(401, "fresh_token_required");
        server.get("/auth/check?fresh=true").bearer(stale).send().await.error(401, "fresh_token_required");
    }

    async fn a_missing_scope_is_named(server: Server) {
        let pair = server.issue("alice", "notes:read").await;
        let answer = server.get("/auth/all-tokens").bearer(&pair.access).send().await;
        answer.error(403, "insufficient_scope");
        assert!(answer.header("WWW-Authenticate").unwrap().contains(r#"scope="registry:admin""#), "{answer:?}");
    }

    async fn a_record_that_is_not_there_is_not_found(server: Server) {
        let pair = server.login().await;
        let answer = server.get("/auth/tokens/0190a5a0-0000-7000-8000-000000000001").bearer(&pair.access).send().await;
        assert_eq!(answer.error(404, "not_found"), "Token not found");
        let path = "/auth/sessions/0190a5a0-0000-7000-8000-000000000001";
        let answer = server.delete(path).bearer(&pair.access).send().await;
        assert_eq!(answer.error(404, "not_found"), "Session not found");
    }

    async fn an_unknown_path_is_not_found(server: Server) {
        for path in ["/", "/nothing", "/auth", "/auth/tokens/a/b/c", "/..%2f", "/%00", "/protected/x", "/docs/.x", "/docs/a%2Fb"] {
            let answer = server.get(path).send().await;
            assert_eq!(answer.error(404, "not_found"), "There is nothing at this path");
        }
        let pair = server.login().await;
        server.get("/nothing").bearer(&pair.access).send().await.error(404, "not_found");
    }

    async fn a_form_reaches_no_route_but_those_for_forms(server: Server) {
        let pair = server.login().await;
        let session = format!("/auth/sessions/{}", sid_of(&pair.access));
        for (path, method) in [(session.as_str(), "DELETE"), ("/protected", "GET")] {
            let form = server.post(path).bearer(&pair.access).form(&[("_method", method)]);
            form.send().await.error(405, "method_not_allowed");
        }
        server.accepts(&pair.access).await;
        let client = server.add_client("shop", &[]);
        let asked = [("_method", "PUT"), ("grant_type", "client_credentials")];
        server.post("/oauth/token").basic(&client).form(&asked).send().await.ok(200);
    }

    async fn a_wrong_method_is_told_which_are_right(server: Server) {
        for (method, path, allowed) in [
            ("GET", "/login", vec!["POST"]),
            ("GET", "/login/", vec!["POST"]),
            ("DELETE", "/refresh", vec!["POST"]),
            ("POST", "/protected", vec!["GET"]),
            ("PUT", "/auth/tokens", vec!["GET", "POST"]),
            ("POST", "/auth/tokens/revoke/0190a5a0-0000-7000-8000-000000000001", vec!["PUT"]),
            ("GET", "/auth/password", vec!["POST"]),
        ] {
            let answer = server.call(method, path).send().await;
            answer.error(405, "method_not_allowed");
            let allow: Vec<&str> = answer.header("Allow").unwrap().split(',').map(str::trim).collect();
            for method in allowed {
                assert!(allow.contains(&method), "{path}: {allow:?}");
            }
            assert!(!allow.contains(&method), "{path}: {allow:?}");
        }
    }

    async fn a_final_revocation_stays(server: Server) {
        let (ended, other) = (server.login().await, server.login().await);
        server.post("/logout").bearer(&ended.access).send().await.says("Successfully logged out");
        let path = format!("/auth/tokens/unrevoke/{}", jti_of(&ended.access));
        server.put(&path).bearer(&other.access).send().await.error(409, "revocation_final");
    }

    async fn a_body_that_can_not_be_read_says_why(server: Server) {
        let login = || server.post("/login");
        let unreadable = "The body is not JSON that can be read";
        assert_eq!(login().json_bytes("{").send().await.error(400, "invalid_request"), unreadable);
        assert_eq!(login().json_bytes("").send().await.error(400, "invalid_request"), unreadable);
        let msg = login().body("text/plain", "{}").send().await.error(415, "invalid_request");
        assert_eq!(msg, "The content type must be application/json");
        let too_large = login().json_bytes(vec![b' '; 2_000_000]).send().await;
        assert_eq!(too_large.headers["connection"], "close", "the rest of the body is not waited for: {too_large:?}");
        too_large.error(413, "invalid_request");
        for (body, words) in [
            ("[]", "The body must be a JSON object"),
            (r#"{"username":"admin"}"#, "password is missing"),
            (r#"{"username":"a","username":"b","password":"x"}"#, "username stands twice"),
            (r#"{"username":1,"password":"x"}"#, "username must be a string"),
        ] {
            assert_eq!(login().json_bytes(body).send().await.error(422, "invalid_request"), words, "{body}");
        }
    }

    async fn two_tokens_are_an_error_and_no_choice(server: Server) {
        let (one, two) = (server.login().await, server.login().await);
        let bearer = |token: &str| format!("Bearer {token}");
        for (first, second) in [(&one, &two), (&one, &one)] {
            let call = server.get("/protected").bearer(&first.access).header("Authorization", &bearer(&second.access));
            call.send().await.error(400, "invalid_request");
        }
        let call = server.get("/protected").header("Authorization", "Basic dTpw").bearer(&one.access);
        call.send().await.error(400, "invalid_request");
    }

    async fn two_tokens_in_two_places_are_an_error_too(database: Database) {
        let server = Server::start(database, |settings| settings.set("locations", json!(["header", "query"]))).await;
        let (one, two) = (server.login().await, server.login().await);
        let path = format!("/protected?jwt={}", two.access);
        server.get(&path).bearer(&one.access).send().await.error(400, "invalid_request");
        let same = format!("/protected?jwt={}", one.access);
        assert_eq!(server.get(&same).bearer(&one.access).send().await.status, 200);
        let twice = format!("/protected?jwt={}&jwt={}", one.access, two.access);
        server.get(&twice).send().await.error(400, "invalid_request");
    }

    async fn a_method_that_nobody_knows_is_501_with_all_that_an_answer_has(server: Server) {
        let token = server.login().await.access;
        for path in ["/protected", "/nowhere", "/"] {
            let call = server.call("PURGE", path).bearer(&token).header("X-Request-Id", "purge-1");
            let answer = call.send().await;
            answer.error(501, "method_not_implemented");
            assert_eq!(answer.header("X-Request-Id"), Some("purge-1"));
            assert!(server.call("PURGE", path).send().await.header("X-Request-Id").is_some());
        }
        server.call("PURGE", "/oauth/token").send().await.oauth_error(501, "method_not_implemented");
        let page = server.call("PURGE", "/console/sessions").send().await.html(501);
        assert!(page.contains("does not know"), "{page}");
    }

    async fn two_tokens_in_one_body_are_an_error_too(server: Server) {
        let pair = server.login().await;
        for path in ["/refresh", "/logout"] {
            let good = &pair.refresh;
            for body in [
                format!(r#"{{"refresh_token":"x.y.z","refresh_token":"{good}"}}"#),
                format!(r#"{{"refresh_token":"{good}","refresh\u005ftoken":"{good}"}}"#),
            ] {
                server.post(path).json_bytes(body).send().await.error(400, "invalid_request");
            }
        }
        let body = json!({ "refresh_token": pair.refresh, "device": { "name": "a" } });
        server.post("/refresh").json(&body).send().await.ok(200);
    }

    async fn what_is_written_in_json_is_json_everywhere(server: Server) {
        let login = json!({ "username": ADMIN, "password": PASSWORD }).to_string();
        for content_type in ["application/vnd.api+json", "application/JSON; charset=utf-8"] {
            let pair = Pair::of(&server.post("/login").body(content_type, login.as_str()).send().await.ok(200));
            let with = |token: &str| json!({ "refresh_token": token }).to_string();
            let pair =
                Pair::of(&server.post("/refresh").body(content_type, with(&pair.refresh)).send().await.ok(200));
            server.post("/logout").body(content_type, with(&pair.refresh)).send().await.ok(200);
        }
    }

    async fn guessing_is_limited_and_says_when_to_come_back(database: Database) {
        let server = Server::start(database, |settings| settings.set("login", json!({ "limit": 3 }))).await;
        let guess = || server.post("/login").json(&json!({ "username": "nobody", "password": "guess" }));
        for _ in 0..3 {
            guess().send().await.error(401, "bad_credentials");
        }
        let answer = guess().send().await;
        answer.error(429, "rate_limited");
        let seconds: u64 = answer.header("Retry-After").unwrap().parse().unwrap();
        server.advance(seconds);
        guess().send().await.error(401, "bad_credentials");
        // Others are not held up.
        server.login().await;
    }

    async fn without_its_database_the_registry_says_that_it_can_not_tell(server: Server) {
        let (pair, client) = (server.login().await, server.add_client("shop", &["--scope", "tokens:issue tokens:introspect"]));
        let body_of_all = json!({ "label": "script", "current": PASSWORD, "new": "another long password" });
        server.registry.close().await;
        for call in [server.get("/protected"), server.get("/auth/check"), server.get("/auth/tokens")] {
            call.bearer(&pair.access).send().await.error(503, "registry_unavailable");
        }
        server.post("/refresh").bearer(&pair.refresh).send().await.error(503, "registry_unavailable");
        let body = json!({ "username": ADMIN, "password": PASSWORD });
        server.post("/login").json(&body).send().await.error(503, "registry_unavailable");
        let id = jti_of(&pair.access);
        for (method, path) in [
            ("POST", "/logout"),
            ("POST", "/auth/password"),
            ("POST", "/auth/tokens"),
            ("POST", "/auth/tokens/revoke-all"),
            ("GET", "/auth/tokens/ID"),
            ("PATCH", "/auth/tokens/ID"),
            ("PUT", "/auth/tokens/revoke/ID"),
            ("PUT", "/auth/tokens/unrevoke/ID"),
            ("GET", "/auth/sessions"),
            ("DELETE", "/auth/sessions/ID"),
            ("GET", "/auth/all-tokens"),
            ("PUT", "/admin/tokens/revoke/ID"),
            ("PUT", "/admin/tokens/unrevoke/ID"),
            ("DELETE", "/admin/sessions/ID"),
            ("POST", "/admin/subjects/alice/revoke-all"),
            ("GET", "/admin/audit"),
            ("GET", "/admin/overview"),
        ] {
            let call = server.call(method, &path.replace("ID", &id)).bearer(&pair.access);
            let call = if matches!(method, "POST" | "PATCH") { call.json(&body_of_all) } else { call };
            call.send().await.error(503, "registry_unavailable");
        }
        for path in ["/oauth/token", "/oauth/introspect", "/oauth/revoke"] {
            let form = [("grant_type", "client_credentials"), ("token", pair.access.as_str())];
            server.post(path).basic(&client).form(&form).send().await.oauth_error(503, "registry_unavailable");
        }
        let issue = server.post("/tokens").basic(&client).json(&json!({ "subject": "alice" }));
        issue.send().await.error(503, "registry_unavailable");
        for path in ["/revocations", "/revocations/stream"] {
            server.get(path).basic(&client).send().await.error(503, "registry_unavailable");
        }
        // What needs no database to be refused is refused.
        server.refuses("x", "token_malformed").await;
        server.get("/protected").send().await.error(401, "token_missing");
        assert_eq!(server.get("/livez").send().await.status, 200);
        assert_eq!(server.get("/readyz").send().await.status, 503);
    }
}
