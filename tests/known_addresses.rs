//! Where a user logged in of late: an account's limit on failed log-ins, which anybody can use up, doesn't keep the
//! owner out there.

use crate::support::console::{FORM_COOKIE, form_key};
use crate::support::server::Settings;
use crate::support::{ADMIN, Call, ClientSecret, Database, PASSWORD, Pair, Server, json, on_both};

const DAY: u64 = 24 * 60 * 60;
const NEW: &str = "another long password";

const HOME: &str = "192.0.2.1";
const OFFICE: &str = "192.0.2.2";
const HOTEL: &str = "192.0.2.3";
const AWAY: &str = "198.51.100.7";

/// A server that takes a caller's address from a header, and lets two log-ins of an account fail.
async fn start(database: Database, change: impl FnOnce(Settings) -> Settings) -> Server {
    let limits = json!({ "limit": 2, "address_limit": 40 });
    Server::start(database, |settings| change(settings.set("ip_header", "X-Real-IP").set("login", limits))).await
}

fn login(server: &Server, password: &str, address: &str) -> Call {
    let call = server.post("/login").json(&json!({ "username": ADMIN, "password": password }));
    call.header("X-Real-IP", address)
}

async fn logs_in(server: &Server, password: &str, address: &str) -> Pair {
    Pair::of(&login(server, password, address).send().await.ok(200))
}

/// The status of signing in to the console.
async fn signs_in(server: &Server, address: &str) -> u16 {
    let key = form_key(server).await;
    let fields = [("csrf", key.as_str()), ("username", ADMIN), ("password", PASSWORD)];
    let call = server.post("/console/sign-in").header("Cookie", &format!("{FORM_COOKIE}={key}")).form(&fields);
    call.header("X-Real-IP", address).send().await.status
}

/// Strangers guess, each from elsewhere, until the account is limited.
async fn guesses(server: &Server) {
    for stranger in ["203.0.113.1", "203.0.113.2"] {
        login(server, "wrong", stranger).send().await.error(401, "bad_credentials");
    }
    login(server, PASSWORD, "203.0.113.3").send().await.error(429, "rate_limited");
}

async fn known(server: &Server) -> i64 {
    server.count("select count(*) from cf_known_addresses").await
}

on_both! {
    async fn an_address_is_known_for_30_days_though_its_session_is_gone(database: Database) {
        let server = start(database, |settings| settings.set("refresh_expires", "1h")).await;
        logs_in(&server, PASSWORD, HOME).await;
        assert_eq!(signs_in(&server, OFFICE).await, 303);
        logs_in(&server, PASSWORD, HOTEL).await;
        server.advance(29 * DAY);
        assert!(server.registry.purge().await.unwrap().complete);
        assert_eq!(server.count("select count(*) from cf_sessions").await, 0);
        guesses(&server).await;
        logs_in(&server, PASSWORD, HOME).await;
        assert_eq!(signs_in(&server, HOME).await, 303);
        logs_in(&server, PASSWORD, OFFICE).await;

        server.advance(DAY - 1);
        logs_in(&server, PASSWORD, HOTEL).await;
        server.advance(30 * DAY - 1);
        assert!(server.registry.purge().await.unwrap().complete);
        assert_eq!(known(&server).await, 1);
        guesses(&server).await;
        login(&server, PASSWORD, HOME).send().await.error(429, "rate_limited");
        logs_in(&server, PASSWORD, HOTEL).await;
        server.advance(30 * DAY);
        guesses(&server).await;
        login(&server, PASSWORD, HOTEL).send().await.error(429, "rate_limited");
    }

    async fn a_token_makes_no_address_known(database: Database) {
        let server = start(database, |settings| settings).await;
        let stolen = logs_in(&server, PASSWORD, HOME).await;
        guesses(&server).await;
        let call = server.post("/auth/tokens").bearer(&stolen.access).json(&json!({ "label": "x" }));
        call.header("X-Real-IP", AWAY).send().await.ok(201);
        server.post("/refresh").bearer(&stolen.refresh).header("X-Real-IP", AWAY).send().await.ok(200);
        login(&server, PASSWORD, AWAY).send().await.error(429, "rate_limited");
        let call = server.post("/auth/password").bearer(&stolen.access).json(&json!({ "current": PASSWORD, "new": NEW }));
        call.header("X-Real-IP", AWAY).send().await.error(429, "rate_limited");
        logs_in(&server, PASSWORD, HOME).await;
    }

    async fn nobody_learns_at_a_shared_address_who_logs_in_there(database: Database) {
        let server = start(database, |settings| settings).await;
        logs_in(&server, PASSWORD, OFFICE).await;
        let mut told = Vec::new();
        for username in [ADMIN, "ghost"] {
            for _ in 0..5 {
                let call = server.post("/login").json(&json!({ "username": username, "password": "wrong" }));
                let answer = call.header("X-Real-IP", OFFICE).send().await;
                told.push((answer.status, answer.header("Retry-After").map(str::to_owned), answer.body_json()));
            }
        }
        let (admin, ghost) = told.split_at(5);
        assert_eq!(admin, ghost);
        assert_eq!(admin.iter().map(|(status, ..)| *status).collect::<Vec<_>>(), [401, 401, 429, 429, 429]);
        logs_in(&server, PASSWORD, OFFICE).await;
    }

    async fn what_an_accounts_limit_refuses_counts_at_its_address_right_or_wrong(database: Database) {
        for password in [PASSWORD, "wrong"] {
            let server = start(database, |settings| settings.set("login.address_limit", 4)).await;
            logs_in(&server, PASSWORD, HOME).await;
            guesses(&server).await;
            for _ in 0..4 {
                login(&server, password, AWAY).send().await.error(429, "rate_limited");
            }
            let ghost = json!({ "username": "ghost", "password": "wrong" });
            let call = server.post("/login").json(&ghost).header("X-Real-IP", AWAY);
            call.send().await.error(429, "rate_limited");
            server.post("/login").json(&ghost).header("X-Real-IP", HOTEL).send().await.error(401, "bad_credentials");
        }
    }

    async fn each_limit_is_switched_off_by_itself(database: Database) {
        let limits = json!({ "limit": 0, "address_limit": 2 });
        let by_address = start(database, |settings| settings.set("login", limits)).await;
        let client = ClientSecret { secret: "x".repeat(43), ..by_address.add_client("shop", &[]) };
        let secret = async |server: &Server| {
            let call = server.post("/oauth/introspect").basic(&client).form(&[("token", "x")]);
            call.header("X-Real-IP", AWAY).send().await.status
        };
        for status in [401, 401, 429] {
            assert_eq!(login(&by_address, "wrong", AWAY).send().await.status, status);
            assert_eq!(secret(&by_address).await, status);
        }
        for address in [HOME, OFFICE, HOTEL] {
            login(&by_address, "wrong", address).send().await.error(401, "bad_credentials");
        }

        let limits = json!({ "limit": 4, "address_limit": 0 });
        let by_account = by_address.another(|settings| settings.set("ip_header", "X-Real-IP").set("login", limits)).await;
        for status in [401, 401, 401, 401, 429] {
            assert_eq!(login(&by_account, "wrong", AWAY).send().await.status, status);
            assert_eq!(secret(&by_account).await, 401);
        }
    }

    async fn another_password_forgets_where_the_one_before_was_used(database: Database) {
        let server = start(database, |settings| settings).await;
        logs_in(&server, PASSWORD, AWAY).await;
        let pair = logs_in(&server, PASSWORD, HOME).await;
        let body = json!({ "current": PASSWORD, "new": NEW, "keep_sessions": true });
        let call = server.post("/auth/password").bearer(&pair.access).json(&body);
        call.header("X-Real-IP", HOME).send().await.ok(200);
        guesses(&server).await;
        login(&server, NEW, AWAY).send().await.error(429, "rate_limited");
        // Who changed it knew both.
        logs_in(&server, NEW, HOME).await;
        server.command_ok(&["user", "passwd", ADMIN, "--keep-sessions"], PASSWORD);
        login(&server, PASSWORD, HOME).send().await.error(429, "rate_limited");

        server.advance(DAY);
        logs_in(&server, PASSWORD, HOME).await;
        assert_eq!(known(&server).await, 1);
        server.command_ok(&["user", "delete", ADMIN], "");
        assert_eq!(known(&server).await, 0);
    }

    async fn all_tokens_are_ended_and_home_stays_known(database: Database) {
        let server = start(database, |settings| settings).await;
        let pair = logs_in(&server, PASSWORD, HOME).await;
        // Who has stolen a token may do that too, and must not be able to shut the owner out with it.
        let call = server.post("/auth/tokens/revoke-all").bearer(&pair.access).json(&json!({}));
        call.header("X-Real-IP", AWAY).send().await.ok(200);
        guesses(&server).await;
        logs_in(&server, PASSWORD, HOME).await;
    }

    async fn an_ipv6_network_is_known_as_one(database: Database) {
        let server = start(database, |settings| settings).await;
        logs_in(&server, PASSWORD, "2001:db8:1:2::3").await;
        guesses(&server).await;
        logs_in(&server, PASSWORD, "2001:db8:1:2:9::4").await;
        login(&server, PASSWORD, "2001:db8:1:3::3").send().await.error(429, "rate_limited");
        assert_eq!(known(&server).await, 1);
    }

    async fn the_last_hundred_are_known(database: Database) {
        let server = start(database, |settings| settings).await;
        for n in 0..101 {
            logs_in(&server, PASSWORD, &format!("192.0.2.{n}")).await;
            server.advance(1);
        }
        assert_eq!(known(&server).await, 100);
        guesses(&server).await;
        login(&server, PASSWORD, "192.0.2.0").send().await.error(429, "rate_limited");
        logs_in(&server, PASSWORD, "192.0.2.1").await;
    }
}
