//! A server's life with real processes: it stops gracefully, outlives its database, and leaves nothing half done.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::forge::Key;
use crate::support::postgres::Cluster;
use crate::support::process::{Home, PATIENCE, Serving, free_port};
use crate::support::server::{MASTER_KEY, until};

/// A home whose log-ins take about a second of hashing.
fn slow_home() -> Home {
    let home = Home::sqlite().set("PASSWORD__MEMORY_KIB", "65536").set("PASSWORD__ITERATIONS", "8").migrated();
    home.add_user("alice");
    home
}

fn client() -> reqwest::Client {
    // No proxy of the environment: it would be asked for this host too.
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn login(server: &Serving) -> reqwest::Response {
    let body = json!({ "username": "alice", "password": "alice password" });
    client().post(server.url("/login")).json(&body).send().await.unwrap()
}

async fn get(server: &Serving, path: &str, token: &str) -> reqwest::Response {
    let call = client().get(server.url(path));
    let call = if token.is_empty() { call } else { call.bearer_auth(token) };
    call.send().await.unwrap()
}

/// Asks until the answer is the expected one.
async fn eventually(server: &Serving, path: &str, token: &str, status: u16) -> reqwest::Response {
    let began = Instant::now();
    loop {
        let response = get(server, path, token).await;
        if response.status() == status {
            return response;
        }
        assert!(began.elapsed() < PATIENCE, "{path} is still {}\n{}", response.status(), server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_request_in_flight_is_answered_before_the_server_stops() {
    let home = slow_home();
    let mut server = home.serve();
    let began = Instant::now();
    let (answer, ()) = tokio::join!(login(&server), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.signal("TERM");
    });
    let took = began.elapsed();
    assert_eq!(answer.status(), 200);
    assert!(took > Duration::from_millis(200), "the signal must come while the request is in flight: {took:?}");
    assert!(answer.json::<Value>().await.unwrap()["access_token"].is_string());
    let answered = Instant::now();
    assert_eq!(server.wait(), Some(0), "{}", server.log());
    assert!(answered.elapsed() < Duration::from_secs(4), "{:?}", answered.elapsed());
    assert!(server.log().contains("stopped"), "{}", server.log());
}

#[tokio::test]
async fn idle_and_half_sent_connections_do_not_hold_up_the_end() {
    use std::io::Write as _;

    let home = Home::sqlite();
    let mut server = home.serve();
    let idle = std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let mut half = std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    half.write_all(b"GET /livez HTT").unwrap();
    // A kept-alive connection that has had an answer.
    let client = client();
    assert_eq!(client.get(server.url("/livez")).send().await.unwrap().status(), 200);
    let began = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0), "{}", server.log());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    drop((idle, half));
}

#[tokio::test]
async fn a_database_that_comes_late_goes_and_comes_back_needs_no_restart() {
    let cluster = Cluster::start();
    let home = Home::on(Some(&cluster.create("registry"))).migrated();
    home.add_user("alice");
    let issued = home.run(&["token", "issue", "--subject", "alice", "--json"]).ok().json();
    let token = issued["access_token"].as_str().unwrap();

    cluster.stop();
    let server = home.serve();
    refuses(&server, token).await;
    cluster.start_again();
    eventually(&server, "/readyz", token, 200).await;
    assert_eq!(get(&server, "/protected", token).await.status(), 200);

    cluster.stop();
    // What it remembers is good for the rest of its lease.
    eventually(&server, "/protected", token, 503).await;
    refuses(&server, token).await;
    cluster.start_again();
    eventually(&server, "/protected", token, 200).await;
    // The lease may come a moment later.
    eventually(&server, "/readyz", token, 200).await;
}

/// Without its database a server says so, and lets nobody in.
async fn refuses(server: &Serving, token: &str) {
    let ready = get(server, "/readyz", token).await;
    assert_eq!((ready.status().as_u16(), ready.headers()["Retry-After"].to_str().unwrap()), (503, "1"));
    assert_eq!(ready.json::<Value>().await.unwrap()["reason"], "database");
    for response in [get(server, "/protected", token).await, login(server).await] {
        assert_eq!(response.status(), 503);
        assert!(response.headers().contains_key("Retry-After"));
        assert_eq!(response.json::<Value>().await.unwrap()["error"], "registry_unavailable");
    }
    assert_eq!(get(server, "/livez", token).await.status(), 200);
    assert_eq!(get(server, "/metrics", token).await.status(), 200);
}

/// A home with a key in a file, which accepts another one that was retired; and the ids of the two.
fn home_with_a_retired_key(url: Option<&str>) -> (Home, [String; 2]) {
    let keys = ["new.pem", "old.pem"].map(|name| (name, Key::generate()));
    let home = Home::on(url).unset("KEYS__SECRET").set("ALGORITHM", "EdDSA");
    for (name, key) in &keys {
        std::fs::write(home.path(name), key.private_pem()).unwrap();
    }
    let ids = keys.map(|(_, key)| key.kid());
    let home = home.set("KEYS__FILE", "new.pem").set("KEYS__ACCEPT", r#"["old.pem"]"#).migrated();
    home.run(&["keys", "retire", &ids[1]]).ok();
    (home, ids)
}

/// Neither keys nor what follows from them is told, nor kept by any cache.
async fn publishes_nothing(server: &Serving) {
    for path in ["/.well-known/jwks.json", "/.well-known/oauth-authorization-server"] {
        let response = get(server, path, "").await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["Cache-Control"]),
            (503, &"no-store".parse().unwrap())
        );
        assert!(response.headers().contains_key("Retry-After"), "{response:?}");
        assert_eq!(response.json::<Value>().await.unwrap()["error"], "registry_unavailable");
    }
}

/// The ids of the published keys, once there are any.
async fn published(server: &Serving) -> Vec<String> {
    let response = eventually(server, "/.well-known/jwks.json", "", 200).await;
    assert_eq!(response.headers()["Cache-Control"], "public, max-age=300");
    let jwks: Value = response.json().await.unwrap();
    jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn no_key_is_published_before_it_is_known_which_were_retired() {
    let cluster = Cluster::start();
    let (given, [own, retired]) = home_with_a_retired_key(Some(&cluster.create("given")));
    let sealed = Home::on(Some(&cluster.create("sealed"))).unset("KEYS__SECRET").set("ALGORITHM", "EdDSA");
    let sealed = sealed.set("MASTER_KEY", MASTER_KEY);
    drop(sealed.serve());

    cluster.stop();
    let servers = [given.serve(), sealed.serve()];
    for server in &servers {
        publishes_nothing(server).await;
    }
    cluster.start_again();
    let published = async || [published(&servers[0]).await, published(&servers[1]).await];
    let before = published().await;
    assert_eq!((&before[0], before[1].len()), (&vec![own], 2), "{retired} is retired");
    let metadata = "/.well-known/oauth-authorization-server";
    let metadata = eventually(&servers[1], metadata, "", 200).await.json::<Value>().await.unwrap();
    assert!(metadata["jwks_uri"].is_string(), "{metadata}");

    // What was read once is told without the database too.
    cluster.stop();
    for server in &servers {
        eventually(server, "/readyz", "", 503).await;
    }
    assert_eq!(published().await, before);
}

#[tokio::test]
async fn no_key_is_published_while_another_process_keeps_the_file() {
    let (home, [own, _]) = home_with_a_retired_key(None);
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", home.path("registry.db").display())).await.unwrap();
    let keeps_it = pool.begin_with("begin immediate").await.unwrap();
    let server = home.serve();
    publishes_nothing(&server).await;
    keeps_it.rollback().await.unwrap();
    assert_eq!(published(&server).await, [own]);
}

#[tokio::test]
async fn a_newer_schema_stops_the_start_with_one_sentence() {
    let home = Home::sqlite().migrated();
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", home.path("registry.db").display())).await.unwrap();
    let newer = "insert into cf_migrations (version, description, success, checksum, execution_time) \
                 values (9999, 'from the future', true, x'00', 0)";
    sqlx::query(newer).execute(&pool).await.unwrap();
    pool.close().await;
    for args in [&[][..], &["user", "list"]] {
        let ran = home.run(args).code(1);
        assert!(ran.sentence().contains("newer than this program"), "{ran:?}");
    }
}

#[test]
fn a_port_in_use_stops_the_start_with_one_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ran = Home::sqlite().env("ROCKET_PORT", &port).run(&[]).code(1);
    assert!(ran.sentence().starts_with(&format!("error: can't listen on 127.0.0.1:{port}")), "{ran:?}");
    let ran = Home::sqlite().set("OPERATIONS__PORT", &port).run(&[]).code(1);
    assert!(ran.sentence().contains("operators' routes") && ran.sentence().contains(&port), "{ran:?}");
    let ran = Home::sqlite().env("ROCKET_PORT", "many").run(&[]).code(1);
    assert!(ran.sentence().to_lowercase().contains("port"), "{ran:?}");
}

#[test]
fn tls_that_is_not_built_in_is_not_passed_over() {
    let home = Home::sqlite().env("ROCKET_TLS", r#"{certs="cert.pem",key="key.pem"}"#);
    let Err(why) = home.try_serve_with(&[]) else { panic!("it serves plain HTTP") };
    assert!(why.contains("\nerror: tls: ") && why.contains("proxy"), "{why}");
    assert_eq!(std::fs::read_dir(home.path("")).unwrap().count(), 0);
}

#[tokio::test]
async fn the_operators_routes_can_have_a_port_of_their_own() {
    let home = Home::sqlite().set("OPERATIONS__PORT", &free_port().to_string()).set("CORS__ORIGINS", r#"["*"]"#);
    let mut server = home.serve();
    let began = Instant::now();
    while server.listening().len() < 2 {
        assert!(began.elapsed() < PATIENCE, "{}", server.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ports = server.listening();
    let other = ports.into_iter().find(|port| *port != server.port()).unwrap();
    let ask = |url: String| client().get(url).header("Origin", "https://page.example").send();
    for path in ["/metrics", "/openapi.json", "/docs/index.html"] {
        assert_eq!(get(&server, path, "").await.status(), 404, "{path}");
        let response = ask(format!("http://127.0.0.1:{other}{path}")).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        // What pages of other origins may read is on the other port.
        assert!(!response.headers().contains_key("Access-Control-Allow-Origin"), "{response:?}");
        let known = client().get(format!("http://127.0.0.1:{other}{path}")).bearer_auth("x").send().await.unwrap();
        assert_eq!(known.headers()["Cache-Control"], "no-store", "{path}");
    }
    let response = ask(server.url("/livez")).await.unwrap();
    assert_eq!(response.headers()["Access-Control-Allow-Origin"], "*");
    // Where nobody finds it nothing leads there.
    let metadata = get(&server, "/.well-known/oauth-authorization-server", "").await.json::<Value>().await.unwrap();
    assert!(metadata["issuer"].is_string() && metadata.get("service_documentation").is_none(), "{metadata}");
    let refused = client().get(format!("http://127.0.0.1:{other}/protected")).send().await.unwrap();
    assert_eq!(refused.status(), 404);
    assert_eq!(refused.json::<Value>().await.unwrap()["error"], "not_found");
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0), "{}", server.log());
}

#[test]
fn a_server_without_threads_is_refused_with_one_sentence() {
    for variable in ["ROCKET_WORKERS", "ROCKET_MAX_BLOCKING"] {
        let refused = Home::sqlite().env(variable, "0").run(&["serve"]).code(1);
        assert!(refused.sentence().contains("must be 1 at least"), "{refused:?}");
    }
}

#[tokio::test]
async fn a_request_leaves_one_line_and_no_secret_in_the_log() {
    let home = Home::sqlite().env("RUST_LOG", "trace").set("LOCATIONS", r#"["header","query"]"#).migrated();
    home.add_user("alice");
    let server = home.serve();
    let tokens: Value = login(&server).await.json().await.unwrap();
    let token = tokens["access_token"].as_str().unwrap();
    let client = client();
    let id = |response: &reqwest::Response| response.headers()["X-Request-Id"].to_str().unwrap().to_owned();

    let given =
        client.get(server.url("/protected")).bearer_auth(token).header("X-Request-Id", "mine-1").send().await.unwrap();
    assert_eq!(id(&given), "mine-1");
    let hostile = client.get(server.url("/livez")).header("X-Request-Id", "a\"b c").send().await.unwrap();
    let made = id(&hostile);
    assert_eq!(made.len(), 36);
    // Where Rocket itself would name the whole URI or the body.
    for url in
        [format!("/protected?jwt={token}"), format!("/no/such/path?jwt={token}"), format!("/auth/tokens/{token}")]
    {
        client.get(server.url(&url)).send().await.unwrap();
    }
    let broken = r#"{"username": "alice", "password": "alice password"#;
    for body in [broken, r#"{"username": 1, "password": "alice password"}"#] {
        let refused =
            client.post(server.url("/login")).header("Content-Type", "application/json").body(body).send().await;
        assert!(refused.unwrap().status().is_client_error());
    }

    let log = server.log();
    for secret in [token, tokens["refresh_token"].as_str().unwrap(), "alice password", "a secret of the tests"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |id: &str| lines.iter().filter(|line| line["request_id"] == id).cloned().collect::<Vec<_>>();
    let line = of("mine-1");
    assert_eq!(line.len(), 1, "{line:?}");
    assert_eq!(
        (&line[0]["method"], &line[0]["route"], &line[0]["status"], &line[0]["level"]),
        (&json!("GET"), &json!("/protected"), &json!(200), &json!("DEBUG"))
    );
    assert!(line[0]["time_us"].is_u64(), "{line:?}");
    assert_eq!(of(&made).len(), 1);
    assert!(lines.iter().any(|line| line["route"] == "/auth/tokens/<jti>"), "{log}");
}

#[tokio::test]
async fn what_only_looked_and_was_answered_is_logged_for_who_asks_for_it_alone() {
    const EACH: &str = "info,counterfoil::request=debug";
    // An empty filter is none.
    for (filter, is_each) in [(None, false), (Some(""), false), (Some(EACH), true)] {
        let home = Home::sqlite().migrated();
        let home = match filter {
            Some(filter) => home.env("RUST_LOG", filter),
            None => home,
        };
        home.add_user("alice");
        let server = home.serve();
        let tokens: Value = login(&server).await.json().await.unwrap();
        let token = tokens["access_token"].as_str().unwrap();
        let made = home.run(&["client", "add", "shop", "--scope", "tokens:introspect", "--json"]).ok().json();
        let (id, secret) = (made["client_id"].as_str().unwrap(), made["client_secret"].as_str());

        assert_eq!(get(&server, "/protected", token).await.status(), 200);
        assert_eq!(get(&server, "/protected", "").await.status(), 401);
        assert_eq!(client().head(server.url("/livez")).send().await.unwrap().status(), 200);
        let asked = client().post(server.url("/oauth/introspect")).basic_auth(id, secret).form(&[("token", token)]);
        assert_eq!(asked.send().await.unwrap().status(), 200);
        let asked = client().post(server.url("/oauth/introspect")).form(&[("token", token)]);
        assert_eq!(asked.send().await.unwrap().status(), 401);
        let ended = client().post(server.url("/logout")).bearer_auth(token).send().await.unwrap();
        assert_eq!(ended.status(), 200);

        let log = server.log();
        let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let has = |level: &str, method: &str, route: &str, status: u16| {
            lines.iter().any(|line| {
                (&line["level"], &line["method"], &line["route"], &line["status"])
                    == (&json!(level), &json!(method), &json!(route), &json!(status))
            })
        };
        for (method, route, status) in [
            ("POST", "/login", 200),
            ("GET", "/protected", 401),
            ("POST", "/oauth/introspect", 401),
            ("POST", "/logout", 200),
        ] {
            assert!(has("INFO", method, route, status), "{method} {route}: {log}");
        }
        for (method, route) in [("GET", "/protected"), ("HEAD", "/livez"), ("POST", "/oauth/introspect")] {
            assert_eq!(has("DEBUG", method, route, 200), is_each, "{method} {route}: {log}");
            assert!(!has("INFO", method, route, 200), "{method} {route}: {log}");
        }
    }
}

#[tokio::test]
async fn a_purge_that_is_killed_half_way_leaves_a_consistent_registry() {
    const EXPIRED: i64 = 3_000;
    let home = Home::sqlite().set("PURGE__BATCH", "10").set("PURGE__PAUSE", "20ms").migrated();
    let live = home.run(&["token", "issue", "--subject", "alice", "--json"]).ok().json();
    home.run(&["token", "issue", "--subject", "bob", "--no-refresh"]).ok();
    home.age("bob");
    // As many more as make the purge last.
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", home.path("registry.db").display())).await.unwrap();
    let copies = "insert into cf_tokens (jti, sid, subject, token_type, issued_at, not_before, expires_at, scope, claims, kid) \
                  with recursive n (i) as (select 1 union all select i + 1 from n where i < ?) \
                  select randomblob(16), sid, subject, token_type, issued_at, not_before, expires_at - i, scope, claims, kid \
                  from cf_tokens, n where subject = 'bob'";
    sqlx::query(copies).bind(EXPIRED).execute(&pool).await.unwrap();
    let held = async || -> i64 { sqlx::query_scalar("select count(*) from cf_tokens").fetch_one(&pool).await.unwrap() };
    let all = held().await;

    let mut purge = home.command(&["purge"]).spawn().unwrap();
    until("the purge begins", async || held().await < all).await;
    purge.kill().unwrap();
    purge.wait().unwrap();
    let left = held().await;
    assert!(left < all && left > 3, "{left} of {all}");

    // What is live is as it was, and the rest can be counted and looked at.
    let token = live["access_token"].as_str().unwrap();
    home.run_with(&["token", "verify"], token).ok();
    assert_eq!(home.run(&["purge", "--dry-run", "--json"]).ok().json(), json!({ "would_purge": left - 2 }));
    assert_eq!(home.run(&["token", "list", "--state", "live", "--json"]).ok().json().as_array().unwrap().len(), 2);
    let integrity: String = sqlx::query_scalar("pragma integrity_check").fetch_one(&pool).await.unwrap();
    let orphans = sqlx::query("pragma foreign_key_check").fetch_all(&pool).await.unwrap();
    assert_eq!((integrity.as_str(), orphans.len()), ("ok", 0));

    // The dead process still holds the purge, for a minute; then the next one ends the work.
    let refused = home.run(&["purge"]).code(1);
    assert!(refused.sentence().contains("another process is purging"), "{refused:?}");
    sqlx::query("update cf_jobs set held_until = 0").execute(&pool).await.unwrap();
    assert_eq!(home.run(&["purge", "--json"]).ok().json(), json!({ "purged": left - 2 }));
    assert_eq!(held().await, 2);
    pool.close().await;
}
