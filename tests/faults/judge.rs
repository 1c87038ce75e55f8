//! Whether a registry that keeps its promise can have answered so. Pure, as the history is.
//!
//! A change takes effect at one moment between its beginning and its acknowledgement; without an acknowledgement,
//! perhaps, and at any time until nobody is left who could still do it. A log-in and a revoke-all that overlap may have
//! come in either order, whichever was sent first: a request may lie unread in a stopped server's socket.
//!
//! A refresh token that is presented again may end its session, and does where its successor had been used and nothing else can
//! have ended it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use super::history::{Call, Change, Effect, History, Id, Issued, NEVER, Outcome, Setting, Time, Verdict};

/// What must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    AcceptedAfterRevocation,
    RefusedWithoutCause,
    LogInRefused,
    SignedWithRetiredKey,
    IssuedTwice,
    NotOnTheRegistry,
    Disagreement,
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

#[derive(Debug)]
struct Session {
    subject: Id,
    begun: Time,
    answered: Time,
    parent: Option<Id>,
}

/// When a session, or what is final about a token, ended: for certain, and at the earliest.
#[derive(Debug, Clone, Copy)]
struct End {
    certain: Time,
    possible: Time,
}

impl End {
    const NEVER: Self = Self { certain: NEVER, possible: NEVER };

    /// This change may have been the end, or was it for certain where that is.
    fn or(&mut self, change: &Change, is_certain: bool) {
        self.possible = self.possible.min(change.begun);
        self.certain = self.certain.min(change.certain.filter(|_| is_certain).unwrap_or(NEVER));
    }
}

/// A refresh token presented.
#[derive(Debug, Clone, Copy)]
struct Spend<'a> {
    call: &'a Call,
    outcome: Outcome,
    successor: Option<&'a Id>,
}

/// The history, by what its calls are about.
struct Index<'a> {
    history: &'a History,
    sessions: HashMap<&'a str, Session>,
    /// Each token as it was issued.
    tokens: HashMap<&'a str, &'a Issued>,
    lost: HashSet<&'a str>,
    revokes: HashMap<&'a str, Vec<Change>>,
    unrevokes: HashMap<&'a str, Vec<Change>>,
    /// What each refresh token was presented for, in order.
    spends: HashMap<&'a str, Vec<Spend<'a>>>,
    session_ends: HashMap<&'a str, Vec<Change>>,
    endings: HashMap<&'a str, Vec<(Change, Option<&'a Id>)>>,
    /// Of each key.
    retirements: HashMap<&'a str, Vec<Change>>,
    /// What was given under each key.
    once: HashMap<&'a str, Vec<(&'a Call, &'a [Issued])>>,
    ends: HashMap<&'a str, End>,
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
            Some((token, Verdict::Unknown)) if !index.lost.contains(&**token) => {
                found(Rule::NotOnTheRegistry, Some(token));
            }
            _ => {}
        }
        match &call.effect {
            Some((Effect::Issue(subject, _), Outcome::Not)) if !index.may_be_overtaken(call, subject) => {
                found(Rule::LogInRefused, None);
            }
            Some((Effect::Issue(_, tokens) | Effect::IssueOnce(_, _, tokens), Outcome::Done)) => {
                let known = |token: &Issued| history.listed.as_ref().is_none_or(|listed| listed.contains(&token.jti));
                for token in tokens.iter().filter(|token| !known(token) && !index.lost.contains(&*token.jti)) {
                    found(Rule::NotOnTheRegistry, Some(&token.jti));
                }
                for token in tokens.iter().filter(|token| index.key_end(&token.kid).certain < call.begun) {
                    found(Rule::SignedWithRetiredKey, Some(&token.jti));
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
    violations
}

impl<'a> Index<'a> {
    fn new(history: &'a History) -> Self {
        let mut index = Self {
            history,
            sessions: HashMap::new(),
            tokens: HashMap::new(),
            lost: HashSet::new(),
            revokes: HashMap::new(),
            unrevokes: HashMap::new(),
            spends: HashMap::new(),
            session_ends: HashMap::new(),
            endings: HashMap::new(),
            retirements: HashMap::new(),
            once: HashMap::new(),
            ends: HashMap::new(),
        };
        for call in &history.calls {
            let Some((effect, outcome)) = &call.effect else { continue };
            if let Effect::Spend(token, successor) = effect {
                let spend = Spend { call, outcome: *outcome, successor: successor.as_ref() };
                index.spends.entry(token).or_default().push(spend);
            }
            let Some(change) = history.change(call, *outcome) else { continue };
            match effect {
                Effect::Revoke(token) => index.revokes.entry(token).or_default().push(change),
                Effect::Unrevoke(token) => index.unrevokes.entry(token).or_default().push(change),
                Effect::EndSession(sid) => index.session_ends.entry(sid).or_default().push(change),
                Effect::RetireKey(kid) => index.retirements.entry(kid).or_default().push(change),
                Effect::EndAll { subject, keep } => {
                    index.endings.entry(subject).or_default().push((change, keep.as_ref()));
                }
                Effect::Spend(..) => {}
                Effect::Issue(subject, tokens) => tokens.iter().for_each(|token| index.issued(call, subject, token)),
                Effect::IssueOnce(key, subject, tokens) => {
                    tokens.iter().for_each(|token| index.issued(call, subject, token));
                    index.once.entry(key).or_default().push((call, tokens));
                }
            }
        }
        index.spends.values_mut().for_each(|spends| spends.sort_by_key(|spend| spend.call.begun));
        for (sid, change) in index.reuses() {
            index.session_ends.entry(sid).or_default().push(change);
        }
        index.ends = index.sessions.keys().map(|sid| (*sid, index.end(sid))).collect();
        index
    }

    fn issued(&mut self, call: &Call, subject: &Id, token: &'a Issued) {
        self.tokens.insert(&token.jti, token);
        if self.history.is_lost(call) {
            self.lost.insert(&token.jti);
        }
        // The first call that names a session began it; refreshes follow, and whoever asked for it at the same time or again.
        self.sessions.entry(&token.sid).or_insert_with(|| Session {
            subject: subject.clone(),
            begun: call.begun,
            answered: call.ended,
            parent: token.parent.clone(),
        });
    }

    /// The sessions of refresh tokens that were presented again, which may have ended them. One whose place another took is
    /// presented again at its first time.
    fn reuses(&self) -> Vec<(&'a str, Change)> {
        let again = self.spends.values().filter_map(|spends| Some((spends, spends.get(1)?.call.begun)));
        let replaced: HashMap<&str, Time> = again
            .flat_map(|(spends, from)| spends.iter().filter_map(move |spend| Some((&**spend.successor?, from))))
            .collect();
        let mut reuses: HashMap<&str, Vec<(Spend<'_>, bool)>> = HashMap::new();
        for (token, spends) in &self.spends {
            let Some(issued) = self.tokens.get(token) else { continue };
            let is_first = |place, spend: &Spend<'_>| {
                place == 0 && replaced.get(token).is_none_or(|from| spend.call.ended < *from)
            };
            let again = spends.iter().enumerate().filter(|(place, spend)| !is_first(*place, spend));
            // One whose key was retired is refused before anybody looks at what it is.
            let retired = self.key_end(&issued.kid).possible;
            let again = again.map(|(_, spend)| (*spend, self.is_theft(spend, spends) && spend.call.ended < retired));
            reuses.entry(&*issued.sid).or_default().extend(again);
        }
        let mut ends = Vec::new();
        for (sid, reuses) in reuses {
            for (spend, is_theft) in &reuses {
                // Where the session may have ended otherwise, that may be why it was refused, and not be in force yet.
                let is_other = |other: &Spend<'_>| !std::ptr::eq(other.call, spend.call);
                let mut others = reuses.iter().filter(|(other, _)| is_other(other)).map(|(other, _)| other.call.begun);
                let ended = spend.call.ended;
                let is_certain = *is_theft && others.all(|from| from > ended) && self.end(sid).possible > ended;
                let outcome = if is_certain { Outcome::Done } else { Outcome::Perhaps };
                ends.extend(self.history.change(spend.call, outcome).map(|change| (sid, change)));
            }
        }
        ends
    }

    /// Whether a use of a token was refused after an earlier use of it had been answered, and a use of what that gave.
    fn is_theft(&self, refused: &Spend<'_>, uses: &[Spend<'_>]) -> bool {
        let is_before = |spend: &&Spend<'_>| spend.outcome == Outcome::Done && spend.call.ended < refused.call.begun;
        let successors = uses.iter().filter(is_before).filter_map(|spend| self.spends.get(&**spend.successor?));
        refused.outcome == Outcome::Not && successors.flatten().any(|spend| is_before(&spend))
    }

    /// When a session ended, of itself or with all of its subject's.
    fn end(&self, sid: &str) -> End {
        let mut end = End::NEVER;
        self.session_ends.get(sid).into_iter().flatten().for_each(|change| end.or(change, true));
        let session = &self.sessions[sid];
        for (change, keep) in self.endings.get(&*session.subject).into_iter().flatten() {
            if keep.is_some_and(|keep| **keep == *sid) || change.until <= session.begun {
                continue;
            }
            // Where the session of the token that asked for this one has ended, nothing can have come after it.
            let parent = session.parent.as_ref().filter(|parent| *keep != Some(parent));
            let parent = parent.and_then(|parent| self.sessions.get(&**parent));
            let answered = parent.map_or(session.answered, |parent| parent.answered.min(session.answered));
            end.or(change, change.begun > answered);
        }
        end
    }

    /// When a key was retired.
    fn key_end(&self, kid: &str) -> End {
        let mut end = End::NEVER;
        self.retirements.get(kid).into_iter().flatten().for_each(|change| end.or(change, true));
        end
    }

    /// When a token ended for good: with its session or with its key.
    fn final_end(&self, token: &str) -> End {
        let Some(issued) = self.tokens.get(token) else { return End::NEVER };
        let session = self.ends.get(&*issued.sid).copied().unwrap_or(End::NEVER);
        let key = self.key_end(&issued.kid);
        End { certain: session.certain.min(key.certain), possible: session.possible.min(key.possible) }
    }

    /// Its revocation was acknowledged before the call began, and can't have been undone before the call ended.
    fn must_be_refused(&self, call: &Call, token: &str) -> bool {
        let unrevokes = self.unrevokes.get(token).map_or(&[][..], Vec::as_slice);
        let is_undone = |revoke: &Change| unrevokes.iter().any(|un| un.begun < call.ended && un.until > revoke.begun);
        let mut revokes = self.revokes.get(token).into_iter().flatten();
        self.final_end(token).certain < call.begun
            || revokes.any(|revoke| revoke.certain.is_some_and(|at| at < call.begun) && !is_undone(revoke))
    }

    /// A revocation may have been in force before the call ended.
    fn may_be_refused(&self, call: &Call, token: &str) -> bool {
        let unrevokes = self.unrevokes.get(token).map_or(&[][..], Vec::as_slice);
        let is_undone = |revoke: &Change| {
            unrevokes.iter().any(|un| un.begun >= revoke.until && un.certain.is_some_and(|at| at < call.begun))
        };
        let mut revokes = self.revokes.get(token).into_iter().flatten();
        self.final_end(token).possible < call.ended
            || self.spends.get(token).is_some_and(|spends| spends[0].call.begun < call.ended)
            || revokes.any(|revoke| revoke.begun < call.ended && !is_undone(revoke))
    }

    /// A revoke-all may have come between the beginning and the end of a log-in.
    fn may_be_overtaken(&self, call: &Call, subject: &str) -> bool {
        let mut endings = self.endings.get(subject).into_iter().flatten();
        endings.any(|(change, _)| change.begun < call.ended && change.until > call.begun)
    }

    /// Two processes that said different things of a token of which no change was under way.
    fn disagreements(&self) -> Vec<Violation> {
        let mut groups: BTreeMap<(u64, &str), Vec<&Call>> = BTreeMap::new();
        for call in &self.history.calls {
            let Some((token, Verdict::Accepted | Verdict::Revoked)) = &call.presented else { continue };
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

    /// Tokens that are not those that were given under the same key before.
    fn issued_twice(&self) -> Vec<Violation> {
        let ids = |tokens: &[Issued]| tokens.iter().map(|token| token.jti.clone()).collect::<Vec<_>>();
        let others = self.once.values().flat_map(|given| {
            let kept = given.iter().filter(|(call, _)| !self.history.is_lost(call));
            let first = kept.clone().next().map(|(_, tokens)| ids(tokens));
            kept.filter(move |(_, tokens)| Some(ids(tokens)) != first)
        });
        others.map(|(call, _)| Violation { rule: Rule::IssuedTwice, detail: call.to_string() }).collect()
    }

    fn is_changing(&self, token: &str, begun: Time, ended: Time) -> bool {
        let (sid, kid) = self.tokens.get(token).map_or(("", ""), |issued| (&*issued.sid, &*issued.kid));
        let subject = self.sessions.get(sid).map_or("", |session| &session.subject);
        let of = |changes: &HashMap<&str, Vec<Change>>, id: &str| changes.get(id).cloned().unwrap_or_default();
        let endings = self.endings.get(subject).into_iter().flatten().map(|(change, _)| change.clone());
        let own = [
            of(&self.revokes, token),
            of(&self.unrevokes, token),
            of(&self.session_ends, sid),
            of(&self.retirements, kid),
        ];
        own.into_iter().flatten().chain(endings).any(|change| change.begun < ended && change.agreed > begun)
    }

    /// Everything that can have mattered to a token by then, for whoever has to explain an answer.
    fn about(&self, token: &str, until: Time) -> String {
        let (sid, kid) = self.tokens.get(token).map_or(("", ""), |issued| (&*issued.sid, &*issued.kid));
        let subject = self.sessions.get(sid).map_or("", |session| &session.subject);
        let matters = |effect: &Effect| match effect {
            Effect::Issue(_, tokens) | Effect::IssueOnce(_, _, tokens) => {
                tokens.iter().any(|issued| &*issued.jti == token || &*issued.sid == sid)
            }
            Effect::Revoke(id) | Effect::Unrevoke(id) => &**id == token,
            Effect::Spend(id, _) => self.tokens.get(&**id).is_some_and(|of| &*of.sid == sid),
            Effect::EndSession(id) => &**id == sid,
            Effect::RetireKey(id) => &**id == kid,
            Effect::EndAll { subject: id, .. } => &**id == subject,
        };
        let calls = self.history.calls.iter().filter(|call| call.begun < until);
        let calls = calls.filter(|call| call.effect.as_ref().is_some_and(|(effect, _)| matters(effect)));
        let lines: BTreeSet<(Time, String)> =
            calls.map(|call| (call.begun, format!("\n      {call} {:?}", call.effect))).collect();
        lines.into_iter().map(|(_, line)| line).collect()
    }
}
