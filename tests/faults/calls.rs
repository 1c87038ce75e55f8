//! Calls of the servers, each recorded with what its answer means.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::SCOPE;
use super::fleet::{Fleet, Seat};
use super::history::{Call, Effect, Id, Issued, Outcome, Setting, Time, Verdict};
use crate::support::forge::{claims_of, header_of};
use crate::support::process::PATIENCE;

/// A token that was handed out.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) jti: Id,
    pub(super) sid: Id,
    pub(super) subject: Id,
    pub(super) is_refresh: bool,
    /// The key that signed it.
    pub(super) kid: Id,
    /// Whether it is an access token that holds the scope that users may lose.
    is_wide: bool,
    text: Arc<str>,
}

/// Whose token asks for a change, and at which routes.
#[derive(Debug, Clone, Copy)]
pub(super) enum By<'a> {
    User(&'a Token),
    Admin(&'a Token),
}

/// An answer, or none.
pub(super) struct Answer {
    pub(super) begun: Time,
    /// `None` where the connection broke; then it was perhaps done.
    pub(super) status: Option<u16>,
    pub(super) body: Value,
    pub(super) wrong: Option<String>,
}

impl Answer {
    /// What became of the change that was asked for.
    fn outcome(&self) -> Outcome {
        match self.status {
            Some(200) => Outcome::Done,
            Some(401) => Outcome::Not,
            _ => Outcome::Perhaps,
        }
    }

    /// The tokens in it.
    pub(super) fn tokens(&self) -> Vec<Token> {
        let texts = ["access_token", "refresh_token"].into_iter().filter_map(|name| self.body[name].as_str());
        texts.map(Token::new).collect()
    }
}

impl Token {
    pub(super) fn new(text: &str) -> Self {
        let claims = claims_of(text);
        let id = |name: &str| claims[name].as_str().unwrap().into();
        Self {
            jti: id("jti"),
            sid: id("sid"),
            subject: id("sub"),
            is_refresh: claims["type"] == "refresh",
            kid: header_of(text)["kid"].as_str().unwrap().into(),
            is_wide: claims["type"] == "access" && claims["scope"].as_str().is_some_and(|scope| scope.contains(SCOPE)),
            text: text.into(),
        }
    }

    pub(super) fn issued(&self, parent: Option<&Id>) -> Issued {
        let (jti, sid, kid) = (self.jti.clone(), self.sid.clone(), self.kid.clone());
        Issued { jti, sid, kid, is_wide: self.is_wide, parent: parent.cloned() }
    }
}

impl Fleet {
    /// Presents an access token, at either route that accepts every one.
    pub(super) async fn check(&self, seat: Seat, token: &Token, setting: Setting) -> Option<Verdict> {
        let path = if last_digit(token).is_multiple_of(2) { "/auth/check" } else { "/protected" };
        let answer = self.ask(seat, Method::GET, path, Some(token), None).await?;
        self.checked(seat, token, setting, &answer)
    }

    /// The same, or has an application ask about it.
    pub(super) async fn look(&self, seat: Seat, token: &Token, setting: Setting) -> Option<Verdict> {
        if !last_digit(token).is_multiple_of(3) {
            return self.check(seat, token, setting).await;
        }
        let answer = self.introspect(seat, &token.text).await?;
        self.checked(seat, token, setting, &answer)
    }

    fn checked(&self, seat: Seat, token: &Token, setting: Setting, answer: &Answer) -> Option<Verdict> {
        let mut call = self.call("check", seat, answer, Some(token));
        call.setting = setting;
        let verdict = call.presented.as_ref().map(|(_, verdict)| *verdict);
        self.record(call);
        verdict
    }

    /// The pair of a log-in, or nothing.
    pub(super) async fn log_in(&self, seat: Seat, user: &str) -> Vec<Token> {
        let body = json!({ "username": user, "password": format!("{user} password") });
        let Some(answer) = self.ask(seat, Method::POST, "/login", None, Some(&body)).await else { return Vec::new() };
        let call = self.call("log-in", seat, &answer, None);
        self.obtain(call, &answer, user.into(), None)
    }

    /// Changes a user's password to the same one, which ends all sessions but the token's own.
    pub(super) async fn change_password(&self, seat: Seat, token: &Token) -> Outcome {
        let password = format!("{} password", token.subject);
        let body = json!({ "current": password, "new": password });
        let request = self.http.post(format!("http://127.0.0.1:{}/auth/password", seat.port)).bearer_auth(&token.text);
        // A user who is disabled, or another change of the password at once, makes the current one a wrong one.
        let Some(answer) = self.send(request.json(&body), "POST /auth/password", true).await else {
            return Outcome::Not;
        };
        let outcome = answer.outcome();
        let mut call = self.call("password", seat, &answer, Some(token));
        let end = Effect::EndAll { subject: token.subject.clone(), keep: Some(token.sid.clone()) };
        call.effect = Some((end, outcome));
        self.record(call);
        outcome
    }

    /// What a refresh token gets.
    pub(super) async fn refresh(&self, seat: Seat, token: &Token) -> Vec<Token> {
        let Some(answer) = self.ask(seat, Method::POST, "/refresh", Some(token), None).await else { return Vec::new() };
        let call = self.call("refresh", seat, &answer, Some(token));
        // That it was used is a call of its own, since one call has one effect.
        let mut spend = Call { what: "spend", presented: None, signed_by: None, wrong: None, ..call.clone() };
        let tokens = self.obtain(call, &answer, token.subject.clone(), None);
        let successor = tokens.iter().find(|token| token.is_refresh).map(|token| token.jti.clone());
        let outcome = answer.outcome();
        spend.effect = Some((Effect::Spend(token.jti.clone(), successor), outcome));
        self.record(spend);
        tokens
    }

    /// A personal token.
    pub(super) async fn personal(&self, seat: Seat, token: &Token) -> Vec<Token> {
        let body = json!({ "label": "script" });
        let answer = self.ask(seat, Method::POST, "/auth/tokens", Some(token), Some(&body)).await;
        let Some(answer) = answer else { return Vec::new() };
        let call = self.call("personal token", seat, &answer, Some(token));
        self.obtain(call, &answer, token.subject.clone(), Some(&token.sid))
    }

    /// Records what was issued, and gives the tokens.
    pub(super) fn obtain(&self, mut call: Call, answer: &Answer, subject: Id, parent: Option<&Id>) -> Vec<Token> {
        let tokens = answer.tokens();
        let issued = tokens.iter().map(|token| token.issued(parent)).collect();
        match answer.status {
            Some(200 | 201) => call.effect = Some((Effect::Issue(subject, issued), Outcome::Done)),
            // A log-in that was refused; for the others, the presented token says why.
            Some(401) if call.presented.is_none() => {
                call.effect = Some((Effect::Issue(subject, issued), Outcome::Not));
            }
            _ => {}
        }
        self.record(call);
        tokens
    }

    /// Asks for a change.
    pub(super) async fn change(&self, seat: Seat, by: By<'_>, effect: &Effect) -> Outcome {
        let (By::User(token) | By::Admin(token)) = by;
        let is_admin = matches!(by, By::Admin(_));
        let (method, path, body) = match effect {
            Effect::Revoke(jti) if is_admin => (Method::PUT, format!("/admin/tokens/revoke/{jti}"), None),
            Effect::Revoke(jti) => (Method::PUT, format!("/auth/tokens/revoke/{jti}"), None),
            Effect::Unrevoke(jti) if is_admin => (Method::PUT, format!("/admin/tokens/unrevoke/{jti}"), None),
            Effect::Unrevoke(jti) => (Method::PUT, format!("/auth/tokens/unrevoke/{jti}"), None),
            Effect::EndSession(sid) if is_admin => (Method::DELETE, format!("/admin/sessions/{sid}"), None),
            Effect::EndSession(sid) if *sid == token.sid => (Method::POST, "/logout".to_owned(), None),
            Effect::EndSession(sid) => (Method::DELETE, format!("/auth/sessions/{sid}"), None),
            Effect::EndAll { subject, .. } if is_admin => {
                (Method::POST, format!("/admin/subjects/{subject}/revoke-all"), None)
            }
            Effect::EndAll { keep, .. } => {
                let body = json!({ "except_current": keep.is_some() });
                (Method::POST, "/auth/tokens/revoke-all".to_owned(), Some(body))
            }
            Effect::RetireKey(_) | Effect::Narrow(_) | Effect::Widen(_) | Effect::Disable(_) | Effect::Enable(_) => {
                unreachable!("only the command line does it")
            }
            Effect::Issue(..) | Effect::IssueOnce(..) | Effect::Spend(..) => {
                unreachable!("they have functions of their own")
            }
        };
        let answer = self.ask(seat, method, &path, Some(token), body.as_ref()).await;
        let Some(answer) = answer else { return Outcome::Not };
        let outcome = match answer.status {
            Some(200) => Outcome::Done,
            Some(404) => Outcome::Missing,
            Some(401 | 409) => Outcome::Not,
            _ => Outcome::Perhaps,
        };
        // Logging out needs no live token.
        let presented = Some(token).filter(|_| path != "/logout");
        let mut call = self.call(name(effect), seat, &answer, presented);
        call.effect = Some((effect.clone(), outcome));
        self.record(call);
        outcome
    }

    /// Waits until a server refuses a token.
    pub(super) async fn wait_until_refused(&self, seat: Seat, token: &Token) {
        let began = Instant::now();
        while self.check(seat, token, Setting::Alone).await != Some(Verdict::Revoked) {
            assert!(began.elapsed() < PATIENCE, "{seat:?} does not refuse it");
        }
    }

    /// A page of a list: the tokens in it, and where the next one is.
    pub(super) async fn page(&self, seat: Seat, path: &str, token: &Token) -> (Vec<Id>, Option<String>) {
        let request = self.http.get(format!("http://127.0.0.1:{}{path}", seat.port)).bearer_auth(&token.text);
        let response = request.send().await.unwrap().error_for_status().unwrap();
        let link = response.headers().get("Link").and_then(|link| link.to_str().unwrap().split(['<', '>']).nth(1));
        let next = link.map(str::to_owned);
        let records: Vec<Value> = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        (records.iter().map(|record| record["token"]["jti"].as_str().unwrap().into()).collect(), next)
    }

    /// Asks a server. `None` where it was never asked, since nobody listens there any more.
    async fn ask(
        &self,
        seat: Seat,
        method: Method,
        path: &str,
        token: Option<&Token>,
        body: Option<&Value>,
    ) -> Option<Answer> {
        let mut request = self.http.request(method.clone(), format!("http://127.0.0.1:{}{path}", seat.port));
        if let Some(token) = token {
            request = request.bearer_auth(&token.text);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(request, &format!("{method} {path}"), token.is_none()).await
    }

    /// Sends a request; `None` as [above](Self::ask). Whoever presents no token may be refused.
    pub(super) async fn send(&self, request: RequestBuilder, what: &str, may_be_refused: bool) -> Option<Answer> {
        let begun = self.now();
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                return None;
            }
            Err(_) => return Some(Answer { begun, status: None, body: Value::Null, wrong: None }),
        };
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        // What breaks off half-way is no answer.
        let Ok(bytes) = response.bytes().await else {
            return Some(Answer { begun, status: None, body: Value::Null, wrong: None });
        };
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let is_known = match (status, body["error"].as_str()) {
            (200 | 201 | 204 | 409, _) => true,
            (404, code) => code == Some("not_found"),
            (401, Some("token_revoked" | "token_unknown")) => true,
            // The user has just lost a scope that the token holds.
            (403, code) => code == Some("insufficient_scope"),
            (401, _) => may_be_refused,
            (503, _) => headers.contains_key("Retry-After"),
            _ => false,
        };
        let wrong = (!is_known).then(|| format!("{what}: {status} {body}"));
        Some(Answer { begun, status: Some(status), body, wrong })
    }

    pub(super) fn call(&self, what: &'static str, seat: Seat, answer: &Answer, token: Option<&Token>) -> Call {
        let verdict = match (answer.status, answer.body["error"].as_str()) {
            (None | Some(503), _) => Verdict::Silent,
            (Some(401), Some("token_revoked")) => Verdict::Revoked,
            (Some(401), Some("token_unknown")) => Verdict::Unknown,
            (Some(200), _) if answer.body["active"] == false => Verdict::Inactive,
            (Some(200..300 | 404 | 409), _) => Verdict::Accepted,
            // It is wrong, and stands as that.
            _ => Verdict::Silent,
        };
        Call {
            what,
            begun: answer.begun,
            ended: self.now(),
            is_answered: answer.status.is_some(),
            process: Some(seat.process),
            presented: token.map(|token| (token.jti.clone(), verdict)),
            signed_by: token.map(|token| token.kid.clone()),
            effect: None,
            wrong: answer.wrong.clone(),
            setting: Setting::Alone,
        }
    }
}

fn last_digit(token: &Token) -> u8 {
    token.jti.bytes().last().unwrap_or_default()
}

pub(super) fn name(effect: &Effect) -> &'static str {
    match effect {
        Effect::Revoke(_) => "revoke",
        Effect::Unrevoke(_) => "unrevoke",
        Effect::EndSession(_) => "end session",
        Effect::EndAll { .. } => "revoke-all",
        Effect::RetireKey(_) => "retire key",
        Effect::Narrow(_) => "take scope",
        Effect::Widen(_) => "give scope",
        Effect::Disable(_) => "disable user",
        Effect::Enable(_) => "enable user",
        Effect::Issue(..) | Effect::IssueOnce(..) => "issue",
        Effect::Spend(..) => "spend",
    }
}
