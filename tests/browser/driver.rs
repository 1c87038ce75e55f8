//! chromedriver, one for this test process, and the sessions with it: each is a Chromium of its own. What is said is
//! W3C WebDriver, JSON over HTTP.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::support::{Value, json};

/// Started by `scripts/chromedriver`, which ends it when its standard input, a pipe from here, is closed: when this
/// process ends, however that is.
struct Driver {
    port: u16,
    /// Where Chromium is.
    browser: String,
    _holder: (Child, ChildStdin),
}

impl Driver {
    /// It blocks the first time, until the driver listens.
    fn shared() -> &'static Self {
        static SHARED: OnceLock<Driver> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/chromedriver");
        let mut holder = Command::new(&script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} can't be run: {error}", script.display()));
        let input = holder.stdin.take().unwrap();
        let mut words = BufReader::new(holder.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut word = || words.next().expect("Chromium can't be started: see above for the cause");
        Self { port: word().parse().unwrap(), browser: word(), _holder: (holder, input) }
    }
}

/// What the driver says when it does not do as told: its code, such as `no such element`, and a sentence.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: String,
    pub(super) sentence: String,
}

/// A Chromium that runs.
pub(super) struct Session {
    http: reqwest::Client,
    url: String,
}

impl Session {
    /// Starts one.
    pub(super) async fn start() -> Self {
        let driver = Driver::shared();
        // What it would ask of its makers' hosts is off, and no other host has a name but those of one domain, which
        // browsers trust as they trust localhost.
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-extensions",
            "--disable-breakpad",
            "--no-first-run",
            "--no-proxy-server",
            "--hide-scrollbars",
            "--host-resolver-rules=MAP *.corp.localhost 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
            "--force-color-profile=srgb",
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "unhandledPromptBehavior": "dismiss",
            "timeouts": { "pageLoad": 30_000, "script": 30_000 },
            "goog:loggingPrefs": { "performance": "ALL", "browser": "ALL" },
            "goog:chromeOptions": { "binary": driver.browser, "args": arguments },
        } } });
        let started = Self::with("session", driver).command("POST", "", wanted).await;
        let started = started.unwrap_or_else(|failure| panic!("Chromium does not start: {failure:?}"));
        Self::again(started["sessionId"].as_str().unwrap())
    }

    /// The one with this id.
    pub(super) fn again(id: &str) -> Self {
        Self::with(&format!("session/{id}"), Driver::shared())
    }

    fn with(path: &str, driver: &Driver) -> Self {
        // No proxy of the environment: it would be asked for this host too.
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        Self { http, url: format!("http://127.0.0.1:{}/{path}", driver.port) }
    }

    pub(super) fn id(&self) -> &str {
        self.url.rsplit('/').next().unwrap()
    }

    /// Tells the driver something, and gives the value that it answers with.
    pub(super) async fn command(&self, method: &str, path: &str, body: Value) -> Result<Value, Failure> {
        let mut request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.url));
        if method == "POST" {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap_or_else(|error| panic!("the driver is gone: {error:?}"));
        let is_done = answer.status().is_success();
        let mut answer: Value = answer.json().await.unwrap();
        let value = answer["value"].take();
        if is_done {
            return Ok(value);
        }
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        // The driver's own stack follows the sentence.
        let sentence = text("message").lines().next().unwrap_or_default().to_owned();
        Err(Failure { code: text("error"), sentence })
    }
}
