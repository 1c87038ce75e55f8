//! The console: pages for users and administrators, drawn by the server. They know what the other routes know, and have
//! no way to tokens of their own.

mod admin;
mod assets;
pub(in crate::http) mod cookie;
mod device;
mod error;
mod form;
mod frame;
mod page;
mod password;
mod personal;
mod sessions;
mod sign_in;
mod signed_in;
mod time;

use rocket::fairing::{Fairing, Info, Kind};
use rocket::http::Header;
use rocket::{Build, Request, Response, Rocket, Route, catch, catchers, get, routes};

use error::ConsoleError;
use frame::ADMIN_PAGES;
use page::SeeOther;
use signed_in::SignedIn;

use super::edge::{Caught, caught_status};
use super::place::is_below;
use crate::registry::Registry;

/// Where it is.
pub(super) const BASE: &str = "/console";

/// What a page may load and do: what this server has, and nothing that stands in the page itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Mounts the console where it is switched on. Attach it after the registry's fairing.
pub(super) struct Console;

#[rocket::async_trait]
impl Fairing for Console {
    fn info(&self) -> Info {
        Info { name: "console", kind: Kind::Ignite | Kind::Singleton }
    }

    async fn on_ignite(&self, rocket: Rocket<Build>) -> rocket::fairing::Result {
        let Some(registry) = rocket.state::<Registry>() else {
            tracing::error!("the registry's fairing must be attached before that of the console");
            return Err(rocket);
        };
        Ok(match registry.settings().console.enabled {
            true => rocket.mount(BASE, all_routes()).register(BASE, catchers![any]),
            false => rocket,
        })
    }
}

/// Says to browsers what an answer of the console may do.
pub(super) fn confine(response: &mut Response<'_>) {
    response.set_header(Header::new("Content-Security-Policy", POLICY));
    response.set_header(Header::new("X-Content-Type-Options", "nosniff"));
    response.set_header(Header::new("X-Frame-Options", "DENY"));
    // Not `no-referrer`: with it, forms would come from the origin `null`.
    response.set_header(Header::new("Referrer-Policy", "same-origin"));
    response.set_header(Header::new("Cross-Origin-Opener-Policy", "same-origin"));
    response.set_header(Header::new("Cross-Origin-Resource-Policy", "same-origin"));
}

fn all_routes() -> Vec<Route> {
    [
        routes![home],
        assets::routes(),
        sign_in::routes(),
        sessions::routes(),
        personal::routes(),
        password::routes(),
        admin::routes(),
    ]
    .concat()
}

/// Whether a request is for the console: for one of its pages or for nothing below its path.
pub(super) fn is_within(request: &Request<'_>) -> bool {
    is_below(request, &["console"])
}

/// Whether a request is for one of the files that pages load, which are the same for everybody.
pub(super) fn is_file(request: &Request<'_>) -> bool {
    is_below(request, &["console", "static"])
}

/// To where one begins.
#[get("/")]
fn home(person: SignedIn<'_>) -> SeeOther {
    let first = ADMIN_PAGES.first().filter(|_| person.is_admin());
    SeeOther::to(first.map_or(sessions::HERE, |page| page.path))
}

/// Every error below the console's path, in words.
#[catch(default)]
fn any(status: rocket::http::Status, request: &Request<'_>) -> Caught<ConsoleError> {
    let of_status = || ConsoleError::of_status(caught_status(status, request), request);
    Caught(ConsoleError::take(request).unwrap_or_else(of_status))
}
