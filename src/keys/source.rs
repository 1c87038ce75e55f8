//! Where keys come from: files and secrets that the settings name, or the registry's table, sealed under a master key.

use std::collections::HashSet;
use std::sync::Arc;

use super::material::Material;
use super::seal::MasterKeys;
use super::{KeyRing, RingKey, generate, load};
use crate::config::{Algorithm, Settings};
use crate::error::Error;
use crate::token::{KeyInfo, KeyState, NewKey, StoredKey};

/// Makes rings of what the settings name and what the table holds.
pub(crate) struct KeySource {
    own: Own,
    accepted: Vec<Arc<Material>>,
    /// How new keys are to sign.
    algorithm: Algorithm,
}

enum Own {
    /// The key of the settings. The table only says which keys were retired.
    Given(Arc<Material>),
    /// The keys of the table.
    Sealed(MasterKeys),
}

impl KeySource {
    /// Loads what the settings name. Where they allow it a key is generated, if its file `may_be_made`.
    pub(crate) fn load(settings: &Settings, may_be_made: bool) -> Result<Self, Error> {
        let own = match &settings.master_key {
            Some(master_key) => {
                load::refuse_known_master_key(settings, master_key)?;
                Own::Sealed(MasterKeys::new(master_key, settings.master_key_old.as_ref())?)
            }
            None => Own::Given(Arc::new(load::current(settings, may_be_made)?)),
        };
        let accepted = settings.keys.accept.iter().map(|key| load::accepted(settings, key).map(Arc::new));
        Ok(Self { own, accepted: accepted.collect::<Result<_, _>>()?, algorithm: settings.algorithm })
    }

    /// Whether its keys are those of the table.
    pub(crate) fn is_sealed(&self) -> bool {
        matches!(self.own, Own::Sealed(_))
    }

    /// Whether a key is one that new keys would be like.
    pub(crate) fn makes(&self, key: &StoredKey) -> bool {
        key.algorithm.as_deref() == Some(self.algorithm.name())
    }

    /// The ring, given the table's rows. What was opened `before` is not opened again. Where a key can't be opened the
    /// ring lacks it, and why is told too: what was retired is out of the ring all the same.
    pub(crate) fn ring(&self, rows: &[StoredKey], before: Option<&KeyRing>) -> (KeyRing, Option<Error>) {
        let mut failure = None;
        let retired: HashSet<String> =
            rows.iter().filter(|row| row.state == KeyState::Retired).map(|row| row.kid.clone()).collect();
        let mut keys: Vec<RingKey> = Vec::new();
        let mut listed = Vec::new();
        match &self.own {
            Own::Given(material) => keys.push(RingKey { material: material.clone(), state: KeyState::Current }),
            Own::Sealed(master_keys) => {
                for row in rows.iter().filter(|row| row.state != KeyState::Retired) {
                    let signs = |material: &Arc<Material>| row.state == KeyState::Previous || material.signer.is_some();
                    let known = before.and_then(|ring| ring.material(&row.kid)).filter(signs);
                    match known.map_or_else(|| open(master_keys, row).map(Arc::new), Ok) {
                        Ok(material) => keys.push(RingKey { material, state: row.state }),
                        Err(error) => failure = Some(error),
                    }
                }
            }
        }
        for material in &self.accepted {
            if keys.iter().all(|known| known.material.verifier.kid != material.verifier.kid) {
                keys.push(RingKey { material: material.clone(), state: KeyState::Accepted });
            }
        }
        for key in &mut keys {
            if retired.contains(&key.material.verifier.kid) {
                key.state = KeyState::Retired;
            }
        }
        keys.sort_by_key(|key| key.state);
        let row_of = |kid: &str| rows.iter().find(|row| row.kid == kid);
        for key in &keys {
            let verifier = &key.material.verifier;
            listed.push(KeyInfo::of(verifier, key.state, row_of(&verifier.kid)));
        }
        let unknown = |row: &&StoredKey| {
            row.state == KeyState::Retired && keys.iter().all(|key| key.material.verifier.kid != row.kid)
        };
        listed.extend(rows.iter().filter(unknown).map(KeyInfo::retired));
        (KeyRing::new(keys, retired, listed), failure)
    }

    /// A new key.
    pub(crate) fn generate(&self) -> Result<NewKey, Error> {
        let text = generate::key_text(self.algorithm)?;
        let kid = read(&text, self.algorithm)?.verifier.kid;
        let algorithm = self.algorithm.name();
        Ok(NewKey { sealed: self.master_keys()?.seal(&kid, algorithm, &text)?, kid, algorithm })
    }

    /// A key without its private part, for one that signs no more. A secret is one part.
    pub(crate) fn without_private(&self, row: &StoredKey) -> Result<Vec<u8>, Error> {
        let (master_keys, name) = (self.master_keys()?, row.algorithm.as_deref().unwrap_or_default());
        let text = text_of(master_keys, row)?;
        let public = match read(&text, algorithm(row)?)?.signer {
            Some(signer) => signer.public_pem()?,
            None => None,
        };
        master_keys.seal(&row.kid, name, public.as_deref().unwrap_or(&text))
    }

    /// A key sealed anew; `None` where it is sealed under the current master key.
    pub(crate) fn reseal(&self, row: &StoredKey) -> Result<Option<Vec<u8>>, Error> {
        let master_keys = self.master_keys()?;
        if row.sealed.as_ref().is_none_or(|sealed| master_keys.is_current(sealed)) {
            return Ok(None);
        }
        let text = text_of(master_keys, row)?;
        master_keys.seal(&row.kid, row.algorithm.as_deref().unwrap_or_default(), &text).map(Some)
    }

    fn master_keys(&self) -> Result<&MasterKeys, Error> {
        match &self.own {
            Own::Sealed(master_keys) => Ok(master_keys),
            Own::Given(_) => Err(Error::config(
                "keys are files here, which are changed in the settings: set master_key to have them in the database",
            )),
        }
    }
}

fn open(master_keys: &MasterKeys, row: &StoredKey) -> Result<Material, Error> {
    let material = read(&text_of(master_keys, row)?, algorithm(row)?)?;
    if material.verifier.kid != row.kid {
        return Err(Error::internal("a key in the database has another id than its own"));
    }
    Ok(material)
}

fn text_of(master_keys: &MasterKeys, row: &StoredKey) -> Result<String, Error> {
    let sealed = row.sealed.as_deref().unwrap_or_default();
    master_keys.open(&row.kid, row.algorithm.as_deref().unwrap_or_default(), sealed)
}

fn algorithm(row: &StoredKey) -> Result<Algorithm, Error> {
    let known = row.algorithm.as_deref().and_then(Algorithm::named);
    known.ok_or_else(|| Error::internal("a key in the database is for an algorithm that this version does not know"))
}

fn read(text: &str, algorithm: Algorithm) -> Result<Material, Error> {
    let material = match algorithm {
        Algorithm::Hs256 => Material::from_secret(text.as_bytes()),
        _ => Material::from_pem(text.as_bytes()),
    };
    material.map_err(|reason| Error::internal(format!("a key in the database can't be used: {reason}")))
}
