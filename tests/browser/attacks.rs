//! What others try: pages of other origins that act for who is signed in, and text that would like to be markup.

use super::manners::complaints;
use super::page::Browser;
use super::person::{ANN, FIREFOX, cards, no_token_in_sight, sign_in, start, visit};
use super::site::Site;
use crate::support::{Database, PASSWORD, Server, Value, json, run};

/// Text that becomes script where it is put into a page as it is.
const HOSTILE: [&str; 8] = [
    "<script>window.__xss = 1</script>",
    "\"><img src=x onerror=\"window.__xss = 1\">",
    "' onmouseover='window.__xss = 1' x='",
    "\" autofocus onfocus=\"window.__xss = 1",
    "</title></textarea><svg onload=window.__xss=1>",
    "javascript:window.__xss=1",
    "--><script>window.__xss=1</script><!--",
    "&lt;script&gt;window.__xss=1&lt;/script&gt;",
];

/// Nothing that was text has become markup, and no policy had to step in.
async fn nothing_ran(browser: &Browser) {
    let script = "return {
        ran: window.__xss ?? null,
        scripts: document.scripts.length,
        handlers: [...document.querySelectorAll('*')].flatMap(element => [...element.attributes])
            .filter(attribute => /^on|^style$/.test(attribute.name) || /^\\s*javascript:/i.test(attribute.value)
                && ['href', 'src', 'action', 'formaction'].includes(attribute.name)).length,
        foreign: document.querySelectorAll('main img, main svg:not([class]), iframe, object, embed').length,
    }";
    let found = browser.execute(script, json!([])).await;
    let wanted = json!({ "ran": null, "scripts": 1, "handlers": 0, "foreign": 0 });
    assert_eq!(found, wanted, "{}: {}", browser.url().await, browser.source().await);
    let complaints = complaints(browser).await;
    assert!(!complaints.iter().any(|complaint| complaint.contains("Security Policy")), "{complaints:#?}");
}

#[test]
fn hostile_labels_and_user_agents_are_text() {
    run(async {
        let server = start(Database::Sqlite).await;
        let browser = Browser::open().await;
        for text in HOSTILE {
            let login = json!({ "username": ANN, "password": PASSWORD });
            server.post("/login").header("User-Agent", text).json(&login).send().await.ok(200);
        }
        sign_in(&browser, &server, ANN, (HOSTILE[0], HOSTILE[0])).await;
        visit(&browser, &server, "/sessions").await;
        nothing_ran(&browser).await;
        let mut links = Vec::new();
        for link in browser.all(".cards h2 a").await {
            links.push(link.attribute("href").await.unwrap());
        }
        assert_eq!(links.len(), HOSTILE.len() + 1);
        // The agents as they were sent are on the sessions' own pages, which get hostile labels, too.
        let mut shown = Vec::new();
        for link in &links[1..] {
            browser.go(&format!("{}{link}", server.url())).await;
            nothing_ran(&browser).await;
            let text = browser.text().await;
            let agent = HOSTILE.into_iter().find(|agent| text.contains(agent));
            let agent = agent.unwrap_or_else(|| panic!("no user agent in {text}"));
            shown.push(agent);
            browser.link("Give it a label").await.follow().await;
            browser.field("Label").await.fill(agent).await;
            browser.button("Save").await.follow().await;
            browser.role("heading", agent).await;
            nothing_ran(&browser).await;
        }
        shown.sort_unstable();
        shown.dedup();
        assert_eq!(shown.len(), HOSTILE.len(), "{shown:#?}");
        visit(&browser, &server, "/sessions").await;
        nothing_ran(&browser).await;
        let text = browser.text().await;
        assert!(HOSTILE.iter().all(|label| text.contains(label)), "{text}");
    });
}

#[test]
fn hostile_fields_and_addresses_are_text() {
    run(async {
        let server = start(Database::Sqlite).await;
        let browser = Browser::open().await;
        let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        for text in HOSTILE {
            // What is said about a wrong form, with what was typed.
            visit(&browser, &server, &format!("/sign-in?next={0}&done={0}", encode(text))).await;
            nothing_ran(&browser).await;
            super::person::send_sign_in(&browser, text, text).await;
            nothing_ran(&browser).await;
            assert_eq!(browser.field("Username").await.property("value").await, text);
            visit(&browser, &server, &format!("/{}", encode(text))).await;
            nothing_ran(&browser).await;
        }
        sign_in(&browser, &server, ANN, FIREFOX).await;
        for text in HOSTILE {
            visit(&browser, &server, "/personal/new").await;
            browser.field("Label").await.fill(text).await;
            browser.button("Create").await.follow().await;
            nothing_ran(&browser).await;
            browser.field(text).await;
        }
        visit(&browser, &server, "/personal").await;
        nothing_ran(&browser).await;
        assert_eq!(cards(&browser).await.len(), HOSTILE.len());
        for page in ["sessions", "tokens", "personal"] {
            let end = if page == "tokens" { "/label" } else { "" };
            visit(&browser, &server, &format!("/{page}/{}{end}", encode(HOSTILE[0]))).await;
            nothing_ran(&browser).await;
        }
    });
}

/// Signing in leads on to pages of the console alone.
#[test]
fn nobody_is_sent_elsewhere_after_signing_in() {
    run(async {
        let (server, elsewhere) = (start(Database::Sqlite).await, Site::start().await);
        let browser = Browser::open().await;
        let trap = elsewhere.page("trap", "", "<p>Trapped.</p>");
        for next in [&trap, trap.trim_start_matches("http:"), &trap.replace("http://", "/\\\\"), "javascript:alert(1)"]
        {
            let next: String = next.bytes().map(|byte| format!("%{byte:02X}")).collect();
            visit(&browser, &server, &format!("/sign-in?next={next}")).await;
            super::person::send_sign_in(&browser, ANN, PASSWORD).await;
            assert_eq!(browser.origin().await, server.url());
            browser.button("Sign out").await.follow().await;
        }
    });
}

/// The forms of the console that would do harm, as a stranger's page would fill them in.
const FORMS: [(&str, &[(&str, &str)]); 6] = [
    ("sign-out", &[]),
    ("sessions/end-others", &[]),
    ("password", &[("current", PASSWORD), ("new", "taken over by me"), ("again", "taken over by me")]),
    (
        "password",
        &[("current", PASSWORD), ("new", "taken over by me"), ("again", "taken over by me"), ("end_others", "true")],
    ),
    ("personal/new", &[("label", "Mine"), ("scope", "notes:read"), ("expires", "2099-01-01")]),
    ("sign-in", &[("username", "mallory"), ("password", PASSWORD)]),
];

/// A page that sends this form as soon as it is opened.
fn trap(server: &Server, path: &str, fields: &[(&str, &str)], csrf: &str) -> String {
    let field = |(name, value): &(&str, &str)| format!(r#"<input name="{name}" value="{value}">"#);
    let fields: String = fields.iter().chain([&("csrf", csrf)]).map(field).collect();
    let form = format!(r#"<form method="post" action="{}/console/{path}">{fields}</form>"#, server.url());
    form + "<script>document.forms[0].submit()</script>"
}

#[test]
fn pages_of_other_origins_do_nothing_for_who_is_signed_in() {
    run(async {
        let (server, stranger) = (start(Database::Sqlite).await, Site::start().await);
        server.add_user("mallory", PASSWORD, &[]);
        let browser = Browser::open().await;
        let program = server.login_as(ANN, PASSWORD).await;
        sign_in(&browser, &server, ANN, FIREFOX).await;
        let session = browser.cookie("counterfoil_console").await;

        // Another port is the same site: the cookie goes along, and the page can plant one of its own beside it.
        let plant = "<script>document.cookie = 'counterfoil_console_form=0190a5a0-0000-4000-8000-000000000001; path=/console'</script>";
        let planted = "0190a5a0-0000-4000-8000-000000000001";
        for (number, (path, fields)) in FORMS.into_iter().enumerate() {
            for csrf in ["", planted] {
                let name = format!("trap{number}{csrf}");
                let page = stranger.page(&name, plant, &trap(&server, path, fields, csrf));
                for page in [page.clone(), page.replace(&stranger.origin(), &stranger.elsewhere())] {
                    browser.go(&page).await;
                    browser
                        .until("the answer", async || (browser.path().await.starts_with("/console")).then_some(()))
                        .await;
                    // Refused; or, where the cookie did not even come along, taken for a stranger's.
                    let text = browser.text().await;
                    let words = ["Nothing was done", "nothing was done", "Cookies are needed here", "Sign in"];
                    assert!(words.iter().any(|words| text.contains(words)), "{page}: {text}");
                    assert!(!text.contains("Your new token") && !text.contains("mallory"), "{page}: {text}");
                }
            }
        }

        // By script, with a page's own way to ask, and by addresses alone.
        let script = "
            const [server, done] = [arguments[0], arguments[arguments.length - 1]];
            const body = new URLSearchParams({ csrf: arguments[1] });
            const ask = (path, options) => fetch(server + path, { credentials: 'include', ...options })
                .then(answer => [answer.type, answer.status], () => ['refused', 0]);
            const image = path => new Promise(seen => {
                const image = new Image();
                image.onload = () => seen(['image', 1]);
                image.onerror = () => seen(['image', 0]);
                image.src = server + path;
            });
            Promise.all([
                ask('/console/sessions', {}),
                ask('/console/sign-out', { method: 'POST', body }),
                ask('/console/sessions/end-others', { method: 'POST', body }),
                ask('/console/sessions/end-others', { method: 'POST', body, mode: 'no-cors' }),
                ask('/console/sessions/end-others', { method: 'POST', body, headers: { 'X-CSRF-TOKEN': 'x' } }),
                image('/console/sessions/end-others'),
                image('/console/sign-out'),
            ]).then(done)";
        for origin in [stranger.origin(), stranger.elsewhere()] {
            stranger.page("quiet", "", "");
            browser.go(&format!("{origin}/quiet")).await;
            let answers = browser.execute_async(script, json!([server.url(), planted])).await;
            let refused = json!(["refused", 0]);
            let wanted = json!([refused, refused, refused, ["opaque", 0], refused, ["image", 0], ["image", 0]]);
            assert_eq!(answers, wanted, "{origin}");
        }

        // All is as it was.
        server.accepts(&program.access).await;
        visit(&browser, &server, "/sessions").await;
        let seen = cards(&browser).await;
        assert!(seen.len() == 2 && seen[0].contains("This session"), "{seen:#?}");
        assert_eq!(browser.cookie("counterfoil_console").await, session);
        no_token_in_sight(&browser).await;
        visit(&browser, &server, "/personal").await;
        browser.shows("You have no personal tokens yet.").await;
        server.login_as(ANN, PASSWORD).await;
    });
}

#[test]
fn no_page_of_the_console_is_shown_in_a_frame() {
    run(async {
        let (server, stranger) = (start(Database::Sqlite).await, Site::start().await);
        let browser = Browser::open().await;
        sign_in(&browser, &server, ANN, FIREFOX).await;
        complaints(&browser).await;
        for page in ["sessions", "sign-in", "static/none", "sessions/end-others"] {
            let frame = format!(r#"<iframe title="trap" src="{}/console/{page}"></iframe>"#, server.url());
            browser.go(&stranger.page(&format!("frame-{}", page.replace('/', "-")), "", &frame)).await;
            let refused = browser.until("a refusal", async || {
                let complaints = complaints(&browser).await;
                complaints.into_iter().find(|complaint| complaint.contains("rame"))
            });
            let refused: Value = json!(refused.await);
            assert!(refused.as_str().unwrap().contains("frame-ancestors"), "{refused}");
        }
    });
}
