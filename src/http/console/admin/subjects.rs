//! One subject: its sessions, ended ones too, and taking back all that it has.

use askama::Template;
use rocket::{Route, State, get, post, routes};

use super::because::{Because, BecausePage};
use super::sessions::SessionView;
use super::{audit, encoded, named, segment, tokens, users};
use crate::accounts::Accounts;
use crate::guard::Device;
use crate::http::console::error::ConsoleError;
use crate::http::console::form::{Field, Posted, WRONG};
use crate::http::console::frame::Frame;
use crate::http::console::page::{Answer, Page, SeeOther};
use crate::http::console::sessions::outlives;
use crate::http::console::signed_in::AdminSignedIn;
use crate::http::console::{device, sign_in};
use crate::registry::Registry;
use crate::token::{State as TokenState, Subject};

/// How many sessions a page shows.
const LIMIT: u16 = 50;

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![show, ask_end, end]
}

/// Where the page of a subject is.
pub(super) fn path_of(subject: &Subject) -> String {
    format!("/console/admin/subjects/{}", segment(subject.as_str()))
}

#[derive(Template)]
#[template(path = "console/admin_subject.html")]
struct SubjectPage<'r> {
    frame: Frame<'r>,
    subject: String,
    path: String,
    tokens: String,
    audit: String,
    /// Where its account is, where it has one here.
    user: Option<String>,
    sessions: Vec<SessionView>,
    next: Option<String>,
}

fn no_subject() -> ConsoleError {
    ConsoleError::not_found("There is no such subject", "Nobody can have this name.")
}

#[get("/admin/subjects/<sub>?<after>")]
async fn show<'r>(
    sub: &str,
    after: Option<&str>,
    person: AdminSignedIn<'r>,
    accounts: &State<Accounts>,
    registry: &State<Registry>,
) -> Result<Page<SubjectPage<'r>>, ConsoleError> {
    device::prepare().await;
    let subject = named(sub).map_err(|_| no_subject())?;
    let page = registry.all_sessions(&subject, after.and_then(|place| place.parse().ok()), LIMIT).await?;
    let (path, name) = (path_of(&subject), encoded(subject.as_str()));
    let user = match accounts.get(&subject).await {
        Ok(_) => Some(users::path_of(&subject)),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Page(SubjectPage {
        frame: person.frame(),
        tokens: format!("{}?subject={name}", tokens::HERE),
        audit: format!("{}?subject={name}", audit::HERE),
        user,
        next: page.next.map(|next| format!("{path}?after={next}")),
        sessions: page.sessions.iter().map(|session| SessionView::of(session, registry)).collect(),
        subject: subject.to_string(),
        path,
    }))
}

fn end_page<'r>(person: &AdminSignedIn<'r>, registry: &Registry, subject: &Subject, reason: Field) -> BecausePage<'r> {
    let back = path_of(subject);
    BecausePage {
        frame: person.frame(),
        title: "Revoke all tokens?",
        about: format!("All sessions and all tokens of {subject}, personal ones too"),
        text: "All of them end now, for good: this can't be undone. A log-in that is under way is refused, too. Who has a \
               password can sign in again: disable the user to prevent that.",
        outlives: outlives(registry),
        action: format!("{back}/end"),
        yes: "Revoke all",
        back,
        back_name: "The subject",
        reason,
    }
}

#[get("/admin/subjects/<sub>/end")]
fn ask_end<'r>(
    sub: &str,
    person: AdminSignedIn<'r>,
    registry: &State<Registry>,
) -> Result<Page<BecausePage<'r>>, ConsoleError> {
    let subject = named(sub).map_err(|_| no_subject())?;
    Ok(Page(end_page(&person, registry, &subject, Field::default())))
}

#[post("/admin/subjects/<sub>/end", data = "<form>")]
async fn end<'r>(
    sub: &str,
    person: AdminSignedIn<'r>,
    device: Device<'_>,
    registry: &State<Registry>,
    form: Posted<Because>,
) -> Result<Answer<BecausePage<'r>>, ConsoleError> {
    let subject = named(sub).map_err(|_| no_subject())?;
    let act = match form.0.act(person.act(&device)) {
        Ok(act) => act,
        Err(reason) => return Ok(Answer::Page(WRONG, end_page(&person, registry, &subject, reason))),
    };
    registry.revoke_all(&subject, None, act).await?;
    Ok(Answer::SeeOther(if subject == *person.subject() {
        sign_in::signed_out(registry.settings())
    } else {
        SeeOther::done(&path_of(&subject), "subject-ended")
    }))
}
