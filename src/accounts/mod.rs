//! The server's own users: their passwords, how often they may be guessed, and the first of them.

mod first_admin;
pub(crate) mod limits;
mod password;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::error::{Error, Kind};
use crate::registry::{AsOf, Checked, Registry, require_free};
use crate::store::{Done, EndSessions, Replaced, StoredUser, UserChange, UserChanged};
use crate::token::{Act, Actor, Scopes, Subject, Target, as_rfc3339, at};
use limits::network;
use password::{Passwords, Turn, Verdict};

/// The scope of administrators.
pub(crate) const ADMIN_SCOPE: &str = "registry:admin";

/// The server's users. A cheap handle: clones share everything.
#[derive(Clone)]
pub(crate) struct Accounts {
    registry: Registry,
    passwords: Arc<Passwords>,
}

/// A user of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct User {
    pub(crate) username: Subject,
    pub(crate) scope: Scopes,
    pub(crate) disabled: bool,
    #[serde(serialize_with = "as_rfc3339")]
    pub(crate) created_at: DateTime<Utc>,
    #[serde(serialize_with = "as_rfc3339")]
    pub(crate) password_changed_at: DateTime<Utc>,
}

/// Who logged in, and the moment that tokens are to be granted as of.
#[derive(Debug)]
pub(crate) struct LoggedIn {
    pub(crate) user: User,
    pub(crate) as_of: AsOf,
}

/// Why a log-in failed.
#[derive(Debug)]
pub(crate) enum LoginFailure {
    /// No such user, a wrong password, or a disabled user: nobody is told which.
    BadCredentials,
    /// Too many have failed.
    Limited { retry_after: Duration },
    /// Nobody can tell.
    Failed(Error),
}

impl From<Error> for LoginFailure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Accounts {
    /// # Errors
    ///
    /// `Kind::Config` for parameters that Argon2 refuses.
    pub(crate) fn new(registry: &Registry) -> Result<Self, Error> {
        let passwords = Arc::new(Passwords::new(&registry.settings().password)?);
        Ok(Self { registry: registry.clone(), passwords })
    }

    /// Checks a username and a password. Whoever is unknown or disabled takes as long as a wrong password.
    pub(crate) async fn login(
        &self,
        username: &str,
        password: &str,
        ip: Option<IpAddr>,
    ) -> Result<LoggedIn, LoginFailure> {
        let Ok(subject) = username.parse::<Subject>() else {
            return Err(self.refuse_impossible(password, ip).await?);
        };
        // Before anything about the user is read: whoever ends all of the user's tokens from here on supersedes this.
        let as_of = self.registry.as_of(&subject).await?;
        let (turn, user, verdict) = self.authenticate(&subject, password, ip).await?;
        self.note_address(&user, ip).await?;
        if verdict == Verdict::RightButOutdated {
            self.rehash(turn, &user, password).await;
        }
        Ok(LoggedIn { user: user.into(), as_of })
    }

    pub(crate) async fn get(&self, username: &Subject) -> Result<User, Error> {
        let user = self.registry.store()?.user(username).await?;
        user.map(User::from).ok_or_else(user_not_found)
    }

    /// By name, from after `after` on.
    pub(crate) async fn list(&self, after: Option<&str>, limit: u16) -> Result<Vec<User>, Error> {
        let users = self.registry.store()?.users(after, limit).await?;
        Ok(users.into_iter().map(User::from).collect())
    }

    /// # Errors
    ///
    /// `Kind::Conflict` where there is a user of that name or a client of that id, `Kind::Reserved` for the server's
    /// own, `Kind::Invalid` for a password that is too short or long.
    pub(crate) async fn add(
        &self,
        username: &Subject,
        password: &str,
        scope: &Scopes,
        act: &Act,
    ) -> Result<User, Error> {
        require_free(username)?;
        self.passwords.check_new(password, "password")?;
        let user = self.new_user(username, password, scope).await?;
        let now = user.created_at;
        let done = self.registry.store()?.add_user(&user, act, now).await?;
        if !done.outcome {
            return Err(Error::new(Kind::Conflict, "There is a user of that name already, or a client of that id"));
        }
        if done.mark.is_some() {
            self.in_force(done, username).await?;
        }
        Ok(user.into())
    }

    /// Makes of the scopes that a user has whatever `change` says. One that is taken away revokes the access tokens
    /// that hold it.
    pub(crate) async fn change_scopes(
        &self,
        username: &Subject,
        change: impl Fn(&Scopes) -> Result<Scopes, Error>,
        act: &Act,
    ) -> Result<User, Error> {
        loop {
            let held = self.get(username).await?.scope;
            let changed = self.set_scopes(username, &held, &change(&held)?, act).await?;
            if let Some(user) = changed {
                return Ok(user);
            }
        }
    }

    /// Gives a user other scopes, in the place of those that somebody looked at; `None` where they are others by now,
    /// so that nothing comes back that was taken away meanwhile. A scope that is taken away revokes the access tokens
    /// that hold it.
    pub(crate) async fn set_scopes(
        &self,
        username: &Subject,
        held: &Scopes,
        to: &Scopes,
        act: &Act,
    ) -> Result<Option<User>, Error> {
        self.set(username, UserChange::Scopes { held, to }, act).await
    }

    /// Disables a user, which ends the user's sessions, or enables one again.
    pub(crate) async fn set_disabled(&self, username: &Subject, disabled: bool, act: &Act) -> Result<User, Error> {
        self.set(username, UserChange::Disabled(disabled), act).await?.ok_or_else(user_not_found)
    }

    async fn set(&self, username: &Subject, change: UserChange<'_>, act: &Act) -> Result<Option<User>, Error> {
        loop {
            let now = self.registry.seconds();
            let done = self.registry.store()?.set_user(username, change, act, now).await?;
            match done.outcome {
                UserChanged::NotFound => return Err(user_not_found()),
                UserChanged::Overtaken => return Ok(None),
                // What was done by then comes before what is still to be, and is waited for with it.
                UserChanged::Begun => {}
                UserChanged::Done(user) => {
                    return self.in_force(Done { outcome: Some(user.into()), mark: done.mark }, username).await;
                }
            }
        }
    }

    /// Sets a user's password without knowing the old one, and ends all sessions unless they are to be kept.
    pub(crate) async fn set_password(
        &self,
        username: &Subject,
        new: &str,
        keep_sessions: bool,
        act: &Act,
    ) -> Result<(), Error> {
        self.passwords.check_new(new, "password")?;
        let (_, hash) = self.passwords.hash(self.turn().await?, new).await?;
        let ends = (!keep_sessions).then_some(EndSessions { keep: None });
        let now = self.registry.seconds();
        let store = self.registry.store()?;
        let done = store.set_password(username, &hash, None, ends, act, now).await?;
        if !done.outcome {
            return Err(user_not_found());
        }
        if done.mark.is_some() {
            self.in_force(done, username).await?;
        }
        Ok(())
    }

    /// Changes the password of the token's subject, who must know the current one; guesses are limited like log-ins.
    /// Ends all sessions but the token's own, unless they are to be kept.
    pub(crate) async fn change_password(
        &self,
        token: &Checked,
        current: &str,
        new: &str,
        keep_sessions: bool,
        ip: Option<IpAddr>,
    ) -> Result<(), LoginFailure> {
        self.passwords.check_new(new, "new")?;
        let claims = token.claims();
        let ends = (!keep_sessions).then_some(EndSessions { keep: Some(claims.sid) });
        let act = Act::by(Actor::subject(&claims.sub)).ip(ip);
        let address = ip.map(network);
        let (user, done) = loop {
            let (turn, user, _) = self.authenticate(&claims.sub, current, ip).await?;
            let (_, hash) = self.passwords.hash(turn, new).await?;
            let now = self.registry.seconds();
            let store = self.registry.store()?;
            // Only what was compared is replaced: whoever else set a password meanwhile, perhaps because this one is
            // known, must not see it set back. A log-in may have hashed the same one anew: the next comparison tells.
            let replaced = Replaced { hash: &user.password_hash, at_address: address.as_deref() };
            let done = store.set_password(&user.username, &hash, Some(replaced), ends, &act, now).await?;
            if done.outcome {
                break (user, done);
            }
        };
        if done.mark.is_some() {
            self.in_force(done, &user.username).await?;
        }
        Ok(())
    }

    /// Removes a user and ends all sessions of the subject.
    pub(crate) async fn delete(&self, username: &Subject, act: &Act) -> Result<(), Error> {
        let now = self.registry.seconds();
        let done = self.registry.store()?.delete_user(username, act, now).await?;
        // Where somebody else removed it, that may not be in force everywhere yet.
        if self.in_force(done, username).await? { Ok(()) } else { Err(user_not_found()) }
    }

    /// Passes on what a change to a user came to, once what it did to the user's tokens is in force everywhere.
    async fn in_force<T>(&self, done: Done<T>, username: &Subject) -> Result<T, Error> {
        self.registry.in_force(done, &[Target::Subject(username.clone())]).await
    }

    /// The user of that name, if the password is right, nothing limits the attempt and the user may log in.
    ///
    /// Over the account's limit the password is compared all the same: so neither the answer nor the time it takes
    /// tells a wrong one from an unknown user, nor from a right one that comes from elsewhere.
    async fn authenticate(
        &self,
        subject: &Subject,
        password: &str,
        ip: Option<IpAddr>,
    ) -> Result<(Turn, StoredUser, Verdict), LoginFailure> {
        // The turn comes first: so at most as many attempts as there are turns can pass a limit that is about to bind.
        let turn = self.turn().await?;
        let attempt = self.attempt(Some(subject), ip).await?;
        let is_let_in = attempt.limited.is_none() || self.knows_address(subject, ip).await?;
        let user = self.registry.store()?.user(subject).await?;
        let hash = user.as_ref().map(|user| user.password_hash.as_str());
        let (turn, verdict) = self.passwords.verify(turn, password, hash).await?;
        match user {
            Some(user) if verdict != Verdict::Wrong && !user.disabled && is_let_in => Ok((turn, user, verdict)),
            _ => Err(self.failed(attempt).await?),
        }
    }

    /// Takes as long as [`authenticate`](Self::authenticate), for a name that no user can have.
    async fn refuse_impossible(&self, password: &str, ip: Option<IpAddr>) -> Result<LoginFailure, LoginFailure> {
        let turn = self.turn().await?;
        let attempt = self.attempt(None, ip).await?;
        let (_turn, _) = self.passwords.verify(turn, password, None).await?;
        Ok(self.failed(attempt).await?)
    }

    async fn turn(&self) -> Result<Turn, Error> {
        self.passwords.turn().await.ok_or_else(|| Error::unavailable("too many passwords are being hashed just now"))
    }

    /// Hashes a right password anew, with the parameters of the settings. The log-in doesn't depend on it.
    async fn rehash(&self, turn: Turn, user: &StoredUser, password: &str) {
        let rehashed = async {
            let (_, hash) = self.passwords.hash(turn, password).await?;
            self.registry.store()?.rehash_password(&user.username, &user.password_hash, &hash).await
        };
        if let Err(error) = rehashed.await {
            tracing::warn!(error = %error.in_full(), "a password could not be hashed anew");
        }
    }

    async fn new_user(&self, username: &Subject, password: &str, scope: &Scopes) -> Result<StoredUser, Error> {
        let (_, password_hash) = self.passwords.hash(self.turn().await?, password).await?;
        let now = self.registry.seconds();
        Ok(StoredUser {
            username: username.clone(),
            password_hash,
            scope: scope.clone(),
            disabled: false,
            created_at: now,
            password_changed_at: now,
        })
    }
}

impl From<StoredUser> for User {
    fn from(user: StoredUser) -> Self {
        Self {
            username: user.username,
            scope: user.scope,
            disabled: user.disabled,
            created_at: at(user.created_at),
            password_changed_at: at(user.password_changed_at),
        }
    }
}

fn user_not_found() -> Error {
    Error::new(Kind::NotFound, "User not found")
}
