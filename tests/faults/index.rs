//! A history by what its calls are about: when what may have ended, and when it has for certain. Pure, as the history
//! is.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::history::{Call, Change, Effect, History, Id, Issued, NEVER, Outcome, Time};

#[derive(Debug)]
pub(super) struct Session {
    subject: Id,
    begun: Time,
    answered: Time,
    parent: Option<Id>,
}

/// When a session, or what is final about a token, ended: for certain, and at the earliest.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) certain: Time,
    pub(super) possible: Time,
}

impl End {
    const NEVER: Self = Self { certain: NEVER, possible: NEVER };

    /// This change may have been the end, or was it for certain where that is.
    fn or(&mut self, change: &Change, is_certain: bool) {
        self.possible = self.possible.min(change.begun);
        self.certain = self.certain.min(change.certain.filter(|_| is_certain).unwrap_or(NEVER));
    }
}

/// A token as it was issued, and when.
#[derive(Debug, Clone, Copy)]
struct Known<'a> {
    issued: &'a Issued,
    begun: Time,
    answered: Time,
}

/// A refresh token presented.
#[derive(Debug, Clone, Copy)]
struct Spend<'a> {
    call: &'a Call,
    outcome: Outcome,
    successor: Option<&'a Id>,
}

/// The history, by what its calls are about.
pub(super) struct Index<'a> {
    pub(super) history: &'a History,
    sessions: HashMap<&'a str, Session>,
    tokens: HashMap<&'a str, Known<'a>>,
    /// What may have signed each token, or its record.
    signers: HashMap<&'a str, BTreeSet<&'a str>>,
    pub(super) lost: HashSet<&'a str>,
    revokes: HashMap<&'a str, Vec<Change>>,
    unrevokes: HashMap<&'a str, Vec<Change>>,
    /// What each refresh token was presented for, in order.
    spends: HashMap<&'a str, Vec<Spend<'a>>>,
    session_ends: HashMap<&'a str, Vec<Change>>,
    endings: HashMap<&'a str, Vec<(Change, Option<&'a Id>)>>,
    /// Of each key.
    retirements: HashMap<&'a str, Vec<Change>>,
    /// Of each user.
    narrows: HashMap<&'a str, Vec<Change>>,
    widens: HashMap<&'a str, Vec<Change>>,
    disables: HashMap<&'a str, Vec<Change>>,
    enables: HashMap<&'a str, Vec<Change>>,
    /// What was given under each key.
    pub(super) once: HashMap<&'a str, Vec<(&'a Call, &'a [Issued])>>,
    ends: HashMap<&'a str, End>,
}

impl<'a> Index<'a> {
    pub(super) fn new(history: &'a History) -> Self {
        let mut index = Self {
            history,
            sessions: HashMap::new(),
            tokens: HashMap::new(),
            signers: HashMap::new(),
            lost: HashSet::new(),
            revokes: HashMap::new(),
            unrevokes: HashMap::new(),
            spends: HashMap::new(),
            session_ends: HashMap::new(),
            endings: HashMap::new(),
            retirements: HashMap::new(),
            narrows: HashMap::new(),
            widens: HashMap::new(),
            disables: HashMap::new(),
            enables: HashMap::new(),
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
                // A token that is revoked gives nothing back, and least of all itself.
                Effect::Unrevoke(token) if call.presented.as_ref().is_some_and(|(by, _)| by == token) => {}
                Effect::Unrevoke(token) => index.unrevokes.entry(token).or_default().push(change),
                Effect::EndSession(sid) => index.session_ends.entry(sid).or_default().push(change),
                Effect::RetireKey(kid) => index.retirements.entry(kid).or_default().push(change),
                Effect::Narrow(user) => index.narrows.entry(user).or_default().push(change),
                Effect::Widen(user) => index.widens.entry(user).or_default().push(change),
                Effect::Disable(user) => {
                    index.endings.entry(user).or_default().push((change.clone(), None));
                    index.disables.entry(user).or_default().push(change);
                }
                Effect::Enable(user) => index.enables.entry(user).or_default().push(change),
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
        index.sign_again();
        for (sid, change) in index.reuses() {
            index.session_ends.entry(sid).or_default().push(change);
        }
        index.ends = index.sessions.keys().map(|sid| (*sid, index.end(sid))).collect();
        index
    }

    fn issued(&mut self, call: &Call, subject: &Id, token: &'a Issued) {
        self.tokens.insert(&token.jti, Known { issued: token, begun: call.begun, answered: call.ended });
        self.signers.entry(&token.jti).or_default().insert(&token.kid);
        if self.history.is_lost(call) {
            self.lost.insert(&token.jti);
        }
        // The first call that names a session began it; refreshes follow, and whoever asked for it at the same time or
        // again.
        self.sessions.entry(&token.sid).or_insert_with(|| Session {
            subject: subject.clone(),
            begun: call.begun,
            answered: call.ended,
            parent: token.parent.clone(),
        });
    }

    /// What was asked for more than once is signed by the key of that time, and its record is of whoever came first,
    /// who may have given no answer: so any key may have signed that which was retired later.
    fn sign_again(&mut self) {
        for given in self.once.values() {
            let asked = given.iter().map(|(call, _)| call.begun).min().unwrap_or_default();
            let later = |changes: &[Change]| changes.iter().any(|change| change.until > asked);
            let retired = || self.retirements.iter().filter(|(_, changes)| later(changes)).map(|(kid, _)| *kid);
            for token in given.iter().flat_map(|(_, tokens)| *tokens) {
                self.signers.entry(&token.jti).or_default().extend(retired());
            }
        }
    }

    /// The sessions of refresh tokens that were presented again, which may have ended them. One whose place another
    /// took is presented again at its first time.
    fn reuses(&self) -> Vec<(&'a str, Change)> {
        let again = self.spends.values().filter_map(|spends| Some((spends, spends.get(1)?.call.begun)));
        let replaced: HashMap<&str, Time> = again
            .flat_map(|(spends, from)| spends.iter().filter_map(move |spend| Some((&**spend.successor?, from))))
            .collect();
        let mut reuses: HashMap<&str, Vec<(Spend<'_>, bool)>> = HashMap::new();
        for (token, spends) in &self.spends {
            let Some(Known { issued, .. }) = self.tokens.get(token) else { continue };
            let is_first = |place, spend: &Spend<'_>| {
                place == 0 && replaced.get(token).is_none_or(|from| spend.call.ended < *from)
            };
            let again = spends.iter().enumerate().filter(|(place, spend)| !is_first(*place, spend));
            // One whose key was retired is refused before anybody looks at what it is.
            let retired = self.signature_end(token).possible;
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
    pub(super) fn key_end(&self, kid: &str) -> End {
        let mut end = End::NEVER;
        self.retirements.get(kid).into_iter().flatten().for_each(|change| end.or(change, true));
        end
    }

    /// When what signed a token was retired. Where that was more than one key, it ends with the key of its record,
    /// whichever that is, and what another one signed with that one too.
    fn signature_end(&self, token: &str) -> End {
        let ends = self.signers(token).map(|kid| self.key_end(kid));
        ends.reduce(|one, other| End {
            certain: one.certain.max(other.certain),
            possible: one.possible.min(other.possible),
        })
        .unwrap_or(End::NEVER)
    }

    pub(super) fn signers(&self, token: &str) -> impl Iterator<Item = &'a str> {
        self.signers.get(token).into_iter().flatten().copied()
    }

    /// When a scope was taken from the user of a token that holds it. One that is issued later than that holds it again
    /// only where it was given back meanwhile.
    fn scope_end(&self, Known { issued, begun, answered }: Known<'a>) -> End {
        let mut end = End::NEVER;
        let Some(session) = self.sessions.get(&*issued.sid).filter(|_| issued.is_wide) else { return end };
        let widens = of(&self.widens, &session.subject);
        for narrow in of(&self.narrows, &session.subject) {
            let is_undone = widens.iter().any(|widen| widen.begun < answered && widen.until > narrow.begun);
            if narrow.until > begun || !is_undone {
                end.or(narrow, !is_undone);
            }
        }
        end
    }

    /// When a token ended for good: with its session, its key or its scope.
    fn final_end(&self, token: &str) -> End {
        let Some(known) = self.tokens.get(token) else { return End::NEVER };
        let session = self.ends.get(&*known.issued.sid).copied().unwrap_or(End::NEVER);
        let ends = [session, self.signature_end(token), self.scope_end(*known)];
        End {
            certain: ends.iter().map(|end| end.certain).min().unwrap_or(NEVER),
            possible: ends.iter().map(|end| end.possible).min().unwrap_or(NEVER),
        }
    }

    /// A token as it was issued, and to whom.
    pub(super) fn issued_to(&self, token: &str) -> Option<(&'a Issued, &Id)> {
        let issued = self.tokens.get(token)?.issued;
        Some((issued, &self.sessions.get(&*issued.sid)?.subject))
    }

    /// Its revocation, or the end of the key that signed this text of it, was acknowledged before the call began, and
    /// can't have been undone before the call ended.
    pub(super) fn must_be_refused(&self, call: &Call, token: &str) -> bool {
        let unrevokes = of(&self.unrevokes, token);
        let is_undone = |revoke: &Change| unrevokes.iter().any(|un| un.begun < call.ended && un.until > revoke.begun);
        let mut revokes = self.revokes.get(token).into_iter().flatten();
        let is_retired = call.signed_by.as_ref().is_some_and(|kid| self.key_end(kid).certain < call.begun);
        is_retired
            || self.final_end(token).certain < call.begun
            || revokes.any(|revoke| revoke.certain.is_some_and(|at| at < call.begun) && !is_undone(revoke))
    }

    /// A revocation may have been in force before the call ended.
    pub(super) fn may_be_refused(&self, call: &Call, token: &str) -> bool {
        let unrevokes = of(&self.unrevokes, token);
        let is_undone = |revoke: &Change| {
            unrevokes.iter().any(|un| un.begun >= revoke.until && un.certain.is_some_and(|at| at < call.begun))
        };
        let mut revokes = self.revokes.get(token).into_iter().flatten();
        self.final_end(token).possible < call.ended
            || self.spends.get(token).is_some_and(|spends| spends[0].call.begun < call.ended)
            || revokes.any(|revoke| revoke.begun < call.ended && !is_undone(revoke))
    }

    /// Everything may have been ended between the beginning and the end of a log-in, or the user be disabled.
    pub(super) fn may_be_turned_away(&self, call: &Call, subject: &str) -> bool {
        let mut endings = self.endings.get(subject).into_iter().flatten();
        let enables = of(&self.enables, subject);
        let is_undone = |disable: &Change| {
            enables.iter().any(|on| on.begun >= disable.until && on.certain.is_some_and(|at| at < call.begun))
        };
        endings.any(|(change, _)| change.begun < call.ended && change.until > call.begun)
            || of(&self.disables, subject).iter().any(|off| off.begun < call.ended && !is_undone(off))
    }

    /// The user was disabled when a log-in began, and can't have been enabled before it ended.
    pub(super) fn must_be_turned_away(&self, call: &Call, subject: &str) -> bool {
        let enables = of(&self.enables, subject);
        let is_undone = |disable: &Change| enables.iter().any(|on| on.begun < call.ended && on.until > disable.begun);
        let mut disables = of(&self.disables, subject).iter();
        disables.any(|off| off.certain.is_some_and(|at| at < call.begun) && !is_undone(off))
    }

    pub(super) fn is_changing(&self, token: &str, begun: Time, ended: Time) -> bool {
        let Some((issued, subject)) = self.issued_to(token) else { return false };
        let endings = of(&self.endings, subject).iter().map(|(change, _)| change);
        let own = [
            of(&self.revokes, token),
            of(&self.unrevokes, token),
            of(&self.session_ends, &issued.sid),
            of(&self.narrows, subject),
        ];
        let retirements = self.signers(token).flat_map(|kid| of(&self.retirements, kid));
        own.into_iter()
            .flatten()
            .chain(retirements)
            .chain(endings)
            .any(|change| change.begun < ended && change.agreed > begun)
    }

    /// Everything that can have mattered to a token by then, for whoever has to explain an answer.
    pub(super) fn about(&self, token: &str, until: Time) -> String {
        let Some((issued, subject)) = self.issued_to(token) else { return String::new() };
        let sid = &*issued.sid;
        let matters = |effect: &Effect| match effect {
            Effect::Issue(_, tokens) | Effect::IssueOnce(_, _, tokens) => {
                tokens.iter().any(|issued| &*issued.jti == token || &*issued.sid == sid)
            }
            Effect::Revoke(id) | Effect::Unrevoke(id) => &**id == token,
            Effect::Spend(id, _) => self.tokens.get(&**id).is_some_and(|of| &*of.issued.sid == sid),
            Effect::EndSession(id) => &**id == sid,
            Effect::RetireKey(id) => self.signers(token).any(|kid| kid == &**id),
            Effect::EndAll { subject: id, .. }
            | Effect::Narrow(id)
            | Effect::Widen(id)
            | Effect::Disable(id)
            | Effect::Enable(id) => id == subject,
        };
        let calls = self.history.calls.iter().filter(|call| call.begun < until);
        let calls = calls.filter(|call| call.effect.as_ref().is_some_and(|(effect, _)| matters(effect)));
        let lines: BTreeSet<(Time, String)> =
            calls.map(|call| (call.begun, format!("\n      {call} {:?}", call.effect))).collect();
        lines.into_iter().map(|(_, line)| line).collect()
    }
}

/// What is there of one.
fn of<'i, T>(all: &'i HashMap<&str, Vec<T>>, one: &str) -> &'i [T] {
    all.get(one).map_or(&[], Vec::as_slice)
}
