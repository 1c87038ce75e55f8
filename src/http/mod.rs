//! The server: a Rocket application on the library, one file a topic.

mod admin;
mod body;
mod catchers;
mod check;
mod client;
mod console;
mod cors;
mod discovery;
mod edge;
mod error;
mod feed;
mod headers;
mod health;
mod if_none_match;
mod introspect;
mod issue;
mod issuing;
mod list;
mod log;
mod login;
mod oauth;
mod openapi;
mod operations;
mod overview;
mod password;
mod place;
mod revoke;
mod schema;
mod serve;
mod sessions;
mod tokens;
mod users;

use rocket::figment::Figment;
use rocket::shield::{NoSniff, Shield};
use rocket::{Build, Rocket};

use catchers::catchers;
pub(crate) use serve::{figment, serve};

use crate::clock::{Clock, SystemClock};
use crate::config::ROCKET_DEFAULT;
use crate::fairing::Fairing;

/// The whole server, as `counterfoil serve` runs it: to run it inside another program, or in a test.
///
/// Its settings are those of the figment, as for [`fairing()`](crate::fairing()).
///
/// ```no_run
/// # async fn run() -> Result<(), rocket::Error> {
/// let server = counterfoil::server(rocket::Config::figment());
/// server.launch().await?;
/// # Ok(()) }
/// ```
pub fn server(figment: Figment) -> Rocket<Build> {
    server_with_clock(figment, SystemClock)
}

/// The whole [`server`], with a clock of the caller's choice: a test moves a [`ManualClock`](crate::ManualClock)
/// instead of waiting.
pub fn server_with_clock(figment: Figment, clock: impl Clock) -> Rocket<Build> {
    build(figment, crate::fairing().clock(clock))
}

fn build(figment: Figment, fairing: Fairing) -> Rocket<Build> {
    rocket::custom(without_default_ip_header(figment))
        // Of the headers that Rocket adds by itself the one that is of use to answers without a page; pages bring their
        // own.
        .attach(Shield::new().enable(NoSniff::Enable))
        .attach(edge::Edge::new())
        .attach(fairing.with_samples())
        .attach(users::Users::default())
        .attach(operations::Operations::default())
        .attach(console::Console)
        // Rocket looks through them in this order: first what is asked with every request of somebody else's.
        .mount("/", check::routes())
        .mount("/", introspect::routes())
        .mount("/", health::routes())
        .mount("/", login::routes())
        .mount("/", tokens::routes())
        .mount("/", sessions::routes())
        .mount("/", password::routes())
        .mount("/", admin::routes())
        .mount("/", overview::routes())
        .mount("/", issue::routes())
        .mount("/", oauth::routes())
        .mount("/", revoke::routes())
        .mount("/", feed::routes())
        .mount("/", discovery::routes())
        .register("/", catchers())
}

/// Rocket by itself believes the header `X-Real-IP`, which any caller can send: addresses would be what callers say. It
/// is believed only where somebody set it.
fn without_default_ip_header(figment: Figment) -> Figment {
    match figment.find_metadata("ip_header") {
        Some(source) if source.name != ROCKET_DEFAULT => figment,
        _ => figment.merge(("ip_header", false)),
    }
}

#[cfg(test)]
mod tests {
    use rocket::Config;
    use rocket::figment::Figment;

    use super::without_default_ip_header;
    use crate::config::Settings;

    #[test]
    fn an_ip_header_is_believed_only_where_it_is_set() {
        let ip_header =
            |figment| Config::from(without_default_ip_header(figment)).ip_header.map(|name| name.to_string());
        assert_eq!(ip_header(Figment::from(Config::default())), None);
        let set = Figment::from(Config::default()).merge(("ip_header", "X-Forwarded-For"));
        assert_eq!(ip_header(set).as_deref(), Some("X-Forwarded-For"));
        let explained = Settings::explain(&Figment::from(Config::debug_default())).unwrap();
        let setting = explained.iter().find(|setting| setting.key == "ip_header").unwrap();
        assert_eq!((&setting.value, setting.source.as_str()), (&false.into(), "default"));
    }
}
