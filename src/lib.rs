//! A SQL-persistent token registry for [Rocket](https://rocket.rs): it issues signed tokens (JWT, RFC 7519), keeps a
//! record of each, and refuses every token without a live one.
//!
//! A JWT alone can't be taken back: whoever holds it is let in until it expires. Counterfoil keeps the counterfoil.
//! Each token is on the registry before it is handed out, so that its user can see it, name it, revoke it and, where it
//! was no more than a mistake, take that back. A token that is not on the registry is refused, however good its
//! signature.
//!
//! # Ten lines
//!
//! ```no_run
//! use counterfoil::{AccessToken, Error, Grant, Issued, Registry};
//! use rocket::{State, get, launch, post, routes};
//!
//! #[post("/login")] // after looking at a password, which this leaves out
//! async fn login(registry: &State<Registry>) -> Result<Issued, Error> {
//!     registry.issue(Grant::to("alice".parse()?).fresh(true)).await
//! }
//!
//! #[get("/protected")]
//! fn protected(token: AccessToken<'_>) -> String {
//!     format!("hello, {}", token.subject())
//! }
//!
//! #[launch]
//! fn app() -> _ {
//!     rocket::build().attach(counterfoil::fairing()).mount("/", routes![login, protected])
//! }
//! ```
//!
//! In the debug profile this runs as it stands: the registry is the file `counterfoil.db`, made on the first start,
//! and a signing key is made beside it. `examples/quickstart.rs` is a whole application: log-in, refresh, logout, and
//! the pages that list, revoke and unrevoke tokens.
//!
//! # The parts
//!
//! - [`fairing()`] opens the registry from `Rocket.toml` and the environment and has Rocket manage it.
//! - [`Registry`] issues, checks, lists, revokes and purges. A route takes it as `&State<Registry>`; a program without
//!   Rocket opens its own, and [runs](Registry::run) it.
//! - The guards are what a route writes in its signature. Each refuses with a [`Denial`], as an error and never as a
//!   forward, and however many guards a route has, its token is checked once:
//!
//! | guard | lets in |
//! | --- | --- |
//! | [`AccessToken`] | a live access token |
//! | [`FreshToken`] | one that was got by logging in, not by refreshing, for as long as it lives |
//! | [`Scoped`] | one whose scopes fulfil a rule: [`scope!`], [`AllOf`], [`AnyOf`] |
//! | [`WithClaims`] | one whose additional claims are a type of yours |
//! | [`CurrentUser`] | one whose subject is a user of yours: [`LoadUser`] |
//! | [`OptionalToken`] | one, or no token at all; never write `Option<AccessToken>` |
//! | [`RefreshToken`] | a live refresh token |
//! | [`AnyToken`] | either |
//! | [`AccessTokenData`], [`RefreshTokenData`] | one that may also be in the JSON body |
//! | [`RefreshRequest`] | a refresh token, for the route that refreshes |
//! | [`LogoutTokens`] | what a request to log out comes with, expired tokens too |
//! | [`ForwardedToken`] | the access token of a request that a proxy asks about |
//!
//! The last type parameter of a guard says where it looks, where that is not as configured: see [`Locations`].
//! [`LogoutTokens`] and [`ForwardedToken`] have none.
//!
//! # Refusals
//!
//! Without doing anything, a refusal is answered as `{"error": "token_expired", "msg": "The token has expired"}` with
//! the challenge of RFC 6750. A route that takes `Result<AccessToken<'_>, Denial>` answers itself, and a catcher that
//! the application registers at `/` wins and learns the reason from [`denial()`]. An [`Error`] that a route returns has
//! its answer too.
//!
//! # Testing
//!
//! Three lines give a test a registry in memory and a clock that it controls:
//!
//! ```
//! use std::time::Duration;
//! use counterfoil::{AccessToken, Grant, ManualClock, Registry, Settings};
//! use rocket::http::{Header, Status};
//! use rocket::local::asynchronous::Client;
//! use rocket::{Build, Rocket, get, routes};
//!
//! #[get("/")]
//! fn protected(_token: AccessToken<'_>) {}
//!
//! fn app() -> Rocket<Build> {
//!     rocket::build().mount("/", routes![protected])
//! }
//!
//! # rocket::async_test(async {
//! let clock = ManualClock::here();
//! let app = app().attach(counterfoil::fairing().settings(Settings::for_tests()).clock(clock.clone()));
//! let client = Client::untracked(app).await?;
//!
//! let registry: &Registry = client.rocket().state().ok_or("no registry")?;
//! let issued = registry.issue(Grant::to("alice".parse()?)).await?;
//! let bearer = Header::new("Authorization", format!("Bearer {}", issued.access_token()));
//! assert_eq!(client.get("/").header(bearer.clone()).dispatch().await.status(), Status::Ok);
//!
//! clock.advance(Duration::from_secs(15 * 60));
//! assert_eq!(client.get("/").header(bearer).dispatch().await.status(), Status::Unauthorized);
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! # Features
//!
//! `postgres` and `sqlite` (both on by default; at least one is needed), `tls` to PostgreSQL, and `server`: the server
//! and the command line, which an application that uses the library alone leaves out with `default-features = false`.

#![cfg_attr(
    not(all(feature = "server", feature = "sqlite", feature = "postgres")),
    expect(
        dead_code,
        reason = "what only the server, the command line or the other database uses is left in place, for it costs nothing"
    )
)]

#[cfg(feature = "server")]
mod accounts;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "server")]
mod clients;
mod clock;
mod config;
mod error;
mod fairing;
mod guard;
#[cfg(feature = "server")]
mod http;
mod keys;
mod registry;
mod store;
mod token;

pub use clock::{Clock, ManualClock, SystemClock};
pub use config::{Location, Settings};
pub use error::Error;
pub use fairing::{Fairing, fairing};
#[doc(hidden)]
pub use guard::is_scope;
pub use guard::{
    AccessToken, AccessTokenData, AllOf, AnyOf, AnyToken, Cleared, Configured, ConfiguredOrJson, CookieOnly,
    CurrentUser, Device, ForwardedToken, FreshToken, HeaderOnly, InCookies, JsonOnly, LoadError, LoadUser, Locations,
    LogoutTokens, OptionalToken, QueryOnly, RefreshRequest, RefreshToken, RefreshTokenData, ScopeRule, Scoped,
    WithClaims, denial,
};
#[cfg(feature = "server")]
pub use http::{server, server_with_clock};
pub use registry::{
    AsOf, Checked, Expect, Grant, Issued, Personal, PurgeStatus, Purged, Readiness, Refresh, Registry, Tasks,
};
pub use token::{
    Act, Actor, ActorKind, AudienceRule, Claims, Cursor, Denial, Filter, Happening, Jti, PurgeRun, Reason, Record,
    RecordPage, Revocation, Scope, Scopes, Session, SessionPage, SessionRecord, Sid, State, Subject, TokenType,
    Verdict,
};

/// The programs of the README, which are tested with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The program of this page.
#[cfg(doctest)]
#[doc = include_str!("../docs/integrations/rocket.md")]
struct RocketPage;
