//! What others try: pages of other origins that act for who is signed in, and text that would like to be markup.

use super::manners::complaints;
use super::page::Browser;
use super::person::{ANN, FIREFOX, cards, no_token_in_sight, sign_in, start, visit};
use super::site::Site;
use crate::support::console::{COOKIE, FORM_COOKIE, PLAIN_COOKIE, Visitor, plain_sign_in, without_tls};
use crate::support::{Database, PASSWORD, Server, Value, json, run};

/// Text that becomes script where it is put into a page as it is.
pub(super) const HOSTILE: [&str; 8] = [
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
pub(super) async fn nothing_ran(browser: &Browser) {
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

/// A value for the form's cookie, which a page of another port can plant: cookies know no ports.
const PLANTED: &str = "0190a5a0-0000-4000-8000-000000000001";

/// A page that sends this form as soon as it is opened.
fn trap(server: &Server, path: &str, fields: &[(&str, &str)], csrf: &str) -> String {
    let field = |(name, value): &(&str, &str)| format!(r#"<input name="{name}" value="{value}">"#);
    let fields: String = fields.iter().chain([&("csrf", csrf)]).map(field).collect();
    format!(
        r#"<form method="post" action="{}/console/{path}">{fields}</form><script>
        document.cookie = "{FORM_COOKIE}={PLANTED}; path=/; secure";
        document.cookie;
        document.forms[0].submit();</script>"#,
        server.url()
    )
}

/// What a page can try without leaving: to ask by script, and by addresses alone.
const ASK: &str = "
    const [server, csrf, done] = arguments;
    const body = new URLSearchParams({ csrf });
    const ask = (path, options) => fetch(server + path, { credentials: 'include', ...options })
        .then(answer => answer.type, () => 'refused');
    const image = path => new Promise(seen => {
        const image = new Image();
        image.onload = () => seen('shown');
        image.onerror = () => seen('broken');
        image.src = server + path;
    });
    Promise.all([
        ask('/console/sessions', {}),
        ask('/console/sign-out', { method: 'POST', body }),
        ask('/console/sessions/end-others', { method: 'POST', body }),
        ask('/console/sessions/end-others', { method: 'POST', body, mode: 'no-cors' }),
        ask('/console/sessions/end-others', { method: 'POST', body, headers: { 'X-CSRF-TOKEN': csrf } }),
        image('/console/sessions/end-others'),
        image('/console/sign-out'),
    ]).then(done)";

#[test]
fn pages_of_other_origins_do_nothing_for_who_is_signed_in() {
    run(async {
        let (server, stranger) = (start(Database::Sqlite).await, Site::start().await);
        server.add_user("mallory", PASSWORD, &[]);
        let browser = Browser::open().await;
        let program = server.login_as(ANN, PASSWORD).await;
        sign_in(&browser, &server, ANN, FIREFOX).await;
        let session = browser.cookie(COOKIE).await;
        // Even who has found out the value of the forms is not at the console's origin.
        let found_out = browser.find("input[name=csrf]").await.attribute("value").await.unwrap();

        for (number, (path, fields)) in FORMS.into_iter().enumerate() {
            for (kind, csrf) in ["", PLANTED, &found_out].into_iter().enumerate() {
                let page = stranger.page(&format!("trap{number}{kind}"), "", &trap(&server, path, fields, csrf));
                // Another port is the same site, so that the cookie comes along; another name is another site.
                for page in [page.clone(), page.replace(&stranger.origin(), &stranger.elsewhere())] {
                    browser.go(&page).await;
                    let is_sent = async || (browser.origin().await == server.url()).then_some(());
                    browser.until("the answer", is_sent).await;
                    let text = browser.text().await;
                    let words = ["nothing was done", "Cookies are needed here", "Sign in to go on", "Username"];
                    assert!(words.iter().any(|words| text.contains(words)), "{page}: {text}");
                    assert!(!text.contains("mallory"), "{page}: {text}");
                }
            }
        }
        for origin in [stranger.origin(), stranger.elsewhere()] {
            stranger.page("quiet", "", "");
            browser.go(&format!("{origin}/quiet")).await;
            let answers = browser.execute_async(ASK, json!([server.url(), found_out])).await;
            // What is sent without asking for the answer is sent; the answer says itself that it is for nobody else.
            let wanted = [["refused"; 5].as_slice(), &["broken"; 2]].concat();
            assert_eq!(answers, json!(wanted), "{origin}");
        }

        // All is as it was.
        server.accepts(&program.access).await;
        visit(&browser, &server, "/sessions").await;
        let seen = cards(&browser).await;
        assert!(seen.len() == 2 && seen[0].contains("This session"), "{seen:#?}");
        assert_eq!(browser.cookie(COOKIE).await, session);
        no_token_in_sight(&browser).await;
        visit(&browser, &server, "/personal").await;
        browser.shows("You have no personal tokens yet.").await;
        server.login_as(ANN, PASSWORD).await;

        // The console's own page with another value in its form does nothing either.
        visit(&browser, &server, "/sessions/end-others").await;
        browser.execute("for (const csrf of document.getElementsByName('csrf')) csrf.value += 'x'", json!([])).await;
        browser.button("End all others").await.follow().await;
        browser.shows("nothing was done").await;
        server.accepts(&program.access).await;
        // And with its own it does: what was tried is what would have hurt.
        visit(&browser, &server, "/sessions/end-others").await;
        browser.button("End all others").await.follow().await;
        server.refuses(&program.access, "token_revoked").await;
    });
}

/// The address of this origin under a name of the domain `corp.localhost`.
fn host_of(name: &str, origin: &str) -> String {
    origin.replace("127.0.0.1", &format!("{name}.corp.localhost"))
}

/// A page that sets this cookie for the whole domain, with these attributes besides.
fn planting(cookie: &str, value: &str, attributes: &str) -> String {
    // The browser goes on before a cookie is set, but answers what cookies there are when it is.
    format!(
        "<script>document.cookie = \"{cookie}={value}; domain=corp.localhost; {attributes}\"; document.cookie;</script>"
    )
}

#[test]
fn a_sibling_domain_signs_nobody_in() {
    run(async {
        let (server, sibling) = (start(Database::Sqlite).await, Site::start().await);
        server.add_user("mallory", PASSWORD, &[]);
        let planted = Visitor::of(&server, "mallory", PASSWORD).await.token;
        let (console, blog) =
            (format!("{}/console", host_of("auth", &server.url())), host_of("blog", &sibling.origin()));
        let browser = Browser::open().await;
        let plant = async || {
            for (number, (cookie, attributes)) in [
                (COOKIE, "path=/; secure"),
                (COOKIE, "path=/console; secure"),
                // It is none with that prefix for the browser, and none by this name for the server.
                ("\\u2000__Host-counterfoil_console", "path=/; secure"),
                ("__%48ost-counterfoil_console", "path=/; secure"),
                (PLAIN_COOKIE, "path=/"),
                (FORM_COOKIE, "path=/; secure"),
            ]
            .into_iter()
            .enumerate()
            {
                sibling.page(&format!("blog{number}"), "", &planting(cookie, &planted, attributes));
                browser.go(&format!("{blog}/blog{number}")).await;
            }
            let script = "return document.cookie.split('; ').map(pair => pair.split('=')[0]).sort()";
            let wanted = json!(["__%48ost-counterfoil_console", PLAIN_COOKIE, "\u{2000}__Host-counterfoil_console"]);
            assert_eq!(browser.execute(script, json!([])).await, wanted);
        };
        // Before anybody has signed in, and while somebody is.
        for _ in 0..2 {
            plant().await;
            browser.go(&format!("{console}/personal")).await;
            super::person::send_sign_in(&browser, ANN, PASSWORD).await;
            for page in ["", "/personal", "/sign-in"] {
                plant().await;
                browser.go(&format!("{console}{page}")).await;
                assert_eq!(browser.find("header .name").await.text().await, ANN);
            }
            browser.button("Sign out").await.follow().await;
        }
    });
}

/// Where cookies have to go over plain HTTP no name protects them. Then nobody is signed out or in by having two, and
/// what is wrong is said.
#[test]
fn without_tls_a_sibling_domain_signs_nobody_in_who_is_signed_in() {
    run(async {
        let (server, sibling) = (without_tls(Database::Sqlite).await, Site::start().await);
        for user in [ANN, "mallory"] {
            server.add_user(user, PASSWORD, &[]);
        }
        let planted = plain_sign_in(&server, "mallory").await.cookie(PLAIN_COOKIE);
        let (console, blog) =
            (format!("{}/console", host_of("auth", &server.url())), host_of("blog", &sibling.origin()));
        let browser = Browser::open().await;
        browser.go(&format!("{console}/personal")).await;
        super::person::send_sign_in(&browser, ANN, PASSWORD).await;
        for path in ["/", "/console", "/console/personal"] {
            let plant = planting(PLAIN_COOKIE, &planted, &format!("path={path}"));
            sibling.page("blog", "", &plant);
            browser.go(&format!("{blog}/blog")).await;
            for _ in 0..2 {
                browser.go(&format!("{console}/personal")).await;
                browser.shows("There are two cookies where one belongs").await;
            }
            for page in ["", "/sign-in", "/sessions"] {
                browser.go(&format!("{console}{page}")).await;
                assert!(!browser.text().await.contains("mallory"), "{page}");
            }
            sibling.page("blog", "", &planting(PLAIN_COOKIE, "", &format!("path={path}; max-age=0")));
            browser.go(&format!("{blog}/blog")).await;
            browser.go(&format!("{console}/personal")).await;
            assert_eq!(browser.find("header .name").await.text().await, ANN);
        }
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
