//! Every page of the console for users: nobody is shut out, nothing moves, nothing leaves, and nothing secret is in
//! sight.

use super::manners::{screenshot, well_mannered};
use super::page::Browser;
use super::person::{ANN, FIREFOX, SAFARI, no_token_in_sight, send_sign_in, sign_in, start, visit};
use crate::support::{Database, PASSWORD, json, run};

/// Everything that any page has to hold.
pub(super) async fn looked_at(browser: &Browser) {
    well_mannered(browser).await;
    no_token_in_sight(browser).await;
    assert!(browser.title().await.ends_with(" · Counterfoil"));
}

#[test]
fn pages_where_nobody_is_signed_in() {
    run(async {
        let server = start(Database::Sqlite).await;
        let browser = Browser::open().await;
        visit(&browser, &server, "/sign-in").await;
        looked_at(&browser).await;
        screenshot(&browser, "sign-in").await;
        send_sign_in(&browser, ANN, "wrong").await;
        looked_at_what_failed(&browser).await;
        visit(&browser, &server, "/nowhere").await;
        looked_at_what_failed(&browser).await;
    });
}

/// The same for a page whose status the browser complains about: that is an error's.
pub(super) async fn looked_at_what_failed(browser: &Browser) {
    let complaints = super::manners::complaints(browser).await;
    assert!(complaints.iter().all(|complaint| complaint.contains("the server responded with a status of 4")));
    looked_at(browser).await;
}

#[test]
fn pages_of_sessions() {
    run(async {
        let server = start(Database::Sqlite).await;
        let [browser, phone] = Browser::open_two().await;
        sign_in(&phone, &server, ANN, SAFARI).await;
        drop(phone);
        server.advance(3600);
        let program = server.login_as(ANN, PASSWORD).await;
        sign_in(&browser, &server, ANN, FIREFOX).await;
        visit(&browser, &server, "/sessions").await;
        looked_at(&browser).await;
        screenshot(&browser, "sessions").await;
        browser.link("End all others").await.follow().await;
        looked_at(&browser).await;

        let sid = crate::support::forge::claims_of(&program.access)["sid"].as_str().unwrap().to_owned();
        for page in [format!("/sessions/{sid}"), format!("/sessions/{sid}/end")] {
            visit(&browser, &server, &page).await;
            looked_at(&browser).await;
        }
        visit(&browser, &server, &format!("/sessions/{sid}")).await;
        browser.link("Give it a label").await.follow().await;
        looked_at(&browser).await;
        // More than a label may have; the field's own bound holds nobody who does not want it.
        let long = "document.getElementById('label').removeAttribute('maxlength')";
        browser.execute(long, json!([])).await;
        browser.field("Label").await.fill(&"long ".repeat(40)).await;
        browser.button("Save").await.follow().await;
        looked_at_what_failed(&browser).await;
        // A session that is over.
        server
            .registry
            .end_session(sid.parse().unwrap(), counterfoil::Act::by(counterfoil::Actor::system("test")))
            .await
            .unwrap();
        visit(&browser, &server, &format!("/sessions/{sid}")).await;
        looked_at_what_failed(&browser).await;
    });
}

#[test]
fn pages_of_personal_tokens() {
    run(async {
        let server = start(Database::Sqlite).await;
        let browser = Browser::open().await;
        sign_in(&browser, &server, ANN, FIREFOX).await;
        visit(&browser, &server, "/personal").await;
        looked_at(&browser).await;
        browser.link("Create a token").await.follow().await;
        looked_at(&browser).await;
        browser.field("Label").await.fill("Backups of the laptop").await;
        browser.role("checkbox", "notes:read").await.click().await;
        browser.button("Create").await.follow().await;
        // The one page that shows a token.
        well_mannered(&browser).await;
        assert!(browser.source().await.contains("eyJ"));
        browser.link("I have copied it").await.follow().await;
        looked_at(&browser).await;
        screenshot(&browser, "personal-tokens").await;
        browser.link("Revoke Backups of the laptop").await.follow().await;
        looked_at(&browser).await;
        browser.button("Revoke it").await.follow().await;
        looked_at(&browser).await;
    });
}

#[test]
fn pages_of_the_password() {
    run(async {
        let server = start(Database::Sqlite).await;
        let browser = Browser::open().await;
        sign_in(&browser, &server, ANN, FIREFOX).await;
        visit(&browser, &server, "/password").await;
        looked_at(&browser).await;
        for (label, text) in
            [("Current password", "wrong"), ("New password", "long enough"), ("New password, once more", "x")]
        {
            browser.field(label).await.fill(text).await;
        }
        browser.button("Change the password").await.follow().await;
        looked_at_what_failed(&browser).await;
    });
}
