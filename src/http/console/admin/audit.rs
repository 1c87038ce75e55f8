//! Who changed what, newest first.

use std::fmt::Write as _;

use askama::Template;
use rocket::form::FromForm;
use rocket::{Route, State, get, routes};

use super::token::by;
use super::{cut, encoded, segment};
use crate::http::console::error::ConsoleError;
use crate::http::console::form::Field;
use crate::http::console::frame::Frame;
use crate::http::console::page::Page;
use crate::http::console::signed_in::AdminSignedIn;
use crate::http::console::time::When;
use crate::registry::{AuditFilter, Registry};
use crate::token::AuditEvent;

/// Where it is.
pub(in crate::http::console) const HERE: &str = "/console/admin/audit";

/// How many entries a page has.
const ENTRIES: u16 = 100;

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![list]
}

/// What narrows the list; a field that was left empty narrows nothing.
#[derive(FromForm)]
struct Narrowed {
    subject: Option<String>,
    actor: Option<String>,
    action: Option<String>,
    target: Option<String>,
    cursor: Option<i64>,
}

impl Narrowed {
    fn fields(&self) -> [(&'static str, Option<&str>); 4] {
        [
            ("subject", given(&self.subject)),
            ("actor", given(&self.actor)),
            ("action", given(&self.action)),
            ("target", given(&self.target)),
        ]
    }

    /// Where the entries before this one are.
    fn address(&self, before: i64) -> String {
        let mut address = format!("{HERE}?");
        for (name, value) in self.fields() {
            if let Some(value) = value {
                // Writing to a string can't fail.
                let _ = write!(address, "{name}={}&", encoded(value));
            }
        }
        let _ = write!(address, "cursor={before}");
        address
    }
}

/// What stands in a field. No entry has a control character, and PostgreSQL refuses one of them.
fn given(field: &Option<String>) -> Option<&str> {
    field.as_deref().map(str::trim).filter(|text| !text.is_empty() && !text.contains(char::is_control))
}

/// An entry as it is shown.
struct EntryView {
    at: When,
    action: String,
    actor: String,
    subject: Option<String>,
    target: Option<Target>,
    reason: Option<String>,
    ip: Option<String>,
}

/// What something was done to, and where that can be looked at.
struct Target {
    name: String,
    address: Option<String>,
}

impl EntryView {
    fn of(event: AuditEvent) -> Self {
        let AuditEvent { at, actor, action, subject, target, reason, ip, .. } = event;
        let actor = by(&actor);
        let target = target.map(|name| Target { address: address_of(&action, &name), name });
        Self { at: at.into(), action, actor, subject, target, reason, ip }
    }
}

/// The page of what an action of this name was done to.
fn address_of(action: &str, target: &str) -> Option<String> {
    let name = segment(target);
    match action.split('.').next()? {
        "token" => Some(format!("/console/admin/tokens/{name}")),
        "session" => Some(format!("/console/admin/sessions/{name}")),
        "user" => Some(format!("/console/admin/users/{name}")),
        _ => None,
    }
}

#[derive(Template)]
#[template(path = "console/admin_audit.html")]
struct AuditPage<'r> {
    frame: Frame<'r>,
    subject: Field,
    actor: Field,
    action: Field,
    target: Field,
    is_narrowed: bool,
    entries: Vec<EntryView>,
    next: Option<String>,
}

#[get("/admin/audit?<narrowed..>")]
async fn list<'r>(
    person: AdminSignedIn<'r>,
    registry: &State<Registry>,
    narrowed: Narrowed,
) -> Result<Page<AuditPage<'r>>, ConsoleError> {
    let [subject, actor, action, target] = narrowed.fields().map(|(_, value)| value.map(str::to_owned));
    let filter = AuditFilter { subject, actor, action, target, before: narrowed.cursor, limit: ENTRIES + 1 };
    let mut events = registry.audit(&filter).await?;
    let goes_on = cut(&mut events, ENTRIES);
    let next = events.last().filter(|_| goes_on).map(|last| narrowed.address(last.id));
    let field = |value: Option<String>| Field::of(value.unwrap_or_default());
    Ok(Page(AuditPage {
        frame: person.frame(),
        is_narrowed: narrowed.fields().iter().any(|(_, value)| value.is_some()),
        subject: field(filter.subject),
        actor: field(filter.actor),
        action: field(filter.action),
        target: field(filter.target),
        entries: events.into_iter().map(EntryView::of).collect(),
        next,
    }))
}

#[cfg(test)]
mod tests {
    use super::address_of;

    #[test]
    fn what_something_was_done_to_can_be_looked_at() {
        assert_eq!(address_of("token.revoked", "x").as_deref(), Some("/console/admin/tokens/x"));
        assert_eq!(address_of("user.added", "a/b?c").as_deref(), Some("/console/admin/users/a%2Fb%3Fc"));
        assert_eq!(address_of("key.rotated", "x"), None);
    }
}
