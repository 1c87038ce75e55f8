//! Changing one's password.

use askama::Template;
use rocket::form::FromForm;
use rocket::{Route, State, get, post, routes};

use super::error::{ConsoleError, sentence};
use super::form::{Field, Posted, WRONG};
use super::frame::Frame;
use super::page::{Answer, Page, SeeOther};
use super::signed_in::SignedIn;
use crate::accounts::{Accounts, LoginFailure};
use crate::guard::Device;
use crate::registry::Registry;

/// Where the form is.
pub(super) const HERE: &str = "/console/password";

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![show, change]
}

#[derive(Template)]
#[template(path = "console/password.html")]
struct PasswordPage<'r> {
    frame: Frame<'r>,
    chars_min: u32,
    current: Field,
    new: Field,
    again: Field,
    ends_others: bool,
}

impl<'r> PasswordPage<'r> {
    fn of(person: &SignedIn<'r>, registry: &Registry) -> Self {
        Self {
            frame: person.frame(),
            chars_min: registry.settings().password.chars_min,
            current: Field::default(),
            new: Field::default(),
            again: Field::default(),
            ends_others: true,
        }
    }
}

#[get("/password")]
fn show<'r>(person: SignedIn<'r>, registry: &State<Registry>) -> Page<PasswordPage<'r>> {
    Page(PasswordPage::of(&person, registry))
}

#[derive(FromForm)]
struct Change {
    current: String,
    new: String,
    again: String,
    end_others: bool,
}

#[post("/password", data = "<form>")]
async fn change<'r>(
    person: SignedIn<'r>,
    device: Device<'_>,
    accounts: &State<Accounts>,
    registry: &State<Registry>,
    form: Posted<Change>,
) -> Result<Answer<PasswordPage<'r>>, ConsoleError> {
    let Change { current, new, again, end_others } = form.0;
    let page = PasswordPage { ends_others: end_others, ..PasswordPage::of(&person, registry) };
    if new != again {
        let again = Field::wrong("", "The two new passwords differ.");
        return Ok(Answer::Page(WRONG, PasswordPage { again, ..page }));
    }
    match accounts.change_password(person.token(), &current, &new, !end_others, device.ip).await {
        Ok(()) => {
            let done = if end_others { "password-changed-others-ended" } else { "password-changed" };
            Ok(Answer::SeeOther(SeeOther::done(HERE, done)))
        }
        Err(LoginFailure::BadCredentials) => {
            let current = Field::wrong("", "This is not your password.");
            Ok(Answer::Page(WRONG, PasswordPage { current, ..page }))
        }
        Err(LoginFailure::Failed(error)) if error.is_invalid() => {
            let new = Field::wrong("", sentence(&error));
            Ok(Answer::Page(WRONG, PasswordPage { new, ..page }))
        }
        Err(failure) => Err(failure.into()),
    }
}
