//! The compact form of a JWS (RFC 7515 §3.1), read strictly: what two readers could take differently is refused.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::error::Category;
use serde_json::{Map, Value};

use crate::token::{Denial, Unique};

/// A token in its parts, nothing verified yet.
pub(super) struct Jws<'a> {
    pub(super) header: Map<String, Value>,
    pub(super) claims: Map<String, Value>,
    /// Header and claims as they were signed.
    pub(super) message: &'a str,
    pub(super) signature: Vec<u8>,
}

impl<'a> Jws<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, Denial> {
        let (message, signature) = token.rsplit_once('.').ok_or(Denial::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(Denial::Malformed)?;
        if signature.is_empty() || claims.contains('.') {
            return Err(Denial::Malformed);
        }
        let signature = decode(signature)?;
        Ok(Self { header: object(header)?, claims: object(claims)?, message, signature })
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Denial> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Denial::Malformed)
}

fn object(part: &str) -> Result<Map<String, Value>, Denial> {
    match serde_json::from_slice(&decode(part)?) {
        Ok(Unique(Value::Object(members))) => Ok(members),
        // The grammar is fine, so it is `Unique` that refused: a member stands twice.
        Err(error) if error.classify() == Category::Data => Err(Denial::Invalid),
        _ => Err(Denial::Malformed),
    }
}
