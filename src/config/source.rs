//! Where settings are written: one flat table of dotted keys, each with its origin.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use figment::Figment;
use figment::providers::{Env, Format, Toml};
use figment::value::Dict;
use serde_json::Value;

use super::{Explained, ROCKET_DEFAULT};
use crate::error::Error;

/// The table in `Rocket.toml`.
const TABLE: &str = "counterfoil";

/// What the names of our environment variables begin with.
const PREFIX: &str = "COUNTERFOIL_";

/// A setting that Rocket has too.
const IP_HEADER: &str = "ip_header";

/// What names the file in the place of `Rocket.toml`.
const ROCKET_CONFIG: &str = "ROCKET_CONFIG";

/// Variables with that prefix which are no settings: for the command line, and for the project's own scripts and tests.
const OTHER_VARIABLES: [&str; 2] = ["COUNTERFOIL_PREPARE_URL", "COUNTERFOIL_USER_PASSWORD"];
const OTHER_VARIABLES_PREFIX: &str = "COUNTERFOIL_TEST_";

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A file, or whatever else the application put in its figment.
    Figment(String),
    /// An environment variable, by its name.
    Environment(String),
    /// The settings of a test.
    Test,
}

impl Origin {
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Figment(_) | Self::Test => 0,
            Self::Environment(name) if name == "DATABASE_URL" => 1,
            Self::Environment(_) => 2,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Figment(name) => name.clone(),
            Self::Environment(name) => format!("environment variable {name}"),
            Self::Test => "test".to_owned(),
        }
    }
}

/// A value as it was written. What the environment holds is text, and what kind of value it is depends on the setting:
/// a secret of digits is still a secret.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// Hands out the settings one by one, and remembers which it was asked for.
#[derive(Debug)]
pub(super) struct Reader {
    /// Whether this is Rocket's debug profile.
    pub(super) is_debug: bool,
    /// The port that Rocket listens on.
    pub(super) port: u16,
    written: BTreeMap<String, Written>,
    explained: Vec<Explained>,
    known: BTreeSet<&'static str>,
}

impl Reader {
    pub(super) fn new(is_debug: bool, port: u16) -> Self {
        Self { is_debug, port, written: BTreeMap::new(), explained: Vec::new(), known: BTreeSet::new() }
    }

    /// The settings of this figment and of the environment of this process.
    pub(super) fn from_figment(figment: &Figment) -> Result<Self, Error> {
        refuse_missing_file(Env::var(ROCKET_CONFIG).as_deref())?;
        Self::from_sources(figment, std::env::vars_os().map(|(name, value)| (lossless(name), lossless(value))))
    }

    pub(super) fn from_sources(
        figment: &Figment,
        environment: impl Iterator<Item = (Option<String>, Option<String>)>,
    ) -> Result<Self, Error> {
        let port = figment.extract_inner("port").unwrap_or(8000);
        let mut reader = Self::new(*figment.profile() == "debug", port);
        reader.add_ip_header(figment);
        reader.add_figment(figment)?;
        for (name, value) in environment {
            let Some(name) = name else { continue };
            let key = if name == "DATABASE_URL" {
                "database_url".to_owned()
            } else {
                match name.strip_prefix(PREFIX) {
                    Some(_) if OTHER_VARIABLES.contains(&name.as_str()) || name.starts_with(OTHER_VARIABLES_PREFIX) => {
                        continue;
                    }
                    Some(key) => key.to_lowercase().replace("__", "."),
                    None => continue,
                }
            };
            let value = value.ok_or_else(|| Error::config(format!("{name} must be UTF-8")))?;
            reader.add_text(&key, &value, Origin::Environment(name));
        }
        Ok(reader)
    }

    /// Rocket's own key of this name, which is as good where ours is not written. Rocket's default is not: it believes
    /// a header that any caller can send.
    fn add_ip_header(&mut self, figment: &Figment) {
        if let Ok(value) = figment.find_value(IP_HEADER)
            && figment.get_metadata(value.tag()).is_some_and(|metadata| metadata.name != ROCKET_DEFAULT)
            && let Ok(json) = serde_json::to_value(&value)
        {
            self.add(IP_HEADER.to_owned(), json, origin_of(figment, &value));
        }
    }

    fn add_figment(&mut self, figment: &Figment) -> Result<(), Error> {
        // The name of a table at the top is that of a profile.
        if figment.profile() != TABLE && figment.profiles().any(|profile| profile == TABLE) {
            return Err(Error::config(format!("[{TABLE}] would be read by nobody: write [default.{TABLE}]")));
        }
        match figment.find_value(TABLE) {
            Ok(figment::value::Value::Dict(_, table)) => self.add_table("", &table, &|value| origin_of(figment, value)),
            Ok(_) => Err(Error::config(format!("{TABLE} must be a table, such as [default.{TABLE}]"))),
            Err(error) if error.missing() => Ok(()),
            // The file is no TOML, or its tables are no profiles.
            Err(error) => Err(unreadable(&error)),
        }
    }

    /// Adds what a `[….counterfoil]` table holds.
    pub(super) fn add_toml(&mut self, toml: &str, origin: &Origin) -> Result<(), Error> {
        let table: Dict = Figment::from(Toml::string(toml)).extract().map_err(|error| unreadable(&error))?;
        self.add_table("", &table, &|_| origin.clone())
    }

    fn add_table(
        &mut self,
        above: &str,
        table: &Dict,
        origin: &dyn Fn(&figment::value::Value) -> Origin,
    ) -> Result<(), Error> {
        for (name, value) in table {
            let key = format!("{above}{name}");
            if let figment::value::Value::Dict(_, table) = value {
                self.add_table(&format!("{key}."), table, origin)?;
            } else {
                let json = serde_json::to_value(value)
                    .map_err(|error| Error::config(format!("{key} can't be read")).with_source(error))?;
                self.add(key, json, origin(value));
            }
        }
        Ok(())
    }

    pub(super) fn add_text(&mut self, key: &str, value: &str, origin: Origin) {
        self.add(key.to_owned(), value.into(), origin);
    }

    fn add(&mut self, key: String, value: Value, origin: Origin) {
        if self.written.get(&key).is_none_or(|before| before.origin.rank() <= origin.rank()) {
            self.written.insert(key, Written { value, origin });
        }
    }

    /// Whether this setting was written anywhere.
    pub(super) fn has(&self, key: &str) -> bool {
        self.written.contains_key(key)
    }

    /// Whether any setting of this group was written anywhere.
    pub(super) fn has_any_below(&self, group: &str) -> bool {
        self.written.keys().any(|key| key.strip_prefix(group).is_some_and(|rest| rest.starts_with('.')))
    }

    /// The setting as whoever wrote it knows it.
    pub(super) fn name(&self, key: &str) -> String {
        match self.written.get(key).map(|written| &written.origin) {
            Some(Origin::Environment(name)) => name.clone(),
            _ => key.to_owned(),
        }
    }

    /// The refusal of a setting; `must` follows its name.
    pub(super) fn refuse(&self, key: &str, must: impl std::fmt::Display) -> Error {
        Error::config(format!("{} {must}", self.name(key)))
    }

    /// Whether the database is that of `DATABASE_URL`, which other programs read too.
    pub(super) fn is_from_database_url(&self) -> bool {
        self.written.get("database_url").is_some_and(|written| written.origin.rank() == 1)
    }

    /// Refuses what was written and not asked for.
    pub(super) fn refuse_unknown(&self) -> Result<(), Error> {
        let Some((key, written)) = self.written.iter().find(|(key, _)| !self.known.contains(key.as_str())) else {
            return Ok(());
        };
        let variable = |key: &str| format!("{PREFIX}{}", key.replace('.', "__").to_uppercase());
        let near = self
            .known
            .iter()
            .map(|known| (strsim::normalized_damerau_levenshtein(known, key), known))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(likeness, _)| *likeness >= 0.6);
        let (name, near) = match &written.origin {
            Origin::Environment(name) => (name.clone(), near.map(|(_, near)| variable(near))),
            _ => (key.clone(), near.map(|(_, near)| (*near).to_owned())),
        };
        Err(Error::config(match near {
            Some(near) => format!("{name} is not a setting; did you mean {near}?"),
            None => format!("{name} is not a setting; docs/settings.md lists those that are"),
        }))
    }

    pub(super) fn into_explained(self) -> Vec<Explained> {
        self.explained
    }

    /// What was written for this setting, which is from now on known.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Written> {
        self.known.insert(key);
        self.written.get(key).cloned()
    }

    pub(super) fn explain(&mut self, key: &'static str, value: impl Into<Value>, origin: Option<&Origin>) {
        let source = origin.map_or_else(|| "default".to_owned(), Origin::describe);
        self.explained.push(Explained { key: key.to_owned(), value: value.into(), source });
    }
}

/// Rocket goes on without the file where it is not there: whoever named it would get the settings of nobody. It is
/// looked for as Rocket does, in the directories above too.
fn refuse_missing_file(named: Option<&str>) -> Result<(), Error> {
    let Some(named) = named else { return Ok(()) };
    let is_there = std::env::current_dir().is_ok_and(|here| here.ancestors().any(|above| above.join(named).is_file()));
    match is_there {
        true => Ok(()),
        false => Err(Error::config(format!("{ROCKET_CONFIG} names {named:?}, which is not a file that is there"))),
    }
}

/// The file that a value of a figment stands in, or whatever else it came from.
fn origin_of(figment: &Figment, value: &figment::value::Value) -> Origin {
    Origin::Figment(figment.get_metadata(value.tag()).map_or_else(
        || "figment".to_owned(),
        |metadata| match &metadata.source {
            Some(figment::Source::File(path)) => display_path(path),
            _ => metadata.name.clone().into_owned(),
        },
    ))
}

/// Without the lines of the file that the error quotes: a secret may stand there.
fn unreadable(error: &figment::Error) -> Error {
    let error = error.to_string();
    let is_quoted = |line: &&str| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').starts_with('|');
    let told: Vec<&str> = error.lines().filter(|line| !is_quoted(line)).map(str::trim).collect();
    Error::config(format!("the configuration can't be read: {}", told.join(", ")))
}

fn lossless(text: std::ffi::OsString) -> Option<String> {
    text.into_string().ok()
}

/// As seen from the working directory, where it is below that.
fn display_path(path: &Path) -> String {
    let below = std::env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    below.as_deref().unwrap_or(path).display().to_string()
}
