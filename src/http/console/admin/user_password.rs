//! Setting the password of a user.

use askama::Template;
use rocket::form::FromForm;
use rocket::{Route, State, get, post, routes};

use super::because::because;
use super::form::found;
use super::users::{UserView, or_no_user, path_of, user};
use crate::accounts::{Accounts, User};
use crate::guard::Device;
use crate::http::console::error::{ConsoleError, sentence};
use crate::http::console::form::{Field, Posted, WRONG};
use crate::http::console::frame::Frame;
use crate::http::console::page::{Answer, Page, SeeOther};
use crate::http::console::sessions::outlives;
use crate::http::console::signed_in::AdminSignedIn;
use crate::registry::Registry;

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![ask_password, set_password]
}

#[derive(Template)]
#[template(path = "console/admin_user_password.html")]
struct PasswordPage<'r> {
    frame: Frame<'r>,
    user: UserView,
    chars_min: u32,
    password: Field,
    again: Field,
    ends_sessions: bool,
    reason: Field,
    outlives: Option<String>,
}

impl<'r> PasswordPage<'r> {
    fn of(user: &User, person: &AdminSignedIn<'r>, registry: &Registry) -> Self {
        Self {
            frame: person.frame(),
            user: UserView::of(user, person),
            chars_min: registry.settings().password.chars_min,
            password: Field::default(),
            again: Field::default(),
            ends_sessions: true,
            reason: Field::default(),
            outlives: outlives(registry),
        }
    }
}

#[get("/admin/users/<name>/password")]
async fn ask_password<'r>(
    name: &str,
    person: AdminSignedIn<'r>,
    accounts: &State<Accounts>,
    registry: &State<Registry>,
) -> Result<Page<PasswordPage<'r>>, ConsoleError> {
    let user = user(accounts, name).await?;
    Ok(Page(PasswordPage::of(&user, &person, registry)))
}

#[derive(FromForm)]
struct SetPassword {
    password: String,
    again: String,
    end_sessions: bool,
    reason: String,
}

#[post("/admin/users/<name>/password", data = "<form>")]
async fn set_password<'r>(
    name: &str,
    person: AdminSignedIn<'r>,
    device: Device<'_>,
    accounts: &State<Accounts>,
    registry: &State<Registry>,
    form: Posted<SetPassword>,
) -> Result<Answer<PasswordPage<'r>>, ConsoleError> {
    let SetPassword { password, again, end_sessions, reason } = form.0;
    let user = user(accounts, name).await?;
    let mut page = PasswordPage { ends_sessions: end_sessions, ..PasswordPage::of(&user, &person, registry) };
    page.reason.value = reason.trim().to_owned();
    let Some(act) = found(&mut page.reason, because(person.act(&device), &reason)) else {
        return Ok(Answer::Page(WRONG, page));
    };
    if password != again {
        page.again.error = Some("The two passwords differ.".to_owned());
        return Ok(Answer::Page(WRONG, page));
    }
    match accounts.set_password(&user.username, &password, !end_sessions, &act).await {
        Ok(()) => {
            let done = if end_sessions { "user-password-set-sessions-ended" } else { "user-password-set" };
            Ok(Answer::SeeOther(SeeOther::done(&path_of(&user.username), done)))
        }
        Err(error) if error.is_invalid() => {
            page.password.error = Some(sentence(&error));
            Ok(Answer::Page(WRONG, page))
        }
        Err(error) => Err(or_no_user(error)),
    }
}
