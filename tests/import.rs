//! Tokens from before the registry was adopted: as Flask-JWT-Extended issued them, refused until they are imported.

use counterfoil::{Denial, Expect};

use crate::support::forge::{claims_of, sign_hs256};
use crate::support::process::Ran;
use crate::support::server::Settings;
use crate::support::{Server, Value, json, on_both};

const OLD_SECRET: &str = "the secret of the application before, long enough";

fn accepting(settings: Settings) -> Settings {
    settings.set("keys.accept", json!([{ "secret": OLD_SECRET }]))
}

/// A token of Flask-JWT-Extended: version 4 names the subject `sub`, versions 2 and 3 `identity`.
fn old_token(server: &Server, subject_claim: &str, jti: &str, token_type: &str) -> String {
    let now = server.now();
    let claims = json!({
        "fresh": false, "iat": now - 60, "jti": jti, "type": token_type, (subject_claim): "alice", "nbf": now - 60,
        "exp": now + 600, "colour": "green",
    });
    sign_hs256(OLD_SECRET.as_bytes(), &json!({ "alg": "HS256", "typ": "JWT" }), &claims)
}

fn import(server: &Server, token: &str) -> Ran {
    let accept = json!([{ "secret": OLD_SECRET }]).to_string();
    server.command_with(&[("COUNTERFOIL_KEYS__ACCEPT", &accept)], &["token", "import", "--json"], token)
}

on_both! {
    async fn they_are_refused_before_and_accepted_after(database: Database) {
        let server = Server::start(database, accepting).await;
        for (claim, jti) in
            [("sub", "7f0d6f5e-54a5-4d0c-9a0c-30d2d52b4a01"), ("identity", "7f0d6f5e-54a5-4d0c-9a0c-30d2d52b4a02")]
        {
            let token = old_token(&server, claim, jti, "access");
            server.refuses(&token, "token_unknown").await;
            let report = import(&server, &token).ok().json();
            assert_eq!((&report["imported"], &report["known"]), (&json!(1), &json!(0)));
            server.accepts(&token).await;
            let answer = server.get("/auth/check").bearer(&token).send().await;
            assert_eq!((answer.status, answer.header("X-Auth-Subject")), (204, Some("alice")));

            // From here on it is a token like any other.
            let listed = server.get("/auth/tokens").bearer(&token).send().await.ok(200);
            assert!(listed.as_array().unwrap().iter().any(|record| record["token"]["jti"] == jti), "{listed}");
            server.get("/auth/all-tokens").bearer(&token).send().await.error(403, "insufficient_scope");
            let revoke = format!("/auth/tokens/revoke/{jti}");
            server.put(&revoke).bearer(&token).send().await.says("Token successfully revoked");
            server.refuses(&token, "token_revoked").await;
            let report = import(&server, &token).json();
            assert_eq!((&report["imported"], &report["known"]), (&json!(0), &json!(1)));
            server.refuses(&token, "token_revoked").await;
        }
    }

    async fn a_refresh_token_is_imported_as_one(database: Database) {
        let server = Server::start(database, accepting).await;
        let token = old_token(&server, "sub", "7f0d6f5e-54a5-4d0c-9a0c-30d2d52b4a03", "refresh");
        server.post("/refresh").bearer(&token).send().await.error(401, "token_unknown");
        server.registry.import(&token).await.unwrap();
        server.refuses(&token, "token_wrong_type").await;
        assert_eq!(server.registry.check(&token, Expect::access()).await, Err(Denial::WrongType));
        let refreshed = server.post("/refresh").bearer(&token).send().await.ok(200);
        server.accepts(refreshed["access_token"].as_str().unwrap()).await;
        // It is spent, as one of the registry's own would be; its successor goes on.
        server.post("/logout").bearer(&token).send().await.error(401, "token_revoked");
        let successor = refreshed["refresh_token"].as_str().unwrap();
        let refreshed = server.post("/refresh").bearer(successor).send().await.ok(200);
        let successor = refreshed["refresh_token"].as_str().unwrap();
        server.post("/logout").bearer(successor).send().await.says("Successfully logged out");
        server.refuses(refreshed["access_token"].as_str().unwrap(), "token_revoked").await;
        server.post("/refresh").bearer(&token).send().await.error(401, "token_revoked");
    }

    async fn they_end_when_they_say_and_can_be_logged_out_with_after(database: Database) {
        let server = Server::start(database, |settings| accepting(settings).set("leeway", "10s")).await;
        let token = old_token(&server, "sub", "7f0d6f5e-54a5-4d0c-9a0c-30d2d52b4a07", "access");
        server.registry.import(&token).await.unwrap();
        server.advance(600 + 9);
        server.accepts(&token).await;
        server.advance(1);
        server.refuses(&token, "token_expired").await;
        server.post("/logout").bearer(&token).send().await.says("Successfully logged out");
        server.refuses(&token, "token_revoked").await;
        // One that has expired within the leeway is good until then.
        let token = old_token(&server, "sub", "7f0d6f5e-54a5-4d0c-9a0c-30d2d52b4a08", "access");
        server.advance(600 + 5);
        server.registry.import(&token).await.unwrap();
        server.accepts(&token).await;
    }

    async fn what_they_say_otherwise_is_taken_as_it_was_meant(database: Database) {
        let server = Server::start(database, accepting).await;
        let (now, header) = (server.now(), json!({ "alg": "HS256", "typ": "JWT" }));
        // A time may have a fraction, and a refresh token is never fresh. One with a value for cookies was for cookies.
        let claims = json!({
            "sub": "alice", "jti": "7f0d6f5e-54a5-4d0c-9a0c-30d2d52b4a09", "type": "refresh", "fresh": true, "csrf": "x",
            "exp": f64::from(u32::try_from(now).unwrap()) + 60.5,
        });
        let token = sign_hs256(OLD_SECRET.as_bytes(), &header, &claims);
        server.registry.import(&token).await.unwrap();
        let checked = server.registry.check(&token, Expect::refresh()).await.unwrap();
        assert_eq!((checked.claims().fresh, checked.claims().exp), (false, now + 60));
        let refreshed = server.post("/refresh").bearer(&token).send().await.ok(200);
        assert!(claims_of(refreshed["access_token"].as_str().unwrap())["csrf"].is_string());
    }

    async fn an_id_that_is_known_leaves_nothing_of_another_subject(database: Database) {
        let server = Server::start(database, accepting).await;
        let (jti, header) = ("7f0d6f5e-54a5-4d0c-9a0c-30d2d52b4a0a", json!({ "alg": "HS256", "typ": "JWT" }));
        let token = |subject: &str| {
            let claims = json!({ "sub": subject, "jti": jti, "exp": server.now() + 600 });
            sign_hs256(OLD_SECRET.as_bytes(), &header, &claims)
        };
        server.registry.import(&token("first")).await.unwrap();
        server.issue("third", "").await;
        for subject in ["second", "third"] {
            assert!(server.registry.import(&token(subject)).await.unwrap_err().is_conflict());
        }
        let subjects = async |name: &str| {
            server.count(&format!("select count(*) from cf_subjects where subject = '{name}'")).await
        };
        assert_eq!((subjects("first").await, subjects("second").await, subjects("third").await), (1, 0, 1));
        // So a user of that name ends nothing of anybody.
        server.add_user("second", crate::support::PASSWORD, &[]);
        assert_eq!(server.count("select count(*) from cf_subject_endings where subject = 'second'").await, 0);
    }

    async fn an_accepted_key_vouches_for_imported_tokens_alone(database: Database) {
        let server = Server::start(database, accepting).await;
        // Whoever still holds the old secret can't make tokens in the form of the registry's own.
        let header = json!({ "alg": "HS256", "typ": "at+jwt" });
        let forged = sign_hs256(OLD_SECRET.as_bytes(), &header, &server.claims());
        server.refuses(&forged, "token_unknown").await;
        let real = server.login().await;
        let mut claims = server.claims();
        claims["jti"] = json!(crate::support::forge::jti_of(&real.access));
        for typ in ["at+jwt", "JWT"] {
            let header = json!({ "alg": "HS256", "typ": typ });
            server.refuses(&sign_hs256(OLD_SECRET.as_bytes(), &header, &claims), "token_invalid").await;
        }
        // An imported record is good for its own subject and type.
        let jti = "7f0d6f5e-54a5-4d0c-9a0c-30d2d52b4a04";
        let token = old_token(&server, "sub", jti, "access");
        server.registry.import(&token).await.unwrap();
        let now = server.now();
        let claims =
            json!({ "sub": "admin", "jti": jti, "type": "access", "fresh": true, "exp": now + 600, "iat": now });
        let forged = sign_hs256(OLD_SECRET.as_bytes(), &json!({ "alg": "HS256", "typ": "JWT" }), &claims);
        server.refuses(&forged, "token_invalid").await;
        server.accepts(&token).await;
    }

    async fn what_is_not_fit_is_not_imported(database: Database) {
        let server = Server::start(database, accepting).await;
        let now = server.now();
        let header = json!({ "alg": "HS256", "typ": "JWT" });
        let sign = |claims: &Value| sign_hs256(OLD_SECRET.as_bytes(), &header, claims);
        let jti = "7f0d6f5e-54a5-4d0c-9a0c-30d2d52b4a05";
        for claims in [
            json!({ "sub": "alice", "jti": jti, "exp": now }),
            json!({ "sub": "alice", "jti": jti }),
            json!({ "sub": "alice", "jti": "x", "exp": now + 60 }),
            json!({ "sub": "alice", "exp": now + 60 }),
            json!({ "jti": jti, "exp": now + 60 }),
            json!({ "sub": "alice", "jti": jti, "exp": now + 60, "type": "id" }),
            json!({ "sub": "alice", "jti": jti, "exp": 1e300 }),
            json!({ "sub": "alice", "jti": jti, "exp": now + 60, "scope": "notes:read registry:admin" }),
        ] {
            let error = server.registry.import(&sign(&claims)).await.unwrap_err();
            assert!(error.is_invalid(), "{claims}: {error}");
        }
        let other = sign_hs256(
            b"another secret that is long enough too",
            &header,
            &json!({ "sub": "a", "jti": jti, "exp": now + 60 }),
        );
        assert!(server.registry.import(&other).await.unwrap_err().is_invalid());
        let error = server.registry.import("x").await.unwrap_err();
        assert!(error.is_invalid(), "{error}");
    }

    async fn without_the_old_key_they_are_invalid(server: Server) {
        let token = old_token(&server, "sub", "7f0d6f5e-54a5-4d0c-9a0c-30d2d52b4a06", "access");
        server.refuses(&token, "token_invalid").await;
    }
}
