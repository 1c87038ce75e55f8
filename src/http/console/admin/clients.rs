//! Clients, for administrators: the programs that call the endpoints for other services.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use rocket::form::FromForm;
use rocket::{Route, State, get, post, routes};

use super::because::{Because, because};
use super::form::{LIST_LIMIT, found};
use super::{cut, encoded};
use crate::clients::{Client, ClientChange, Clients, NewSecret};
use crate::error::Error;
use crate::guard::Device;
use crate::http::console::error::ConsoleError;
use crate::http::console::form::{Confirmed, Field, Posted, WRONG};
use crate::http::console::frame::Frame;
use crate::http::console::page::{Answer, Made, Page, SeeOther};
use crate::http::console::sessions::outlives;
use crate::http::console::signed_in::AdminSignedIn;
use crate::http::console::time::When;
use crate::registry::Registry;

/// Where it is.
pub(in crate::http::console) const HERE: &str = "/console/admin/clients";

/// For how long the secret before may stay good beside another one, in seconds and in words. The first is chosen.
const OVERLAPS: [(u64, &str); 5] =
    [(3_600, "1 hour"), (86_400, "1 day"), (604_800, "7 days"), (2_592_000, "30 days"), (0, "Not at all")];

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![list, show, ask_rotate, rotate, ask_disable, disable, enable]
}

/// A client as it is shown.
pub(super) struct ClientView {
    id: String,
    name: String,
    /// Where its page is.
    path: String,
    scopes: Vec<String>,
    grants: Vec<String>,
    audience: Vec<String>,
    /// The audiences that it is limited to, where it is.
    serves: Option<Vec<String>>,
    first_party: bool,
    disabled: bool,
    created: When,
    secret_changed: When,
    /// Until when the secret before is good, where it still is.
    old_secret_until: Option<When>,
}

impl ClientView {
    pub(super) fn of(client: &Client, registry: &Registry) -> Self {
        let now = registry.now();
        let owned = |scopes: &crate::token::Scopes| scopes.iter().map(str::to_owned).collect();
        Self {
            id: client.id().to_owned(),
            name: client.name().to_owned(),
            path: path_of(client),
            scopes: owned(client.scope()),
            grants: owned(client.grant_scope()),
            audience: client.audience().to_vec(),
            serves: client.serves().map(<[_]>::to_vec),
            first_party: client.is_first_party(),
            disabled: !client.is_live(),
            created: client.created_at().into(),
            secret_changed: client.secret_changed_at().into(),
            old_secret_until: client.old_secret_until().filter(|until| now < *until).map(When::from),
        }
    }
}

/// Where the page of a client is; its id is a UUID.
fn path_of(client: &Client) -> String {
    format!("{HERE}/{}", client.id())
}

#[derive(Template)]
#[template(path = "console/admin_clients.html")]
struct ListPage<'r> {
    frame: Frame<'r>,
    clients: Vec<ClientView>,
    is_first: bool,
    next: Option<String>,
}

#[get("/admin/clients?<after>")]
async fn list<'r>(
    person: AdminSignedIn<'r>,
    clients: &State<Clients>,
    registry: &State<Registry>,
    after: Option<&str>,
) -> Result<Page<ListPage<'r>>, ConsoleError> {
    let after = after.filter(|after| !after.contains('\0'));
    // One more than is shown, to see whether there is more.
    let mut found = clients.list(after, LIST_LIMIT + 1).await?;
    let goes_on = cut(&mut found, LIST_LIMIT);
    let last = found.last().filter(|_| goes_on);
    Ok(Page(ListPage {
        frame: person.frame(),
        is_first: after.is_none(),
        next: last.map(|client| format!("{HERE}?after={}", encoded(client.name()))),
        clients: found.iter().map(|client| ClientView::of(client, registry)).collect(),
    }))
}

/// The one page with a secret in it: the answer to the form, kept by nobody.
#[derive(Template)]
#[template(path = "console/admin_client_secret.html")]
pub(super) struct SecretPage<'r> {
    pub(super) frame: Frame<'r>,
    pub(super) client: ClientView,
    pub(super) secret: String,
    pub(super) is_new: bool,
    /// Whether every process knows it.
    pub(super) is_confirmed: bool,
}

#[derive(Template)]
#[template(path = "console/admin_client.html")]
struct ClientPage<'r> {
    frame: Frame<'r>,
    client: ClientView,
}

#[get("/admin/clients/<id>")]
async fn show<'r>(
    id: &str,
    person: AdminSignedIn<'r>,
    clients: &State<Clients>,
    registry: &State<Registry>,
) -> Result<Page<ClientPage<'r>>, ConsoleError> {
    let client = client(clients, id).await?;
    Ok(Page(ClientPage { frame: person.frame(), client: ClientView::of(&client, registry) }))
}

async fn client(clients: &Clients, id: &str) -> Result<Arc<Client>, ConsoleError> {
    clients.get(id).await?.ok_or_else(no_client)
}

fn no_client() -> ConsoleError {
    ConsoleError::not_found("There is no such client", "No client has this id. It may have been removed.")
}

fn or_no_client(error: Error) -> ConsoleError {
    if error.is_not_found() { no_client() } else { error.into() }
}

#[derive(Template)]
#[template(path = "console/admin_client_rotate.html")]
struct RotatePage<'r> {
    frame: Frame<'r>,
    client: ClientView,
    overlaps: &'static [(u64, &'static str)],
    chosen: u64,
    reason: Field,
}

#[get("/admin/clients/<id>/rotate")]
async fn ask_rotate<'r>(
    id: &str,
    person: AdminSignedIn<'r>,
    clients: &State<Clients>,
    registry: &State<Registry>,
) -> Result<Page<RotatePage<'r>>, ConsoleError> {
    let client = client(clients, id).await?;
    Ok(Page(RotatePage {
        frame: person.frame(),
        client: ClientView::of(&client, registry),
        overlaps: &OVERLAPS,
        chosen: OVERLAPS[0].0,
        reason: Field::default(),
    }))
}

#[derive(FromForm)]
struct Rotate {
    overlap: u64,
    reason: String,
}

#[post("/admin/clients/<id>/rotate", data = "<form>")]
async fn rotate<'r>(
    id: &str,
    person: AdminSignedIn<'r>,
    device: Device<'_>,
    clients: &State<Clients>,
    registry: &State<Registry>,
    form: Posted<Rotate>,
) -> Result<Made<SecretPage<'r>, RotatePage<'r>>, ConsoleError> {
    let Rotate { overlap, reason } = form.0;
    if !OVERLAPS.iter().any(|(seconds, _)| *seconds == overlap) {
        return Err(ConsoleError::bad_form());
    }
    let found_client = client(clients, id).await?;
    let mut shown = Field::of(reason.trim());
    let Some(act) = found(&mut shown, because(person.act(&device), &reason)) else {
        let client = ClientView::of(&found_client, registry);
        let page = RotatePage { frame: person.frame(), client, overlaps: &OVERLAPS, chosen: overlap, reason: shown };
        return Ok(Made::Wrong(WRONG, page));
    };
    let overlap = Duration::from_secs(overlap);
    let NewSecret { client, secret, in_force } =
        clients.rotate_secret(&found_client, overlap, &act).await.map_err(or_no_client)?;
    if let Err(error) = &in_force {
        tracing::warn!(error = %error.in_full(), "a client's new secret can't be confirmed");
    }
    Ok(Made::Shown(SecretPage {
        frame: person.frame(),
        client: ClientView::of(&client, registry),
        secret,
        is_new: false,
        is_confirmed: in_force.is_ok(),
    }))
}

#[derive(Template)]
#[template(path = "console/admin_client_disable.html")]
struct DisablePage<'r> {
    frame: Frame<'r>,
    client: ClientView,
    reason: Field,
    outlives: Option<String>,
}

fn disable_page<'r>(
    person: &AdminSignedIn<'r>,
    client: &Client,
    registry: &Registry,
    reason: Field,
) -> DisablePage<'r> {
    let client = ClientView::of(client, registry);
    DisablePage { frame: person.frame(), client, reason, outlives: outlives(registry) }
}

#[get("/admin/clients/<id>/disable")]
async fn ask_disable<'r>(
    id: &str,
    person: AdminSignedIn<'r>,
    clients: &State<Clients>,
    registry: &State<Registry>,
) -> Result<Page<DisablePage<'r>>, ConsoleError> {
    let client = client(clients, id).await?;
    Ok(Page(disable_page(&person, &client, registry, Field::default())))
}

#[post("/admin/clients/<id>/disable", data = "<form>")]
async fn disable<'r>(
    id: &str,
    person: AdminSignedIn<'r>,
    device: Device<'_>,
    clients: &State<Clients>,
    registry: &State<Registry>,
    form: Posted<Because>,
) -> Result<Answer<DisablePage<'r>>, ConsoleError> {
    let client = client(clients, id).await?;
    let act = match form.0.act(person.act(&device)) {
        Ok(act) => act,
        Err(reason) => return Ok(Answer::Page(WRONG, disable_page(&person, &client, registry, reason))),
    };
    let change = ClientChange { disabled: Some(true), ..ClientChange::default() };
    let client = clients.set(&client, change, &act).await.map_err(or_no_client)?;
    Ok(Answer::SeeOther(SeeOther::done(&path_of(&client), "client-disabled")))
}

#[post("/admin/clients/<id>/enable", data = "<_form>")]
async fn enable(
    id: &str,
    person: AdminSignedIn<'_>,
    device: Device<'_>,
    clients: &State<Clients>,
    _form: Posted<Confirmed>,
) -> Result<SeeOther, ConsoleError> {
    let client = client(clients, id).await?;
    let change = ClientChange { disabled: Some(false), ..ClientChange::default() };
    let client = clients.set(&client, change, &person.act(&device)).await.map_err(or_no_client)?;
    Ok(SeeOther::done(&path_of(&client), "client-enabled"))
}
