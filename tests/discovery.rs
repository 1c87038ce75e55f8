//! What other programs find: the published keys, and the metadata of an authorization server.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::support::console::COOKIE;
use crate::support::forge::{claims_of, header_of};
use crate::support::{ISSUER, Server, json, on_both};

on_both! {
    async fn the_published_keys_are_cached_and_asked_for_by_their_tag(server: Server) {
        let answer = server.get("/.well-known/jwks.json").send().await;
        assert_eq!(answer.header("Content-Type"), Some("application/jwk-set+json"));
        assert_eq!(answer.header("Cache-Control"), Some("public, max-age=300"));
        // With a credential no answer is kept, whatever it is.
        let confidential = server.get("/.well-known/jwks.json").bearer("x").send().await;
        assert_eq!(confidential.header("Cache-Control"), Some("no-store"));
        let etag = answer.header("ETag").unwrap().to_owned();
        let keys = answer.ok(200);
        let mut own = server.key.jwk();
        for (name, value) in [("kid", json!(server.key.kid())), ("alg", json!("EdDSA")), ("use", json!("sig"))] {
            own[name] = value;
        }
        assert_eq!(keys, json!({ "keys": [own] }));

        let known = server.get("/.well-known/jwks.json").header("If-None-Match", &etag).send().await;
        assert_eq!((known.status, known.body.len(), known.header("ETag")), (304, 0, Some(etag.as_str())));
        assert_eq!(known.header("Cache-Control"), Some("public, max-age=300"));
        let other = server.get("/.well-known/jwks.json").header("If-None-Match", "\"another\"").send().await;
        assert_eq!(other.status, 200);
        // Whoever is signed in to the console sends its cookie to every path.
        let cookie = format!("{COOKIE}=x");
        let signed_in = server.get("/.well-known/jwks.json").header("Cookie", &cookie).send().await;
        assert_eq!(signed_in.header("Cache-Control"), Some("no-store"));
    }

    async fn the_metadata_is_true_to_the_settings(server: Server) {
        let answer = server.get("/.well-known/oauth-authorization-server").send().await;
        assert_eq!(answer.header("Cache-Control"), Some("public, max-age=300"));
        let methods = json!(["client_secret_basic", "client_secret_post"]);
        let expected = json!({
            "issuer": ISSUER,
            "token_endpoint": format!("{ISSUER}/oauth/token"),
            "token_endpoint_auth_methods_supported": methods,
            "introspection_endpoint": format!("{ISSUER}/oauth/introspect"),
            "introspection_endpoint_auth_methods_supported": methods,
            "introspection_signing_alg_values_supported": ["EdDSA"],
            "revocation_endpoint": format!("{ISSUER}/oauth/revoke"),
            "revocation_endpoint_auth_methods_supported": methods,
            "jwks_uri": format!("{ISSUER}/.well-known/jwks.json"),
            "grant_types_supported": ["client_credentials", "refresh_token"],
            "response_types_supported": [],
            "service_documentation": format!("{ISSUER}/docs"),
        });
        assert_eq!(answer.ok(200), expected);
        let elsewhere = server.get("/.well-known/oauth-authorization-server/tenant").send().await;
        elsewhere.error(404, "not_found");
    }

    async fn an_issuer_with_a_path_is_found_under_it(database: Database) {
        let issuer = "https://id.example/tenant";
        let change = |settings: crate::support::server::Settings| {
            settings.set("issuer", issuer).set("operations", json!({ "docs": false })).set("jwks_max_age", "1h")
        };
        let server = Server::start(database, change).await;
        for path in ["/.well-known/oauth-authorization-server", "/.well-known/oauth-authorization-server/tenant"] {
            let answer = server.get(path).send().await;
            assert_eq!(answer.header("Cache-Control"), Some("public, max-age=3600"));
            let metadata = answer.ok(200);
            assert_eq!((&metadata["issuer"], &metadata["token_endpoint"]), (&json!(issuer), &json!(format!("{issuer}/oauth/token"))));
            assert!(metadata.get("service_documentation").is_none());
        }
        server.get("/.well-known/oauth-authorization-server/tenant/more").send().await.error(404, "not_found");
        // Wherever a proxy serves it, the next page is where the one before was.
        let pair = server.issue("alice", "").await;
        let page = server.get("/auth/tokens?limit=1").bearer(&pair.access).send().await;
        assert!(page.header("Link").is_some_and(|link| link.starts_with("<?limit=1&cursor=")), "{page:?}");
    }

    async fn the_path_of_an_issuer_is_found_as_it_is_written(database: Database) {
        for path in ["t%C3%A4", "a%20b", ".well", "a:", "a/b"] {
            let issuer = format!("https://id.example/{path}");
            let server = Server::start(database, |settings| settings.set("issuer", issuer.as_str())).await;
            let below = format!("/.well-known/oauth-authorization-server/{path}");
            assert_eq!(server.get(&below).send().await.ok(200)["issuer"], json!(issuer));
            let other = format!("/.well-known/oauth-authorization-server/.{path}");
            server.get(&other).send().await.error(404, "not_found");
        }
    }

    async fn an_issuer_that_is_no_address_has_no_metadata(database: Database) {
        let server = Server::start(database, |settings| settings.set("issuer", "urn:example:issuer")).await;
        for path in ["/.well-known/oauth-authorization-server", "/.well-known/oauth-authorization-server/x"] {
            server.get(path).send().await.error(404, "not_found");
        }
        server.get("/.well-known/jwks.json").send().await.ok(200);
    }

    async fn a_secret_is_no_published_key(database: Database) {
        let change = |settings: crate::support::server::Settings| {
            settings.set("algorithm", "HS256").set("keys", json!({ "secret": "a secret of the tests that is long enough" }))
        };
        let server = Server::start(database, change).await;
        assert_eq!(server.get("/.well-known/jwks.json").send().await.ok(200), json!({ "keys": [] }));
        let metadata = server.get("/.well-known/oauth-authorization-server").send().await.ok(200);
        assert!(metadata.get("jwks_uri").is_none() && metadata.get("introspection_signing_alg_values_supported").is_none());
        // Nor is an answer signed with it, by which whoever can verify it could sign tokens.
        let client = server.add_client("api", &["--scope", "tokens:introspect"]);
        let call = server.post("/oauth/introspect").basic(&client).form(&[("token", "x")]);
        let answer = call.header("Accept", "application/token-introspection+jwt").send().await;
        assert_eq!(answer.ok(200), json!({ "active": false }));
    }

    async fn an_introspection_is_signed_as_far_as_that_is_liked_better(server: Server) {
        let client = server.add_client("api", &["--scope", "tokens:introspect"]);
        const JWT: &str = "application/token-introspection+jwt";
        for (accept, is_signed) in [
            ("*/*".to_owned(), false),
            (JWT.to_owned(), true),
            (format!("{JWT};q=0"), false),
            (format!("{JWT} ; q=0.000, */*;q=0.1"), false),
            (format!("application/json, {JWT};q=0.5"), false),
            (format!("{JWT};q=0.5, application/*;q=0.4"), true),
            (format!("application/json;q=0.1, {JWT};q=0.2, */*"), true),
            (format!("application/json, {JWT}"), true),
        ] {
            let call = server.post("/oauth/introspect").basic(&client).form(&[("token", "x")]);
            let answer = call.header("Accept", &accept).send().await;
            assert_eq!(answer.header("Content-Type") == Some(JWT), is_signed, "{accept}: {answer:?}");
        }
    }

    async fn an_introspection_is_signed_for_whoever_asks_for_that(server: Server) {
        let client = server.add_client("api", &["--scope", "tokens:introspect"]);
        let token = server.issue("alice", "").await.access;
        let ask = |token: &str| {
            let call = server.post("/oauth/introspect").basic(&client).form(&[("token", token)]);
            call.header("Accept", "application/token-introspection+jwt, application/json;q=0.5").send()
        };
        let answer = ask(&token).await;
        assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("application/token-introspection+jwt")));
        let jwt = String::from_utf8(answer.body.clone()).unwrap();
        let header = json!({ "alg": "EdDSA", "kid": server.key.kid(), "typ": "token-introspection+jwt" });
        assert_eq!(header_of(&jwt), header);
        let claims = claims_of(&jwt);
        assert_eq!((&claims["iss"], &claims["aud"]), (&json!(ISSUER), &json!(client.id)));
        assert_eq!(claims["token_introspection"], server.introspect(&client, &token).await);
        // One that is almost as long as a token may be is longer than that within another.
        let scopes: Vec<String> = (10..72).map(|n| format!("{}{n}", "x".repeat(88))).collect();
        let long = server.issue("alice", &scopes.join(" ")).await.access;
        assert!(long.len() < 8_192);
        let answer = ask(&long).await;
        assert!(answer.status == 200 && answer.body.len() > 8_192, "{} bytes", answer.body.len());
        let (signed, signature) = jwt.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let key = UnparsedPublicKey::new(&ED25519, server.key.public_bytes());
        key.verify(signed.as_bytes(), &signature).unwrap();
        // It is no token.
        server.refuses(&jwt, "token_invalid").await;
        let inactive = String::from_utf8(ask("nothing").await.body).unwrap();
        assert_eq!(claims_of(&inactive)["token_introspection"], json!({ "active": false }));
    }
}
