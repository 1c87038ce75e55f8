//! Log-ins as callers meet them: limits by account and address, the first administrator, passwords, and tokens that
//! follow what becomes of their user. Over the local client, which may say where a request comes from.

use std::net::SocketAddr;
use std::time::Duration;

use counterfoil::{Grant, ManualClock, Registry};
use rocket::figment::Figment;
use rocket::http::{ContentType, Header, Status};
use rocket::local::asynchronous::{Client, LocalResponse};
use serde_json::{Value, json};

use crate::support::{Database, on_both};

const PASSWORD: &str = "correct horse battery";

/// A server with a clock that stands still.
struct Server {
    client: Client,
    clock: ManualClock,
}

fn figment(dir: &tempfile::TempDir, database: Database) -> Figment {
    let database_url = match database {
        Database::Sqlite => format!("sqlite://{}/registry.db", dir.path().display()),
        Database::Postgres => crate::support::postgres::database(),
    };
    let password_file = dir.path().join("password");
    std::fs::write(&password_file, PASSWORD).unwrap();
    Figment::from(rocket::Config::debug_default())
        .merge(("log_level", "off"))
        .merge(("counterfoil.database_url", database_url))
        .merge(("counterfoil.database_pool", 3))
        .merge(("counterfoil.algorithm", "HS256"))
        .merge(("counterfoil.keys.secret", "a secret of the tests that is long enough"))
        .merge(("counterfoil.password.memory_kib", 64))
        .merge(("counterfoil.password.iterations", 1))
        .merge(("counterfoil.first_admin_password_file", password_file))
}

impl Server {
    async fn start(figment: Figment) -> Self {
        let clock = ManualClock::here();
        let client = Client::untracked(counterfoil::server_with_clock(figment, clock.clone())).await.unwrap();
        Self { client, clock }
    }

    async fn login_as(&self, username: &str, password: &str, from: &str) -> LocalResponse<'_> {
        let from: SocketAddr = format!("{from}:4000").parse().unwrap();
        let body = json!({ "username": username, "password": password });
        let request = self.client.post("/login").remote(from).header(ContentType::JSON);
        request.body(body.to_string()).dispatch().await
    }

    async fn login(&self, password: &str, from: &str) -> LocalResponse<'_> {
        self.login_as("admin", password, from).await
    }

    /// The tokens of a log-in that succeeds.
    async fn tokens(&self, from: &str) -> Value {
        let response = self.login(PASSWORD, from).await;
        assert_eq!(response.status(), Status::Ok);
        response.into_json().await.unwrap()
    }

    async fn get(&self, path: &str, token: &str) -> LocalResponse<'_> {
        self.client.get(path.to_owned()).header(bearer(token)).dispatch().await
    }

    async fn post(&self, path: &str, token: &str, body: Value) -> LocalResponse<'_> {
        let request = self.client.post(path.to_owned()).header(bearer(token)).header(ContentType::JSON);
        request.body(body.to_string()).dispatch().await
    }
}

fn bearer(token: &str) -> Header<'static> {
    Header::new("Authorization", format!("Bearer {token}"))
}

fn text<'a>(tokens: &'a Value, name: &str) -> &'a str {
    tokens[name].as_str().unwrap()
}

async fn error(response: LocalResponse<'_>) -> (u16, String) {
    let status = response.status().code;
    let body: Value = response.into_json().await.unwrap();
    (status, body["error"].as_str().unwrap().to_owned())
}

/// Where two of an account and four from an address may fail within a minute.
fn limited(dir: &tempfile::TempDir, database: Database) -> Figment {
    figment(dir, database)
        .merge(("counterfoil.login.limit", 2))
        .merge(("counterfoil.login.address_limit", 4))
        .merge(("counterfoil.login.window", "60s"))
}

on_both! {
    async fn guessing_is_answered_429_with_the_seconds_to_wait_and_never_locks_the_owner_out_at_home(database: Database) {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(limited(&dir, database)).await;
        server.tokens("192.0.2.1").await;
        for _ in 0..2 {
            assert_eq!(error(server.login("wrong", "198.51.100.7").await).await, (401, "bad_credentials".to_owned()));
        }
        let limited = server.login(PASSWORD, "198.51.100.7").await;
        assert_eq!(limited.headers().get_one("Retry-After"), Some("30"));
        assert_eq!(limited.headers().get_one("Cache-Control"), Some("no-store"));
        assert_eq!(error(limited).await, (429, "rate_limited".to_owned()));
        server.tokens("192.0.2.1").await;
        // Nor do failures at home lock the owner out elsewhere for longer.
        for _ in 0..2 {
            assert_eq!(error(server.login("wrong", "192.0.2.1").await).await, (429, "rate_limited".to_owned()));
        }

        server.clock.advance(Duration::from_millis(29_500));
        let limited = server.login(PASSWORD, "198.51.100.7").await;
        assert_eq!(limited.headers().get_one("Retry-After"), Some("1"), "rounded up");
        server.clock.advance(Duration::from_millis(500));
        server.tokens("198.51.100.7").await;
    }

    async fn an_address_is_home_to_whom_it_let_in_for_a_month_and_is_limited_as_any_other(database: Database) {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(limited(&dir, database)).await;
        server.tokens("192.0.2.1").await;
        let guess = async || {
            for _ in 0..2 {
                assert_eq!(server.login("wrong", "198.51.100.7").await.status().code, 401);
            }
        };
        guess().await;
        // It is no home of this one that somebody else is known there.
        let registry = server.client.rocket().state::<Registry>().unwrap();
        let there = Grant::to("mallory".parse().unwrap()).device("203.0.113.5".parse().ok(), None);
        registry.issue(there).await.unwrap();
        assert_eq!(server.login(PASSWORD, "203.0.113.5").await.status().code, 429);
        // Over the account's limit a wrong one is told from no other, but counted for the address.
        for _ in 0..4 {
            assert_eq!(server.login("wrong", "192.0.2.1").await.status().code, 429);
        }
        assert_eq!(server.login(PASSWORD, "192.0.2.1").await.status().code, 429);

        server.clock.advance(Duration::from_secs(30 * 24 * 60 * 60 - 1));
        guess().await;
        server.tokens("192.0.2.1").await;
        server.clock.advance(Duration::from_secs(30 * 24 * 60 * 60));
        guess().await;
        assert_eq!(server.login(PASSWORD, "192.0.2.1").await.status().code, 429);
    }

    async fn an_address_is_what_the_connection_says_unless_a_header_was_set_for_it(database: Database) {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(figment(&dir, database).merge(("counterfoil.login.address_limit", 2))).await;
        for n in 0..3 {
            let body = json!({ "username": format!("user{n}"), "password": "wrong" });
            let request = server.client.post("/login").header(ContentType::JSON).body(body.to_string());
            let request = request.remote("198.51.100.7:4000".parse().unwrap());
            let response = request.header(Header::new("X-Real-IP", format!("203.0.113.{n}"))).dispatch().await;
            assert_eq!(response.status().code, if n < 2 { 401 } else { 429 });
        }
    }

    async fn limits_and_the_first_administrator_are_shared_by_servers_on_one_database(database: Database) {
        let dir = tempfile::tempdir().unwrap();
        let figment = figment(&dir, database).merge(("counterfoil.login.limit", 2));
        let (one, two) = rocket::tokio::join!(Server::start(figment.clone()), Server::start(figment));
        one.tokens("192.0.2.1").await;
        let tokens = two.tokens("192.0.2.1").await;
        let audit = two.get("/admin/audit?action=user.added", text(&tokens, "access_token")).await;
        assert_eq!(audit.into_json::<Vec<Value>>().await.unwrap().len(), 1, "one administrator");
        let refused = two.get("/admin/audit?actor=%00", text(&tokens, "access_token")).await;
        assert_eq!(error(refused).await, (422, "invalid_request".to_owned()));

        assert_eq!(one.login("wrong", "198.51.100.7").await.status().code, 401);
        assert_eq!(two.login("wrong", "198.51.100.7").await.status().code, 401);
        assert_eq!(one.login(PASSWORD, "198.51.100.7").await.status().code, 429);
        assert_eq!(two.login(PASSWORD, "198.51.100.7").await.status().code, 429);
    }

    async fn nothing_is_issued_to_who_asks_for_more_than_the_user_has(database: Database) {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(figment(&dir, database)).await;
        let body = json!({ "username": "admin", "password": PASSWORD, "scope": "registry:admin notes:read" });
        let request = server.client.post("/login").header(ContentType::JSON).body(body.to_string());
        let refused = request.dispatch().await;
        let refused: Value = refused.into_json().await.unwrap();
        assert_eq!((text(&refused, "error"), text(&refused, "scope")), ("insufficient_scope", "notes:read"));

        let narrow = json!({ "username": "admin", "password": PASSWORD, "scope": "" });
        let request = server.client.post("/login").header(ContentType::JSON).body(narrow.to_string());
        let tokens: Value = request.dispatch().await.into_json().await.unwrap();
        assert_eq!(tokens.get("scope"), None);
        let token = text(&tokens, "access_token");
        assert_eq!(error(server.get("/admin/audit", token).await).await, (403, "insufficient_scope".to_owned()));
        let personal = server.post("/auth/tokens", token, json!({ "label": "script", "scope": "registry:admin" })).await;
        assert_eq!(error(personal).await, (403, "insufficient_scope".to_owned()), "not even what the user has");
    }

    async fn a_personal_token_says_where_its_record_is_and_lives_by_itself(database: Database) {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(figment(&dir, database)).await;
        let tokens = server.tokens("192.0.2.1").await;
        let access = text(&tokens, "access_token");
        let created = server.post("/auth/tokens", access, json!({ "label": "script", "expires_in": 60 })).await;
        assert_eq!(created.status(), Status::Created);
        let location = created.headers().get_one("Location").unwrap().to_owned();
        let personal: Value = created.into_json().await.unwrap();
        assert_eq!(location, format!("/auth/tokens/{}", text(&personal, "jti")));
        assert_eq!((&personal["expires_in"], &personal["scope"]), (&json!(60), &json!("registry:admin")));

        assert_eq!(server.post("/logout", access, json!({})).await.status(), Status::Ok);
        let record = server.get(&location, text(&personal, "access_token")).await;
        assert_eq!(record.into_json::<Value>().await.unwrap()["label"], "script");
        for wrong in
            [json!({ "label": "" }), json!({ "label": "x", "expires_in": 0 }), json!({ "label": "x", "expires_in": -1 })]
        {
            let fresh = server.tokens("192.0.2.1").await;
            let refused = server.post("/auth/tokens", text(&fresh, "access_token"), wrong.clone()).await;
            assert_eq!(error(refused).await, (422, "invalid_request".to_owned()), "{wrong}");
        }
    }

    async fn the_link_to_the_next_page_narrows_as_the_first_did_and_never_holds_a_token(database: Database) {
        let dir = tempfile::tempdir().unwrap();
        let figment = figment(&dir, database).merge(("counterfoil.locations", ["header", "query"]));
        let server = Server::start(figment).await;
        for _ in 0..2 {
            server.tokens("192.0.2.1").await;
        }
        let tokens = server.tokens("192.0.2.1").await;
        let token = text(&tokens, "access_token");
        let mut path = format!("/auth/all-tokens?subject=admin&type=access&limit=2&jwt={token}");
        let mut seen = Vec::new();
        for page in [2, 1] {
            let response = server.get(&path, token).await;
            let link = response.headers().get_one("Link").map(str::to_owned);
            let records: Vec<Value> = response.into_json().await.unwrap();
            assert_eq!(records.len(), page);
            seen.extend(records.iter().map(|record| record["token"]["jti"].to_string()));
            assert_eq!(link.is_some(), page == 2);
            let Some(link) = link else { continue };
            assert!(link.contains("subject=admin") && link.contains("type=access") && !link.contains("jwt"), "{link}");
            path = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 3);
    }

    async fn what_lists_or_revokes_says_where_access_tokens_are_out_of_reach(database: Database) {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(figment(&dir, database).merge(("counterfoil.check", "refresh"))).await;
        let tokens = server.tokens("192.0.2.1").await;
        let token = text(&tokens, "access_token");
        let said =
            async |path: &str| server.get(path, token).await.headers().get_one("Counterfoil-Check").map(str::to_owned);
        for path in ["/auth/tokens", "/auth/all-tokens", "/auth/sessions", "/auth/password", "/admin/audit", "/logout"] {
            assert_eq!(said(path).await.as_deref(), Some("refresh"), "{path}");
        }
        assert_eq!(said("/protected").await, None);
    }
}
