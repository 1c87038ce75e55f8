//! What clients and operators do, a random step at a time. They expect nothing: the judge does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::calls::{By, Token};
use super::commands::Tamper;
use super::fleet::{Fleet, Seat};
use super::history::{Effect, Id, Outcome, Setting};
use super::{ADMIN, USERS};
use crate::support::random::Random;

/// How many tokens are worked with at a time.
const POOL: usize = 150;
/// How many checks a client has under way at most, before it waits for some.
const CHECKS: usize = 30;
/// How long the checks around a change go on at most: a server may be stopped.
const DUEL: Duration = Duration::from_secs(5);

/// The tokens that are worked with, the newest last, and those of before.
#[derive(Default)]
pub(super) struct Pool {
    tokens: Mutex<Vec<Token>>,
    retired: Mutex<Vec<Token>>,
}

impl Pool {
    pub(super) fn add(&self, added: &[Token]) {
        let mut tokens = self.tokens.lock().unwrap();
        tokens.extend_from_slice(added);
        let surplus = tokens.len().saturating_sub(POOL);
        self.retired.lock().unwrap().extend(tokens.drain(..surplus));
    }

    /// Those of a key are worked with no more: with what is refused for good there is little to do.
    pub(super) fn retire(&self, kid: &Id) {
        let mut tokens = self.tokens.lock().unwrap();
        self.retired.lock().unwrap().extend(tokens.extract_if(.., |token| token.kid == *kid));
    }

    /// One that fits, the newer the likelier.
    pub(super) fn pick(&self, random: &mut Random, fits: impl Fn(&Token) -> bool) -> Option<Token> {
        let tokens = self.tokens.lock().unwrap();
        let fitting: Vec<&Token> = tokens.iter().filter(|token| fits(token)).collect();
        if fitting.is_empty() {
            return None;
        }
        let index = random.below(fitting.len()).max(random.below(fitting.len()));
        Some(fitting[index].clone())
    }

    /// An access token.
    pub(super) fn access(&self, random: &mut Random) -> Option<Token> {
        self.pick(random, |token| !token.is_refresh)
    }

    /// The access tokens there are now, and some of before.
    pub(super) fn sample(&self, random: &mut Random) -> Vec<Token> {
        let mut sample = self.tokens.lock().unwrap().clone();
        let retired = self.retired.lock().unwrap();
        if !retired.is_empty() {
            sample.extend((0..POOL).map(|_| random.pick(&retired).clone()));
        }
        sample.retain(|token| !token.is_refresh);
        sample.sort_by(|one, other| one.jti.cmp(&other.jti));
        sample.dedup_by(|one, other| one.jti == other.jti);
        sample
    }
}

/// A client, who works with the tokens of one user and looks at those of all.
pub(super) struct Client {
    fleet: Arc<Fleet>,
    pool: Arc<Pool>,
    random: Random,
    user: &'static str,
    /// Tokens to ask for changes with: its user's, and an administrator's.
    caller: Option<Token>,
    admin: Option<Token>,
    /// The number of the last pair of calls, or of the last key.
    number: u64,
    /// The checks that are under way: those at a server that is stopped keep nobody from going on.
    checks: JoinSet<()>,
}

impl Client {
    pub(super) fn new(fleet: &Arc<Fleet>, pool: &Arc<Pool>, seed: u64, index: usize) -> Self {
        let (fleet, pool, random) = (fleet.clone(), pool.clone(), Random::new(seed.wrapping_add(index as u64)));
        let (user, number) = (USERS[index % USERS.len()], (index as u64) << 40);
        Self { fleet, pool, random, user, caller: None, admin: None, number, checks: JoinSet::new() }
    }

    pub(super) async fn work(mut self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Acquire) {
            let Some(seat) = any(&self.fleet, &mut self.random) else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            match self.random.below(100) {
                0..=39 => self.check(seat).await,
                40..=53 => self.check_pair(seat).await,
                54..=59 => self.log_in(seat).await,
                60..=65 => self.refresh(seat).await,
                66..=69 => self.personal(seat).await,
                70..=71 => self.issue_once(seat).await,
                72..=87 => self.duel(seat).await,
                88..=93 => self.unrevoke(seat).await,
                94..=97 => self.end_session(seat).await,
                98 => self.change_password(seat).await,
                _ => self.end_all(seat).await,
            }
            while let Some(done) = self.checks.try_join_next() {
                done.unwrap();
            }
            self.finish_checks(CHECKS).await;
        }
        self.finish_checks(0).await;
    }

    /// Waits until no more checks than these are under way.
    async fn finish_checks(&mut self, most: usize) {
        while self.checks.len() > most {
            self.checks.join_next().await.unwrap().unwrap();
        }
    }

    async fn check(&mut self, seat: Seat) {
        let Some(token) = self.pool.access(&mut self.random) else { return };
        self.fleet.look(seat, &token, Setting::Alone).await;
    }

    /// Checks a token everywhere, until something else is over and then some more.
    fn check_until(&mut self, over: &Arc<AtomicBool>, token: &Token) {
        for seat in self.fleet.seats() {
            self.checks.spawn(check_until(self.fleet.clone(), seat, token.clone(), over.clone()));
        }
    }

    /// Asks two processes about one token, one of them strict where there is one.
    async fn check_pair(&mut self, seat: Seat) {
        let Some(token) = self.pool.access(&mut self.random) else { return };
        let Some(other) = self.fleet.strict_seat().or_else(|| any(&self.fleet, &mut self.random)) else { return };
        self.number += 1;
        let setting = Setting::Pair(self.number);
        if seat.process != other.process {
            tokio::join!(self.fleet.look(seat, &token, setting), self.fleet.look(other, &token, setting));
        }
    }

    async fn log_in(&mut self, seat: Seat) {
        let tokens = self.fleet.log_in(seat, self.user).await;
        self.caller = tokens.first().cloned();
        self.pool.add(&tokens);
    }

    async fn refresh(&mut self, seat: Seat) {
        let user = self.user;
        let Some(token) = self.pool.pick(&mut self.random, |token| token.is_refresh && *token.subject == *user) else {
            return;
        };
        let tokens = self.fleet.refresh(seat, &token).await;
        self.pool.add(&tokens);
        if self.random.one_in(4) {
            self.thieve(seat, &token, &tokens).await;
        }
    }

    /// Uses a refresh token once more, after the one that was got for it: somebody else must have it.
    async fn thieve(&mut self, seat: Seat, spent: &Token, got: &[Token]) {
        let Some(successor) = got.iter().find(|token| token.is_refresh) else { return };
        let tokens = self.fleet.refresh(seat, successor).await;
        self.pool.add(&tokens);
        let Some(access) = tokens.iter().find(|token| !token.is_refresh) else { return };
        let over = Arc::new(AtomicBool::new(false));
        self.check_until(&over, access);
        self.fleet.refresh(seat, spent).await;
        over.store(true, Ordering::Release);
    }

    async fn personal(&mut self, seat: Seat) {
        let Some(caller) = self.caller(seat).await else { return };
        let tokens = self.fleet.personal(seat, &caller).await;
        if tokens.is_empty() {
            self.caller = None;
        }
        self.pool.add(&tokens);
    }

    /// Has tokens issued under one key at two servers at once, and then again.
    async fn issue_once(&mut self, seat: Seat) {
        self.number += 1;
        let (key, subject): (Id, String) = (self.number.to_string().into(), format!("{}-of-the-shop", self.user));
        let mut before: Option<Token> = None;
        for _ in 0..2 {
            let Some(other) = any(&self.fleet, &mut self.random) else { return };
            let ask = |seat| self.fleet.issue_once(seat, &subject, &key, before.as_ref());
            let (one, two) = tokio::join!(ask(seat), ask(other));
            let got = if one.is_empty() { two } else { one };
            if before.is_none() {
                self.pool.add(&got);
                before = got.into_iter().next();
            }
        }
    }

    /// Checks a token at every server, again and again, while it is revoked, and perhaps while that is undone.
    async fn duel(&mut self, seat: Seat) {
        let Some(token) = self.own().await else { return };
        let changes = match self.random.below(3) {
            0 => vec![Effect::Revoke(token.jti.clone()), Effect::Unrevoke(token.jti.clone())],
            _ => vec![Effect::Revoke(token.jti.clone())],
        };
        for change in changes {
            let over = Arc::new(AtomicBool::new(false));
            self.check_until(&over, &token);
            // Whoever has stolen it tries to keep it.
            if self.random.one_in(3) && change == Effect::Revoke(token.jti.clone()) {
                self.checks.spawn(keep_until(self.fleet.clone(), seat, token.clone(), over.clone()));
            }
            self.change(seat, &change).await;
            over.store(true, Ordering::Release);
        }
    }

    async fn unrevoke(&mut self, seat: Seat) {
        let Some(token) = self.own().await else { return };
        if self.change(seat, &Effect::Unrevoke(token.jti.clone())).await == Outcome::Done {
            self.check_until(&Arc::new(AtomicBool::new(true)), &token);
        }
    }

    async fn end_session(&mut self, seat: Seat) {
        let Some(token) = self.own().await else { return };
        if self.change(seat, &Effect::EndSession(token.sid.clone())).await == Outcome::Done {
            self.check_until(&Arc::new(AtomicBool::new(true)), &token);
        }
    }

    async fn end_all(&mut self, seat: Seat) {
        let (Some(token), Some(caller)) = (self.own().await, self.caller(seat).await) else { return };
        let keep = self.random.one_in(2).then_some(caller.sid);
        if self.change(seat, &Effect::EndAll { subject: self.user.into(), keep }).await == Outcome::Done {
            self.check_until(&Arc::new(AtomicBool::new(true)), &token);
        }
    }

    async fn change_password(&mut self, seat: Seat) {
        let (Some(token), Some(caller)) = (self.own().await, self.caller(seat).await) else { return };
        match self.fleet.change_password(seat, &caller).await {
            Outcome::Done => self.check_until(&Arc::new(AtomicBool::new(true)), &token),
            _ => self.caller = None,
        }
    }

    /// Asks for a change, as the user or as an administrator.
    async fn change(&mut self, seat: Seat, effect: &Effect) -> Outcome {
        // Only a user keeps a session.
        let is_admin = self.random.one_in(3) && !matches!(effect, Effect::EndAll { keep: Some(_), .. });
        if is_admin {
            if self.admin.is_none() {
                self.admin = self.fleet.log_in(seat, ADMIN).await.into_iter().next();
            }
            let Some(admin) = &self.admin else { return Outcome::Not };
            let outcome = self.fleet.change(seat, By::Admin(admin), effect).await;
            if outcome == Outcome::Not {
                // It may be that its token was refused.
                self.admin = None;
            }
            return outcome;
        }
        let Some(caller) = self.caller(seat).await else { return Outcome::Not };
        let outcome = self.fleet.change(seat, By::User(&caller), effect).await;
        if outcome == Outcome::Not {
            // It may be that its token was refused.
            self.caller = None;
        }
        outcome
    }

    async fn caller(&mut self, seat: Seat) -> Option<Token> {
        if self.caller.is_none() {
            self.log_in(seat).await;
        }
        self.caller.clone()
    }

    /// An access token of its user's.
    async fn own(&mut self) -> Option<Token> {
        let user = self.user;
        self.pool.pick(&mut self.random, |token| !token.is_refresh && *token.subject == *user)
    }
}

/// An operator with the command line.
pub(super) async fn operate(fleet: Arc<Fleet>, pool: Arc<Pool>, mut random: Random, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Acquire) {
        if random.one_in(5) {
            let user = *random.pick(&USERS);
            let tokens = fleet.command_issue(user).await;
            pool.add(&tokens);
        }
        let Some(token) = pool.access(&mut random) else { continue };
        let change = command_change(&mut random, &token);
        if fleet.command(&change, Tamper::Nothing).await == Outcome::Done {
            check_everywhere(&fleet, &token).await;
        }
    }
}

/// A change that the command line can make of this token.
pub(super) fn command_change(random: &mut Random, token: &Token) -> Effect {
    let (jti, sid, subject): (Id, Id, Id) = (token.jti.clone(), token.sid.clone(), token.subject.clone());
    match random.below(12) {
        0..=5 => Effect::Revoke(jti),
        6..=9 => Effect::Unrevoke(jti),
        10 => Effect::EndSession(sid),
        _ => Effect::EndAll { subject, keep: None },
    }
}

pub(super) async fn check_everywhere(fleet: &Arc<Fleet>, token: &Token) {
    for seat in fleet.seats() {
        fleet.look(seat, token, Setting::Alone).await;
    }
}

/// Checks a token until the change is over, and then some more.
pub(super) async fn check_until(fleet: Arc<Fleet>, seat: Seat, token: Token, over: Arc<AtomicBool>) {
    let began = Instant::now();
    while !over.load(Ordering::Acquire) && began.elapsed() < DUEL {
        fleet.look(seat, &token, Setting::Alone).await;
        // The others want to do something too.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fleet.look(seat, &token, Setting::Alone).await;
    fleet.look(seat, &token, Setting::Alone).await;
}

/// Un-revokes a token with itself until something else is over.
async fn keep_until(fleet: Arc<Fleet>, seat: Seat, token: Token, over: Arc<AtomicBool>) {
    let keep = Effect::Unrevoke(token.jti.clone());
    while !over.load(Ordering::Acquire) && fleet.change(seat, By::User(&token), &keep).await == Outcome::Done {}
}

pub(super) fn any(fleet: &Fleet, random: &mut Random) -> Option<Seat> {
    let seats = fleet.seats();
    if seats.is_empty() { None } else { Some(*random.pick(&seats)) }
}
