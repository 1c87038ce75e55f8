//! What administrators do in the console, and every page that they have.

use std::time::{Duration, Instant};

use serde_json::json;

use super::attacks::{HOSTILE, nothing_ran};
use super::manners::{no_layout_shift, screenshot, well_mannered};
use super::page::Browser;
use super::pages::{looked_at, looked_at_what_failed};
use super::person::{ANN, FIREFOX, sign_in, start, visit};
use crate::support::forge::{header_of, jti_of, sid_of};
use crate::support::server::{MASTER_KEY, at_once};
use crate::support::{ADMIN, Database, PASSWORD, Server, on_both, run};

/// An administrator who has signed in.
async fn administrator(server: &Server) -> Browser {
    let browser = Browser::open().await;
    sign_in(&browser, server, ADMIN, FIREFOX).await;
    browser
}

/// Looks at each of these pages.
async fn look_at_all(browser: &Browser, server: &Server, pages: &[&str]) {
    for page in pages {
        let path = format!("/admin/{page}");
        visit(browser, server, &path).await;
        looked_at(browser).await;
        browser.screen(375, 667, 1, true).await;
        visit(browser, server, &path).await;
        no_layout_shift(browser).await;
        browser.size(1280, 800).await;
    }
}

on_both! {
    async fn a_token_is_found_revoked_and_accepted_again(database: Database) {
        let server = start(database).await;
        let token = server.login_as(ANN, PASSWORD).await.access;
        let browser = administrator(&server).await;
        browser.link("Tokens").await.follow().await;
        browser.field("Subject").await.fill(ANN).await;
        browser.button("Search").await.follow().await;
        browser.link(&jti_of(&token)).await.follow().await;
        browser.shows("Yes, wherever its audience and scopes are the ones that are asked for.").await;

        browser.link("Revoke it").await.follow().await;
        server.accepts(&token).await;
        browser.field("Reason").await.fill("The laptop was left on a train").await;
        browser.button("Revoke it").await.follow().await;
        browser.shows("The token has been revoked. It is not accepted any more.").await;
        browser.shows("token_revoked").await;
        browser.shows("The laptop was left on a train").await;
        server.refuses(&token, "token_revoked").await;
        browser.link("Its audit").await.follow().await;
        browser.shows("The laptop was left on a train").await;

        visit(&browser, &server, &format!("/admin/tokens/{}", jti_of(&token))).await;
        browser.link("Accept it again").await.follow().await;
        browser.button("Accept it again").await.follow().await;
        browser.shows("The token is accepted again.").await;
        server.accepts(&token).await;
    }
}

on_both! {
    async fn sessions_subjects_users_clients_and_keys_are_looked_after(database: Database) {
        let server = Server::start(database, at_once).await;
        server.add_user(ANN, PASSWORD, &["notes:read"]);
        let (lost, kept) = (server.login_as(ANN, PASSWORD).await.access, server.login_as(ANN, PASSWORD).await.access);
        let browser = administrator(&server).await;
        visit(&browser, &server, &format!("/admin/sessions/{}", sid_of(&lost))).await;
        browser.link("End this session").await.follow().await;
        browser.field("Reason").await.fill("The phone was lost").await;
        browser.button("End it").await.follow().await;
        browser.shows("The session has ended.").await;
        looked_at(&browser).await;
        server.refuses(&lost, "token_revoked").await;
        server.accepts(&kept).await;
        browser.link("Its audit").await.follow().await;
        browser.shows("The phone was lost").await;

        visit(&browser, &server, &format!("/admin/subjects/{ANN}")).await;
        browser.link("Revoke all").await.follow().await;
        browser.button("Revoke all").await.follow().await;
        browser.shows("All sessions of this subject have ended.").await;
        server.refuses(&kept, "token_revoked").await;

        browser.link("Users").await.follow().await;
        browser.link("Add a user").await.follow().await;
        browser.field("Name").await.fill("bea").await;
        browser.field("Password").await.fill(PASSWORD).await;
        browser.field("Password, once more").await.fill(PASSWORD).await;
        browser.button("Add").await.follow().await;
        browser.shows("The user has been added.").await;
        let bea = server.login_as("bea", PASSWORD).await.access;
        browser.link("Disable").await.follow().await;
        browser.button("Disable").await.follow().await;
        browser.shows("The user is disabled, and all of the user's sessions have ended.").await;
        looked_at(&browser).await;
        server.refuses(&bea, "token_revoked").await;
        browser.button("Enable").await.follow().await;
        browser.shows("The user is enabled and can log in again.").await;
        server.login_as("bea", PASSWORD).await;

        let mut shop = server.add_client("shop", &["--scope", "tokens:issue"]);
        visit(&browser, &server, &format!("/admin/clients/{}", shop.id)).await;
        browser.link("Rotate the secret").await.follow().await;
        browser.button("Rotate").await.follow().await;
        let secret = browser.field("Client secret").await.property("value").await;
        shop.secret = secret.as_str().unwrap().to_owned();
        let token = server.client_token(&shop).await;
        browser.link("I have copied it").await.follow().await;
        browser.link("Disable").await.follow().await;
        browser.button("Disable").await.follow().await;
        browser.shows("The client is disabled, and its own tokens have ended.").await;
        looked_at(&browser).await;
        server.refuses(&token, "token_revoked").await;

        browser.link("Keys").await.follow().await;
        browser.link("Rotate the keys").await.follow().await;
        browser.button("Rotate the keys").await.follow().await;
        browser.shows("The keys have been rotated: the next key signs from now on.").await;
        // Of the key that signs now; the session of the console is of the one before.
        let leaked = server.login_as("bea", PASSWORD).await.access;
        let kid = header_of(&leaked)["kid"].as_str().unwrap().to_owned();
        browser.link(&format!("Retire {kid}")).await.follow().await;
        browser.field("Reason").await.fill("It was in a backup").await;
        browser.button("Retire the key").await.follow().await;
        browser.shows("The key has been retired. Nothing that it signed is accepted any more.").await;
        looked_at(&browser).await;
        server.refuses(&leaked, "token_revoked").await;
        browser.link("Audit").await.follow().await;
        browser.shows("It was in a backup").await;
    }
}

#[test]
fn a_client_s_secret_is_shown_once() {
    run(async {
        let server = start(Database::Sqlite).await;
        let browser = administrator(&server).await;
        browser.link("Clients").await.follow().await;
        browser.link("Add a client").await.follow().await;
        browser.field("Name").await.fill("shop").await;
        browser.button("Add").await.follow().await;
        browser.role("heading", "The client has been added").await;
        let secret = browser.field("Client secret").await.property("value").await;
        let secret = secret.as_str().unwrap();
        assert!(secret.len() > 40, "{secret}");
        well_mannered(&browser).await;
        for page in ["clients", "audit"] {
            visit(&browser, &server, &format!("/admin/{page}")).await;
            browser.shows("shop").await;
            assert!(!browser.source().await.contains(secret));
        }
    });
}

#[test]
fn hostile_words_are_text_to_administrators_too() {
    run(async {
        let server = start(Database::Sqlite).await;
        let mut issued = Vec::new();
        for text in HOSTILE {
            let grant = counterfoil::Grant::to(text.parse().unwrap()).label(text).unwrap().device(None, Some(text));
            let tokens = server.registry.issue(grant).await.unwrap();
            let act = counterfoil::Act::by(counterfoil::Actor::system(text)).reason(text).unwrap();
            server.registry.revoke(tokens.access_claims().jti, act).await.unwrap();
            issued.push((text, tokens));
        }
        let browser = administrator(&server).await;
        for page in ["tokens", "audit"] {
            visit(&browser, &server, &format!("/admin/{page}")).await;
            for text in HOSTILE {
                browser.shows(text).await;
            }
            nothing_ran(&browser).await;
        }
        for (text, tokens) in issued {
            let (jti, sid) = (tokens.access_claims().jti, tokens.access_claims().sid);
            for page in [format!("tokens/{jti}"), format!("sessions/{sid}")] {
                visit(&browser, &server, &format!("/admin/{page}")).await;
                browser.shows(text).await;
                nothing_ran(&browser).await;
            }
            browser.find("a[href^='/console/admin/subjects/']").await.follow().await;
            assert_eq!(browser.find("h1").await.text().await, text);
            nothing_ran(&browser).await;
        }
    });
}

#[test]
fn pages_of_tokens_and_sessions() {
    run(async {
        let server = start(Database::Sqlite).await;
        let pair = server.login_as(ANN, PASSWORD).await;
        let admin = server.login().await;
        let revoke = format!("/admin/tokens/revoke/{}", jti_of(&pair.refresh));
        server.put(&revoke).bearer(&admin.access).send().await.ok(200);
        let browser = administrator(&server).await;
        look_at_all(&browser, &server, &["tokens?subject=nobody", "tokens"]).await;
        screenshot(&browser, "tokens").await;
        visit(&browser, &server, "/admin/tokens?session=x").await;
        looked_at_what_failed(&browser).await;
        let token = format!("tokens/{}", jti_of(&pair.refresh));
        look_at_all(&browser, &server, &[&token]).await;
        screenshot(&browser, "token").await;
        let (session, subject) = (format!("sessions/{}", sid_of(&pair.access)), format!("subjects/{ANN}"));
        for page in [&token, &session, &subject] {
            let done = if *page == token { "unrevoke" } else { "end" };
            look_at_all(&browser, &server, &[page, &format!("{page}/{done}")]).await;
        }
    });
}

#[test]
fn pages_of_users_and_clients() {
    run(async {
        let server = start(Database::Sqlite).await;
        let browser = administrator(&server).await;
        look_at_all(&browser, &server, &["clients", "users", "new-user", "new-client"]).await;
        for page in ["", "/scopes", "/disable", "/password"] {
            look_at_all(&browser, &server, &[&format!("users/{ANN}{page}")]).await;
        }
        // What is asked only where something is taken away.
        visit(&browser, &server, &format!("/admin/users/{ANN}/scopes")).await;
        browser.field("Scopes").await.fill("notes:read").await;
        browser.button("Change").await.follow().await;
        browser.shows("notes:write").await;
        looked_at(&browser).await;
        let client = server.add_client("shop", &["--scope", "tokens:issue"]);
        for page in ["", "/rotate", "/disable"] {
            look_at_all(&browser, &server, &[&format!("clients/{}{page}", client.id)]).await;
        }
        look_at_all(&browser, &server, &["clients"]).await;
    });
}

#[test]
fn pages_of_operations() {
    run(async {
        let server = start(Database::Sqlite).await;
        let kid = header_of(&server.login().await.access)["kid"].as_str().unwrap().to_owned();
        let browser = administrator(&server).await;
        look_at_all(&browser, &server, &["overview"]).await;
        screenshot(&browser, "overview").await;
        look_at_all(&browser, &server, &["keys", &format!("keys/{kid}/retire")]).await;
        look_at_all(&browser, &server, &["replicas", "purge", "purge/run", "audit", "audit?actor=nobody"]).await;
        visit(&browser, &server, "/admin/keys/rotate").await;
        looked_at_what_failed(&browser).await;
        drop(browser);
        let sealed = Server::start(Database::Sqlite, |settings| settings.set("master_key", MASTER_KEY)).await;
        let browser = administrator(&sealed).await;
        look_at_all(&browser, &sealed, &["keys", "keys/rotate"]).await;
        drop(browser);
        let browser = administrator(&server).await;
        visit(&browser, &server, "/admin/purge").await;
        browser.link("Purge now").await.follow().await;
        browser.button("Purge now").await.follow().await;
        browser.shows("The purge is done: nothing is left to remove.").await;
        looked_at(&browser).await;
        // What nobody but administrators may look at is not even offered.
        drop(browser);
        let browser = Browser::open().await;
        sign_in(&browser, &server, ANN, FIREFOX).await;
        assert!(browser.role_now("link", "Overview").await.is_none());
        visit(&browser, &server, "/admin/overview").await;
        looked_at_what_failed(&browser).await;
    });
}

#[test]
fn plots_update_by_themselves() {
    run(async {
        let server = start(Database::Sqlite).await;
        let token = server.login_as(ANN, PASSWORD).await.access;
        let browser = administrator(&server).await;
        visit(&browser, &server, "/admin/overview").await;
        browser.execute("window.sameDocument = true", json!([])).await;
        // A sample and a look are ten seconds apart each, and a line needs a few of both.
        let drawn = "return document.querySelectorAll('.plot path.line').length";
        let began = Instant::now();
        while browser.execute(drawn, json!([])).await == 0 {
            assert!(began.elapsed() < Duration::from_secs(90), "nothing is drawn:\n{}", browser.text().await);
            server.accepts(&token).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(browser.execute("return window.sameDocument", json!([])).await, true, "the page was loaded anew");
        looked_at(&browser).await;
    });
}
