//! Keys that are retired, and all that they signed with them.

use counterfoil::{Actor, Expect};

use super::{keys, published};
use crate::support::feed::{events, place, service};
use crate::support::forge::{claims_of, jti_of, kid_of};
use crate::support::server::{MASTER_KEY, at_once, until_leased};
use crate::support::{ADMIN, Server, Value, json, on_both};

on_both! {
    async fn the_feed_tells_of_a_retired_key_and_of_no_rotation(database: Database) {
        let server = Server::start(database, at_once).await;
        let start = place(&server, &service(&server).await).await;
        let pair = server.issue("alice", "").await;
        keys(&server, &["rotate"]);
        keys(&server, &["retire", &kid_of(&pair.access)]);
        // Those of before are refused with the key.
        let told = events(&server, &service(&server).await, start).await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((&told[0]["kid"], &told[0]["action"]), (&json!(kid_of(&pair.access)), &json!("revoked")));
        assert!(told[0]["exp"].as_i64() >= claims_of(&pair.refresh)["exp"].as_i64(), "{told:?}");
    }

    async fn a_retired_key_takes_all_that_it_signed_with_it(database: Database) {
        let one = Server::start(database, at_once).await;
        let other = one.another(at_once).await;
        let strict = one.another(|settings| at_once(settings).set("consistency", "strict")).await;
        until_leased(&one).await;
        until_leased(&other).await;
        let admin = one.login().await;
        let pair = one.issue("alice", "").await;
        let servers = [&one, &other, &strict];
        for server in servers {
            server.accepts(&pair.access).await;
            server.accepts(&pair.access).await;
        }
        let (leaked, next) = (kid_of(&pair.access), published(&one).await[1].clone());
        let retired = keys(&one, &["retire", &leaked, "--reason", "leaked"]);
        assert_eq!((&retired["kid"], &retired["state"]), (&json!(leaked), &json!("retired")));
        for server in servers {
            server.refuses(&pair.access, "token_revoked").await;
            server.post("/refresh").bearer(&admin.refresh).send().await.error(401, "token_revoked");
            assert!(!published(server).await.contains(&leaked));
            // The next one has taken its place.
            let token = server.login().await.access;
            assert_eq!(kid_of(&token), next);
            server.accepts(&token).await;
        }
        // Again, with nothing left to do.
        keys(&one, &["retire", &leaked]);

        let admin = one.login().await.access;
        let record = one.get("/auth/all-tokens?subject=alice&state=revoked&limit=1").bearer(&admin).send().await;
        let record = record.ok(200);
        assert_eq!((&record[0]["revoked"], &record[0]["revoked_reason"]), (&json!(true), &json!("leaked")), "{record}");
        let live = one.get("/auth/all-tokens?subject=alice&state=live").bearer(&admin).send().await.ok(200);
        assert_eq!(live, json!([]));
        let path = format!("/admin/tokens/unrevoke/{}", jti_of(&pair.access));
        one.put(&path).bearer(&admin).json(&json!({})).send().await.error(409, "revocation_final");
        let variables = [("COUNTERFOIL_MASTER_KEY", MASTER_KEY)];
        let verified = one.command_with(&variables, &["token", "verify", "--json"], &pair.access).code(1).json();
        assert_eq!((&verified["error"], &verified["final"]), (&json!("token_revoked"), &json!(true)), "{verified}");
        assert_eq!(verified["revoked_by"]["kind"], "command_line", "{verified}");
        assert_eq!(verified["record"]["revoked_reason"], "leaked", "{verified}");
    }

    async fn what_a_retired_key_signed_gives_nothing_back_and_is_counted_no_more(database: Database) {
        let server = Server::start(database, at_once).await;
        let (pair, other) = (server.issue("alice", "").await, server.issue("alice", "").await);
        let alice = "alice".parse().unwrap();
        let presented = server.registry.check(&other.access, Expect::access()).await.unwrap();
        keys(&server, &["rotate"]);
        let later = server.issue("alice", "").await;
        let jti = jti_of(&later.access).parse().unwrap();
        server.registry.revoke(jti, Actor::subject(&alice)).await.unwrap();
        keys(&server, &["retire", &kid_of(&pair.access)]);
        let undone = server.registry.unrevoke(jti, presented.act_as(Actor::subject(&alice))).await;
        assert!(undone.unwrap_err().is_superseded());
        // Of all these the later refresh token is what was live.
        assert_eq!(server.registry.revoke_all(&alice, None, Actor::application("test")).await.unwrap(), 1);
    }

    async fn keys_that_do_not_sign_can_be_retired_too(database: Database) {
        let server = Server::start(database, at_once).await;
        let old = server.issue("alice", "").await.access;
        keys(&server, &["rotate"]);
        let token = server.issue("alice", "").await.access;
        let [current, next, previous] = &published(&server).await[..] else { panic!("three keys") };
        assert_eq!((current, previous), (&kid_of(&token), &kid_of(&old)));
        server.accepts(&old).await;
        keys(&server, &["retire", previous]);
        server.refuses(&old, "token_revoked").await;
        keys(&server, &["retire", next]);
        let left = published(&server).await;
        assert!(left.len() == 2 && left[0] == *current && !left.contains(next), "{left:?}");
        server.accepts(&token).await;
        // Another one was published in its place, and comes to sign.
        assert_eq!(keys(&server, &["rotate"])["kid"], json!(left[1]));
        assert_eq!(kid_of(&server.issue("alice", "").await.access), left[1]);
    }

    async fn unrecorded_tokens_of_a_retired_key_are_refused_at_once(database: Database) {
        let refresh = |settings| at_once(settings).set("check", "refresh");
        let one = Server::start(database, refresh).await;
        let other = one.another(refresh).await;
        let strict = one.another(|settings| refresh(settings).set("consistency", "strict")).await;
        until_leased(&one).await;
        until_leased(&other).await;
        let token = one.issue("alice", "").await.access;
        for server in [&one, &other, &strict] {
            server.accepts(&token).await;
            server.accepts(&token).await;
        }
        keys(&other, &["retire", &kid_of(&token)]);
        for server in [&one, &other, &strict] {
            server.refuses(&token, "token_revoked").await;
        }
    }

    async fn a_key_of_a_file_can_be_retired_too(database: Database) {
        let one = Server::start(database, |settings| settings).await;
        let other = one.another(|settings| settings.set("check", "refresh")).await;
        until_leased(&one).await;
        until_leased(&other).await;
        let token = one.issue("alice", "").await.access;
        for server in [&one, &other] {
            server.accepts(&token).await;
        }
        assert_eq!(published(&one).await, [one.key.kid()]);
        one.command_ok(&["keys", "retire", &one.key.kid(), "--reason", "leaked"], "");
        for server in [&one, &other] {
            server.refuses(&token, "token_revoked").await;
            assert_eq!(published(server).await, [""; 0]);
            // Nothing signs any more, and nothing is issued.
            let body = json!({ "username": ADMIN, "password": crate::support::PASSWORD });
            server.post("/login").json(&body).send().await.error(503, "registry_unavailable");
        }
        let listed: Value = serde_json::from_str(&one.command_ok(&["keys", "list", "--json"], "")).unwrap();
        assert_eq!((&listed[0]["state"], &listed[0]["retired_reason"]), (&json!("retired"), &json!("leaked")));
        // A server that starts with the file refuses it as well.
        let third = one.another(|settings| settings).await;
        third.refuses(&token, "token_revoked").await;
        one.command(&["keys", "retire", "nobody-has-this-key"], "").code(1);
    }

    async fn a_retired_key_can_be_accepted_by_no_setting(database: Database) {
        let one = Server::start(database, |settings| settings).await;
        let token = one.issue("alice", "").await.access;
        one.command_ok(&["keys", "retire", &one.key.kid()], "");
        let file = one.home().join("key.pem");
        let accepts = |settings| at_once(settings).set("keys", json!({ "accept": [file] }));
        let other = one.another(accepts).await;
        other.refuses(&token, "token_revoked").await;
        assert!(!published(&other).await.contains(&one.key.kid()));
    }
}
