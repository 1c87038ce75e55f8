//! The documented reverse proxy, run for real: it bounds what the server's HTTP library leaves open, and passes nobody
//! off as somebody else.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::process::{Home, PATIENCE, ask, free_port, send};

const CONFIGURATION: &str = include_str!("../docs/proxy/nginx.conf");

/// The documented bounds, and those that the test can wait for.
const HEAD_TIMEOUT: (&str, &str) = ("client_header_timeout 10s;", "client_header_timeout 1s;");
const IDLE_TIMEOUT: (&str, &str) = ("keepalive_timeout 30s;", "keepalive_timeout 1s;");

/// Debian's nginx with the documented configuration.
struct Proxy {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Proxy {
    #[track_caller]
    fn start(server: u16, app: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let place = dir.path().display();
        let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {place}/{name};"))
            .join(" ");
        // Certificates, ports and places are the reader's own; all else is as documented.
        let mut text: String =
            CONFIGURATION.lines().filter(|line| !line.trim().starts_with("ssl_")).collect::<Vec<_>>().join("\n");
        for (documented, here) in [
            HEAD_TIMEOUT,
            IDLE_TIMEOUT,
            ("listen 80;", "listen unix:PLACE/plain.sock;"),
            ("listen 443 ssl;", "listen 127.0.0.1:PORT;"),
            ("server 127.0.0.1:8000;", "server 127.0.0.1:SERVER;"),
            ("proxy_pass http://127.0.0.1:9000;", "proxy_pass http://127.0.0.1:APP;"),
            ("error_log /var/log/nginx/error.log", "error_log PLACE/error.log"),
            ("access_log /var/log/nginx/access.log", "access_log PLACE/access.log"),
            ("http {", "http { TEMP"),
        ] {
            assert!(text.contains(documented), "{documented} is not in docs/proxy/nginx.conf");
            text = text.replace(documented, here);
        }
        for (name, value) in [
            ("PLACE", place.to_string()),
            ("PORT", port.to_string()),
            ("SERVER", server.to_string()),
            ("APP", app.to_string()),
            ("TEMP", temp),
        ] {
            text = text.replace(name, &value);
        }
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, text).unwrap();
        let globals = format!("daemon off; master_process off; pid {place}/nginx.pid;");
        let child = Command::new("nginx")
            .args(["-p", &place.to_string(), "-g", &globals, "-c"])
            .arg(&file)
            .env("PATH", "/usr/sbin:/usr/local/sbin:/usr/bin:/bin")
            .stderr(Stdio::inherit())
            .spawn()
            .expect("this test needs nginx: `scripts/test` installs it, or `apt-get install nginx`");
        let mut proxy = Self { child, port, _dir: dir };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let gone = proxy.child.try_wait().unwrap();
            assert!(gone.is_none() && began.elapsed() < PATIENCE, "nginx does not start: {gone:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        proxy
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn ask(&self, host: &str, path: &str, headers: &str) -> String {
        ask(self.port, host, path, headers)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An application behind the check, which remembers what it was asked.
pub(crate) fn application() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let remember = asked.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                head.push(byte[0]);
            }
            remember.lock().unwrap().push(String::from_utf8_lossy(&head).to_lowercase());
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nwelcome");
        }
    });
    (port, asked)
}

/// How long the other side takes to close a connection.
fn closed_after(mut stream: TcpStream) -> Duration {
    let began = Instant::now();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the connection is closed in time");
    began.elapsed()
}

#[test]
fn a_half_sent_head_and_an_idle_connection_are_closed() {
    let home = Home::sqlite();
    let server = home.serve();
    let proxy = Proxy::start(server.port(), 1);
    let bound = Duration::from_secs(5);

    let mut half = proxy.connect();
    half.write_all(b"GET /livez HTTP/1.1\r\nHost: auth.example.com\r\nX-Half: ").unwrap();
    assert!(closed_after(half) < bound);

    let mut idle = proxy.connect();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: auth.example.com\r\n\r\n").unwrap();
    let mut answer = [0; 15];
    idle.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    assert!(closed_after(idle) < bound);

    assert!(closed_after(proxy.connect()) < bound);
}

#[test]
fn the_server_learns_the_callers_address_from_the_proxy_alone() {
    let home = Home::sqlite().set("IP_HEADER", "X-Real-IP").migrated();
    home.add_user("alice");
    let server = home.serve();
    let proxy = Proxy::start(server.port(), 1);

    let body = r#"{"username":"alice","password":"alice password"}"#;
    let headers = format!(
        "X-Real-IP: 203.0.113.9\r\nX-Forwarded-For: 203.0.113.9\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    let answer = send(proxy.port, "POST", "auth.example.com", "/login", &headers, body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let records = home.run(&["token", "list", "--json"]).ok().json();
    assert_eq!(records[0]["ip"], "127.0.0.1");

    for path in ["/metrics", "/openapi.json", "/docs", "/docs/", "/docs/index.html", "/metrics/"] {
        let answer = proxy.ask("auth.example.com", path, "");
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
    let large = format!("X-Large: {}\r\n", "a".repeat(9_000));
    assert!(proxy.ask("auth.example.com", "/livez", &large).starts_with("HTTP/1.1 200"));
}

#[test]
fn an_application_behind_the_check_is_told_who_asks_and_believes_nobody_else() {
    let home = Home::sqlite().migrated();
    let issued = home.run(&["token", "issue", "--subject", "alice", "--scope", "notes:read", "--json"]).ok().json();
    let authorization = format!("Authorization: Bearer {}\r\n", issued["access_token"].as_str().unwrap());
    let server = home.serve();
    let (app, asked) = application();
    let proxy = Proxy::start(server.port(), app);
    let forged = "X-Auth-Subject: root\r\nX-Auth-Scope: registry:admin\r\n";

    let refused = proxy.ask("app.example.com", "/", forged);
    assert!(refused.starts_with("HTTP/1.1 401") && refused.contains("WWW-Authenticate: Bearer"), "{refused}");
    assert!(asked.lock().unwrap().is_empty());

    let answer = proxy.ask("app.example.com", "/", &format!("{authorization}{forged}"));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("welcome"), "{answer}");
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 1);
    assert!(
        asked[0].contains("x-auth-subject: alice\r\n") && asked[0].contains("x-auth-scope: notes:read\r\n"),
        "{asked:?}"
    );
    assert!(!asked[0].contains("root") && !asked[0].contains("registry:admin"), "{asked:?}");

    let jti = issued["records"][0]["token"]["jti"].as_str().unwrap();
    home.run(&["token", "revoke", jti]).ok();
    assert!(proxy.ask("app.example.com", "/", &authorization).starts_with("HTTP/1.1 401"));
}
