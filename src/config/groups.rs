//! The settings that belong together, and the choices that there are.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Algorithm {
    EdDsa,
    Es256,
    Rs256,
    Hs256,
}

impl Algorithm {
    pub(crate) const ALL: [Self; 4] = [Self::EdDsa, Self::Es256, Self::Rs256, Self::Hs256];

    /// The one of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The `alg` of the JOSE header (RFC 7518 §3.1, RFC 8037 §3.1).
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::Hs256 => "HS256",
        }
    }
}

/// Where keys come from.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeySettings {
    /// A PEM file (PKCS#8, PKCS#1 or SEC1) with the private key that signs.
    pub(crate) file: Option<PathBuf>,
    /// The secret of HS256.
    pub(crate) secret: Option<Secret>,
    /// Whether a key may be generated where none is named.
    pub(crate) generate: bool,
    /// Where a generated key is kept; beside the SQLite file where not set.
    pub(crate) generated_file: Option<PathBuf>,
    /// Further keys whose tokens are accepted.
    pub(crate) accept: Vec<AcceptedKey>,
    /// Whether a key whose private part is in print may be used.
    pub(crate) allow_well_known: bool,
    /// How old the current key becomes before the next takes its place by itself; `None`: as old as it is left to.
    pub(crate) rotate_every: Option<Duration>,
}

/// A further key whose tokens are accepted, and which never signs.
#[derive(Debug, Clone)]
pub(crate) enum AcceptedKey {
    /// A PEM file with a public or private key, and its algorithm.
    File { path: PathBuf, algorithm: Option<Algorithm> },
    /// A secret of HS256.
    Secret(Secret),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Every token must have a live record.
    All,
    /// Access tokens are checked by signature and times alone, and are not stored (personal tokens are).
    Refresh,
}

/// What a check relies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consistency {
    /// On what is remembered, while a lease says that nobody can have changed it without this process knowing.
    Leased,
    /// On the database, every time.
    Strict,
}

/// Where a request may carry its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Location {
    /// The `Authorization` header (or the configured one).
    Header,
    /// The access or refresh cookie, with the CSRF double submit.
    Cookie,
    /// The query string. Never for refresh tokens. The server keeps it out of its log; an application's own log may
    /// have it, Rocket's at `log_level = "normal"` among them.
    Query,
    /// A member of the JSON body, for routes that read the token from their body.
    Json,
}

#[derive(Debug, Clone)]
pub(crate) struct HeaderSettings {
    pub(crate) name: String,
    /// The scheme, compared case-insensitively; may be empty.
    pub(crate) scheme: String,
}

#[derive(Debug, Clone)]
pub(crate) struct JsonSettings {
    pub(crate) access_name: String,
    pub(crate) refresh_name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SameSite {
    Strict,
    Lax,
    None,
}

#[derive(Debug, Clone)]
pub(crate) struct CookieSettings {
    pub(crate) secure: bool,
    pub(crate) same_site: SameSite,
    pub(crate) domain: Option<String>,
    pub(crate) access_name: String,
    pub(crate) refresh_name: String,
    pub(crate) access_path: String,
    pub(crate) refresh_path: String,
    /// Whether cookies end with the browser session rather than with the token.
    pub(crate) session: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct CsrfSettings {
    pub(crate) enabled: bool,
    /// Upper case.
    pub(crate) methods: Vec<String>,
    pub(crate) header_name: String,
    pub(crate) access_cookie_name: String,
    pub(crate) refresh_cookie_name: String,
    pub(crate) access_cookie_path: String,
    pub(crate) refresh_cookie_path: String,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct RefreshSettings {
    /// Whether a refresh token is good for one use.
    pub(crate) rotation: bool,
    /// How long a spent one may come again.
    pub(crate) grace: Duration,
    /// How long after a session began its last refresh token expires.
    pub(crate) max_age: Duration,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionSettings {
    /// How many a subject may have; `None` for any number.
    pub(crate) max: Option<u32>,
    pub(crate) when_full: WhenFull,
}

/// What happens to a session too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// It is refused.
    Refuse,
    /// The oldest is ended.
    EndOldest,
}

#[derive(Debug, Clone)]
pub(crate) struct PurgeSettings {
    /// `None`: this process never purges by itself.
    pub(crate) every: Option<Duration>,
    pub(crate) retain: Duration,
    pub(crate) batch_rows: u32,
    pub(crate) pause: Duration,
    pub(crate) budget: Duration,
}

/// The feed of revocations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FeedSettings {
    /// How long the log of changes is kept.
    pub(crate) retain: Duration,
    /// How many streams one process serves at once.
    pub(crate) streams: u32,
    /// How long a stream is silent at most.
    pub(crate) heartbeat: Duration,
}

/// Which pages of other origins may call from a browser.
#[derive(Debug, Clone)]
pub(crate) struct CorsSettings {
    /// As browsers write them, or `*` alone; none without.
    pub(crate) origins: Vec<String>,
    /// How long a browser may keep what it was told of what is allowed.
    pub(crate) max_age: Duration,
}

/// Argon2id (RFC 9106).
#[derive(Debug, Clone, Copy)]
pub(crate) struct PasswordSettings {
    pub(crate) memory_kib: u32,
    pub(crate) iterations: u32,
    pub(crate) parallelism: u32,
    /// How many are hashed at once.
    pub(crate) concurrency: u32,
    pub(crate) chars_min: u32,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct LoginSettings {
    /// Failed log-ins of one account within the window; 0 switches this limit off.
    pub(crate) limit: u32,
    /// Failed log-ins from one address within the window, and as many wrong secrets of clients; 0 switches these limits
    /// off.
    pub(crate) address_limit: u32,
    pub(crate) window: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstAdmin {
    Print,
    Off,
}

/// The pages for users and administrators.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConsoleSettings {
    pub(crate) enabled: bool,
    /// How long one stays signed in.
    pub(crate) expires: Duration,
}

#[derive(Debug, Clone)]
pub(crate) struct OperationsSettings {
    pub(crate) metrics: bool,
    pub(crate) openapi: bool,
    pub(crate) docs: bool,
    pub(crate) address: Option<std::net::IpAddr>,
    /// Another port for these three; the server's own where not set.
    pub(crate) port: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}
