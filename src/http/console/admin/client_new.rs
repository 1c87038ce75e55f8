//! Making a client.

use askama::Template;
use rocket::form::FromForm;
use rocket::http::Status;
use rocket::{Route, State, get, post, routes};

use super::because::because;
use super::clients::{ClientView, SecretPage};
use super::form::{found, scopes_of};
use crate::clients::{Clients, NewClient};
use crate::error::Error;
use crate::guard::Device;
use crate::http::console::error::{ConsoleError, sentence};
use crate::http::console::form::{Field, Posted, WRONG};
use crate::http::console::frame::Frame;
use crate::http::console::page::{Made, Page};
use crate::http::console::signed_in::AdminSignedIn;
use crate::registry::Registry;
use crate::token::checked_audiences;

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![ask_new, add]
}

#[derive(Template)]
#[template(path = "console/admin_client_new.html")]
struct NewPage<'r> {
    frame: Frame<'r>,
    name: Field,
    scope: Field,
    grant_scope: Field,
    audience: Field,
    serves: Field,
    first_party: bool,
    reason: Field,
}

#[get("/admin/new-client")]
fn ask_new(person: AdminSignedIn<'_>) -> Page<NewPage<'_>> {
    Page(NewPage {
        frame: person.frame(),
        name: Field::default(),
        scope: Field::default(),
        grant_scope: Field::default(),
        audience: Field::default(),
        serves: Field::default(),
        first_party: false,
        reason: Field::default(),
    })
}

#[derive(FromForm)]
struct New {
    name: String,
    scope: String,
    grant_scope: String,
    audience: String,
    serves: String,
    first_party: bool,
    reason: String,
}

#[post("/admin/new-client", data = "<form>")]
async fn add<'r>(
    person: AdminSignedIn<'r>,
    device: Device<'_>,
    clients: &State<Clients>,
    registry: &State<Registry>,
    form: Posted<New>,
) -> Result<Made<SecretPage<'r>, NewPage<'r>>, ConsoleError> {
    let form = form.0;
    let mut page = NewPage {
        frame: person.frame(),
        name: Field::of(form.name.trim()),
        scope: Field::of(form.scope.trim()),
        grant_scope: Field::of(form.grant_scope.trim()),
        audience: Field::of(form.audience.trim()),
        serves: Field::of(form.serves.trim()),
        first_party: form.first_party,
        reason: Field::of(form.reason.trim()),
    };
    let scope = found(&mut page.scope, scopes_of(&form.scope, false));
    let grant_scope = found(&mut page.grant_scope, scopes_of(&form.grant_scope, false));
    let audience = found(&mut page.audience, audiences_of(&form.audience));
    let serves = found(&mut page.serves, audiences_of(&form.serves));
    let act = found(&mut page.reason, because(person.act(&device), &form.reason));
    let (Some(scope), Some(grant_scope), Some(audience), Some(serves), Some(act)) =
        (scope, grant_scope, audience, serves, act)
    else {
        return Ok(Made::Wrong(WRONG, page));
    };
    let new = NewClient {
        name: page.name.value.clone(),
        scope,
        grant_scope,
        audience,
        serves: Some(serves).filter(|serves| !serves.is_empty()),
        first_party: form.first_party,
    };
    match clients.add(new, &act).await {
        Ok((client, secret)) => Ok(Made::Shown(SecretPage {
            frame: person.frame(),
            client: ClientView::of(&client, registry),
            secret,
            is_new: true,
            is_confirmed: true,
        })),
        Err(error) if error.is_conflict() => {
            page.name.error = Some(sentence(&error));
            Ok(Made::Wrong(Status::Conflict, page))
        }
        Err(error) if error.is_invalid() => {
            let field = match error.field() {
                Some("grant-scope") => &mut page.grant_scope,
                _ => &mut page.name,
            };
            field.error = Some(sentence(&error));
            Ok(Made::Wrong(WRONG, page))
        }
        Err(error) => Err(error.into()),
    }
}

/// The audiences of a form, each on a line of its own.
fn audiences_of(text: &str) -> Result<Vec<String>, Error> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let audiences: Vec<String> = lines.map(str::to_owned).collect();
    checked_audiences(&audiences)?;
    Ok(audiences)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_stands_on_each_line() {
        assert_eq!(audiences_of(" https://a \r\n\r\nb c\n").unwrap(), ["https://a", "b c"]);
        assert!(audiences_of("").unwrap().is_empty());
        assert!(audiences_of(&"x\n".repeat(17)).is_err());
    }
}
