//! One key: read from PEM or a secret, with its id, its algorithm and what it can do.

use std::borrow::Cow;
use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    ParsedPublicKey, RSA_PKCS1_SHA256, RsaKeyPair,
};
use aws_lc_rs::{hmac, rsa};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{DecodingKey, errors};
use serde_json::Value;

use super::jws::Jws;
use crate::config::{Algorithm, SECRET_BYTES_MIN};
use crate::error::Error;

/// The shortest RSA modulus (RFC 7518 §3.3), 2048 bits.
const RSA_BYTES_MIN: usize = 256;

/// Why something is no usable key, to stand after "…: ".
pub(super) type Reason = Cow<'static, str>;

/// A key, and its private part where it is known.
pub(super) struct Material {
    pub(super) verifier: Verifier,
    pub(super) signer: Option<Signer>,
}

/// What verifies.
pub(super) struct Verifier {
    /// The thumbprint of the public key (RFC 7638, SHA-256), so that the same key has the same id everywhere.
    pub(super) kid: String,
    pub(super) algorithm: Algorithm,
    pub(super) jwk: Jwk,
    key: DecodingKey,
}

/// What signs: parsed once, because the JWT crate would parse the key anew at every signature, which takes as long as
/// the signature itself.
pub(super) enum Signer {
    EdDsa(Ed25519KeyPair),
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
    /// In a box: it is twenty times the size of the others.
    Hs256(Box<hmac::Key>),
}

impl Signer {
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = match self {
            Self::EdDsa(key) => key.try_sign(message).map(|signature| signature.as_ref().to_vec()),
            Self::Es256(key) => key.sign(&SystemRandom::new(), message).map(|signature| signature.as_ref().to_vec()),
            Self::Rs256(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).map(|()| signature)
            }
            Self::Hs256(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
        };
        signature.map_err(|error| Error::internal("the key can't sign").with_source(error))
    }

    /// The public part alone, as PEM; `None` for a secret, which has none.
    pub(super) fn public_pem(&self) -> Result<Option<String>, Error> {
        let der: Result<PublicKeyX509Der<'_>, _> = match self {
            Self::EdDsa(key) => key.public_key().as_der(),
            Self::Es256(key) => key.public_key().as_der(),
            Self::Rs256(key) => key.public_key().as_der(),
            Self::Hs256(_) => return Ok(None),
        };
        let der = der.map_err(|error| Error::internal("a public key can't be written").with_source(error))?;
        Ok(Some(pem::encode(&pem::Pem::new("PUBLIC KEY", der.as_ref()))))
    }
}

impl Verifier {
    fn new(algorithm: Algorithm, key: DecodingKey) -> Result<Self, Reason> {
        let jwk = jwk_of(algorithm, &key).map_err(|error| format!("it can't be written as a JWK ({error})"))?;
        let kid = thumbprint(&jwk).map_err(|error| format!("its thumbprint can't be taken ({error})"))?;
        Ok(Self { kid, algorithm, jwk, key })
    }

    fn ed(key: DecodingKey) -> Result<Self, Reason> {
        let is_point = |point: &[u8]| ParsedPublicKey::new(&ED25519, point).is_ok();
        match key.try_get_as_bytes() {
            Ok(point) if is_point(point) && !is_of_small_order(point) => Self::new(Algorithm::EdDsa, key),
            Ok(point) if is_point(point) => Err("anybody could sign for it: its point is of small order".into()),
            _ => Err("it is not an Ed25519 public key".into()),
        }
    }

    fn ec(key: DecodingKey) -> Result<Self, Reason> {
        let is_p256 =
            key.try_get_as_bytes().is_ok_and(|point| ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).is_ok());
        if is_p256 { Self::new(Algorithm::Es256, key) } else { Err("its curve is not P-256, which ES256 needs".into()) }
    }

    fn rsa(key: DecodingKey) -> Result<Self, Reason> {
        let bytes = key.try_get_as_bytes().ok().and_then(|der| rsa::PublicKey::from_der(der).ok());
        match bytes.map(|key| key.modulus_len()) {
            Some(RSA_BYTES_MIN..) => Self::new(Algorithm::Rs256, key),
            Some(_) => Err("an RSA key must have at least 2048 bits".into()),
            None => Err("it is not an RSA public key".into()),
        }
    }

    pub(super) fn verifies(&self, jws: &Jws<'_>) -> bool {
        // By its name: what the JWT crate does otherwise is for the whole process, panics where an application has the
        // crate built with another library as well, and lets it put any other in the place of this one.
        (DEFAULT_PROVIDER.verifier_factory)(&self.algorithm.jws(), &self.key)
            .is_ok_and(|verifier| verifier.verify(jws.message.as_bytes(), &jws.signature).is_ok())
    }
}

/// The y coordinates of the points of order 8, in the form of RFC 8032 §5.1.2.
pub(super) const ORDER_8: [[u8; 32]; 2] = [
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// Whether a point of Ed25519 times 8 is nothing, however it is written: no private key has one, and a signature for it
/// can be made by whoever tries eight messages (RFC 8725 §3.4).
fn is_of_small_order(point: &[u8]) -> bool {
    let [first, between @ .., last] = point else { return false };
    let (y, last) = (ORDER_8.map(|y| y[..31] == point[..31] && y[31] == last & 0x7f), last & 0x7f);
    // y is 0 or 1, or p - 1, p or p + 1, of which the last two are other forms of 0 and 1.
    let is_low = *first <= 1 && last == 0 && between.iter().all(|byte| *byte == 0);
    let is_high = (0xec..=0xee).contains(first) && last == 0x7f && between.iter().all(|byte| *byte == 0xff);
    is_low || is_high || y.contains(&true)
}

/// The public key, which for HS256 is the secret, as JSON (RFC 7517).
fn jwk_of(algorithm: Algorithm, key: &DecodingKey) -> Result<Jwk, errors::Error> {
    if algorithm != Algorithm::Rs256 {
        return Jwk::from_decoding_key(key, None);
    }
    // The JWT crate would ask the process's default library for the parts of such a key: see above.
    let parts = DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key;
    let (modulus, exponent) = parts(key.try_get_as_bytes()?)?;
    Jwk::from_decoding_key(&DecodingKey::from_rsa_raw_components(&modulus, &exponent), None)
}

/// RFC 7638: the members that the key consists of, in the order of their names.
fn thumbprint(jwk: &Jwk) -> serde_json::Result<String> {
    let members: BTreeMap<String, Value> = serde_json::from_value(serde_json::to_value(&jwk.algorithm)?)?;
    Ok(URL_SAFE_NO_PAD.encode(digest(&SHA256, serde_json::to_string(&members)?.as_bytes())))
}

impl Algorithm {
    /// As the JWT crate calls it.
    pub(super) fn jws(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Hs256 => jsonwebtoken::Algorithm::HS256,
        }
    }
}

impl Material {
    pub(super) fn from_secret(secret: &[u8]) -> Result<Self, Reason> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err("a secret of HS256 must have at least 32 bytes".into());
        }
        Ok(Self {
            verifier: Verifier::new(Algorithm::Hs256, DecodingKey::from_secret(secret))?,
            signer: Some(Signer::Hs256(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret)))),
        })
    }

    /// Reads a private key (PKCS#8, PKCS#1 or SEC1) or a public one (SPKI or PKCS#1).
    pub(super) fn from_pem(text: &[u8]) -> Result<Self, Reason> {
        let blocks = pem::parse_many(text).map_err(|_| "it is not a PEM file")?;
        // `openssl ecparam -genkey` writes the name of the curve before the key.
        let mut keys = blocks.iter().filter(|block| block.tag() != "EC PARAMETERS");
        let block = keys.next().ok_or("it has no PEM block")?;
        if keys.next().is_some() {
            return Err("it has more than one PEM block".into());
        }
        let der = block.contents();
        match block.tag() {
            "PRIVATE KEY" => {
                if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
                    Self::from_ed(pair)
                } else if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der) {
                    Self::from_ec(pair)
                } else if let Ok(pair) = RsaKeyPair::from_pkcs8(der) {
                    Self::from_rsa(pair)
                } else {
                    Err("it is not an Ed25519, P-256 or RSA (2048 to 8192 bits) private key".into())
                }
            }
            "EC PRIVATE KEY" => EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
                .map_err(|_| "its curve is not P-256, which ES256 needs".into())
                .and_then(Self::from_ec),
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(der)
                .map_err(|_| "it is not an RSA private key of 2048 to 8192 bits".into())
                .and_then(Self::from_rsa),
            "PUBLIC KEY" => {
                let text = pem::encode(block);
                let text = text.as_bytes();
                let verifier = if let Ok(key) = DecodingKey::from_ed_pem(text) {
                    Verifier::ed(key)
                } else if let Ok(key) = DecodingKey::from_ec_pem(text) {
                    Verifier::ec(key)
                } else if let Ok(key) = DecodingKey::from_rsa_pem(text) {
                    Verifier::rsa(key)
                } else {
                    Err("it is not an Ed25519, P-256 or RSA public key".into())
                };
                verifier.map(|verifier| Self { verifier, signer: None })
            }
            "RSA PUBLIC KEY" => {
                Verifier::rsa(DecodingKey::from_rsa_der(der)).map(|verifier| Self { verifier, signer: None })
            }
            "ENCRYPTED PRIVATE KEY" => Err("it is encrypted: decrypt it with `openssl pkey`".into()),
            "CERTIFICATE" => Err("it is a certificate: take its key out with `openssl x509 -pubkey -noout`".into()),
            _ => Err("its PEM block is neither a private nor a public key".into()),
        }
    }

    fn from_ed(pair: Ed25519KeyPair) -> Result<Self, Reason> {
        let verifier = Verifier::ed(DecodingKey::from_ed_der(pair.public_key().as_ref()))?;
        Ok(Self { verifier, signer: Some(Signer::EdDsa(pair)) })
    }

    fn from_ec(pair: EcdsaKeyPair) -> Result<Self, Reason> {
        let verifier = Verifier::ec(DecodingKey::from_ec_der(pair.public_key().as_ref()))?;
        Ok(Self { verifier, signer: Some(Signer::Es256(pair)) })
    }

    fn from_rsa(pair: RsaKeyPair) -> Result<Self, Reason> {
        let verifier = Verifier::rsa(DecodingKey::from_rsa_der(pair.public_key().as_ref()))?;
        Ok(Self { verifier, signer: Some(Signer::Rs256(pair)) })
    }
}
