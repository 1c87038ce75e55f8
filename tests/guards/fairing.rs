//! The fairing: what stops a launch, and that its tasks end.

use std::time::Duration;

use counterfoil::{
    AccessToken, AccessTokenData, AnyToken, CurrentUser, Denial, ForwardedToken, FreshToken, LogoutTokens, ManualClock,
    OptionalToken, RefreshToken, RefreshTokenData, Registry, Scoped, Settings, WithClaims,
};
use rocket::error::ErrorKind;
use rocket::local::asynchronous::Client;
use rocket::{Build, Rocket, Route, get, post, routes};

use super::app::{Read, Tenancy, User, alice, rocket as whole_app};

fn quiet() -> Rocket<Build> {
    rocket::custom(rocket::Config { log_level: rocket::log::LogLevel::Off, ..rocket::Config::debug_default() })
}

mod hidden {
    /// An alias hides its parts from Rocket.
    pub(super) type Token<'r> = Result<counterfoil::AccessToken<'r>, counterfoil::Denial>;
}

#[get("/")]
fn access(_token: AccessToken<'_>) {}
#[get("/")]
fn refresh(_token: RefreshToken<'_>) {}
#[get("/")]
fn fresh(_token: FreshToken<'_>) {}
#[get("/")]
fn any(_token: AnyToken<'_>) {}
#[get("/")]
fn optional(_token: OptionalToken<'_>) {}
#[get("/")]
fn scoped(_token: Scoped<'_, Read>) {}
#[get("/")]
fn claims(_token: WithClaims<'_, Tenancy>) {}
#[get("/")]
fn user(_user: CurrentUser<'_, User>) {}
#[get("/")]
fn forwarded(_token: ForwardedToken) {}
#[get("/")]
fn result(_token: Result<AccessToken<'_>, Denial>) {}
#[get("/")]
fn alias(_token: hidden::Token<'_>) {}
#[post("/", data = "<_token>")]
fn access_data(_token: AccessTokenData<'_>) {}
#[post("/", data = "<_token>")]
fn refresh_data(_token: RefreshTokenData<'_>) {}
#[post("/", data = "<_tokens>")]
fn logout(_tokens: LogoutTokens) {}

#[rocket::async_test]
async fn every_guard_stops_a_launch_without_the_fairing() {
    let routes: Vec<Route> = routes![
        access,
        refresh,
        fresh,
        any,
        optional,
        scoped,
        claims,
        user,
        forwarded,
        result,
        alias,
        access_data,
        refresh_data,
        logout,
    ];
    for route in routes {
        let name = route.name.clone();
        let error = quiet().mount("/", [route.clone()]).ignite().await.map(|_| ()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::SentinelAborts(_)), "{name:?}");
        let fairing = counterfoil::fairing().settings(Settings::for_tests());
        quiet().mount("/", [route]).attach(fairing).ignite().await.unwrap();
    }
}

#[rocket::async_test]
async fn a_broken_setting_stops_a_launch() {
    let figment = rocket::Config::figment().merge(("log_level", "off")).merge(("counterfoil.no_such_setting", 1));
    let error = rocket::custom(figment).attach(counterfoil::fairing()).ignite().await.map(|_| ()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::FailedFairings(_)));
}

#[rocket::async_test]
async fn a_registry_that_is_open_already_is_used() {
    let clock = ManualClock::here();
    let registry = Registry::open(Settings::for_tests(), clock.clone()).await.unwrap();
    let issued = registry.issue(alice()).await.unwrap();
    let client = Client::untracked(whole_app().attach(counterfoil::fairing().registry(registry))).await.unwrap();
    let header = rocket::http::Header::new("Authorization", format!("Bearer {}", issued.access_token()));
    assert_eq!(client.get("/access").header(header).dispatch().await.status().code, 200);
}

#[rocket::async_test]
async fn a_registry_that_the_application_manages_itself_stops_a_launch() {
    let registry = Registry::open(Settings::for_tests(), ManualClock::here()).await.unwrap();
    let app = quiet().manage(registry.clone()).attach(counterfoil::fairing().registry(registry));
    let error = app.ignite().await.map(|_| ()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::FailedFairings(_)), "{error}");
}

#[rocket::async_test]
async fn a_shutdown_ends_the_tasks_and_leaves_the_database_open() {
    let client =
        Client::untracked(whole_app().attach(counterfoil::fairing().settings(Settings::for_tests()))).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), client.terminate()).await.unwrap();
    let registry: &Registry = ended.state().unwrap();
    registry.issue(alice()).await.unwrap();
    registry.close().await;
    assert!(registry.issue(alice()).await.unwrap_err().is_unavailable());
}
