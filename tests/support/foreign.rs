//! Programs in other languages, of what `scripts/interop` installs, and a server whose issuer is where it listens.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::process::{Home, PATIENCE, Serving, free_port};
use super::{ClientSecret, Database};

/// A server that can be discovered.
pub(crate) struct Place {
    pub(crate) home: Home,
    pub(crate) server: Serving,
    pub(crate) issuer: String,
}

impl Place {
    #[track_caller]
    pub(crate) fn start(database: Database, algorithm: &str) -> Self {
        let url = match database {
            Database::Sqlite => None,
            Database::Postgres => Some(super::postgres::database()),
        };
        // Somebody else may have taken the port meanwhile.
        let mut why = String::new();
        for _ in 0..5 {
            let port = free_port();
            let issuer = format!("http://127.0.0.1:{port}");
            let home = Home::on(url.as_deref())
                .unset("KEYS__SECRET")
                .env("ROCKET_PORT", &port.to_string())
                .set("ISSUER", &issuer)
                .set("ALGORITHM", algorithm)
                .set("MASTER_KEY", &"4d".repeat(32))
                // A rotation need not be waited for.
                .set("JWKS_MAX_AGE", "0s")
                .set("REFRESH__GRACE", "0s");
            match home.try_serve_with(&[]) {
                Ok(server) => return Self { home, server, issuer },
                Err(failure) => why = failure,
            }
        }
        panic!("{why}");
    }

    #[track_caller]
    pub(crate) fn add_client(&self, options: &[&str]) -> ClientSecret {
        ClientSecret::of(&self.home.run(&[&["client", "add", "shop", "--json"], options].concat()).ok().json())
    }

    /// The access token and the refresh token of a subject.
    #[track_caller]
    pub(crate) fn issue(&self, options: &[&str]) -> (String, String) {
        let issue = [&["token", "issue", "--subject", "alice", "--json"], options].concat();
        let issued = self.home.run(&issue).ok().json();
        let text = |name: &str| issued[name].as_str().unwrap_or_else(|| panic!("{name} in {issued}")).to_owned();
        (text("access_token"), text("refresh_token"))
    }
}

fn installed(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/interop").join(name);
    assert!(path.exists(), "{} is not there: `scripts/interop` installs it, as `scripts/test` does", path.display());
    path
}

/// Nothing of the environment but where programs are; what is here is asked for without a proxy.
fn bare(program: PathBuf) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).current_dir(installed(""));
    command.env("NO_PROXY", "127.0.0.1,localhost").env("PYTHONDONTWRITEBYTECODE", "1");
    // Authlib speaks plain HTTP only if told to.
    command.env("AUTHLIB_INSECURE_TRANSPORT", "1");
    command
}

/// This text, run by Python.
pub(crate) fn python(text: &str) -> Command {
    let mut command = bare(installed("python/bin/python"));
    command.args(["-c", text]);
    command
}

/// This text, run by Node as a module.
pub(crate) fn node(text: &str) -> Command {
    installed("node_modules");
    let mut command = bare("node".into());
    // What Node 20 has anyway, Node 18 has when asked.
    command.args(["--experimental-global-webcrypto", "--no-warnings", "--input-type=module", "--eval", text]);
    command
}

/// Runs a program to its end, which must be good.
#[track_caller]
pub(crate) fn done(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.ends_with("done\n"),
        "{}\n{}",
        said,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A program that runs until it is dropped.
pub(crate) struct Running {
    child: Child,
    pipes: Option<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Running {
    /// One that answers lines with lines.
    pub(crate) fn lines(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let pipes = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, pipes: Some(pipes) }
    }

    /// One that listens at this port; this returns when it does.
    #[track_caller]
    pub(crate) fn listening(mut command: Command, port: u16) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let mut running = Self { child, pipes: None };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let gone = running.child.try_wait().unwrap();
            assert!(gone.is_none() && began.elapsed() < PATIENCE, "it does not start: {gone:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }

    /// What it says to this line.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        let (asks, answers) = self.pipes.as_mut().unwrap();
        writeln!(asks, "{line}").unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
