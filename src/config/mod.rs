//! Settings, from `Rocket.toml` and the environment: what there is, its defaults, and what makes no sense.

mod groups;
mod place;
mod read;
mod source;
mod typed;
mod validate;

use std::time::Duration;

pub use self::groups::Location;
pub(crate) use self::groups::{
    AcceptedKey, Algorithm, Check, Consistency, ConsoleSettings, CookieSettings, CorsSettings, CsrfSettings,
    FeedSettings, FirstAdmin, HeaderSettings, JsonSettings, KeySettings, LogFormat, LoginSettings, OperationsSettings,
    PasswordSettings, PurgeSettings, RefreshSettings, SameSite, SessionSettings, WhenFull,
};
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

/// What the names of cookies begin with that browsers take from the very host alone: with `Secure`, for the path `/`,
/// and without a `Domain` (RFC 6265bis §4.1.3.2).
pub(crate) const HOST_PREFIX: &str = "__Host-";

/// What a figment says of a value that nobody has set, and which is Rocket's own.
pub(crate) const ROCKET_DEFAULT: &str = "rocket::Config::default()";

/// How long a master key is, in bytes.
pub(crate) const MASTER_KEY_BYTES: usize = 32;

/// The shortest secret of HS256, in bytes: as long as its hash (RFC 7518 §3.2).
pub(crate) const SECRET_BYTES_MIN: usize = 32;

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
    /// `DATABASE_URL`, then `COUNTERFOIL_*`, the later winning. An application whose `DATABASE_URL` is for something
    /// else sets `COUNTERFOIL_DATABASE_URL`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config), in one sentence that names the setting as it was written. Where `ROCKET_CONFIG`
    /// names a file that is not there, which Rocket passes over, too.
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
