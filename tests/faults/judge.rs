//! Whether a registry that keeps its promise can have answered so. Pure, as the history is.
//!
//! A change takes effect at one moment between its beginning and its acknowledgement; without an acknowledgement,
//! perhaps, and at any time until nobody is left who could still do it. A log-in and a revoke-all that overlap may have
//! come in either order, whichever was sent first: a request may lie unread in a stopped server's socket.
//!
//! A refresh token that is presented again may end its session, and does where its successor had been used and nothing
//! else can have ended it.

use std::collections::BTreeMap;
use std::fmt;

use super::history::{Call, Effect, History, Id, Issued, NEVER, Outcome, Setting, Verdict};
use super::index::Index;

/// What must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    AcceptedAfterRevocation,
    RefusedWithoutCause,
    LogInRefused,
    LoggedInWhileDisabled,
    SignedWithRetiredKey,
    IssuedTwice,
    NotOnTheRegistry,
    Disagreement,
    /// The feed of revocations says something else than the servers.
    ToldOtherwise,
    Wrong,
    Slow,
}

#[derive(Debug)]
pub(super) struct Violation {
    pub(super) rule: Rule,
    detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.detail)
    }
}

/// Holds every call against the rules.
pub(super) fn judge(history: &History) -> Vec<Violation> {
    let index = Index::new(history);
    let mut violations = Vec::new();
    for call in &history.calls {
        let mut found = |rule, token: Option<&Id>| {
            let about = token.map(|token| index.about(token, call.ended)).unwrap_or_default();
            violations.push(Violation { rule, detail: format!("{call}{about}") });
        };
        if call.wrong.is_some() {
            found(Rule::Wrong, None);
        }
        if history.is_slow(call) {
            found(Rule::Slow, None);
        }
        match &call.presented {
            Some((token, Verdict::Accepted)) if index.must_be_refused(call, token) => {
                found(Rule::AcceptedAfterRevocation, Some(token));
            }
            Some((token, Verdict::Revoked)) if !index.may_be_refused(call, token) => {
                found(Rule::RefusedWithoutCause, Some(token));
            }
            Some((token, Verdict::Inactive))
                if !index.may_be_refused(call, token) && !index.lost.contains(&**token) =>
            {
                found(Rule::RefusedWithoutCause, Some(token));
            }
            Some((token, Verdict::Unknown)) if !index.lost.contains(&**token) => {
                found(Rule::NotOnTheRegistry, Some(token));
            }
            _ => {}
        }
        match &call.effect {
            Some((Effect::Issue(subject, _), Outcome::Not)) if !index.may_be_turned_away(call, subject) => {
                found(Rule::LogInRefused, None);
            }
            Some((Effect::Issue(subject, tokens) | Effect::IssueOnce(_, subject, tokens), Outcome::Done)) => {
                let known = |token: &Issued| history.listed.as_ref().is_none_or(|listed| listed.contains(&token.jti));
                for token in tokens.iter().filter(|token| !known(token) && !index.lost.contains(&*token.jti)) {
                    found(Rule::NotOnTheRegistry, Some(&token.jti));
                }
                for token in tokens.iter().filter(|token| index.key_end(&token.kid).certain < call.begun) {
                    found(Rule::SignedWithRetiredKey, Some(&token.jti));
                }
                let is_log_in = call.process.is_some() && call.presented.is_none();
                if is_log_in && index.must_be_turned_away(call, subject) {
                    found(Rule::LoggedInWhileDisabled, None);
                }
            }
            Some((Effect::Revoke(token) | Effect::Unrevoke(token), Outcome::Missing))
                if !index.lost.contains(&**token) =>
            {
                found(Rule::NotOnTheRegistry, Some(token));
            }
            _ => {}
        }
    }
    violations.extend(index.disagreements());
    violations.extend(index.issued_twice());
    violations.extend(index.told_otherwise());
    violations
}

impl Index<'_> {
    /// Two processes that said different things of a token of which no change was under way.
    fn disagreements(&self) -> Vec<Violation> {
        let mut groups: BTreeMap<(u64, &str), Vec<&Call>> = BTreeMap::new();
        for call in &self.history.calls {
            let Some((token, Verdict::Accepted | Verdict::Revoked | Verdict::Inactive)) = &call.presented else {
                continue;
            };
            match call.setting {
                Setting::Alone => {}
                Setting::Pair(number) => groups.entry((number, token)).or_default().push(call),
                Setting::Quiet => groups.entry((NEVER, token)).or_default().push(call),
            }
        }
        let disagreeing = groups.into_iter().filter(|((_, token), calls)| {
            let verdicts = calls.iter().filter_map(|call| call.presented.as_ref().map(|(_, verdict)| verdict));
            let differ = verdicts.clone().any(|verdict| Some(verdict) != verdicts.clone().next());
            let begun = calls.iter().map(|call| call.begun).min().unwrap_or_default();
            let ended = calls.iter().map(|call| call.ended).max().unwrap_or_default();
            let is_quiet = calls.iter().all(|call| call.setting == Setting::Quiet);
            differ && (is_quiet || !self.is_changing(token, begun, ended))
        });
        disagreeing
            .map(|((_, token), calls)| {
                let ended = calls.iter().map(|call| call.ended).max().unwrap_or_default();
                let calls: Vec<String> = calls.iter().map(|call| call.to_string()).collect();
                let detail = format!("{}{}", calls.join(", but "), self.about(token, ended));
                Violation { rule: Rule::Disagreement, detail }
            })
            .collect()
    }

    /// What the servers say in the end, and somebody who heard of revocations alone doesn't. That one may refuse
    /// sessions that began in the moment of a revoke-all, and so too many.
    fn told_otherwise(&self) -> Vec<Violation> {
        let Some(gateway) = &self.history.gateway else { return Vec::new() };
        let quiet = self.history.calls.iter().filter(|call| call.setting == Setting::Quiet);
        let differing = quiet.filter(|call| {
            let Some((token, verdict)) = &call.presented else { return false };
            let Some((issued, subject)) = self.issued_to(token) else { return false };
            let is_named = gateway.names(token) || gateway.names(&issued.sid);
            let mut signers = self.signers(token);
            match verdict {
                // Of one that more than one key signed, whichever of them this was.
                Verdict::Accepted => is_named || signers.all(|kid| gateway.names(kid)),
                Verdict::Revoked | Verdict::Inactive => {
                    !is_named && !signers.any(|kid| gateway.names(kid)) && !gateway.has_ended(subject, &issued.sid)
                }
                _ => false,
            }
        });
        differing
            .map(|call| {
                let about = call.presented.as_ref().map(|(token, _)| self.about(token, call.ended)).unwrap_or_default();
                Violation { rule: Rule::ToldOtherwise, detail: format!("{call}{about}") }
            })
            .collect()
    }

    /// Tokens that are not those that were given under the same key before.
    fn issued_twice(&self) -> Vec<Violation> {
        let ids = |tokens: &[Issued]| tokens.iter().map(|token| token.jti.clone()).collect::<Vec<_>>();
        let others = self.once.values().flat_map(|given| {
            let kept = given.iter().filter(|(call, tokens)| !tokens.is_empty() && !self.history.is_lost(call));
            let first = kept.clone().next().map(|(_, tokens)| ids(tokens));
            kept.filter(move |(_, tokens)| Some(ids(tokens)) != first)
        });
        others.map(|(call, _)| Violation { rule: Rule::IssuedTwice, detail: call.to_string() }).collect()
    }
}
