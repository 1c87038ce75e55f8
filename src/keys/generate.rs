//! Keys made here: once, in a file that only its owner may read, the same for every process that asks for it.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};

use super::secret::random_bytes;
use crate::config::{Algorithm, SECRET_BYTES_MIN};
use crate::error::Error;

/// A random key as the text of its file: PKCS#8 in PEM, or the secret in hex.
pub(super) fn key_text(algorithm: Algorithm) -> Result<String, Error> {
    let failed = |error: aws_lc_rs::error::Unspecified| Error::internal("a key can't be generated").with_source(error);
    let der = match algorithm {
        Algorithm::EdDsa => {
            Ed25519KeyPair::generate().and_then(|pair| pair.to_pkcs8v1()).map_err(failed)?.as_ref().to_vec()
        }
        Algorithm::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .and_then(|pair| pair.to_pkcs8v1())
            .map_err(failed)?
            .as_ref()
            .to_vec(),
        Algorithm::Rs256 => {
            RsaKeyPair::generate(KeySize::Rsa2048).and_then(|pair| pair.as_der()).map_err(failed)?.as_ref().to_vec()
        }
        Algorithm::Hs256 => return secret_text(),
    };
    Ok(pem::encode_config(
        &pem::Pem::new("PRIVATE KEY", der),
        pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
    ))
}

/// A random secret of HS256, in hex.
pub(super) fn secret_text() -> Result<String, Error> {
    use std::fmt::Write as _;

    let secret: [u8; SECRET_BYTES_MIN] = random_bytes()?;
    Ok(secret.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// Reads the key file, which is made first where there is none. Of two processes that make it at once, both get the
/// key of the one that was first: a complete file is linked into place, and linking never replaces.
pub(super) fn read_or_create(path: &Path, algorithm: Algorithm) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    let text = key_text(algorithm).map_err(io::Error::other)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = directory.join(format!(".counterfoil-key-{}", uuid::Uuid::new_v4()));
    let linked = write_private(&temporary, text.as_bytes()).and_then(|()| match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        linked => linked.map(|()| true),
    });
    // Where even this fails, what is left behind is private, and in nobody's way.
    let _ = fs::remove_file(&temporary);
    if linked? {
        sync_directory(directory)?;
        tracing::warn!(path = %path.display(), "made a new key to sign tokens with; keep this file, or name your own in keys.file");
    }
    fs::read(path)
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes the new name durable, not only what it names.
fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(directory)?.sync_all() } else { Ok(()) }
}
