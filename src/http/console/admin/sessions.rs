//! One session: what is known of it, its tokens, and ending it.

use askama::Template;
use rocket::{Route, State, get, post, routes};

use super::because::{Because, BecausePage};
use super::token::by;
use super::tokens::RowView;
use super::{subjects, tokens};
use crate::error::Error;
use crate::guard::Device;
use crate::http::console::error::ConsoleError;
use crate::http::console::form::{Field, Posted, WRONG};
use crate::http::console::frame::Frame;
use crate::http::console::page::{Answer, Page, SeeOther};
use crate::http::console::sessions::outlives;
use crate::http::console::signed_in::AdminSignedIn;
use crate::http::console::time::When;
use crate::http::console::{device, sign_in};
use crate::registry::Registry;
use crate::token::{Filter, SessionRecord, Sid, State as TokenState};

/// How many of its tokens the page shows: the newest.
const TOKENS_MAX: u16 = 50;

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![show, ask_end, end]
}

/// Where the page of a session is.
pub(super) fn path_of(sid: Sid) -> String {
    format!("/console/admin/sessions/{sid}")
}

/// A session as pages for administrators show it. Whoever draws one has prepared the names of devices.
pub(super) struct SessionView {
    pub(super) sid: Sid,
    pub(super) path: String,
    pub(super) name: String,
    /// What it was signed in with, where the name doesn't say that.
    pub(super) device: Option<String>,
    pub(super) user_agent: Option<String>,
    pub(super) client: Option<String>,
    pub(super) address: Option<String>,
    pub(super) subject: String,
    pub(super) subject_path: String,
    pub(super) created: When,
    pub(super) seen: When,
    pub(super) expires: When,
    pub(super) ended: Option<EndView>,
    pub(super) state: TokenState,
}

/// How a session ended before its time.
pub(super) struct EndView {
    pub(super) at: When,
    pub(super) by: String,
    pub(super) reason: Option<String>,
    pub(super) with_subject: bool,
}

impl SessionView {
    pub(super) fn of(record: &SessionRecord, registry: &Registry) -> Self {
        let session = &record.session;
        let (name, device) = device::named(session.label.as_deref(), session.user_agent.as_deref());
        Self {
            sid: session.sid,
            path: path_of(session.sid),
            name,
            device,
            user_agent: session.user_agent.clone(),
            client: session.client.clone(),
            address: session.ip.clone(),
            subject: record.subject.to_string(),
            subject_path: subjects::path_of(&record.subject),
            created: session.created_at.into(),
            seen: session.last_seen_at.into(),
            expires: session.expires_at.into(),
            ended: record.ended.as_ref().map(|how| EndView {
                at: how.at.into(),
                by: by(&how.by),
                reason: how.reason.clone(),
                with_subject: record.with_subject,
            }),
            state: match record.ended {
                Some(_) => TokenState::Revoked,
                None if session.expires_at.timestamp() > registry.live_at() => TokenState::Live,
                None => TokenState::Expired,
            },
        }
    }
}

#[derive(Template)]
#[template(path = "console/admin_session.html")]
struct SessionPage<'r> {
    frame: Frame<'r>,
    session: SessionView,
    tokens: Vec<RowView>,
    /// Where all of its tokens are, where there are more.
    more: Option<String>,
}

async fn session(registry: &Registry, sid: &str) -> Result<SessionRecord, ConsoleError> {
    let sid: Sid = sid.parse().map_err(|_| no_session())?;
    registry.session(sid).await.map_err(missing)
}

fn missing(error: Error) -> ConsoleError {
    if error.is_not_found() { no_session() } else { error.into() }
}

fn no_session() -> ConsoleError {
    let text =
        "The registry has no session of this id. It was removed some time after it was over, or the id is not right.";
    ConsoleError::not_found("This session is not here", text)
}

#[get("/admin/sessions/<sid>")]
async fn show<'r>(
    sid: &str,
    person: AdminSignedIn<'r>,
    registry: &State<Registry>,
) -> Result<Page<SessionPage<'r>>, ConsoleError> {
    device::prepare().await;
    let session = session(registry, sid).await?;
    let found = registry.search(&Filter::all().session(session.session.sid).limit(TOKENS_MAX)?).await?;
    let more = found.next.map(|_| format!("{}?session={}", tokens::HERE, session.session.sid));
    Ok(Page(SessionPage {
        frame: person.frame(),
        session: SessionView::of(&session, registry),
        tokens: found.records.iter().map(|record| RowView::of(record, registry)).collect(),
        more,
    }))
}

async fn end_page<'r>(
    person: &AdminSignedIn<'r>,
    registry: &Registry,
    session: &SessionRecord,
    reason: Field,
) -> BecausePage<'r> {
    device::prepare().await;
    let view = SessionView::of(session, registry);
    let address = view.address.map(|address| format!(", {address}")).unwrap_or_default();
    BecausePage {
        frame: person.frame(),
        title: "End this session?",
        about: format!("{} of {}{address}", view.name, view.subject),
        text: "All that came of this log-in is refused, for good: this can't be undone. Whoever uses it has to sign in again.",
        outlives: outlives(registry),
        action: format!("{}/end", view.path),
        yes: "End it",
        back: view.path,
        back_name: "The session",
        reason,
    }
}

#[get("/admin/sessions/<sid>/end")]
async fn ask_end<'r>(
    sid: &str,
    person: AdminSignedIn<'r>,
    registry: &State<Registry>,
) -> Result<Page<BecausePage<'r>>, ConsoleError> {
    let session = session(registry, sid).await?;
    Ok(Page(end_page(&person, registry, &session, Field::default()).await))
}

#[post("/admin/sessions/<sid>/end", data = "<form>")]
async fn end<'r>(
    sid: &str,
    person: AdminSignedIn<'r>,
    device: Device<'_>,
    registry: &State<Registry>,
    form: Posted<Because>,
) -> Result<Answer<BecausePage<'r>>, ConsoleError> {
    let session = session(registry, sid).await?;
    let act = match form.0.act(person.act(&device)) {
        Ok(act) => act,
        Err(reason) => return Ok(Answer::Page(WRONG, end_page(&person, registry, &session, reason).await)),
    };
    let sid = session.session.sid;
    registry.end_session(sid, act).await.map_err(missing)?;
    Ok(Answer::SeeOther(if sid == person.session() {
        sign_in::signed_out(registry.settings())
    } else {
        SeeOther::done(&path_of(sid), "session-ended")
    }))
}
