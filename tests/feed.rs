//! The feed of revocations in pages: every change that makes tokens less than live is in it once, for those whom it is
//! for.

use counterfoil::Actor;

use crate::support::feed::{events, limited_service, place, service};
use crate::support::forge::{claims_of, jti_of, sid_of};
use crate::support::{ISSUER, Server, Value, json, on_both};

fn application() -> Actor {
    Actor::application("test")
}

/// The one member that says what an event is about, without `seq` and `at`.
fn about(event: &Value) -> Value {
    let mut event = event.clone();
    let members = event.as_object_mut().unwrap();
    assert!(members.remove("at").unwrap().as_str().unwrap().ends_with('Z'));
    members.remove("seq").unwrap();
    event
}

/// When a session began, by its id.
fn began(sid: &str) -> f64 {
    i64::from_str_radix(&format!("{}{}", &sid[..8], &sid[9..13]), 16).unwrap() as f64 / 1_000.0
}

on_both! {
    async fn a_token_is_revoked_and_back(server: Server) {
        let service = service(&server).await;
        let pair = server.login().await;
        let start = place(&server, &service).await;
        let (jti, exp) = (jti_of(&pair.access), claims_of(&pair.access)["exp"].clone());
        server.put(&format!("/auth/tokens/revoke/{jti}")).bearer(&server.login().await.access).send().await.ok(200);
        server.registry.unrevoke(jti.parse().unwrap(), application()).await.unwrap();
        let told = events(&server, &service, start).await;
        assert_eq!(told.iter().map(about).collect::<Vec<_>>(), [
            json!({ "jti": jti, "action": "revoked", "exp": exp }),
            json!({ "jti": jti, "action": "unrevoked", "exp": exp }),
        ]);
        // What changes nothing is nothing new.
        server.registry.unrevoke(jti.parse().unwrap(), application()).await.unwrap();
        assert_eq!(events(&server, &service, start).await, told);
    }

    async fn a_session_ends(server: Server) {
        let service = service(&server).await;
        let pair = server.login().await;
        let start = place(&server, &service).await;
        server.post("/logout").bearer(&pair.access).send().await.ok(200);
        let exp = claims_of(&pair.refresh)["exp"].clone();
        let told = events(&server, &service, start).await;
        assert_eq!(told.iter().map(about).collect::<Vec<_>>(), [
            json!({ "sid": sid_of(&pair.access), "action": "revoked", "exp": exp }),
        ]);
    }

    async fn all_of_a_subject_end(server: Server) {
        let service = service(&server).await;
        let pairs = [server.issue("alice", "").await, server.issue("alice", "").await];
        let start = place(&server, &service).await;
        server.registry.revoke_all(&"alice".parse().unwrap(), None, application()).await.unwrap();
        let told = events(&server, &service, start).await;
        let before = told[0]["before"].as_f64().unwrap();
        let exp = claims_of(&pairs[1].refresh)["exp"].clone();
        assert_eq!(told.iter().map(about).collect::<Vec<_>>(), [
            json!({ "sub": "alice", "action": "revoked", "before": before, "exp": exp }),
        ]);
        for pair in &pairs {
            assert!(began(&sid_of(&pair.access)) < before);
            assert!((claims_of(&pair.access)["iat"].as_i64().unwrap() as f64) < before);
        }
        server.clock.advance(std::time::Duration::from_millis(20));
        let later = server.issue("alice", "").await;
        assert!(began(&sid_of(&later.access)) >= before, "a session begun later in the same second is not meant");
        // Nobody to tell of.
        server.registry.revoke_all(&"nobody".parse().unwrap(), None, application()).await.unwrap();
        assert_eq!(events(&server, &service, start).await.len(), 1);
    }

    async fn a_session_is_meant_whose_clock_was_ahead_of_the_change(server: Server) {
        let service = service(&server).await;
        server.advance(30);
        let ahead = server.issue("alice", "").await;
        let start = place(&server, &service).await;
        // By the clock of the machine.
        server.command_ok(&["subject", "revoke-all", "alice"], "");
        let told = events(&server, &service, start).await;
        assert!(began(&sid_of(&ahead.access)) < told[0]["before"].as_f64().unwrap(), "{told:?}");
    }

    async fn one_kept_session_is_not_told_of(server: Server) {
        let service = service(&server).await;
        let (kept, other) = (server.login().await, server.login().await);
        let start = place(&server, &service).await;
        let all = json!({ "except_current": true });
        server.post("/auth/tokens/revoke-all").bearer(&kept.access).json(&all).send().await.ok(200);
        let told = events(&server, &service, start).await;
        let exp = claims_of(&other.refresh)["exp"].clone();
        assert_eq!(told.iter().map(about).collect::<Vec<_>>(), [
            json!({ "sid": sid_of(&other.access), "action": "revoked", "exp": exp }),
        ]);
        server.accepts(&kept.access).await;
        server.refuses(&other.access, "token_revoked").await;

        let third = server.login().await;
        let start = place(&server, &service).await;
        let change = json!({ "current": crate::support::PASSWORD, "new": "another password" });
        let fresh = server.login().await;
        server.post("/auth/password").bearer(&fresh.access).json(&change).send().await.ok(200);
        let told = events(&server, &service, start).await;
        assert!(told.iter().all(|event| event["sub"] == Value::Null), "{told:?}");
        let mut ended: Vec<String> = told.iter().map(|event| event["sid"].as_str().unwrap().to_owned()).collect();
        let mut due = vec![sid_of(&kept.access), sid_of(&third.access)];
        ended.sort();
        due.sort();
        assert_eq!(ended, due);
        server.accepts(&fresh.access).await;
        // What ended by itself is in the log, and the position is that of the last of it.
        let last = "select count(*) from cf_position p join cf_changes c on c.seq = p.seq and c.change = p.change
            where not exists (select 1 from cf_changes d where d.seq > p.seq)";
        assert_eq!(server.count(last).await, 1);
    }

    async fn users_lose_tokens(server: Server) {
        let service = service(&server).await;
        server.add_user("alice", "alice password", &["notes", "mail"]);
        let pair = server.login_as("alice", "alice password").await;
        let mut start = place(&server, &service).await;
        server.command_ok(&["user", "set", "alice", "--remove-scope", "notes"], "");
        let told = events(&server, &service, start).await;
        assert_eq!(told.iter().map(about).collect::<Vec<_>>(), [
            json!({ "jti": jti_of(&pair.access), "action": "revoked", "exp": claims_of(&pair.access)["exp"] }),
        ]);
        let commands: [(&[&str], &str); 4] = [
            (&["user", "passwd", "alice"], "another password"),
            (&["user", "disable", "alice"], ""),
            (&["user", "delete", "alice"], ""),
            (&["user", "add", "alice"], "a third password"),
        ];
        for (command, input) in commands {
            server.issue("alice", "").await;
            start = place(&server, &service).await;
            server.command_ok(command, input);
            let told = events(&server, &service, start).await;
            assert_eq!(told.len(), 1, "{command:?}: {told:?}");
            assert_eq!((&told[0]["sub"], &told[0]["action"]), (&json!("alice"), &json!("revoked")), "{command:?}");
            assert!(told[0]["before"].is_f64());
        }
    }

    async fn what_the_registry_takes_back_by_itself_is_told_of_too(database: Database) {
        let settings = json!({ "max": 1, "when_full": "end_oldest" });
        let server = Server::start(database, |all| all.set("sessions", settings)).await;
        let service = service(&server).await;
        let refresh = async |token: &str| server.post("/refresh").bearer(token).send().await;
        let told_of = async |start: i64, name: &str, id: &str| {
            let told = events(&server, &service, start).await;
            assert!(told.iter().any(|event| event[name] == id && event["action"] == "revoked"), "{name} {id}: {told:?}");
        };
        // A successor that nobody used is replaced, and then a token is in two hands.
        let (first, start) = (server.login().await, place(&server, &service).await);
        let lost = refresh(&first.refresh).await.ok(200);
        server.advance(11);
        let second = refresh(&first.refresh).await.ok(200);
        told_of(start, "jti", &jti_of(lost["access_token"].as_str().unwrap())).await;
        refresh(second["refresh_token"].as_str().unwrap()).await.ok(200);
        let start = place(&server, &service).await;
        refresh(&first.refresh).await.error(401, "token_revoked");
        told_of(start, "sid", &sid_of(&first.access)).await;
        // The oldest session makes room.
        let (oldest, start) = (server.login().await, place(&server, &service).await);
        server.login().await;
        told_of(start, "sid", &sid_of(&oldest.access)).await;
        // A client takes one back, and is disabled.
        let client = server.add_client("shop", &["--scope", "tokens:issue"]);
        let (own, start) = (server.client_token(&client).await, place(&server, &service).await);
        server.post("/oauth/revoke").basic(&client).form(&[("token", &own)]).send().await;
        told_of(start, "jti", &jti_of(&own)).await;
        server.client_token(&client).await;
        let start = place(&server, &service).await;
        server.command_ok(&["client", "disable", "shop"], "");
        told_of(start, "sub", &client.id).await;
    }

    async fn sessions_whose_ids_say_nothing_are_named(server: Server) {
        let service = service(&server).await;
        let pair = server.issue("alice", "").await;
        server.advance(1);
        let imported = server.issue("alice", "").await;
        let mark = format!(
            "update cf_tokens set imported = true where subject = 'alice' and issued_at = {}",
            claims_of(&imported.access)["iat"]
        );
        server.sql(&mark).await;
        let start = place(&server, &service).await;
        server.registry.revoke_all(&"alice".parse().unwrap(), None, application()).await.unwrap();
        let told = events(&server, &service, start).await;
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.iter().any(|event| event["sub"] == "alice"));
        assert!(told.iter().any(|event| event["sid"] == sid_of(&imported.access).as_str()));
        assert!(told.iter().all(|event| event["sid"] != sid_of(&pair.access).as_str()));
    }

    async fn plain_sql_is_told_of(server: Server) {
        let service = service(&server).await;
        let pair = server.issue("alice", "").await;
        let start = place(&server, &service).await;
        let end = |what: &str| format!("{what} where subject = 'alice'");
        server.sql(&end("update cf_tokens set revoked_at = 1, revoked_by_kind = 'system', revoked_by = 'sql'")).await;
        server.sql(&end("update cf_tokens set revoked_at = null, revoked_by_kind = null, revoked_by = null")).await;
        server.sql(&end("update cf_sessions set ended_at = 1, ended_by_kind = 'system', ended_by = 'sql'")).await;
        server.sql(&end("update cf_sessions set ended_at = null, ended_by_kind = null, ended_by = null")).await;
        server.sql(&end("update cf_subjects set generation = generation + 1")).await;
        let told = events(&server, &service, start).await;
        let of = |name: &str, action: &str| {
            told.iter().filter(|event| event[name].is_string() && event["action"] == action).count()
        };
        assert_eq!((of("jti", "revoked"), of("jti", "unrevoked")), (2, 2), "{told:?}");
        assert_eq!((of("sid", "revoked"), of("sid", "unrevoked"), of("sub", "revoked")), (1, 1, 1), "{told:?}");
        assert!(began(&sid_of(&pair.access)) < told.last().unwrap()["before"].as_f64().unwrap());
        let start = place(&server, &service).await;
        server.sql(&end("delete from cf_tokens")).await;
        server.sql(&end("delete from cf_sessions")).await;
        assert_eq!(events(&server, &service, start).await.len(), 3);
    }

    async fn a_limited_client_sees_its_own_alone(server: Server) {
        let everybody = service(&server).await;
        let limited = limited_service(&server, &["https://api.example"]).await;
        let start = place(&server, &limited).await;
        let api = |grant: counterfoil::Grant| grant.audience(["https://other.example", "https://api.example"]).unwrap();
        let (own, foreign) = (server.issue_with("alice", "", api).await, server.issue("bob", "").await);
        let mut due = Vec::new();
        for pair in [&foreign, &own] {
            for token in [&pair.access, &pair.refresh] {
                server.registry.revoke(jti_of(token).parse().unwrap(), application()).await.unwrap();
                server.registry.unrevoke(jti_of(token).parse().unwrap(), application()).await.unwrap();
                if pair.access == own.access {
                    due.extend([jti_of(token), jti_of(token)]);
                }
            }
            server.registry.end_session(sid_of(&pair.access).parse().unwrap(), application()).await.unwrap();
        }
        due.push(sid_of(&own.access));
        server.issue("bob", "").await;
        server.issue_with("alice", "", api).await;
        for subject in ["bob", "alice"] {
            server.registry.revoke_all(&subject.parse().unwrap(), None, application()).await.unwrap();
        }
        due.push("alice".to_owned());
        retire(&server, "some-key").await;
        due.push("some-key".to_owned());
        let name = |event: &Value| {
            let named = ["jti", "sid", "sub", "kid"].into_iter().find_map(|name| event[name].as_str());
            named.unwrap().to_owned()
        };
        let told = events(&server, &limited, start).await;
        assert_eq!(told.iter().map(name).collect::<Vec<_>>(), due);
        assert_eq!(events(&server, &everybody, start).await.len(), 4 * 2 + 2 + 2 + 1);
        // It is not held up by what it does not see.
        assert_eq!(place(&server, &limited).await, place(&server, &everybody).await);
    }

    async fn imported_tokens_are_told_of_to_whoever_introspection_shows_them(server: Server) {
        let everybody = service(&server).await;
        let open = server.add_client("open", &["--scope", "tokens:introspect"]);
        let mut limited = Vec::new();
        for (name, audience) in [("issuer", ISSUER), ("api", "api"), ("other", "other")] {
            let client = server.add_client(name, &["--scope", "tokens:introspect", "--serves", audience]);
            let token = server.client_token(&client).await;
            limited.push((name, client, token));
        }
        let now = server.now();
        let foreign = json!({ "sub": "", "jti": "", "exp": now + 600 });
        let own = json!({
            "sub": "", "jti": "", "exp": now + 600, "iss": ISSUER, "nbf": now, "iat": now, "type": "access",
            "fresh": false, "sid": uuid::Uuid::new_v4(), "client_id": "counterfoil",
        });
        // As the application before may have had it: all but one that our own form has.
        let mut alike = own.clone();
        alike.as_object_mut().unwrap().remove("client_id");
        let mut elsewhere = own.clone();
        elsewhere["iss"] = json!("https://elsewhere.example");
        let unlike = json!({ "alg": "EdDSA", "typ": "JWT" });
        let cases = [
            (&unlike, &foreign, None, &["issuer"][..]),
            (&unlike, &foreign, Some(json!("api")), &["issuer"]),
            (&unlike, &foreign, Some(json!(["api", "other"])), &["issuer"]),
            (&unlike, &foreign, Some(json!({ "api": "other" })), &["issuer"]),
            (&unlike, &alike, Some(json!("api")), &["issuer"]),
            (&unlike, &elsewhere, Some(json!("api")), &["issuer"]),
            (&server.key.header(), &own, Some(json!("api")), &["api"]),
            (&server.key.header(), &own, Some(json!(["api", "other"])), &["api", "other"]),
        ];
        for (place_of_case, (header, claims, aud, whom)) in cases.into_iter().enumerate() {
            for what in ["token", "session", "subject"] {
                let (mut claims, case) = (claims.clone(), format!("{what}-{place_of_case}"));
                (claims["sub"], claims["jti"]) = (json!(case), json!(uuid::Uuid::new_v4()));
                if let Some(aud) = &aud {
                    claims["aud"] = aud.clone();
                }
                let token = server.key.sign(header, &claims);
                server.registry.import(&token).await.unwrap();
                let said = server.introspect(&open, &token).await;
                let id = |name: &str| said[name].as_str().unwrap();
                let mut shown = Vec::new();
                for (name, client, _) in &limited {
                    if server.introspect(client, &token).await["active"] == json!(true) {
                        shown.push(*name);
                    }
                }
                assert_eq!(shown, whom, "{case}");
                let start = place(&server, &everybody).await;
                let by = application();
                match what {
                    "token" => server.registry.revoke(id("jti").parse().unwrap(), by).await.unwrap(),
                    "session" => drop(server.registry.end_session(id("sid").parse().unwrap(), by).await.unwrap()),
                    _ => drop(server.registry.revoke_all(&case.parse().unwrap(), None, by).await.unwrap()),
                }
                let all = events(&server, &everybody, start).await;
                assert!(!all.is_empty(), "{case}");
                for (name, _, token) in &limited {
                    let due = if whom.contains(name) { &all[..] } else { &[] };
                    assert_eq!(events(&server, token, start).await, due, "{case} for {name}");
                }
            }
        }
    }

    async fn a_limited_client_is_not_told_of_others_once_their_records_have_gone(server: Server) {
        let alone = counterfoil::Grant::without_refresh;
        let start = place(&server, &service(&server).await).await;
        let pair = server.issue_with("bob", "", alone).await;
        server.registry.revoke(jti_of(&pair.access).parse().unwrap(), application()).await.unwrap();
        server.registry.end_session(sid_of(&pair.access).parse().unwrap(), application()).await.unwrap();
        server.issue_with("bob", "", alone).await;
        server.registry.revoke_all(&"bob".parse().unwrap(), None, application()).await.unwrap();
        server.advance(901);
        server.registry.purge().await.unwrap();
        let (everybody, limited) = (service(&server).await, limited_service(&server, &["https://api.example"]).await);
        assert_eq!(events(&server, &everybody, start).await[2]["sub"], "bob");
        assert_eq!(events(&server, &limited, start).await, Vec::<Value>::new());
        // What was deleted by hand has no record either, and may still be presented.
        server.issue_with("bob", "", alone).await;
        server.sql("delete from cf_tokens where subject = 'bob'").await;
        assert_eq!(events(&server, &limited, start).await.len(), 1);
    }

    async fn a_limited_client_gets_past_many_events_of_others(server: Server) {
        let everybody = service(&server).await;
        let limited = limited_service(&server, &["https://api.example"]).await;
        let start = place(&server, &limited).await;
        let foreign = server.issue("bob", "").await;
        let (foreign, sid) = (jti_of(&foreign.access), sid_of(&foreign.access));
        for _ in 0..150 {
            server.registry.revoke(foreign.parse().unwrap(), application()).await.unwrap();
            server.registry.unrevoke(foreign.parse().unwrap(), application()).await.unwrap();
        }
        let own = server.issue_with("alice", "", |grant| grant.audience(["https://api.example"]).unwrap()).await;
        server.registry.revoke(jti_of(&own.access).parse().unwrap(), application()).await.unwrap();
        // At one request: a page without events would come before it only where it takes long.
        let told = events(&server, &limited, start).await;
        assert_eq!(told.iter().map(|event| event["jti"].as_str().unwrap()).collect::<Vec<_>>(), [jti_of(&own.access)]);
        assert_eq!(events(&server, &everybody, start).await.len(), 301);
        // Whose tokens are too many to look through is told of.
        let many = format!(
            "with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < 600)
            insert into cf_tokens (jti, sid, subject, token_type, issued_at, not_before, expires_at, scope, claims, kid)
            select {}, sid, subject, token_type, issued_at, not_before, expires_at, scope, claims, kid
            from cf_tokens, numbers where subject = 'bob' and token_type = 'access'",
            server.random_id()
        );
        server.sql(&many).await;
        let start = place(&server, &limited).await;
        server.registry.end_session(sid.parse().unwrap(), application()).await.unwrap();
        assert_eq!(events(&server, &limited, start).await[0]["sid"], json!(sid));
    }

    async fn no_claim_of_a_token_stops_the_feed_of_a_limited_client(server: Server) {
        let limited = limited_service(&server, &["https://api.example"]).await;
        let start = place(&server, &limited).await;
        for text in ["\0", "\\u0000", "\\\0\\"] {
            let change = |grant: counterfoil::Grant| {
                grant.claim("text", text).unwrap().audience(["https://api.example"]).unwrap()
            };
            let pair = server.issue_with("alice", "", change).await;
            let jti = jti_of(&pair.access).parse().unwrap();
            server.registry.revoke(jti, application()).await.unwrap();
        }
        assert_eq!(events(&server, &limited, start).await.len(), 3);
    }

    async fn who_may_read_it(server: Server) {
        for path in ["/revocations", "/revocations/stream"] {
            server.get(path).send().await.error(401, "invalid_client");
            // A user's token with the scope is no client's.
            let user = server.issue("gateway", "tokens:introspect").await;
            server.get(path).bearer(&user.access).send().await.error(401, "token_invalid");
            let other = server.add_client(&format!("other-{}", uuid::Uuid::new_v4()), &["--scope", "tokens:issue"]);
            server.get(path).basic(&other).send().await.error(403, "insufficient_scope");
            let service = service(&server).await;
            for bad in ["after=-1", "after=x", "after=1&after=2", "after=99999999999999999999", "after="] {
                server.get(&format!("{path}?{bad}")).bearer(&service).send().await.error(422, "invalid_request");
            }
            server.get(&format!("{path}?after=1000")).bearer(&service).send().await.error(410, "gone");
        }
        let service = service(&server).await;
        for bad in ["limit=0", "limit=1001", "limit=x"] {
            server.get(&format!("/revocations?{bad}")).bearer(&service).send().await.error(422, "invalid_request");
        }
    }

    async fn what_is_not_kept_is_gone(database: Database) {
        let settings = |all: crate::support::server::Settings| all.set("feed.retain", "1h").set("access_expires", "1d");
        let server = Server::start(database, settings).await;
        let service = service(&server).await;
        let pair = server.issue("alice", "").await;
        let jti = jti_of(&pair.refresh).parse().unwrap();
        for _ in 0..3 {
            server.registry.revoke(jti, application()).await.unwrap();
            server.registry.unrevoke(jti, application()).await.unwrap();
        }
        assert_eq!(events(&server, &service, 0).await.len(), 6);
        server.advance(2 * 3_600);
        server.registry.purge().await.unwrap();
        server.get("/revocations?after=0").bearer(&service).send().await.error(410, "gone");
        server.get("/revocations/stream?after=0").bearer(&service).send().await.error(410, "gone");
        // One whose time is from a clock that was behind leaves no hole.
        for _ in 0..2 {
            server.registry.revoke(jti, application()).await.unwrap();
            server.registry.unrevoke(jti, application()).await.unwrap();
        }
        let kept = events(&server, &service, 6).await;
        server.sql(&format!("update cf_changes set at = {} where seq in (7, 10)", server.now())).await;
        server.sql("update cf_changes set at = 1 where seq in (8, 9)").await;
        server.registry.purge().await.unwrap();
        assert_eq!(events(&server, &service, 6).await.len(), kept.len());
        server.sql("update cf_changes set at = 1").await;
        server.registry.purge().await.unwrap();
        // The last one stays, so who had all but that misses nothing.
        let last = place(&server, &service).await;
        assert_eq!(events(&server, &service, last - 1).await.len(), 1);
        assert_eq!(events(&server, &service, last).await.len(), 0);
    }
}

/// Notes that a key was retired.
pub(crate) async fn retire(server: &Server, kid: &str) {
    let id = server.random_id();
    let (next, exp) = ("seq = seq + 1", server.now() + 3_600);
    server
        .sql(&format!(
            "begin; update cf_position set {next}, change = {id} where id = 1;
            insert into cf_changes (seq, change, kind, target, at, action, expires_at)
            select seq, change, 'key', '{kid}', {}, 'revoked', {exp} from cf_position; commit",
            server.now()
        ))
        .await;
}
