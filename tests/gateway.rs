//! The example of a gateway, run for real: it follows the feed and answers by itself.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use counterfoil::Actor;

use crate::feed::retire;
use crate::support::forge::{header_of, jti_of, sid_of};
use crate::support::{Server, on_both};

const PATIENCE: Duration = Duration::from_secs(20);

struct Gateway {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Gateway {
    fn start(server: &Server) -> Self {
        let client = server.add_client("gateway", &["--scope", "tokens:introspect"]);
        let mut child = Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/gateway.py"))
            .env("COUNTERFOIL", server.url())
            .env("CLIENT_ID", client.id)
            .env("CLIENT_SECRET", client.secret)
            .env("no_proxy", "127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (asks, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        // Until it follows.
        let mut said = String::new();
        let mut says = BufReader::new(child.stderr.take().unwrap());
        while !said.contains("follows the feed") {
            assert!(says.read_line(&mut said).unwrap() > 0, "it ends: {said}");
        }
        std::thread::spawn(move || std::io::copy(&mut says, &mut std::io::sink()));
        Self { child, asks, answers }
    }

    fn accepts(&mut self, token: &str) -> bool {
        writeln!(self.asks, "{token}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        match answer.trim() {
            "accept" => true,
            "refuse" => false,
            other => panic!("{other:?}"),
        }
    }

    /// It comes to this answer.
    #[track_caller]
    fn comes_to(&mut self, token: &str, accepts: bool) {
        let began = Instant::now();
        while self.accepts(token) != accepts {
            assert!(began.elapsed() < PATIENCE, "accepts: {}", !accepts);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

on_both! {
    async fn it_follows(database: Database) {
        let server = Server::start(database, |settings| settings.set("leeway", "1s")).await;
        let by = || Actor::application("test");
        let subject = |name: &str| name.parse().unwrap();
        let long = |grant: counterfoil::Grant| grant.access_expires(Duration::from_secs(7_200));
        let old = server.issue_with("alice", "", long).await;
        let gone = server.issue_with("alice", "", long).await;
        server.registry.revoke(jti_of(&gone.access).parse().unwrap(), by()).await.unwrap();
        // What is issued from now on is younger than the gateway.
        server.advance(3_600);
        let mut gateway = Gateway::start(&server);

        // From before it began: it asks.
        gateway.comes_to(&old.access, true);
        assert!(!gateway.accepts(&gone.access));
        let (first, second) = (server.issue("alice", "").await, server.issue("alice", "").await);
        gateway.comes_to(&first.access, true);

        server.registry.revoke(jti_of(&first.access).parse().unwrap(), by()).await.unwrap();
        gateway.comes_to(&first.access, false);
        server.registry.unrevoke(jti_of(&first.access).parse().unwrap(), by()).await.unwrap();
        gateway.comes_to(&first.access, true);
        server.registry.end_session(sid_of(&first.access).parse().unwrap(), by()).await.unwrap();
        gateway.comes_to(&first.access, false);
        assert!(gateway.accepts(&second.access));

        // All but one, then all.
        let other = server.issue("alice", "").await;
        server.registry.revoke_all(&subject("alice"), Some(sid_of(&other.access).parse().unwrap()), by()).await.unwrap();
        gateway.comes_to(&second.access, false);
        assert!(gateway.accepts(&other.access));
        assert!(!gateway.accepts(&old.access));
        server.registry.revoke_all(&subject("alice"), None, by()).await.unwrap();
        gateway.comes_to(&other.access, false);
        server.advance(1);
        let later = server.issue("alice", "").await;
        assert!(gateway.accepts(&later.access), "a session begun later is not meant");

        // A key, and another one.
        let (known, after) = (server.issue("bob", "").await, server.issue("bob", "").await);
        gateway.comes_to(&known.access, true);
        gateway.comes_to(&after.access, true);
        retire(&server, "another key").await;
        // What it hears of in order: having heard of this, it has heard of the key.
        server.registry.revoke(jti_of(&after.access).parse().unwrap(), by()).await.unwrap();
        gateway.comes_to(&after.access, false);
        assert!(gateway.accepts(&known.access));
        let kid = header_of(&known.access)["kid"].as_str().unwrap().to_owned();
        retire(&server, &kid).await;
        gateway.comes_to(&known.access, false);
    }

    async fn what_it_missed_it_asks_for(server: Server) {
        let mut gateway = Gateway::start(&server);
        let (lost, good) = (server.issue("alice", "").await, server.issue("alice", "").await);
        gateway.comes_to(&lost.access, true);
        gateway.comes_to(&good.access, true);
        server.sql("update cf_position set seq = seq + 5").await;
        server.sql("delete from cf_changes").await;
        server.registry.revoke(jti_of(&lost.access).parse().unwrap(), Actor::application("test")).await.unwrap();
        server.sql("delete from cf_changes").await;
        gateway.comes_to(&lost.access, false);
        gateway.comes_to(&good.access, true);
    }

    async fn it_answers_without_the_server(database: Database) {
        let server = Server::start(database, |settings| settings).await;
        server.advance(3_600);
        let mut gateway = Gateway::start(&server);
        let (good, bad) = (server.issue("alice", "").await, server.issue("alice", "").await);
        gateway.comes_to(&good.access, true);
        server.registry.revoke(jti_of(&bad.access).parse().unwrap(), Actor::application("test")).await.unwrap();
        gateway.comes_to(&bad.access, false);
        drop(server);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(gateway.accepts(&good.access));
        assert!(!gateway.accepts(&bad.access));
    }
}
