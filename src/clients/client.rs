//! One client.

use chrono::{DateTime, Utc};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::error::Error;
use crate::keys::{is_same, sha256};
use crate::store::{Sha256, StoredClient};
use crate::token::{Scopes, Subject, at, rfc3339};

/// A program that calls the endpoints for other services. Its `Debug` form has no digests in it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Client {
    stored: StoredClient,
    subject: Subject,
}

impl Client {
    pub(super) fn of(stored: StoredClient) -> Result<Self, Error> {
        Ok(Self { subject: stored.client_id.parse()?, stored })
    }

    pub(crate) fn id(&self) -> &str {
        &self.stored.client_id
    }

    /// Its id, as whom its own tokens speak for.
    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }

    pub(crate) fn name(&self) -> &str {
        &self.stored.name
    }

    /// What it may do here.
    pub(crate) fn scope(&self) -> &Scopes {
        &self.stored.scope
    }

    /// The scopes it may put into tokens of others.
    pub(crate) fn grant_scope(&self) -> &Scopes {
        &self.stored.grant_scope
    }

    /// The audiences, beside the issuer, that it may put into tokens of others.
    pub(crate) fn audience(&self) -> &[String] {
        &self.stored.audience
    }

    /// The audiences that it is limited to where it asks about tokens.
    pub(crate) fn serves(&self) -> Option<&[String]> {
        self.stored.serves.as_deref()
    }

    pub(crate) fn is_first_party(&self) -> bool {
        self.stored.first_party
    }

    /// Whether it may call at all.
    pub(crate) fn is_live(&self) -> bool {
        !self.stored.disabled
    }

    pub(crate) fn created_at(&self) -> DateTime<Utc> {
        at(self.stored.created_at)
    }

    pub(crate) fn secret_changed_at(&self) -> DateTime<Utc> {
        at(self.stored.secret_changed_at)
    }

    /// Until when the secret before is good, which may be over.
    pub(crate) fn old_secret_until(&self) -> Option<DateTime<Utc>> {
        self.stored.old_secret.map(|(_, until)| at(until))
    }

    /// As it is with another secret, beside which the one before is good until `old_until`.
    pub(super) fn with_secret(&self, digest: Sha256, old_until: Option<i64>, now: i64) -> Self {
        let old_secret = old_until.map(|until| (self.stored.secret_digest, until));
        let stored = StoredClient { secret_digest: digest, old_secret, secret_changed_at: now, ..self.stored.clone() };
        Self { stored, subject: self.subject.clone() }
    }

    pub(super) fn knows(&self, secret: &str, now: i64) -> bool {
        let digest = sha256(secret.as_bytes());
        let old = self.stored.old_secret.filter(|(_, until)| now < *until);
        // Both are compared, whichever it is.
        let is_current = is_same(&digest, &self.stored.secret_digest);
        let is_old = old.is_some_and(|(old, _)| is_same(&digest, &old));
        is_current | is_old
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("id", &self.id()).field("name", &self.name()).finish_non_exhaustive()
    }
}

/// As operators see it, without its secrets.
impl Serialize for Client {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let stored = &self.stored;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("client_id", &stored.client_id)?;
        map.serialize_entry("name", &stored.name)?;
        map.serialize_entry("scope", &stored.scope)?;
        map.serialize_entry("grant_scope", &stored.grant_scope)?;
        map.serialize_entry("audience", &stored.audience)?;
        map.serialize_entry("serves", &stored.serves)?;
        map.serialize_entry("first_party", &stored.first_party)?;
        map.serialize_entry("disabled", &stored.disabled)?;
        map.serialize_entry("created_at", &rfc3339(self.created_at()))?;
        map.serialize_entry("secret_changed_at", &rfc3339(self.secret_changed_at()))?;
        map.serialize_entry("old_secret_until", &self.old_secret_until().map(rfc3339))?;
        map.end()
    }
}
