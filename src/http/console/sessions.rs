//! Where one is signed in: one's sessions, the tokens in each, and ending them.

use std::collections::HashMap;

use askama::Template;
use rocket::form::FromForm;
use rocket::{Route, State, get, post, routes};

use super::device;
use super::error::{ConsoleError, sentence};
use super::form::{Confirmed, Field, Posted, WRONG};
use super::frame::Frame;
use super::page::{Answer, Page, SeeOther};
use super::sign_in;
use super::signed_in::SignedIn;
use super::time::{When, in_words};
use crate::config::Check;
use crate::error::Error;
use crate::guard::Device;
use crate::registry::Registry;
use crate::token::{Cursor, Filter, Jti, Record, Session, Sid, State as TokenState, Subject, TokenType};

/// Where the list is.
pub(super) const HERE: &str = "/console/sessions";

/// How many pages of records or sessions are looked through; whoever has more than that sees the newest.
const PAGES_MAX: usize = 5;

/// How many sessions a page shows.
const SHOWN: u16 = 100;

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![list, ask_end_others, end_others, show, ask_end, end, ask_label, label]
}

/// A session as it is shown.
struct SessionView {
    sid: Sid,
    name: String,
    /// What it was signed in with, where the name doesn't say that.
    device: Option<String>,
    user_agent: Option<String>,
    ip: Option<String>,
    client: Option<String>,
    created: When,
    seen: When,
    expires: When,
    is_current: bool,
    is_console: bool,
}

/// A live token as it is shown.
struct TokenView {
    jti: Jti,
    kind: &'static str,
    label: Option<String>,
    issued: When,
    expires: When,
    used: Option<When>,
}

#[derive(Template)]
#[template(path = "console/sessions.html")]
struct SessionsPage<'r> {
    frame: Frame<'r>,
    sessions: Vec<SessionView>,
    next: Option<String>,
}

impl SessionsPage<'_> {
    fn has_others(&self) -> bool {
        self.next.is_some() || self.sessions.iter().any(|session| !session.is_current)
    }
}

#[derive(Template)]
#[template(path = "console/session.html")]
struct SessionPage<'r> {
    frame: Frame<'r>,
    session: SessionView,
    tokens: Vec<TokenView>,
    /// The token by which the session is named.
    naming: Option<Jti>,
}

#[derive(Template)]
#[template(path = "console/session_end.html")]
struct EndPage<'r> {
    frame: Frame<'r>,
    session: SessionView,
    outlives: Option<String>,
}

#[derive(Template)]
#[template(path = "console/sessions_end_others.html")]
struct EndOthersPage<'r> {
    frame: Frame<'r>,
    others: usize,
    personal: usize,
    /// Whether there are more than were counted.
    goes_on: bool,
    outlives: Option<String>,
}

#[derive(Template)]
#[template(path = "console/label.html")]
struct LabelPage<'r> {
    frame: Frame<'r>,
    jti: Jti,
    back: String,
    label: Field,
}

/// What a session is there for, where it is not one of the usual kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    Console,
    Personal,
}

/// What those of one's live sessions are there for that consist of one token.
struct Kinds(HashMap<Sid, Own>);

impl Kinds {
    async fn of(registry: &Registry, person: &SignedIn<'_>) -> Result<Self, Error> {
        let filter = Filter::subject(person.subject().clone()).state(TokenState::Live).token_type(TokenType::Access);
        Ok(Self::among(&records(registry, filter).await?))
    }

    fn among(records: &[Record]) -> Self {
        let kind = |record: &Record| if is_console(record) { Own::Console } else { Own::Personal };
        Self(records.iter().filter(|record| is_own_session(record)).map(|record| (record.sid, kind(record))).collect())
    }

    fn is_personal(&self, session: &Session) -> bool {
        self.0.get(&session.sid) == Some(&Own::Personal)
    }

    fn view(&self, session: &Session, person: &SignedIn<'_>) -> SessionView {
        let (name, device) = device::named(session.label.as_deref(), session.user_agent.as_deref());
        SessionView {
            sid: session.sid,
            name,
            device,
            user_agent: session.user_agent.clone(),
            ip: session.ip.clone(),
            client: session.client.clone(),
            created: session.created_at.into(),
            seen: session.last_seen_at.into(),
            expires: session.expires_at.into(),
            is_current: session.sid == person.session(),
            is_console: self.0.get(&session.sid) == Some(&Own::Console),
        }
    }
}

/// One of one's live sessions, with its live tokens, newest first.
async fn find(
    registry: &Registry,
    person: &SignedIn<'_>,
    sid: &str,
) -> Result<(SessionView, Vec<Record>), ConsoleError> {
    let sid: Sid = sid.parse().map_err(|_| no_session())?;
    let session = registry.live_session(person.subject(), sid).await?.ok_or_else(no_session)?;
    let filter = Filter::subject(person.subject().clone()).session(sid).state(TokenState::Live);
    let records = records(registry, filter).await?;
    device::prepare().await;
    Ok((Kinds::among(&records).view(&session, person), records))
}

/// A session is named by its refresh token, which lives as long as it does, or else by its newest.
fn naming(records: &[Record]) -> Option<Jti> {
    let refresh = records.iter().find(|record| record.token_type == TokenType::Refresh);
    refresh.or(records.first()).map(|record| record.jti)
}

impl SessionView {
    /// What ending it is called.
    fn end_name(&self) -> &'static str {
        if self.is_current { "Sign out" } else { "End it" }
    }
}

impl TokenView {
    fn of(record: &Record) -> Self {
        Self {
            jti: record.jti,
            kind: match record.token_type {
                _ if is_console(record) => "Console",
                TokenType::Access => "Access token",
                TokenType::Refresh => "Refresh token",
            },
            label: record.label.clone(),
            issued: record.issued_at.into(),
            expires: record.expires_at.into(),
            used: record.last_used_at.map(When::from),
        }
    }
}

/// All records of a filter, up to a bound.
pub(super) async fn records(registry: &Registry, filter: Filter) -> Result<Vec<Record>, Error> {
    let filter = filter.limit(Filter::LIMIT_MAX)?;
    let mut found = registry.list(&filter).await?;
    for _ in 1..PAGES_MAX {
        if found.len() % usize::from(Filter::LIMIT_MAX) != 0 {
            break;
        }
        let Some(last) = found.last() else { break };
        let next = registry.list(&filter.clone().after(Cursor::of(last))).await?;
        if next.is_empty() {
            break;
        }
        found.extend(next);
    }
    Ok(found)
}

/// Whether a token is its own session, as that of the console and personal tokens are.
pub(super) fn is_own_session(record: &Record) -> bool {
    record.token_type == TokenType::Access && record.sid == record.jti.own_session()
}

pub(super) fn is_console(record: &Record) -> bool {
    is_own_session(record) && record.is_console()
}

/// For how long access tokens outlive their session, where they are not looked up.
pub(super) fn outlives(registry: &Registry) -> Option<String> {
    let settings = registry.settings();
    (settings.check == Check::Refresh).then(|| in_words(settings.access_expires.as_secs()))
}

fn no_session() -> ConsoleError {
    ConsoleError::not_found("This session is over", "It has ended or expired, or was never yours.")
}

fn no_token() -> ConsoleError {
    ConsoleError::not_found("This token is not here", "It has been removed, or was never yours.")
}

/// One's record of this id.
pub(super) async fn own_record(registry: &Registry, subject: &Subject, jti: &str) -> Result<Record, ConsoleError> {
    let jti: Jti = jti.parse().map_err(|_| no_token())?;
    match registry.get(jti).await {
        Ok(record) if record.subject == *subject => Ok(record),
        Ok(_) => Err(no_token()),
        Err(error) if error.is_not_found() => Err(no_token()),
        Err(error) => Err(error.into()),
    }
}

/// A page of them, and on the first the current one before all others.
#[get("/sessions?<after>")]
async fn list<'r>(
    after: Option<&str>,
    person: SignedIn<'r>,
    registry: &State<Registry>,
) -> Result<Page<SessionsPage<'r>>, ConsoleError> {
    let (own, subject) = (person.session(), person.subject());
    let after: Option<Cursor> = after.and_then(|place| place.parse().ok());
    let page = registry.sessions(subject, after, SHOWN).await?;
    let current = if after.is_none() { registry.live_session(subject, own).await? } else { None };
    let others = page.sessions.iter().filter(|session| session.sid != own);
    let kinds = Kinds::of(registry, &person).await?;
    device::prepare().await;
    let shown = current.iter().chain(others).filter(|session| !kinds.is_personal(session));
    let sessions = shown.map(|session| kinds.view(session, &person)).collect();
    let next = page.next.map(|next| format!("{HERE}?after={next}"));
    Ok(Page(SessionsPage { frame: person.frame(), sessions, next }))
}

#[get("/sessions/<sid>")]
async fn show<'r>(
    sid: &str,
    person: SignedIn<'r>,
    registry: &State<Registry>,
) -> Result<Page<SessionPage<'r>>, ConsoleError> {
    let (session, records) = find(registry, &person, sid).await?;
    let tokens = records.iter().map(TokenView::of).collect();
    Ok(Page(SessionPage { frame: person.frame(), session, tokens, naming: naming(&records) }))
}

#[get("/sessions/<sid>/end")]
async fn ask_end<'r>(
    sid: &str,
    person: SignedIn<'r>,
    registry: &State<Registry>,
) -> Result<Page<EndPage<'r>>, ConsoleError> {
    let (session, _) = find(registry, &person, sid).await?;
    Ok(Page(EndPage { frame: person.frame(), session, outlives: outlives(registry) }))
}

#[post("/sessions/<sid>/end", data = "<_form>")]
async fn end(
    sid: &str,
    person: SignedIn<'_>,
    device: Device<'_>,
    registry: &State<Registry>,
    _form: Posted<Confirmed>,
) -> Result<SeeOther, ConsoleError> {
    let sid: Sid = sid.parse().map_err(|_| no_session())?;
    match registry.end_session(sid, person.act(&device)).await {
        Err(error) if error.is_not_found() => return Err(no_session()),
        ended => ended?,
    };
    Ok(if sid == person.session() {
        sign_in::signed_out(registry.settings())
    } else {
        SeeOther::done(HERE, "session-ended")
    })
}

#[get("/sessions/end-others")]
async fn ask_end_others<'r>(
    person: SignedIn<'r>,
    registry: &State<Registry>,
) -> Result<Page<EndOthersPage<'r>>, ConsoleError> {
    let kinds = Kinds::of(registry, &person).await?;
    let (mut others, mut personal, mut after) = (0, 0, None);
    for _ in 0..PAGES_MAX {
        let page = registry.sessions(person.subject(), after, Filter::LIMIT_MAX).await?;
        for session in page.sessions.iter().filter(|session| session.sid != person.session()) {
            *if kinds.is_personal(session) { &mut personal } else { &mut others } += 1;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let page = EndOthersPage {
        frame: person.frame(),
        others,
        personal,
        goes_on: after.is_some(),
        outlives: outlives(registry),
    };
    Ok(Page(page))
}

#[post("/sessions/end-others", data = "<_form>")]
async fn end_others(
    person: SignedIn<'_>,
    device: Device<'_>,
    registry: &State<Registry>,
    _form: Posted<Confirmed>,
) -> Result<SeeOther, ConsoleError> {
    registry.revoke_all(person.subject(), Some(person.session()), person.act(&device)).await?;
    Ok(SeeOther::done(HERE, "others-ended"))
}

#[get("/tokens/<jti>/label")]
async fn ask_label<'r>(
    jti: &str,
    person: SignedIn<'r>,
    registry: &State<Registry>,
) -> Result<Page<LabelPage<'r>>, ConsoleError> {
    let record = own_record(registry, person.subject(), jti).await?;
    let back = back_of(&record);
    let label = Field::of(record.label.unwrap_or_default());
    Ok(Page(LabelPage { frame: person.frame(), jti: record.jti, back, label }))
}

#[derive(FromForm)]
struct Label {
    label: String,
}

#[post("/tokens/<jti>/label", data = "<form>")]
async fn label<'r>(
    jti: &str,
    person: SignedIn<'r>,
    registry: &State<Registry>,
    form: Posted<Label>,
) -> Result<Answer<LabelPage<'r>>, ConsoleError> {
    let record = own_record(registry, person.subject(), jti).await?;
    let back = back_of(&record);
    let text = form.0.label.trim();
    match registry.set_label(record.jti, person.subject(), (!text.is_empty()).then(|| text.to_owned())).await {
        Ok(_) => Ok(Answer::SeeOther(SeeOther::done(&back, "label-changed"))),
        Err(error) if error.is_invalid() => {
            let label = Field::wrong(text, sentence(&error));
            Ok(Answer::Page(WRONG, LabelPage { frame: person.frame(), jti: record.jti, back, label }))
        }
        Err(error) => Err(error.into()),
    }
}

/// Where a token is shown.
fn back_of(record: &Record) -> String {
    if is_own_session(record) && !is_console(record) {
        super::personal::HERE.to_owned()
    } else {
        format!("{HERE}/{}", record.sid)
    }
}
