//! The keys that sign and those whose tokens are accepted, for administrators: list, rotate, retire.

use askama::Template;
use chrono::{DateTime, Utc};
use rocket::http::Status;
use rocket::{Route, State, get, post, routes};

use super::because::Because;
use super::encoded;
use crate::error::Error;
use crate::guard::Device;
use crate::http::console::error::{ConsoleError, sentence};
use crate::http::console::form::{Confirmed, Field, Posted, WRONG};
use crate::http::console::frame::Frame;
use crate::http::console::page::{Answer, Page, SeeOther};
use crate::http::console::signed_in::AdminSignedIn;
use crate::http::console::time::When;
use crate::registry::Registry;
use crate::token::{KeyInfo, KeyState};

/// Where it is.
pub(in crate::http::console) const HERE: &str = "/console/admin/keys";

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![list, ask_rotate, rotate, ask_retire, retire]
}

/// A key as it is shown.
struct KeyView {
    kid: String,
    algorithm: Option<String>,
    state: KeyState,
    published: Option<When>,
    current: Option<When>,
    until: Option<When>,
    reason: Option<String>,
}

impl KeyView {
    fn of(key: &KeyInfo) -> Self {
        Self {
            kid: key.kid.clone(),
            algorithm: key.algorithm.clone(),
            state: key.state,
            published: key.published_at.and_then(when),
            current: key.current_at.and_then(when),
            until: key.replaced_at.or(key.retired_at).and_then(when),
            reason: key.retired_reason.clone(),
        }
    }

    fn name(&self) -> &'static str {
        match self.state {
            KeyState::Current => "Current",
            KeyState::Next => "Next",
            KeyState::Previous => "Previous",
            KeyState::Accepted => "Accepted",
            KeyState::Retired => "Retired",
        }
    }

    fn badge(&self) -> &'static str {
        match self.state {
            KeyState::Current => "good",
            KeyState::Retired => "bad",
            KeyState::Next | KeyState::Previous | KeyState::Accepted => "",
        }
    }

    /// What it is for.
    fn meaning(&self) -> &'static str {
        match self.state {
            KeyState::Current => "It signs.",
            KeyState::Next => "It is published, and signs after the next rotation.",
            KeyState::Previous => "It has signed, and what it signed is still accepted.",
            KeyState::Accepted => "The settings name it: what it signs is accepted.",
            KeyState::Retired => "Whatever it signed is refused, for good.",
        }
    }

    fn can_retire(&self) -> bool {
        self.state != KeyState::Retired
    }

    /// The page that asks, and to which its form is sent.
    fn retire_path(&self) -> String {
        format!("{HERE}/{}/retire", encoded(&self.kid))
    }
}

fn when(seconds: i64) -> Option<When> {
    DateTime::from_timestamp(seconds, 0).map(When)
}

/// Whether the keys are those of the database, which the registry makes and rotates.
fn is_rotated(registry: &Registry) -> bool {
    registry.settings().master_key.is_some()
}

#[derive(Template)]
#[template(path = "console/admin_keys.html")]
struct KeysPage<'r> {
    frame: Frame<'r>,
    keys: Vec<KeyView>,
    is_rotated: bool,
    by_itself: Option<u64>,
}

#[derive(Template)]
#[template(path = "console/admin_keys_rotate.html")]
struct RotatePage<'r> {
    frame: Frame<'r>,
    current: Option<KeyView>,
    next: Option<KeyView>,
    /// From when on it is possible, where it isn't yet.
    possible: Option<When>,
}

#[derive(Template)]
#[template(path = "console/admin_keys_retire.html")]
struct RetirePage<'r> {
    frame: Frame<'r>,
    key: KeyView,
    is_rotated: bool,
    reason: Field,
}

#[get("/admin/keys")]
async fn list<'r>(person: AdminSignedIn<'r>, registry: &State<Registry>) -> Result<Page<KeysPage<'r>>, ConsoleError> {
    let keys = registry.keys().await?.iter().map(KeyView::of).collect();
    let by_itself = registry.settings().keys.rotate_every.map(|every| every.as_secs().div_ceil(24 * 60 * 60));
    Ok(Page(KeysPage { frame: person.frame(), keys, is_rotated: is_rotated(registry), by_itself }))
}

#[get("/admin/keys/rotate")]
async fn ask_rotate<'r>(
    person: AdminSignedIn<'r>,
    registry: &State<Registry>,
) -> Result<Page<RotatePage<'r>>, ConsoleError> {
    require_rotated(registry)?;
    let keys = registry.keys().await?;
    let of = |state| keys.iter().find(|key| key.state == state);
    let next = of(KeyState::Next);
    let possible = next.and_then(|key| key.published_at).and_then(|at| possible(registry, at));
    let (current, next) = (of(KeyState::Current).map(KeyView::of), next.map(KeyView::of));
    Ok(Page(RotatePage { frame: person.frame(), current, next, possible: possible.map(When) }))
}

/// When a key that was published then may sign; `None` where it may now.
fn possible(registry: &Registry, published_at: i64) -> Option<DateTime<Utc>> {
    let known_after = i64::try_from(registry.settings().jwks_max_age.as_secs()).unwrap_or(i64::MAX);
    let at = DateTime::from_timestamp(published_at.saturating_add(known_after), 0)?;
    (registry.now() < at).then_some(at)
}

#[post("/admin/keys/rotate", data = "<_form>")]
async fn rotate(
    person: AdminSignedIn<'_>,
    device: Device<'_>,
    registry: &State<Registry>,
    _form: Posted<Confirmed>,
) -> Result<SeeOther, ConsoleError> {
    require_rotated(registry)?;
    registry.rotate_keys(&person.act(&device)).await?;
    Ok(SeeOther::done(HERE, "keys-rotated"))
}

fn require_rotated(registry: &Registry) -> Result<(), ConsoleError> {
    if is_rotated(registry) {
        return Ok(());
    }
    let text = "The keys of this server are named in its settings (there is no master_key), so whoever runs it rotates them \
                there: a new key to sign with, and the old one in keys.accept.";
    Err(ConsoleError::new(Status::Conflict, "These keys can't be rotated here", text))
}

#[get("/admin/keys/<kid>/retire")]
async fn ask_retire<'r>(
    kid: &str,
    person: AdminSignedIn<'r>,
    registry: &State<Registry>,
) -> Result<Page<RetirePage<'r>>, ConsoleError> {
    retire_page(kid, &person, registry).await.map(Page)
}

async fn retire_page<'r>(
    kid: &str,
    person: &AdminSignedIn<'r>,
    registry: &Registry,
) -> Result<RetirePage<'r>, ConsoleError> {
    let keys = registry.keys().await?;
    let key = keys.iter().find(|key| key.kid == kid).map(KeyView::of);
    let key =
        key.ok_or_else(|| ConsoleError::not_found("There is no such key", "It was removed, or never was here."))?;
    Ok(RetirePage { frame: person.frame(), key, is_rotated: is_rotated(registry), reason: Field::default() })
}

#[post("/admin/keys/<kid>/retire", data = "<form>")]
async fn retire<'r>(
    kid: &str,
    person: AdminSignedIn<'r>,
    device: Device<'_>,
    registry: &State<Registry>,
    form: Posted<Because>,
) -> Result<Answer<RetirePage<'r>>, ConsoleError> {
    let mut page = retire_page(kid, &person, registry).await?;
    let act = match form.0.act(person.act(&device)) {
        Ok(act) => act,
        Err(reason) => {
            page.reason = reason;
            return Ok(Answer::Page(WRONG, page));
        }
    };
    registry.retire_key(kid, &act).await.map_err(in_words)?;
    Ok(Answer::SeeOther(SeeOther::done(HERE, "key-retired")))
}

/// A key of the database, where the keys are those of the settings: no fault of this server.
fn in_words(error: Error) -> ConsoleError {
    if error.is_config() {
        return ConsoleError::new(Status::Conflict, "Nothing was done", sentence(&error));
    }
    error.into()
}
