//! The key ring: signs what the registry issues, verifies what callers present. The only user of the JWT crate.

mod generate;
mod jws;
mod load;
mod material;
#[cfg(feature = "server")]
mod secret;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use self::material::{Material, Signer, Verifier};
#[cfg(feature = "server")]
pub(crate) use self::secret::{is_same, random_secret, sha256};
use crate::config::Settings;
use crate::error::Error;
use crate::token::{Denial, TokenType};

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

/// One key of the ring, as shown to operators.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct KeyInfo {
    pub(crate) kid: String,
    pub(crate) algorithm: &'static str,
    /// `current` signs; `accepted` verifies only.
    pub(crate) state: &'static str,
}

/// The keys: one that signs, and those whose tokens are accepted.
pub(crate) struct KeyRing {
    signer: Signer,
    /// The encoded JOSE headers that this ring writes: they only depend on key and type.
    access_header: String,
    refresh_header: String,
    /// The first is the one that signs.
    verifiers: Vec<Verifier>,
}

impl KeyRing {
    /// Loads the keys that the settings name, or generates one where they allow it.
    pub(crate) fn load(settings: &Settings) -> Result<Self, Error> {
        load::load(settings)
    }

    fn new(current: Material, accepted: Vec<Verifier>) -> Result<Self, Error> {
        let signer = current.signer.ok_or_else(|| Error::internal("the key that signs has no private part"))?;
        let header = |token_type: TokenType| {
            let header = serde_json::json!({
                "typ": token_type.header_typ(),
                "alg": current.verifier.algorithm.name(),
                "kid": current.verifier.kid,
            });
            URL_SAFE_NO_PAD.encode(header.to_string())
        };
        let (access_header, refresh_header) = (header(TokenType::Access), header(TokenType::Refresh));
        let mut verifiers = vec![current.verifier];
        for verifier in accepted {
            if verifiers.iter().all(|known| known.kid != verifier.kid) {
                verifiers.push(verifier);
            }
        }
        Ok(Self { signer, access_header, refresh_header, verifiers })
    }

    /// The id of the key that signs.
    pub(crate) fn current_kid(&self) -> &str {
        self.verifiers.first().map_or("", |current| current.kid.as_str())
    }

    /// Signs these claims, with the `typ` of the type.
    pub(crate) fn sign(&self, token_type: TokenType, claims: &Map<String, Value>) -> Result<Signed, Error> {
        let header = match token_type {
            TokenType::Access => &self.access_header,
            TokenType::Refresh => &self.refresh_header,
        };
        let claims = serde_json::to_string(claims)
            .map_err(|error| Error::internal("claims can't be written as JSON").with_source(error))?;
        let mut token = String::with_capacity(header.len() + claims.len() * 4 / 3 + SIGNATURE_CHARS);
        token.push_str(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&claims, &mut token);
        let signature = self.signer.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        // What is longer would be refused when it comes back.
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Error::invalid("claims", "the token would be longer than 8192 bytes"));
        }
        Ok(Signed { token, claims, kid: self.current_kid().to_owned() })
    }

    /// Signs as other issuers do: without `kid`, and with a `typ` that says nothing.
    #[cfg(test)]
    pub(crate) fn sign_foreign(&self, claims: &Map<String, Value>) -> String {
        let algorithm = self.verifiers[0].algorithm.name();
        let header = serde_json::json!({ "typ": "JWT", "alg": algorithm }).to_string();
        let claims = serde_json::to_string(claims).unwrap();
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.signer.sign(message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Verifies size, shape and signature. `Malformed` for what is no JWS, `Invalid` for a bad signature, algorithm,
    /// key or `crit`, or a member that stands twice.
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
        let verifier = self
            .verifiers
            .iter()
            .filter(|key| key.algorithm.name() == algorithm && kid.is_none_or(|kid| *kid == key.kid))
            .find(|key| key.verifies(&jws))
            .ok_or(Denial::Invalid)?;
        let typ = match jws.header.get("typ") {
            Some(Value::String(typ)) => {
                [TokenType::Access, TokenType::Refresh].into_iter().find(|t| typ.eq_ignore_ascii_case(t.header_typ()))
            }
            _ => None,
        };
        Ok(Verified { kid: verifier.kid.clone(), typ, named, claims: jws.claims })
    }

    /// The keys, the one that signs first.
    pub(crate) fn list(&self) -> Vec<KeyInfo> {
        let states = std::iter::once("current").chain(std::iter::repeat("accepted"));
        self.verifiers
            .iter()
            .zip(states)
            .map(|(key, state)| KeyInfo { kid: key.kid.clone(), algorithm: key.algorithm.name(), state })
            .collect()
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.verifiers.iter().map(|key| &key.kid)).finish()
    }
}

#[cfg(test)]
mod tests;
