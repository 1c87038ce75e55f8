//! Signing one token, beside the crypto library's own signature with a key that it has parsed.

use std::fs;
use std::path::Path;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use counterfoil::{Claims, Registry};

use crate::library::{self, Replica};
use crate::process::own_thread_cpu_micros;
use crate::setup::Setup;
use crate::statistics::ratio;
use crate::table::{MICROS, Reach, Table};
use crate::{Bench, Outcome};

/// Signatures between two looks at the CPU time, which is brought up to date some hundred times a second: about a
/// second's.
const EDDSA: usize = 60_000;
const RS256: usize = 2_000;

/// What is over 1.3 times the bare signature, in microseconds, at most.
const OVER_MICROS: f64 = 2.0;

pub(crate) async fn measure(bench: &Bench, table: &mut Table) -> Outcome<()> {
    let folder = bench.folder("sign")?;
    let key = Ed25519KeyPair::generate()?;
    let file = folder.join("ed25519.pem");
    write_key(&file, key.to_pkcs8v1()?.as_ref())?;
    one(bench, table, &folder, ("EdDSA", &file, EDDSA), &|message| {
        std::hint::black_box(key.try_sign(message)?);
        Ok(())
    })
    .await?;

    let key = RsaKeyPair::generate(KeySize::Rsa2048)?;
    let file = folder.join("rsa.pem");
    let der: Pkcs8V1Der<'_> = key.as_der()?;
    write_key(&file, der.as_ref())?;
    let random = SystemRandom::new();
    one(bench, table, &folder, ("RS256", &file, RS256), &|message| {
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
        std::hint::black_box(signature);
        Ok(())
    })
    .await
}

async fn one(
    bench: &Bench,
    table: &mut Table,
    folder: &Path,
    (algorithm, key, count): (&str, &Path, usize),
    bare: &dyn Fn(&[u8]) -> Outcome<()>,
) -> Outcome<()> {
    let url = format!("sqlite://{}", folder.join(format!("{algorithm}.db")).display());
    let replica = Replica::open(&Setup::new(&url, folder).with_key(algorithm, key)).await?;
    let token = library::issue(&replica.registry, 1).await?.remove(0).text;
    let checked = replica.registry.check(&token, counterfoil::Expect::access()).await;
    let claims = checked.map_err(|denial| format!("{denial:?}"))?.claims().clone();
    // The same bytes are signed: what the token says before its signature.
    let (message, _) = token.rsplit_once('.').ok_or("a token has a signature")?;
    let (mut own, mut base, mut beyond) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.options.rounds {
        let bare = cpu_micros_each(count, || bare(message.as_bytes()))?;
        base.push(bare);
        let library = library_micros_each(&replica.registry, &claims, count)?;
        own.push(library);
        beyond.push(library - 1.3 * bare);
    }
    let against = ("the crypto library alone", base.as_slice());
    table.ratio(format!("sign one token, {algorithm}, CPU"), MICROS, &own, against, Reach::Report);
    let over = format!("sign one token, {algorithm}, CPU over 1.3 times the crypto library's");
    table.value(over, MICROS, &beyond, Reach::AtMost(OVER_MICROS));
    replica.close().await;
    Ok(())
}

/// CPU time of one of so many calls, in microseconds. They run on this thread alone.
fn cpu_micros_each(count: usize, mut call: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    let before = own_thread_cpu_micros()?;
    for _ in 0..count {
        call()?;
    }
    Ok((own_thread_cpu_micros()? - before) / ratio(count, 1))
}

/// The library's own: from claims to a token, and nothing on the registry.
fn library_micros_each(registry: &Registry, claims: &Claims, count: usize) -> Outcome<f64> {
    cpu_micros_each(count, || {
        std::hint::black_box(registry.sign_alone(claims)?);
        Ok(())
    })
}

fn write_key(file: &Path, der: &[u8]) -> Outcome<()> {
    fs::write(file, pem::encode(&pem::Pem::new("PRIVATE KEY", der)))?;
    Ok(())
}
