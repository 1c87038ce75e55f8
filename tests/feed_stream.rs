//! The feed of revocations as a stream: it resumes, beats, and ends where it must.

use std::time::{Duration, Instant};

use counterfoil::Actor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::feed::{Stream, limited_service, place, service};
use crate::support::forge::{jti_of, sid_of};
use crate::support::server::until;
use crate::support::{Server, on_both};

/// How many events make a log of some ten megabytes.
const LONG_LOG: usize = 40_000;

fn application() -> Actor {
    Actor::application("test")
}

async fn revoke(server: &Server, token: &str) {
    server.registry.revoke(jti_of(token).parse().unwrap(), application()).await.unwrap();
}

async fn metric(server: &Server, start: &str) -> String {
    let text = server.registry.metrics_text().await.unwrap();
    text.lines().find_map(|line| line.strip_prefix(start)).expect("it is there").to_owned()
}

on_both! {
    async fn events_come_as_they_happen_and_again_from_where_one_was(server: Server) {
        let service = service(&server).await;
        let pair = server.issue("alice", "").await;
        let start = place(&server, &service).await;
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(Stream::open(&server, &service, None).await);
            let (id, event) = streams.last_mut().unwrap().block().await.unwrap();
            assert_eq!((id, event), (start, None));
        }
        revoke(&server, &pair.access).await;
        server.registry.end_session(sid_of(&pair.access).parse().unwrap(), application()).await.unwrap();
        for stream in &mut streams {
            assert_eq!(stream.event().await["jti"], jti_of(&pair.access).as_str());
            assert_eq!(stream.event().await["sid"], sid_of(&pair.access).as_str());
        }
        let mut again = Stream::open(&server, &service, Some(start)).await;
        let first = again.event().await;
        assert_eq!(first["jti"], jti_of(&pair.access).as_str());
        let mut second = Stream::open(&server, &service, first["seq"].as_i64()).await;
        assert_eq!(second.event().await["sid"], sid_of(&pair.access).as_str());
        // What another process does is told too.
        let other = server.issue("bob", "").await;
        server.command_ok(&["token", "revoke", &jti_of(&other.access)], "");
        assert_eq!(second.event().await["jti"], jti_of(&other.access).as_str());
    }

    async fn reading_old_events_again_makes_nothing_be_forgotten(server: Server) {
        let service = service(&server).await;
        let pair = server.login().await;
        let start = place(&server, &service).await;
        until("there is a lease", async || metric(&server, "counterfoil_leased ").await == "1").await;
        revoke(&server, &pair.access).await;
        server.registry.unrevoke(jti_of(&pair.access).parse().unwrap(), application()).await.unwrap();
        until("it is not behind", async || metric(&server, "counterfoil_changes_behind ").await == "0").await;
        let check = async || server.get("/protected").bearer(&pair.access).send().await.ok(200);
        check().await;
        let mut stream = Stream::open(&server, &service, Some(start)).await;
        for _ in 0..2 {
            assert_eq!(stream.event().await["jti"], jti_of(&pair.access).as_str());
        }
        let asked = r#"counterfoil_check_answers_total{from="database"} "#;
        let before = metric(&server, asked).await;
        check().await;
        assert_eq!(metric(&server, asked).await, before);
    }

    async fn a_strict_server_tells_too(database: Database) {
        let server = Server::start(database, |settings| settings.set("consistency", "strict")).await;
        let service = service(&server).await;
        let mut stream = Stream::open(&server, &service, None).await;
        for _ in 0..3 {
            let pair = server.issue("alice", "").await;
            revoke(&server, &pair.access).await;
            assert_eq!(stream.event().await["jti"], jti_of(&pair.access).as_str());
        }
        // Nobody follows, and then somebody does.
        drop(stream);
        let pair = server.issue("alice", "").await;
        let mut stream = Stream::open(&server, &service, None).await;
        stream.block().await.unwrap();
        revoke(&server, &pair.access).await;
        assert_eq!(stream.event().await["jti"], jti_of(&pair.access).as_str());
    }

    async fn a_limited_client_is_told_of_its_own_alone(server: Server) {
        let service = limited_service(&server, &["https://api.example"]).await;
        let mut stream = Stream::open(&server, &service, None).await;
        let foreign = server.issue("bob", "").await;
        let own = server.issue_with("alice", "", |grant| grant.audience(["https://api.example"]).unwrap()).await;
        revoke(&server, &foreign.access).await;
        revoke(&server, &own.access).await;
        assert_eq!(stream.event().await["jti"], jti_of(&own.access).as_str());
    }

    async fn it_beats_and_moves_on(database: Database) {
        let server = Server::start(database, |settings| settings.set("feed.heartbeat", "1s")).await;
        let service = limited_service(&server, &["https://api.example"]).await;
        let mut stream = Stream::open(&server, &service, None).await;
        let (start, _) = stream.block().await.unwrap();
        revoke(&server, &server.issue("bob", "").await.access).await;
        let began = Instant::now();
        // Nothing that it may see; its place moves all the same.
        while stream.block().await.unwrap() != (start + 1, None) {
            assert!(began.elapsed() < Duration::from_secs(20));
        }
    }

    async fn it_ends_with_its_token(database: Database) {
        let server = Server::start(database, |settings| settings.set("feed.heartbeat", "1s")).await;
        let caller = service(&server).await;
        let mut stream = Stream::open(&server, &caller, None).await;
        stream.block().await.unwrap();
        revoke(&server, &caller).await;
        // Not even of its own end it is told.
        assert!(stream.is_over().await.is_empty());

        let caller = service(&server).await;
        let mut stream = Stream::open(&server, &caller, None).await;
        server.advance(16 * 60);
        assert!(stream.is_over().await.is_empty());
        server.get("/revocations/stream").bearer(&caller).send().await.error(401, "token_expired");
    }

    async fn it_ends_with_what_its_client_may_do(database: Database) {
        let server = Server::start(database, |settings| settings.set("feed.heartbeat", "1s")).await;
        let changes: [(&str, &[&str]); 4] = [
            ("one", &["client", "disable", "one"]),
            ("two", &["client", "set", "two", "--scope", "tokens:issue"]),
            ("three", &["client", "set", "three", "--serves", "https://api.example"]),
            ("four", &["client", "delete", "four"]),
        ];
        for (name, change) in changes {
            // By its secret: a token of its own would be taken back with it.
            let client = server.add_client(name, &["--scope", "tokens:introspect"]);
            let mut stream = Stream::of(server.get("/revocations/stream").basic(&client)).await;
            stream.block().await.unwrap();
            server.command_ok(change, "");
            revoke(&server, &server.issue("bob", "").await.access).await;
            assert!(stream.is_over().await.is_empty(), "{change:?}");
        }
    }

    async fn there_are_so_many_and_no_more(database: Database) {
        let server = Server::start(database, |settings| settings.set("feed.streams", 2)).await;
        let service = service(&server).await;
        let mut first = Stream::open(&server, &service, None).await;
        let _second = Stream::open(&server, &service, None).await;
        first.block().await.unwrap();
        server.get("/revocations/stream").bearer(&service).send().await.error(503, "registry_unavailable");
        server.get("/revocations").bearer(&service).send().await.ok(200);
        drop(first);
        // It is noticed when something is sent.
        until("the place is given back", async || {
            revoke(&server, &server.issue("bob", "").await.access).await;
            server.get("/revocations/stream?after=0").bearer(&service).open().await.status() == 200
        })
        .await;
    }

    async fn who_takes_nothing_is_dropped_without_harm(database: Database) {
        let server =
            Server::start(database, |settings| settings.set("feed.streams", 1).set("feed.heartbeat", "1s")).await;
        let service = service(&server).await;
        let pair = server.issue("alice", "").await;
        let start = place(&server, &service).await;
        // Far more than lies between two ends of a connection.
        server.sql(&format!(
            "insert into cf_changes (seq, change, kind, target, at, action, expires_at)
            with recursive n (i) as (select 1 union all select i + 1 from n where i < {LONG_LOG})
            select seq + i, change, 'subject', '{}', {}, 'revoked', {} from n, cf_position",
            "b".repeat(200), server.now(), server.now() + 900,
        )).await;
        server.sql(&format!("update cf_position set seq = seq + {LONG_LOG}")).await;

        let mut idle = TcpStream::connect(server.url().trim_start_matches("http://")).await.unwrap();
        let request = format!(
            "GET /revocations/stream?after={start} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
             Authorization: Bearer {service}\r\n\r\n"
        );
        idle.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        idle.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        server.get("/revocations/stream").bearer(&service).send().await.error(503, "registry_unavailable");
        // Nobody else waits for it.
        server.accepts(&pair.access).await;
        revoke(&server, &pair.access).await;
        server.refuses(&pair.access, "token_revoked").await;
        let is_let_in = async || server.get("/revocations/stream").bearer(&service).open().await.status() == 200;
        until("the place is given back", is_let_in).await;

        // What was under way it may still take, and that is all.
        let mut taken = Vec::new();
        tokio::time::timeout(Duration::from_secs(30), idle.read_to_end(&mut taken)).await.unwrap().unwrap();
        let taken = String::from_utf8(taken).unwrap();
        let events = taken.matches("data:").count();
        assert!(0 < events && events < LONG_LOG, "{events}");
    }

    async fn another_history_ends_it(server: Server) {
        let service = service(&server).await;
        let mut stream = Stream::open(&server, &service, None).await;
        let (start, _) = stream.block().await.unwrap();
        server.sql("delete from cf_changes").await;
        server.sql("update cf_position set seq = seq + 5").await;
        assert!(stream.is_over().await.is_empty());
        let resume = server.get("/revocations/stream").bearer(&service).header("Last-Event-ID", &start.to_string());
        resume.send().await.error(410, "gone");
    }

    async fn it_ends_at_once_when_the_server_stops(server: Server) {
        let service = service(&server).await;
        let mut stream = Stream::open(&server, &service, None).await;
        stream.block().await.unwrap();
        let began = Instant::now();
        drop(server);
        assert!(stream.is_over().await.is_empty());
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
}
