//! Who is signed in: the cookie of the console, its token, and the user whom it speaks for.

use std::ops::Deref;
use std::sync::OnceLock;

use rocket::Request;
use rocket::outcome::Outcome;
use rocket::request::{self, FromRequest};

use super::cookie;
use super::error::ConsoleError;
use super::frame::{self, Frame};
use crate::accounts::{ADMIN_SCOPE, Accounts, User};
use crate::guard::Device;
use crate::registry::{Checked, Registry};
use crate::token::{Act, Actor, Denial, Scopes, Sid, Subject};

/// Who sent a request, by the console's own token and nothing else. The token is live and the user has an account that
/// isn't disabled.
#[derive(Clone, Copy)]
pub(super) struct SignedIn<'r> {
    person: &'r Person,
    path: &'r str,
    notice: Option<&'static str>,
}

/// The same, and may do what administrators may: by the token and by the user's scopes as they are now.
#[derive(Clone, Copy)]
pub(super) struct AdminSignedIn<'r>(SignedIn<'r>);

/// What is found out once for each request.
struct Person {
    token: Checked,
    user: User,
}

impl<'r> SignedIn<'r> {
    /// The token that the console's cookie holds.
    pub(super) fn token(&self) -> &'r Checked {
        &self.person.token
    }

    pub(super) fn subject(&self) -> &'r Subject {
        self.person.token.subject()
    }

    /// The session of the console itself, which is the current one.
    pub(super) fn session(&self) -> Sid {
        self.person.token.session()
    }

    /// What the user may do through the console: what was granted at the log-in, as far as the user still has it.
    pub(super) fn scopes(&self) -> Scopes {
        self.person.token.scopes().intersection(&self.person.user.scope)
    }

    pub(super) fn is_admin(&self) -> bool {
        self.scopes().contains(ADMIN_SCOPE)
    }

    /// An act of this user on its own tokens and sessions.
    pub(super) fn act(&self, device: &Device<'_>) -> Act {
        self.person.token.act_as(Actor::subject(self.subject())).ip(device.ip)
    }

    /// What stands around every page.
    pub(super) fn frame(&self) -> Frame<'r> {
        Frame::of(self.person.user.username.as_str(), self.csrf(), self.is_admin(), self.path, self.notice)
    }

    /// The value that every form has to send.
    pub(super) fn csrf(&self) -> &'r str {
        self.person.token.claims().csrf.as_deref().unwrap_or_default()
    }

    /// Who was found to send this request, where somebody asked.
    pub(super) fn known(request: &'r Request<'_>) -> Option<Self> {
        let person = cell(request).get()?.as_ref().ok()?;
        Some(Self::of(request, person))
    }

    fn of(request: &'r Request<'_>, person: &'r Person) -> Self {
        Self { person, path: request.uri().path().as_str(), notice: frame::notice(request) }
    }

    pub(super) async fn find(request: &'r Request<'_>) -> Result<Self, Denial> {
        let cell = cell(request);
        if cell.get().is_none() {
            let found = find(request).await;
            // Guards of one request ask one after the other.
            let _ = cell.set(found);
        }
        match cell.get() {
            Some(Ok(person)) => Ok(Self::of(request, person)),
            Some(Err(denial)) => Err(denial.clone()),
            None => Err(Denial::Unavailable),
        }
    }

    /// Refuses who is not signed in any more, or may do less: a form may be held back until after that was
    /// acknowledged.
    pub(super) async fn look_again(&self, request: &Request<'_>) -> Result<(), Denial> {
        let now = find(request).await?;
        if self.scopes().is_subset(&SignedIn::of(request, &now).scopes()) { Ok(()) } else { Err(Denial::Revoked) }
    }
}

impl AdminSignedIn<'_> {
    /// An act of an administrator, on anybody's tokens.
    pub(super) fn act(&self, device: &Device<'_>) -> Act {
        self.person.token.act_as(Actor::administrator(self.subject())).ip(device.ip)
    }
}

impl<'r> Deref for AdminSignedIn<'r> {
    type Target = SignedIn<'r>;

    fn deref(&self) -> &SignedIn<'r> {
        &self.0
    }
}

fn cell<'r>(request: &'r Request<'_>) -> &'r OnceLock<Result<Person, Denial>> {
    request.local_cache(OnceLock::new)
}

async fn find(request: &Request<'_>) -> Result<Person, Denial> {
    let (registry, accounts) = (request.rocket().state::<Registry>(), request.rocket().state::<Accounts>());
    let (Some(registry), Some(accounts)) = (registry, accounts) else { return Err(Denial::Unavailable) };
    let token = registry.check_console(cookie::sent(request, cookie::TOKEN)?.ok_or(Denial::Missing)?).await?;
    match accounts.get(token.subject()).await {
        Ok(user) if !user.disabled => Ok(Person { token, user }),
        Ok(_) => Err(Denial::Revoked),
        Err(error) if error.is_not_found() => Err(Denial::NoUser),
        Err(error) => {
            tracing::error!(error = %error.in_full(), "who is signed in can't be looked up");
            Err(Denial::Unavailable)
        }
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for SignedIn<'r> {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, ()> {
        match Self::find(request).await {
            Ok(person) => Outcome::Success(person),
            Err(denial) => Outcome::Error((ConsoleError::from(denial).keep(request), ())),
        }
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for AdminSignedIn<'r> {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, ()> {
        let error = match SignedIn::find(request).await {
            Ok(person) if person.is_admin() => return Outcome::Success(Self(person)),
            Ok(_) => ConsoleError::not_an_administrator(),
            Err(denial) => denial.into(),
        };
        Outcome::Error((error.keep(request), ()))
    }
}
