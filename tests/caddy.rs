//! The documented configuration of Caddy, run for real.

use std::io::Read;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::proxy::application;
use crate::support::foreign::Running;
use crate::support::process::{Home, PATIENCE, ask, free_port, send};

const CONFIGURATION: &str = include_str!("../docs/proxy/Caddyfile");

struct Caddy {
    port: u16,
    _running: Running,
    _dir: TempDir,
}

impl Caddy {
    #[track_caller]
    fn start(server: u16, app: u16) -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        // Names, ports and TLS are the reader's own; all else is as documented, with bounds that the test can wait for.
        let mut text = CONFIGURATION.to_owned();
        for (documented, here) in [
            ("\tservers {", "\tadmin off\n\tauto_https off\n\tdefault_bind 127.0.0.1\n\tservers {".to_owned()),
            ("read_header 10s", "read_header 1s".to_owned()),
            ("idle 30s", "idle 1s".to_owned()),
            ("auth.example.com {", format!("http://auth.example.com:{port} {{")),
            ("app.example.com {", format!("http://app.example.com:{port} {{")),
            ("127.0.0.1:8000", format!("127.0.0.1:{server}")),
            ("127.0.0.1:9000", format!("127.0.0.1:{app}")),
        ] {
            assert!(text.contains(documented), "{documented} is not in docs/proxy/Caddyfile");
            text = text.replace(documented, &here);
        }
        let file = dir.path().join("Caddyfile");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file).env_clear();
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", dir.path());
        // It says what it does; the tests read what it answers.
        command.stderr(std::process::Stdio::null());
        Self { port, _running: Running::listening(command, port), _dir: dir }
    }
}

#[test]
fn an_application_behind_caddy_is_told_who_asks_and_believes_nobody_else() {
    let home = Home::sqlite().migrated();
    let issued = home.run(&["token", "issue", "--subject", "alice", "--json"]).ok().json();
    let authorization = format!("Authorization: Bearer {}\r\n", issued["access_token"].as_str().unwrap());
    let mut server = home.serve();
    let (app, asked) = application();
    let caddy = Caddy::start(server.port(), app);
    let forged =
        "X-Auth-Subject: root\r\nX-Auth-Scope: registry:admin\r\nx_auth_subject: root\r\nX-AUTH_SUBJECT: root\r\n";

    let refused = ask(caddy.port, "app.example.com", "/", forged);
    assert!(
        refused.starts_with("HTTP/1.1 401") && refused.to_lowercase().contains("www-authenticate: bearer"),
        "{refused}"
    );
    assert!(asked.lock().unwrap().is_empty());

    let answer = ask(caddy.port, "app.example.com", "/", &format!("{authorization}{forged}"));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("welcome"), "{answer}");
    {
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 1);
        assert!(asked[0].contains("x-auth-subject: alice\r\n"), "{asked:?}");
        assert!(!asked[0].contains("root") && !asked[0].contains("registry:admin"), "{asked:?}");
    }

    let jti = issued["records"][0]["token"]["jti"].as_str().unwrap();
    home.run(&["token", "revoke", jti]).ok();
    assert!(ask(caddy.port, "app.example.com", "/", &authorization).starts_with("HTTP/1.1 401"));

    // Where nobody can be asked nobody passes.
    server.signal("KILL");
    server.wait();
    assert!(ask(caddy.port, "app.example.com", "/", &authorization).starts_with("HTTP/1.1 502"));
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[test]
fn the_server_behind_caddy_learns_the_callers_address_and_slow_connections_end() {
    let home = Home::sqlite().env("ROCKET_IP_HEADER", "X-Real-IP").migrated();
    home.add_user("alice");
    let server = home.serve();
    let caddy = Caddy::start(server.port(), 1);
    for path in ["/metrics", "/openapi.json", "/docs", "/docs/", "/docs/index.html", "/metrics/"] {
        let answer = ask(caddy.port, "auth.example.com", path, "");
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }

    let body = r#"{"username":"alice","password":"alice password"}"#;
    let length = format!("Content-Length: {}\r\n", body.len());
    let headers =
        format!("X-Real-IP: 203.0.113.9\r\nX-Forwarded-For: 203.0.113.9\r\nContent-Type: application/json\r\n{length}");
    let answer = send(caddy.port, "POST", "auth.example.com", "/login", &headers, body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(home.run(&["token", "list", "--json"]).ok().json()[0]["ip"], "127.0.0.1");

    let mut silent = TcpStream::connect(("127.0.0.1", caddy.port)).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    let began = Instant::now();
    let _ = silent.read_to_end(&mut Vec::new());
    let took = began.elapsed();
    assert!(Duration::from_millis(500) <= took && took < Duration::from_secs(5), "{took:?}");
}
