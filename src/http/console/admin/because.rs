//! Why an administrator does something: the page that asks once, and the reason that is kept with what was done.

use askama::Template;
use rocket::form::FromForm;

use crate::error::Error;
use crate::http::console::error::sentence;
use crate::http::console::form::Field;
use crate::http::console::frame::Frame;
use crate::token::Act;

/// The act with the reason, where one was given.
pub(super) fn because(act: Act, reason: &str) -> Result<Act, Error> {
    match reason.trim() {
        "" => Ok(act),
        reason => act.reason(reason),
    }
}

/// A page that asks once before something is done, and for a reason.
#[derive(Template)]
#[template(path = "console/admin_because.html")]
pub(super) struct BecausePage<'r> {
    pub(super) frame: Frame<'r>,
    pub(super) title: &'static str,
    /// What it is about.
    pub(super) about: String,
    /// What comes of it.
    pub(super) text: &'static str,
    /// For how long tokens may stay good all the same.
    pub(super) outlives: Option<String>,
    pub(super) action: String,
    pub(super) yes: &'static str,
    pub(super) back: String,
    pub(super) back_name: &'static str,
    pub(super) reason: Field,
}

/// The form of such a page.
#[derive(FromForm)]
pub(super) struct Because {
    reason: String,
}

impl Because {
    /// The act with the reason, where one was given; or the field as it is to be shown again.
    pub(super) fn act(&self, act: Act) -> Result<Act, Field> {
        because(act, &self.reason).map_err(|error| Field::wrong(self.reason.trim(), sentence(&error)))
    }
}
