//! From settings to keys: which there are, and which are refused.

use std::path::{Path, PathBuf};

use super::material::{Material, Reason, Verifier};
use super::{generate, seal};
use crate::config::{AcceptedKey, Algorithm, Place, Secret, Settings};
use crate::error::Error;

/// Keys whose private part is printed in a document that everybody has, by their thumbprints.
const WELL_KNOWN: &[&str] = &[
    "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", // RFC 8037 A.1, Ed25519
    "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", // RFC 7517 A.2 and RFC 7638 §3.1, RSA
    "y_x3gCJnL6oKGBBIXScabduwxTVy2Wd2bzRVEUbdUzc", // RFC 7515 A.1, HMAC
    "ZH3eASjHi3DlRWDRLpk0ZvX1Bxd85WJerEjCeoE_Amg", // the same as it is printed there, in base64url
    "IsUn6_e04MaShXFIISMp4kG62LWzMIPy_MvSA5pJgX8", // RFC 7515 A.2, RSA
    "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U", // RFC 7515 A.3, P-256
    "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s", // RFC 7517 A.2, P-256
    "LXkAyqcFEoI5pkMzfWjsAWbChzHfxtqD4Te31pAwA1s", // jwt.io, "a-string-secret-at-least-256-bits-long"
    "19J8y7Zprt2-QKLjF2I5pVk0OELX6cY2AfaAv1LC_w8", // jwt.io, P-256
    "oGDmHqCJ7yzMkWEkrlZVHkvrHIyQwtlDmeq5ForUHeY", // jwt.io, RSA
];

/// The key that signs; its file `may_be_made` where it is one that is generated.
pub(super) fn current(settings: &Settings, may_be_made: bool) -> Result<Material, Error> {
    let keys = &settings.keys;
    let algorithm = settings.algorithm;
    if let Some(secret) = &keys.secret {
        let material = from_secret("keys.secret", secret.0.as_bytes())?;
        refuse_well_known(settings, "keys.secret", secret.0.as_bytes(), &material.verifier.kid)?;
        return Ok(material);
    }
    if let Some(path) = &keys.file {
        let text = read("keys.file", path)?;
        let material = from_pem("keys.file", path, &text)?;
        refuse_other_algorithm("keys.file", path, &material.verifier, algorithm)?;
        refuse_well_known(settings, "keys.file", &[], &material.verifier.kid)?;
        if material.signer.is_none() {
            return Err(refused("keys.file", path, "it is a public key, and signing needs the private one"));
        }
        return Ok(material);
    }
    if !keys.generate {
        return Err(Error::config(how_to_get_a_key(algorithm)));
    }
    let path = match (&keys.generated_file, Place::of(&settings.database_url)) {
        (Some(path), _) => path.clone(),
        (None, Place::Memory) => {
            // What such a registry issues ends with it, and so may its key.
            let text = generate::key_text(algorithm)?;
            return from_text("keys.generate", Path::new("-"), text.as_bytes(), algorithm);
        }
        (None, Place::File(path)) => beside(&path, algorithm),
        (None, Place::Server) => beside(Path::new("counterfoil.db"), algorithm),
    };
    if !may_be_made && !path.exists() {
        let reason = "it is not there: the first start of a server makes it";
        return Err(refused("keys.generated_file", &path, reason));
    }
    let text = generate::read_or_create(&path, algorithm)
        .map_err(|error| refused("keys.generated_file", &path, "it can't be made or read").with_source(error))?;
    warn_if_readable(&path);
    let material = from_text("keys.generated_file", &path, &text, algorithm)?;
    refuse_other_algorithm("keys.generated_file", &path, &material.verifier, algorithm)?;
    if material.signer.is_none() {
        return Err(refused("keys.generated_file", &path, "it is a public key, and signing needs the private one"));
    }
    Ok(material)
}

/// A further key, without what could sign.
pub(super) fn accepted(settings: &Settings, key: &AcceptedKey) -> Result<Material, Error> {
    let (verifier, secret) = match key {
        AcceptedKey::Secret(secret) => (from_secret("keys.accept", secret.0.as_bytes())?.verifier, secret.0.as_bytes()),
        AcceptedKey::File { path, algorithm } => {
            let verifier = from_pem("keys.accept", path, &read("keys.accept", path)?)?.verifier;
            if let Some(algorithm) = algorithm {
                refuse_other_algorithm("keys.accept", path, &verifier, *algorithm)?;
            }
            (verifier, &[][..])
        }
    };
    refuse_well_known(settings, "keys.accept", secret, &verifier.kid)?;
    Ok(Material { verifier, signer: None })
}

fn from_secret(setting: &str, secret: &[u8]) -> Result<Material, Error> {
    Material::from_secret(secret).map_err(|reason| Error::config(format!("{setting} can't be used: {reason}")))
}

fn from_pem(setting: &str, path: &Path, text: &[u8]) -> Result<Material, Error> {
    Material::from_pem(text).map_err(|reason| refused(setting, path, reason))
}

/// Reads what [`generate`] wrote.
fn from_text(setting: &str, path: &Path, text: &[u8], algorithm: Algorithm) -> Result<Material, Error> {
    match algorithm {
        Algorithm::Hs256 => {
            Material::from_secret(text.trim_ascii_end()).map_err(|reason| refused(setting, path, reason))
        }
        _ => from_pem(setting, path, text),
    }
}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>, Error> {
    let text = std::fs::read(path).map_err(|error| refused(setting, path, "it can't be read").with_source(error))?;
    // A public key may be read by everybody.
    if text.windows(11).any(|window| window == b"PRIVATE KEY") {
        warn_if_readable(path);
    }
    Ok(text)
}

fn refused(setting: &str, path: &Path, reason: impl Into<Reason>) -> Error {
    Error::config(format!("{setting} names {}, which can't be used: {}", path.display(), reason.into()))
}

fn refuse_other_algorithm(setting: &str, path: &Path, key: &Verifier, algorithm: Algorithm) -> Result<(), Error> {
    if key.algorithm == algorithm {
        return Ok(());
    }
    let (is, wanted) = (key.algorithm.name(), algorithm.name());
    Err(refused(setting, path, format!("it is a key for {is}, and the algorithm is {wanted}")))
}

/// Refuses a master key that is no secret. One before it may be one, so that its keys can be sealed anew.
pub(super) fn refuse_known_master_key(settings: &Settings, master_key: &Secret) -> Result<(), Error> {
    refuse_well_known(settings, "master_key", &seal::bytes_of(master_key)?, "")
}

fn refuse_well_known(settings: &Settings, setting: &str, secret: &[u8], kid: &str) -> Result<(), Error> {
    let is_one_byte = secret.first().is_some_and(|first| secret.iter().all(|byte| byte == first));
    if settings.keys.allow_well_known || !(is_one_byte || WELL_KNOWN.contains(&kid)) {
        return Ok(());
    }
    Err(Error::config(format!(
        "{setting} is a well-known key, with which anybody can make tokens: use one of your own, or set \
         keys.allow_well_known = true"
    )))
}

fn how_to_get_a_key(algorithm: Algorithm) -> String {
    let (setting, command) = match algorithm {
        Algorithm::EdDsa => ("keys.file", "openssl genpkey -algorithm ed25519 -out counterfoil-key.pem"),
        Algorithm::Es256 => {
            ("keys.file", "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out counterfoil-key.pem")
        }
        Algorithm::Rs256 => {
            ("keys.file", "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out counterfoil-key.pem")
        }
        Algorithm::Hs256 => ("keys.secret_file", "openssl rand -hex 32 > counterfoil-key.secret"),
    };
    format!(
        "there is no key to sign tokens with: make one with `{command}` and name the file in {setting}, or set \
         keys.generate = true"
    )
}

/// `counterfoil.db` has `counterfoil-key.pem` beside it.
fn beside(database: &Path, algorithm: Algorithm) -> PathBuf {
    let mut name = database.file_stem().unwrap_or_default().to_owned();
    name.push(if algorithm == Algorithm::Hs256 { "-key.secret" } else { "-key.pem" });
    database.with_file_name(name)
}

fn warn_if_readable(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;

        let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
        if mode & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "others can read this private key: `chmod 600` it");
        }
    }
    #[cfg(not(unix))]
    let _ = path;
}
