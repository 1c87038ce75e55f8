//! Errors as pages: what happened and what to do, in words.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::Duration;

use askama::Template;
use rocket::Request;
use rocket::http::{Header, Status};
use rocket::response::{self, Responder, Response};

use super::frame::Frame;
use super::page::Page;
use super::sign_in;
use super::signed_in::SignedIn;
use super::time::in_words;
use crate::accounts::LoginFailure;
use crate::error::{Error, Kind};
use crate::http::catchers::allowed_instead;
use crate::http::error::whole_seconds;
use crate::token::Denial;

/// Why a page can't be shown, or what was asked for can't be done.
#[derive(Debug, Clone)]
pub(super) struct ConsoleError {
    status: Status,
    title: Cow<'static, str>,
    text: Cow<'static, str>,
    /// Seconds after which trying again may help.
    retry_after: Option<u64>,
    /// Whether signing in is what helps.
    signs_in: bool,
    allow: Option<String>,
}

#[derive(Template)]
#[template(path = "console/error.html")]
struct ErrorPage<'r> {
    frame: Frame<'r>,
    error: &'r ConsoleError,
}

impl ConsoleError {
    /// An error of this status: a title, and one or two sentences that say what happened and what to do.
    pub(super) fn new(status: Status, title: impl Into<Cow<'static, str>>, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, title: title.into(), text: text.into(), retry_after: None, signs_in: false, allow: None }
    }

    /// Some thing that is not here, or not this user's: nobody is told which.
    pub(super) fn not_found(title: &'static str, text: &'static str) -> Self {
        Self::new(Status::NotFound, title, text)
    }

    pub(super) fn not_an_administrator() -> Self {
        let text = "This page is for administrators: users with the scope registry:admin. If you were given it just now, \
                    sign out and in again.";
        Self::new(Status::Forbidden, "This page is not yours", text)
    }

    /// A form that this console did not show to this person, or that another site sent.
    pub(super) fn forged() -> Self {
        let text = "This form was not sent from a page of this console that is still good, so nothing was done. Go back, \
                    reload the page and try again.";
        Self::new(Status::Forbidden, "Nothing was done", text)
    }

    pub(super) fn bad_form() -> Self {
        let text = "The form came without something that it needs, so nothing was done. Go back, reload the page and try \
                    again.";
        Self::new(Status::UnprocessableEntity, "The form can't be read", text)
    }

    /// Too many attempts have failed.
    pub(super) fn limited(retry_after: Duration) -> Self {
        let seconds = whole_seconds(retry_after);
        let text = format!("Too many attempts have failed. Wait {}, then try again.", in_words(seconds));
        Self { retry_after: Some(seconds), ..Self::new(Status::TooManyRequests, "Wait a moment", text) }
    }

    fn signed_out() -> Self {
        let text = "Your session is over. Sign in to go on.";
        Self { signs_in: true, ..Self::new(Status::Unauthorized, "Sign in to go on", text) }
    }

    /// Two cookies that differ, as another host of the domain can make browsers send. Signing in helps as little as
    /// removing them from here, which leaves the other host's.
    fn ambiguous() -> Self {
        let text = "Your browser sent two cookies of this console that differ, and nobody can tell which one is yours, so \
                    nothing was done. Another host of this domain may have set one. Delete this browser's cookies for this \
                    site and for the domain above it, then sign in again. Whoever runs the server can keep this from \
                    happening: with HTTPS and the setting cookie.secure.";
        Self::new(Status::BadRequest, "There are two cookies where one belongs", text)
    }

    fn unavailable() -> Self {
        let text = "The registry can't be asked just now, so nothing was done. Try again in a moment.";
        let error = Self::new(Status::ServiceUnavailable, "Try again in a moment", text);
        Self { retry_after: Some(u64::from(Denial::RETRY_AFTER_SECONDS)), ..error }
    }

    fn failed() -> Self {
        let text = "The server failed to answer. Its log says why: tell whoever runs it when this happened.";
        Self::new(Status::InternalServerError, "Something went wrong", text)
    }

    /// What Rocket answers by itself.
    pub(super) fn of_status(status: Status, request: &Request<'_>) -> Self {
        match status.code {
            404 => {
                let Some(allow) = allowed_instead(request) else {
                    return Self::not_found("There is nothing here", "The address leads to no page of this console.");
                };
                let text = "This address is for a form that you sent before. Go to the page that you came from.";
                Self {
                    allow: Some(allow),
                    ..Self::new(Status::MethodNotAllowed, "There is nothing to show here", text)
                }
            }
            401 => Self::signed_out(),
            413 => Self::new(status, "That is too much", "The form is larger than this server takes."),
            501 => {
                Self::new(status, "That can't be done here", "The request has a method that this server does not know.")
            }
            503 => Self::unavailable(),
            400..=499 => Self { status, ..Self::bad_form() },
            _ => Self::failed(),
        }
    }

    /// Keeps the error of a guard for the catcher, which sees its status and the request alone.
    pub(super) fn keep(self, request: &Request<'_>) -> Status {
        let status = self.status;
        // The first reason is the one that counts.
        let _ = kept(request).set(self);
        status
    }

    /// The error that a guard kept, where one did.
    pub(super) fn take(request: &Request<'_>) -> Option<Self> {
        kept(request).get().cloned()
    }
}

fn kept<'r>(request: &'r Request<'_>) -> &'r OnceLock<ConsoleError> {
    request.local_cache(OnceLock::new)
}

impl From<Denial> for ConsoleError {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Unavailable => Self::unavailable(),
            Denial::Ambiguous => Self::ambiguous(),
            Denial::InsufficientScope { missing } => {
                let text = format!("For that you need the scope {missing}, which you don't have.");
                Self::new(Status::Forbidden, "You may not do that", text)
            }
            _ => Self::signed_out(),
        }
    }
}

impl From<Error> for ConsoleError {
    fn from(error: Error) -> Self {
        match error.kind() {
            Kind::Invalid(_) => Self::new(Status::UnprocessableEntity, "That is not valid", sentence(&error)),
            Kind::NotFound => Self::not_found("It is not here any more", "It was removed, or never was yours."),
            Kind::Final => Self::new(Status::Conflict, "That can't be undone", sentence(&error)),
            Kind::Full | Kind::Reserved | Kind::Conflict => {
                Self::new(Status::Conflict, "Nothing was done", sentence(&error))
            }
            Kind::Superseded => Self::signed_out(),
            Kind::Unconfirmed => {
                tracing::warn!(error = %error.in_full(), "a change can't be confirmed");
                let text = "It is done, but whether every server knows can't be told just now. Do the same once more in a \
                            moment, to be sure.";
                let error = Self::new(Status::ServiceUnavailable, "Not confirmed yet", text);
                Self { retry_after: Some(u64::from(Denial::RETRY_AFTER_SECONDS)), ..error }
            }
            Kind::Unavailable => {
                tracing::warn!(error = %error.in_full(), "a page can't be shown");
                Self::unavailable()
            }
            Kind::Config | Kind::Schema | Kind::Internal => {
                tracing::error!(error = %error.in_full(), "a page can't be shown");
                Self::failed()
            }
        }
    }
}

impl From<LoginFailure> for ConsoleError {
    fn from(failure: LoginFailure) -> Self {
        match failure {
            LoginFailure::BadCredentials => {
                Self::new(Status::UnprocessableEntity, "Nothing was done", "The password is not the right one.")
            }
            LoginFailure::Limited { retry_after } => Self::limited(retry_after),
            LoginFailure::Failed(error) => error.into(),
        }
    }
}

/// What an error says, as a sentence of a page.
pub(super) fn sentence(error: &Error) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{end}", chars.as_str())
}

impl<'r> Responder<'r, 'static> for ConsoleError {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        if self.signs_in {
            return sign_in::instead_of(request).respond_to(request);
        }
        let mut frame = SignedIn::known(request).map_or_else(|| Frame::of_nobody(None), |person| person.frame());
        frame.notice = None;
        let page = ErrorPage { frame, error: &self };
        let mut answer = Response::build_from(Page(page).respond_to(request)?);
        answer.status(self.status);
        if let Some(seconds) = self.retry_after {
            answer.header(Header::new("Retry-After", seconds.to_string()));
        }
        if let Some(allow) = self.allow {
            answer.header(Header::new("Allow", allow));
        }
        answer.ok()
    }
}
