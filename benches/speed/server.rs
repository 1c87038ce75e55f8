//! Server processes: the real server, and the applications of `apps` in this very binary, built as the server is.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Outcome;
use crate::process;
use crate::setup::Setup;

const COUNTERFOIL: &str = env!("CARGO_BIN_EXE_counterfoil");

/// How long a server may take to answer at first.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often a server that starts is asked whether it is ready: often, since that is measured too.
const START_PAUSE: Duration = Duration::from_millis(1);

/// A server on a port of 127.0.0.1. Dropping it ends it at once.
pub(crate) struct Server {
    pub(crate) port: u16,
    process: Child,
    /// From its start until it was ready.
    pub(crate) took: Duration,
}

impl Server {
    /// The real server. It logs as it does in production, to nowhere.
    pub(crate) fn counterfoil(setup: &Setup) -> Outcome<Self> {
        let mut command = Command::new(COUNTERFOIL);
        command.arg("serve");
        Self::start(command, Some(setup), "/readyz")
    }

    /// An application of this binary with the library in it.
    pub(crate) fn app(name: &str, setup: &Setup) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(name);
        Self::start(command, Some(setup), "/up")
    }

    /// Rocket with routes that look at nothing; `issued` is what it answers where a token is asked for.
    pub(crate) fn bare(issued: &str) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bare", issued]);
        Self::start(command, None, "/protected")
    }

    fn start(mut command: Command, setup: Option<&Setup>, path: &str) -> Outcome<Self> {
        // Free a moment ago; whatever else might take it meanwhile makes the start fail, not the figures wrong.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        match setup {
            Some(setup) => command.envs(setup.environment(port)),
            None => command.env("ROCKET_PORT", port.to_string()),
        };
        let began = Instant::now();
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn()?;
        let mut server = Self { port, process, took: Duration::ZERO };
        while !answers_200(port, path) {
            if let Some(status) = server.process.try_wait()? {
                return Err(format!("a server ended at once: {status}").into());
            }
            if began.elapsed() > START_LIMIT {
                return Err(format!("no server came up on port {port}").into());
            }
            std::thread::sleep(START_PAUSE);
        }
        server.took = began.elapsed();
        Ok(server)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn cpu_micros(&self) -> u64 {
        process::cpu_micros(self.process.id())
    }

    pub(crate) fn resident_bytes(&self) -> Outcome<u64> {
        process::resident_bytes(self.process.id())
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) fn stop(mut self) -> Outcome<()> {
        let told = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status()?;
        if !told.success() || !self.process.wait()?.success() {
            return Err("a server did not stop in an orderly way".into());
        }
        Ok(())
    }

    /// Ends it at once, without a chance to say good-bye (SIGKILL).
    pub(crate) fn kill(mut self) -> Outcome<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A client's id and secret, as HTTP Basic has them, and the value of that header.
pub(crate) fn add_client(setup: &Setup, options: &[&str]) -> Outcome<String> {
    let output = Command::new(COUNTERFOIL)
        .args(["client", "add", "bench", "--json"])
        .args(options)
        .envs(setup.environment(0))
        .stderr(Stdio::inherit())
        .output()?;
    let client: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let text = |name: &str| client[name].as_str().ok_or("the client is not added");
    Ok(format!("Basic {}", STANDARD.encode(format!("{}:{}", text("client_id")?, text("client_secret")?))))
}

/// Asks once, by hand: a client would take longer to set up than a server that is there takes to answer.
fn answers_200(port: u16, path: &str) -> bool {
    let asked = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status.ends_with(b"200"))
    };
    asked().unwrap_or(false)
}
