//! Users, for administrators: who may log in here, and as what.

use askama::Template;
use rocket::form::FromForm;
use rocket::http::Status;
use rocket::{Route, State, get, post, routes};

use super::because::{Because, because};
use super::{cut, encoded, named, segment, subjects};
use crate::accounts::{ADMIN_SCOPE, Accounts, User};
use crate::error::{Error, Kind};
use crate::guard::Device;
use crate::http::console::error::{ConsoleError, sentence};
use crate::http::console::form::{Confirmed, Field, Posted, WRONG};
use crate::http::console::frame::Frame;
use crate::http::console::page::{Answer, Page, SeeOther};
use crate::http::console::sessions::outlives;
use crate::http::console::signed_in::AdminSignedIn;
use crate::http::console::time::When;
use crate::registry::Registry;
use crate::token::{Scopes, Subject};

/// Where it is.
pub(in crate::http::console) const HERE: &str = "/console/admin/users";

/// How many stand on one page of the list.
pub(super) const LIST_LIMIT: u16 = 50;

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![list, ask_new, add, show, ask_scopes, set_scopes, ask_disable, disable, enable, ask_password, set_password]
}

/// A user as it is shown.
struct UserView {
    name: String,
    /// Where its page is.
    path: String,
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
    is_self: bool,
}

impl UserView {
    fn of(user: &User, person: &AdminSignedIn<'_>) -> Self {
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

/// What a field holds, or nothing and what is wrong with it in the field.
pub(super) fn found<T>(field: &mut Field, read: Result<T, Error>) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(error) => {
            field.error = Some(sentence(&error));
            None
        }
    }
}

/// The scopes of a form: apart by spaces or on lines of their own.
pub(super) fn scopes_of(text: &str, is_admin: bool) -> Result<Scopes, Error> {
    let admin = is_admin.then_some(ADMIN_SCOPE);
    text.split_whitespace().chain(admin).collect::<Vec<_>>().join(" ").parse()
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

async fn user(accounts: &Accounts, name: &str) -> Result<User, ConsoleError> {
    let name = named(name).map_err(|_| no_user())?;
    accounts.get(&name).await.map_err(or_no_user)
}

fn or_no_user(error: Error) -> ConsoleError {
    if error.is_not_found() { no_user() } else { error.into() }
}

fn no_user() -> ConsoleError {
    let text = "No user has this name. Whoever is known by it elsewhere can have tokens here all the same: search for them \
                among the tokens.";
    ConsoleError::not_found("There is no such user", text)
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

    #[test]
    fn scopes_stand_apart_by_any_space() {
        assert_eq!(scopes_of(" b\r\n a\tb ", false).unwrap().to_string(), "a b");
        assert_eq!(scopes_of("", true).unwrap().to_string(), ADMIN_SCOPE);
        assert!(scopes_of("a\"b", false).is_err());
    }
}
