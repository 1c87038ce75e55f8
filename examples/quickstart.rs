//! The ten-minute quickstart: an application that logs its users in, and lets them see, revoke and unrevoke their
//! tokens.
//!
//! ```text
//! cargo run --example quickstart
//! curl -d '{"username":"test","password":"test"}' localhost:8000/login
//! curl -H "Authorization: Bearer <access_token>" localhost:8000/protected
//! curl -H "Authorization: Bearer <access_token>" localhost:8000/auth/tokens
//! curl -X PUT -H "Authorization: Bearer <access_token>" localhost:8000/auth/tokens/revoke/<jti>
//! ```
//!
//! The registry is the file `counterfoil.db`, with the signing key beside it: both are made on the first start.

use counterfoil::{
    AccessToken, Actor, Device, Error, Filter, Grant, Issued, Jti, Record, Refresh, RefreshRequest, RefreshToken,
    Registry, Scoped,
};
use rocket::serde::json::{Json, Value, json};
use rocket::serde::{Deserialize, Serialize};
use rocket::{Build, Responder, Rocket, State, get, launch, post, put, routes};

/// An application looks into its own database here, and keeps password hashes there.
const USERS: [(&str, &str, &str); 2] = [("test", "test", ""), ("admin", "admin", "registry:admin")];

counterfoil::scope! {
    /// May see everybody's tokens.
    Admin = "registry:admin";
}

/// Owned: in JSON a text with a quote in it is written with an escape, and can't be borrowed.
#[derive(Deserialize)]
struct Credentials {
    username: String,
    password: String,
}

#[post("/login", data = "<credentials>")]
async fn login(credentials: Json<Credentials>, device: Device<'_>, registry: &State<Registry>) -> Answer<Issued> {
    let Credentials { username, password } = &*credentials;
    let user = USERS.iter().find(|(name, secret, _)| name == username && secret == password);
    let (name, _, scopes) = user.ok_or(Refusal::BadCredentials(msg("Bad username or password")))?;
    let grant = Grant::to(name.parse()?).scope(scopes.parse()?).fresh(true).device(device.ip, device.user_agent);
    Ok(registry.issue(grant).await?)
}

#[post("/refresh", data = "<request>")]
async fn refresh(request: RefreshRequest, registry: &State<Registry>) -> Answer<Issued> {
    Ok(registry.refresh(&request, Refresh::new()).await?)
}

/// Revokes the access token alone, and `/logout2` the refresh token, as the user may undo from another session.
/// `registry.end_session(token.session(), …)` would end both at once, for good.
#[post("/logout")]
async fn logout(token: AccessToken<'_>, registry: &State<Registry>) -> Answer<Value> {
    registry.revoke(token.jti(), Actor::subject(token.subject())).await?;
    Ok(msg("Successfully logged out"))
}

#[post("/logout2")]
async fn logout2(token: RefreshToken<'_>, registry: &State<Registry>) -> Answer<Value> {
    registry.revoke(token.jti(), Actor::subject(token.subject())).await?;
    Ok(msg("Successfully logged out"))
}

#[get("/auth/tokens")]
async fn tokens(token: AccessToken<'_>, registry: &State<Registry>) -> Answer<Json<Vec<Record>>> {
    Ok(Json(registry.list(&Filter::subject(token.subject().clone())).await?))
}

#[get("/auth/all-tokens")]
async fn all_tokens(_token: Scoped<'_, Admin>, registry: &State<Registry>) -> Answer<Json<Vec<Record>>> {
    Ok(Json(registry.list(&Filter::all()).await?))
}

#[put("/auth/tokens/revoke/<jti>")]
async fn revoke(jti: &str, token: AccessToken<'_>, registry: &State<Registry>) -> Answer<Value> {
    registry.revoke(jti_in(jti)?, Actor::subject(token.subject())).await?;
    Ok(msg("Token successfully revoked"))
}

#[put("/auth/tokens/unrevoke/<jti>")]
async fn unrevoke(jti: &str, token: AccessToken<'_>, registry: &State<Registry>) -> Answer<Value> {
    // With the token that asks for it: one that is being revoked must not undo that.
    registry.unrevoke(jti_in(jti)?, token.act_as(Actor::subject(token.subject()))).await?;
    Ok(msg("Token successfully unrevoked"))
}

#[get("/protected")]
fn protected(_token: AccessToken<'_>) -> Value {
    json!({ "hello": "world" })
}

fn jti_in(path: &str) -> Result<Jti, Refusal> {
    path.parse().map_err(|_| Refusal::NotFound(msg("Token not found")))
}

fn msg(text: impl Serialize) -> Value {
    json!({ "msg": text })
}

type Answer<T> = Result<T, Refusal>;

#[derive(Responder)]
enum Refusal {
    #[response(status = 401)]
    BadCredentials(Value),
    #[response(status = 404)]
    NotFound(Value),
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The application, with the fairing that a test chooses.
pub(crate) fn app(fairing: counterfoil::Fairing) -> Rocket<Build> {
    rocket::build()
        .attach(fairing)
        .mount("/", routes![login, refresh, logout, logout2, tokens, all_tokens, revoke, unrevoke, protected])
}

#[launch]
fn rocket() -> _ {
    app(counterfoil::fairing())
}
