//! A throw-away PostgreSQL for tests, from the system's packages: one for each test process, and others for tests that
//! stop or kill theirs. Without PostgreSQL the tests fail; they are never skipped.
//!
//! A server is gone, with its directory, when the test process is, however that ends: `scripts/postgres` holds it and
//! ends it when its standard input, a pipe from here, is closed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

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

/// What it takes to control the server, as `scripts/postgres` says.
struct Control {
    port: u16,
    directory: PathBuf,
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
            programs: word().into(),
            user: Some(word()).filter(|user| !user.is_empty()),
        };
        Self { holder, input, control }
    }

    /// The URL of a database of this server, whether it is there or not.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://counterfoil@127.0.0.1:{}/{database}", self.control.port)
    }

    /// Creates an empty database and gives its URL.
    pub(crate) fn create(&self, database: &str) -> String {
        self.sql("postgres", &format!("create database {database}"));
        self.url(database)
    }

    /// Runs SQL in a database, and gives the rows as `psql -At` prints them.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        let mut psql = self.control.command("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]).arg(self.url(database));
        succeed(psql)
    }

    /// Stops the server as an operator would: open connections are cut.
    pub(crate) fn stop(&self) {
        self.pg_ctl(&["-m", "fast", "-w", "stop"]);
    }

    /// Stops the server as a power cut would.
    pub(crate) fn kill(&self) {
        self.pg_ctl(&["-m", "immediate", "-w", "stop"]);
    }

    /// Starts the server again, on the same port, with what it held.
    pub(crate) fn start_again(&self) {
        self.pg_ctl(&["-w", "-t", "30", "-l", &self.control.directory.join("log").to_string_lossy(), "start"]);
    }

    fn pg_ctl(&self, arguments: &[&str]) {
        let mut pg_ctl = self.control.command("pg_ctl");
        pg_ctl.arg("-D").arg(self.control.directory.join("data")).args(arguments);
        // What the server inherits must not be a pipe that somebody reads to its end.
        let status = pg_ctl.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("pg_ctl can be run");
        assert!(status.success(), "pg_ctl {arguments:?} failed");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.input.take());
        self.holder.wait().ok();
    }
}

impl Control {
    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
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

fn succeed(mut command: Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} can't be run: {error}"));
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
