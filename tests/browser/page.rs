//! A browser and the page that it shows, as whoever sits before it sees them: fields by their labels, buttons and links
//! by their names. Whatever is looked for is waited for.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::driver::{Failure, Session};
use super::element::Element;
use crate::support::process::PATIENCE;
use crate::support::{Value, json};

/// How an element stands in the driver's JSON.
pub(super) const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Elements that may have a name, by what a name is mostly made of.
const NAMED: &str = r"
    const [selector, name] = arguments;
    const plain = text => (text ?? '').replace(/\s+/g, ' ').trim();
    const words = element => [
        element.textContent, element.value, element.title, element.alt, element.ariaLabel,
        ...[...(element.labels ?? [])].map(label => label.textContent),
        ...(element.getAttribute('aria-labelledby') ?? '').split(' ').map(id => document.getElementById(id)?.textContent),
        ...[...element.querySelectorAll('[alt], [aria-label]')].map(inner => inner.alt ?? inner.ariaLabel),
    ].map(plain).join(' ');
    return [...document.querySelectorAll(selector)]
        .filter(element => element.checkVisibility() && words(element).includes(name));";

/// Sessions that nobody uses, to be used again: a start costs half a second.
static IDLE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// How many may run at once, whatever the number of the machine's cores.
static SEATS: Semaphore = Semaphore::const_new(4);

/// A Chromium without a past: no cookies, an empty page, 1280 by 800, light, in British English.
pub(crate) struct Browser {
    pub(super) session: Session,
    _seat: SemaphorePermit<'static>,
}

impl Browser {
    pub(crate) async fn open() -> Self {
        Self::with(SEATS.acquire().await.unwrap()).await
    }

    /// Two, for who is signed in twice. Two calls of `open` could wait for each other.
    pub(crate) async fn open_two() -> [Self; 2] {
        let mut seats = SEATS.acquire_many(2).await.unwrap();
        let other = seats.split(1).unwrap();
        [Self::with(seats).await, Self::with(other).await]
    }

    async fn with(seat: SemaphorePermit<'static>) -> Self {
        let idle = IDLE.lock().unwrap().pop();
        let session = match idle {
            Some(id) => Session::again(&id),
            None => Session::start().await,
        };
        let browser = Self { session, _seat: seat };
        // A tab of its own has no history, and nothing of what was emulated.
        let old = browser.get("/window/handles").await;
        let tab = browser.post("/window/new", json!({ "type": "tab" })).await;
        for handle in old.as_array().unwrap() {
            browser.post("/window", json!({ "handle": handle })).await;
            browser.tell("DELETE", "/window", json!({})).await;
        }
        browser.post("/window", json!({ "handle": tab["handle"] })).await;
        for command in ["Network.clearBrowserCookies", "Network.clearBrowserCache"] {
            browser.cdp(command, json!({})).await;
        }
        for log in ["performance", "browser"] {
            browser.log(log).await;
        }
        browser.scheme(false).await;
        browser.size(1280, 800).await;
        browser.cdp("Emulation.setLocaleOverride", json!({ "locale": "en-GB" })).await;
        browser
    }

    /// Goes to this address, and waits until its page is there.
    /// Goes to a page, and waits until it is there: some versions of the driver answer while the page before is.
    pub(crate) async fn go(&self, url: &str) {
        self.execute("document.isLeft = true", json!([])).await;
        self.post("/url", json!({ "url": url })).await;
        let is_there = "return !document.isLeft && document.readyState === 'complete'";
        self.until(url, async || (self.execute(is_there, json!([])).await == json!(true)).then_some(())).await;
    }

    pub(crate) async fn back(&self) {
        self.post("/back", json!({})).await;
    }

    pub(crate) async fn reload(&self) {
        self.post("/refresh", json!({})).await;
    }

    pub(crate) async fn url(&self) -> String {
        text(self.get("/url").await)
    }

    /// The path of the page's address, with its query.
    pub(crate) async fn path(&self) -> String {
        let url = self.url().await;
        let (_, rest) = url.split_once("://").unwrap_or_else(|| panic!("{url} has no path"));
        rest.find('/').map_or_else(String::new, |slash| rest[slash..].to_owned())
    }

    /// The scheme, host and port of the page's address.
    pub(crate) async fn origin(&self) -> String {
        self.url().await.splitn(4, '/').take(3).collect::<Vec<_>>().join("/")
    }

    pub(crate) async fn title(&self) -> String {
        text(self.get("/title").await)
    }

    /// The document as it is now, in HTML.
    pub(crate) async fn source(&self) -> String {
        text(self.get("/source").await)
    }

    /// What can be read on the page.
    pub(crate) async fn text(&self) -> String {
        text(self.execute("return document.body?.innerText ?? ''", json!([])).await)
    }

    /// Waits until this can be read on the page.
    pub(crate) async fn shows(&self, text: &str) {
        self.until(&format!("{text:?}"), async || self.text().await.contains(text).then_some(())).await;
    }

    /// The first element that fits, once it is there.
    pub(crate) async fn find(&self, css: &str) -> Element<'_> {
        self.until(css, async || self.all(css).await.into_iter().next()).await
    }

    /// All elements that fit now.
    pub(crate) async fn all(&self, css: &str) -> Vec<Element<'_>> {
        let found = self.post("/elements", json!({ "using": "css selector", "value": css })).await;
        self.elements(&found)
    }

    /// The field with this label.
    pub(crate) async fn field(&self, label: &str) -> Element<'_> {
        let look = async || self.named("input, select, textarea", label, |_| true).await;
        self.until(&format!("a field labelled {label:?}"), look).await
    }

    /// The element of this role and name, as a screen reader would announce it.
    pub(crate) async fn role(&self, role: &str, name: &str) -> Element<'_> {
        self.until(&format!("a {role} named {name:?}"), async || self.role_now(role, name).await).await
    }

    /// The same, if it is there now.
    pub(crate) async fn role_now(&self, role: &str, name: &str) -> Option<Element<'_>> {
        let selector = match role {
            "button" => "button, [role=button], input[type=submit], summary",
            "link" => "a[href]",
            "heading" => "h1, h2, h3, h4",
            "checkbox" => "input[type=checkbox]",
            _ => "*",
        };
        self.named(selector, name, |its| its == role).await
    }

    /// The link with this name.
    pub(crate) async fn link(&self, name: &str) -> Element<'_> {
        self.role("link", name).await
    }

    /// The button with this name.
    pub(crate) async fn button(&self, name: &str) -> Element<'_> {
        self.role("button", name).await
    }

    async fn named(&self, selector: &str, name: &str, role: impl Fn(&str) -> bool) -> Option<Element<'_>> {
        let found = self.execute(NAMED, json!([selector, name])).await;
        for element in self.elements(&found) {
            // The page may have changed meanwhile.
            let its = (element.role_now().await, element.name_now().await);
            if matches!(its, (Some(its_role), Some(its_name)) if role(&its_role) && its_name == name) {
                return Some(element);
            }
        }
        None
    }

    /// Does what leads to another page, and waits until that is there.
    pub(crate) async fn turn<T>(&self, act: impl Future<Output = T>) -> T {
        self.execute("window.left = true", json!([])).await;
        let done = act.await;
        let script = "return !window.left && document.readyState === 'complete'";
        self.until("another page", async || {
            // Between two pages there is none to ask.
            self.try_execute(script, json!([])).await.is_ok_and(|answer| answer == true).then_some(())
        })
        .await;
        done
    }

    /// Runs a script in the page: the body of a function, whose `arguments` these are.
    pub(crate) async fn execute(&self, script: &str, arguments: Value) -> Value {
        let ran = self.try_execute(script, arguments).await;
        ran.unwrap_or_else(|failure| panic!("{failure:?} at {script}"))
    }

    async fn try_execute(&self, script: &str, arguments: Value) -> Result<Value, Failure> {
        self.session.command("POST", "/execute/sync", json!({ "script": script, "args": arguments })).await
    }

    /// The same for a script that calls its last argument with what it has to say.
    pub(crate) async fn execute_async(&self, script: &str, arguments: Value) -> Value {
        self.post("/execute/async", json!({ "script": script, "args": arguments })).await
    }

    /// A command of the DevTools protocol, for what WebDriver has none for.
    pub(crate) async fn cdp(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await
    }

    /// The colours that whoever looks prefers. What moves stands still: a test looks once.
    pub(crate) async fn scheme(&self, dark: bool) {
        let features = json!([
            { "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.cdp("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// The window's inside, in CSS pixels.
    pub(crate) async fn size(&self, width: u32, height: u32) {
        self.screen(width, height, 1, false).await;
    }

    pub(crate) async fn screen(&self, width: u32, height: u32, scale: u32, is_phone: bool) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": is_phone });
        self.cdp("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// From the next page on it says it is this one.
    pub(crate) async fn user_agent(&self, text: &str) {
        self.cdp("Emulation.setUserAgentOverride", json!({ "userAgent": text })).await;
    }

    /// Where it is, such as `Asia/Tokyo`.
    pub(crate) async fn timezone(&self, name: &str) {
        self.cdp("Emulation.setTimezoneOverride", json!({ "timezoneId": name })).await;
    }

    /// From the next page on no script of a page runs; those of the test do.
    pub(crate) async fn without_script(&self) {
        self.cdp("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
    }

    /// The cookies that the page's address has, also those that no script sees.
    pub(crate) async fn cookies(&self) -> Vec<Value> {
        self.get("/cookie").await.as_array().unwrap().clone()
    }

    /// Sets a cookie of the page's address.
    pub(crate) async fn set_cookie(&self, cookie: Value) {
        self.post("/cookie", json!({ "cookie": cookie })).await;
    }

    /// The value of this cookie.
    pub(crate) async fn cookie(&self, name: &str) -> Option<String> {
        let cookies = self.cookies().await;
        cookies.iter().find(|cookie| cookie["name"] == name).map(|cookie| text(cookie["value"].clone()))
    }

    /// Presses keys on whatever has the focus, one after the other.
    pub(crate) async fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|stroke| json!({ "type": stroke, "value": key })))
            .collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": strokes });
        self.post("/actions", json!({ "actions": [keyboard] })).await;
    }

    /// What has the focus.
    pub(crate) async fn focused(&self) -> Element<'_> {
        let element = self.get("/element/active").await;
        self.elements(&json!([element])).remove(0)
    }

    /// The picture of what can be seen, a PNG.
    pub(crate) async fn picture(&self) -> Vec<u8> {
        STANDARD.decode(text(self.get("/screenshot").await)).unwrap()
    }

    /// The entries that this log has got since it was last read.
    pub(super) async fn log(&self, name: &str) -> Vec<Value> {
        let log = self.post("/se/log", json!({ "type": name })).await;
        log.as_array().unwrap().clone()
    }

    /// Looks until something is there, and fails with what the page shows if that takes too long.
    pub(crate) async fn until<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            if began.elapsed() > PATIENCE {
                panic!("{what} is not there. At {}:\n{}", self.url().await, self.text().await);
            }
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }

    /// The elements of what a script or the driver gave.
    pub(super) fn elements(&self, found: &Value) -> Vec<Element<'_>> {
        let ids = found.as_array().into_iter().flatten().filter_map(|element| element[ELEMENT].as_str());
        ids.map(|id| Element::of(self, id)).collect()
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        self.tell("GET", path, json!({})).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Value {
        self.tell("POST", path, body).await
    }

    pub(super) async fn tell(&self, method: &str, path: &str, body: Value) -> Value {
        let told = self.session.command(method, path, body).await;
        told.unwrap_or_else(|Failure { code, sentence }| panic!("{method} {path}: {code}: {sentence}"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Where a test failed it may be in any state; then it stands until the driver ends.
        if !std::thread::panicking() {
            IDLE.lock().unwrap().push(self.session.id().to_owned());
        }
    }
}

pub(super) fn text(value: Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}
