//! Rocket applications that are measured, each in a process of its own: this binary with the name of one as its argument.

use std::fmt::Display;

use counterfoil::{Grant, Issued, Registry};
use rocket::form::Form;
use rocket::http::Status;
use rocket::response::content::RawJson;
use rocket::serde::json::Json;
use rocket::{Build, FromForm, Rocket, State, get, post, put, routes};
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

/// The whole server, and a route beside `GET /protected` that has no guard and answers the same bytes: what differs
/// between the two is the check alone.
fn guarded() -> Rocket<Build> {
    // As `counterfoil serve` logs.
    let subscriber = tracing_subscriber::fmt().with_env_filter(EnvFilter::new("info,sqlx=warn"));
    let _ = tracing::subscriber::set_global_default(subscriber.finish());
    let mut routes = routes![up, unguarded];
    // In the place of `GET /protected`: among the first that Rocket looks at.
    routes.iter_mut().for_each(|route| route.rank -= 1);
    counterfoil::server(rocket::Config::figment()).mount("/", routes)
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
