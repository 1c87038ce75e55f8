//! Keys and tokens made by hand, to sign what the registry never issued.

use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// An Ed25519 key.
#[derive(Clone)]
pub(crate) struct Key(Arc<Ed25519KeyPair>);

impl Key {
    pub(crate) fn generate() -> Self {
        Self(Arc::new(Ed25519KeyPair::generate().expect("a key")))
    }

    /// PKCS#8, as the setting `keys.file` reads it.
    pub(crate) fn private_pem(&self) -> String {
        pem("PRIVATE KEY", self.0.to_pkcs8v1().expect("PKCS#8").as_ref())
    }

    pub(crate) fn public_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    pub(crate) fn public_pem(&self) -> String {
        pem("PUBLIC KEY", self.0.public_key().as_der().expect("SPKI").as_ref())
    }

    pub(crate) fn jwk(&self) -> Value {
        json!({ "crv": "Ed25519", "kty": "OKP", "x": base64url(self.public_bytes()) })
    }

    /// The RFC 7638 thumbprint.
    pub(crate) fn kid(&self) -> String {
        // The members in the order of their names, without white space: as serde_json writes a map.
        base64url(digest::digest(&digest::SHA256, self.jwk().to_string().as_bytes()).as_ref())
    }

    /// The header of the access tokens that this key signs.
    pub(crate) fn header(&self) -> Value {
        json!({ "alg": "EdDSA", "kid": self.kid(), "typ": "at+jwt" })
    }

    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// Signs header and claims as they stand, whether they are JSON or not.
    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        self.sign_parts(&base64url(header.as_bytes()), &base64url(claims.as_bytes()))
    }

    /// Signs the two parts as they stand, whether they are base64url or not.
    pub(crate) fn sign_parts(&self, header: &str, claims: &str) -> String {
        let input = format!("{header}.{claims}");
        let signature = self.0.sign(input.as_bytes());
        format!("{input}.{}", base64url(signature.as_ref()))
    }
}

/// Signs with HS256.
pub(crate) fn sign_hs256(secret: &[u8], header: &Value, claims: &Value) -> String {
    let input = format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), input.as_bytes());
    format!("{input}.{}", base64url(tag.as_ref()))
}

/// The header of a token.
pub(crate) fn header_of(token: &str) -> Value {
    part(token, 0)
}

/// The `kid` of a token.
pub(crate) fn kid_of(token: &str) -> String {
    header_of(token)["kid"].as_str().expect("a kid").to_owned()
}

/// The claims of a token.
pub(crate) fn claims_of(token: &str) -> Value {
    part(token, 1)
}

/// The claims of a token as they stand there.
pub(crate) fn claims_text(token: &str) -> String {
    let part = token.split('.').nth(1).expect("a JWS");
    String::from_utf8(URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("UTF-8")
}

/// The `jti` of a token.
pub(crate) fn jti_of(token: &str) -> String {
    claims_of(token)["jti"].as_str().expect("a jti").to_owned()
}

/// The `sid` of a token.
pub(crate) fn sid_of(token: &str) -> String {
    claims_of(token)["sid"].as_str().expect("a sid").to_owned()
}

pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

/// Whether a text holds a token, or the first of its parts: JSON, encoded, that begins with a member. The three letters
/// that it begins with are no sign, since the id of a key may have them by chance.
pub(crate) fn holds_token(text: &str) -> bool {
    let begins = |json: Vec<u8>| json[2..].iter().all(|byte| byte.is_ascii_lowercase() || b"_\"".contains(byte));
    let starts = text.match_indices("eyJ").filter_map(|(at, _)| text.get(at..at + 8));
    starts.filter_map(|start| URL_SAFE_NO_PAD.decode(start).ok()).any(begins)
}
