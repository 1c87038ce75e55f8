//! Settings, from `Rocket.toml` and the environment: what there is, its defaults, and what makes no sense.

mod place;
mod read;
mod source;
mod typed;
mod validate;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use self::place::Place;
use self::source::{Origin, Reader};
use crate::error::Error;

/// Everything that can be set, with defaults filled in.
#[derive(Clone)]
pub struct Settings {
    pub(crate) database_url: String,
    pub(crate) database_pool: u32,
    pub(crate) migrate: bool,
    pub(crate) issuer: String,
    pub(crate) audience: Vec<String>,
    pub(crate) leeway: Duration,
    pub(crate) algorithm: Algorithm,
    pub(crate) keys: KeySettings,
    /// Seals the keys in the database, in 64 hexadecimal digits. Without it keys are files.
    pub(crate) master_key: Option<Secret>,
    /// Opens what was sealed under it, and seals nothing.
    pub(crate) master_key_old: Option<Secret>,
    /// How long the published keys may be cached.
    pub(crate) jwks_max_age: Duration,
    pub(crate) access_expires: Duration,
    pub(crate) refresh_expires: Duration,
    pub(crate) refresh: RefreshSettings,
    pub(crate) sessions: SessionSettings,
    pub(crate) issue_max_access_expires: Duration,
    pub(crate) issue_max_refresh_expires: Duration,
    pub(crate) personal_max_expires: Duration,
    pub(crate) check: Check,
    /// In the order of looking; never empty.
    pub(crate) locations: Vec<Location>,
    pub(crate) header: HeaderSettings,
    pub(crate) query_name: String,
    pub(crate) json: JsonSettings,
    pub(crate) cookie: CookieSettings,
    pub(crate) csrf: CsrfSettings,
    pub(crate) identity_claim: Option<String>,
    /// `None`: not recorded.
    pub(crate) last_used: Option<Duration>,
    pub(crate) consistency: Consistency,
    /// How long a replica may answer from memory without having heard from the database.
    pub(crate) lease: Duration,
    /// How often a replica asks for changes that it wasn't told of.
    pub(crate) poll: Duration,
    /// Whether it has PostgreSQL tell it.
    pub(crate) listen: bool,
    /// Bytes that remembered tokens may take.
    pub(crate) cache_bytes: u64,
    pub(crate) purge: PurgeSettings,
    pub(crate) audit_retain: Duration,
    pub(crate) feed: FeedSettings,
    pub(crate) cors: CorsSettings,
    pub(crate) password: PasswordSettings,
    pub(crate) login: LoginSettings,
    /// The header that a proxy names callers in, empty for none; `None`: whatever Rocket does.
    pub(crate) ip_header: Option<String>,
    pub(crate) first_admin: FirstAdmin,
    pub(crate) first_admin_password: Option<Secret>,
    pub(crate) console: ConsoleSettings,
    pub(crate) operations: OperationsSettings,
    pub(crate) log: LogFormat,
    /// Bytes a request body may have.
    pub(crate) body_limit: u64,
}

/// Without the values: some are secret, and the address of a database may have a password in it.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// A secret setting: never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The cookie that the console keeps its token in. Names that begin with this one are the console's.
pub(crate) const CONSOLE_COOKIE: &str = "counterfoil_console";

/// What the names of cookies begin with that browsers take from the very host alone: with `Secure`, for the path `/`, and without
/// a `Domain` (RFC 6265bis §4.1.3.2).
pub(crate) const HOST_PREFIX: &str = "__Host-";

/// What a figment says of a value that nobody has set, and which is Rocket's own.
pub(crate) const ROCKET_DEFAULT: &str = "rocket::Config::default()";

/// How long a master key is, in bytes.
pub(crate) const MASTER_KEY_BYTES: usize = 32;

/// The shortest secret of HS256, in bytes: as long as its hash (RFC 7518 §3.2).
pub(crate) const SECRET_BYTES_MIN: usize = 32;

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Algorithm {
    EdDsa,
    Es256,
    Rs256,
    Hs256,
}

impl Algorithm {
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
    /// The query string. Never for refresh tokens. The server keeps it out of its log; an application's own log may have it,
    /// Rocket's at `log_level = "normal"` among them.
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
    /// Failed log-ins from one address within the window, and as many wrong secrets of clients; 0 switches these limits off.
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

/// A setting in force and where it came from, secrets masked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Explained {
    pub(crate) key: String,
    pub(crate) value: serde_json::Value,
    /// `default`, the path of the file, `environment variable COUNTERFOIL_…`, …
    pub(crate) source: String,
}

impl Settings {
    /// Reads and validates the settings of a Rocket application: `[<profile>.counterfoil]` of its figment, then
    /// `DATABASE_URL`, then `COUNTERFOIL_*`, the later winning. An application whose `DATABASE_URL` is for something else
    /// sets `COUNTERFOIL_DATABASE_URL`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config), in one sentence that names the setting as it was written. Where `ROCKET_CONFIG` names a
    /// file that is not there, which Rocket passes over, too.
    ///
    /// ```
    /// # fn main() -> Result<(), counterfoil::Error> {
    /// let figment = rocket::Config::figment().select("debug").merge(("counterfoil.access_expires", "5m"));
    /// let settings = counterfoil::Settings::from_figment(&figment)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_figment(figment: &figment::Figment) -> Result<Self, Error> {
        read::settings(&mut Reader::from_figment(figment)?)
    }

    /// Settings for a test: the defaults of the debug profile, but for an HS256 secret made at random, a fresh
    /// in-memory SQLite database, passwords that are cheap to hash, and no purge of its own accord.
    ///
    /// # Panics
    ///
    /// Where the crate is built without the feature `sqlite`.
    ///
    pub fn for_tests() -> Self {
        #[expect(
            clippy::expect_used,
            reason = "a test has nobody to hand the error to, and a test holds that there is none"
        )]
        Self::for_tests_with("").expect("the settings for tests are valid")
    }

    /// Settings [for a test](Self::for_tests), with some of your own in TOML, written as they stand in `Rocket.toml`
    /// under `[default.counterfoil]`. The environment is not looked at.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) as for [`from_figment`](Self::from_figment).
    ///
    /// ```
    /// # fn main() -> Result<(), counterfoil::Error> {
    /// let settings = counterfoil::Settings::for_tests_with(
    ///     r#"
    ///     leeway = "30s"
    ///     locations = ["header", "cookie"]
    ///     cookie.secure = false
    ///     "#,
    /// )?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn for_tests_with(toml: &str) -> Result<Self, Error> {
        const DEFAULTS: &str = r#"
            database_url = "sqlite::memory:"
            issuer = "http://localhost"
            password.memory_kib = 8
            password.iterations = 1
            purge.every = "off"
        "#;
        let mut reader = Reader::new(true, 8000);
        reader.add_toml(DEFAULTS, &Origin::Test)?;
        reader.add_toml(toml, &Origin::Test)?;
        if !reader.has("algorithm") && !reader.has_any_below("keys") && !reader.has("master_key") {
            reader.add_text("algorithm", "HS256", Origin::Test);
            let random = || uuid::Uuid::new_v4().simple().to_string();
            reader.add_text("keys.secret", &(random() + &random()), Origin::Test);
        }
        read::settings(&mut reader)
    }

    /// Who issues the tokens: their `iss`, and their `aud` where nothing else is asked for.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Where a request may carry its token, in the order of looking.
    pub fn locations(&self) -> &[Location] {
        &self.locations
    }

    /// Every setting in force, by its key, and where it came from.
    pub(crate) fn explain(figment: &figment::Figment) -> Result<Vec<Explained>, Error> {
        let mut reader = Reader::from_figment(figment)?;
        read::settings(&mut reader)?;
        Ok(reader.into_explained())
    }
}

#[cfg(test)]
mod tests;
