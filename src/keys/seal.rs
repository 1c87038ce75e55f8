//! Keys at rest in the database: sealed with an AEAD under a master key that the database does not have.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;

use crate::config::{MASTER_KEY_BYTES, Secret};
use crate::error::Error;

/// The first byte of what is sealed in this way.
const VERSION: u8 = 1;
/// How many bytes tell one master key from another.
const ID_BYTES: usize = 8;
const HEAD_BYTES: usize = 1 + ID_BYTES;

/// The master key that seals, and one before it that opens.
pub(super) struct MasterKeys {
    current: MasterKey,
    old: Option<MasterKey>,
}

struct MasterKey {
    /// Derived from the key, and says nothing about it.
    id: [u8; ID_BYTES],
    key: RandomizedNonceKey,
}

impl MasterKeys {
    pub(super) fn new(current: &Secret, old: Option<&Secret>) -> Result<Self, Error> {
        Ok(Self { current: MasterKey::new(current)?, old: old.map(MasterKey::new).transpose()? })
    }

    /// Seals what belongs to the key with this id and algorithm, and to no other.
    pub(super) fn seal(&self, kid: &str, algorithm: &str, text: &str) -> Result<Vec<u8>, Error> {
        let mut sealed = vec![VERSION];
        sealed.extend(self.current.id);
        let mut body = text.as_bytes().to_vec();
        let aad = Aad::from(context(&sealed, kid, algorithm));
        let nonce = self.current.key.seal_in_place_append_tag(aad, &mut body);
        let nonce = nonce.map_err(|error| Error::internal("a key can't be sealed").with_source(error))?;
        sealed.extend(nonce.as_ref());
        sealed.append(&mut body);
        Ok(sealed)
    }

    pub(super) fn open(&self, kid: &str, algorithm: &str, sealed: &[u8]) -> Result<String, Error> {
        let damaged = || {
            Error::config(format!("the key {kid} in the database can't be opened: its row is damaged or was changed"))
        };
        let (head, rest) = sealed.split_at_checked(HEAD_BYTES).ok_or_else(damaged)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or_else(damaged)?;
        if head[0] != VERSION {
            return Err(Error::config("the keys in the database are sealed in a way that this version does not know"));
        }
        let master = [Some(&self.current), self.old.as_ref()].into_iter().flatten().find(|key| key.id == head[1..]);
        let master = master.ok_or_else(|| {
            Error::config(
                "master_key does not open the keys in the database, which are sealed under another one: give that \
                 one, or give it as master_key_old and run `counterfoil keys reseal`",
            )
        })?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let mut body = body.to_vec();
        let aad = Aad::from(context(head, kid, algorithm));
        let text = master.key.open_in_place(nonce, aad, &mut body).map_err(|_| damaged())?;
        String::from_utf8(text.to_vec()).map_err(|_| damaged())
    }

    /// Whether this is sealed under the current one.
    pub(super) fn is_current(&self, sealed: &[u8]) -> bool {
        sealed.get(1..HEAD_BYTES).is_some_and(|id| id == self.current.id)
    }
}

impl MasterKey {
    fn new(secret: &Secret) -> Result<Self, Error> {
        let bytes = bytes_of(secret)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes)
            .map_err(|error| Error::internal("the master key can't be used").with_source(error))?;
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), b"the id of a master key of Counterfoil");
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&tag.as_ref()[..ID_BYTES]);
        Ok(Self { id, key })
    }
}

/// What is vouched for besides the sealed text: a row's text can't be moved to another row.
fn context(head: &[u8], kid: &str, algorithm: &str) -> Vec<u8> {
    [head, algorithm.as_bytes(), b"\0", kid.as_bytes()].concat()
}

/// The bytes of a master key.
pub(super) fn bytes_of(secret: &Secret) -> Result<[u8; MASTER_KEY_BYTES], Error> {
    from_hex(&secret.0).ok_or_else(|| Error::internal("a master key is not 32 bytes in hex"))
}

fn from_hex(text: &str) -> Option<[u8; MASTER_KEY_BYTES]> {
    let mut bytes = [0; MASTER_KEY_BYTES];
    if text.len() != 2 * MASTER_KEY_BYTES {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(digit: char) -> Secret {
        Secret(std::iter::repeat_n(digit, 2 * MASTER_KEY_BYTES).collect())
    }

    #[test]
    fn what_is_sealed_opens_in_its_own_place_alone() {
        let keys = MasterKeys::new(&secret('a'), None).unwrap();
        let sealed = keys.seal("kid", "EdDSA", "the private part").unwrap();
        assert_eq!(keys.open("kid", "EdDSA", &sealed).unwrap(), "the private part");
        assert!(!sealed.windows(7).any(|window| window == b"private"));
        assert_ne!(keys.seal("kid", "EdDSA", "the private part").unwrap(), sealed, "the nonce is another one");
        assert!(keys.open("another", "EdDSA", &sealed).unwrap_err().is_config());
        assert!(keys.open("kid", "ES256", &sealed).unwrap_err().is_config());
        for place in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[place] ^= 1;
            assert!(keys.open("kid", "EdDSA", &damaged).unwrap_err().is_config(), "{place}");
            assert!(keys.open("kid", "EdDSA", &sealed[..place]).is_err(), "{place}");
        }
    }

    #[test]
    fn an_old_master_key_opens_and_seals_nothing() {
        let before = MasterKeys::new(&secret('a'), None).unwrap();
        let sealed = before.seal("kid", "EdDSA", "text").unwrap();
        let changing = MasterKeys::new(&secret('b'), Some(&secret('a'))).unwrap();
        assert_eq!(changing.open("kid", "EdDSA", &sealed).unwrap(), "text");
        assert!(!changing.is_current(&sealed));
        let anew = changing.seal("kid", "EdDSA", "text").unwrap();
        assert!(changing.is_current(&anew));
        let after = MasterKeys::new(&secret('b'), None).unwrap();
        assert_eq!(after.open("kid", "EdDSA", &anew).unwrap(), "text");
        let refused = after.open("kid", "EdDSA", &sealed).unwrap_err().to_string();
        assert!(refused.starts_with("master_key does not open") && !refused.contains("aaaa"), "{refused}");
    }
}
