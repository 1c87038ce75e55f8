//! One token: what is known of it, why it would be refused, what happened to it; and taking it back.

use askama::Template;
use rocket::{Route, State, get, post, routes};

use super::because::{Because, BecausePage};
use super::{encoded, sessions, subjects, tokens};
use crate::error::Error;
use crate::guard::Device;
use crate::http::console::error::ConsoleError;
use crate::http::console::form::{Field, Posted, WRONG};
use crate::http::console::frame::Frame;
use crate::http::console::page::{Answer, Page, SeeOther};
use crate::http::console::signed_in::AdminSignedIn;
use crate::http::console::time::When;
use crate::http::console::{device, sign_in};
use crate::registry::Registry;
use crate::token::{Actor, ActorKind, Denial, Happening, Jti, Reason, Record, State as TokenState};

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![show, ask_revoke, revoke, ask_unrevoke, unrevoke]
}

/// Who did something, in words.
pub(super) fn by(actor: &Actor) -> String {
    format!("{} {}", actor.kind.in_words(), actor.name)
}

/// A token as its page shows it.
struct TokenView {
    jti: Jti,
    kind: &'static str,
    label: Option<String>,
    subject: String,
    subject_path: String,
    sid: String,
    session_path: String,
    client: Option<String>,
    address: Option<String>,
    device: String,
    user_agent: Option<String>,
    scopes: Vec<String>,
    issued: When,
    expires: When,
    used: Option<When>,
    state: TokenState,
    path: String,
    can_revoke: bool,
    can_unrevoke: bool,
}

impl TokenView {
    async fn of(record: &Record, registry: &Registry) -> Self {
        device::prepare().await;
        let is_over = record.expires_at.timestamp() <= registry.live_at();
        let revocation = record.revocation.as_ref();
        Self {
            jti: record.jti,
            kind: tokens::kind_of(record),
            label: record.label.clone(),
            subject: record.subject.to_string(),
            subject_path: subjects::path_of(&record.subject),
            sid: record.sid.to_string(),
            session_path: sessions::path_of(record.sid),
            client: record.client.clone(),
            address: record.ip.clone(),
            device: device::name(record.user_agent.as_deref()),
            user_agent: record.user_agent.clone(),
            scopes: record.scope.iter().map(str::to_owned).collect(),
            issued: record.issued_at.into(),
            expires: record.expires_at.into(),
            used: record.last_used_at.map(When::from),
            state: record.state(registry.live_at()),
            path: tokens::path_of(record.jti),
            // What its subject revoked, it could accept again by itself.
            can_revoke: !is_over && revocation.is_none_or(|how| !how.is_final && how.by.kind == ActorKind::Subject),
            can_unrevoke: !is_over && revocation.is_some_and(|how| !how.is_final),
        }
    }

    /// Where the tokens are that have the same.
    fn search(&self, field: &str, value: &str) -> String {
        format!("{}?{field}={}", tokens::HERE, encoded(value))
    }
}

/// One thing that happened, as it is shown.
struct HappeningView {
    at: When,
    what: String,
    /// Another token that it is about.
    other: Option<Jti>,
    by: Option<String>,
    address: Option<String>,
    reason: Option<String>,
}

impl HappeningView {
    fn of(happening: Happening, jti: Jti) -> Self {
        let other = happening.target.as_deref().filter(|_| happening.action.starts_with("token."));
        Self {
            at: happening.at.into(),
            what: what(&happening.action),
            other: other.and_then(|target| target.parse().ok()).filter(|other| *other != jti),
            by: happening.actor.as_ref().map(by),
            address: happening.ip,
            reason: happening.reason,
        }
    }
}

/// What an action is called; one without words of its own has its name in the audit.
fn what(action: &str) -> String {
    let words = match action {
        "token.issued" => "Issued",
        "token.used" => "Last used",
        "token.spent" => "Used, and another issued for it",
        "token.replaced" => "Replaced by another",
        "token.revoked" => "Revoked",
        "token.unrevoked" => "Accepted again",
        "session.ended" => "Its session ended",
        "refresh.reused" => "A used refresh token of its session came again",
        "subject.ended" => "All sessions of its subject ended",
        action => action,
    };
    words.to_owned()
}

/// What stands against a token, its moment apart from the words around it.
struct ReasonView {
    before: String,
    at: Option<(When, String)>,
    /// Whether a check minds it.
    is_minded: bool,
}

impl ReasonView {
    fn of(reason: &Reason) -> Self {
        let (before, at) = reason.around();
        Self { before, at: at.map(|(at, after)| (at.into(), after)), is_minded: reason.denial().is_some() }
    }
}

#[derive(Template)]
#[template(path = "console/admin_token.html")]
struct TokenPage<'r> {
    frame: Frame<'r>,
    token: TokenView,
    denial: Option<Denial>,
    reasons: Vec<ReasonView>,
    claims: String,
    history: Vec<HappeningView>,
}

fn no_token() -> ConsoleError {
    let text =
        "The registry has no token of this id. It was removed some time after it had expired, or the id is not right.";
    ConsoleError::not_found("This token is not here", text)
}

async fn record(registry: &Registry, jti: &str) -> Result<Record, ConsoleError> {
    let jti: Jti = jti.parse().map_err(|_| no_token())?;
    registry.get(jti).await.map_err(missing)
}

fn missing(error: Error) -> ConsoleError {
    if error.is_not_found() { no_token() } else { error.into() }
}

/// The claims as text. What a form has to send with the token's cookie is nobody else's to know.
fn claims(record: &Record) -> String {
    let mut claims = record.token.clone();
    if let Some(csrf) = claims.get_mut("csrf") {
        *csrf = "(not shown)".into();
    }
    serde_json::to_string_pretty(&claims).unwrap_or_default()
}

#[get("/admin/tokens/<jti>")]
async fn show<'r>(
    jti: &str,
    person: AdminSignedIn<'r>,
    registry: &State<Registry>,
) -> Result<Page<TokenPage<'r>>, ConsoleError> {
    let record = record(registry, jti).await?;
    let verdict = registry.verdict_on(&record).await?;
    let history = registry.history(&record).await?;
    Ok(Page(TokenPage {
        frame: person.frame(),
        token: TokenView::of(&record, registry).await,
        reasons: verdict.reasons.iter().map(ReasonView::of).collect(),
        denial: verdict.denial,
        claims: claims(&record),
        history: history.into_iter().map(|happening| HappeningView::of(happening, record.jti)).collect(),
    }))
}

/// What is asked before it is done to a token.
struct Question {
    title: &'static str,
    text: &'static str,
    /// The last part of its address.
    path: &'static str,
    yes: &'static str,
}

const REVOKE: Question = Question {
    title: "Revoke this token?",
    text: "It will not be accepted any more. Its subject can't undo that, but you can. The other tokens of its session stay \
           good: end the session to take all of them back.",
    path: "revoke",
    yes: "Revoke it",
};

const UNREVOKE: Question = Question {
    title: "Accept this token again?",
    text: "Whoever has it can use it again until it expires. Do that only where it was revoked by mistake.",
    path: "unrevoke",
    yes: "Accept it again",
};

impl Question {
    fn page<'r>(&self, person: &AdminSignedIn<'r>, record: &Record, reason: Field) -> BecausePage<'r> {
        let back = tokens::path_of(record.jti);
        BecausePage {
            frame: person.frame(),
            title: self.title,
            about: format!("{} {} of {}", tokens::kind_of(record), record.jti, record.subject),
            text: self.text,
            outlives: None,
            action: format!("{back}/{}", self.path),
            yes: self.yes,
            back,
            back_name: "The token",
            reason,
        }
    }
}

#[get("/admin/tokens/<jti>/revoke")]
async fn ask_revoke<'r>(
    jti: &str,
    person: AdminSignedIn<'r>,
    registry: &State<Registry>,
) -> Result<Page<BecausePage<'r>>, ConsoleError> {
    let record = record(registry, jti).await?;
    Ok(Page(REVOKE.page(&person, &record, Field::default())))
}

#[post("/admin/tokens/<jti>/revoke", data = "<form>")]
async fn revoke<'r>(
    jti: &str,
    person: AdminSignedIn<'r>,
    device: Device<'_>,
    registry: &State<Registry>,
    form: Posted<Because>,
) -> Result<Answer<BecausePage<'r>>, ConsoleError> {
    let record = record(registry, jti).await?;
    let act = match form.0.act(person.act(&device)) {
        Ok(act) => act,
        Err(reason) => return Ok(Answer::Page(WRONG, REVOKE.page(&person, &record, reason))),
    };
    registry.revoke(record.jti, act).await.map_err(missing)?;
    Ok(Answer::SeeOther(if record.jti == person.token().claims().jti {
        sign_in::signed_out(registry.settings())
    } else {
        SeeOther::done(&tokens::path_of(record.jti), "token-revoked")
    }))
}

#[get("/admin/tokens/<jti>/unrevoke")]
async fn ask_unrevoke<'r>(
    jti: &str,
    person: AdminSignedIn<'r>,
    registry: &State<Registry>,
) -> Result<Page<BecausePage<'r>>, ConsoleError> {
    let record = record(registry, jti).await?;
    Ok(Page(UNREVOKE.page(&person, &record, Field::default())))
}

#[post("/admin/tokens/<jti>/unrevoke", data = "<form>")]
async fn unrevoke<'r>(
    jti: &str,
    person: AdminSignedIn<'r>,
    device: Device<'_>,
    registry: &State<Registry>,
    form: Posted<Because>,
) -> Result<Answer<BecausePage<'r>>, ConsoleError> {
    let record = record(registry, jti).await?;
    let act = match form.0.act(person.act(&device)) {
        Ok(act) => act,
        Err(reason) => return Ok(Answer::Page(WRONG, UNREVOKE.page(&person, &record, reason))),
    };
    registry.unrevoke(record.jti, act).await.map_err(missing)?;
    Ok(Answer::SeeOther(SeeOther::done(&tokens::path_of(record.jti), "token-unrevoked")))
}
