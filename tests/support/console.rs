//! Who uses the console: with cookies and forms, and without a browser.

use super::{ADMIN, Answer, Call, Database, PASSWORD, Server, json};

pub(crate) const COOKIE: &str = "__Host-counterfoil_console";
pub(crate) const FORM_COOKIE: &str = "__Host-counterfoil_console_form";

/// The same where `cookie.secure` is off.
pub(crate) const PLAIN_COOKIE: &str = "counterfoil_console";
pub(crate) const PLAIN_FORM_COOKIE: &str = "counterfoil_console_form";

/// A visitor who has signed in.
#[derive(Clone)]
pub(crate) struct Visitor {
    /// The token in the console's cookie.
    pub(crate) token: String,
    /// What every form has to send.
    pub(crate) csrf: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn html(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("Content-Type"), Some("text/html; charset=utf-8"), "{self:?}");
        self.is_guarded();
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    /// Where a 303 sends a browser.
    #[track_caller]
    pub(crate) fn see_other(&self) -> &str {
        assert_eq!(self.status, 303, "{self:?}");
        self.is_guarded();
        self.header("Location").expect("a location")
    }

    /// What every answer of the console says to a browser.
    #[track_caller]
    pub(crate) fn is_guarded(&self) {
        let policy = self.header("Content-Security-Policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(policy.ends_with("base-uri 'none'; frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        for (name, value) in [
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "same-origin"),
            ("Cache-Control", "no-store"),
        ] {
            assert_eq!(self.header(name), Some(value), "{name}: {self:?}");
        }
    }
}

/// The value of the form's hidden field `csrf`.
#[track_caller]
pub(crate) fn csrf_of(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"csrf\" value=\"").unwrap_or_else(|| panic!("no form in {page}"));
    rest.split('"').next().expect("a value").to_owned()
}

impl Visitor {
    /// Signs in as the administrator.
    pub(crate) async fn admin(server: &Server) -> Self {
        Self::of(server, ADMIN, PASSWORD).await
    }

    pub(crate) async fn of(server: &Server, username: &str, password: &str) -> Self {
        let answer = sign_in(server, username, password, &[]).await;
        assert_eq!(answer.see_other(), "/console");
        let token = answer.cookie(COOKIE);
        let csrf = super::forge::claims_of(&token)["csrf"].as_str().expect("a value").to_owned();
        Self { token, csrf }
    }

    pub(crate) fn cookie(&self) -> String {
        format!("{COOKIE}={}", self.token)
    }

    pub(crate) fn get(&self, server: &Server, path: &str) -> Call {
        server.get(path).header("Cookie", &self.cookie())
    }

    /// A page that must be there.
    pub(crate) async fn page(&self, server: &Server, path: &str) -> String {
        self.get(server, path).send().await.html(200)
    }

    /// Sends a form with these fields, as a browser does.
    pub(crate) async fn post(&self, server: &Server, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut all = vec![("csrf", self.csrf.as_str())];
        all.extend(fields);
        self.call(server, path).form(&all).send().await
    }

    /// A form without its fields.
    pub(crate) fn call(&self, server: &Server, path: &str) -> Call {
        server.post(path).header("Cookie", &self.cookie()).header("Sec-Fetch-Site", "same-origin")
    }
}

/// The value that the form for signing in and its cookie have.
pub(crate) async fn form_key(server: &Server) -> String {
    let answer = server.get("/console/sign-in").send().await;
    let key = answer.cookie(FORM_COOKIE);
    assert_eq!(csrf_of(&answer.html(200)), key);
    key
}

pub(crate) async fn sign_in(server: &Server, username: &str, password: &str, more: &[(&str, &str)]) -> Answer {
    let key = form_key(server).await;
    let mut fields = vec![("csrf", key.as_str()), ("username", username), ("password", password)];
    fields.extend(more);
    server.post("/console/sign-in").header("Cookie", &format!("{FORM_COOKIE}={key}")).form(&fields).send().await
}

/// A server whose cookies are sent over plain HTTP too.
pub(crate) async fn without_tls(database: Database) -> Server {
    Server::start(database, |settings| settings.set("cookie", json!({ "secure": false }))).await
}

/// The answer to whoever signs in there.
pub(crate) async fn plain_sign_in(server: &Server, username: &str) -> Answer {
    let key = server.get("/console/sign-in").send().await.cookie(PLAIN_FORM_COOKIE);
    let fields = [("csrf", key.as_str()), ("username", username), ("password", PASSWORD)];
    let call = server.post("/console/sign-in").header("Cookie", &format!("{PLAIN_FORM_COOKIE}={key}"));
    call.form(&fields).send().await
}
