//! What the store keeps of clients, and of what they asked for under a key of their own.

use crate::token::{Jti, Scopes, Sid};

/// SHA-256 of something.
pub(crate) type Sha256 = [u8; 32];

/// A program that calls the endpoints for other services. It has no `Debug` form: the digests would be in it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoredClient {
    pub(crate) client_id: String,
    pub(crate) name: String,
    /// What it may do here.
    pub(crate) scope: Scopes,
    /// The scopes it may put into tokens of others.
    pub(crate) grant_scope: Scopes,
    /// The audiences it may put into tokens of others.
    pub(crate) audience: Vec<String>,
    /// The audiences that it is limited to where it asks about tokens; `None` where it is not.
    pub(crate) serves: Option<Vec<String>>,
    /// Whether tokens that it got may be refreshed without its secret.
    pub(crate) first_party: bool,
    pub(crate) disabled: bool,
    pub(crate) secret_digest: Sha256,
    /// The secret before, and until when it is good.
    pub(crate) old_secret: Option<(Sha256, i64)>,
    pub(crate) created_at: i64,
    pub(crate) secret_changed_at: i64,
}

/// What is to change of a client, where it is `Some`.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClientChange {
    pub(crate) name: Option<String>,
    pub(crate) scope: Option<Scopes>,
    pub(crate) grant_scope: Option<Scopes>,
    pub(crate) audience: Option<Vec<String>>,
    pub(crate) serves: Option<Option<Vec<String>>>,
    pub(crate) first_party: Option<bool>,
    pub(crate) disabled: Option<bool>,
}

impl ClientChange {
    /// The client as it is after this change.
    pub(super) fn apply(&self, client: &StoredClient) -> StoredClient {
        let client = client.clone();
        StoredClient {
            name: self.name.clone().unwrap_or(client.name),
            scope: self.scope.clone().unwrap_or(client.scope),
            grant_scope: self.grant_scope.clone().unwrap_or(client.grant_scope),
            audience: self.audience.clone().unwrap_or(client.audience),
            serves: self.serves.clone().unwrap_or(client.serves),
            first_party: self.first_party.unwrap_or(client.first_party),
            disabled: self.disabled.unwrap_or(client.disabled),
            ..client
        }
    }
}

/// What became of a change to a client.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum ClientChanged {
    Done(Box<StoredClient>),
    NotFound,
    /// There is another one of that name.
    NameTaken,
}

/// How long the same is given again.
pub(crate) const REPEATED_SECONDS: i64 = 24 * 60 * 60;

/// What a client asks for under a key of its own, so that asking again gives the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repeat {
    pub(crate) body_digest: Sha256,
    pub(crate) sid: Sid,
    pub(crate) access: Jti,
    /// Of the refresh token, where one is issued.
    pub(crate) refresh: Jti,
    pub(crate) asked_at: i64,
    pub(crate) expires_at: i64,
}
