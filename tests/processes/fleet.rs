//! The servers as their clients see them together: asking one or any, and what the answers can mean.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::process::{Home, PATIENCE, Serving};

pub(super) const SERVERS: usize = 3;
/// The server that is killed; another one purges, so that nobody waits for the lease of the dead.
pub(super) const KILLED: usize = 2;
pub(super) const USERS: [&str; 3] = ["alice", "bob", "carol"];

/// The servers and what all clients know.
pub(super) struct Fleet {
    pub(super) home: Home,
    /// Where each server listens just now.
    pub(super) ports: [AtomicU16; SERVERS],
    /// Requests without an answer.
    pub(super) unanswered: AtomicU32,
    http: reqwest::Client,
    /// Each revoke-all that was asked for, by user.
    pub(super) endings: [Mutex<Vec<Ending>>; USERS.len()],
}

/// A revoke-all that was asked for.
pub(super) struct Ending {
    /// The session that it keeps.
    keep: Option<String>,
    begun: Instant,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It may have been done, or still be.
    Open,
    Done(Instant),
    /// It had no answer, and was done before then or not at all.
    Perhaps(Instant),
    Refused,
}

/// What a client can know of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Live,
    Dead,
    /// It depends on which of two requests came first.
    Open,
}

/// A session, and when the log-in that began it was asked for and answered.
#[derive(Debug, Clone)]
pub(super) struct Begun {
    pub(super) sid: String,
    pub(super) asked: Instant,
    pub(super) answered: Instant,
}

/// An answer's status, body and link to the next page.
pub(super) type Answer = (u16, Value, Option<String>);

impl Fleet {
    pub(super) fn new(home: Home, servers: &[Serving]) -> Self {
        // Idle connections go before the servers close them. No proxy of the environment: it would be asked too.
        let http = reqwest::Client::builder().no_proxy().pool_idle_timeout(Duration::from_secs(2)).timeout(PATIENCE);
        let ports = std::array::from_fn(|index| servers[index].port().into());
        Self { home, ports, unanswered: 0.into(), http: http.build().unwrap(), endings: Default::default() }
    }

    /// Asks one server. `None` where it is killed before it answers, or says that it can't ask its database: then
    /// nobody knows whether it did what it was asked to.
    pub(super) async fn ask(
        &self,
        server: usize,
        (method, path): (&Method, &str),
        token: &str,
        body: Option<&Value>,
    ) -> Option<Answer> {
        let port = self.ports[server].load(Ordering::Acquire);
        let request = self.http.request(method.clone(), format!("http://127.0.0.1:{port}{path}")).bearer_auth(token);
        let request = if let Some(body) = body { request.json(body) } else { request };
        let answer = async {
            let response = request.send().await?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            Ok::<_, reqwest::Error>((status, headers, response.bytes().await?))
        };
        match answer.await {
            Ok((503, headers, _)) => assert!(headers.contains_key("Retry-After"), "{headers:?}"),
            Ok((status, headers, body)) => {
                assert!(status < 500, "{status} {body:?} from {server} for {method} {path}");
                let next = headers.get("Link").and_then(|link| link.to_str().unwrap().split(['<', '>']).nth(1));
                return Some((status, serde_json::from_slice(&body).unwrap_or_default(), next.map(str::to_owned)));
            }
            Err(error) => assert_eq!(server, KILLED, "{error:?} for {method} {path}"),
        }
        self.unanswered.fetch_add(1, Ordering::AcqRel);
        tokio::time::sleep(Duration::from_millis(20)).await;
        None
    }

    /// Asks one server after the other until one answers.
    pub(super) async fn ask_any(
        &self,
        first: usize,
        request: (&Method, &str),
        token: &str,
        body: Option<&Value>,
    ) -> Answer {
        let began = Instant::now();
        let mut server = first;
        loop {
            if let Some(answer) = self.ask(server, request, token, body).await {
                return answer;
            }
            assert!(began.elapsed() < PATIENCE, "nobody answers {request:?}");
            server = (server + 1) % SERVERS;
        }
    }

    /// The answer to a log-in.
    pub(super) async fn log_in(&self, first: usize, username: &str, password: &str) -> (u16, Value) {
        let body = json!({ "username": username, "password": password });
        let (status, answer, _) = self.ask_any(first, (&Method::POST, "/login"), "", Some(&body)).await;
        (status, answer)
    }

    /// All entries of a list, page by page.
    pub(super) async fn pages(&self, first: &str, token: &str) -> Vec<Value> {
        let (mut entries, mut path) = (Vec::new(), Some(first.to_owned()));
        while let Some(page) = path {
            let (status, body, next) = self.ask_any(0, (&Method::GET, &page), token, None).await;
            assert_eq!(status, 200, "{body}");
            entries.extend(body.as_array().unwrap().iter().cloned());
            path = next;
        }
        entries
    }

    /// Every server gives this status for the token.
    pub(super) async fn expect(&self, token: &str, expected: u16) {
        for server in 0..SERVERS {
            let answer = self.ask(server, (&Method::GET, "/auth/check"), token, None).await;
            assert!(answer.as_ref().is_none_or(|(status, ..)| *status == expected), "{server}: {answer:?}");
        }
    }

    /// What the command line says; it must succeed.
    pub(super) fn command(&self, args: &[&str]) -> Value {
        tokio::task::block_in_place(|| self.home.run(&[args, &["--json"]].concat()).ok().json())
    }

    pub(super) fn begin_ending(&self, user: usize, keep: Option<&str>) -> usize {
        let mut endings = self.endings[user].lock().unwrap();
        endings.push(Ending { keep: keep.map(str::to_owned), begun: Instant::now(), outcome: Outcome::Open });
        endings.len() - 1
    }

    /// Notes how it came out, with the tries for the same session that had no answer, and gives its beginning.
    pub(super) fn settle_ending(&self, user: usize, index: usize, is_done: bool) -> Instant {
        let (mut endings, now) = (self.endings[user].lock().unwrap(), Instant::now());
        endings[index].outcome = if is_done { Outcome::Done(now) } else { Outcome::Refused };
        if let Some(kept) = endings[index].keep.clone() {
            let tries = endings.iter_mut().filter(|ending| ending.keep.as_ref() == Some(&kept));
            tries
                .filter(|ending| ending.outcome == Outcome::Open)
                .for_each(|ending| ending.outcome = Outcome::Perhaps(now));
        }
        endings[index].begun
    }

    /// What the revoke-alls of a user have made of a session, as a request sees it that was sent at `sent` and has been
    /// answered.
    pub(super) fn verdict(&self, user: usize, session: &Begun, sent: Instant) -> Verdict {
        let endings = self.endings[user].lock().unwrap();
        let mut verdict = Verdict::Live;
        for ending in endings.iter().filter(|ending| ending.keep.as_ref() != Some(&session.sid)) {
            match ending.outcome {
                Outcome::Done(at) if ending.begun > session.answered && at < sent => return Verdict::Dead,
                Outcome::Done(at) | Outcome::Perhaps(at) if at < session.asked => {}
                Outcome::Refused => {}
                Outcome::Done(_) | Outcome::Perhaps(_) | Outcome::Open => verdict = Verdict::Open,
            }
        }
        verdict
    }
}
