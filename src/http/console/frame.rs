//! What stands around every page: where one can go, who is signed in, and what has just been done.

use rocket::Request;

use super::{admin, assets};

/// A page that the navigation leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: &'static str,
    pub(super) name: &'static str,
}

/// Where every user can go.
pub(super) const PAGES: &[Entry] = &[
    Entry { path: super::sessions::HERE, name: "Where you are signed in" },
    Entry { path: super::personal::HERE, name: "Personal tokens" },
    Entry { path: super::password::HERE, name: "Password" },
];

/// Where administrators can go, too; the first is where they begin.
pub(super) const ADMIN_PAGES: &[Entry] = &[
    Entry { path: admin::overview::HERE, name: "Overview" },
    Entry { path: admin::tokens::HERE, name: "Tokens" },
    Entry { path: admin::users::HERE, name: "Users" },
    Entry { path: admin::clients::HERE, name: "Clients" },
    Entry { path: admin::keys::HERE, name: "Keys" },
    Entry { path: admin::replicas::HERE, name: "Replicas" },
    Entry { path: admin::purge::HERE, name: "Purge" },
    Entry { path: admin::audit::HERE, name: "Audit" },
];

/// What can have been done, by the code that stands in the address after it: nobody can put words of their own there.
const NOTICES: &[(&str, &str)] = &[
    ("signed-out", "You have signed out."),
    ("expired", "Your session is over. Sign in to go on."),
    ("session-ended", "The session has ended."),
    ("others-ended", "All your other sessions have ended."),
    ("subject-ended", "All sessions of this subject have ended."),
    ("label-changed", "The label has been changed."),
    ("token-revoked", "The token has been revoked. It is not accepted any more."),
    ("token-unrevoked", "The token is accepted again."),
    ("password-changed", "Your password has been changed."),
    ("password-changed-others-ended", "Your password has been changed, and all your other sessions have ended."),
    ("keys-rotated", "The keys have been rotated: the next key signs from now on."),
    ("key-retired", "The key has been retired. Nothing that it signed is accepted any more."),
    ("purged", "The purge is done: nothing is left to remove."),
    ("purged-some", "The time for one purge is used up. What is left goes with the next run, or run it again."),
    ("purged-elsewhere", "Another process is purging just now, and this one left it to that."),
    ("user-added", "The user has been added."),
    ("user-scopes-changed", "The scopes have been changed."),
    ("user-disabled", "The user is disabled, and all of the user's sessions have ended."),
    ("user-enabled", "The user is enabled and can log in again."),
    ("user-password-set", "The password has been set. The user's sessions are as they were."),
    ("user-password-set-sessions-ended", "The password has been set, and all of the user's sessions have ended."),
    ("client-disabled", "The client is disabled, and its own tokens have ended."),
    ("client-enabled", "The client is enabled and can call again."),
];

/// What the address says has just been done.
pub(super) fn notice(request: &Request<'_>) -> Option<&'static str> {
    let mut fields = request.query_fields().filter(|field| field.name.source() == "done");
    let code = fields.next()?.value;
    NOTICES.iter().find(|(known, _)| *known == code).map(|(_, text)| *text)
}

/// What stands around a page; the layout draws it.
#[derive(Clone, Copy)]
pub(super) struct Frame<'r> {
    /// Who is signed in; nobody on the page where one does that.
    pub(super) name: Option<&'r str>,
    /// The value that every form has to send.
    pub(super) csrf: &'r str,
    pub(super) notice: Option<&'static str>,
    is_admin: bool,
    path: &'r str,
}

/// A link of the navigation.
pub(super) struct Link {
    pub(super) path: &'static str,
    pub(super) name: &'static str,
    pub(super) is_current: bool,
}

impl<'r> Frame<'r> {
    pub(super) fn of(
        name: &'r str,
        csrf: &'r str,
        is_admin: bool,
        path: &'r str,
        notice: Option<&'static str>,
    ) -> Self {
        Self { name: Some(name), csrf, notice, is_admin, path }
    }

    /// Around a page for nobody in particular.
    pub(super) fn of_nobody(notice: Option<&'static str>) -> Self {
        Self { name: None, csrf: "", notice, is_admin: false, path: "" }
    }

    pub(super) fn pages(&self) -> Vec<Link> {
        self.links(PAGES)
    }

    pub(super) fn admin_pages(&self) -> Vec<Link> {
        if self.is_admin { self.links(ADMIN_PAGES) } else { Vec::new() }
    }

    pub(super) fn css(&self) -> &'static str {
        assets::CSS.address()
    }

    pub(super) fn js(&self) -> &'static str {
        assets::JS.address()
    }

    pub(super) fn icon(&self) -> &'static str {
        assets::ICON.address()
    }

    /// Of several pages that a path lies below, the one that lies deepest is the current one.
    fn links(&self, entries: &[Entry]) -> Vec<Link> {
        let is_above = |entry: &Entry| {
            self.path.strip_prefix(entry.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let all = PAGES.iter().chain(ADMIN_PAGES);
        let current = all.filter(|entry| is_above(entry)).max_by_key(|entry| entry.path.len());
        entries
            .iter()
            .map(|entry| Link { path: entry.path, name: entry.name, is_current: Some(entry) == current })
            .collect()
    }
}
