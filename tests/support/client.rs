//! A client that holds every answer against what the contract says of all answers.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;

use super::documented::assert_documented;

/// One request under construction.
pub(crate) struct Call {
    request: reqwest::RequestBuilder,
    /// Whether it carries a token or a credential, so that its answer must not be stored.
    is_confidential: bool,
}

impl Call {
    pub(crate) fn new(request: reqwest::RequestBuilder, path: &str) -> Self {
        Self { request, is_confidential: path.starts_with("/login") || path.starts_with("/oauth/") }
    }

    /// With this token in the `Authorization` header.
    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// As this client, by HTTP Basic.
    pub(crate) fn basic(self, client: &ClientSecret) -> Self {
        self.header("Authorization", &client.basic())
    }

    /// With these fields as a form.
    pub(crate) fn form(self, fields: &[(&str, &str)]) -> Self {
        let encode = |text: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'*');
            text.bytes()
                .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
                .collect::<String>()
        };
        let form: Vec<String> =
            fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        self.body("application/x-www-form-urlencoded", form.join("&"))
    }

    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        self.header_bytes(name, value.as_bytes())
    }

    pub(crate) fn header_bytes(mut self, name: &str, value: &[u8]) -> Self {
        self.is_confidential |= name.eq_ignore_ascii_case("authorization") || name.eq_ignore_ascii_case("cookie");
        let value = HeaderValue::from_bytes(value).expect("bytes that a header may have");
        self.request = self.request.header(name, value);
        self
    }

    pub(crate) fn json(mut self, body: &Value) -> Self {
        self.request = self.request.json(body);
        self
    }

    /// With these bytes as a body that says it is JSON.
    pub(crate) fn json_bytes(self, body: impl Into<Vec<u8>>) -> Self {
        self.body("application/json", body)
    }

    pub(crate) fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.request = self.request.header(CONTENT_TYPE, content_type).body(body.into());
        self
    }

    /// Sends it, and leaves the body to be read as it comes.
    pub(crate) async fn open(self) -> reqwest::Response {
        self.request.send().await.expect("the server answers")
    }

    pub(crate) async fn send(self) -> Answer {
        let (http, request) = self.request.build_split();
        let request = request.expect("a request");
        let (method, path) = (request.method().to_string(), request.url().path().to_owned());
        let response = http.execute(request).await.expect("the server answers");
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = response.bytes().await.expect("the answer arrives whole").to_vec();
        let answer = Answer { status, headers, body };
        assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"), "{answer:?}");
        if self.is_confidential {
            assert_eq!(answer.header(CACHE_CONTROL.as_str()), Some("no-store"), "{answer:?}");
        }
        assert_documented(&method, &path, &answer);
        answer
    }
}

/// A client's id and secret.
#[derive(Debug, Clone)]
pub(crate) struct ClientSecret {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl ClientSecret {
    pub(crate) fn of(body: &Value) -> Self {
        let text = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("{name} in {body}")).to_owned();
        Self { id: text("client_id"), secret: text("client_secret") }
    }

    pub(crate) fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.id, self.secret)))
    }
}

/// One answer of the server.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a header; it must be there once at most.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let values = self.header_values(name);
        assert!(values.len() <= 1, "{name} stands more than once: {values:?}");
        values.first().copied()
    }

    pub(crate) fn header_values(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().expect("a header in ASCII")).collect()
    }

    /// The path and query of the next page of a list, from `Link` (RFC 8288).
    #[track_caller]
    pub(crate) fn next_page(&self) -> Option<String> {
        let link = self.header("Link")?;
        let (target, parameters) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
        assert_eq!(parameters.replace(' ', ""), r#";rel="next""#, "{link}");
        Some(target.find("/auth").map_or(target, |at| &target[at..]).to_owned())
    }

    #[track_caller]
    pub(crate) fn body_json(&self) -> Value {
        assert!(
            self.header("Content-Type").is_some_and(|content| {
                content.starts_with("application/json") || content.starts_with("application/jwk-set+json")
            }),
            "not JSON: {self:?}"
        );
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The JSON of an answer of success.
    #[track_caller]
    pub(crate) fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.body_json()
    }

    /// The answer is 200 and says this alone.
    #[track_caller]
    pub(crate) fn says(&self, msg: &str) {
        assert_eq!(self.ok(200), serde_json::json!({ "msg": msg }));
    }

    /// The `msg` of an error in the contract's form, with the headers that its code asks for.
    #[track_caller]
    pub(crate) fn error(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "wanted {code}: {self:?}");
        let body = self.body_json();
        let members = body.as_object().expect("an object");
        let names: BTreeSet<&str> = members.keys().map(String::as_str).collect();
        let due: &[&str] = if code == "insufficient_scope" { &["error", "msg", "scope"] } else { &["error", "msg"] };
        assert_eq!(names, due.iter().copied().collect(), "{body}");
        assert_eq!(body["error"], code, "{body}");
        let msg = body["msg"].as_str().expect("a sentence");
        assert!(!msg.is_empty() && !msg.contains('\n'), "one sentence: {msg:?}");

        self.assert_challenge(code);
        let asks_to_wait = matches!(status, 429 | 503);
        assert_eq!(self.header("Retry-After").is_some(), asks_to_wait, "{self:?}");
        if let Some(seconds) = self.header("Retry-After") {
            assert!(seconds.parse::<u32>().is_ok_and(|seconds| seconds >= 1), "whole seconds: {seconds}");
        }
        assert_eq!(self.header("Allow").is_some(), status == 405, "{self:?}");
        msg.to_owned()
    }

    /// The sentence of an error in the form of RFC 6749 §5.2.
    #[track_caller]
    pub(crate) fn oauth_error(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "wanted {code}: {self:?}");
        let body = self.body_json();
        let names: BTreeSet<&str> = body.as_object().expect("an object").keys().map(String::as_str).collect();
        let scope = (code == "insufficient_scope").then_some("scope");
        assert_eq!(names, ["error", "error_description"].into_iter().chain(scope).collect(), "{body}");
        assert_eq!(body["error"], code, "{body}");
        // A challenge with every 401 (RFC 9110 §15.5.2), of the scheme that was used.
        if status == 401 {
            let scheme = if code == "invalid_client" { "Basic" } else { "Bearer" };
            assert!(self.header("WWW-Authenticate").is_some_and(|challenge| challenge.starts_with(scheme)), "{self:?}");
        }
        assert_eq!(self.header("Retry-After").is_some(), matches!(status, 429 | 503), "{self:?}");
        let sentence = body["error_description"].as_str().expect("a sentence");
        // RFC 6749 §5.2: neither a quote nor a backslash.
        assert!(!sentence.is_empty() && !sentence.contains(['"', '\\', '\n']), "{sentence}");
        sentence.to_owned()
    }

    /// RFC 6750 §3: a challenge for what is about a token, without `error` where none was sent.
    #[track_caller]
    fn assert_challenge(&self, code: &str) {
        let error = match code {
            "token_missing" => None,
            "fresh_token_required" => Some("insufficient_user_authentication"),
            "insufficient_scope" => Some("insufficient_scope"),
            _ if code.starts_with("token_") => Some("invalid_token"),
            "invalid_client" => {
                let challenge = self.header("WWW-Authenticate");
                assert!(challenge.is_some_and(|challenge| challenge.starts_with("Basic realm=")), "{self:?}");
                return;
            }
            _ => {
                assert_eq!(self.header("WWW-Authenticate"), None, "{self:?}");
                return;
            }
        };
        let challenge = self.header("WWW-Authenticate").unwrap_or_else(|| panic!("a challenge is due: {self:?}"));
        assert!(challenge.starts_with("Bearer"), "{challenge}");
        match error {
            None => assert!(!challenge.contains("error"), "{challenge}"),
            Some(error) => assert!(challenge.contains(&format!("error=\"{error}\"")), "{challenge}"),
        }
        assert_eq!(challenge.contains("scope=\""), code == "insufficient_scope", "{challenge}");
    }

    /// The `Set-Cookie` header of this cookie.
    #[track_caller]
    pub(crate) fn set_cookie(&self, name: &str) -> &str {
        let start = format!("{name}=");
        let found: Vec<&str> =
            self.header_values("Set-Cookie").into_iter().filter(|cookie| cookie.starts_with(&start)).collect();
        assert_eq!(found.len(), 1, "one {name} in {self:?}");
        found[0]
    }

    /// The value that this cookie was set to.
    #[track_caller]
    pub(crate) fn cookie(&self, name: &str) -> String {
        let set = self.set_cookie(name);
        let value = set.split(';').next().and_then(|pair| pair.split_once('=')).expect("a pair").1;
        value.to_owned()
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} {}", self.status, self.headers, String::from_utf8_lossy(&self.body))
    }
}
