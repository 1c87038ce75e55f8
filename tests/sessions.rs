//! Sessions: all that descends from one log-in.

use crate::support::forge::sid_of;
use crate::support::server::until;
use crate::support::{ADMIN, PASSWORD, Pair, Server, Value, json, on_both};

async fn login(server: &Server, label: &str, agent: &str) -> Pair {
    let body = json!({ "username": ADMIN, "password": PASSWORD, "label": label });
    Pair::of(&server.post("/login").header("User-Agent", agent).json(&body).send().await.ok(200))
}

async fn list(server: &Server, access: &str) -> Vec<Value> {
    server.get("/auth/sessions").bearer(access).send().await.ok(200).as_array().unwrap().clone()
}

on_both! {
    async fn a_list_says_which_is_the_current_one_and_what_began_it(server: Server) {
        let began = server.registry.now();
        let phone = login(&server, "phone", "Phone/1").await;
        server.advance(60);
        let laptop = login(&server, "laptop", "Laptop/2").await;
        let listed = list(&server, &phone.access).await;
        assert_eq!(listed.len(), 2);
        let (first, second) = (&listed[0], &listed[1]);
        assert_eq!((&first["sid"], &first["label"]), (&json!(sid_of(&laptop.access)), &json!("laptop")));
        assert_eq!(first["current"], false);
        let at = |seconds: i64| {
            let at = began + chrono::TimeDelta::seconds(seconds);
            json!(at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
        };
        assert_eq!(
            *second,
            json!({
                "sid": sid_of(&phone.access), "current": true, "label": "phone", "client": Value::Null,
                "ip": "127.0.0.1", "user_agent": "Phone/1", "created_at": at(0), "last_seen_at": at(0),
                "expires_at": at(30 * 24 * 60 * 60),
            })
        );

        server.post("/refresh").bearer(&phone.refresh).send().await.ok(200);
        let listed = list(&server, &phone.access).await;
        assert_eq!(listed[1]["last_seen_at"], at(60));
        assert_eq!(listed[1]["created_at"], at(0));
    }

    async fn a_list_comes_in_pages(server: Server) {
        let mut begun = Vec::new();
        for wait in [0, 1, 0, 0, 1, 0, 5] {
            begun.push(server.issue("alice", "").await);
            server.advance(wait);
        }
        server.issue("bob", "").await;
        let reader = begun[0].access.clone();
        for ended in [&begun[1], &begun[6]] {
            let path = format!("/auth/sessions/{}", sid_of(&ended.access));
            server.delete(&path).bearer(&reader).send().await.ok(200);
        }
        let all = list(&server, &reader).await;
        assert_eq!(all.len(), 5);
        let places: Vec<_> = all.iter().map(|one| (one["created_at"].as_str(), one["sid"].as_str())).collect();
        assert!(places.windows(2).all(|pair| pair[0] > pair[1]), "{places:?}");
        assert_eq!(all.iter().position(|one| one["current"] == true), Some(4));

        // A session that ends in between is missed by no page but its own.
        let mut seen = Vec::new();
        let mut path = Some("/auth/sessions?limit=2".to_owned());
        while let Some(page) = path {
            let answer = server.get(&page).bearer(&reader).send().await;
            path = answer.next_page();
            let page = answer.ok(200).as_array().unwrap().clone();
            assert_eq!(page.len(), if path.is_some() { 2 } else { 1 });
            seen.extend(page);
            assert!(seen.len() <= all.len(), "it goes in circles: {seen:?}");
            if seen.len() == 2 {
                let last = format!("/auth/sessions/{}", seen[1]["sid"].as_str().unwrap());
                server.delete(&last).bearer(&reader).send().await.ok(200);
            }
        }
        assert_eq!(seen, all);
        for wrong in ["limit=0", "limit=1001", "limit=x", "cursor=x", "cursor=1.x", "cursor=", "limit=1&limit=2"] {
            let msg = server.get(&format!("/auth/sessions?{wrong}")).bearer(&reader).send().await.error(422, "invalid_request");
            assert!(msg.contains(&wrong[..5]), "{msg}");
        }
    }

    async fn an_ended_session_takes_all_its_tokens_along_and_leaves_the_list(server: Server) {
        let (one, two) = (server.login().await, server.login().await);
        let refreshed = server.post("/refresh").bearer(&one.refresh).send().await.ok(200);
        let path = format!("/auth/sessions/{}", sid_of(&one.access));
        let answer = server.delete(&path).bearer(&two.access).send().await.ok(200);
        assert_eq!(answer["revoked"], 3, "{answer}");
        assert!(answer["msg"].is_string(), "{answer}");
        server.refuses(&one.access, "token_revoked").await;
        server.refuses(refreshed["access_token"].as_str().unwrap(), "token_revoked").await;
        server.post("/refresh").bearer(&one.refresh).send().await.error(401, "token_revoked");
        let listed = list(&server, &two.access).await;
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0]["sid"], sid_of(&two.access));

        // One may end the session one speaks from.
        let path = format!("/auth/sessions/{}", sid_of(&two.access));
        assert_eq!(server.delete(&path).bearer(&two.access).send().await.ok(200)["revoked"], 2);
        server.refuses(&two.access, "token_revoked").await;
    }

    async fn what_has_ended_with_all_or_expired_is_no_session_of_a_list(server: Server) {
        let first = server.login().await;
        server.post("/auth/tokens/revoke-all").bearer(&first.access).send().await.ok(200);
        let second = server.login().await;
        assert_eq!(list(&server, &second.access).await.len(), 1);
        server.advance(31 * 24 * 60 * 60);
        let third = server.login().await;
        let listed = list(&server, &third.access).await;
        assert_eq!((listed.len(), &listed[0]["sid"]), (1, &json!(sid_of(&third.access))));
    }

    async fn others_sessions_are_not_there(server: Server) {
        let mine = server.login().await;
        let theirs = server.issue("mallory", "").await;
        let sid = sid_of(&mine.access);
        for sid in [sid.as_str(), "0190a5a0-0000-7000-8000-000000000001", "no-uuid", "%00", "%27%3B--"] {
            let answer = server.delete(&format!("/auth/sessions/{sid}")).bearer(&theirs.access).send().await;
            assert_eq!(answer.error(404, "not_found"), "Session not found");
        }
        server.accepts(&mine.access).await;
        assert_eq!(list(&server, &theirs.access).await.len(), 1);
    }

    async fn a_session_is_seen_when_its_token_is_used_where_that_is_recorded(database: Database) {
        let server = Server::start(database, |settings| settings.set("last_used", "5s")).await;
        let pair = server.login().await;
        // Three seconds into a step of five: what is recorded is when the step began.
        let into = server.registry.now().timestamp().rem_euclid(5);
        server.advance(128 - u64::try_from(into).unwrap());
        server.accepts(&pair.access).await;
        let used = server.registry.now() - chrono::TimeDelta::seconds(3);
        let used = json!(used.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
        let path = format!("/auth/tokens/{}", crate::support::forge::jti_of(&pair.access));
        // It is written in the background, in batches: the one thing here that a test must wait for.
        let is_recorded = async || server.get(&path).bearer(&pair.access).send().await.ok(200)["last_used_at"] == used;
        until("the use is recorded", is_recorded).await;
        assert_eq!(list(&server, &pair.access).await[0]["last_seen_at"], used);
    }
}
