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

/// How many pages of records are looked through; whoever has more tokens than that sees the newest.
const PAGES_MAX: usize = 5;

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

/// One's live sessions, and what is known of those that consist of one token.
struct Mine {
    sessions: Vec<Session>,
    records: Vec<Record>,
    own: HashMap<Sid, Own>,
}

impl Mine {
    async fn of(registry: &Registry, person: &SignedIn<'_>) -> Result<Self, Error> {
        device::prepare().await;
        let mut sessions = registry.sessions(person.subject()).await?;
        for session in &mut sessions {
            session.current = session.sid == person.session();
        }
        let filter = Filter::subject(person.subject().clone()).state(TokenState::Live);
        let records = records(registry, filter).await?;
        let kind = |record: &Record| if is_console(record) { Own::Console } else { Own::Personal };
        let own = records.iter().filter(|record| is_own_session(record));
        let own = own.map(|record| (record.sid, kind(record))).collect();
        Ok(Self { sessions, records, own })
    }

    fn personal(&self) -> usize {
        self.sessions.iter().filter(|session| self.is_personal(session)).count()
    }

    fn is_personal(&self, session: &Session) -> bool {
        self.own.get(&session.sid) == Some(&Own::Personal)
    }

    fn views(&self) -> Vec<SessionView> {
        let mut views: Vec<SessionView> = self
            .sessions
            .iter()
            .filter(|session| !self.is_personal(session))
            .map(|session| self.view(session))
            .collect();
        // The current one first; the others stay newest first.
        views.sort_by_key(|view| !view.is_current);
        views
    }

    fn find(&self, sid: &str) -> Result<SessionView, ConsoleError> {
        let sid: Option<Sid> = sid.parse().ok();
        let session = self.sessions.iter().find(|session| Some(session.sid) == sid);
        session.map(|session| self.view(session)).ok_or_else(no_session)
    }

    fn view(&self, session: &Session) -> SessionView {
        let device = device::name(session.user_agent.as_deref());
        let (name, device) = match &session.label {
            Some(label) => (label.clone(), Some(device)),
            None => (device, None),
        };
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
            is_current: session.current,
            is_console: self.own.get(&session.sid) == Some(&Own::Console),
        }
    }

    fn tokens(&self, sid: Sid) -> Vec<TokenView> {
        self.records.iter().filter(|record| record.sid == sid).map(TokenView::of).collect()
    }

    /// A session is named by its refresh token, which lives as long as it does, or else by its newest.
    fn naming(&self, sid: Sid) -> Option<Jti> {
        let of_session = || self.records.iter().filter(|record| record.sid == sid);
        let refresh = of_session().find(|record| record.token_type == TokenType::Refresh);
        refresh.or_else(|| of_session().next()).map(|record| record.jti)
    }
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

pub(super) fn no_token() -> ConsoleError {
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

#[get("/sessions")]
async fn list<'r>(person: SignedIn<'r>, registry: &State<Registry>) -> Result<Page<SessionsPage<'r>>, ConsoleError> {
    let mine = Mine::of(registry, &person).await?;
    Ok(Page(SessionsPage { frame: person.frame(), sessions: mine.views() }))
}

#[get("/sessions/<sid>")]
async fn show<'r>(
    sid: &str,
    person: SignedIn<'r>,
    registry: &State<Registry>,
) -> Result<Page<SessionPage<'r>>, ConsoleError> {
    let mine = Mine::of(registry, &person).await?;
    let session = mine.find(sid)?;
    let (tokens, naming) = (mine.tokens(session.sid), mine.naming(session.sid));
    Ok(Page(SessionPage { frame: person.frame(), session, tokens, naming }))
}

#[get("/sessions/<sid>/end")]
async fn ask_end<'r>(
    sid: &str,
    person: SignedIn<'r>,
    registry: &State<Registry>,
) -> Result<Page<EndPage<'r>>, ConsoleError> {
    let session = Mine::of(registry, &person).await?.find(sid)?;
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
    let mine = Mine::of(registry, &person).await?;
    let personal = mine.personal();
    let others = mine.sessions.iter().filter(|session| !session.current).count() - personal;
    Ok(Page(EndOthersPage { frame: person.frame(), others, personal, outlives: outlives(registry) }))
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
