//! Adding a user.

use askama::Template;
use rocket::form::FromForm;
use rocket::http::Status;
use rocket::{Route, State, get, post, routes};

use super::because::because;
use super::form::{found, scopes_of};
use super::users::path_of;
use crate::accounts::Accounts;
use crate::error::Kind;
use crate::guard::Device;
use crate::http::console::error::{ConsoleError, sentence};
use crate::http::console::form::{Field, Posted, WRONG};
use crate::http::console::frame::Frame;
use crate::http::console::page::{Answer, Page, SeeOther};
use crate::http::console::signed_in::AdminSignedIn;
use crate::registry::Registry;
use crate::token::Subject;

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![ask_new, add]
}

#[derive(Template)]
#[template(path = "console/admin_user_new.html")]
struct NewPage<'r> {
    frame: Frame<'r>,
    chars_min: u32,
    name: Field,
    password: Field,
    again: Field,
    scope: Field,
    is_admin: bool,
    reason: Field,
}

impl<'r> NewPage<'r> {
    fn of(person: &AdminSignedIn<'r>, registry: &Registry) -> Self {
        Self {
            frame: person.frame(),
            chars_min: registry.settings().password.chars_min,
            name: Field::default(),
            password: Field::default(),
            again: Field::default(),
            scope: Field::default(),
            is_admin: false,
            reason: Field::default(),
        }
    }
}

#[get("/admin/new-user")]
fn ask_new<'r>(person: AdminSignedIn<'r>, registry: &State<Registry>) -> Page<NewPage<'r>> {
    Page(NewPage::of(&person, registry))
}

#[derive(FromForm)]
struct New {
    name: String,
    password: String,
    again: String,
    scope: String,
    administrator: bool,
    reason: String,
}

#[post("/admin/new-user", data = "<form>")]
async fn add<'r>(
    person: AdminSignedIn<'r>,
    device: Device<'_>,
    accounts: &State<Accounts>,
    registry: &State<Registry>,
    form: Posted<New>,
) -> Result<Answer<NewPage<'r>>, ConsoleError> {
    let form = form.0;
    let mut page = NewPage {
        name: Field::of(form.name.trim()),
        scope: Field::of(form.scope.trim()),
        is_admin: form.administrator,
        reason: Field::of(form.reason.trim()),
        ..NewPage::of(&person, registry)
    };
    let name = found(&mut page.name, form.name.trim().parse::<Subject>());
    let scope = found(&mut page.scope, scopes_of(&form.scope, form.administrator));
    let act = found(&mut page.reason, because(person.act(&device), &form.reason));
    if form.password != form.again {
        page.again.error = Some("The two passwords differ.".to_owned());
        return Ok(Answer::Page(WRONG, page));
    }
    let (Some(name), Some(scope), Some(act)) = (name, scope, act) else { return Ok(Answer::Page(WRONG, page)) };
    match accounts.add(&name, &form.password, &scope, &act).await {
        Ok(user) => Ok(Answer::SeeOther(SeeOther::done(&path_of(&user.username), "user-added"))),
        Err(error) if error.is_invalid() => {
            page.password.error = Some(sentence(&error));
            Ok(Answer::Page(WRONG, page))
        }
        Err(error) if matches!(error.kind(), Kind::Conflict | Kind::Reserved) => {
            page.name.error = Some(sentence(&error));
            Ok(Answer::Page(Status::Conflict, page))
        }
        Err(error) => Err(error.into()),
    }
}
