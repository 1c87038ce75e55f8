//! The binary as operators run it: a working directory of its own, settings from the environment, real processes; and
//! asking at a port by hand.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything that should happen may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A place where the command runs, and its settings.
pub(crate) struct Home {
    dir: TempDir,
    env: Vec<(String, String)>,
}

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The one sentence on standard error.
    #[track_caller]
    pub(crate) fn sentence(&self) -> &str {
        let lines: Vec<&str> = self.err.lines().collect();
        assert_eq!(lines.len(), 1, "{self:?}");
        lines[0]
    }
}

/// What a home's tokens are signed with, by HS256.
pub(crate) const SECRET: &str = "a secret of the tests that is long enough";

impl Home {
    /// With a SQLite database of its own.
    pub(crate) fn sqlite() -> Self {
        Self::on(None)
    }

    /// With this database, or a SQLite one of its own.
    pub(crate) fn on(url: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = url.map_or_else(|| format!("sqlite://{}/registry.db", dir.path().display()), str::to_owned);
        Self { dir, env: Vec::new() }
            .env("ROCKET_PROFILE", "debug")
            .env("ROCKET_ADDRESS", "127.0.0.1")
            .env("ROCKET_PORT", "0")
            .set("DATABASE_URL", &url)
            .set("ISSUER", "https://auth.test")
            .set("ALGORITHM", "HS256")
            .set("KEYS__SECRET", SECRET)
            .set("PASSWORD__MEMORY_KIB", "64")
            .set("PASSWORD__ITERATIONS", "1")
            .set("FIRST_ADMIN", "off")
    }

    /// With this variable; setting it again takes the place of the first.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without a setting that each home has.
    pub(crate) fn unset(mut self, key: &str) -> Self {
        self.env.retain(|(known, _)| known != &format!("COUNTERFOIL_{key}"));
        self
    }

    /// With this setting.
    pub(crate) fn set(self, key: &str, value: &str) -> Self {
        self.env(&format!("COUNTERFOIL_{key}"), value)
    }

    /// With a database that has its tables, as commands want one.
    #[track_caller]
    pub(crate) fn migrated(self) -> Self {
        self.run(&["migrate"]).ok();
        self
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// Lets the tokens of a subject expire an hour sooner, by their records.
    #[track_caller]
    pub(crate) fn age(&self, subject: &str) {
        let sql = format!(
            "update cf_sessions set expires_at = expires_at - 3600 where subject = '{subject}';
             update cf_tokens set expires_at = expires_at - 3600 where subject = '{subject}';"
        );
        let ran = Command::new("sqlite3").arg("-bail").arg(self.path("registry.db")).arg(sql).status().unwrap();
        assert!(ran.success());
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_counterfoil"));
        command.args(args).current_dir(self.dir.path()).env_clear().env("USER", "tester");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "")
    }

    /// Runs a command with this on its standard input.
    pub(crate) fn run_with(&self, args: &[&str], input: &str) -> Ran {
        finish(&mut self.command(args), input)
    }

    /// Adds a user whose password is the name and ` password`.
    #[track_caller]
    pub(crate) fn add_user(&self, name: &str) {
        self.run_with(&["user", "add", name], &format!("{name} password\n")).ok();
    }

    /// Starts the server and waits until it listens.
    #[track_caller]
    pub(crate) fn serve(&self) -> Serving {
        self.serve_with(&[])
    }

    /// Starts a server that has these variables too.
    #[track_caller]
    pub(crate) fn serve_with(&self, env: &[(&str, &str)]) -> Serving {
        self.try_serve_with(env).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Starts a server that has these variables too, or says why it does not start.
    pub(crate) fn try_serve_with(&self, env: &[(&str, &str)]) -> Result<Serving, String> {
        let mut command = self.command(&[]);
        let mut child = command.env("COUNTERFOIL_LOG", "json").envs(env.iter().copied()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let follow = |stream: Box<dyn Read + Send>| {
            let log = log.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let mut log = log.lock().unwrap();
                    log.push_str(&line);
                    log.push('\n');
                }
            });
        };
        follow(Box::new(child.stdout.take().unwrap()));
        follow(Box::new(child.stderr.take().unwrap()));
        let mut serving = Serving { child, log, ports: Vec::new() };
        serving.ports = serving.wait_to_listen()?;
        Ok(serving)
    }
}

/// Runs a command with this on its standard input, and waits for its end.
pub(crate) fn finish(command: &mut Command, input: &str) -> Ran {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    if let Err(error) = child.stdin.take().unwrap().write_all(input.as_bytes()) {
        // A command that doesn't read its input may have gone already.
        assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Sends a signal to a process that has not been waited for.
pub(crate) fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
}

/// A server that runs. It is killed when it is dropped.
pub(crate) struct Serving {
    child: Child,
    log: Arc<Mutex<String>>,
    ports: Vec<u16>,
}

impl Serving {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port())
    }

    pub(crate) fn port(&self) -> u16 {
        self.ports[0]
    }

    /// Everything it has written so far, to its log and to standard error.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The ports it says it listens on.
    pub(crate) fn listening(&self) -> Vec<u16> {
        let log = self.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter(|line| line["message"] == "listening")
            .filter_map(|line| line["port"].as_u64()?.try_into().ok())
            .collect()
    }

    fn wait_to_listen(&mut self) -> Result<Vec<u16>, String> {
        let began = Instant::now();
        loop {
            let ports = self.listening();
            if !ports.is_empty() {
                return Ok(ports);
            }
            let gone = self.child.try_wait().unwrap();
            if gone.is_some() || began.elapsed() > PATIENCE {
                return Err(format!("{gone:?}\n{}", self.log()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Waits for its end, and returns its exit status.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(began.elapsed() < PATIENCE, "it does not end\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens at.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Asks a host behind this port over a connection of its own, and returns the head and body of the answer.
pub(crate) fn ask(port: u16, host: &str, path: &str, headers: &str) -> String {
    send(port, "GET", host, path, headers, "")
}

pub(crate) fn send(port: u16, method: &str, host: &str, path: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
