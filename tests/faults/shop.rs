//! An application that has tokens issued for its users, each time under a key of its own, and asks again as often as it
//! likes.

use serde_json::{Value, json};

use super::calls::{Answer, Token};
use super::fleet::{Fleet, Seat};
use super::gateway::Gateway;
use super::history::{Effect, Id, Outcome, Verdict};

impl Fleet {
    /// What the application is told of a token.
    pub(super) async fn introspect(&self, seat: Seat, token: &str) -> Option<Answer> {
        let request = self.http.post(format!("http://127.0.0.1:{}/oauth/introspect", seat.port));
        let request = request.basic_auth(&self.shop.id, Some(&self.shop.secret));
        let request =
            request.header("Content-Type", "application/x-www-form-urlencoded").body(format!("token={token}"));
        self.send(request, "POST /oauth/introspect", false).await
    }

    /// What the application knows who hears of revocations alone.
    pub(super) async fn gateway(&self, seat: Seat) -> Gateway {
        let (mut gateway, mut next) = (Gateway::default(), 0);
        loop {
            let request = self.http.get(format!("http://127.0.0.1:{}/revocations?after={next}", seat.port));
            let request = request.basic_auth(&self.shop.id, Some(&self.shop.secret));
            let response = request.send().await.unwrap().error_for_status().unwrap();
            let page: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
            let events = page["events"].as_array().unwrap();
            if events.is_empty() {
                return gateway;
            }
            events.iter().for_each(|event| gateway.hear(event));
            next = page["next"].as_i64().unwrap();
        }
    }

    /// The tokens that the application gets under this key. What it got under it `before` is asked for again.
    pub(super) async fn issue_once(&self, seat: Seat, subject: &str, key: &Id, before: Option<&Token>) -> Vec<Token> {
        let request = self.http.post(format!("http://127.0.0.1:{}/tokens", seat.port));
        let request = request.basic_auth(&self.shop.id, Some(&self.shop.secret)).header("Idempotency-Key", &**key);
        let request = request.json(&json!({ "subject": subject }));
        let Some(answer) = self.send(request, "POST /tokens", false).await else { return Vec::new() };
        let mut call = self.call("issue once", seat, &answer, before);
        // That one is asked for by its key alone, and signed anew.
        call.signed_by = None;
        let tokens = answer.tokens();
        match answer.status {
            Some(201) => {
                let issued = tokens.iter().map(|token| token.issued(None)).collect();
                call.effect = Some((Effect::IssueOnce(key.clone(), subject.into(), issued), Outcome::Done));
            }
            Some(409) => {
                if let Some((_, verdict)) = &mut call.presented {
                    *verdict = Verdict::Revoked;
                }
            }
            // Records may be there all the same.
            _ => {
                let issued = Effect::IssueOnce(key.clone(), subject.into(), Vec::new());
                call.effect = Some((issued, Outcome::Perhaps));
            }
        }
        self.record(call);
        tokens
    }
}
