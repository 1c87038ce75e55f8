//! Every setting, with its default and its bounds. The keys stand here and nowhere else.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::source::Reader;
use super::{
    AcceptedKey, Algorithm, Check, Consistency, ConsoleSettings, CookieSettings, CorsSettings, CsrfSettings,
    FeedSettings, FirstAdmin, HeaderSettings, JsonSettings, KeySettings, Location, LogFormat, LoginSettings,
    OperationsSettings, PasswordSettings, PurgeSettings, RefreshSettings, SECRET_BYTES_MIN, SameSite, Secret,
    SessionSettings, Settings, WhenFull, validate,
};
use crate::error::Error;

const MASK: &str = "********";

const CONSISTENCIES: &[(&str, Consistency)] = &[("leased", Consistency::Leased), ("strict", Consistency::Strict)];

const LOCATIONS: &[(&str, Location)] =
    &[("header", Location::Header), ("cookie", Location::Cookie), ("query", Location::Query), ("json", Location::Json)];

const METHODS: &[(&str, &str)] = &[
    ("GET", "GET"),
    ("HEAD", "HEAD"),
    ("OPTIONS", "OPTIONS"),
    ("POST", "POST"),
    ("PUT", "PUT"),
    ("PATCH", "PATCH"),
    ("DELETE", "DELETE"),
];

const MEBIBYTE: u32 = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// No duration is longer: beyond ten years a setting is a slip.
const LONGEST: Duration = Duration::from_secs(3_650 * 24 * 60 * 60);

/// Reads and validates every setting.
pub(super) fn settings(reader: &mut Reader) -> Result<Settings, Error> {
    let settings = read(reader)?;
    reader.refuse_unknown()?;
    validate::validate(reader, &settings)?;
    Ok(settings)
}

fn read(r: &mut Reader) -> Result<Settings, Error> {
    let is_debug = r.is_debug;
    let database_url =
        r.secret(Some("database_url"), "database_url_file", Some("sqlite://counterfoil.db"), mask_url)?;
    let default_issuer = format!("http://localhost:{}", r.port);
    // An unknown key is the likelier slip where a required one is missing, so that is left to the validation.
    let issuer = r.text_or_empty("issuer", if is_debug { &default_issuer } else { "" })?;
    let cookie_path = r.text("cookie.path", "/")?;
    let algorithms = Algorithm::ALL.map(|algorithm| (algorithm.name(), algorithm));
    Ok(Settings {
        database_url: database_url.map(|url| url.0).unwrap_or_default(),
        database_pool: r.number("database_pool", 10, 1..=1_000)?,
        migrate: r.flag("migrate", true)?,
        issuer,
        audience: r.texts("audience")?,
        leeway: r.seconds("leeway", Duration::ZERO, Duration::ZERO..=5 * MINUTE)?,
        algorithm: r.choice("algorithm", Algorithm::EdDsa, &algorithms)?,
        keys: keys(r)?,
        master_key: r.secret(Some("master_key"), "master_key_file", None, mask)?,
        master_key_old: r.secret(Some("master_key_old"), "master_key_old_file", None, mask)?,
        jwks_max_age: r.seconds("jwks_max_age", 5 * MINUTE, Duration::ZERO..=DAY)?,
        access_expires: r.seconds("access_expires", 15 * MINUTE, SECOND..=LONGEST)?,
        refresh_expires: r.seconds("refresh_expires", 30 * DAY, SECOND..=LONGEST)?,
        refresh: RefreshSettings {
            rotation: r.flag("refresh.rotation", true)?,
            grace: r.seconds("refresh.grace", 10 * SECOND, Duration::ZERO..=10 * MINUTE)?,
            max_age: r.seconds("refresh.max_age", 365 * DAY, SECOND..=LONGEST)?,
        },
        sessions: SessionSettings {
            max: r.number_or_off("sessions.max", None, 1..=10_000)?,
            when_full: r.choice(
                "sessions.when_full",
                WhenFull::Refuse,
                &[("refuse", WhenFull::Refuse), ("end_oldest", WhenFull::EndOldest)],
            )?,
        },
        issue_max_access_expires: r.seconds("issue.max_access_expires", DAY, SECOND..=LONGEST)?,
        issue_max_refresh_expires: r.seconds("issue.max_refresh_expires", 90 * DAY, SECOND..=LONGEST)?,
        personal_max_expires: r.seconds("personal.max_expires", 365 * DAY, SECOND..=LONGEST)?,
        check: r.choice("check", Check::All, &[("all", Check::All), ("refresh", Check::Refresh)])?,
        locations: r.choices("locations", &[Location::Header], LOCATIONS)?,
        header: HeaderSettings {
            name: r.text("header.name", "Authorization")?,
            scheme: r.text_or_empty("header.scheme", "Bearer")?,
        },
        query_name: r.text("query.name", "jwt")?,
        json: JsonSettings {
            access_name: r.text("json.access_name", "access_token")?,
            refresh_name: r.text("json.refresh_name", "refresh_token")?,
        },
        cookie: cookie(r, &cookie_path)?,
        csrf: csrf(r, &cookie_path)?,
        identity_claim: r.optional_text("identity_claim")?,
        last_used: r.duration_or_off("last_used", None, SECOND..=DAY)?,
        consistency: r.choice("consistency", Consistency::Leased, CONSISTENCIES)?,
        lease: r.duration("lease", 2 * SECOND, Duration::from_millis(100)..=MINUTE)?,
        poll: r.duration("poll", Duration::from_millis(20), Duration::from_millis(1)..=10 * SECOND)?,
        listen: r.flag("listen", true)?,
        cache_bytes: r.number("cache_bytes", 64 * MEBIBYTE, MEBIBYTE..=u32::MAX)?.into(),
        purge: PurgeSettings {
            every: r.duration_or_off("purge.every", Some(10 * MINUTE), SECOND..=30 * DAY)?,
            retain: r.seconds("purge.retain", Duration::ZERO, Duration::ZERO..=LONGEST)?,
            batch_rows: r.number("purge.batch", 500, 1..=100_000)?,
            pause: r.duration("purge.pause", Duration::from_millis(800), Duration::ZERO..=MINUTE)?,
            budget: r.duration("purge.budget", 9 * MINUTE, SECOND..=DAY)?,
        },
        audit_retain: r.seconds("audit.retain", 365 * DAY, DAY..=LONGEST)?,
        feed: FeedSettings {
            retain: r.seconds("feed.retain", DAY, MINUTE..=LONGEST)?,
            streams: r.number("feed.streams", 100, 1..=100_000)?,
            heartbeat: r.duration("feed.heartbeat", 15 * SECOND, SECOND..=MINUTE)?,
        },
        cors: CorsSettings {
            origins: r.texts("cors.origins")?,
            max_age: r.seconds("cors.max_age", 10 * MINUTE, Duration::ZERO..=DAY)?,
        },
        password: password(r)?,
        login: LoginSettings {
            limit: r.number("login.limit", 10, 0..=100_000)?,
            address_limit: r.number("login.address_limit", 100, 0..=1_000_000)?,
            window: r.duration("login.window", 15 * MINUTE, SECOND..=DAY)?,
        },
        ip_header: r.header_or_false("ip_header")?,
        first_admin: r.choice(
            "first_admin",
            FirstAdmin::Print,
            &[("print", FirstAdmin::Print), ("off", FirstAdmin::Off)],
        )?,
        first_admin_password: r.secret(None, "first_admin_password_file", None, mask)?,
        console: ConsoleSettings {
            enabled: r.flag("console.enabled", true)?,
            expires: r.seconds("console.expires", 12 * HOUR, MINUTE..=30 * DAY)?,
        },
        operations: OperationsSettings {
            metrics: r.flag("operations.metrics", true)?,
            openapi: r.flag("operations.openapi", true)?,
            docs: r.flag("operations.docs", true)?,
            address: r.optional_address("operations.address")?,
            port: r.optional_port("operations.port")?,
        },
        log: r.choice("log", LogFormat::Text, &[("text", LogFormat::Text), ("json", LogFormat::Json)])?,
        body_limit: r.number("body_limit", 65_536, 1_024..=64 * 1_024 * 1_024)?.into(),
    })
}

fn keys(r: &mut Reader) -> Result<KeySettings, Error> {
    let is_debug = r.is_debug;
    Ok(KeySettings {
        file: r.path("keys.file")?,
        secret: r.secret(Some("keys.secret"), "keys.secret_file", None, mask)?,
        generate: r.flag("keys.generate", is_debug)?,
        generated_file: r.path("keys.generated_file")?,
        accept: accepted(r)?,
        allow_well_known: r.flag("keys.allow_well_known", is_debug)?,
        rotate_every: r.duration_or_off("keys.rotate_every", None, SECOND..=LONGEST)?,
    })
}

/// An item of `keys.accept` as written.
enum Accept {
    File(PathBuf, Option<Algorithm>),
    Secret(String),
    SecretFile(PathBuf),
}

fn accepted(r: &mut Reader) -> Result<Vec<AcceptedKey>, Error> {
    const KEY: &str = "keys.accept";
    let must = "must be a list of key files, such as [\"old.pem\", {file = \"old.pem\", algorithm = \"RS256\"}, \
                {secret_file = \"old.secret\"}, {secret = \"…\"}], in the environment as JSON";
    let show = |accept: &Accept| match accept {
        Accept::File(path, None) => json!(path),
        Accept::File(path, Some(algorithm)) => json!({ "file": path, "algorithm": algorithm.name() }),
        Accept::Secret(secret) => json!({ "secret": mask(secret) }),
        Accept::SecretFile(path) => json!({ "secret_file": path }),
    };
    let accepted = r.items(KEY, must, accept, show)?;
    let keys = accepted.into_iter().map(|accept| match accept {
        Accept::File(path, algorithm) => Ok(AcceptedKey::File { path, algorithm }),
        Accept::Secret(secret) => Ok(AcceptedKey::Secret(Secret(secret))),
        Accept::SecretFile(path) => match r.secret_file(KEY, &path)? {
            secret if secret.len() < SECRET_BYTES_MIN => {
                Err(r.refuse(KEY, format!("names {}, which must have at least 32 bytes", path.display())))
            }
            secret => Ok(AcceptedKey::Secret(Secret(secret))),
        },
    });
    keys.collect()
}

fn accept(item: &Value) -> Option<Accept> {
    let members = match item {
        Value::String(path) => return Some(Accept::File(path.into(), None)),
        Value::Object(members) => members,
        _ => return None,
    };
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    match (members.len(), text("file"), text("algorithm"), text("secret"), text("secret_file")) {
        (1, Some(path), None, None, None) => Some(Accept::File(path.into(), None)),
        (2, Some(path), Some(name), None, None) => Some(Accept::File(path.into(), Some(Algorithm::named(name)?))),
        (1, None, None, Some(secret), None) => Some(Accept::Secret(secret.to_owned())),
        (1, None, None, None, Some(path)) => Some(Accept::SecretFile(path.into())),
        _ => None,
    }
}

fn cookie(r: &mut Reader, path: &str) -> Result<CookieSettings, Error> {
    const SAME_SITE: &[(&str, SameSite)] =
        &[("Strict", SameSite::Strict), ("Lax", SameSite::Lax), ("None", SameSite::None)];
    Ok(CookieSettings {
        secure: r.flag("cookie.secure", true)?,
        same_site: r.choice("cookie.same_site", SameSite::Lax, SAME_SITE)?,
        domain: r.optional_text("cookie.domain")?,
        access_name: r.text("cookie.access_name", "access_token_cookie")?,
        refresh_name: r.text("cookie.refresh_name", "refresh_token_cookie")?,
        access_path: r.text("cookie.access_path", path)?,
        refresh_path: r.text("cookie.refresh_path", path)?,
        session: r.flag("cookie.session", false)?,
    })
}

fn csrf(r: &mut Reader, path: &str) -> Result<CsrfSettings, Error> {
    // Scripts read these cookies wherever in the application they run, so they follow the common path and not those of
    // the token cookies.
    let methods = r.choices("csrf_methods", &["POST", "PUT", "PATCH", "DELETE"], METHODS)?;
    Ok(CsrfSettings {
        enabled: r.flag("csrf", true)?,
        methods: methods.into_iter().map(str::to_owned).collect(),
        header_name: r.text("csrf_header", "X-CSRF-TOKEN")?,
        access_cookie_name: r.text("cookie.csrf_access_name", "csrf_access_token")?,
        refresh_cookie_name: r.text("cookie.csrf_refresh_name", "csrf_refresh_token")?,
        access_cookie_path: r.text("cookie.csrf_access_path", path)?,
        refresh_cookie_path: r.text("cookie.csrf_refresh_path", path)?,
    })
}

/// The defaults are those OWASP recommends for Argon2id.
fn password(r: &mut Reader) -> Result<PasswordSettings, Error> {
    let cores = std::thread::available_parallelism().ok().and_then(|cores| cores.get().try_into().ok()).unwrap_or(1);
    Ok(PasswordSettings {
        memory_kib: r.number("password.memory_kib", 19_456, 8..=4_194_304)?,
        iterations: r.number("password.iterations", 2, 1..=1_000)?,
        parallelism: r.number("password.parallelism", 1, 1..=64)?,
        concurrency: r.number("password.concurrency", cores, 1..=1_024)?,
        chars_min: r.number("password.chars_min", 8, 1..=128)?,
    })
}

fn mask(_: &str) -> String {
    MASK.to_owned()
}

/// Hides the password of a database URL, wherever it stands in it. What is in doubt is hidden too.
fn mask_url(url: &str) -> String {
    let credentials = url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?)));
    let shown = match credentials {
        // It may be in the password that is an option, which then goes on behind it.
        Some((scheme, (before, _))) if before.split('&').any(|part| password_at(part).is_some()) => {
            return format!("{scheme}://{MASK}");
        }
        Some((scheme, (user, host))) if user.contains(':') => {
            let name = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{name}:{MASK}@{host}")
        }
        _ => url.to_owned(),
    };
    let hidden = shown.split('&').map(|part| match password_at(part) {
        Some(at) => format!("{}{MASK}", &part[..at]),
        None => part.to_owned(),
    });
    hidden.collect::<Vec<_>>().join("&")
}

/// Where in a part of a URL between two `&` the password begins that it has as an option.
fn password_at(part: &str) -> Option<usize> {
    const OPTION: &str = "password=";
    let lower = part.to_ascii_lowercase();
    if lower.starts_with(OPTION) {
        return Some(OPTION.len());
    }
    lower.find(&format!("?{OPTION}")).map(|at| at + 1 + OPTION.len())
}
