//! What every page has to hold: nobody is shut out (axe-core), nothing moves while it loads, it fits on every screen,
//! and it asks nobody but its own server.

use std::path::PathBuf;

use super::keyboard::usable_by_keyboard;
use super::page::Browser;
use crate::support::{Value, json};

/// Runs axe-core in the page and gives what it finds, a line for each element.
const AXE: &str = r"
    const done = arguments[arguments.length - 1];
    const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22a', 'wcag22aa', 'best-practice'];
    axe.run(document, { runOnly: tags, resultTypes: ['violations'] }).then(found => done({
        passes: found.passes.length,
        violations: found.violations.flatMap(rule => rule.nodes.map(node =>
            `${rule.id} (${rule.impact}): ${node.target.join(' ')}: ${node.failureSummary.replace(/\s+/g, ' ')}`)),
    }), error => done({ passes: 0, violations: [`axe-core failed: ${error}`] }));";

/// What moved since the page began, except after a key or a click.
const SHIFTS: &str = r"
    const done = arguments[arguments.length - 1];
    const shifts = [];
    const name = node => node?.nodeType === 1 ? node.outerHTML.slice(0, 120) : node?.textContent ?? 'something';
    new PerformanceObserver(list => shifts.push(...list.getEntries().filter(entry => !entry.hadRecentInput)
        .map(entry => `${entry.value}: ${entry.sources.map(source => name(source.node)).join(', ')}`)))
        .observe({ type: 'layout-shift', buffered: true });
    // What the frame that is being drawn moves is told with the next one.
    const frames = left => left ? requestAnimationFrame(() => frames(left - 1)) : setTimeout(() => done(shifts));
    frames(3);";

/// What stands out of the window's side, if the page can be scrolled there.
const SIDEWAYS: &str = r"
    const [width] = arguments;
    const page = document.scrollingElement;
    if (page.scrollWidth <= page.clientWidth && page.clientWidth === width) return [];
    const wide = [...document.body.querySelectorAll('*')]
        .filter(element => element.getBoundingClientRect().right > width)
        .map(element => element.outerHTML.slice(0, 120));
    return [`${page.scrollWidth} in ${page.clientWidth} of ${width} pixels`, ...wide.slice(0, 5)];";

/// The colours and the screens that every page is looked at with.
const SCHEMES: [(&str, bool, u32, u32); 4] = [
    ("wide and light", false, 1280, 800),
    ("wide and dark", true, 1280, 800),
    ("phone and light", false, 375, 667),
    ("phone and dark", true, 375, 667),
];

/// Everything of this file, and that it can be used by keyboard, for the page that has just been loaded.
pub(crate) async fn well_mannered(browser: &Browser) {
    no_layout_shift(browser).await;
    on_each_scheme(browser, async || axe(browser).await).await;
    readable_at_twice_the_size(browser).await;
    usable_by_keyboard(browser).await;
    no_request_left(browser, &browser.origin().await).await;
    no_complaints(browser).await;
}

/// Does this with each of the schemes, where nothing may stand out at the side, and leaves the first.
pub(crate) async fn on_each_scheme(browser: &Browser, look: impl AsyncFn()) {
    for (name, is_dark, width, height) in SCHEMES {
        browser.scheme(is_dark).await;
        browser.screen(width, height, 1, width < 600).await;
        not_sideways(browser, width, name).await;
        look().await;
    }
    browser.scheme(false).await;
    browser.size(1280, 800).await;
}

/// axe-core finds no violation on the page as it is.
pub(crate) async fn axe(browser: &Browser) {
    let found = violations(browser).await;
    let how = browser
        .execute("return `${innerWidth} wide, dark: ${matchMedia('(prefers-color-scheme: dark)').matches}`", json!([]))
        .await;
    assert!(found.is_empty(), "{} ({how}): {found:#?}", browser.url().await);
}

/// What axe-core finds, as rule, element and what to do.
pub(super) async fn violations(browser: &Browser) -> Vec<String> {
    if browser.execute("return typeof axe === 'undefined'", json!([])).await == true {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/interop/node_modules/axe-core/axe.min.js");
        let source = std::fs::read_to_string(&path);
        let source = source.unwrap_or_else(|error| panic!("{}: {error}: run `scripts/interop`", path.display()));
        browser.execute(&source, json!([])).await;
    }
    let found = browser.execute_async(AXE, json!([])).await;
    let violations = strings(&found["violations"]);
    assert!(!violations.is_empty() || found["passes"].as_u64() > Some(0), "it looked at nothing: {found}");
    violations
}

/// At 200 % nothing stands out at the side, whether the reader enlarges the page or its text alone.
pub(crate) async fn readable_at_twice_the_size(browser: &Browser) {
    // A page enlarged in a window has half its width in pixels of its own.
    browser.screen(640, 400, 2, false).await;
    not_sideways(browser, 640, "200 %").await;
    browser.size(1280, 800).await;
    browser.execute("document.documentElement.style.fontSize = '200%'", json!([])).await;
    not_sideways(browser, 1280, "text at 200 %").await;
    browser.execute("document.documentElement.style.fontSize = ''", json!([])).await;
}

/// The page is as wide as the window and can't be scrolled to the side.
async fn not_sideways(browser: &Browser, width: u32, how: &str) {
    let wide = strings(&browser.execute(SIDEWAYS, json!([width])).await);
    assert!(wide.is_empty(), "{how}: {}: {wide:#?}", browser.url().await);
}

/// Nothing has moved since the page began to load.
pub(crate) async fn no_layout_shift(browser: &Browser) {
    let shifts = strings(&browser.execute_async(SHIFTS, json!([])).await);
    assert!(shifts.is_empty(), "{}: {shifts:#?}", browser.url().await);
}

/// Since this was last asked the pages have asked this origin for something, and nobody else for anything.
pub(crate) async fn no_request_left(browser: &Browser, origin: &str) {
    let asked = asked(browser).await;
    assert!(!asked.is_empty(), "nothing was asked for");
    let is_own = |url: &&String| url.strip_prefix(origin).is_some_and(|rest| rest.starts_with('/'));
    let left: Vec<&String> = asked.iter().filter(|url| !is_own(url) && !url.starts_with("data:")).collect();
    assert!(left.is_empty(), "requests that left {origin}: {left:#?}");
}

/// Everything that pages asked for since this was last asked.
pub(super) async fn asked(browser: &Browser) -> Vec<String> {
    let entries = browser.log("performance").await;
    let events = entries.iter().map(|entry| {
        let event: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
        event["message"].clone()
    });
    events
        .filter_map(|event| match event["method"].as_str()? {
            "Network.requestWillBeSent" => event["params"]["request"]["url"].as_str().map(str::to_owned),
            "Network.webSocketCreated" => event["params"]["url"].as_str().map(str::to_owned),
            _ => None,
        })
        .collect()
}

/// The browser has found nothing wrong with the pages: no script that failed, nothing that their policy forbids.
pub(crate) async fn no_complaints(browser: &Browser) {
    let complaints = complaints(browser).await;
    assert!(complaints.is_empty(), "{}: {complaints:#?}", browser.url().await);
}

/// What the browser has found wrong since this was last asked.
pub(super) async fn complaints(browser: &Browser) -> Vec<String> {
    let entries = browser.log("browser").await;
    let is_serious = |entry: &&Value| matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING"));
    entries.iter().filter(is_serious).map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
}

/// Writes the picture `docs/console/<name>.png` where `COUNTERFOIL_TEST_WRITE_SCREENSHOTS` is set; without, it must be
/// there.
pub(crate) async fn screenshot(browser: &Browser, name: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("docs/console/{name}.png"));
    let again = "COUNTERFOIL_TEST_WRITE_SCREENSHOTS=1 scripts/test browser";
    if std::env::var_os("COUNTERFOIL_TEST_WRITE_SCREENSHOTS").is_none() {
        assert!(path.exists(), "{} is not there: {again}", path.display());
        return;
    }
    // The page keeps a place for the bar, which is not drawn.
    let ready =
        "scrollTo(0, 0); document.activeElement?.blur(); document.documentElement.style.scrollbarGutter = 'auto'";
    browser.execute(ready, json!([])).await;
    let picture = browser.picture().await;
    assert!(picture.len() < 150_000, "{name} is too large: {} bytes", picture.len());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, picture).unwrap();
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}
