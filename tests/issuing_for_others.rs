//! `POST /tokens`: an application that authenticates its own users gets them tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;

use crate::support::forge::{claims_of, claims_text, jti_of};
use crate::support::server::{Settings, until};
use crate::support::{ADMIN, Answer, ClientSecret, Database, ISSUER, Pair, Server, Value, json, on_both};

const GRANTS: [&str; 6] =
    ["--scope", "tokens:issue", "--grant-scope", "notes:read notes:write", "--audience", "https://api.example"];

async fn ask(server: &Server, client: &ClientSecret, body: Value) -> Answer {
    server.post("/tokens").basic(client).json(&body).send().await
}

async fn ask_once(server: &Server, client: &ClientSecret, key: &str, body: &Value) -> Answer {
    server.post("/tokens").basic(client).header("Idempotency-Key", key).json(body).send().await
}

on_both! {
    async fn an_application_gets_tokens_for_its_users(server: Server) {
        let client = server.add_client("shop", &GRANTS);
        let body = json!({
            "subject": "alice", "scope": "notes:write notes:read", "audience": ["https://api.example", ISSUER], "fresh": true,
            "access_expires_in": 60, "refresh_expires_in": 3600, "label": "Alice's phone", "claims": { "tenant": { "id": 7 } },
        });
        let answer = ask(&server, &client, body).await;
        let body = answer.ok(201);
        assert_eq!(
            (&body["token_type"], &body["expires_in"], &body["scope"]),
            (&json!("Bearer"), &json!(60), &json!("notes:read notes:write"))
        );
        let pair = Pair::of(&body);
        let (access, refresh) = (claims_of(&pair.access), claims_of(&pair.refresh));
        assert_eq!(
            (&access["sub"], &access["client_id"], &access["aud"], &access["fresh"], &access["tenant"]),
            (&json!("alice"), &json!(client.id), &json!(["https://api.example", ISSUER]), &json!(true), &json!({ "id": 7 }))
        );
        assert_eq!((&refresh["client_id"], &refresh["aud"]), (&json!(client.id), &json!(ISSUER)));
        assert_eq!(refresh["exp"].as_i64().unwrap() - refresh["iat"].as_i64().unwrap(), 3600);
        server.accepts(&pair.access).await;
        let records = server.get("/auth/tokens").bearer(&pair.access).send().await.ok(200);
        assert_eq!((&records[0]["client"], &records[0]["label"]), (&json!("shop"), &json!("Alice's phone")));
        let sessions = server.get("/auth/sessions").bearer(&pair.access).send().await.ok(200);
        assert_eq!(sessions[0]["client"], "shop");
        assert!(answer.header_values("Set-Cookie").is_empty());

        let least = ask(&server, &client, json!({ "subject": "alice", "refresh": false })).await.ok(201);
        let claims = claims_of(least["access_token"].as_str().unwrap());
        assert_eq!((&least["refresh_token"], &least["scope"]), (&json!(null), &json!(null)));
        assert_eq!((&claims["aud"], &claims["fresh"]), (&json!(ISSUER), &json!(false)));
        // By a token of the client's own just as well.
        let token = server.client_token(&client).await;
        server.post("/tokens").bearer(&token).json(&json!({ "subject": "bob" })).send().await.ok(201);
    }

    async fn a_personal_token_got_by_a_clients_token_is_that_clients(server: Server) {
        let client = server.add_client("shop", &GRANTS);
        let fresh = json!({ "subject": "alice", "fresh": true, "refresh": false });
        let fresh = ask(&server, &client, fresh).await.ok(201)["access_token"].as_str().unwrap().to_owned();
        let made = server.post("/auth/tokens").bearer(&fresh).json(&json!({ "label": "script" })).send().await.ok(201);
        let personal = made["access_token"].as_str().unwrap();
        assert_eq!(claims_of(personal)["client_id"], json!(client.id));
        let path = format!("/auth/tokens/{}", jti_of(personal));
        assert_eq!(server.get(&path).bearer(personal).send().await.ok(200)["client"], "shop");
        // With what else that client got it is found, and taken back.
        let admin = server.login().await;
        let path = format!("/auth/all-tokens?client={}", client.id);
        let records = server.get(&path).bearer(&admin.access).send().await.ok(200);
        assert_eq!(records.as_array().unwrap().len(), 2);
        server.accepts(personal).await;
        let call = server.post("/oauth/revoke").basic(&client).form(&[("token", personal)]);
        assert_eq!(call.send().await.status, 200);
        server.refuses(personal, "token_revoked").await;
    }

    async fn a_key_for_which_nothing_was_issued_is_as_good_as_new(database: Database) {
        let cap = |settings: Settings| settings.set("sessions", json!({ "max": 1 }));
        let server = Server::start(database, cap).await;
        let client = server.add_client("shop", &GRANTS);
        let first = Pair::of(&ask(&server, &client, json!({ "subject": "zed" })).await.ok(201));
        let body = json!({ "subject": "zed", "access_expires_in": 60 });
        ask_once(&server, &client, "k", &body).await.error(409, "session_limit");
        server.post("/logout").bearer(&first.access).send().await.says("Successfully logged out");
        server.advance(61);
        let issued = ask_once(&server, &client, "k", &body).await.ok(201);
        server.accepts(&Pair::of(&issued).access).await;
        assert_eq!(ask_once(&server, &client, "k", &body).await.ok(201), issued);
        // And for something else.
        ask_once(&server, &client, "l", &json!({ "subject": ADMIN })).await.error(403, "subject_reserved");
        ask_once(&server, &client, "l", &json!({ "subject": "yara" })).await.ok(201);
    }

    async fn a_personal_token_has_no_more_than_its_client_may_still_give(server: Server) {
        let client = server.add_client("shop", &GRANTS);
        let fresh = json!({ "subject": "alice", "fresh": true, "scope": "notes:read notes:write", "audience": ["https://api.example", ISSUER] });
        let fresh = Pair::of(&ask(&server, &client, fresh).await.ok(201));
        let ask_for = |body: Value| server.post("/auth/tokens").bearer(&fresh.access).json(&body).send();
        server.command_ok(&["client", "set", "shop", "--grant-scope", "notes:read", "--audience", ""], "");
        ask_for(json!({ "label": "script", "scope": "notes:write" })).await.error(403, "insufficient_scope");
        let made = ask_for(json!({ "label": "script" })).await.ok(201);
        let personal = claims_of(made["access_token"].as_str().unwrap());
        assert_eq!((&personal["scope"], &personal["aud"]), (&json!("notes:read"), &json!(ISSUER)));
        server.command_ok(&["client", "disable", "shop"], "");
        ask_for(json!({ "label": "script" })).await.error(401, "token_invalid");
        server.command_ok(&["client", "delete", "shop"], "");
        ask_for(json!({ "label": "script" })).await.error(401, "token_invalid");
    }

    async fn what_a_client_may_not_give_is_refused(server: Server) {
        let client = server.add_client("shop", &GRANTS);
        let answer = ask(&server, &client, json!({ "subject": "alice", "scope": "notes:read notes:delete" })).await;
        assert_eq!(answer.error(403, "insufficient_scope"), "The client may not give the scope notes:delete");
        ask(&server, &client, json!({ "subject": "alice", "scope": "registry:admin" })).await.error(403, "insufficient_scope");
        let answer = ask(&server, &client, json!({ "subject": "alice", "audience": "https://other.example" })).await;
        assert_eq!((answer.status, &answer.body_json()["error"]), (403, &json!("insufficient_scope")));
        let challenge = answer.header("WWW-Authenticate");
        assert_eq!(challenge, Some(r#"Bearer realm="counterfoil", error="insufficient_scope""#));
        let other = server.add_client("other", &[]);
        // The last is the client of the server's own tokens.
        for subject in [ADMIN, &client.id, &other.id, "counterfoil"] {
            ask(&server, &client, json!({ "subject": subject })).await.error(403, "subject_reserved");
        }
        let msg = ask(&server, &other, json!({ "subject": "alice" })).await.error(403, "insufficient_scope");
        assert_eq!(msg, "The client lacks the scope tokens:issue");
        let admin = server.login().await;
        let call = server.post("/tokens").bearer(&admin.access).json(&json!({ "subject": "alice" }));
        call.send().await.error(401, "token_invalid");
        server.post("/tokens").json(&json!({ "subject": "alice" })).send().await.error(401, "invalid_client");
    }

    async fn every_member_is_validated_and_named(server: Server) {
        let client = server.add_client("shop", &GRANTS);
        for (name, body) in [
            ("subject", json!({})),
            ("subject", json!({ "subject": "" })),
            ("subject", json!({ "subject": "a\nb" })),
            ("scope", json!({ "subject": "alice", "scope": ["a"] })),
            ("scope", json!({ "subject": "alice", "scope": "a\"b" })),
            ("audience", json!({ "subject": "alice", "audience": 1 })),
            ("audience", json!({ "subject": "alice", "audience": [1] })),
            ("fresh", json!({ "subject": "alice", "fresh": "yes" })),
            ("refresh", json!({ "subject": "alice", "refresh": 1 })),
            ("access_expires_in", json!({ "subject": "alice", "access_expires_in": 0 })),
            ("access_expires_in", json!({ "subject": "alice", "access_expires_in": -1 })),
            ("access_expires_in", json!({ "subject": "alice", "access_expires_in": 86_401 })),
            ("refresh_expires_in", json!({ "subject": "alice", "refresh_expires_in": 90 * 86_400 + 1 })),
            ("refresh_expires_in", json!({ "subject": "alice", "refresh_expires_in": 1.5 })),
            ("label", json!({ "subject": "alice", "label": "" })),
            ("label", json!({ "subject": "alice", "label": "x".repeat(101) })),
            ("claims", json!({ "subject": "alice", "claims": [] })),
            ("claims", json!({ "subject": "alice", "claims": { "big": "x".repeat(3_000) } })),
        ] {
            let msg = ask(&server, &client, body.clone()).await.error(422, "invalid_request");
            assert!(msg.contains(name), "{body}: {msg}");
        }
        for (msg, member) in [
            ("access_expires_in must be a positive whole number", r#""access_expires_in":-5"#),
            ("access_expires_in must be a positive whole number", r#""access_expires_in":1.5"#),
            ("refresh_expires_in must be a positive whole number", r#""refresh_expires_in":"60""#),
            ("audience must be text or a list of texts", r#""audience":[1]"#),
            ("claims must be an object", r#""claims":[]"#),
            ("a stands twice", r#""claims":{"a":1,"a":2}"#),
            ("b stands twice", r#""claims":{"a":[{"b":1,"b":2}]}"#),
            ("claims stands twice", r#""claims":{},"claims":{}"#),
        ] {
            let body = format!(r#"{{"subject":"alice",{member}}}"#);
            let answer = server.post("/tokens").basic(&client).json_bytes(body).send().await;
            assert_eq!(answer.error(422, "invalid_request"), msg);
        }
        for reserved in ["iss", "sub", "jti", "client_id", "type", "csrf", "active", "username", "acr"] {
            let msg = ask(&server, &client, json!({ "subject": "alice", "claims": { reserved: "x" } })).await;
            let msg = msg.error(422, "invalid_request");
            assert!(msg.contains("claims") && msg.contains(reserved), "{msg}");
        }
        server.post("/tokens").basic(&client).json_bytes("{").send().await.error(400, "invalid_request");
        server.post("/tokens").basic(&client).body("text/plain", "{}").send().await.error(415, "invalid_request");
        let large = server.post("/tokens").basic(&client).json_bytes(vec![b' '; 2_000_000]);
        large.send().await.error(413, "invalid_request");
        let keys = server.post("/tokens").basic(&client).header("Idempotency-Key", "a").header("Idempotency-Key", "b");
        keys.json(&json!({ "subject": "alice" })).send().await.error(400, "invalid_request");
        let two = server.post("/tokens").basic(&client).basic(&client).json(&json!({ "subject": "alice" }));
        two.send().await.error(400, "invalid_request");
        assert_eq!(server.count("select count(*) from cf_tokens where subject = 'alice'").await, 0);
    }

    async fn lifetimes_are_capped_as_is_set(database: Database) {
        let caps = json!({ "max_access_expires": "1h", "max_refresh_expires": "2h" });
        let settings = |all: Settings| all.set("issue", caps).set("refresh_expires", "1h");
        let server = Server::start(database, settings).await;
        let client = server.add_client("shop", &GRANTS);
        let of = |access: u64, refresh: u64| {
            json!({ "subject": "alice", "access_expires_in": access, "refresh_expires_in": refresh })
        };
        ask(&server, &client, of(3_600, 7_200)).await.ok(201);
        let msg = ask(&server, &client, of(3_601, 7_200)).await.error(422, "invalid_request");
        assert!(msg.contains("access_expires_in"), "{msg}");
        let msg = ask(&server, &client, of(3_600, 7_201)).await.error(422, "invalid_request");
        assert!(msg.contains("refresh_expires_in"), "{msg}");
    }

    async fn who_asks_for_no_lifetime_gets_none_that_nobody_could_ask_for(database: Database) {
        let caps = json!({ "max_access_expires": "1m", "max_refresh_expires": "2m" });
        let server = Server::start(database, |settings| settings.set("issue", caps)).await;
        let client = server.add_client("shop", &GRANTS);
        let answer = ask(&server, &client, json!({ "subject": "alice" })).await.ok(201);
        let lifetime = |token: &str| {
            let claims = claims_of(answer[token].as_str().unwrap());
            claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()
        };
        assert_eq!((lifetime("access_token"), lifetime("refresh_token")), (60, 120));
    }

    async fn no_cookie_is_set_for_an_application_though_users_have_them(database: Database) {
        let server = Server::start(database, |settings| settings.set("locations", json!(["header", "cookie"]))).await;
        let client = server.add_client("shop", &GRANTS);
        let form = [("grant_type", "client_credentials")];
        for answer in [
            ask(&server, &client, json!({ "subject": "alice" })).await,
            server.post("/oauth/token").basic(&client).form(&form).send().await,
        ] {
            assert!(answer.header_values("Set-Cookie").is_empty(), "{answer:?}");
            let body = answer.ok(answer.status);
            assert_eq!(claims_of(body["access_token"].as_str().unwrap()).get("csrf"), None);
        }
    }

    async fn a_number_is_signed_as_it_was_asked_for_and_again(server: Server) {
        let client = server.add_client("shop", &GRANTS);
        // Each comes out as a neighbour where a number is not read to its last digit.
        for (key, number) in [("a", "14.174619423162337"), ("b", "2.7859216497755073e287")] {
            let body = format!(r#"{{"subject":"alice","claims":{{"x":{number}}}}}"#);
            let ask = || server.post("/tokens").basic(&client).header("Idempotency-Key", key).json_bytes(body.clone());
            let first = ask().send().await.ok(201);
            let again = ask().send().await.ok(201);
            assert_eq!(first, again);
            let token = again["access_token"].as_str().unwrap();
            let claims = claims_text(token);
            assert!(number.split('e').all(|digits| claims.contains(digits)), "{number}: {claims}");
            server.accepts(token).await;
        }
    }

    async fn a_key_makes_a_retry_return_the_first_answer(server: Server) {
        let client = server.add_client("shop", &GRANTS);
        let other = server.add_client("other", &GRANTS);
        let body = json!({ "subject": "alice", "scope": "notes:read", "claims": { "n": 1 } });
        let first = ask_once(&server, &client, "order-1", &body).await.ok(201);
        server.advance(7);
        let again = ask_once(&server, &client, "order-1", &body).await.ok(201);
        assert_eq!(first, again);
        server.accepts(again["access_token"].as_str().unwrap()).await;
        for token in [&first["access_token"], &first["refresh_token"]] {
            let token = token.as_str().unwrap();
            let signature = token.rsplit('.').next().unwrap();
            assert!(server.keeps(&jti_of(token)).await && !server.keeps(signature).await, "a token is kept");
        }
        assert_eq!(server.count("select count(*) from cf_tokens where subject = 'alice'").await, 2);
        assert_eq!(server.count("select count(*) from cf_sessions where subject = 'alice'").await, 1);

        // Another key, another client: another answer. Another body under the same key: none.
        let second = ask_once(&server, &client, "order-2", &body).await.ok(201);
        assert_ne!(second, first);
        assert_ne!(ask_once(&server, &other, "order-1", &body).await.ok(201), first);
        let another = json!({ "subject": "alice", "scope": "notes:write" });
        let msg = ask_once(&server, &client, "order-1", &another).await.error(422, "invalid_request");
        assert!(msg.contains("Idempotency-Key"), "{msg}");
        for bad in ["", " ", "a b", &"x".repeat(256)] {
            let answer = ask_once(&server, &client, bad, &body).await;
            assert!(answer.error(422, "invalid_request").contains("Idempotency-Key"));
        }

        let admin = server.login().await;
        let path = format!("/admin/tokens/revoke/{}", jti_of(first["access_token"].as_str().unwrap()));
        server.put(&path).bearer(&admin.access).send().await.says("Token successfully revoked");
        ask_once(&server, &client, "order-1", &body).await.error(409, "result_revoked");
        // A refresh token that was used is not given again.
        let third = ask_once(&server, &client, "order-3", &body).await.ok(201);
        let fields = [("grant_type", "refresh_token"), ("refresh_token", third["refresh_token"].as_str().unwrap())];
        server.post("/oauth/token").basic(&client).form(&fields).send().await.ok(200);
        ask_once(&server, &client, "order-3", &body).await.error(409, "result_revoked");
        // After a day the key is free again, and not before.
        server.advance(24 * 60 * 60 - 60);
        assert_eq!(ask_once(&server, &client, "order-2", &body).await.ok(201), second);
        server.advance(60);
        let fresh = ask_once(&server, &client, "order-1", &body).await.ok(201);
        server.accepts(fresh["access_token"].as_str().unwrap()).await;
    }

    async fn a_retry_is_answered_when_its_records_have_gone(server: Server) {
        let client = server.add_client("shop", &GRANTS);
        let body = json!({ "subject": "alice", "refresh": false });
        let first = ask_once(&server, &client, "k", &body).await.ok(201);
        server.sql("delete from cf_tokens where subject = 'alice'").await;
        assert_eq!(ask_once(&server, &client, "k", &body).await.ok(201), first);
        server.advance(901);
        server.registry.purge().await.unwrap();
        assert_eq!(server.count("select count(*) from cf_sessions where subject = 'alice'").await, 0);
        assert_eq!(ask_once(&server, &client, "k", &body).await.ok(201), first);
        server.refuses(first["access_token"].as_str().unwrap(), "token_expired").await;
    }

    async fn retries_at_once_get_one_answer(server: Server) {
        let client = server.add_client("shop", &GRANTS);
        let body = json!({ "subject": "alice" });
        let mut asked = Vec::new();
        for _ in 0..16 {
            let call = server.post("/tokens").basic(&client).header("Idempotency-Key", "k").json(&body);
            asked.push(tokio::spawn(call.send()));
            // Others issue beside it, and share nothing with it.
            let call = server.post("/tokens").basic(&client).json(&json!({ "subject": "bob" }));
            tokio::spawn(async move { call.send().await.ok(201) }).await.unwrap();
        }
        let mut answers = Vec::new();
        for answer in asked {
            answers.push(answer.await.unwrap().ok(201));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        server.accepts(answers[0]["access_token"].as_str().unwrap()).await;
        assert_eq!(server.count("select count(*) from cf_tokens where subject = 'alice'").await, 2);
    }

    async fn a_name_that_becomes_a_users_takes_the_tokens_with_it(server: Server) {
        let client = server.add_client("shop", &GRANTS);
        let pair = Pair::of(&ask(&server, &client, json!({ "subject": "carol" })).await.ok(201));
        server.accepts(&pair.access).await;
        server.add_user("carol", "a password of carol's", &[]);
        server.refuses(&pair.access, "token_revoked").await;
        ask(&server, &client, json!({ "subject": "carol" })).await.error(403, "subject_reserved");
    }

    async fn no_token_slips_through_while_a_name_becomes_a_users(server: Server) {
        let client = server.add_client("shop", &GRANTS);
        // One that is known already, and one that is not.
        ask(&server, &client, json!({ "subject": "carol" })).await.ok(201);
        for subject in ["carol", "dave"] {
            let over = Arc::new(AtomicBool::new(false));
            let mut crowd = JoinSet::new();
            for _ in 0..8 {
                let call = || server.post("/tokens").basic(&client).json(&json!({ "subject": subject }));
                let (over, calls) = (over.clone(), (0..200).map(|_| call()).collect::<Vec<_>>());
                crowd.spawn(async move {
                    let mut answers = Vec::new();
                    for call in calls {
                        let is_last = over.load(Ordering::Acquire);
                        answers.push(call.send().await);
                        if is_last {
                            break;
                        }
                    }
                    answers
                });
            }
            server.add_user(subject, "a password of one's own", &[]);
            over.store(true, Ordering::Release);
            let answers: Vec<Answer> = crowd.join_all().await.into_iter().flatten().collect();
            let (issued, refused): (Vec<&Answer>, Vec<&Answer>) = answers.iter().partition(|answer| answer.status == 201);
            assert!(!issued.is_empty() && !refused.is_empty(), "{} were issued, {} not", issued.len(), refused.len());
            for answer in refused {
                answer.error(403, "subject_reserved");
            }
            for answer in issued {
                server.refuses(answer.ok(201)["access_token"].as_str().unwrap(), "token_revoked").await;
            }
        }
    }

    async fn a_client_that_plain_sql_disables_or_removes_gets_nothing_more(server: Server) {
        for (name, change) in [("shop", "update cf_clients set disabled = true"), ("mill", "delete from cf_clients")] {
            let client = server.add_client(name, &GRANTS);
            ask(&server, &client, json!({ "subject": "alice" })).await.ok(201);
            server.sql(&format!("{change} where client_id = '{}'", client.id)).await;
            let is_refused = async || ask(&server, &client, json!({ "subject": "alice" })).await.status == 401;
            until(&format!("{change} is noticed"), is_refused).await;
        }
    }

    async fn whose_a_name_is_holds_for_plain_sql_too(database: Database) {
        let server = Server::start(database, |settings| settings).await;
        let client = server.add_client("shop", &GRANTS);
        let other = server.add_client("other", &[]);
        let statuses = async |names: [&str; 2]| {
            let mut statuses = Vec::new();
            for subject in names {
                statuses.push(ask(&server, &client, json!({ "subject": subject })).await.status);
            }
            statuses
        };
        assert_eq!(statuses(["carol", "dave"]).await, [201, 201]);
        let columns = "password_hash, scope, disabled, created_at, password_changed_at";
        server.sql(&format!("insert into cf_users (username, {columns}) select 'carol', {columns} from cf_users")).await;
        assert_eq!(statuses(["carol", "dave"]).await, [403, 201]);
        server.sql("update cf_users set username = 'dave' where username = 'carol'").await;
        assert_eq!(statuses(["carol", "dave"]).await, [201, 403]);
        server.sql(&format!("update cf_clients set client_id = 'carol' where client_id = '{}'", other.id)).await;
        assert_eq!(statuses(["carol", "dave"]).await, [403, 403]);
        server.sql("delete from cf_clients where client_id = 'carol'").await;
        server.sql("delete from cf_users where username = 'dave'").await;
        assert_eq!(statuses(["carol", "dave"]).await, [201, 201]);
        if database == Database::Postgres {
            // SQLite has no such statement.
            server.sql("truncate cf_users").await;
            ask(&server, &client, json!({ "subject": ADMIN })).await.ok(201);
        }
    }

    async fn only_a_first_partys_tokens_are_refreshed_without_its_secret(server: Server) {
        let client = server.add_client("shop", &GRANTS);
        let pair = Pair::of(&ask(&server, &client, json!({ "subject": "alice" })).await.ok(201));
        server.post("/refresh").bearer(&pair.refresh).send().await.error(401, "token_invalid");
        server.command_ok(&["client", "set", "shop", "--first-party", "true"], "");
        let refreshed = server.post("/refresh").bearer(&pair.refresh).send().await.ok(200);
        let claims = claims_of(refreshed["access_token"].as_str().unwrap());
        assert_eq!(claims["client_id"], json!(client.id));
        // Within what the client may still give.
        let body = json!({ "subject": "alice", "scope": "notes:read notes:write" });
        let pair = Pair::of(&ask(&server, &client, body).await.ok(201));
        server.command_ok(&["client", "set", "shop", "--grant-scope", "notes:read"], "");
        let refreshed = server.post("/refresh").bearer(&pair.refresh).send().await.ok(200);
        assert_eq!(refreshed["scope"], "notes:read");
        let pair = Pair::of(&ask(&server, &client, json!({ "subject": "alice" })).await.ok(201));
        server.command_ok(&["client", "disable", "shop"], "");
        server.post("/refresh").bearer(&pair.refresh).send().await.error(401, "token_invalid");
        server.command_ok(&["client", "delete", "shop"], "");
        server.post("/refresh").bearer(&pair.refresh).send().await.error(401, "token_invalid");
    }

    async fn an_audience_that_a_client_may_not_give_any_more_is_not_refreshed(server: Server) {
        const ONE: &str = "https://one.example";
        const OTHER: &str = "https://other.example";
        let options = [&GRANTS[..], &["--audience", ONE, "--audience", OTHER, "--first-party"]].concat();
        let client = server.add_client("shop", &options);
        let body = json!({ "subject": "alice", "audience": [ONE, OTHER] });
        let (pair, other) = (Pair::of(&ask(&server, &client, body.clone()).await.ok(201)), ask(&server, &client, body).await);
        let issuer = claims_of(&pair.access)["iss"].clone();
        let mixed = ask(&server, &client, json!({ "subject": "alice", "audience": [issuer, ONE] })).await.ok(201);
        server.command_ok(&["client", "set", "shop", "--audience", OTHER], "");
        // The issuer's own is everybody's.
        let mixed = server.post("/refresh").bearer(&Pair::of(&mixed).refresh).send().await.ok(200);
        assert_eq!(claims_of(mixed["access_token"].as_str().unwrap())["aud"], issuer);
        let refreshed = server.post("/refresh").bearer(&pair.refresh).send().await.ok(200);
        assert_eq!(claims_of(refreshed["access_token"].as_str().unwrap())["aud"], json!(OTHER));
        let by_secret = async |refresh: &str| {
            let form = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
            server.post("/oauth/token").basic(&client).form(&form).send().await
        };
        let refreshed = by_secret(&Pair::of(&other.ok(201)).refresh).await.ok(200);
        assert_eq!(claims_of(refreshed["access_token"].as_str().unwrap())["aud"], json!(OTHER));
        let last = Pair::of(&refreshed);
        server.command_ok(&["client", "set", "shop", "--audience", ""], "");
        by_secret(&last.refresh).await.oauth_error(400, "invalid_grant");
        // It was not used up by that.
        server.command_ok(&["client", "set", "shop", "--audience", ONE, "--audience", OTHER], "");
        let refreshed = by_secret(&last.refresh).await.ok(200);
        assert_eq!(claims_of(refreshed["access_token"].as_str().unwrap())["aud"], json!([ONE, OTHER]));
    }

    async fn with_unrecorded_access_tokens_a_retry_says_the_same(database: Database) {
        let server = Server::start(database, |settings| settings.set("check", "refresh")).await;
        let client = server.add_client("shop", &GRANTS);
        let body = json!({ "subject": "alice" });
        let first = ask_once(&server, &client, "k", &body).await.ok(201);
        server.advance(7);
        assert_eq!(ask_once(&server, &client, "k", &body).await.ok(201), first);
        // Of one that is asked for alone nothing is on the registry but its session.
        let alone = json!({ "subject": "alice", "refresh": false });
        let first = ask_once(&server, &client, "alone", &alone).await.ok(201);
        assert_eq!(ask_once(&server, &client, "alone", &alone).await.ok(201), first);
        server.command_ok(&["subject", "revoke-all", "alice"], "");
        ask_once(&server, &client, "k", &body).await.error(409, "result_revoked");
        ask_once(&server, &client, "alone", &alone).await.error(409, "result_revoked");
    }
}
