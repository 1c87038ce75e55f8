//! Cookie transport: what log-in sets, the CSRF double submit, and what log-out clears.

use crate::support::forge::claims_of;
use crate::support::server::Settings;
use crate::support::{ADMIN, Answer, Call, PASSWORD, Pair, Server, json, on_both};

const NAMES: [&str; 4] = ["access_token_cookie", "refresh_token_cookie", "csrf_access_token", "csrf_refresh_token"];

fn with_cookies(settings: Settings) -> Settings {
    settings.set("locations", json!(["header", "cookie"]))
}

/// The cookies of a browser that has logged in.
struct Browser {
    access: String,
    refresh: String,
    csrf_access: String,
    csrf_refresh: String,
}

impl Browser {
    fn of(answer: &Answer) -> Self {
        let [access, refresh, csrf_access, csrf_refresh] = NAMES.map(|name| answer.cookie(name));
        Self { access, refresh, csrf_access, csrf_refresh }
    }

    fn cookies(&self) -> String {
        let values = [&self.access, &self.refresh, &self.csrf_access, &self.csrf_refresh];
        let pairs: Vec<String> = NAMES.iter().zip(values).map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }

    fn send(&self, call: Call, csrf: Option<&str>) -> Call {
        let call = call.header("Cookie", &self.cookies());
        match csrf {
            Some(csrf) => call.header("X-CSRF-TOKEN", csrf),
            None => call,
        }
    }
}

async fn login(server: &Server) -> Answer {
    let answer = server.post("/login").json(&json!({ "username": ADMIN, "password": PASSWORD })).send().await;
    answer.ok(200);
    answer
}

/// The attributes of a cookie, in lower case, without `Max-Age` and `Expires`.
fn attributes(set_cookie: &str) -> Vec<String> {
    let attributes = set_cookie.split(';').skip(1).map(|attribute| attribute.trim().to_ascii_lowercase());
    let mut kept: Vec<String> =
        attributes.filter(|attribute| !attribute.starts_with("max-age") && !attribute.starts_with("expires")).collect();
    kept.sort();
    kept
}

fn is_cleared(answer: &Answer, name: &str) -> bool {
    let set = answer.set_cookie(name).to_ascii_lowercase();
    answer.cookie(name).is_empty() && (set.contains("max-age=0") || set.contains("expires=thu, 01 jan 1970"))
}

on_both! {
    async fn a_log_in_sets_four_cookies_with_safe_attributes(database: Database) {
        let server = Server::start(database, with_cookies).await;
        let answer = login(&server).await;
        let pair = Pair::of(&answer.body_json());
        let browser = Browser::of(&answer);
        assert_eq!((&browser.access, &browser.refresh), (&pair.access, &pair.refresh));
        assert_eq!(answer.header_values("Set-Cookie").len(), 4, "{answer:?}");
        for name in ["access_token_cookie", "refresh_token_cookie"] {
            assert_eq!(attributes(answer.set_cookie(name)), ["httponly", "path=/", "samesite=lax", "secure"], "{name}");
        }
        // A script of the page reads these, to repeat them in a header.
        for name in ["csrf_access_token", "csrf_refresh_token"] {
            assert_eq!(attributes(answer.set_cookie(name)), ["path=/", "samesite=lax", "secure"], "{name}");
        }
        assert_eq!(claims_of(&browser.access)["csrf"], json!(browser.csrf_access));
        assert_eq!(claims_of(&browser.refresh)["csrf"], json!(browser.csrf_refresh));
        assert_ne!(browser.csrf_access, browser.csrf_refresh);
        assert!(browser.csrf_access.len() >= 32);
        let other = Browser::of(&login(&server).await);
        assert_ne!(browser.csrf_access, other.csrf_access);
    }

    async fn without_the_location_no_cookie_is_set_and_none_is_read(server: Server) {
        let answer = login(&server).await;
        assert_eq!(answer.header_values("Set-Cookie"), [""; 0]);
        let pair = Pair::of(&answer.body_json());
        assert_eq!(claims_of(&pair.access).get("csrf"), None);
        let cookie = format!("access_token_cookie={}", pair.access);
        server.get("/protected").header("Cookie", &cookie).send().await.error(401, "token_missing");
    }

    async fn what_changes_something_needs_the_csrf_value_of_its_token(database: Database) {
        let server = Server::start(database, with_cookies).await;
        let browser = Browser::of(&login(&server).await);
        let other = Browser::of(&login(&server).await);
        let jti = crate::support::forge::jti_of(&other.access);
        let path = format!("/auth/tokens/revoke/{jti}");

        // Reading needs none.
        assert_eq!(browser.send(server.get("/protected"), None).send().await.status, 200);
        assert_eq!(browser.send(server.get("/auth/tokens"), None).send().await.status, 200);
        let longer = format!("{}x", browser.csrf_access);
        for csrf in [None, Some(""), Some("x"), Some(&*browser.csrf_refresh), Some(&*other.csrf_access), Some(&*longer)]
        {
            let answer = browser.send(server.put(&path), csrf).send().await;
            answer.error(403, "csrf_failed");
        }
        for (method, path) in [
            ("POST", "/auth/tokens"),
            ("POST", "/auth/tokens/revoke-all"),
            ("POST", "/auth/password"),
            ("POST", "/logout"),
            ("PATCH", &*format!("/auth/tokens/{jti}")),
            ("PUT", &*format!("/auth/tokens/unrevoke/{jti}")),
            ("DELETE", &*format!("/auth/sessions/{}", claims_of(&other.access)["sid"].as_str().unwrap())),
            ("PUT", &*format!("/admin/tokens/revoke/{jti}")),
        ] {
            let call = server.call(method, path).json(&json!({ "label": "x" }));
            browser.send(call, None).send().await.error(403, "csrf_failed");
        }
        // Two values are none.
        let twice = browser.send(server.put(&path), Some(&browser.csrf_access)).header("X-CSRF-TOKEN", "x");
        twice.send().await.error(403, "csrf_failed");
        assert_eq!(other.send(server.get("/protected"), None).send().await.status, 200);
        browser.send(server.put(&path), Some(&browser.csrf_access)).send().await.says("Token successfully revoked");
        other.send(server.get("/protected"), None).send().await.error(401, "token_revoked");
    }

    async fn a_token_in_the_header_needs_no_csrf_value_though_it_has_one(database: Database) {
        let server = Server::start(database, with_cookies).await;
        let browser = Browser::of(&login(&server).await);
        let call =
            server.post("/auth/tokens/revoke-all").bearer(&browser.access).json(&json!({ "except_current": true }));
        call.send().await.ok(200);
    }

    async fn a_refresh_goes_by_the_refresh_cookie_and_its_own_csrf_value(database: Database) {
        let server = Server::start(database, with_cookies).await;
        let browser = Browser::of(&login(&server).await);
        browser.send(server.post("/refresh"), None).send().await.error(403, "csrf_failed");
        browser.send(server.post("/refresh"), Some(&browser.csrf_access)).send().await.error(403, "csrf_failed");
        let answer = browser.send(server.post("/refresh"), Some(&browser.csrf_refresh)).send().await;
        let token = answer.ok(200)["access_token"].as_str().unwrap().to_owned();
        assert_eq!(answer.cookie("access_token_cookie"), token);
        assert_eq!(json!(answer.cookie("csrf_access_token")), claims_of(&token)["csrf"]);
        assert_ne!(answer.cookie("csrf_access_token"), browser.csrf_access);
    }

    async fn logging_out_clears_all_four(database: Database) {
        let server = Server::start(database, with_cookies).await;
        let browser = Browser::of(&login(&server).await);
        browser.send(server.post("/logout"), None).send().await.error(403, "csrf_failed");
        let answer = browser.send(server.post("/logout"), Some(&browser.csrf_access)).send().await;
        answer.says("Successfully logged out");
        for name in NAMES {
            assert!(is_cleared(&answer, name), "{name}: {answer:?}");
        }
        server.refuses(&browser.access, "token_revoked").await;
        let answer = browser.send(server.post("/refresh"), Some(&browser.csrf_refresh)).send().await;
        answer.error(401, "token_revoked");
    }

    async fn both_cookies_at_once_need_one_session(database: Database) {
        let server = Server::start(database, with_cookies).await;
        let mut mixed = Browser::of(&login(&server).await);
        let other = Browser::of(&login(&server).await);
        mixed.refresh = other.refresh.clone();
        mixed.csrf_refresh = other.csrf_refresh.clone();
        // Which session is meant? None is ended.
        for csrf in [&mixed.csrf_access, &mixed.csrf_refresh] {
            let answer = mixed.send(server.post("/logout"), Some(csrf)).send().await;
            assert_eq!(answer.status / 100, 4, "{answer:?}");
        }
        server.accepts(&mixed.access).await;
        server.accepts(&other.access).await;
    }

    async fn a_header_and_another_tokens_cookie_are_two_tokens(database: Database) {
        let server = Server::start(database, with_cookies).await;
        let browser = Browser::of(&login(&server).await);
        let other = server.login().await;
        browser.send(server.get("/protected"), None).bearer(&other.access).send().await.error(400, "invalid_request");
        assert_eq!(browser.send(server.get("/protected"), None).bearer(&browser.access).send().await.status, 200);
        let twice = format!("access_token_cookie={}; access_token_cookie={}", browser.access, other.access);
        server.get("/protected").header("Cookie", &twice).send().await.error(400, "invalid_request");
    }

    async fn names_and_attributes_follow_the_settings(database: Database) {
        let server = Server::start(database, |settings| {
            with_cookies(settings).set(
                "cookie",
                json!({
                    "secure": false, "same_site": "Strict", "domain": "example.com", "access_path": "/api",
                    "refresh_path": "/refresh", "access_name": "a", "refresh_name": "r",
                }),
            )
        })
        .await;
        let answer = login(&server).await;
        assert_eq!(
            attributes(answer.set_cookie("a")),
            ["domain=example.com", "httponly", "path=/api", "samesite=strict"]
        );
        let refresh = attributes(answer.set_cookie("r"));
        assert_eq!(refresh, ["domain=example.com", "httponly", "path=/refresh", "samesite=strict"]);
    }

    async fn without_csrf_a_cookie_is_enough(database: Database) {
        let server = Server::start(database, |settings| with_cookies(settings).set("csrf", false)).await;
        let answer = login(&server).await;
        assert_eq!(answer.header_values("Set-Cookie").len(), 2, "{answer:?}");
        let cookie = format!("access_token_cookie={}", answer.cookie("access_token_cookie"));
        server.post("/logout").header("Cookie", &cookie).send().await.says("Successfully logged out");
    }
}
