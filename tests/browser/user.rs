//! What users do in the console, from signing in to signing out.

use super::keyboard::{ENTER, SPACE, TAB, tab_to};
use super::page::Browser;
use super::person::{ANN, FIREFOX, SAFARI, cards, no_token_in_sight, send_sign_in, sign_in, start, visit};
use crate::support::console::COOKIE;
use crate::support::{Database, PASSWORD, Pair, Server, json, on_both, run};

const OVER: &str = "Your session is over. Sign in to go on.";
const OTHER_PASSWORD: &str = "another horse, another battery";

/// Creates a personal token and gives what is shown this once.
async fn create_token(browser: &Browser, server: &Server, label: &str, scopes: &[&str]) -> String {
    visit(browser, server, "/personal").await;
    browser.link("Create a token").await.follow().await;
    browser.field("Label").await.fill(label).await;
    for scope in scopes {
        browser.role("checkbox", scope).await.click().await;
    }
    browser.button("Create").await.follow().await;
    browser.shows("it is shown this once").await;
    browser.field(label).await.property("value").await.as_str().unwrap().to_owned()
}

/// The life of a personal token: used, revoked in the console, accepted again there.
async fn personal_token(browser: &Browser, server: &Server) {
    let token = create_token(browser, server, "Backups", &["notes:read"]).await;
    server.accepts(&token).await;
    let claims = crate::support::forge::claims_of(&token);
    assert_eq!(claims["scope"], "notes:read");
    // The page was the answer to the form: it is nowhere to be found again.
    browser.link("I have copied it").await.follow().await;
    no_token_in_sight(browser).await;
    assert!(cards(browser).await[0].starts_with("Backups"));

    browser.link("Revoke Backups").await.follow().await;
    server.accepts(&token).await;
    browser.button("Revoke it").await.follow().await;
    browser.shows("The token has been revoked. It is not accepted any more.").await;
    server.refuses(&token, "token_revoked").await;

    browser.button("Accept it again Backups").await.follow().await;
    browser.shows("The token is accepted again.").await;
    server.accepts(&token).await;
    no_token_in_sight(browser).await;
}

on_both! {
    async fn revoked_in_the_console_is_refused_until_it_is_accepted_again(database: Database) {
        let server = start(database).await;
        let browser = Browser::open().await;
        sign_in(&browser, &server, ANN, FIREFOX).await;
        personal_token(&browser, &server).await;
    }

    async fn sessions_are_seen_named_and_ended(database: Database) {
        let server = start(database).await;
        let [laptop, phone] = Browser::open_two().await;
        sign_in(&laptop, &server, ANN, FIREFOX).await;
        server.advance(60);
        sign_in(&phone, &server, ANN, SAFARI).await;
        server.advance(60);
        let program = server.login_as(ANN, PASSWORD).await;
        let admin = server.login().await;

        // All of them, this one first, and nobody else's.
        visit(&laptop, &server, "").await;
        assert_eq!(laptop.path().await, "/console/sessions");
        let seen = cards(&laptop).await;
        assert_eq!(seen.len(), 3, "{seen:#?}");
        let is_first = |card: &str| card.starts_with(FIREFOX.1) && card.contains("This session");
        assert!(is_first(&seen[0]) && !seen[1..].iter().any(|card| card.contains("This session")), "{seen:#?}");
        assert!(seen[1..].iter().any(|card| card.starts_with(SAFARI.1) && card.contains("127.0.0.1")), "{seen:#?}");

        // One gets a name.
        laptop.link(&format!("Details of {}", SAFARI.1)).await.follow().await;
        laptop.link("Give it a label").await.follow().await;
        laptop.field("Label").await.fill("My <old> phone").await;
        laptop.button("Save").await.follow().await;
        laptop.shows("The label has been changed.").await;
        laptop.role("heading", "My <old> phone").await;

        // It is ended by that name, after having been asked: it was good until then.
        visit(&laptop, &server, "/sessions").await;
        laptop.link("End My <old> phone").await.follow().await;
        laptop.role("heading", "End this session?").await;
        visit(&phone, &server, "/personal").await;
        phone.button("Sign out").await;
        laptop.button("End it").await.follow().await;
        laptop.shows("The session has ended.").await;
        assert_eq!(cards(&laptop).await.len(), 2);
        phone.link("Where you are signed in").await.follow().await;
        phone.shows(OVER).await;
        server.accepts(&program.access).await;

        // Who signs in again goes on where it was stopped.
        send_sign_in(&phone, ANN, PASSWORD).await;
        assert_eq!(phone.path().await, "/console/sessions");
        laptop.reload().await;
        assert_eq!(cards(&laptop).await.len(), 3);
        laptop.link("End all others").await.follow().await;
        laptop.shows("2 other sessions will end").await;
        laptop.button("End all others").await.follow().await;
        laptop.shows("All your other sessions have ended.").await;
        let left = cards(&laptop).await;
        assert!(left.len() == 1 && is_first(&left[0]), "{left:#?}");
        server.refuses(&program.access, "token_revoked").await;
        server.accepts(&admin.access).await;
        phone.link("Password").await.follow().await;
        phone.shows(OVER).await;

        // The end.
        no_token_in_sight(&laptop).await;
        let cookie = laptop.cookie(COOKIE).await.unwrap();
        laptop.button("Sign out").await.follow().await;
        laptop.shows("You have signed out.").await;
        assert_eq!(laptop.cookie(COOKIE).await, None);
        laptop.back().await;
        laptop.field("Username").await;
        let stolen = format!("{COOKIE}={cookie}");
        let answer = server.get("/console/sessions").header("Cookie", &stolen).send().await;
        assert_eq!(answer.status, 303, "{answer:?}");
    }
}

#[test]
fn a_password_is_changed_with_and_without_ending_other_sessions() {
    run(async {
        let server = start(Database::Sqlite).await;
        let [browser, other] = Browser::open_two().await;
        sign_in(&browser, &server, ANN, FIREFOX).await;
        sign_in(&other, &server, ANN, SAFARI).await;
        let change = async |current: &str, new: &str, again: &str, ends_others: bool| {
            visit(&browser, &server, "/password").await;
            browser.field("Current password").await.fill(current).await;
            browser.field("New password").await.fill(new).await;
            browser.field("New password, once more").await.fill(again).await;
            let ends = browser.role("checkbox", "End all other sessions").await;
            if (ends.property("checked").await == true) != ends_others {
                ends.click().await;
            }
            browser.button("Change the password").await.follow().await;
        };
        // What is wrong is said, and no password is sent back.
        for (current, new, again, words) in [
            ("wrong", OTHER_PASSWORD, OTHER_PASSWORD, "This is not your password."),
            (PASSWORD, OTHER_PASSWORD, "another", "The two new passwords differ."),
            (PASSWORD, "short", "short", "at least"),
        ] {
            change(current, new, again, true).await;
            browser.shows(words).await;
            let source = browser.source().await;
            assert!(!source.contains(PASSWORD) && !source.contains(OTHER_PASSWORD), "{source}");
        }
        change(PASSWORD, OTHER_PASSWORD, OTHER_PASSWORD, false).await;
        browser.shows("Your password has been changed.").await;
        other.link("Personal tokens").await.follow().await;
        other.button("Sign out").await;

        change(OTHER_PASSWORD, PASSWORD, PASSWORD, true).await;
        browser.shows("all your other sessions have ended").await;
        other.link("Password").await.follow().await;
        other.shows(OVER).await;
        // The old one is not good any more; what was typed besides it is still there.
        send_sign_in(&other, ANN, OTHER_PASSWORD).await;
        other.shows("That is not a username and its password.").await;
        assert_eq!(other.field("Username").await.property("value").await, ANN);
        assert_eq!(other.field("Password").await.property("value").await, "");
        send_sign_in(&other, ANN, PASSWORD).await;
        assert_eq!(other.path().await, "/console/password");
    });
}

#[test]
fn a_session_that_ends_under_a_page_is_told_with_the_next_click() {
    run(async {
        let server = start(Database::Sqlite).await;
        let browser = Browser::open().await;
        sign_in(&browser, &server, ANN, FIREFOX).await;
        visit(&browser, &server, "/personal/new").await;
        browser.field("Label").await.fill("Too late").await;

        // It has expired.
        server.advance(12 * 3600);
        browser.button("Create").await.follow().await;
        browser.shows(OVER).await;
        send_sign_in(&browser, ANN, PASSWORD).await;
        assert_eq!(browser.path().await, "/console/personal/new");
        visit(&browser, &server, "/personal").await;
        browser.shows("You have no personal tokens yet.").await;

        // It was revoked by somebody else.
        let subject = ANN.parse().unwrap();
        let act = counterfoil::Act::by(counterfoil::Actor::system("test"));
        server.registry.revoke_all(&subject, None, act).await.unwrap();
        browser.link("Create a token").await.follow().await;
        browser.shows(OVER).await;
        assert_eq!(browser.cookie(COOKIE).await, None);
        send_sign_in(&browser, ANN, PASSWORD).await;
        assert_eq!(browser.path().await, "/console/personal/new");

        // The user was disabled.
        server.command_ok(&["user", "disable", ANN], "");
        browser.link("Where you are signed in").await.follow().await;
        browser.shows(OVER).await;
        send_sign_in(&browser, ANN, PASSWORD).await;
        browser.shows("That is not a username and its password.").await;
    });
}

#[test]
fn everything_goes_without_script() {
    run(async {
        let server = start(Database::Sqlite).await;
        let browser = Browser::open().await;
        browser.without_script().await;
        sign_in(&browser, &server, ANN, FIREFOX).await;
        personal_token(&browser, &server).await;
        // No script of the page has run: the times are as they were sent.
        assert!(browser.find("time").await.text().await.ends_with("UTC"));
        browser.link("Where you are signed in").await.follow().await;
        browser.link(&format!("Sign out {}", FIREFOX.1)).await.follow().await;
        browser.find("main button").await.follow().await;
        browser.shows("You have signed out.").await;
    });
}

#[test]
fn everything_goes_by_keyboard_alone() {
    run(async {
        let server = start(Database::Sqlite).await;
        let browser = Browser::open().await;
        visit(&browser, &server, "/sign-in").await;
        // The cursor is there already.
        browser.press(&format!("{ANN}{TAB}{PASSWORD}")).await;
        browser.turn(browser.press(ENTER)).await;
        // Past what stands on every page.
        browser.press(TAB).await;
        assert_eq!(browser.focused().await.name().await, "Skip to the content");
        browser.press(ENTER).await;
        browser.press(TAB).await;
        let in_main = "return document.querySelector('main').contains(document.activeElement)";
        assert_eq!(browser.execute(in_main, json!([])).await, true);

        let press = async |role: &str, name: &str| {
            tab_to(&browser, role, name).await;
            browser.turn(browser.press(ENTER)).await;
        };
        press("link", "Personal tokens").await;
        press("link", "Create a token").await;
        tab_to(&browser, "textbox", "Label").await;
        browser.press("Keys").await;
        tab_to(&browser, "checkbox", "notes:write").await;
        browser.press(SPACE).await;
        press("button", "Create").await;
        let token = browser.field("Keys").await.property("value").await.as_str().unwrap().to_owned();
        assert_eq!(crate::support::forge::claims_of(&token)["scope"], "notes:write");
        server.accepts(&token).await;
        press("link", "I have copied it").await;
        press("link", "Revoke Keys").await;
        press("button", "Revoke it").await;
        server.refuses(&token, "token_revoked").await;
        press("button", "Accept it again Keys").await;
        server.accepts(&token).await;
        press("button", "Sign out").await;
        browser.shows("You have signed out.").await;
    });
}

#[test]
fn times_are_those_of_the_reader() {
    run(async {
        let server = start(Database::Sqlite).await;
        let browser = Browser::open().await;
        let mut hours = Vec::new();
        for zone in ["UTC", "Asia/Tokyo"] {
            browser.timezone(zone).await;
            sign_in(&browser, &server, ANN, FIREFOX).await;
            visit(&browser, &server, "/sessions").await;
            let time = browser.find("time").await;
            let exact = time.attribute("datetime").await.unwrap();
            assert!(time.attribute("title").await.unwrap().contains(&exact));
            let script = "return new Date(arguments[0].dateTime).getHours()";
            let hour = browser.execute(script, json!([time.value()])).await.as_i64().unwrap();
            assert!(time.text().await.contains(&format!("{hour:02}:")), "{hour} in {}", time.text().await);
            hours.push(hour);
            browser.button("Sign out").await.follow().await;
        }
        assert_eq!((hours[0] + 9) % 24, hours[1]);
    });
}

/// What a program has of its log-in is nothing that the console takes, and the other way round.
#[test]
fn the_cookie_and_the_tokens_of_programs_are_kept_apart() {
    run(async {
        let server = start(Database::Sqlite).await;
        let browser = Browser::open().await;
        sign_in(&browser, &server, ANN, FIREFOX).await;
        let cookie = browser.cookies().await.into_iter().find(|cookie| cookie["name"] == COOKIE).unwrap();
        assert_eq!(
            (&cookie["path"], &cookie["httpOnly"], &cookie["sameSite"], &cookie["secure"]),
            (&json!("/"), &json!(true), &json!("Strict"), &json!(true))
        );
        let token = cookie["value"].as_str().unwrap().to_owned();
        let answer = server.protected(&token).await;
        assert_eq!(answer.status, 401, "{answer:?}");
        // Elsewhere on this server it counts for nothing.
        browser.go(&format!("{}/protected", server.url())).await;
        browser.shows("token_missing").await;

        let Pair { access, refresh } = server.login_as(ANN, PASSWORD).await;
        for token in [access, refresh] {
            visit(&browser, &server, "/sign-in").await;
            let set = json!({ "name": COOKIE, "value": token, "path": "/", "httpOnly": true, "secure": true });
            browser.set_cookie(set).await;
            visit(&browser, &server, "/sessions").await;
            browser.field("Username").await;
        }
    });
}
