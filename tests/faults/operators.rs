//! What befalls those who make changes with the command line, and the changes that are theirs alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;

use super::calls::Token;
use super::commands::Tamper;
use super::history::{Effect, Outcome};
use super::inject::Injector;
use super::work::{any, check_everywhere, check_until, command_change};
use super::{ADMIN, USERS};

impl Injector {
    /// The command line is stopped at any moment of a change.
    pub(super) async fn freeze_revoker(&mut self) {
        let Some(token) = self.pool.access(&mut self.random) else { return };
        let change = command_change(&mut self.random, &token);
        let tamper = Tamper::Freeze(self.millis(0, 120), self.millis(100, 2_500));
        if self.fleet.command(&change, tamper).await == Outcome::Done {
            check_everywhere(&self.fleet, &token).await;
        }
    }

    /// The command line is killed at any moment of a change, which is made again after that.
    pub(super) async fn kill_revoker(&mut self) {
        for _ in 0..4 {
            let Some(token) = self.pool.access(&mut self.random) else { return };
            let change = command_change(&mut self.random, &token);
            let tamper = Tamper::Kill(self.millis(0, 120));
            self.fleet.command(&change, tamper).await;
            if self.fleet.command(&change, Tamper::Nothing).await == Outcome::Done {
                check_everywhere(&self.fleet, &token).await;
            }
        }
    }

    /// The key that everybody signs with is retired while all look at a token of it.
    pub(super) async fn retire_key(&mut self) {
        let token = self.log_in(ADMIN).await;
        self.change_amid_checks(&token, &Effect::RetireKey(token.kid.clone())).await;
        self.pool.retire(&token.kid);
    }

    /// Another key signs, if the next has been known for long enough.
    pub(super) async fn rotate_keys(&mut self) {
        let tamper = self.tamper();
        self.fleet.rotate_keys(tamper).await;
    }

    /// A user loses a scope while all look at a token that holds it, others log in and refresh, and gets it back.
    pub(super) async fn take_scope(&mut self) {
        let user = *self.random.pick(&USERS);
        let token = self.log_in(user).await;
        self.change_amid_checks(&token, &Effect::Narrow(user.into())).await;
        if let Some(seat) = any(&self.fleet, &mut self.random) {
            let tokens = self.fleet.log_in(seat, user).await;
            self.pool.add(&tokens);
        }
        self.undo(&Effect::Widen(user.into())).await;
    }

    /// A user is disabled while all look at one of the tokens, and enabled again.
    pub(super) async fn disable_user(&mut self) {
        let user = *self.random.pick(&USERS);
        let token = self.log_in(user).await;
        self.change_amid_checks(&token, &Effect::Disable(user.into())).await;
        for seat in self.fleet.seats() {
            self.fleet.log_in(seat, user).await;
        }
        self.undo(&Effect::Enable(user.into())).await;
    }

    /// An access token of one who logs in now.
    async fn log_in(&mut self, user: &str) -> Token {
        loop {
            let seats = self.fleet.seats();
            let tokens = self.fleet.log_in(*self.random.pick(&seats), user).await;
            self.pool.add(&tokens);
            if let Some(token) = tokens.into_iter().next() {
                return token;
            }
        }
    }

    /// Makes a change while all servers are asked about a token, and perhaps whoever makes it is stopped or killed;
    /// then it is made once more.
    async fn change_amid_checks(&mut self, token: &Token, change: &Effect) {
        let tamper = self.tamper();
        let (over, mut checks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for seat in self.fleet.seats() {
            checks.spawn(check_until(self.fleet.clone(), seat, token.clone(), over.clone()));
        }
        if self.fleet.command(change, tamper).await == Outcome::Perhaps {
            self.fleet.command(change, Tamper::Nothing).await;
        }
        over.store(true, Ordering::Release);
        while let Some(done) = checks.join_next().await {
            done.unwrap();
        }
    }

    /// Makes a change until it is made, so that the user can go on.
    async fn undo(&self, change: &Effect) {
        while !matches!(self.fleet.command(change, Tamper::Nothing).await, Outcome::Done | Outcome::Committed) {}
    }

    fn tamper(&mut self) -> Tamper<'static> {
        let after = self.millis(0, 120);
        match self.random.below(3) {
            0 => Tamper::Nothing,
            1 => Tamper::Freeze(after, self.millis(100, 2_500)),
            _ => Tamper::Kill(after),
        }
    }
}
