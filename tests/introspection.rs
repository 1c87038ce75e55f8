//! `POST /oauth/introspect`: what is said of a token, and of one that is not live nothing.

use crate::support::forge::{claims_of, jti_of, sid_of};
use crate::support::server::until;
use crate::support::{ISSUER, Server, json, on_both};

on_both! {
    async fn a_live_token_is_told_in_full(server: Server) {
        let client = server.add_client("api", &["--scope", "tokens:introspect"]);
        let pair = server
            .issue_with("zoë", "b a", |grant| grant.claim("tenant", "acme").unwrap().audience(["x", "y"]).unwrap())
            .await;
        let claims = claims_of(&pair.access);
        assert_eq!(
            server.introspect(&client, &pair.access).await,
            json!({
                "active": true, "scope": "a b", "client_id": "counterfoil", "username": "zoë", "token_type": "Bearer",
                "exp": claims["exp"], "iat": claims["iat"], "nbf": claims["nbf"], "sub": "zoë", "aud": ["x", "y"],
                "iss": ISSUER, "jti": claims["jti"], "type": "access", "fresh": true, "sid": claims["sid"],
                "tenant": "acme",
            })
        );
        let refresh = server.introspect(&client, &pair.refresh).await;
        assert_eq!((&refresh["active"], &refresh["type"]), (&json!(true), &json!("refresh")));
        assert_eq!((&refresh["token_type"], refresh.get("fresh")), (&json!("N_A"), None));
        // A hint is a hint.
        for hint in ["refresh_token", "access_token", "nonsense"] {
            let call = server.post("/oauth/introspect").basic(&client);
            let told = call.form(&[("token", &pair.access), ("token_type_hint", hint)]).send().await.ok(200);
            assert_eq!(told["active"], true);
        }
        let own = server.client_token(&client).await;
        let told = server.introspect(&client, &own).await;
        assert_eq!((&told["sub"], told.get("username")), (&json!(client.id), None));
    }

    async fn of_what_is_not_live_nothing_else_is_said(server: Server) {
        let client = server.add_client("api", &["--scope", "tokens:introspect"]);
        let inactive = json!({ "active": false });
        let revoked = server.issue("alice", "").await;
        assert_eq!(server.introspect(&client, &revoked.access).await["active"], true);
        let admin = server.login().await;
        let path = format!("/admin/tokens/revoke/{}", jti_of(&revoked.access));
        server.put(&path).bearer(&admin.access).send().await.says("Token successfully revoked");
        let ended = server.issue("alice", "").await;
        assert_eq!(server.introspect(&client, &ended.access).await["active"], true);
        let path = format!("/admin/sessions/{}", sid_of(&ended.access));
        server.delete(&path).bearer(&admin.access).send().await.ok(200);

        // A forged token with the id of a real one; one that nobody issued, signed with the registry's own key.
        let live = server.issue("alice", "").await;
        let mut claims = claims_of(&live.access);
        claims["scope"] = json!("registry:admin");
        let other = crate::support::forge::Key::generate();
        let forged = other.sign(&server.key.header(), &claims);
        let unknown = server.key.sign(&server.key.header(), &server.claims());
        let altered = server.key.sign(&server.key.header(), &claims);
        for token in
            [&revoked.access, &ended.access, &ended.refresh, &forged, &unknown, &altered, &"x".to_owned(), &"a.b.c".to_owned()]
        {
            assert_eq!(server.introspect(&client, token).await, inactive, "{token}");
        }
        assert_eq!(server.introspect(&client, &live.access).await["active"], true);
        server.advance(900);
        assert_eq!(server.introspect(&client, &live.access).await, inactive);
        server.post("/oauth/introspect").basic(&client).form(&[]).send().await.oauth_error(400, "invalid_request");
    }

    async fn a_client_limited_to_audiences_learns_of_theirs_alone(server: Server) {
        let limited = server.add_client("api", &["--scope", "tokens:introspect", "--serves", "x", "--serves", "z"]);
        let any = server.add_client("any", &["--scope", "tokens:introspect"]);
        let of = async |audience: &[&str]| {
            server.issue_with("alice", "", |grant| grant.audience(audience.iter().copied()).unwrap()).await.access
        };
        let (x, y, xy, none) = (of(&["x"]).await, of(&["y"]).await, of(&["y", "x"]).await, of(&[]).await);
        for (token, is_shown) in [(&x, true), (&y, false), (&xy, true), (&none, false)] {
            assert_eq!(server.introspect(&limited, token).await["active"], is_shown);
            assert_eq!(server.introspect(&any, token).await["active"], true);
        }
        let own = server.client_token(&limited).await;
        assert_eq!(server.introspect(&limited, &own).await["active"], true);
    }

    async fn what_cant_be_looked_up_is_not_called_inactive(server: Server) {
        let client = server.add_client("api", &["--scope", "tokens:introspect"]);
        let pair = server.issue("alice", "").await;
        server.sql("alter table cf_tokens rename to cf_tokens_away").await;
        let call = server.post("/oauth/introspect").basic(&client).form(&[("token", &pair.access)]);
        call.send().await.oauth_error(503, "registry_unavailable");
        server.sql("alter table cf_tokens_away rename to cf_tokens").await;
        assert_eq!(server.introspect(&client, &pair.access).await["active"], true);
    }

    async fn it_is_answered_from_memory_where_a_guard_would(server: Server) {
        let client = server.add_client("api", &["--scope", "tokens:introspect"]);
        let pair = server.issue("alice", "").await;
        let hits = async || {
            let metrics = server.get("/metrics").send().await;
            let text = String::from_utf8(metrics.body).unwrap();
            let line = text.lines().find(|line| line.starts_with("counterfoil_check_answers_total{from=\"memory\"}")).unwrap().to_owned();
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
        };
        // Until the lease is there, which the server takes when it is up.
        until("something is remembered", async || {
            let before = hits().await;
            server.introspect(&client, &pair.access).await;
            hits().await > before
        })
        .await;
    }
}
