//! Users and clients.

use uuid::Uuid;

use crate::error::Error;
use crate::store::{Repeat, Sha256, StoredClient, StoredUser};

pub(in crate::store) struct UserRow {
    pub(in crate::store) username: String,
    pub(in crate::store) password_hash: String,
    pub(in crate::store) scope: String,
    pub(in crate::store) disabled: bool,
    pub(in crate::store) created_at: i64,
    pub(in crate::store) password_changed_at: i64,
}

impl TryFrom<UserRow> for StoredUser {
    type Error = Error;

    fn try_from(row: UserRow) -> Result<Self, Error> {
        Ok(Self {
            username: row.username.try_into()?,
            password_hash: row.password_hash,
            scope: row.scope.parse()?,
            disabled: row.disabled,
            created_at: row.created_at,
            password_changed_at: row.password_changed_at,
        })
    }
}

pub(in crate::store) struct ClientRow {
    pub(in crate::store) client_id: String,
    pub(in crate::store) name: String,
    pub(in crate::store) scope: String,
    pub(in crate::store) grant_scope: String,
    pub(in crate::store) audience: String,
    pub(in crate::store) serves: Option<String>,
    pub(in crate::store) first_party: bool,
    pub(in crate::store) disabled: bool,
    pub(in crate::store) secret_digest: Vec<u8>,
    pub(in crate::store) old_secret_digest: Option<Vec<u8>>,
    pub(in crate::store) old_secret_until: Option<i64>,
    pub(in crate::store) created_at: i64,
    pub(in crate::store) secret_changed_at: i64,
}

impl TryFrom<ClientRow> for StoredClient {
    type Error = Error;

    fn try_from(row: ClientRow) -> Result<Self, Error> {
        let old_digest = row.old_secret_digest.map(sha256).transpose()?;
        Ok(Self {
            client_id: row.client_id,
            name: row.name,
            scope: row.scope.parse()?,
            grant_scope: row.grant_scope.parse()?,
            audience: audiences(&row.audience)?,
            serves: row.serves.as_deref().map(audiences).transpose()?,
            first_party: row.first_party,
            disabled: row.disabled,
            secret_digest: sha256(row.secret_digest)?,
            old_secret: old_digest.zip(row.old_secret_until),
            created_at: row.created_at,
            secret_changed_at: row.secret_changed_at,
        })
    }
}

fn sha256(bytes: Vec<u8>) -> Result<Sha256, Error> {
    bytes.try_into().map_err(|_| Error::internal("a digest in the database has another length"))
}

fn audiences(list: &str) -> Result<Vec<String>, Error> {
    serde_json::from_str(list).map_err(|error| Error::internal("a client's audiences can't be read").with_source(error))
}

/// What the audit calls a change to a client.
pub(in crate::store) fn client_action(before: &StoredClient, after: &StoredClient) -> &'static str {
    match (before.disabled, after.disabled) {
        (false, true) => "client.disabled",
        (true, false) => "client.enabled",
        _ => "client.changed",
    }
}

/// Why the own tokens of a client end with a change to it, where they do: they hold what it might do before.
pub(in crate::store) fn client_loss(before: &StoredClient, after: &StoredClient) -> Option<&'static str> {
    if after.disabled && !before.disabled {
        Some("client disabled")
    } else {
        Some("scope removed").filter(|_| !before.scope.is_subset(&after.scope))
    }
}

pub(in crate::store) struct RepeatRow {
    pub(in crate::store) body_digest: Vec<u8>,
    pub(in crate::store) sid: Uuid,
    pub(in crate::store) access_jti: Uuid,
    pub(in crate::store) refresh_jti: Uuid,
    pub(in crate::store) asked_at: i64,
    pub(in crate::store) expires_at: i64,
}

impl TryFrom<RepeatRow> for Repeat {
    type Error = Error;

    fn try_from(row: RepeatRow) -> Result<Self, Error> {
        Ok(Self {
            body_digest: sha256(row.body_digest)?,
            sid: row.sid.into(),
            access: row.access_jti.into(),
            refresh: row.refresh_jti.into(),
            asked_at: row.asked_at,
            expires_at: row.expires_at,
        })
    }
}
