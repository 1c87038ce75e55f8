//! The harness finds what it looks for, on pages that were made to have it: no test of the console passes because
//! nothing was looked at.

use std::panic::AssertUnwindSafe;

use rocket::futures::FutureExt;

use super::attacks::{HOSTILE, nothing_ran};
use super::keyboard::{ENTER, SPACE, tab_through, tab_to, usable_by_keyboard};
use super::manners::{
    asked, axe, complaints, no_complaints, no_layout_shift, no_request_left, on_each_scheme,
    readable_at_twice_the_size, violations, well_mannered,
};
use super::page::Browser;
use super::person::no_token_in_sight;
use super::site::Site;
use crate::support::{json, run};

const FORM: &str = r#"<form action="thanks"><p><label for="who">Your name</label> <input id="who" name="who"></p>
    <p><label><input type="checkbox" name="often"> Often</label></p><button>Send it</button></form>
    <p><a href="thanks">Thanks</a></p>"#;

/// The check must fail, and say this.
async fn fails(check: impl Future<Output = ()>, says: &str) {
    let failed = AssertUnwindSafe(check).catch_unwind().await.expect_err("it was noticed");
    let formatted = failed.downcast_ref::<String>().map(String::as_str);
    let said = formatted.or(failed.downcast_ref::<&str>().copied()).unwrap();
    assert!(said.contains(says), "{says:?} is not in {said}");
}

#[test]
fn a_page_without_faults_passes() {
    run(async {
        let (browser, site) = (Browser::open().await, Site::start().await);
        browser.go(&site.page("good", "", FORM)).await;
        well_mannered(&browser).await;
        let stops = usable_by_keyboard(&browser).await;
        let names: Vec<(&str, &str)> = stops.iter().map(|stop| (&*stop.role, &*stop.name)).collect();
        let wanted = [("textbox", "Your name"), ("checkbox", "Often"), ("button", "Send it"), ("link", "Thanks")];
        assert_eq!(names, wanted);
    });
}

#[test]
fn a_planted_violation_is_found() {
    run(async {
        let (browser, site) = (Browser::open().await, Site::start().await);
        let pale = "<style>@media (prefers-color-scheme: dark) { p { color: #777; background: #888 } }</style>";
        browser.go(&site.page("bad", pale, r#"<input id="bare"><p>Pale where it is dark.</p>"#)).await;
        let found = violations(&browser).await;
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with("label (critical): #bare: "), "{found:#?}");
        browser.execute("document.getElementById('bare').remove()", json!([])).await;
        axe(&browser).await;
        // In the dark, and only there.
        fails(on_each_scheme(&browser, async || axe(&browser).await), "dark: true").await;
    });
}

#[test]
fn a_request_to_another_origin_is_noticed() {
    run(async {
        let (browser, site, other) = (Browser::open().await, Site::start().await, Site::start().await);
        let good = site.page("good", "", FORM);
        browser.go(&good).await;
        no_request_left(&browser, &site.origin()).await;
        for (number, tag) in [
            format!("<img alt='' src='{}/a.png'>", other.origin()),
            format!("<script src='{}/a.js'></script>", other.origin()),
            format!("<link rel='stylesheet' href='{}/a.css'>", other.origin()),
            format!("<iframe title='other' src='{}/a'></iframe>", other.elsewhere()),
            format!("<script>fetch('{}/a', {{ mode: 'no-cors' }}).catch(() => 0)</script>", other.origin()),
            "<script src='https://cdn.example/a.js'></script>".to_owned(),
            format!("<script>new WebSocket('{}/a')</script>", other.origin().replace("http", "ws")),
        ]
        .iter()
        .enumerate()
        {
            browser.go(&site.page(&format!("bad{number}"), "", tag)).await;
            fails(no_request_left(&browser, &site.origin()), "requests that left").await;
        }
        // A port that begins like the own one is another origin.
        browser.go(&good).await;
        fails(no_request_left(&browser, &site.origin()[..site.origin().len() - 1]), "requests that left").await;
        fails(no_request_left(&browser, &site.origin()), "nothing was asked for").await;
        assert_eq!(asked(&browser).await, [""; 0]);
    });
}

#[test]
fn what_moves_and_what_does_not_fit_is_noticed() {
    run(async {
        let (browser, site) = (Browser::open().await, Site::start().await);
        let push = "<p>Some words that are read.</p><script>addEventListener('load', () => requestAnimationFrame(() => \
                    requestAnimationFrame(() => document.querySelector('h1').style.height = '300px')))</script>";
        browser.go(&site.page("moves", "", push)).await;
        browser
            .until("the move", async || {
                let height = "return document.querySelector('h1').style.height";
                (browser.execute(height, json!([])).await == "300px").then_some(())
            })
            .await;
        fails(no_layout_shift(&browser), "Some words that are read").await;

        let look = async || {};
        browser.go(&site.page("wide", "", "<div style='width: 500px'>Wider than a phone.</div>")).await;
        fails(on_each_scheme(&browser, look), "phone and light").await;
        browser.go(&site.page("zoom", "", "<div style='width: 50em'>Wide when it is large.</div>")).await;
        fails(readable_at_twice_the_size(&browser), "200 %").await;
        browser.go(&site.page("text", "", "<div style='width: min(90vw, 41em)'>Fits.</div>")).await;
        on_each_scheme(&browser, look).await;
        readable_at_twice_the_size(&browser).await;
        // Phones take a page that says nothing of its width for one of a desk.
        browser.go(&site.file("desk", "<!doctype html><title>desk</title><p>Words")).await;
        fails(on_each_scheme(&browser, look), "phone and light").await;
    });
}

#[test]
fn complaints_of_the_browser_are_noticed() {
    run(async {
        let (browser, site) = (Browser::open().await, Site::start().await);
        let policy = r#"<meta http-equiv="Content-Security-Policy" content="script-src 'self'">"#;
        browser.go(&site.page("inline", policy, "<script>window.ran = true</script>")).await;
        assert_eq!(browser.execute("return window.ran ?? null", json!([])).await, json!(null));
        assert!(complaints(&browser).await[0].contains("Content Security Policy"));
        browser.go(&site.page("broken", "", "<script>nothing()</script>")).await;
        fails(no_complaints(&browser), "nothing is not defined").await;
        browser.go(&site.page("missing", "", "<img alt='' src='/none.png'>")).await;
        fails(no_complaints(&browser), "404").await;
    });
}

#[test]
fn keys_lead_through_a_page() {
    run(async {
        let (browser, site) = (Browser::open().await, Site::start().await);
        site.page("thanks", "", "<p>Thank you.</p>");
        browser.go(&site.page("form", "", FORM)).await;
        tab_to(&browser, "textbox", "Your name").await;
        browser.press("Ann").await;
        tab_to(&browser, "checkbox", "Often").await;
        browser.press(SPACE).await;
        tab_to(&browser, "button", "Send it").await;
        browser.turn(browser.press(ENTER)).await;
        assert_eq!(browser.path().await, "/thanks?who=Ann&often=on");

        let hidden = "<style>:focus { outline: none }</style>";
        browser.go(&site.page("hidden", hidden, r#"<p><a href="/">Home</a></p><button></button>"#)).await;
        let stops = tab_through(&browser).await;
        assert_eq!(stops.len(), 2, "{stops:?}");
        assert!(stops.iter().all(|stop| !stop.is_visible), "{stops:?}");
        assert_eq!((&*stops[0].name, &*stops[1].name), ("Home", ""));
        fails(async { drop(usable_by_keyboard(&browser).await) }, "is_visible: false").await;
    });
}

#[test]
fn a_browser_begins_without_a_past_and_can_be_without_script() {
    run(async {
        let site = Site::start().await;
        let script = "<p id='out'>as it was sent</p><script>document.getElementById('out').textContent = 'changed'; \
                      document.cookie = 'past=yes'</script>";
        let page = site.page("script", "", script);
        let browser = Browser::open().await;
        browser.go(&page).await;
        browser.shows("changed").await;
        assert_eq!(browser.cookie("past").await.as_deref(), Some("yes"));
        browser.without_script().await;
        browser.go(&page).await;
        browser.shows("as it was sent").await;
        // The test's own scripts run all the same.
        browser.turn(browser.go(&site.page("next", "", ""))).await;
        assert_eq!(browser.path().await, "/next");
        drop(browser);

        // Whichever browsers there are by now, all have been emptied.
        let browsers = Browser::open_two().await;
        for browser in &browsers {
            browser.go(&site.page("empty", "", "")).await;
            assert_eq!(browser.cookies().await.len(), 0);
            browser.go(&page).await;
            browser.shows("changed").await;
        }
    });
}

#[test]
fn text_that_became_markup_is_noticed() {
    run(async {
        let (browser, site) = (Browser::open().await, Site::start().await);
        let script = "<script>window.quiet = true</script>";
        browser.go(&site.page("good", "", script)).await;
        nothing_ran(&browser).await;
        for (number, text) in HOSTILE.iter().enumerate() {
            let careless = [
                text.to_string(),
                format!("<p title=\"{text}\">Words</p>"),
                format!("<p title='{text}'>Words</p>"),
                format!("<a href=\"{text}\">Words</a>"),
                format!("<textarea aria-label='Words'>{text}</textarea>"),
                format!("<!-- {text} -->"),
                // Taken for markup once it has been unescaped.
                format!(
                    "<script>const text = new DOMParser().parseFromString('{text}', 'text/html');\
                         document.body.insertAdjacentHTML('beforeend', text.body.textContent)</script>"
                ),
            ];
            let mut is_noticed = false;
            for (way, main) in careless.iter().enumerate() {
                browser.go(&site.page(&format!("bad{number}-{way}"), "", &format!("{script}{main}"))).await;
                is_noticed |= AssertUnwindSafe(nothing_ran(&browser)).catch_unwind().await.is_err();
                if is_noticed {
                    break;
                }
            }
            assert!(is_noticed, "{text} is harmless everywhere");
        }
    });
}

#[test]
fn a_token_in_sight_is_noticed() {
    run(async {
        let (browser, site) = (Browser::open().await, Site::start().await);
        // The id of a key, that has the first letters of a token by chance.
        browser.go(&site.page("good", "", "<p>wrK5aMIcwCRWM9R45xlj-qJ-6B2EzdR1eyJdkZntfkQ</p>")).await;
        no_token_in_sight(&browser).await;
        browser.go(&format!("{}?token=eyJhbGciOiJFZERTQSJ9", site.page("address", "", ""))).await;
        fails(no_token_in_sight(&browser), "eyJ").await;
        browser.go(&site.page("source", "", "<p hidden>eyJhbGciOiJFZERTQSJ9</p>")).await;
        fails(no_token_in_sight(&browser), "eyJ").await;
        browser.go(&site.page("storage", "", "<script>sessionStorage.token = 'x'</script>")).await;
        fails(no_token_in_sight(&browser), "\"01\"").await;
        browser.execute("sessionStorage.clear()", json!([])).await;
        browser.go(&site.page("cookie", "", "<script>document.cookie = 'token=x'</script>")).await;
        fails(no_token_in_sight(&browser), "httpOnly").await;
    });
}
