//! A throw-away PostgreSQL for tests, from the system's packages: one for each test process, and others for tests that
//! stop or kill theirs. Without PostgreSQL the tests fail; they are never skipped.
//!
//! A server is gone, with its directory, when the test process is, however that ends: `scripts/postgres` holds it and
//! ends it when its standard input, a pipe from here, is closed.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::process::free_port;

/// The URL of a fresh, empty database on the server that all tests of this process share.
///
/// It blocks: for the server's start the first time, and for the database.
pub(crate) fn database() -> String {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    static DATABASES: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    SHARED.get_or_init(Cluster::start).create(&name)
}

/// A server of one's own, which can be stopped, killed and started again.
pub(crate) struct Cluster {
    holder: Child,
    input: Option<ChildStdin>,
    control: Control,
}

/// A copy of a `Cluster` that follows it, and can take its place. It is gone when it is dropped.
pub(crate) struct Standby(Control);

/// A session of `psql`, which holds what it has locked until it is told otherwise or dropped.
pub(crate) struct Psql {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What it takes to control the server, as `scripts/postgres` says.
#[derive(Clone)]
struct Control {
    port: u16,
    directory: PathBuf,
    /// The name of its data directory in there.
    data: &'static str,
    /// What goes into its environment.
    env: Vec<(&'static str, String)>,
    programs: PathBuf,
    /// Whom to run the programs as, where the tests run as root.
    user: Option<String>,
}

impl Cluster {
    /// Starts a server.
    pub(crate) fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/postgres");
        let mut holder = Command::new(&script)
            .arg("--control")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} can't be run: {error}", script.display()));
        let input = holder.stdin.take();
        let output = holder.stdout.take().expect("it is piped");
        let mut words = BufReader::new(output).lines().map_while(Result::ok);
        let mut word = || {
            words.next().unwrap_or_else(|| {
                panic!(
                    "PostgreSQL can't be started: the tests need its initdb, pg_ctl and psql (see above for the cause)"
                )
            })
        };
        let control = Control {
            port: word().parse().expect("the port is a number"),
            directory: word().into(),
            data: "data",
            env: Vec::new(),
            programs: word().into(),
            user: Some(word()).filter(|user| !user.is_empty()),
        };
        Self { holder, input, control }
    }

    /// The URL of a database of this server, whether it is there or not.
    pub(crate) fn url(&self, database: &str) -> String {
        url(self.control.port, database)
    }

    pub(crate) fn port(&self) -> u16 {
        self.control.port
    }

    /// Creates an empty database and gives its URL.
    pub(crate) fn create(&self, database: &str) -> String {
        self.sql("postgres", &format!("create database {database}"));
        self.url(database)
    }

    /// Runs SQL in a database, and gives the rows as `psql -At` prints them.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        self.control.sql(database, sql)
    }

    /// What the server has written to its log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.control.directory.join("log")).expect("it writes one")
    }

    /// Begins a session.
    pub(crate) fn psql(&self, database: &str) -> Psql {
        let mut psql = self.control.command("psql");
        psql.args(["-X", "-q", "-A", "-t"]).arg(self.url(database));
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = psql.spawn().unwrap_or_else(|error| panic!("{psql:?} can't be run: {error}"));
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        Psql { child, input, output }
    }

    /// Stops the server as an operator would: open connections are cut.
    pub(crate) fn stop(&self) {
        self.control.stop("fast");
    }

    /// Stops the server as a power cut would.
    pub(crate) fn kill(&self) {
        self.control.stop("immediate");
    }

    /// Starts the server again, on the same port, with what it held.
    pub(crate) fn start_again(&self) {
        self.control.start();
    }

    /// The same server with a clock that `step_clock` moves. Needs Debian's `faketime`.
    pub(crate) fn with_loose_clock(mut self) -> Self {
        let mut preload = Command::new("faketime");
        let preload = succeed(preload.args(["-f", "+0s", "printenv", "LD_PRELOAD"]));
        let clock = self.control.directory.join("clock").to_string_lossy().into_owned();
        self.control.env = vec![
            ("LD_PRELOAD", preload),
            ("FAKETIME_TIMESTAMP_FILE", clock),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            // A clock that steps is the wall clock; the steady one stays steady.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        self.step_clock(0);
        self.control.stop("fast");
        self.control.start();
        self
    }

    /// Sets a loose clock to so many seconds from the machine's, at once.
    pub(crate) fn step_clock(&self, seconds: i64) {
        // Renamed into its place: a clock that is read half-written would jump to anywhere.
        let script = format!(r#"echo {seconds:+}s >"$0.new" && mv "$0.new" "$0""#);
        let mut shell = self.control.as_user("sh");
        succeed(shell.args(["-c", &script]).arg(self.control.directory.join("clock")));
    }

    /// A copy that follows this server over the port, which leads to it.
    pub(crate) fn standby(&self, port: u16) -> Standby {
        let standby = Control { port: free_port(), data: "standby", ..self.control.clone() };
        let mut copy = standby.command("pg_basebackup");
        copy.args(["-R", "-X", "fetch", "-c", "fast", "--no-sync", "-D"]).arg(standby.directory.join(standby.data));
        succeed(copy.args(["-d", &url(port, "postgres")]));
        standby.start();
        Standby(standby)
    }
}

impl Standby {
    pub(crate) fn port(&self) -> u16 {
        self.0.port
    }

    /// It takes the place of the server it followed, as it is.
    pub(crate) fn promote(&self) {
        self.0.pg_ctl(&["-w", "promote"]);
    }

    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        self.0.sql(database, sql)
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        let _ = self.0.try_pg_ctl(&["-m", "immediate", "-w", "stop"]);
    }
}

impl Psql {
    /// Runs SQL, and says whether the session is still there after it.
    pub(crate) fn run(&mut self, sql: &str) -> bool {
        if writeln!(self.input, "{sql}\n\\echo ran").and_then(|()| self.input.flush()).is_err() {
            return false;
        }
        let mut line = String::new();
        while self.output.read_line(&mut line).is_ok_and(|length| length > 0) {
            if line.trim_end() == "ran" {
                return true;
            }
            line.clear();
        }
        false
    }
}

impl Drop for Psql {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.input.take());
        self.holder.wait().ok();
    }
}

impl Control {
    fn sql(&self, database: &str, sql: &str) -> String {
        let mut psql = self.command("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]).arg(url(self.port, database));
        succeed(&mut psql)
    }

    fn start(&self) {
        let (log, port) = (self.directory.join("log"), format!("-p {}", self.port));
        self.pg_ctl(&["-w", "-t", "30", "-l", &log.to_string_lossy(), "-o", &port, "start"]);
    }

    fn stop(&self, mode: &str) {
        self.pg_ctl(&["-m", mode, "-w", "stop"]);
    }

    fn pg_ctl(&self, arguments: &[&str]) {
        assert!(self.try_pg_ctl(arguments), "pg_ctl {arguments:?} failed");
    }

    fn try_pg_ctl(&self, arguments: &[&str]) -> bool {
        let mut pg_ctl = self.command("pg_ctl");
        pg_ctl.arg("-D").arg(self.directory.join(self.data)).args(arguments);
        pg_ctl.envs(self.env.iter().map(|(name, value)| (name, value)));
        // What the server inherits must not be a pipe that somebody reads to its end.
        let status = pg_ctl.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.expect("pg_ctl can be run").success()
    }

    fn command(&self, program: &str) -> Command {
        self.as_user(self.programs.join(program))
    }

    /// A command that runs as the user whom the server runs as.
    fn as_user(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match &self.user {
            None => Command::new(program),
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--"]).arg(program);
                command
            }
        };
        command.current_dir("/").stdin(Stdio::null());
        command
    }
}

fn url(port: u16, database: &str) -> String {
    format!("postgres://counterfoil@127.0.0.1:{port}/{database}")
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} can't be run: {error}"));
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
