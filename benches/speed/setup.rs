//! What servers and registries are told, in one place: the same settings for a process, by its environment, and for a
//! registry in this process.

use std::path::Path;

use counterfoil::Settings;
use rocket::figment::Figment;
use rocket::figment::providers::{Format, Toml};

use crate::Outcome;

pub(crate) const ISSUER: &str = "https://bench.example";

/// The settings as they are shipped.
const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Rocket.toml");

/// A server's settings: those shipped, and what the release profile insists on.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    settings: Vec<(&'static str, String)>,
}

impl Setup {
    /// On this database, with an EdDSA key in this folder that all set up with it share.
    pub(crate) fn new(database_url: &str, folder: &Path) -> Self {
        Self { settings: Vec::new() }
            .with("database_url", database_url)
            .with("issuer", ISSUER)
            .with("keys.generate", "true")
            .with("keys.generated_file", folder.join("key.pem").display().to_string())
            .with("first_admin", "off")
    }

    /// With a setting more, or another value of one.
    pub(crate) fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.settings.retain(|(known, _)| *known != key);
        self.settings.push((key, value.into()));
        self
    }

    /// Without a setting.
    fn without(mut self, key: &str) -> Self {
        self.settings.retain(|(known, _)| *known != key);
        self
    }

    /// Signing with this key instead.
    pub(crate) fn with_key(self, algorithm: &str, file: &Path) -> Self {
        self.without("keys.generate")
            .without("keys.generated_file")
            .with("algorithm", algorithm)
            .with("keys.file", file.display().to_string())
    }

    /// Signing with a secret, which costs next to nothing.
    pub(crate) fn with_secret(self) -> Self {
        self.without("keys.generate")
            .without("keys.generated_file")
            .with("algorithm", "HS256")
            .with("keys.secret", "a-secret-of-the-benchmark-0123456789abcdef")
    }

    /// Asking the database at every check. As shipped, memory answers, under a lease.
    pub(crate) fn strict(self) -> Self {
        self.with("consistency", "strict")
    }

    /// With memory enough for whatever is measured.
    pub(crate) fn boundless(self) -> Self {
        self.with("cache_bytes", "4000000000")
    }

    /// Without notifications: replicas find out about changes by polling alone.
    pub(crate) fn polling(self) -> Self {
        self.with("listen", "false")
    }

    /// As environment variables, for a process that listens on this port.
    pub(crate) fn environment(&self, port: u16) -> Vec<(String, String)> {
        let own = self
            .settings
            .iter()
            .map(|(key, value)| (format!("COUNTERFOIL_{}", key.replace('.', "__").to_uppercase()), value.clone()));
        let rocket = [
            ("ROCKET_CONFIG", SHIPPED.to_owned()),
            ("ROCKET_PROFILE", "release".to_owned()),
            ("ROCKET_ADDRESS", "127.0.0.1".to_owned()),
            ("ROCKET_PORT", port.to_string()),
        ];
        own.chain(rocket.map(|(name, value)| (name.to_owned(), value))).collect()
    }

    /// As the configuration of a Rocket application in this process.
    pub(crate) fn figment(&self) -> Figment {
        let shipped = Figment::from(rocket::Config::release_default()).merge(Toml::file(SHIPPED).nested());
        let merge =
            |figment: Figment, (key, value): &(&str, String)| figment.merge((format!("counterfoil.{key}"), value));
        self.settings.iter().fold(shipped.select("release"), merge)
    }

    pub(crate) fn settings(&self) -> Outcome<Settings> {
        Ok(Settings::from_figment(&self.figment())?)
    }
}
