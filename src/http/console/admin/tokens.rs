//! All tokens: looking for some of them.

use std::net::IpAddr;

use askama::Template;
use rocket::form::FromForm;
use rocket::http::Status;
use rocket::{Route, State, get, routes};

use super::{encoded, sessions, subjects};
use crate::error::Error;
use crate::http::console::error::{ConsoleError, sentence};
use crate::http::console::form::{Field, WRONG};
use crate::http::console::frame::Frame;
use crate::http::console::page::{Answer, SeeOther};
use crate::http::console::signed_in::AdminSignedIn;
use crate::http::console::time::When;
use crate::registry::Registry;
use crate::token::{Cursor, Filter, Jti, Record, State as TokenState, TokenType};

/// Where it is.
pub(in crate::http::console) const HERE: &str = "/console/admin/tokens";

/// How many tokens a page shows.
const LIMIT: u16 = 50;

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![search]
}

/// Where the page of a token is.
pub(super) fn path_of(jti: Jti) -> String {
    format!("{HERE}/{jti}")
}

/// What kind of token it is.
pub(super) fn kind_of(record: &Record) -> &'static str {
    match record.token_type {
        TokenType::Access if record.is_console() => "Console token",
        TokenType::Access => "Access token",
        TokenType::Refresh => "Refresh token",
    }
}

/// A token as a list shows it.
pub(super) struct RowView {
    pub(super) path: String,
    pub(super) jti: Jti,
    pub(super) kind: &'static str,
    pub(super) label: Option<String>,
    pub(super) subject: String,
    pub(super) subject_path: String,
    pub(super) session_path: String,
    pub(super) client: Option<String>,
    pub(super) address: Option<String>,
    pub(super) state: TokenState,
    pub(super) issued: When,
    pub(super) expires: When,
}

impl RowView {
    pub(super) fn of(record: &Record, registry: &Registry) -> Self {
        Self {
            path: path_of(record.jti),
            jti: record.jti,
            kind: kind_of(record),
            label: record.label.clone(),
            subject: record.subject.to_string(),
            subject_path: subjects::path_of(&record.subject),
            session_path: sessions::path_of(record.sid),
            client: record.client.clone(),
            address: record.ip.clone(),
            state: record.state(registry.live_at()),
            issued: record.issued_at.into(),
            expires: record.expires_at.into(),
        }
    }
}

/// What is searched for, as it was filled in.
#[derive(FromForm)]
struct Search {
    subject: Option<String>,
    jti: Option<String>,
    session: Option<String>,
    client: Option<String>,
    address: Option<String>,
    state: Option<String>,
    cursor: Option<String>,
}

/// The fields of the form, each with what is wrong in it.
#[derive(Default)]
struct Fields {
    subject: Field,
    jti: Field,
    session: Field,
    client: Field,
    address: Field,
    state: Field,
}

#[derive(Template)]
#[template(path = "console/admin_tokens.html")]
struct TokensPage<'r> {
    frame: Frame<'r>,
    fields: Fields,
    tokens: Vec<RowView>,
    /// Whether anything narrows the list.
    is_narrowed: bool,
    /// Whether it goes on from an earlier page.
    goes_on: bool,
    next: Option<String>,
}

impl TokensPage<'_> {
    fn is_wrong(&self) -> bool {
        self.fields.all().iter().any(|(_, field)| field.error.is_some())
    }
}

impl Fields {
    fn of(search: &Search) -> Self {
        let field = |sent: &Option<String>| Field::of(sent.as_deref().unwrap_or_default().trim());
        Self {
            subject: field(&search.subject),
            jti: field(&search.jti),
            session: field(&search.session),
            client: field(&search.client),
            address: field(&search.address),
            state: field(&search.state),
        }
    }

    fn all(&self) -> [(&'static str, &Field); 6] {
        [
            ("subject", &self.subject),
            ("jti", &self.jti),
            ("session", &self.session),
            ("client", &self.client),
            ("address", &self.address),
            ("state", &self.state),
        ]
    }

    /// What the fields ask for; what is wrong in one is written to it.
    fn filter(&mut self) -> Option<Filter> {
        let mut filter = Filter::all();
        filter.subject = read(&mut self.subject, |text| text.parse().map_err(|error: Error| sentence(&error)));
        filter.session = read(&mut self.session, |text| text.parse().map_err(|_| SESSION_WRONG.to_owned()));
        let address = read(&mut self.address, |text| text.parse::<IpAddr>().map_err(|_| ADDRESS_WRONG.to_owned()));
        filter.address = address.map(|address| address.to_string());
        filter.state = read(&mut self.state, |text| text.parse().map_err(|error: Error| sentence(&error)));
        if !self.client.value.is_empty() {
            match filter.clone().client(self.client.value.clone()) {
                Ok(narrowed) => filter = narrowed,
                Err(error) => self.client.error = Some(sentence(&error)),
            }
        }
        self.all().iter().all(|(_, field)| field.error.is_none()).then_some(filter)
    }

    /// The address of the page that begins at a place.
    fn link(&self, cursor: Cursor) -> String {
        let named = self.all().into_iter().filter(|(_, field)| !field.value.is_empty());
        let named = named.map(|(name, field)| format!("{name}={}&", encoded(&field.value)));
        format!("{HERE}?{}cursor={cursor}", named.collect::<String>())
    }
}

const JTI_WRONG: &str = "This is not the id of a token: one looks like 0190a5a0-0000-7000-8000-000000000001.";
const SESSION_WRONG: &str = "This is not the id of a session: one looks like 0190a5a0-0000-7000-8000-000000000001.";
const ADDRESS_WRONG: &str = "Give one IPv4 or IPv6 address, such as 192.0.2.7.";

/// What is in a field, where something is.
fn read<T>(field: &mut Field, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
    if field.value.is_empty() {
        return None;
    }
    match parse(&field.value) {
        Ok(value) => Some(value),
        Err(error) => {
            field.error = Some(error);
            None
        }
    }
}

#[get("/admin/tokens?<search..>")]
async fn search<'r>(
    search: Search,
    person: AdminSignedIn<'r>,
    registry: &State<Registry>,
) -> Result<Answer<TokensPage<'r>>, ConsoleError> {
    let mut fields = Fields::of(&search);
    if let Some(jti) = read(&mut fields.jti, |text| text.parse().map_err(|_| JTI_WRONG.to_owned())) {
        return Ok(Answer::SeeOther(SeeOther::to(path_of(jti))));
    }
    let is_narrowed = fields.all().iter().any(|(_, field)| !field.value.is_empty());
    let filter = fields.filter();
    let mut page =
        TokensPage { frame: person.frame(), fields, tokens: Vec::new(), is_narrowed, goes_on: false, next: None };
    let Some(mut filter) = filter else { return Ok(Answer::Page(WRONG, page)) };
    if let Some(cursor) = search.cursor.as_deref().filter(|cursor| !cursor.is_empty()) {
        filter = filter.after(cursor.parse()?);
        page.goes_on = true;
    }
    let found = registry.search(&filter.limit(LIMIT)?).await?;
    page.tokens = found.records.iter().map(|record| RowView::of(record, registry)).collect();
    page.next = found.next.map(|cursor| page.fields.link(cursor));
    Ok(Answer::Page(Status::Ok, page))
}
