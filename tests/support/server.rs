//! The real server on a real socket, in this process, with a clock that the test moves.

use std::fs::Permissions;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use counterfoil::{Grant, ManualClock, Registry};
use rocket::fairing::AdHoc;
use rocket::figment::Figment;
use serde_json::{Value, json};
use sqlx::Connection;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::client::{Answer, Call, ClientSecret};
use super::forge::Key;
use super::process::{PATIENCE, Ran, finish};

/// The administrator that the first start creates, and its password.
pub(crate) const ADMIN: &str = "admin";
pub(crate) const PASSWORD: &str = "correct horse battery staple";

pub(crate) const ISSUER: &str = "https://issuer.example";

/// Argon2id at its cheapest: what is tested is not how long it takes.
const PASSWORD_MEMORY_KIB: u32 = 64;
const PASSWORD_ITERATIONS: u32 = 1;

/// Which database a test runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Database {
    Sqlite,
    Postgres,
}

impl Database {
    /// The URL of a fresh one, whose file is in this directory where it has one.
    pub(crate) fn fresh(self, home: &TempDir) -> String {
        match self {
            Self::Sqlite => format!("sqlite://{}", home.path().join("counterfoil.db").display()),
            Self::Postgres => super::postgres::database(),
        }
    }
}

/// The settings of one server, which a test may change.
pub(crate) struct Settings(Figment);

impl Settings {
    /// With this key under `counterfoil`.
    pub(crate) fn set(self, key: &str, value: impl Into<Value>) -> Self {
        Self(self.0.merge((format!("counterfoil.{key}"), value.into())))
    }
}

/// What opens the keys in the database.
pub(crate) const MASTER_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// With keys in the database; published ones need not be waited for.
pub(crate) fn at_once(settings: Settings) -> Settings {
    settings.set("master_key", MASTER_KEY).set("jwks_max_age", "0s")
}

/// A running server. It stops when it is dropped.
pub(crate) struct Server {
    pub(crate) clock: ManualClock,
    /// The key that it signs with.
    pub(crate) key: Key,
    /// The handle that its routes use, for what has no route.
    pub(crate) registry: Registry,
    port: u16,
    http: reqwest::Client,
    database_url: String,
    shutdown: rocket::Shutdown,
    /// Last, so that the files outlive what uses them.
    home: TempDir,
}

impl Server {
    /// Starts a server on a fresh database.
    pub(crate) async fn start(database: Database, change: impl FnOnce(Settings) -> Settings) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let database_url = database.fresh(&home);
        Self::launch(home, database_url, Key::generate(), ManualClock::here(), change).await
    }

    /// Starts a server on this database.
    pub(crate) async fn start_on(database_url: String, change: impl FnOnce(Settings) -> Settings) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        Self::launch(home, database_url, Key::generate(), ManualClock::here(), change).await
    }

    /// Starts another server on the same database, with the same key and clock.
    pub(crate) async fn another(&self, change: impl FnOnce(Settings) -> Settings) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        Self::launch(home, self.database_url.clone(), self.key.clone(), self.clock.clone(), change).await
    }

    async fn launch(
        home: TempDir,
        database_url: String,
        key: Key,
        clock: ManualClock,
        change: impl FnOnce(Settings) -> Settings,
    ) -> Self {
        assert!(
            std::env::var_os("DATABASE_URL").is_none(),
            "unset DATABASE_URL: it would be used in place of a fresh one"
        );
        let key_file = write(&home, "key.pem", &key.private_pem());
        let password_file = write(&home, "password", &format!("{PASSWORD}\n"));
        let figment = Figment::from(rocket::Config::debug_default())
            .merge(("address", "127.0.0.1"))
            .merge(("port", 0))
            .merge(("log_level", "off"))
            .merge(("cli_colors", false))
            .merge(("ip_header", false))
            .merge(("shutdown", json!({ "ctrlc": false, "signals": [], "grace": 1, "mercy": 1 })));
        let settings = Settings(figment)
            .set("database_url", database_url.clone())
            .set("database_pool", 3)
            .set("issuer", ISSUER)
            .set("password", json!({ "memory_kib": PASSWORD_MEMORY_KIB, "iterations": PASSWORD_ITERATIONS }))
            .set("purge", json!({ "every": "1d" }))
            .set("first_admin_password_file", json!(password_file));

        let (started, start) = oneshot::channel();
        let liftoff = AdHoc::on_liftoff("tell the test", |rocket| {
            let registry = rocket.state::<Registry>().expect("the fairing manages the registry").clone();
            let sent = started.send((rocket.config().port, rocket.shutdown(), registry));
            Box::pin(async move { assert!(sent.is_ok(), "the test waits for the start") })
        });
        let mut figment = change(settings).0;
        let has_key = ["keys.secret", "master_key", "master_key_file"]
            .iter()
            .any(|key| figment.contains(&format!("counterfoil.{key}")));
        if !has_key {
            figment = figment.join(("counterfoil.keys.file", key_file));
        }
        let rocket = counterfoil::server_with_clock(figment, clock.clone()).attach(liftoff);
        let running = tokio::spawn(rocket.launch());
        let (port, shutdown, registry) = match start.await {
            Ok(start) => start,
            Err(_) => panic!("the server does not start: {:?}", running.await.map(|launch| launch.err())),
        };
        // No proxy of the environment: it would be asked for this host too.
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .expect("a client");
        Self { clock, key, registry, port, http, database_url, shutdown, home }
    }

    pub(crate) fn database_url(&self) -> &str {
        &self.database_url
    }

    /// Where its files are.
    pub(crate) fn home(&self) -> &std::path::Path {
        self.home.path()
    }

    /// Puts a process on the roll that joined, and was killed.
    pub(crate) async fn add_gone(&self, lease_ms: u32) {
        let random = self.random_id();
        let gone = format!("select {random}, 'gone', {lease_ms}, seq, seq, 0, 0 from cf_position");
        self.sql(&format!("insert into cf_replicas {gone}")).await;
        self.sql(&format!("update cf_position set roll = {random}")).await;
    }

    /// Runs SQL on the server's database, behind its back.
    pub(crate) async fn sql(&self, sql: &str) {
        self.try_sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The same for what may be refused.
    pub(crate) async fn try_sql(&self, sql: &str) -> Result<(), sqlx::Error> {
        if self.database_url.starts_with("sqlite:") {
            let mut connection = sqlx::SqliteConnection::connect(&self.database_url).await.expect("a connection");
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.map(drop)
        } else {
            let mut connection = sqlx::PgConnection::connect(&self.database_url).await.expect("a connection");
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.map(drop)
        }
    }

    /// The one number that a query of the server's database gives.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        let counted = if self.database_url.starts_with("sqlite:") {
            let mut connection = sqlx::SqliteConnection::connect(&self.database_url).await.expect("a connection");
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut connection).await
        } else {
            let mut connection = sqlx::PgConnection::connect(&self.database_url).await.expect("a connection");
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut connection).await
        };
        counted.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Whether this text stands anywhere in the server's database.
    pub(crate) async fn keeps(&self, text: &str) -> bool {
        if !self.database_url.starts_with("sqlite:") {
            let tables = format!(
                "select count(*) from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE'
                and strpos(query_to_xml(format('select * from %I', table_name), true, false, '')::text, '{text}') > 0"
            );
            return self.count(&tables).await > 0;
        }
        let files = std::fs::read_dir(self.home.path()).expect("a directory").map(|file| file.expect("a file").path());
        files
            .filter(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("counterfoil.db")))
            .any(|file| {
                // By another process: one that closes a file loses all its locks on it, those of SQLite too.
                let read = Command::new("cat").arg(file).output().expect("the file is read");
                read.stdout.windows(text.len()).any(|window| window == text.as_bytes())
            })
    }

    /// A random id in the SQL of the server's database.
    pub(crate) fn random_id(&self) -> &'static str {
        if self.database_url.starts_with("sqlite:") { "randomblob(16)" } else { "gen_random_uuid()" }
    }

    pub(crate) fn get(&self, path: &str) -> Call {
        self.call("GET", path)
    }

    pub(crate) fn post(&self, path: &str) -> Call {
        self.call("POST", path)
    }

    pub(crate) fn put(&self, path: &str) -> Call {
        self.call("PUT", path)
    }

    pub(crate) fn delete(&self, path: &str) -> Call {
        self.call("DELETE", path)
    }

    pub(crate) fn patch(&self, path: &str) -> Call {
        self.call("PATCH", path)
    }

    pub(crate) fn call(&self, method: &str, path: &str) -> Call {
        let method = method.parse().expect("a method");
        Call::new(self.http.request(method, format!("http://127.0.0.1:{}{path}", self.port)), path)
    }

    /// Sends these bytes and reads the status and all the server says, for what no client would send.
    pub(crate) async fn raw(&self, request: impl Into<Vec<u8>>) -> (u16, String) {
        let (port, request) = (self.port, request.into());
        tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
            stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            stream.write_all(&request).expect("the request is sent");
            let mut answer = Vec::new();
            // A server that refuses a request may reset the connection after its answer.
            if let Err(error) = stream.read_to_end(&mut answer) {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error} after {answer:?}");
            }
            let answer = String::from_utf8_lossy(&answer).into_owned();
            let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
            (status.unwrap_or_else(|| panic!("no status in {answer:?}")), answer)
        })
        .await
        .expect("the thread ends well")
    }

    /// Logs the administrator in.
    pub(crate) async fn login(&self) -> Pair {
        self.login_as(ADMIN, PASSWORD).await
    }

    pub(crate) async fn login_as(&self, username: &str, password: &str) -> Pair {
        let answer = self.post("/login").json(&json!({ "username": username, "password": password })).send().await;
        Pair::of(&answer.ok(200))
    }

    /// Issues a pair to a subject that is no user of the server, as an application would.
    pub(crate) async fn issue(&self, subject: &str, scope: &str) -> Pair {
        self.issue_with(subject, scope, |grant| grant).await
    }

    pub(crate) async fn issue_with(&self, subject: &str, scope: &str, change: impl FnOnce(Grant) -> Grant) -> Pair {
        let grant = Grant::to(subject.parse().expect("a subject")).scope(scope.parse().expect("scopes")).fresh(true);
        let issued = self.registry.issue(change(grant)).await.expect("tokens are issued");
        Pair {
            access: issued.access_token().to_owned(),
            refresh: issued.refresh_token().unwrap_or_default().to_owned(),
        }
    }

    /// Adds a user with the command line, with this password.
    pub(crate) fn add_user(&self, username: &str, password: &str, scopes: &[&str]) {
        let mut arguments = vec!["user", "add", username];
        for scope in scopes {
            arguments.extend(["--scope", scope]);
        }
        self.command_ok(&arguments, password);
    }

    /// Adds a client with the command line.
    pub(crate) fn add_client(&self, name: &str, options: &[&str]) -> ClientSecret {
        let added = self.command_ok(&[&["client", "add", name, "--json"], options].concat(), "");
        ClientSecret::of(&serde_json::from_str(&added).expect("JSON"))
    }

    /// Gets a client a token of its own.
    pub(crate) async fn client_token(&self, client: &ClientSecret) -> String {
        let call = self.post("/oauth/token").basic(client).form(&[("grant_type", "client_credentials")]);
        call.send().await.ok(200)["access_token"].as_str().expect("a token").to_owned()
    }

    /// Asks about a token as this client.
    pub(crate) async fn introspect(&self, client: &ClientSecret, token: &str) -> Value {
        self.post("/oauth/introspect").basic(client).form(&[("token", token)]).send().await.ok(200)
    }

    /// Runs the command line on the server's database; it must succeed.
    #[track_caller]
    pub(crate) fn command_ok(&self, arguments: &[&str], input: &str) -> String {
        self.command(arguments, input).ok().out
    }

    /// Runs the command line on the server's database, with this line on its standard input.
    pub(crate) fn command(&self, arguments: &[&str], input: &str) -> Ran {
        self.command_with(&[], arguments, input)
    }

    /// The same with further variables in its environment.
    pub(crate) fn command_with(&self, variables: &[(&str, &str)], arguments: &[&str], input: &str) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_counterfoil"));
        command
            .args(arguments)
            .current_dir(self.home.path())
            .env_clear()
            .env("COUNTERFOIL_DATABASE_URL", &self.database_url)
            .env("COUNTERFOIL_ISSUER", ISSUER)
            .env("COUNTERFOIL_PASSWORD__MEMORY_KIB", PASSWORD_MEMORY_KIB.to_string())
            .env("COUNTERFOIL_PASSWORD__ITERATIONS", PASSWORD_ITERATIONS.to_string())
            .envs(variables.iter().copied());
        if !variables.iter().any(|(name, _)| *name == "COUNTERFOIL_MASTER_KEY") {
            command.env("COUNTERFOIL_KEYS__FILE", self.home.path().join("key.pem"));
        }
        finish(&mut command, &format!("{input}\n"))
    }

    /// The claims that an access token of the administrator has, fit for one that was never issued.
    pub(crate) fn claims(&self) -> Value {
        let now = self.now();
        json!({
            "iss": ISSUER,
            "sub": ADMIN,
            "aud": ISSUER,
            "exp": now + 900,
            "nbf": now,
            "iat": now,
            "jti": "0190a5a0-0000-7000-8000-000000000001",
            "type": "access",
            "sid": "0190a5a0-0000-7000-8000-000000000002",
            "client_id": "counterfoil",
            "fresh": true,
            "scope": "registry:admin",
        })
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The server's time in whole seconds.
    pub(crate) fn now(&self) -> i64 {
        counterfoil::Clock::now_seconds(&self.clock)
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// What `GET /protected` says to this token.
    pub(crate) async fn protected(&self, token: &str) -> Answer {
        self.get("/protected").bearer(token).send().await
    }

    #[track_caller]
    pub(crate) fn accepts(&self, token: &str) -> impl Future<Output = ()> {
        let call = self.get("/protected").bearer(token);
        let caller = std::panic::Location::caller();
        async move {
            let answer = call.send().await;
            assert_eq!(answer.status, 200, "at {caller}: {answer:?}");
            assert_eq!(answer.body_json(), json!({ "hello": "world" }));
        }
    }

    /// `GET /protected` refuses this token with this code.
    #[track_caller]
    pub(crate) fn refuses(&self, token: &str, code: &'static str) -> impl Future<Output = ()> {
        let call = self.get("/protected").bearer(token);
        let caller = std::panic::Location::caller();
        async move {
            let answer = call.send().await;
            assert_eq!((answer.status, &answer.body_json()["error"]), (401, &json!(code)), "at {caller}: {answer:?}");
            answer.error(401, code);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.clone().notify();
    }
}

/// The tokens of one log-in.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl Pair {
    pub(crate) fn of(body: &Value) -> Self {
        let text = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("{name} in {body}")).to_owned();
        Self { access: text("access_token"), refresh: text("refresh_token") }
    }
}

/// Waits until this is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the server has a lease.
pub(crate) async fn until_leased(server: &Server) {
    until("there is a lease", async || server.get("/readyz").send().await.status == 200).await;
}

fn write(home: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = home.path().join(name);
    std::fs::write(&path, text).expect("the file is written");
    // A server warns of secrets that others can read.
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("the file can be kept to oneself");
    path
}
