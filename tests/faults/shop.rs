//! An application that has tokens issued for its users, each time under a key of its own, and asks again as often as it likes.

use serde_json::json;

use super::calls::Token;
use super::fleet::{Fleet, Seat};
use super::history::{Effect, Id, Outcome, Verdict};

impl Fleet {
    /// The tokens that the application gets under this key. What it got under it `before` is asked for again.
    pub(super) async fn issue_once(&self, seat: Seat, subject: &str, key: &Id, before: Option<&Token>) -> Vec<Token> {
        let request = self.http.post(format!("http://127.0.0.1:{}/tokens", seat.port));
        let request = request.basic_auth(&self.shop.id, Some(&self.shop.secret)).header("Idempotency-Key", &**key);
        let request = request.json(&json!({ "subject": subject }));
        let Some(answer) = self.send(request, "POST /tokens", false).await else { return Vec::new() };
        let mut call = self.call("issue once", seat, &answer, before);
        let tokens = answer.tokens();
        match (answer.status, &mut call.presented) {
            (Some(201), _) => {
                let issued = tokens.iter().map(|token| token.issued(None)).collect();
                call.effect = Some((Effect::IssueOnce(key.clone(), subject.into(), issued), Outcome::Done));
            }
            (Some(409), Some((_, verdict))) => *verdict = Verdict::Revoked,
            _ => {}
        }
        self.record(call);
        tokens
    }
}
