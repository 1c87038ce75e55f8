//! One who works with a user's tokens and holds every answer against what can be known.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};

use super::fleet::{Begun, Fleet, SERVERS, USERS, Verdict};
use super::{Change, Done};
use crate::support::forge::{claims_of, jti_of, sid_of};
use crate::support::random::Random;

/// A token that was handed out, and what its holder did to it.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) jti: String,
    token: String,
    is_refresh: bool,
    session: Begun,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Live,
    /// By its user, who can undo it.
    Revoked,
    /// By the command line, or with its session.
    Final,
}

/// One who works with a user's tokens, a step at a time, at any server.
pub(super) struct Client {
    fleet: Arc<Fleet>,
    user: usize,
    random: Random,
    /// The token it works with, which it does not revoke.
    caller: Option<Held>,
    pub(super) held: Vec<Held>,
    pub(super) done: Done,
}

impl Client {
    pub(super) fn new(fleet: &Arc<Fleet>, index: usize) -> Self {
        let random = Random::new(index as u64);
        let (fleet, user) = (fleet.clone(), index % USERS.len());
        Self { fleet, user, random, caller: None, held: Vec::new(), done: Done::default() }
    }

    pub(super) async fn work(mut self, deadline: Instant) -> Self {
        while Instant::now() < deadline {
            let Some(caller) = self.caller.clone() else {
                self.log_in().await;
                continue;
            };
            match self.below(40) {
                0..=4 => self.log_in().await,
                5..=19 => {
                    let (index, server) = (self.below(self.held.len()), self.below(SERVERS));
                    self.check(index, server..server + 1).await;
                }
                20..=25 => self.revoke(&caller).await,
                26..=29 => self.unrevoke(&caller).await,
                30..=32 => self.end_session(&caller).await,
                33..=37 => self.issue_personal(&caller).await,
                38 => self.end_all(&caller).await,
                _ => self.end_all_by_command().await,
            }
        }
        self
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.below(end)
    }

    /// One of those held that is not the caller's, nor known to have ended with all of the user's.
    fn pick(&mut self, caller: &Held, fates: &[Fate]) -> Option<Held> {
        let now = Instant::now();
        let fitting: Vec<Held> = self
            .held
            .iter()
            .filter(|held| held.session.sid != caller.session.sid && fates.contains(&held.fate))
            .filter(|held| self.fleet.verdict(self.user, &held.session, now) != Verdict::Dead)
            .cloned()
            .collect();
        if fitting.is_empty() { None } else { Some(fitting[self.below(fitting.len())].clone()) }
    }

    fn hold(&mut self, token: &Value, is_refresh: bool, session: Begun) {
        let token = token.as_str().unwrap().to_owned();
        self.held.push(Held { jti: jti_of(&token), token, is_refresh, session, fate: Fate::Live });
    }

    async fn log_in(&mut self) {
        let (asked, name, first) = (Instant::now(), USERS[self.user], self.below(SERVERS));
        let (status, body) = self.fleet.log_in(first, name, &format!("{name} password")).await;
        let answered = Instant::now();
        if status == 401 {
            // A revoke-all that came in between supersedes it.
            let nowhere = Begun { sid: String::new(), asked, answered };
            assert_eq!(self.fleet.verdict(self.user, &nowhere, answered), Verdict::Open, "{body}");
            return;
        }
        assert_eq!(status, 200, "{body}");
        let session = Begun { sid: sid_of(body["access_token"].as_str().unwrap()), asked, answered };
        self.hold(&body["refresh_token"], true, session.clone());
        self.hold(&body["access_token"], false, session);
        self.caller = self.held.last().cloned();
    }

    /// Presents a token to these servers: an access token to be checked, a refresh token to get another.
    async fn check(&mut self, index: usize, servers: Range<usize>) {
        let held = self.held[index].clone();
        let request = if held.is_refresh { (&Method::POST, "/refresh") } else { (&Method::GET, "/auth/check") };
        for server in servers {
            let sent = Instant::now();
            let Some((status, body, _)) = self.fleet.ask(server, request, &held.token, None).await else { continue };
            let verdict = match held.fate {
                Fate::Live => self.fleet.verdict(self.user, &held.session, sent),
                Fate::Revoked | Fate::Final => Verdict::Dead,
            };
            let fits = match status {
                200 | 204 => verdict != Verdict::Dead,
                _ => status == 401 && verdict != Verdict::Live && body["error"] == "token_revoked",
            };
            let claims = claims_of(&held.token);
            assert!(fits, "{status} {body} from {server} for one that is {verdict:?}, {:?}: {claims}", held.fate);
            if status == 200 {
                self.hold(&body["access_token"], false, held.session.clone());
            }
        }
    }

    /// Asks for a change with the caller's token. `None` where that is refused because of somebody else's revoke-all:
    /// then nobody knows what became of tries before that were not answered, and the target is not followed any more.
    async fn change(
        &mut self,
        caller: &Held,
        request: (&Method, &str),
        body: Option<&Value>,
        (action, target): (&'static str, &str),
    ) -> Option<(u16, Value)> {
        let (sent, first) = (Instant::now(), self.below(SERVERS));
        let (status, body, _) = self.fleet.ask_any(first, request, &caller.token, body).await;
        if status != 401 {
            return Some((status, body));
        }
        self.lose(caller, sent);
        self.held.retain(|held| held.jti != target && held.session.sid != target);
        self.done.changes.push(Change { action, target: target.to_owned(), is_certain: false });
        None
    }

    /// The caller's token was refused.
    fn lose(&mut self, caller: &Held, sent: Instant) {
        assert_ne!(self.fleet.verdict(self.user, &caller.session, sent), Verdict::Live, "{}", claims_of(&caller.token));
        self.caller = None;
    }

    /// A change was acknowledged: the audit has it, unless a revoke-all left nothing to change. Every server knows.
    async fn changed(&mut self, held: &Held, fate: Fate, sent: Instant, action: &'static str, target: &str) {
        let is_certain = self.fleet.verdict(self.user, &held.session, sent) == Verdict::Live;
        self.done.changes.push(Change { action, target: target.to_owned(), is_certain });
        for index in 0..self.held.len() {
            if self.held[index].jti == target || self.held[index].session.sid == target {
                self.held[index].fate = fate;
                self.check(index, 0..SERVERS).await;
            }
        }
    }

    async fn revoke(&mut self, caller: &Held) {
        let Some(held) = self.pick(caller, &[Fate::Live]) else { return };
        let (sent, action) = (Instant::now(), "token.revoked");
        if self.below(8) == 0 {
            self.fleet.command(&["token", "revoke", &held.jti]);
            return self.changed(&held, Fate::Final, sent, action, &held.jti).await;
        }
        let path = format!("/auth/tokens/revoke/{}", held.jti);
        let answer = self.change(caller, (&Method::PUT, &path), None, (action, &held.jti)).await;
        let Some((status, body)) = answer else { return };
        assert_eq!(status, 200, "{body}");
        self.changed(&held, Fate::Revoked, sent, action, &held.jti).await;
    }

    async fn unrevoke(&mut self, caller: &Held) {
        let fate = if self.below(4) == 0 { Fate::Final } else { Fate::Revoked };
        let Some(held) = self.pick(caller, &[fate]) else { return };
        let (sent, action) = (Instant::now(), "token.unrevoked");
        let path = format!("/auth/tokens/unrevoke/{}", held.jti);
        let answer = self.change(caller, (&Method::PUT, &path), None, (action, &held.jti)).await;
        let Some((status, body)) = answer else { return };
        let verdict = self.fleet.verdict(self.user, &held.session, sent);
        if status == 200 {
            assert!(held.fate == Fate::Revoked && verdict != Verdict::Dead, "{:?} {verdict:?}", held.fate);
            self.changed(&held, Fate::Live, sent, action, &held.jti).await;
        } else {
            let is_final = held.fate == Fate::Final || verdict != Verdict::Live;
            assert!(status == 409 && is_final, "{status} {body} {verdict:?}");
        }
    }

    async fn end_session(&mut self, caller: &Held) {
        let Some(held) = self.pick(caller, &[Fate::Live, Fate::Revoked]) else { return };
        let (sent, action, sid) = (Instant::now(), "session.ended", &held.session.sid);
        let path = format!("/auth/sessions/{sid}");
        let answer = self.change(caller, (&Method::DELETE, &path), None, (action, sid)).await;
        let Some((status, body)) = answer else { return };
        assert_eq!(status, 200, "{body}");
        self.changed(&held, Fate::Final, sent, action, sid).await;
    }

    async fn issue_personal(&mut self, caller: &Held) {
        let (asked, is_short) = (Instant::now(), self.below(2) == 0);
        let body = json!({ "label": "script", "expires_in": if is_short { 1 } else { 600 } });
        let answer = self.change(caller, (&Method::POST, "/auth/tokens"), Some(&body), ("", "")).await;
        let Some((status, body)) = answer else { return };
        assert_eq!(status, 201, "{body}");
        let sid = body["jti"].as_str().unwrap().to_owned();
        if is_short {
            self.done.short.push(sid);
        } else {
            self.hold(&body["access_token"], false, Begun { sid, asked, answered: Instant::now() });
            self.check(self.held.len() - 1, 0..SERVERS).await;
        }
    }

    /// Ends all sessions of the user but the caller's. Each try counts: a killed server may have done it.
    async fn end_all(&mut self, caller: &Held) {
        let (body, mut server) = (json!({ "except_current": true }), self.below(SERVERS));
        let request = (&Method::POST, "/auth/tokens/revoke-all");
        loop {
            let ending = self.fleet.begin_ending(self.user, Some(&caller.session.sid));
            if let Some((status, body, _)) = self.fleet.ask(server, request, &caller.token, Some(&body)).await {
                let sent = self.fleet.settle_ending(self.user, ending, status == 200);
                match status {
                    401 => self.lose(caller, sent),
                    _ => assert_eq!(status, 200, "{body}"),
                }
                return self.check_some().await;
            }
            server = (server + 1) % SERVERS;
        }
    }

    async fn end_all_by_command(&mut self) {
        let ending = self.fleet.begin_ending(self.user, None);
        self.fleet.command(&["subject", "revoke-all", USERS[self.user]]);
        self.fleet.settle_ending(self.user, ending, true);
        self.check_some().await;
    }

    async fn check_some(&mut self) {
        for _ in 0..4 {
            let index = self.below(self.held.len());
            self.check(index, 0..SERVERS).await;
        }
    }

    pub(super) async fn check_everything(&mut self) {
        for index in 0..self.held.len() {
            self.check(index, 0..SERVERS).await;
        }
    }
}
