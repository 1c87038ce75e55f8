//! The application that the guards are tried on.

use counterfoil::{
    AccessToken, AccessTokenData, Actor, AllOf, AnyOf, AnyToken, Checked, Cleared, ConfiguredOrJson, CookieOnly,
    CurrentUser, Denial, Error, ForwardedToken, FreshToken, Grant, HeaderOnly, InCookies, Issued, Jti, LoadError,
    LoadUser, LogoutTokens, ManualClock, OptionalToken, QueryOnly, Refresh, RefreshRequest, RefreshToken, Registry,
    Scoped, Settings, Sid, WithClaims,
};
use rocket::http::{Header, Status};
use rocket::local::asynchronous::{Client, LocalResponse};
use rocket::outcome::try_outcome;
use rocket::request::{self, FromRequest};
use rocket::response::Redirect;
use rocket::serde::json::{Value, json};
use rocket::{Build, Request, Rocket, Route, State, get, post, routes};

counterfoil::scope! {
    /// For reading.
    pub(super) Read = "notes:read";
    pub(super) Write = "notes:write";
    pub(super) Admin = "notes:admin";
}

type Editor = AnyOf<(AllOf<(Read, Write)>, Admin)>;

#[derive(serde::Deserialize)]
pub(super) struct Tenancy {
    tenant: String,
}

pub(super) struct User(String);

#[rocket::async_trait]
impl LoadUser for User {
    async fn load(token: &Checked, _: &Request<'_>) -> Result<Option<Self>, LoadError> {
        match token.subject().as_str() {
            "ghost" => Ok(None),
            "broken" => Err("the user table is away".into()),
            name => Ok(Some(Self(name.to_owned()))),
        }
    }
}

#[get("/access")]
fn access(token: AccessToken<'_>) -> String {
    token.subject().to_string()
}

#[post("/access")]
fn change(token: AccessToken<'_>) -> String {
    token.subject().to_string()
}

#[get("/refresh")]
fn refresh_only(token: RefreshToken<'_>) -> String {
    token.claims().token_type.to_string()
}

#[get("/fresh")]
fn fresh(token: FreshToken<'_>) -> String {
    token.session().to_string()
}

#[get("/any")]
fn any(token: AnyToken<'_>) -> String {
    token.claims().token_type.to_string()
}

#[get("/optional")]
fn optional(token: OptionalToken<'_>) -> String {
    token.get().map_or("nobody".to_owned(), |token| token.subject().to_string())
}

#[get("/read")]
fn read(token: Scoped<'_, Read>) -> String {
    token.scopes().to_string()
}

#[get("/all")]
fn all(_token: Scoped<'_, AllOf<(Read, Write)>>) {}

#[get("/any-of")]
fn any_of(_token: Scoped<'_, Editor>) {}

#[get("/claims")]
fn claims(token: WithClaims<'_, Tenancy>) -> String {
    format!("{} of {}", token.subject(), token.custom().tenant)
}

#[get("/user")]
fn user(user: CurrentUser<'_, User>) -> String {
    format!("{} {}", user.token().subject(), user.0)
}

#[get("/result")]
fn result(token: Result<Scoped<'_, Read>, Denial>) -> (Status, String) {
    match token {
        Ok(token) => (Status::Ok, token.subject().to_string()),
        Err(denial) => (Status::ImATeapot, denial.code().to_owned()),
    }
}

#[get("/answered")]
fn answered(token: Result<AccessToken<'_>, Denial>) -> Result<String, Denial> {
    token.map(|token| token.subject().to_string())
}

#[get("/five")]
fn five(
    _access: AccessToken<'_>,
    _fresh: FreshToken<'_>,
    _scoped: Scoped<'_, Read>,
    _claims: WithClaims<'_, Tenancy>,
    _any: AnyToken<'_>,
) {
}

#[get("/any-and-access")]
fn any_and_access(_any: AnyToken<'_>, _access: AccessToken<'_>) {}

#[get("/by-header")]
fn by_header(_token: AccessToken<'_, HeaderOnly>) {}

#[get("/by-cookie")]
fn by_cookie(_token: AccessToken<'_, CookieOnly>) {}

#[get("/by-query")]
fn by_query(_token: AccessToken<'_, QueryOnly>) {}

#[get("/refresh-by-query")]
fn refresh_by_query(_token: RefreshToken<'_, QueryOnly>) {}

#[post("/data", data = "<token>")]
fn data(token: AccessTokenData<'_>) -> Value {
    json!({ "sub": token.subject().as_str(), "body": token.body() })
}

#[post("/data-or-json", data = "<token>")]
fn data_or_json(token: AccessTokenData<'_, ConfiguredOrJson>) -> Value {
    json!({ "sub": token.subject().as_str(), "body": token.body() })
}

#[post("/login?<cookies>")]
async fn login(cookies: Option<bool>, registry: &State<Registry>) -> Issued {
    let grant = Grant::to("alice".parse().unwrap()).fresh(true);
    registry.issue(cookies.into_iter().fold(grant, Grant::cookies)).await.unwrap()
}

#[post("/login-by-form?<cookies>")]
async fn login_by_form(cookies: bool, registry: &State<Registry>) -> InCookies<Redirect> {
    let grant = Grant::to("alice".parse().unwrap()).fresh(true).cookies(cookies);
    InCookies(registry.issue(grant).await.unwrap(), Redirect::to("/home"))
}

#[post("/refresh", data = "<token>")]
async fn refresh(token: RefreshRequest<ConfiguredOrJson>, registry: &State<Registry>) -> Result<Issued, Error> {
    registry.refresh(&token, Refresh::new()).await
}

#[post("/logout", data = "<tokens>")]
async fn logout(tokens: LogoutTokens, registry: &State<Registry>) -> Result<Cleared<String>, Error> {
    match registry.end_session(tokens.session(), Actor::subject(tokens.subject())).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(Cleared(tokens.session().to_string())),
    }
}

#[get("/check")]
fn check(_token: ForwardedToken) -> Status {
    Status::NoContent
}

#[post("/issue?<sub>")]
async fn issue(sub: &str, registry: &State<Registry>) -> Result<Issued, Error> {
    registry.issue(Grant::to(sub.parse()?)).await
}

#[post("/unrevoke/<jti>")]
async fn unrevoke(jti: Result<Jti, Error>, registry: &State<Registry>) -> Result<(), Error> {
    registry.unrevoke(jti?, Actor::application("test")).await
}

#[get("/session/<sid>")]
fn session(sid: Sid) -> String {
    sid.to_string()
}

/// A guard of the application's own.
struct Awake;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Awake {
    type Error = Denial;

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, Denial> {
        let token = try_outcome!(request.guard::<AccessToken<'_>>().await);
        match token.subject().as_str() {
            "sleeper" => Denial::InsufficientScope { missing: "awake".parse().unwrap() }.refuse(request),
            _ => request::Outcome::Success(Self),
        }
    }
}

#[get("/awake")]
fn awake(_awake: Awake) {}

fn all_routes() -> Vec<Route> {
    routes![
        access,
        change,
        refresh_only,
        fresh,
        any,
        optional,
        read,
        all,
        any_of,
        claims,
        user,
        result,
        answered,
        five,
        any_and_access,
        by_header,
        by_cookie,
        by_query,
        refresh_by_query,
        data,
        data_or_json,
        login,
        login_by_form,
        refresh,
        logout,
        check,
        issue,
        unrevoke,
        session,
        awake,
    ]
}

pub(super) fn rocket() -> Rocket<Build> {
    let quiet = rocket::Config { log_level: rocket::log::LogLevel::Off, ..rocket::Config::debug_default() };
    rocket::custom(quiet).mount("/", all_routes())
}

/// The running application.
pub(super) struct App {
    pub(super) client: Client,
    pub(super) clock: ManualClock,
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) text: String,
    pub(super) headers: Vec<(String, String)>,
}

impl Answer {
    async fn of(response: LocalResponse<'_>) -> Self {
        let status = response.status().code;
        let headers =
            response.headers().iter().map(|header| (header.name().to_string(), header.value().to_owned())).collect();
        Self { status, headers, text: response.into_string().await.unwrap_or_default() }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(sent, _)| sent.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    /// The status and the code of the error.
    pub(super) fn error(&self) -> (u16, String) {
        (self.status, self.json()["error"].as_str().unwrap_or_default().to_owned())
    }

    /// The `Set-Cookie` line of this cookie.
    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        let lines = self.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case("Set-Cookie"));
        lines.map(|(_, line)| line.as_str()).find(|line| line.split('=').next() == Some(name))
    }
}

impl App {
    pub(super) async fn new() -> Self {
        Self::with("").await
    }

    /// With these settings, as TOML.
    pub(super) async fn with(toml: &str) -> Self {
        Self::with_settings(Settings::for_tests_with(toml).unwrap()).await
    }

    pub(super) async fn with_settings(settings: Settings) -> Self {
        let clock = ManualClock::here();
        let app = rocket().attach(counterfoil::fairing().settings(settings).clock(clock.clone()));
        Self { client: Client::untracked(app).await.unwrap(), clock }
    }

    pub(super) fn registry(&self) -> &Registry {
        self.client.rocket().state().unwrap()
    }

    pub(super) async fn issue(&self, grant: Grant) -> Issued {
        self.registry().issue(grant).await.unwrap()
    }

    /// A fresh pair for alice.
    pub(super) async fn alice(&self) -> Issued {
        self.issue(alice().fresh(true)).await
    }

    pub(super) async fn get(&self, path: &str, headers: impl AsRef<[(&'static str, String)]>) -> Answer {
        let request = headers.as_ref().iter().fold(self.client.get(path.to_owned()), |request, (name, value)| {
            request.header(Header::new(*name, value.clone()))
        });
        Answer::of(request.dispatch().await).await
    }

    pub(super) async fn post(&self, path: &str, headers: impl AsRef<[(&'static str, String)]>, body: &str) -> Answer {
        let request =
            headers.as_ref().iter().fold(self.client.post(path.to_owned()).body(body), |request, (name, value)| {
                request.header(Header::new(*name, value.clone()))
            });
        Answer::of(request.dispatch().await).await
    }

    /// `GET`s with this token in the `Authorization` header.
    pub(super) async fn get_with(&self, path: &str, token: &str) -> Answer {
        self.get(path, &[bearer(token)]).await
    }
}

pub(super) fn alice() -> Grant {
    Grant::to("alice".parse().unwrap())
}

pub(super) fn bearer(token: &str) -> (&'static str, String) {
    ("Authorization", format!("Bearer {token}"))
}

pub(super) fn cookie(pairs: &[(&str, &str)]) -> (&'static str, String) {
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    ("Cookie", pairs.join("; "))
}

pub(super) fn json_type() -> (&'static str, String) {
    ("Content-Type", "application/json".to_owned())
}
