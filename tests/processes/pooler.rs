//! PgBouncer in transaction mode: connections to it share fewer connections to the database, and each transaction may
//! be on another one.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::foreign::Running;
use crate::support::process::free_port;

const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// What the documentation asks for.
const ASKED: [&str; 2] = ["max_prepared_statements = 200", "ignore_startup_parameters = extra_float_digits"];

/// Fewer connections than three servers would have.
const CONFIGURATION: &str = "\
[databases]
* = host=127.0.0.1 port=POSTGRES user=counterfoil
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = PORT
unix_socket_dir =
auth_type = any
pool_mode = transaction
ASKED
default_pool_size = 8
";

pub(super) struct Pooler {
    _running: Running,
    _dir: TempDir,
    url: String,
}

impl Pooler {
    /// Starts one before the database of this URL.
    #[track_caller]
    pub(super) fn start(database: &str) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/pgbouncer/pgbouncer");
        assert!(
            program.exists(),
            "{} is not there: `scripts/pgbouncer` makes it, as `scripts/test` does",
            program.display()
        );
        let dir = tempfile::tempdir().unwrap();
        let (before, name) = database.rsplit_once('/').unwrap();
        let (user, postgres) = before.rsplit_once(':').unwrap();
        let port = free_port();
        let file = dir.path().join("pgbouncer.ini");
        assert!(ASKED.iter().all(|line| OPERATIONS.contains(line)), "docs/operations.md asks for something else");
        let text = CONFIGURATION.replace("POSTGRES", postgres).replace("PORT", &port.to_string());
        let text = text.replace("ASKED", &ASKED.join("\n"));
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(program);
        command.arg("-q").arg(&file);
        // It does not serve as root.
        if dir.path().metadata().unwrap().uid() == 0 {
            command.args(["-u", "nobody"]);
        }
        Self { _running: Running::listening(command, port), _dir: dir, url: format!("{user}:{port}/{name}") }
    }

    /// The URL of the same database through it.
    pub(super) fn url(&self) -> &str {
        &self.url
    }
}
