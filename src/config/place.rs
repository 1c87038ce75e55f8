//! What a database's URL says, as sqlx reads it.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;

/// What sqlx knows of PostgreSQL's parameters. It leaves out others with a warning that shows their values, and goes on
/// without what they were to change.
const POSTGRES_PARAMETERS: [&str; 18] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// Where a registry is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this process alone.
    Memory,
    File(PathBuf),
    Server,
}

impl Place {
    pub(crate) fn of(url: &str) -> Self {
        if !url.starts_with("sqlite:") {
            return Self::Server;
        }
        let rest = url.trim_start_matches("sqlite://").trim_start_matches("sqlite:");
        let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        if path == ":memory:" || parameters.split('&').any(|parameter| parameter == "mode=memory") {
            Self::Memory
        } else {
            Self::File(PathBuf::from(&*percent_decode_str(path).decode_utf8_lossy()))
        }
    }
}

/// The name of a parameter of a PostgreSQL URL that nothing knows; an empty one where it may be part of a password with
/// a `?` in it, which makes the URL none.
pub(crate) fn unknown_parameter(url: &str) -> Option<&str> {
    let (_, parameters) = url.split_once('?')?;
    let is_known = |name: &str| {
        name.is_empty() || POSTGRES_PARAMETERS.contains(&name) || name.starts_with("options[") || name.contains('@')
    };
    let mut names = parameters.split('&').filter_map(|parameter| parameter.split('=').next());
    let unknown = names.find(|name| !is_known(name))?;
    Some(if parameters.contains('@') { "" } else { unknown })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_what_sqlx_opens() {
        let file = |path: &str| Place::File(PathBuf::from(path));
        for (url, place) in [
            ("sqlite::memory:", Place::Memory),
            ("sqlite://x.db?mode=memory", Place::Memory),
            ("sqlite://x.db", file("x.db")),
            ("sqlite:x.db?mode=rwc", file("x.db")),
            ("sqlite:///var/lib/my%20dir/x.db", file("/var/lib/my dir/x.db")),
            ("sqlite://", file("")),
            ("postgres://db/x", Place::Server),
        ] {
            assert_eq!(Place::of(url), place, "{url}");
        }
    }

    #[test]
    fn a_parameter_that_nothing_knows_is_found() {
        for (url, unknown) in [
            ("postgres://db/x", None),
            ("postgres://db/x?", None),
            ("postgres://u:p?secret=1@db/x", Some("")),
            ("postgres://db/x?sslmode=verify-full&options[search_path]=tok", None),
            ("postgres://db/x?sslmode=require&ssl_mode=verify-full", Some("ssl_mode")),
            ("postgres://db/x?Password=hunter2", Some("Password")),
        ] {
            assert_eq!(unknown_parameter(url), unknown, "{url}");
        }
    }
}
