//! Answers of the console: pages, and what sends a browser on.

use std::io::Cursor;

use askama::Template;
use rocket::Request;
use rocket::http::{ContentType, Cookie, Header, Status};
use rocket::response::{self, Responder, Response};

/// A page. It is kept by nobody.
pub(super) struct Page<T>(pub(super) T);

impl<'r, T: Template> Responder<'r, 'static> for Page<T> {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        let html = self.0.render().map_err(|error| {
            tracing::error!(%error, "a page can't be drawn");
            Status::InternalServerError
        })?;
        Response::build()
            .header(ContentType::HTML)
            .header(Header::new("Cache-Control", "no-store"))
            .sized_body(html.len(), Cursor::new(html))
            .ok()
    }
}

/// The answer to a form: a page, mostly with what is wrong in it, or another one to go to.
pub(super) enum Answer<T> {
    Page(Status, T),
    SeeOther(SeeOther),
}

impl<'r, T: Template> Responder<'r, 'static> for Answer<T> {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        match self {
            Self::Page(status, page) => (status, Page(page)).respond_to(request),
            Self::SeeOther(other) => other.respond_to(request),
        }
    }
}

/// The answer to a form that makes something: the page that shows it once, or the form again with what is wrong in it.
pub(super) enum Made<A, B> {
    Shown(A),
    Wrong(Status, B),
}

impl<'r, A: Template, B: Template> Responder<'r, 'static> for Made<A, B> {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        match self {
            Self::Shown(page) => Page(page).respond_to(request),
            Self::Wrong(status, page) => (status, Page(page)).respond_to(request),
        }
    }
}

/// To another page (303), after which reloading does nothing twice.
pub(super) struct SeeOther {
    location: String,
    cookies: Vec<Cookie<'static>>,
}

impl SeeOther {
    /// To this path, which has no characters that an address can't have.
    pub(super) fn to(path: impl Into<String>) -> Self {
        Self { location: path.into(), cookies: Vec::new() }
    }

    /// To this path, where the notice of this code says what has been done.
    pub(super) fn done(path: &str, code: &'static str) -> Self {
        let join = if path.contains('?') { '&' } else { '?' };
        Self::to(format!("{path}{join}done={code}"))
    }

    pub(super) fn with_cookie(mut self, cookie: Cookie<'static>) -> Self {
        self.cookies.push(cookie);
        self
    }
}

impl<'r> Responder<'r, 'static> for SeeOther {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        let mut answer = Response::build();
        answer
            .status(Status::SeeOther)
            .header(Header::new("Location", self.location))
            .header(Header::new("Cache-Control", "no-store"));
        for cookie in self.cookies {
            answer.header_adjoin(cookie);
        }
        answer.ok()
    }
}
