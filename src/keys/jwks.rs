//! The published keys (RFC 7517 §5): what others need to verify tokens by themselves.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::PublicKeyUse;
use serde_json::json;

use super::RingKey;
use crate::config::Algorithm;
use crate::token::KeyState;

/// A key set as it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Jwks {
    pub(crate) json: String,
    /// Of these very bytes (RFC 9110 §8.8.3), quotes included.
    pub(crate) etag: String,
}

impl Jwks {
    /// Of all keys whose tokens are accepted, and that have a public part.
    pub(super) fn of(keys: &[RingKey]) -> Self {
        let is_public =
            |key: &&RingKey| key.state != KeyState::Retired && key.material.verifier.algorithm != Algorithm::Hs256;
        let keys = keys.iter().filter(is_public).map(|key| {
            let mut jwk = key.material.verifier.jwk.clone();
            jwk.common.public_key_use = Some(PublicKeyUse::Signature);
            jwk.common.key_algorithm = Some(key.material.verifier.algorithm.jws().into());
            jwk.common.key_id = Some(key.material.verifier.kid.clone());
            json!(jwk)
        });
        let json = json!({ "keys": keys.collect::<Vec<_>>() }).to_string();
        let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(digest(&SHA256, json.as_bytes())));
        Self { json, etag }
    }
}
