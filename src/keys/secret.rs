//! Secrets of clients: random, so that a digest without salt or stretching is enough, and quick at every call. And the
//! one comparison of what nobody may guess.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::Error;

/// SHA-256 of these bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    sha256
}

/// Whether two digests or random values are the same, in a time that doesn't say where they differ.
pub(crate) fn is_same(one: &[u8], other: &[u8]) -> bool {
    verify_slices_are_equal(one, other).is_ok()
}

/// A secret of 256 random bits, in characters that stand for themselves in a URL, a form and a header.
pub(crate) fn random_secret() -> Result<String, Error> {
    let secret: [u8; 32] = random_bytes()?;
    Ok(URL_SAFE_NO_PAD.encode(secret))
}

/// Bytes that nobody can guess.
pub(super) fn random_bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|error| Error::internal("no random bytes can be had").with_source(error))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_sha_256() {
        // FIPS 180-4, the message "abc".
        let digest = sha256(b"abc");
        assert_eq!(digest[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert!(is_same(&digest, &sha256(b"abc")));
        assert!(!is_same(&digest, &sha256(b"abd")));
        assert!(!is_same(&digest, &digest[..31]));
    }

    #[test]
    fn no_two_secrets_are_the_same() {
        let (one, two) = (random_secret().unwrap(), random_secret().unwrap());
        assert_eq!(one.len(), 43);
        assert_ne!(one, two);
    }
}
