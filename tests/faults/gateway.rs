//! Somebody who verifies tokens alone, and hears which were taken back: docs/feed.md says how to keep such a set. Pure.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::history::Id;

#[derive(Debug, Clone, Default)]
pub(super) struct Gateway {
    /// Tokens, sessions and keys.
    refused: HashSet<Id>,
    /// Of each subject: which sessions are over, as seconds.
    ended_before: HashMap<Id, f64>,
}

impl Gateway {
    pub(super) fn hear(&mut self, event: &Value) {
        let is_revoked = event["action"] == "revoked";
        if let (Some(subject), true) = (event["sub"].as_str(), is_revoked) {
            let before = self.ended_before.entry(subject.into()).or_default();
            *before = before.max(event["before"].as_f64().unwrap());
        } else if let Some(id) = ["jti", "sid", "kid"].into_iter().find_map(|name| event[name].as_str()) {
            if is_revoked {
                self.refused.insert(id.into());
            } else {
                self.refused.remove(id);
            }
        }
    }

    /// Whether it was told of this token, session or key.
    pub(super) fn names(&self, id: &str) -> bool {
        self.refused.contains(id)
    }

    /// Whether it takes a session for one of those that were ended together.
    pub(super) fn has_ended(&self, subject: &str, sid: &str) -> bool {
        let began = i64::from_str_radix(&format!("{}{}", &sid[..8], &sid[9..13]), 16).unwrap() as f64 / 1_000.0;
        self.ended_before.get(subject).is_some_and(|before| began < *before)
    }
}
