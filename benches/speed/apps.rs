//! Rocket applications that are measured, each in a process of its own: this binary with the name of one as its
//! argument.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock};

use counterfoil::{Grant, Issued, Registry};
use rocket::form::Form;
use rocket::http::Status;
use rocket::outcome::Outcome::{Error, Success};
use rocket::request::{self, FromRequest};
use rocket::response::content::RawJson;
use rocket::serde::json::Json;
use rocket::{Build, FromForm, Request, Rocket, State, get, post, put, routes};
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::Outcome;

/// What a route that looks at nothing answers: the same bytes as `GET /protected`.
pub(crate) const ANSWER: &str = r#"{"hello":"world"}"#;
/// The same for a revocation.
pub(crate) const REVOKED: &str = r#"{"msg":"Token successfully revoked"}"#;

/// Serves this application until the process is ended, where there is one of this name.
pub(crate) fn serve(args: &[String]) -> Option<Outcome<()>> {
    let app = match args {
        [name, issued] if name == "bare" => bare(issued.clone()),
        [name] if name == "guarded" => guarded(),
        [name] if name == "issuer" => issuer(),
        _ => return None,
    };
    Some(rocket::execute(app.launch()).map(drop).map_err(Into::into))
}

/// A bare Rocket server: routes and nothing else.
fn bare(issued: String) -> Rocket<Build> {
    let port = std::env::var("ROCKET_PORT").ok().and_then(|port| port.parse().ok()).unwrap_or_default();
    let config = rocket::Config {
        port,
        ip_header: None,
        log_level: rocket::config::LogLevel::Off,
        ..rocket::Config::release_default()
    };
    rocket::custom(config)
        .manage(issued)
        .mount("/", routes![unguarded_protected, bare_issue, bare_tokens, bare_introspect, bare_revoke])
}

/// The whole server, and two routes beside `GET /protected` that answer the same bytes. One has no guard, so that what
/// differs between the two is the check alone; the other has one that looks a token up and does nothing else.
fn guarded() -> Rocket<Build> {
    // As `counterfoil serve` logs.
    let subscriber = tracing_subscriber::fmt().with_env_filter(EnvFilter::new("info,sqlx=warn"));
    let _ = tracing::subscriber::set_global_default(subscriber.finish());
    let mut routes = routes![up, unguarded, looked_up];
    // In the place of `GET /protected`: among the first that Rocket looks at.
    routes.iter_mut().for_each(|route| route.rank -= 1);
    counterfoil::server(rocket::Config::figment()).manage(Seen::default()).mount("/", routes)
}

/// The library in an application, with a route that issues a token.
fn issuer() -> Rocket<Build> {
    rocket::build().attach(counterfoil::fairing()).mount("/", routes![up, issue])
}

#[get("/up")]
async fn up(registry: &State<Registry>) -> Result<(), Status> {
    match registry.readiness().await {
        counterfoil::Readiness::Ready => Ok(()),
        _ => Err(Status::ServiceUnavailable),
    }
}

#[get("/unguarded")]
async fn unguarded() -> RawJson<&'static str> {
    RawJson(ANSWER)
}

/// Tokens that were seen, by a hash of their bytes, each with about as much as a registry remembers of one.
#[derive(Default)]
struct Seen {
    hasher: RandomState,
    tokens: RwLock<HashMap<u64, Arc<[u64; 64]>>>,
}

/// The least that a guard does which remembers tokens: it finds the token and looks it up. It judges nothing, and
/// forgets nothing.
struct LookedUp {
    _seen: Arc<[u64; 64]>,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for LookedUp {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, ()> {
        let token = request.headers().get_one("Authorization").and_then(|value| value.strip_prefix("Bearer "));
        let (Some(token), Some(seen)) = (token, request.rocket().state::<Seen>()) else {
            return Error((Status::Unauthorized, ()));
        };
        let hash = seen.hasher.hash_one(token);
        let found = seen.tokens.read().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned();
        let remember = || {
            let mut tokens = seen.tokens.write().unwrap_or_else(PoisonError::into_inner);
            tokens.entry(hash).or_insert_with(|| Arc::new([hash; 64])).clone()
        };
        Success(Self { _seen: found.unwrap_or_else(remember) })
    }
}

#[get("/looked-up")]
async fn looked_up(_token: LookedUp) -> RawJson<&'static str> {
    RawJson(ANSWER)
}

#[get("/protected")]
fn unguarded_protected() -> RawJson<&'static str> {
    RawJson(ANSWER)
}

/// Whom to issue a token to.
#[derive(Deserialize)]
struct Asked {
    subject: String,
}

#[post("/issue", data = "<asked>")]
async fn issue(registry: &State<Registry>, asked: Json<Asked>) -> Result<Issued, rocket::response::Debug<String>> {
    let text = |error: counterfoil::Error| shown(&error);
    let subject = asked.0.subject.parse().map_err(text)?;
    Ok(registry.issue(Grant::to(subject).without_refresh()).await.map_err(text)?)
}

fn shown(error: &impl Display) -> String {
    error.to_string()
}

#[post("/issue", data = "<asked>")]
async fn bare_issue(issued: &State<String>, asked: Json<Asked>) -> RawJson<&str> {
    std::hint::black_box(asked.0.subject);
    RawJson(issued.as_str())
}

#[put("/auth/tokens/revoke/<jti>")]
async fn bare_revoke(jti: &str) -> RawJson<&'static str> {
    std::hint::black_box(jti);
    RawJson(REVOKED)
}

#[post("/tokens", data = "<asked>")]
async fn bare_tokens(issued: &State<String>, asked: Json<Asked>) -> (Status, RawJson<&str>) {
    std::hint::black_box(asked.0.subject);
    (Status::Created, RawJson(issued.as_str()))
}

/// A token to be asked about.
#[derive(FromForm)]
struct Presented<'r> {
    token: &'r str,
}

#[post("/oauth/introspect", data = "<form>")]
async fn bare_introspect<'r>(told: &'r State<String>, form: Form<Presented<'r>>) -> RawJson<&'r str> {
    std::hint::black_box(form.token);
    RawJson(told.as_str())
}
