//! Users, for administrators: who may log in here, and as what.

use askama::Template;
use rocket::{Route, State, get, post, routes};

use super::because::Because;
use super::form::LIST_LIMIT;
use super::{cut, encoded, named, segment, subjects};
use crate::accounts::{ADMIN_SCOPE, Accounts, User};
use crate::error::Error;
use crate::guard::Device;
use crate::http::console::error::ConsoleError;
use crate::http::console::form::{Confirmed, Field, Posted, WRONG};
use crate::http::console::frame::Frame;
use crate::http::console::page::{Answer, Page, SeeOther};
use crate::http::console::sessions::outlives;
use crate::http::console::signed_in::AdminSignedIn;
use crate::http::console::time::When;
use crate::registry::Registry;
use crate::token::Subject;

/// Where it is.
pub(in crate::http::console) const HERE: &str = "/console/admin/users";

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![list, show, ask_disable, disable, enable]
}

/// A user as it is shown.
pub(super) struct UserView {
    pub(super) name: String,
    /// Where its page is.
    pub(super) path: String,
    /// The name as a value in an address.
    encoded: String,
    /// Where the page of the name as a subject is.
    subject_path: String,
    scopes: Vec<String>,
    is_admin: bool,
    disabled: bool,
    created: When,
    password_changed: When,
    /// Whether it is whoever looks at the page.
    pub(super) is_self: bool,
}

impl UserView {
    pub(super) fn of(user: &User, person: &AdminSignedIn<'_>) -> Self {
        Self {
            name: user.username.to_string(),
            path: path_of(&user.username),
            encoded: encoded(user.username.as_str()),
            subject_path: subjects::path_of(&user.username),
            scopes: user.scope.iter().map(str::to_owned).collect(),
            is_admin: user.scope.contains(ADMIN_SCOPE),
            disabled: user.disabled,
            created: user.created_at.into(),
            password_changed: user.password_changed_at.into(),
            is_self: user.username == *person.subject(),
        }
    }
}

/// Where the page of a user is.
pub(super) fn path_of(username: &Subject) -> String {
    format!("{HERE}/{}", segment(username.as_str()))
}

#[derive(Template)]
#[template(path = "console/admin_users.html")]
struct ListPage<'r> {
    frame: Frame<'r>,
    users: Vec<UserView>,
    is_first: bool,
    next: Option<String>,
}

#[get("/admin/users?<after>")]
async fn list<'r>(
    person: AdminSignedIn<'r>,
    accounts: &State<Accounts>,
    after: Option<&str>,
) -> Result<Page<ListPage<'r>>, ConsoleError> {
    let after = after.filter(|after| !after.contains('\0'));
    // One more than is shown, to see whether there is more.
    let mut users = accounts.list(after, LIST_LIMIT + 1).await?;
    let goes_on = cut(&mut users, LIST_LIMIT);
    let last = users.last().filter(|_| goes_on);
    Ok(Page(ListPage {
        frame: person.frame(),
        is_first: after.is_none(),
        next: last.map(|user| format!("{HERE}?after={}", encoded(user.username.as_str()))),
        users: users.iter().map(|user| UserView::of(user, &person)).collect(),
    }))
}

#[derive(Template)]
#[template(path = "console/admin_user.html")]
struct UserPage<'r> {
    frame: Frame<'r>,
    user: UserView,
}

#[get("/admin/users/<name>")]
async fn show<'r>(
    name: &str,
    person: AdminSignedIn<'r>,
    accounts: &State<Accounts>,
) -> Result<Page<UserPage<'r>>, ConsoleError> {
    let user = user(accounts, name).await?;
    Ok(Page(UserPage { frame: person.frame(), user: UserView::of(&user, &person) }))
}

/// The user of this name, or the page that says that there is none.
pub(super) async fn user(accounts: &Accounts, name: &str) -> Result<User, ConsoleError> {
    let name = named(name).map_err(|_| no_user())?;
    accounts.get(&name).await.map_err(or_no_user)
}

/// The same page where the user is gone meanwhile.
pub(super) fn or_no_user(error: Error) -> ConsoleError {
    if error.is_not_found() { no_user() } else { error.into() }
}

fn no_user() -> ConsoleError {
    let text = "No user has this name. Whoever is known by it elsewhere can have tokens here all the same: search for them \
                among the tokens.";
    ConsoleError::not_found("There is no such user", text)
}

#[derive(Template)]
#[template(path = "console/admin_user_disable.html")]
struct DisablePage<'r> {
    frame: Frame<'r>,
    user: UserView,
    reason: Field,
    outlives: Option<String>,
}

impl<'r> DisablePage<'r> {
    fn of(user: &User, person: &AdminSignedIn<'r>, registry: &Registry) -> Self {
        Self {
            frame: person.frame(),
            user: UserView::of(user, person),
            reason: Field::default(),
            outlives: outlives(registry),
        }
    }
}

#[get("/admin/users/<name>/disable")]
async fn ask_disable<'r>(
    name: &str,
    person: AdminSignedIn<'r>,
    accounts: &State<Accounts>,
    registry: &State<Registry>,
) -> Result<Page<DisablePage<'r>>, ConsoleError> {
    let user = user(accounts, name).await?;
    Ok(Page(DisablePage::of(&user, &person, registry)))
}

#[post("/admin/users/<name>/disable", data = "<form>")]
async fn disable<'r>(
    name: &str,
    person: AdminSignedIn<'r>,
    device: Device<'_>,
    accounts: &State<Accounts>,
    registry: &State<Registry>,
    form: Posted<Because>,
) -> Result<Answer<DisablePage<'r>>, ConsoleError> {
    let user = user(accounts, name).await?;
    let act = match form.0.act(person.act(&device)) {
        Ok(act) => act,
        Err(reason) => {
            return Ok(Answer::Page(WRONG, DisablePage { reason, ..DisablePage::of(&user, &person, registry) }));
        }
    };
    accounts.set_disabled(&user.username, true, &act).await.map_err(or_no_user)?;
    Ok(Answer::SeeOther(SeeOther::done(&path_of(&user.username), "user-disabled")))
}

#[post("/admin/users/<name>/enable", data = "<_form>")]
async fn enable(
    name: &str,
    person: AdminSignedIn<'_>,
    device: Device<'_>,
    accounts: &State<Accounts>,
    _form: Posted<Confirmed>,
) -> Result<SeeOther, ConsoleError> {
    let user = user(accounts, name).await?;
    accounts.set_disabled(&user.username, false, &person.act(&device)).await.map_err(or_no_user)?;
    Ok(SeeOther::done(&path_of(&user.username), "user-enabled"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_an_address_of_its_own() {
        for (name, path) in [
            ("alice", "/console/admin/users/alice"),
            ("new", "/console/admin/users/new"),
            ("a/b?c#d%é", "/console/admin/users/a%2Fb%3Fc%23d%25%C3%A9"),
            ("..", "/console/admin/users/~.."),
        ] {
            assert_eq!(path_of(&name.parse().unwrap()), path);
        }
    }
}
