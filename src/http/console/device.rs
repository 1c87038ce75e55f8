//! What a device is called, by its user agent: parsed when it is shown, and never when a token is issued.

use std::sync::LazyLock;

use ua_parser::{Regexes, os, user_agent};

/// How much is shown of a user agent that nobody knows, in characters.
const UNKNOWN_CHARS_MAX: usize = 40;

/// What browsers and systems call themselves. It takes a moment to read, so it is read when somebody first looks.
static KNOWN: LazyLock<Option<Known>> = LazyLock::new(Known::read);

struct Known {
    agents: user_agent::Extractor<'static>,
    systems: os::Extractor<'static>,
}

impl Known {
    fn read() -> Option<Self> {
        let regexes: Regexes<'static> = serde_json::from_str(include_str!("devices.json")).ok()?;
        Some(Self {
            agents: user_agent::Builder::new().push_all(regexes.user_agent_parsers).ok()?.build().ok()?,
            systems: os::Builder::new().push_all(regexes.os_parsers).ok()?.build().ok()?,
        })
    }
}

/// Reads what there is to know, where nobody has yet, without keeping others waiting.
pub(super) async fn prepare() {
    if LazyLock::get(&KNOWN).is_none() {
        // Where that fails names are found all the same, only later.
        let _ = rocket::tokio::task::spawn_blocking(|| LazyLock::force(&KNOWN).is_some()).await;
    }
}

/// A short name for whatever sent this user agent, such as "Firefox on Linux".
pub(super) fn name(user_agent: Option<&str>) -> String {
    let Some(text) = user_agent.map(str::trim).filter(|text| !text.is_empty()) else {
        return "A program that did not say its name".to_owned();
    };
    let known = KNOWN.as_ref();
    let agent = known.and_then(|known| known.agents.extract(text)).map(|agent| plain(&agent.family));
    let system = known.and_then(|known| known.systems.extract(text)).map(|system| plain(&system.os));
    match (agent, system) {
        (Some(agent), Some(system)) => format!("{agent} on {system}"),
        (Some(agent), None) => agent,
        (None, Some(system)) => format!("A program on {system}"),
        // As programs begin theirs: `backup/1.2 (…)`.
        (None, None) => {
            let first = text.split(['/', '(', ';']).next().unwrap_or_default().trim();
            let first = if first.is_empty() { text } else { first };
            first.chars().take(UNKNOWN_CHARS_MAX).collect()
        }
    }
}

/// What a session is called, and what it was signed in with, where the name doesn't say that.
pub(super) fn named(label: Option<&str>, user_agent: Option<&str>) -> (String, Option<String>) {
    let device = name(user_agent);
    match label {
        Some(label) => (label.to_owned(), Some(device)),
        None => (device, None),
    }
}

/// As people call it.
fn plain(name: &str) -> String {
    match name {
        "Mac OS X" => "macOS".to_owned(),
        "Mobile Safari" | "Mobile Safari UI/WKWebView" => "Safari".to_owned(),
        "HeadlessChrome" => "Headless Chrome".to_owned(),
        "Go-http-client" => "A Go program".to_owned(),
        name => name.trim_end_matches(" Mobile").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn devices_have_short_names() {
        let cases = [
            ("Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0", "Firefox on Linux"),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 \
                 Safari/537.36",
                "Chrome on Windows",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                 Version/17.5 Mobile/15E148 Safari/604.1",
                "Safari on iOS",
            ),
            (
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile \
                 Safari/537.36",
                "Chrome on Android",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 \
                 Safari/537.36 Edg/130.0",
                "Edge on macOS",
            ),
            ("curl/7.88.1", "curl"),
            ("python-requests/2.31.0", "Python Requests"),
            ("backup/1.2 (nightly)", "backup"),
            ("<script>alert(1)</script>", "<script>alert"),
            ("/", "/"),
        ];
        for (user_agent, expected) in cases {
            assert_eq!(name(Some(user_agent)), expected, "{user_agent}");
        }
        for nothing in [None, Some(""), Some("  ")] {
            assert_eq!(name(nothing), "A program that did not say its name");
        }
        assert_eq!(name(Some(&"x".repeat(255))).chars().count(), super::UNKNOWN_CHARS_MAX);
    }
}
