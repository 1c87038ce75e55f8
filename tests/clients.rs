//! The clients: how each shows who it is, what the command line does to it, and that it is so everywhere at once.

use std::net::IpAddr;

use aws_lc_rs::digest;

use crate::support::{ClientSecret, Server, Value, json, on_both};

/// Asks for a token that says nothing of interest, to see whether the client is let in.
async fn is_let_in(server: &Server, client: &ClientSecret) -> bool {
    let answer = server.post("/oauth/introspect").basic(client).form(&[("token", "x")]).send().await;
    match answer.status {
        200 => true,
        _ => {
            answer.oauth_error(401, "invalid_client");
            false
        }
    }
}

on_both! {
    async fn a_client_shows_who_it_is_in_one_way(server: Server) {
        let client = server.add_client("shop", &["--scope", "tokens:introspect"]);
        let other = server.add_client("other", &["--scope", "tokens:introspect"]);
        let call = || server.post("/oauth/introspect");
        let (id, secret) = (client.id.as_str(), client.secret.as_str());
        assert_eq!(call().basic(&client).form(&[("token", "x")]).send().await.ok(200), json!({ "active": false }));
        call().form(&[("token", "x"), ("client_id", id), ("client_secret", secret)]).send().await.ok(200);
        call().basic(&client).form(&[("token", "x"), ("client_id", id)]).send().await.ok(200);
        let token = server.client_token(&client).await;
        call().bearer(&token).form(&[("token", "x")]).send().await.ok(200);

        // RFC 6749 §2.3: one method in each request.
        let both = call().basic(&client).form(&[("token", "x"), ("client_id", id), ("client_secret", secret)]);
        both.send().await.oauth_error(400, "invalid_request");
        let both = call().bearer(&token).form(&[("token", "x"), ("client_id", id), ("client_secret", secret)]);
        both.send().await.oauth_error(400, "invalid_request");
        let two = call().basic(&client).form(&[("token", "x"), ("client_id", &other.id)]);
        two.send().await.oauth_error(400, "invalid_request");
        let two = call().bearer(&token).form(&[("token", "x"), ("client_id", &other.id)]);
        two.send().await.oauth_error(400, "invalid_request");
        let two = call().basic(&client).bearer(&token).form(&[("token", "x")]);
        two.send().await.oauth_error(400, "invalid_request");

        let wrong = ClientSecret { secret: other.secret.clone(), ..client.clone() };
        assert!(!is_let_in(&server, &wrong).await);
        let unknown = ClientSecret { id: "nobody".to_owned(), ..client.clone() };
        assert!(!is_let_in(&server, &unknown).await);
        for header in ["Basic", "Basic !", "Basic eA==", "Negotiate x", "Basic /////w=="] {
            let call = call().header("Authorization", header).form(&[("token", "x")]);
            call.send().await.oauth_error(401, "invalid_client");
        }
        for id in ["a\0b", "", &"x".repeat(10_000), "ä"] {
            let call = call().form(&[("token", "x"), ("client_id", id), ("client_secret", "\0")]);
            call.send().await.oauth_error(401, "invalid_client");
        }
        call().form(&[("token", "x")]).send().await.oauth_error(401, "invalid_client");
        call().form(&[("token", "x"), ("client_id", id)]).send().await.oauth_error(401, "invalid_client");
        // A user's token is a good token, and no client's.
        let admin = server.login().await;
        call().bearer(&admin.access).form(&[("token", "x")]).send().await.oauth_error(401, "invalid_token");
        call().bearer("x.y.z").form(&[("token", "x")]).send().await.oauth_error(401, "invalid_token");
        // A token by which somebody else speaks as the client's subject is none of the client's.
        let forged = server.issue(id, "tokens:introspect").await;
        call().bearer(&forged.access).form(&[("token", "x")]).send().await.oauth_error(401, "invalid_token");
    }

    async fn credentials_are_form_decoded(server: Server) {
        let client = server.add_client("shop", &["--scope", "tokens:introspect"]);
        let encoded: String = client.id.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let encoded = ClientSecret { id: encoded, ..client };
        assert!(is_let_in(&server, &encoded).await);
    }

    async fn a_secret_before_is_not_good_for_ever(server: Server) {
        server.add_client("shop", &[]);
        let rotate = |overlap| server.command(&["client", "rotate-secret", "shop", "--overlap", overlap], "");
        rotate("30d").ok();
        for longer in ["30d 1s", "99999999999y"] {
            assert!(rotate(longer).code(1).sentence().contains("30d at most"), "{longer}");
        }
    }

    async fn a_secret_is_rotated_with_an_overlap(server: Server) {
        let old = server.add_client("shop", &["--scope", "tokens:introspect"]);
        assert!(is_let_in(&server, &old).await);
        let rotated = server.command_ok(&["client", "rotate-secret", "shop", "--overlap", "10m", "--json"], "");
        let new = ClientSecret::of(&serde_json::from_str(&rotated).unwrap());
        assert!(new.id == old.id && new.secret != old.secret);
        assert!(is_let_in(&server, &new).await && is_let_in(&server, &old).await);
        // The command line goes by the machine's clock, which may be a little ahead.
        server.advance(660);
        assert!(is_let_in(&server, &new).await && !is_let_in(&server, &old).await);

        let rotated = server.command_ok(&["client", "rotate-secret", &new.id, "--overlap", "0s", "--json"], "");
        let newest = ClientSecret::of(&serde_json::from_str(&rotated).unwrap());
        assert!(is_let_in(&server, &newest).await && !is_let_in(&server, &new).await);
    }

    async fn a_disabled_client_is_shut_out_everywhere_at_once(server: Server) {
        let other = server.another(|settings| settings).await;
        let client = server.add_client("shop", &["--scope", "tokens:introspect"]);
        let token = server.client_token(&client).await;
        let by_token = async |server: &Server| {
            server.post("/oauth/introspect").bearer(&token).form(&[("token", "x")]).send().await.status
        };
        for server in [&server, &other] {
            assert!(is_let_in(server, &client).await);
            assert_eq!(by_token(server).await, 200);
        }
        server.command_ok(&["client", "disable", "shop", "--reason", "leaked"], "");
        for server in [&server, &other] {
            assert!(!is_let_in(server, &client).await);
            assert_eq!(by_token(server).await, 401);
        }
        server.command_ok(&["client", "enable", "shop"], "");
        for server in [&server, &other] {
            assert!(is_let_in(server, &client).await);
            // Its own tokens were ended for good.
            assert_eq!(by_token(server).await, 401);
        }
        let token = server.client_token(&client).await;
        server.command_ok(&["client", "delete", "shop"], "");
        for server in [&server, &other] {
            assert!(!is_let_in(server, &client).await);
            let call = server.post("/oauth/introspect").bearer(&token).form(&[("token", "x")]);
            call.send().await.oauth_error(401, "invalid_token");
        }
    }

    async fn a_disabled_client_is_shut_out_by_an_unrecorded_token_too(database: Database) {
        let server = Server::start(database, |settings| settings.set("check", "refresh")).await;
        let client = server.add_client("shop", &["--scope", "tokens:introspect"]);
        let token = server.client_token(&client).await;
        let call = || server.post("/oauth/introspect").bearer(&token).form(&[("token", "x")]);
        call().send().await.ok(200);
        server.command_ok(&["client", "disable", "shop"], "");
        // It lives until it expires, and opens nothing that is a client's.
        server.accepts(&token).await;
        call().send().await.oauth_error(401, "invalid_token");
    }

    async fn a_scope_that_is_taken_away_is_gone_everywhere_at_once(server: Server) {
        let other = server.another(|settings| settings).await;
        let client = server.add_client("shop", &["--scope", "tokens:introspect tokens:issue"]);
        let token = server.client_token(&client).await;
        assert!(is_let_in(&other, &client).await);
        server.command_ok(&["client", "set", "shop", "--scope", "tokens:issue"], "");
        for server in [&server, &other] {
            let call = || server.post("/oauth/introspect");
            let answer = call().basic(&client).form(&[("token", "x")]).send().await;
            assert_eq!(answer.oauth_error(403, "insufficient_scope"), "The client lacks the scope tokens:introspect");
            assert_eq!(answer.body_json()["scope"], "tokens:introspect");
            assert!(answer.header("WWW-Authenticate").unwrap().contains(r#"scope="tokens:introspect""#), "{answer:?}");
            call().bearer(&token).form(&[("token", "x")]).send().await.oauth_error(401, "invalid_token");
        }
        // Outside /oauth/ the same has the form of all other errors.
        let call = server.post("/tokens").basic(&ClientSecret { secret: "x".to_owned(), ..client.clone() });
        call.json(&json!({ "subject": "alice" })).send().await.error(401, "invalid_client");
        server.command_ok(&["client", "set", "shop", "--scope", "tokens:introspect"], "");
        let call = server.post("/tokens").basic(&client).json(&json!({ "subject": "alice" }));
        call.send().await.error(403, "insufficient_scope");
    }

    async fn failures_are_limited_by_address_and_a_right_secret_is_not(database: Database) {
        let settings = json!({ "limit": 3, "address_limit": 3, "window": "5m" });
        let server = Server::start(database, |all| all.set("login", settings)).await;
        let client = server.add_client("shop", &["--scope", "tokens:introspect"]);
        assert!(is_let_in(&server, &client).await);
        let wrong = ClientSecret { secret: "x".repeat(43), ..client.clone() };
        for _ in 0..3 {
            assert!(!is_let_in(&server, &wrong).await);
        }
        let call = || server.post("/oauth/introspect").basic(&wrong).form(&[("token", "x")]);
        call().send().await.oauth_error(429, "rate_limited");
        for path in ["/oauth/token", "/oauth/revoke"] {
            server.post(path).basic(&wrong).form(&[("token", "x")]).send().await.oauth_error(429, "rate_limited");
        }
        let issue = server.post("/tokens").basic(&wrong).json(&json!({ "subject": "alice" }));
        issue.send().await.error(429, "rate_limited");
        for path in ["/revocations", "/revocations/stream"] {
            server.get(path).basic(&wrong).send().await.error(429, "rate_limited");
        }
        // Whoever calls from elsewhere has failures of its own.
        let elsewhere = reqwest::Client::builder().no_proxy().local_address(IpAddr::from([127, 0, 0, 2])).build().unwrap();
        let answer = elsewhere.get(format!("{}/revocations", server.url())).header("Authorization", wrong.basic());
        assert_eq!(answer.send().await.unwrap().status(), 401);
        // The failures of others, behind one address with it, don't shut it out.
        assert!(is_let_in(&server, &client).await);
        // Nor one that this process has not seen before.
        let unseen = server.add_client("market", &["--scope", "tokens:introspect"]);
        assert!(is_let_in(&server, &unseen).await);
        call().send().await.oauth_error(429, "rate_limited");
        server.login().await;
        server.advance(300);
        call().send().await.oauth_error(401, "invalid_client");
    }

    async fn each_change_is_in_the_audit_with_its_reason(server: Server) {
        let client = server.add_client("shop", &["--scope", "a", "--reason", "add"]);
        let changes: [&[&str]; 5] = [
            &["set", "shop", "--scope", "b"],
            &["rotate-secret", "shop"],
            &["disable", "shop"],
            &["enable", "shop"],
            &["delete", "shop"],
        ];
        for change in changes {
            server.command_ok(&[&["client"], change, &["--reason", change[0]]].concat(), "");
        }
        let shown = server.command_ok(&["audit", "--subject", &client.id, "--target", "shop", "--json"], "");
        let shown: Vec<Value> = serde_json::from_str(&shown).unwrap();
        assert!(shown.iter().all(|entry| entry["actor"]["kind"] == "command_line"), "{shown:?}");
        let done: Vec<(&str, &str)> = shown
            .iter()
            .rev()
            .map(|entry| (entry["action"].as_str().unwrap(), entry["reason"].as_str().unwrap()))
            .collect();
        assert_eq!(done, [
            ("client.added", "add"),
            ("client.changed", "set"),
            ("client.secret", "rotate-secret"),
            ("client.disabled", "disable"),
            ("client.enabled", "enable"),
            ("client.deleted", "delete"),
        ]);
    }

    async fn the_command_line_shows_a_secret_once_and_keeps_a_digest(server: Server) {
        let options = ["--scope", "tokens:issue", "--grant-scope", "b a", "--audience", "https://api.example", "--first-party"];
        let added = server.command_ok(&[&["client", "add", "shop", "--json"], &options[..]].concat(), "");
        let added: Value = serde_json::from_str(&added).unwrap();
        let secret = added["client_secret"].as_str().unwrap();
        assert_eq!(
            (&added["name"], &added["scope"], &added["grant_scope"], &added["audience"], &added["first_party"]),
            (&json!("shop"), &json!("tokens:issue"), &json!("a b"), &json!(["https://api.example"]), &json!(true))
        );
        let listed: Value = serde_json::from_str(&server.command_ok(&["client", "list", "--json"], "")).unwrap();
        assert_eq!(listed[0]["client_id"], added["client_id"]);
        assert!(!listed.to_string().contains(secret) && !listed.to_string().contains("digest"), "{listed}");
        assert!(server.keeps(added["client_id"].as_str().unwrap()).await && !server.keeps(secret).await);
        let hex: String = digest::digest(&digest::SHA256, secret.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let digest = if server.database_url().starts_with("sqlite:") { format!("x'{hex}'") } else { format!("'\\x{hex}'") };
        assert_eq!(server.count(&format!("select count(*) from cf_clients where secret_digest = {digest}")).await, 1);

        for (arguments, words) in [
            (&["client", "add", "shop"][..], "name already"),
            (&["client", "add", "x", "--grant-scope", "registry:admin"], "registry:*"),
            (&["client", "add", "x", "--grant-scope", "tokens:issue"], "tokens:*"),
            (&["client", "add", ""], "name must have"),
            (&["client", "add", "x", "--audience", ""], "audience"),
            (&["client", "set", "nobody", "--scope", "a"], "Client not found"),
            (&["client", "delete", "nobody"], "Client not found"),
            (&["client", "rotate-secret", "nobody"], "Client not found"),
        ] {
            let ran = server.command(arguments, "").code(1);
            assert!(ran.err.contains(words), "{arguments:?}: {ran:?}");
        }
        server.command(&["client", "set", "shop"], "").code(2);
        server.command_ok(&["client", "add", "other"], "");
        server.command(&["client", "set", "other", "--name", "shop"], "").code(1);
        server.command_ok(&["client", "set", "other", "--name", "another", "--serves", "x"], "");

        // No user can take the client's name as a subject.
        let id = added["client_id"].as_str().unwrap();
        server.command(&["user", "add", id], "a password of a user").code(1);
        let audit: Value = serde_json::from_str(&server.command_ok(&["audit", "--json"], "")).unwrap();
        assert!(audit.to_string().contains("client.added") && !audit.to_string().contains(secret), "{audit}");
    }
}
