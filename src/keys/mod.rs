//! The key ring: signs what the registry issues, verifies what callers present. The only user of the JWT crate.

mod generate;
mod jwks;
mod jws;
mod load;
mod material;
mod seal;
mod secret;
mod source;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Map, Value};

pub(crate) use self::jwks::Jwks;
use self::material::{Material, Signer, Verifier};
pub(crate) use self::secret::is_same;
#[cfg(feature = "server")]
pub(crate) use self::secret::{random_secret, sha256};
pub(crate) use self::source::KeySource;
use crate::config::Algorithm;
#[cfg(test)]
use crate::config::Settings;
use crate::error::Error;
use crate::token::{Denial, KeyInfo, KeyState, StoredKey, TokenType};

/// The longest token that is looked at, in bytes.
pub(crate) const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Room for the usual signatures, in base64url characters, and for the dots.
const SIGNATURE_CHARS: usize = 96;

/// A signed token and the key that signed it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) token: String,
    /// The claims as they were signed, as JSON.
    pub(crate) claims: String,
    pub(crate) kid: String,
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// What a signature vouches for.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    pub(crate) claims: Map<String, Value>,
    /// The thumbprint of the key that verified it, whatever the header said.
    pub(crate) kid: String,
    /// The `typ` of the header, as a type of this registry; `None` for any other or none.
    pub(crate) typ: Option<TokenType>,
    /// Whether the header named the key (a token of this registry always does).
    pub(crate) named: bool,
}

impl KeyInfo {
    /// A key of the ring, with its row where it has one.
    fn of(verifier: &Verifier, state: KeyState, row: Option<&StoredKey>) -> Self {
        Self {
            kid: verifier.kid.clone(),
            algorithm: Some(verifier.algorithm.name().to_owned()),
            state,
            published_at: row.map(|row| row.published_at),
            current_at: row.and_then(|row| row.current_at),
            replaced_at: row.and_then(|row| row.replaced_at),
            retired_at: row.and_then(|row| row.retired_at),
            retired_reason: row.and_then(|row| row.retired_reason.clone()),
        }
    }

    /// A retired key, of which no more than its row is left.
    fn retired(row: &StoredKey) -> Self {
        Self {
            kid: row.kid.clone(),
            algorithm: row.algorithm.clone(),
            state: row.state,
            published_at: Some(row.published_at),
            current_at: row.current_at,
            replaced_at: row.replaced_at,
            retired_at: row.retired_at,
            retired_reason: row.retired_reason.clone(),
        }
    }
}

/// The keys as of one moment: the one that signs, those whose tokens are accepted, and those whose tokens are not any
/// more.
pub(crate) struct KeyRing {
    /// The one that signs first, where there is one.
    keys: Vec<RingKey>,
    /// The ids of all that were retired, whether their keys are known here or not.
    retired: HashSet<String>,
    /// The encoded JOSE headers that this ring writes: they only depend on key and type.
    headers: Option<Headers>,
    listed: Vec<KeyInfo>,
    jwks: Jwks,
}

/// A key and where it stands.
struct RingKey {
    material: Arc<Material>,
    state: KeyState,
}

struct Headers {
    access: String,
    refresh: String,
}

impl KeyRing {
    /// Of keys in the order of their states.
    fn new(keys: Vec<RingKey>, retired: HashSet<String>, listed: Vec<KeyInfo>) -> Self {
        let mut ring = Self { jwks: Jwks::of(&keys), keys, retired, headers: None, listed };
        ring.headers = ring.current().map(|(verifier, _)| Headers {
            access: header(verifier, TokenType::Access.header_typ()),
            refresh: header(verifier, TokenType::Refresh.header_typ()),
        });
        ring
    }

    /// The key that signs.
    fn current(&self) -> Option<(&Verifier, &Signer)> {
        let first = self.keys.first().filter(|key| key.state == KeyState::Current)?;
        Some((&first.material.verifier, first.material.signer.as_ref()?))
    }

    fn material(&self, kid: &str) -> Option<Arc<Material>> {
        self.keys.iter().find(|key| key.material.verifier.kid == kid).map(|key| key.material.clone())
    }

    /// The id of the key that signs; empty where none does.
    pub(crate) fn current_kid(&self) -> &str {
        self.current().map_or("", |(verifier, _)| verifier.kid.as_str())
    }

    /// The algorithm of the key that signs, where others can verify by it.
    pub(crate) fn public_algorithm(&self) -> Option<&'static str> {
        let (verifier, _) = self.current()?;
        (verifier.algorithm != Algorithm::Hs256).then_some(verifier.algorithm.name())
    }

    /// Whether what this key signs is accepted.
    pub(crate) fn accepts(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.state != KeyState::Retired && key.material.verifier.kid == kid)
    }

    /// Whether this key was retired.
    pub(crate) fn is_retired(&self, kid: &str) -> bool {
        self.retired.contains(kid)
    }

    /// The published keys.
    pub(crate) fn jwks(&self) -> &Jwks {
        &self.jwks
    }

    /// Signs these claims, with the `typ` of the type.
    pub(crate) fn sign(&self, token_type: TokenType, claims: &impl Serialize) -> Result<Signed, Error> {
        let header = self.headers.as_ref().map(|headers| match token_type {
            TokenType::Access => &headers.access,
            TokenType::Refresh => &headers.refresh,
        });
        let signed = self.sign_after(header.map_or("", String::as_str), claims)?;
        // It would be refused when it comes back.
        if signed.token.len() > TOKEN_BYTES_MAX {
            return Err(Error::invalid("claims", "the token would be longer than 8192 bytes"));
        }
        Ok(signed)
    }

    /// Signs any JWT, with this `typ`, and of any length: one that is no token of the registry.
    pub(crate) fn sign_as(&self, typ: &str, claims: &Map<String, Value>) -> Result<Signed, Error> {
        let header = self.current().map(|(verifier, _)| header(verifier, typ)).unwrap_or_default();
        self.sign_after(&header, claims)
    }

    fn sign_after(&self, header: &str, claims: &impl Serialize) -> Result<Signed, Error> {
        let Some((verifier, signer)) = self.current() else {
            return Err(Error::unavailable("there is no key to sign with just now"));
        };
        let claims = serde_json::to_string(claims)
            .map_err(|error| Error::internal("claims can't be written as JSON").with_source(error))?;
        let mut token = String::with_capacity(header.len() + claims.len() * 4 / 3 + SIGNATURE_CHARS);
        token.push_str(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&claims, &mut token);
        let signature = signer.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(Signed { token, claims, kid: verifier.kid.clone() })
    }

    /// Signs as other issuers do: without `kid`, and with a `typ` that says nothing.
    #[cfg(test)]
    pub(crate) fn sign_foreign(&self, claims: &Map<String, Value>) -> String {
        let (verifier, signer) = self.current().unwrap();
        let header = serde_json::json!({ "typ": "JWT", "alg": verifier.algorithm.name() }).to_string();
        let claims = serde_json::to_string(claims).unwrap();
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = signer.sign(message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Verifies size, shape and signature. `Malformed` for what is no JWS, `Invalid` for a bad signature, algorithm,
    /// key or `crit`, or a member that stands twice; `Revoked` for what a retired key signed, or says that it did.
    pub(crate) fn verify(&self, token: &str) -> Result<Verified, Denial> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Denial::Malformed);
        }
        let jws = jws::Jws::parse(token)?;
        // RFC 7515 §4.1.11: an extension that is critical and not understood refuses the token, and none is understood.
        // That covers `b64` (RFC 7797 §6) too.
        if jws.header.contains_key("crit") {
            return Err(Denial::Invalid);
        }
        let Some(Value::String(algorithm)) = jws.header.get("alg") else { return Err(Denial::Invalid) };
        let (named, kid) = match jws.header.get("kid") {
            None => (false, None),
            Some(Value::String(kid)) => (true, Some(kid)),
            Some(_) => return Err(Denial::Invalid),
        };
        // The algorithm belongs to the key: the header can only agree with it (RFC 8725 §3.1). A `jwk`, `jku`, `x5u` or
        // `x5c` in the header is never looked at (§3.10).
        let is_named = |key: &Verifier| key.algorithm.name() == algorithm && kid.is_none_or(|kid| *kid == key.kid);
        let mut keys = self.keys.iter().filter(|key| is_named(&key.material.verifier));
        let key = match keys.find(|key| key.material.verifier.verifies(&jws)) {
            Some(key) if key.state != KeyState::Retired => key,
            Some(_) => return Err(Denial::Revoked),
            // Nothing is left of it to verify by, and no answer is kinder than this one.
            None if kid.is_some_and(|kid| self.material(kid).is_none() && self.is_retired(kid)) => {
                return Err(Denial::Revoked);
            }
            None => return Err(Denial::Invalid),
        };
        let typ = match jws.header.get("typ") {
            Some(Value::String(typ)) => {
                [TokenType::Access, TokenType::Refresh].into_iter().find(|t| typ.eq_ignore_ascii_case(t.header_typ()))
            }
            _ => None,
        };
        Ok(Verified { kid: key.material.verifier.kid.clone(), typ, named, claims: jws.claims })
    }

    /// Whether this token names a key that is not in the ring, and was not retired either.
    pub(crate) fn is_of_unknown_key(&self, token: &str) -> bool {
        let Some(Ok(jws)) = (token.len() <= TOKEN_BYTES_MAX).then(|| jws::Jws::parse(token)) else { return false };
        let kid = jws.header.get("kid").and_then(Value::as_str);
        kid.is_some_and(|kid| self.material(kid).is_none() && !self.is_retired(kid))
    }

    /// What a token says that names a retired key, taken at its word.
    pub(crate) fn claims_of_retired(&self, token: &str) -> Option<Map<String, Value>> {
        let jws = jws::Jws::parse(token).ok()?;
        let kid = jws.header.get("kid").and_then(Value::as_str)?;
        self.is_retired(kid).then_some(jws.claims)
    }

    /// The keys, the one that signs first.
    pub(crate) fn list(&self) -> &[KeyInfo] {
        &self.listed
    }

    /// The ring of the settings alone.
    #[cfg(test)]
    fn load(settings: &Settings) -> Result<Self, Error> {
        Ok(KeySource::load(settings, true)?.ring(&[], None).0)
    }
}

/// A JOSE header, encoded.
fn header(verifier: &Verifier, typ: &str) -> String {
    let header = serde_json::json!({ "typ": typ, "alg": verifier.algorithm.name(), "kid": verifier.kid });
    URL_SAFE_NO_PAD.encode(header.to_string())
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.material.verifier.kid)).finish()
    }
}

#[cfg(test)]
mod tests;
