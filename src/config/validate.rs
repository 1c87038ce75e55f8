//! What makes no sense, alone or together. Every refusal names the setting as it was written and says what to do.

use std::path::PathBuf;

use super::place::{Place, unknown_parameter};
use super::source::Reader;
use super::{
    Algorithm, CONSOLE_COOKIE, HOST_PREFIX, Location, MASTER_KEY_BYTES, SECRET_BYTES_MIN, SameSite, Secret, Settings,
};
use crate::error::Error;
use crate::token::{RESERVED, is_console_audience};

/// The longest issuer or audience, in bytes.
const NAME_BYTES_MAX: usize = 255;

pub(super) fn validate(r: &Reader, settings: &Settings) -> Result<(), Error> {
    database(r, settings)?;
    names(r, settings)?;
    keys(r, settings)?;
    sealed_keys(r, settings)?;
    if settings.access_expires > settings.refresh_expires {
        return Err(if r.has("access_expires") {
            r.refuse("access_expires", format!("must not be longer than {}", r.name("refresh_expires")))
        } else {
            r.refuse("refresh_expires", "must not be shorter than access_expires")
        });
    }
    if settings.refresh.max_age < settings.refresh_expires {
        let must = format!("must not be shorter than {}", r.name("refresh_expires"));
        return Err(r.refuse("refresh.max_age", must));
    }
    if settings.poll > settings.lease / 4 {
        return Err(r.refuse("poll", format!("must be at most a quarter of {}", r.name("lease"))));
    }
    if settings.locations.is_empty() {
        return Err(r.refuse("locations", "must not be empty: without a location no token is ever found"));
    }
    fields(r, settings)?;
    cookies(r, settings)?;
    cors(r, settings)?;
    if settings.password.memory_kib < 8 * settings.password.parallelism {
        return Err(r.refuse("password.memory_kib", "must be at least 8 times password.parallelism (RFC 9106 §3.1)"));
    }
    if settings.operations.address.is_some() && settings.operations.port.is_none() {
        return Err(r.refuse("operations.address", "needs operations.port: without it the server's own address serves"));
    }
    if settings.operations.port == Some(r.port) && settings.operations.address.is_none() {
        return Err(r.refuse("operations.port", "is the server's own port: leave it out, or take another"));
    }
    Ok(())
}

fn database(r: &Reader, settings: &Settings) -> Result<(), Error> {
    let key = if r.has("database_url") || !r.has("database_url_file") { "database_url" } else { "database_url_file" };
    let is = |scheme: &str| settings.database_url.starts_with(scheme);
    let (is_postgres, is_sqlite) = (is("postgres://") || is("postgresql://"), is("sqlite:"));
    // An application may have a DATABASE_URL of its own, and not know that it is read here.
    let instead = if r.is_from_database_url() {
        "; where it is meant for something else, set COUNTERFOIL_DATABASE_URL"
    } else {
        ""
    };
    if !is_postgres && !is_sqlite {
        return Err(r.refuse(key, format_args!("must start with postgres:// or sqlite://{instead}")));
    }
    if (is_postgres && cfg!(not(feature = "postgres"))) || (is_sqlite && cfg!(not(feature = "sqlite"))) {
        let must = "names a database that this build leaves out: build it with that feature";
        return Err(r.refuse(key, format_args!("{must}{instead}")));
    }
    if Place::of(&settings.database_url) == Place::File(PathBuf::new()) {
        return Err(r.refuse(key, "names no file: sqlite://<path>"));
    }
    if is_postgres && let Some(name) = unknown_parameter(&settings.database_url) {
        return Err(r.refuse(key, format_args!("has a parameter that is not known: {name}")));
    }
    Ok(())
}

fn names(r: &Reader, settings: &Settings) -> Result<(), Error> {
    if settings.issuer.is_empty() {
        return Err(r.refuse("issuer", "must be set outside the debug profile, to the address of this server"));
    }
    let must = "must be a name or a URI (RFC 7519 StringOrURI) of at most 255 bytes without spaces";
    if !is_string_or_uri(&settings.issuer) {
        return Err(r.refuse("issuer", must));
    }
    if !settings.audience.iter().all(|audience| is_string_or_uri(audience)) {
        return Err(r.refuse("audience", must));
    }
    if settings.audience.iter().any(|audience| is_console_audience(audience, &settings.issuer)) {
        return Err(r.refuse("audience", "must not be that of the console, whose tokens open nothing else"));
    }
    if settings.audience.iter().enumerate().any(|(i, audience)| settings.audience[..i].contains(audience)) {
        return Err(r.refuse("audience", "must not name one audience twice"));
    }
    if settings.identity_claim.as_deref().is_some_and(|name| RESERVED.contains(&name)) {
        return Err(r.refuse("identity_claim", "must not be the name of a claim that has a meaning of its own"));
    }
    Ok(())
}

/// RFC 7519 §2: any text, but what has a colon is a URI.
fn is_string_or_uri(text: &str) -> bool {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    };
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && !text.chars().any(|c| c.is_control() || c.is_whitespace())
        && text.split_once(':').is_none_or(|(scheme, _)| is_scheme(scheme))
}

fn keys(r: &Reader, settings: &Settings) -> Result<(), Error> {
    let keys = &settings.keys;
    let secret = if r.has("keys.secret") { "keys.secret" } else { "keys.secret_file" };
    let is_symmetric = settings.algorithm == Algorithm::Hs256;
    if is_symmetric && keys.file.is_some() {
        return Err(r.refuse("keys.file", "has no use with HS256: set keys.secret_file, or another algorithm"));
    }
    if !is_symmetric && keys.secret.is_some() {
        return Err(
            r.refuse(secret, format!("is for HS256, and {} is {}", r.name("algorithm"), settings.algorithm.name()))
        );
    }
    if keys.secret.as_ref().is_some_and(|secret| secret.0.len() < SECRET_BYTES_MIN) {
        return Err(r.refuse(secret, "must have at least 32 bytes: `openssl rand -hex 32` makes one"));
    }
    if keys.generated_file.is_some() && (keys.file.is_some() || keys.secret.is_some()) {
        return Err(r.refuse("keys.generated_file", "has no use where the key is given: leave it out"));
    }
    if r.has("keys.generated_file") && !keys.generate {
        return Err(r.refuse("keys.generated_file", "has no use without keys.generate = true"));
    }
    Ok(())
}

/// What has to do with keys in the database.
fn sealed_keys(r: &Reader, settings: &Settings) -> Result<(), Error> {
    let master_keys = [
        ("master_key", "master_key_file", &settings.master_key),
        ("master_key_old", "master_key_old_file", &settings.master_key_old),
    ];
    for (key, key_file, secret) in master_keys {
        if secret.as_ref().is_some_and(|secret| !is_master_key(secret)) {
            let key = if r.has(key) { key } else { key_file };
            return Err(r.refuse(key, "must be 32 bytes in hexadecimal digits: `openssl rand -hex 32` makes one"));
        }
    }
    let old = if r.has("master_key_old") { "master_key_old" } else { "master_key_old_file" };
    if settings.master_key.is_none() {
        if settings.master_key_old.is_some() {
            return Err(r.refuse(old, "has no use without master_key, under which keys are sealed"));
        }
        if settings.keys.rotate_every.is_some() {
            return Err(r.refuse("keys.rotate_every", "needs master_key: keys in files are not rotated"));
        }
        return Ok(());
    }
    if settings.master_key == settings.master_key_old {
        return Err(r.refuse(old, "must differ from master_key"));
    }
    let files = ["keys.file", "keys.secret", "keys.secret_file", "keys.generated_file"];
    if let Some(key) = files.into_iter().find(|key| r.has(key)) {
        let master_key = if r.has("master_key") { "master_key" } else { "master_key_file" };
        let must = format!("and {} can't both be set: keys are either given or in the database", r.name(master_key));
        return Err(r.refuse(key, must));
    }
    if settings.keys.rotate_every.is_some_and(|every| every <= settings.jwks_max_age) {
        return Err(r.refuse("keys.rotate_every", format!("must be longer than {}", r.name("jwks_max_age"))));
    }
    Ok(())
}

fn is_master_key(secret: &Secret) -> bool {
    secret.0.len() == 2 * MASTER_KEY_BYTES && secret.0.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn fields(r: &Reader, settings: &Settings) -> Result<(), Error> {
    let header_names = [("header.name", &settings.header.name), ("csrf_header", &settings.csrf.header_name)];
    let ip_header = settings.ip_header.iter().filter(|name| !name.is_empty()).map(|name| ("ip_header", name));
    for (key, name) in header_names.into_iter().chain(ip_header) {
        if !is_token(name) {
            return Err(r.refuse(key, "must be the name of a header"));
        }
    }
    if settings.header.name.eq_ignore_ascii_case(&settings.csrf.header_name) {
        return Err(r.refuse("csrf_header", format!("must differ from {}", r.name("header.name"))));
    }
    if !settings.header.scheme.is_empty() && !is_token(&settings.header.scheme) {
        return Err(r.refuse("header.scheme", "must be one word, such as \"Bearer\", or empty"));
    }
    if settings.json.access_name == settings.json.refresh_name {
        return Err(r.refuse("json.refresh_name", format!("must differ from {}", r.name("json.access_name"))));
    }
    Ok(())
}

fn cookies(r: &Reader, settings: &Settings) -> Result<(), Error> {
    let (cookie, csrf) = (&settings.cookie, &settings.csrf);
    if cookie.same_site == SameSite::None && !cookie.secure {
        return Err(
            r.refuse("cookie.same_site", "can be None only with cookie.secure = true: browsers drop such cookies")
        );
    }
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if cookie.domain.as_deref().is_some_and(|domain| !domain.chars().all(is_host)) {
        return Err(r.refuse("cookie.domain", "must be a host name, such as \"example.com\""));
    }
    let cookies = [
        ("cookie.access_name", &cookie.access_name, "cookie.access_path", &cookie.access_path),
        ("cookie.refresh_name", &cookie.refresh_name, "cookie.refresh_path", &cookie.refresh_path),
        ("cookie.csrf_access_name", &csrf.access_cookie_name, "cookie.csrf_access_path", &csrf.access_cookie_path),
        ("cookie.csrf_refresh_name", &csrf.refresh_cookie_name, "cookie.csrf_refresh_path", &csrf.refresh_cookie_path),
    ];
    for (i, (key, name, path_key, path)) in cookies.into_iter().enumerate() {
        if !is_token(name) {
            return Err(r.refuse(key, "must be the name of a cookie: letters, digits, - and _"));
        }
        if name.strip_prefix(HOST_PREFIX).unwrap_or(name).starts_with(CONSOLE_COOKIE) {
            return Err(r.refuse(key, format!("must not begin with {CONSOLE_COOKIE}, as the console's own cookies do")));
        }
        if let Some((other, ..)) = cookies[..i].iter().find(|(_, other, ..)| *other == name) {
            return Err(r.refuse(key, format!("must differ from {}", r.name(other))));
        }
        // The path may come from the common one.
        let path_key = if r.has(path_key) { path_key } else { "cookie.path" };
        if !path.starts_with('/') || path.chars().any(|c| c == ';' || c.is_control()) {
            return Err(r.refuse(path_key, "must be a path that starts with /"));
        }
        // RFC 6265bis §4.1.3: browsers drop such a cookie where it is not as its name promises, in whatever case.
        let prefixed = name.to_ascii_lowercase();
        if prefixed.starts_with("__secure-") && !cookie.secure {
            return Err(r.refuse(key, "needs cookie.secure = true for its prefix __Secure-"));
        }
        if ["__http-", "__host-http-"].iter().any(|prefix| prefixed.starts_with(prefix)) {
            return Err(
                r.refuse(key, "must not begin with __Http- or __Host-Http-, which is not for all of these cookies")
            );
        }
        if prefixed.starts_with("__host-") && (!cookie.secure || cookie.domain.is_some() || path != "/") {
            return Err(
                r.refuse(key, "needs cookie.secure = true, the path / and no cookie.domain for its prefix __Host-")
            );
        }
    }
    if csrf.enabled && csrf.methods.is_empty() {
        return Err(r.refuse("csrf_methods", "must not be empty: to switch the protection off set csrf = false"));
    }
    Ok(())
}

fn cors(r: &Reader, settings: &Settings) -> Result<(), Error> {
    const KEY: &str = "cors.origins";
    let origins = &settings.cors.origins;
    if origins.iter().any(|origin| origin == "*") {
        if settings.locations.contains(&Location::Cookie) {
            let must = "must name the origins where locations has \"cookie\": with \"*\" any page could act for whoever visits it";
            return Err(r.refuse(KEY, must));
        }
        if origins.len() > 1 {
            return Err(r.refuse(KEY, "must be \"*\" alone, or name the origins"));
        }
        return Ok(());
    }
    if let Some(origin) = origins.iter().find(|origin| !is_origin(origin)) {
        return Err(r.refuse(
            KEY,
            format_args!("must be origins as browsers write them, such as \"https://app.example\", not {origin:?}"),
        ));
    }
    if origins.iter().enumerate().any(|(i, origin)| origins[..i].contains(origin)) {
        return Err(r.refuse(KEY, "must not name one origin twice"));
    }
    Ok(())
}

/// `scheme://host[:port]` as the header `Origin` has it: in lower case, without the scheme's own port, and without a
/// path.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_'))
        }
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port);
    is_scheme
        && is_host
        && port.is_none_or(is_port)
        && !matches!((scheme, port), ("http", Some("80")) | ("https", Some("443")))
}

/// A token of RFC 9110 §5.6.2, as the names of headers, schemes and cookies are.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
