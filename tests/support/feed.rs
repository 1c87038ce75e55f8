//! A service that hears of revocations.

use std::time::Instant;

use serde_json::{Value, json};

use super::process::PATIENCE;
use super::{Call, Server};

/// An access token of a client that may read the feed.
pub(crate) async fn service(server: &Server) -> String {
    let client = server.add_client(&format!("gateway-{}", uuid::Uuid::new_v4()), &["--scope", "tokens:introspect"]);
    server.client_token(&client).await
}

/// The same, of a client that is limited to these audiences.
pub(crate) async fn limited_service(server: &Server, serves: &[&str]) -> String {
    let name = format!("gateway-{}", uuid::Uuid::new_v4());
    let serves: Vec<&str> = serves.iter().flat_map(|audience| ["--serves", audience]).collect();
    let client = server.add_client(&name, &[&["--scope", "tokens:introspect"], &serves[..]].concat());
    server.client_token(&client).await
}

/// Where the feed stands.
pub(crate) async fn place(server: &Server, service: &str) -> i64 {
    let page = server.get("/revocations").bearer(service).send().await.ok(200);
    assert_eq!(page["events"], json!([]));
    page["next"].as_i64().expect("a number")
}

/// All events after a number, a few at a time.
pub(crate) async fn events(server: &Server, service: &str, after: i64) -> Vec<Value> {
    let (mut all, mut next) = (Vec::new(), after);
    loop {
        let page = server.get(&format!("/revocations?after={next}&limit=2")).bearer(service).send().await.ok(200);
        let events = page["events"].as_array().expect("a list");
        let last = page["next"].as_i64().expect("a number");
        for event in events {
            let seq = event["seq"].as_i64().expect("a number");
            assert!(next < seq && seq <= last, "{page}");
            next = seq;
        }
        next = last;
        all.extend(events.iter().cloned());
        if events.is_empty() {
            return all;
        }
    }
}

/// A stream of events under way.
pub(crate) struct Stream {
    response: reqwest::Response,
    text: String,
}

impl Stream {
    pub(crate) async fn open(server: &Server, service: &str, last: Option<i64>) -> Self {
        let call = server.get("/revocations/stream").bearer(service);
        let call = match last {
            Some(last) => call.header("Last-Event-ID", &last.to_string()),
            None => call,
        };
        Self::of(call).await
    }

    pub(crate) async fn of(call: Call) -> Self {
        let response = call.open().await;
        assert_eq!(response.status().as_u16(), 200);
        assert!(response.headers()["Content-Type"].to_str().expect("ASCII").starts_with("text/event-stream"));
        assert_eq!(response.headers()["Cache-Control"], "no-store");
        // Or nginx keeps events back.
        assert_eq!(response.headers()["X-Accel-Buffering"], "no");
        Self { response, text: String::new() }
    }

    /// The next block: an event, or `None` for a heartbeat, each with its id. `None` where the stream is over.
    pub(crate) async fn block(&mut self) -> Option<(i64, Option<Value>)> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let line = |start: &str| block.lines().find_map(|line| line.strip_prefix(start)).map(str::to_owned);
                let id = line("id:").expect("each block has an id").trim().parse().expect("a number");
                let data = line("data:").map(|data| serde_json::from_str(&data).expect("JSON"));
                self.text = rest.to_owned();
                return Some((id, data));
            }
            match tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("something comes") {
                Ok(Some(chunk)) => self.text.push_str(std::str::from_utf8(&chunk).expect("ASCII")),
                Ok(None) => return None,
                Err(error) => panic!("the stream breaks off: {error}"),
            }
        }
    }

    /// The next event.
    pub(crate) async fn event(&mut self) -> Value {
        loop {
            if let (id, Some(event)) = self.block().await.expect("the stream goes on") {
                assert_eq!(event["seq"], id);
                return event;
            }
        }
    }

    /// Reads until the stream is over, which must be soon.
    pub(crate) async fn is_over(&mut self) -> Vec<Value> {
        let (mut events, began) = (Vec::new(), Instant::now());
        while let Some((_, event)) = self.block().await {
            assert!(began.elapsed() < PATIENCE, "the stream goes on");
            events.extend(event);
        }
        events
    }
}
