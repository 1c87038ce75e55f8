//! Runs of the command line, each recorded with what its exit means; some are stopped or killed on the way.

use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Notify;

use super::SCOPE;
use super::calls::{Answer, Token, name};
use super::fleet::{Fleet, Seat};
use super::history::{Call, Effect, Outcome, Setting};
use crate::support::process::{PATIENCE, signal};

/// What is done to a command while it runs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tamper<'a> {
    Nothing,
    /// It is stopped after a while, and for a while.
    Freeze(Duration, Duration),
    /// It is stopped when it is told so, for a while.
    FreezeOn(&'a Notify, Duration),
    /// It is killed after a while.
    Kill(Duration),
    /// It is killed when this server refuses this token.
    KillOnceRefused(Seat, &'a Token),
}

impl Fleet {
    /// Makes a change with the command line.
    pub(super) async fn command(&self, effect: &Effect, tamper: Tamper<'_>) -> Outcome {
        let args: &[&str] = match effect {
            Effect::Revoke(jti) => &["token", "revoke", jti],
            Effect::Unrevoke(jti) => &["token", "unrevoke", jti],
            Effect::EndSession(sid) => &["session", "end", sid],
            Effect::EndAll { subject, .. } => &["subject", "revoke-all", subject],
            Effect::RetireKey(kid) => &["keys", "retire", kid],
            Effect::Narrow(user) => &["user", "set", user, "--remove-scope", SCOPE],
            Effect::Widen(user) => &["user", "set", user, "--add-scope", SCOPE],
            Effect::Disable(user) => &["user", "disable", user],
            Effect::Enable(user) => &["user", "enable", user],
            Effect::Issue(..) | Effect::IssueOnce(..) | Effect::Spend(..) => {
                unreachable!("there is another function for it")
            }
        };
        let (mut call, code, text) = self.run(args, name(effect), tamper).await;
        let error: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_default();
        let outcome = match (code, error["error"].as_str()) {
            (Some(0), _) => Outcome::Done,
            (Some(3), _) => Outcome::Committed,
            (Some(1), Some("registry_unavailable")) => Outcome::Perhaps,
            (Some(1), Some("not_found")) => Outcome::Missing,
            (Some(1), Some("revocation_final")) => Outcome::Not,
            (None, _) if matches!(tamper, Tamper::Kill(_) | Tamper::KillOnceRefused(..)) => Outcome::Perhaps,
            _ => {
                call.wrong = Some(format!("{args:?} exits with {code:?}: {text}"));
                Outcome::Perhaps
            }
        };
        call.effect = Some((effect.clone(), outcome));
        self.record(call);
        outcome
    }

    /// An access token from the command line.
    pub(super) async fn command_issue(&self, user: &str) -> Vec<Token> {
        let args = ["token", "issue", "--no-refresh", "--subject", user];
        let (call, code, text) = self.run(&args, "issue", Tamper::Nothing).await;
        let body = serde_json::from_str(&text).unwrap_or_default();
        let status = (code == Some(0)).then_some(200);
        self.obtain(call, &Answer { begun: 0, status, body, wrong: None }, user.into(), None)
    }

    /// Lets the next key sign, where it may by now.
    pub(super) async fn rotate_keys(&self, tamper: Tamper<'_>) {
        let (mut call, code, text) = self.run(&["keys", "rotate"], "rotate keys", tamper).await;
        if !matches!(code, Some(0 | 1 | 3)) && matches!(tamper, Tamper::Nothing) {
            call.wrong = Some(text);
        }
        self.record(call);
    }

    /// Runs a command, and gives its call, exit status, and what it wrote: to standard error where it failed.
    async fn run(&self, args: &[&str], what: &'static str, tamper: Tamper<'_>) -> (Call, Option<i32>, String) {
        let began = Instant::now();
        let begun = self.now();
        let mut running = Running(Some(self.home.command(&[args, &["--json"]].concat()).spawn().unwrap()));
        match tamper {
            Tamper::Nothing => {}
            Tamper::Freeze(after, length) => {
                tokio::time::sleep(after).await;
                running.freeze(length).await;
            }
            Tamper::FreezeOn(now, length) => {
                now.notified().await;
                running.freeze(length).await;
            }
            Tamper::Kill(after) => {
                tokio::time::sleep(after).await;
                running.signal("KILL");
            }
            Tamper::KillOnceRefused(seat, token) => {
                self.wait_until_refused(seat, token).await;
                running.signal("KILL");
            }
        }
        while running.child().try_wait().unwrap().is_none() {
            assert!(began.elapsed() < 2 * PATIENCE, "{args:?} does not end");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let ended = self.now();
        let output = running.0.take().unwrap().wait_with_output().unwrap();
        let text = if output.status.success() { output.stdout } else { output.stderr };
        let call = Call {
            what,
            begun,
            ended,
            is_answered: true,
            process: None,
            presented: None,
            signed_by: None,
            effect: None,
            wrong: None,
            setting: Setting::Alone,
        };
        (call, output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }
}

/// A command that runs. It is killed when it is dropped.
struct Running(Option<Child>);

impl Running {
    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    async fn freeze(&mut self, length: Duration) {
        self.signal("STOP");
        tokio::time::sleep(length).await;
        self.signal("CONT");
    }

    /// Until it has been waited for, its id is its own, whether it runs or has ended.
    fn signal(&mut self, name: &str) {
        signal(self.child(), name);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
