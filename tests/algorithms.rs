//! Every algorithm signs what it accepts, and accepts no other's tokens.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RsaKeyPair};

use crate::support::forge::{header_of, pem, sign_hs256};
use crate::support::{Database, Server, json, on_both};

const SECRET: &str = "a secret that only this test knows, and long enough";

async fn start(database: Database, algorithm: &'static str, private_pem: &str) -> (Server, tempfile::TempDir) {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("other.pem");
    std::fs::write(&file, private_pem).unwrap();
    let server =
        Server::start(database, |settings| settings.set("algorithm", algorithm).set("keys.file", json!(file))).await;
    (server, home)
}

async fn works(server: &Server, algorithm: &str) {
    let pair = server.login().await;
    let header = header_of(&pair.access);
    assert_eq!((&header["alg"], &header["typ"]), (&json!(algorithm), &json!("at+jwt")));
    server.accepts(&pair.access).await;
    server.post("/refresh").bearer(&pair.refresh).send().await.ok(200);
    // The key of the other tests is not this server's, and its own kid doesn't lend itself to another algorithm.
    server.refuses(&server.key.sign(&server.key.header(), &server.claims()), "token_invalid").await;
    let mut borrowed = server.key.header();
    borrowed["kid"] = header["kid"].clone();
    server.refuses(&server.key.sign(&borrowed, &server.claims()), "token_invalid").await;
}

on_both! {
    async fn es256(database: Database) {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let der = key.to_pkcs8v1().unwrap();
        let (server, _home) = start(database, "ES256", &pem("PRIVATE KEY", der.as_ref())).await;
        works(&server, "ES256").await;
    }

    async fn rs256_and_its_public_key_is_no_secret(database: Database) {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
        let (server, _home) = start(database, "RS256", &pem("PRIVATE KEY", der.as_ref())).await;
        works(&server, "RS256").await;

        let public = key.public_key();
        let spki = aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(public).unwrap();
        let mut header = header_of(&server.login().await.access);
        header["alg"] = json!("HS256");
        for secret in [pem("PUBLIC KEY", spki.as_ref()).into_bytes(), spki.as_ref().to_vec(), public.as_ref().to_vec()]
        {
            server.refuses(&sign_hs256(&secret, &header, &server.claims()), "token_invalid").await;
        }
    }

    async fn hs256(database: Database) {
        let server =
            Server::start(database, |settings| settings.set("algorithm", "HS256").set("keys.secret", SECRET)).await;
        works(&server, "HS256").await;
        let header = header_of(&server.login().await.access);
        server.refuses(&sign_hs256(SECRET.as_bytes(), &header, &server.claims()), "token_unknown").await;
        server
            .refuses(&sign_hs256(b"another secret, just as long as the", &header, &server.claims()), "token_invalid")
            .await;
        server.refuses(&sign_hs256(b"", &header, &server.claims()), "token_invalid").await;
    }
}
