//! Who sits before the browser: what everybody does in the console before anything else.

use super::page::Browser;
use crate::support::console::FORM_COOKIE;
use crate::support::{Database, PASSWORD, Server, forge, json};

/// User agents as they are sent, and what the console makes of each.
pub(super) const FIREFOX: (&str, &str) =
    ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux");
pub(super) const SAFARI: (&str, &str) = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 \
     Mobile/15E148 Safari/604.1",
    "Safari on iOS",
);

/// A user of every test, with scopes that it can give away.
pub(super) const ANN: &str = "ann";

/// A server with this user.
pub(super) async fn start(database: Database) -> Server {
    let server = Server::start(database, |settings| settings).await;
    server.add_user(ANN, PASSWORD, &["notes:read", "notes:write"]);
    server
}

/// Goes to a page of the console.
pub(super) async fn visit(browser: &Browser, server: &Server, page: &str) {
    browser.go(&format!("{}/console{page}", server.url())).await;
}

/// Fills in the form that is shown and sends it.
pub(super) async fn send_sign_in(browser: &Browser, username: &str, password: &str) {
    browser.field("Username").await.fill(username).await;
    browser.field("Password").await.fill(password).await;
    browser.button("Sign in").await.follow().await;
}

/// Signs in, as this user agent.
pub(super) async fn sign_in(browser: &Browser, server: &Server, username: &str, agent: (&str, &str)) {
    browser.user_agent(agent.0).await;
    visit(browser, server, "/sign-in").await;
    send_sign_in(browser, username, PASSWORD).await;
    browser.button("Sign out").await;
}

/// Nobody finds a token where it should not be: in the page's source, in its address, or where scripts can read it.
pub(super) async fn no_token_in_sight(browser: &Browser) {
    let (source, url) = (browser.source().await, browser.url().await);
    assert!(!forge::holds_token(&source) && !forge::holds_token(&url), "{url}: {source}");
    for cookie in browser.cookies().await {
        assert_eq!(cookie["httpOnly"], true, "{cookie}");
        let value = cookie["value"].as_str().unwrap();
        // The form's own value stands in the form.
        assert!(cookie["name"] == FORM_COOKIE || !source.contains(value), "{url}: {source}");
    }
    let readable = browser.execute("return document.cookie + localStorage.length + sessionStorage.length", json!([]));
    assert_eq!(readable.await, "00");
}

/// What the page has in its cards, each as its lines.
pub(super) async fn cards(browser: &Browser) -> Vec<String> {
    let mut cards = Vec::new();
    for card in browser.all(".cards > li").await {
        cards.push(card.text().await);
    }
    cards
}
