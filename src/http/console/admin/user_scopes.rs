//! What a user may do: setting the scopes of a user.

use askama::Template;
use rocket::form::FromForm;
use rocket::http::Status;
use rocket::{Route, State, get, post, routes};

use super::because::because;
use super::form::{found, scopes_of};
use super::users::{UserView, or_no_user, path_of, user};
use crate::accounts::{ADMIN_SCOPE, Accounts, User};
use crate::guard::Device;
use crate::http::console::error::ConsoleError;
use crate::http::console::form::{Field, Posted, WRONG};
use crate::http::console::frame::Frame;
use crate::http::console::page::{Answer, Page, SeeOther};
use crate::http::console::sessions::outlives;
use crate::http::console::signed_in::AdminSignedIn;
use crate::registry::Registry;
use crate::token::Scopes;

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![ask_scopes, set_scopes]
}

#[derive(Template)]
#[template(path = "console/admin_user_scopes.html")]
struct ScopesPage<'r> {
    frame: Frame<'r>,
    user: UserView,
    held: String,
    scope: Field,
    reason: Field,
    /// What would be taken away, where that is still to be asked.
    taken: Vec<String>,
    locks_out: bool,
    outlives: Option<String>,
}

#[get("/admin/users/<name>/scopes")]
async fn ask_scopes<'r>(
    name: &str,
    person: AdminSignedIn<'r>,
    accounts: &State<Accounts>,
) -> Result<Page<ScopesPage<'r>>, ConsoleError> {
    let user = user(accounts, name).await?;
    Ok(Page(ScopesPage {
        frame: person.frame(),
        held: user.scope.to_string(),
        scope: Field::of(user.scope.to_string()),
        user: UserView::of(&user, &person),
        reason: Field::default(),
        taken: Vec::new(),
        locks_out: false,
        outlives: None,
    }))
}

#[derive(FromForm)]
struct SetScopes {
    /// Those that the page showed.
    held: String,
    scope: String,
    reason: String,
    /// Whether it was asked about what is taken away.
    sure: bool,
}

/// Whoever takes scopes away is asked once: it ends access tokens.
#[post("/admin/users/<name>/scopes", data = "<form>")]
async fn set_scopes<'r>(
    name: &str,
    person: AdminSignedIn<'r>,
    device: Device<'_>,
    accounts: &State<Accounts>,
    registry: &State<Registry>,
    form: Posted<SetScopes>,
) -> Result<Answer<ScopesPage<'r>>, ConsoleError> {
    let SetScopes { held, scope, reason, sure } = form.0;
    let user = user(accounts, name).await?;
    let held: Scopes = held.parse().map_err(|_| scopes_were_changed())?;
    let mut page = ScopesPage {
        frame: person.frame(),
        user: UserView::of(&user, &person),
        held: held.to_string(),
        scope: Field::of(scope.trim()),
        reason: Field::of(reason.trim()),
        taken: Vec::new(),
        locks_out: false,
        outlives: outlives(registry),
    };
    let scope = found(&mut page.scope, scopes_of(&scope, false));
    let act = found(&mut page.reason, because(person.act(&device), &reason));
    let (Some(scope), Some(act)) = (scope, act) else { return Ok(Answer::Page(WRONG, page)) };
    let taken = held.difference(&scope);
    if !taken.is_empty() && !sure {
        page.locks_out = page.user.is_self && taken.contains(ADMIN_SCOPE);
        page.taken = taken.iter().map(str::to_owned).collect();
        return Ok(Answer::Page(Status::Ok, page));
    }
    match accounts.set_scopes(&user.username, &held, &scope, &act).await.map_err(or_no_user)? {
        Some(user) => Ok(Answer::SeeOther(SeeOther::done(&after_own(&person, &user), "user-scopes-changed"))),
        None => Err(scopes_were_changed()),
    }
}

/// What was taken away meanwhile must not come back from a page that is older.
fn scopes_were_changed() -> ConsoleError {
    let text = "Somebody else changed the scopes of this user meanwhile. Look at them again, and change what is to be changed.";
    ConsoleError::new(Status::Conflict, "Nothing was done", text)
}

/// Where to go after a change: to the user's page, or home for who may not see that any more.
fn after_own(person: &AdminSignedIn<'_>, user: &User) -> String {
    if user.username == *person.subject() && !user.scope.contains(ADMIN_SCOPE) {
        return crate::http::console::sessions::HERE.to_owned();
    }
    path_of(&user.username)
}
