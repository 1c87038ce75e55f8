mod load;

use std::path::{Path, PathBuf};

use serde_json::json;

use super::*;
use crate::config::Algorithm;

fn settings(toml: &str) -> Settings {
    Settings::for_tests_with(toml).unwrap()
}

/// A ring with a new key in memory.
fn ring(algorithm: Algorithm) -> KeyRing {
    KeyRing::load(&settings(&format!("algorithm = {:?}", algorithm.name()))).unwrap()
}

fn ring_of(material: Material) -> KeyRing {
    let key = RingKey { material: Arc::new(material), state: KeyState::Current };
    KeyRing::new(vec![key], HashSet::new(), Vec::new())
}

fn claims() -> Map<String, Value> {
    json!({ "sub": "anna", "n": [1, -2, 1.5, null, true, { "a": "b" }] }).as_object().unwrap().clone()
}

fn encode(json: &str) -> String {
    URL_SAFE_NO_PAD.encode(json)
}

/// Signs whatever it is told to, as an attacker with the key could.
fn forge(ring: &KeyRing, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(ring.current().unwrap().1.sign(message.as_bytes()).unwrap());
    format!("{message}.{signature}")
}

fn header(ring: &KeyRing, more: &str) -> String {
    format!(r#"{{"alg":"{}","kid":"{}"{more}}}"#, ring.keys[0].material.verifier.algorithm.name(), ring.current_kid())
}

fn write(directory: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn public_pem(private: &str) -> String {
    let signer = Material::from_pem(private.as_bytes()).unwrap().signer.unwrap();
    signer.public_pem().unwrap().unwrap()
}

#[test]
fn what_is_signed_verifies() {
    for algorithm in Algorithm::ALL {
        let ring = ring(algorithm);
        for (token_type, typ) in [(TokenType::Access, "at+jwt"), (TokenType::Refresh, "rt+jwt")] {
            let signed = ring.sign(token_type, &claims()).unwrap();
            let verified = ring.verify(&signed.token).unwrap();
            assert_eq!((&verified.claims, &verified.kid), (&claims(), &signed.kid));
            assert_eq!((verified.typ, verified.named), (Some(token_type), true));
            let head = URL_SAFE_NO_PAD.decode(signed.token.split('.').next().unwrap()).unwrap();
            let head: Value = serde_json::from_slice(&head).unwrap();
            assert_eq!(head, json!({ "alg": algorithm.name(), "kid": ring.current_kid(), "typ": typ }));
        }
    }
}

#[test]
fn another_key_of_the_same_algorithm_does_not_verify() {
    for algorithm in Algorithm::ALL {
        let signed = ring(algorithm).sign(TokenType::Access, &claims()).unwrap();
        assert_eq!(ring(algorithm).verify(&signed.token).unwrap_err(), Denial::Invalid);
    }
}

#[test]
fn a_changed_token_does_not_verify() {
    for algorithm in Algorithm::ALL {
        let ring = ring(algorithm);
        let token = ring.sign(TokenType::Access, &claims()).unwrap().token;
        let parts: Vec<&str> = token.split('.').collect();
        let other = encode(r#"{"sub":"bert"}"#);
        assert_eq!(ring.verify(&format!("{}.{other}.{}", parts[0], parts[2])).unwrap_err(), Denial::Invalid);
        let signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
        let short = URL_SAFE_NO_PAD.encode(&signature[1..]);
        assert_eq!(ring.verify(&format!("{}.{}.{short}", parts[0], parts[1])).unwrap_err(), Denial::Invalid);
    }
}

#[test]
fn the_public_key_as_hmac_secret_does_not_verify() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256] {
        let directory = tempfile::tempdir().unwrap();
        let private = generate::key_text(algorithm).unwrap();
        let path = write(directory.path(), "key.pem", &private);
        let ring =
            KeyRing::load(&settings(&format!("algorithm = {:?}\nkeys.file = {path:?}", algorithm.name()))).unwrap();
        let public = public_pem(&private);
        let attacker = ring_of(Material::from_secret(public.as_bytes()).unwrap());
        for header in [r#"{"alg":"HS256"}"#.to_owned(), format!(r#"{{"alg":"HS256","kid":"{}"}}"#, ring.current_kid())]
        {
            assert_eq!(ring.verify(&forge(&attacker, &header, "{}")).unwrap_err(), Denial::Invalid);
        }
        // With the header of the real algorithm, too.
        assert_eq!(ring.verify(&forge(&attacker, &self::header(&ring, ""), "{}")).unwrap_err(), Denial::Invalid);
    }
}

#[test]
fn the_algorithm_is_that_of_the_key() {
    let ring = ring(Algorithm::EdDsa);
    for alg in
        [r#""none""#, r#""None""#, r#""""#, "null", "1", r#"["EdDSA"]"#, r#""ES256""#, r#""eddsa""#, r#""HS256""#]
    {
        assert_eq!(
            ring.verify(&forge(&ring, &format!(r#"{{"alg":{alg}}}"#), "{}")).unwrap_err(),
            Denial::Invalid,
            "{alg}"
        );
    }
    assert_eq!(ring.verify(&forge(&ring, "{}", "{}")).unwrap_err(), Denial::Invalid);
    let unsigned = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode("{}"));
    assert_eq!(ring.verify(&unsigned).unwrap_err(), Denial::Malformed);
}

#[test]
fn a_kid_is_known_or_refused() {
    let ring = ring(Algorithm::EdDsa);
    for kid in ["", "other", "../../dev/null", "' or 1=1 --", "\\u0000", &"k".repeat(4_000), "http://example.com/key"] {
        let token = forge(&ring, &format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#), "{}");
        assert_eq!(ring.verify(&token).unwrap_err(), Denial::Invalid, "{kid}");
    }
    for kid in ["null", "1", "{}", "[]"] {
        let token = forge(&ring, &format!(r#"{{"alg":"EdDSA","kid":{kid}}}"#), "{}");
        assert_eq!(ring.verify(&token).unwrap_err(), Denial::Invalid, "{kid}");
    }
    let verified = ring.verify(&forge(&ring, r#"{"alg":"EdDSA"}"#, "{}")).unwrap();
    assert!(!verified.named);
    assert_eq!((verified.kid.as_str(), verified.typ), (ring.current_kid(), None));
}

#[test]
fn keys_in_the_header_are_not_looked_at() {
    let (ring, attacker) = (ring(Algorithm::EdDsa), ring(Algorithm::EdDsa));
    for more in [
        r#","jwk":{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
        r##","jku":"http://127.0.0.1:1/jwks""##,
        r##","x5u":"http://127.0.0.1:1/x""##,
        r#","x5c":["MA=="]"#,
    ] {
        let forged = forge(&attacker, &header(&ring, more), "{}");
        assert_eq!(ring.verify(&forged).unwrap_err(), Denial::Invalid, "{more}");
        assert!(ring.verify(&forge(&ring, &header(&ring, more), "{}")).is_ok(), "{more}");
    }
}

#[test]
fn any_critical_extension_is_refused() {
    let ring = ring(Algorithm::EdDsa);
    for more in [r#","crit":["b64"],"b64":false"#, r#","crit":["exp"],"exp":1"#, r#","crit":[]"#, r#","crit":null"#] {
        assert_eq!(ring.verify(&forge(&ring, &header(&ring, more), "{}")).unwrap_err(), Denial::Invalid, "{more}");
    }
}

#[test]
fn a_member_that_stands_twice_is_refused() {
    let ring = ring(Algorithm::EdDsa);
    for claims in [
        r#"{"sub":"a","sub":"b"}"#,
        r#"{"sub":"a","\u0073ub":"a"}"#,
        r#"{"x":{"y":1,"y":1}}"#,
        r#"{"x":[0,{"y":{"z":1,"z":2}}]}"#,
    ] {
        assert_eq!(ring.verify(&forge(&ring, &header(&ring, ""), claims)).unwrap_err(), Denial::Invalid, "{claims}");
    }
    for more in [r##","alg":"EdDSA""##, r##","kid":"x""##, r#","x":{"y":1,"y":1}"#] {
        assert_eq!(ring.verify(&forge(&ring, &header(&ring, more), "{}")).unwrap_err(), Denial::Invalid, "{more}");
    }
    assert!(ring.verify(&forge(&ring, &header(&ring, ""), r#"{"x":{"y":1},"z":{"y":1}}"#)).is_ok());
}

#[test]
fn what_is_no_jws_is_malformed() {
    let ring = ring(Algorithm::EdDsa);
    let token = ring.sign(TokenType::Access, &claims()).unwrap().token;
    let parts: Vec<&str> = token.split('.').collect();
    let (head, body, signature) = (parts[0], parts[1], parts[2]);
    for token in [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        head.to_owned(),
        format!("{head}.{body}"),
        format!("{head}.{body}."),
        format!("{head}..{signature}"),
        format!(".{body}.{signature}"),
        format!("{token}.{signature}"),
        format!("{head}.{body}.{signature}="),
        format!("{head}.{body}.{signature}\n"),
        format!(" {token}"),
        format!("{head}.{body}.+/+/"),
        format!("{head}.{body}.ÄÖ"),
        // Bits beyond the last byte.
        format!("{head}.{body}.AB"),
        forge(&ring, "not JSON", "{}"),
        forge(&ring, &header(&ring, ""), "[]"),
        forge(&ring, &header(&ring, ""), "null"),
        forge(&ring, &header(&ring, ""), "\"text\""),
        forge(&ring, &header(&ring, ""), "{} {}"),
        forge(&ring, &header(&ring, ""), "{'a':1}"),
        forge(&ring, &header(&ring, ""), r#"{"a":1e999}"#),
        forge(&ring, &header(&ring, ""), r#"{"a":NaN}"#),
        format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode([0x7B, 0x22, 0xFF, 0x22, 0x3A, 0x31, 0x7D])),
        forge(&ring, &header(&ring, ""), &format!(r#"{{"a":{}{}}}"#, "[".repeat(2_000), "]".repeat(2_000))),
        "a".repeat(TOKEN_BYTES_MAX + 1),
    ] {
        assert_eq!(ring.verify(&token).unwrap_err(), Denial::Malformed, "{token}");
    }
    let long = json!({ "a": "x".repeat(TOKEN_BYTES_MAX) }).as_object().unwrap().clone();
    assert!(ring.sign(TokenType::Access, &long).unwrap_err().is_invalid());
}

#[test]
fn the_processs_library_for_jwts_may_be_another_or_none() {
    use jsonwebtoken::crypto::{CryptoProvider, KeyUtils};

    // Where an application's features leave it open which one it is, this is what the JWT crate uses.
    static NONE: CryptoProvider = CryptoProvider {
        signer_factory: |_, _| panic!("it was asked to sign"),
        verifier_factory: |_, _| panic!("it was asked to verify"),
        key_utils: KeyUtils::new_unimplemented(),
    };
    assert!(NONE.install_default().is_ok(), "the default was used before");
    for algorithm in Algorithm::ALL {
        let ring = ring(algorithm);
        let token = ring.sign(TokenType::Access, &claims()).unwrap().token;
        assert_eq!(ring.verify(&token).unwrap().claims, claims());
    }
}

/// A public key of Ed25519, as PEM.
fn ed25519_pem(point: &[u8]) -> String {
    let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    spki.extend_from_slice(point);
    pem::encode(&pem::Pem::new("PUBLIC KEY", spki))
}

#[test]
fn a_point_that_anybody_can_sign_for_is_no_key() {
    let all = |first: u8, between: u8, last: u8| [&[first][..], &[between; 30], &[last]].concat();
    let mut points: Vec<Vec<u8>> = vec![all(0, 0, 0), all(1, 0, 0)];
    points.extend([0xec, 0xed, 0xee].map(|first| all(first, 0xff, 0x7f)));
    points.extend(material::ORDER_8.map(|point| point.to_vec()));
    for mut point in points {
        for sign in [0, 0x80] {
            point[31] |= sign;
            let pem = ed25519_pem(&point);
            assert!(Material::from_pem(pem.as_bytes()).is_err(), "{point:x?}");
        }
    }
    assert!(Material::from_pem(ed25519_pem(&all(3, 0, 0)).as_bytes()).is_ok(), "another point");
}

#[test]
fn thumbprints_are_those_of_the_rfcs() {
    // RFC 8037 A.2 and A.3.
    let x = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
    let key = Material::from_pem(ed25519_pem(&x).as_bytes()).unwrap();
    assert_eq!(key.verifier.kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    // RFC 7638 §3.1.
    const N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCi\
                     FV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgn\
                     Yb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqb\
                     w0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    let mut der = vec![0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00];
    der.extend(URL_SAFE_NO_PAD.decode(N).unwrap());
    der.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
    let key = Material::from_pem(pem::encode(&pem::Pem::new("RSA PUBLIC KEY", der)).as_bytes()).unwrap();
    assert_eq!(key.verifier.kid, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
}

#[test]
fn a_public_key_has_the_id_of_its_private_one_and_does_not_sign() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256] {
        let private = generate::key_text(algorithm).unwrap();
        let public = Material::from_pem(public_pem(&private).as_bytes()).unwrap();
        assert_eq!(public.verifier.kid, Material::from_pem(private.as_bytes()).unwrap().verifier.kid);
        assert!(public.signer.is_none());
        assert_eq!(public.verifier.algorithm, algorithm);
    }
}

#[test]
fn older_forms_of_private_keys_are_read() {
    use aws_lc_rs::encoding::AsDer;

    let text = generate::key_text(Algorithm::Es256).unwrap();
    let Some(Signer::Es256(key)) = Material::from_pem(text.as_bytes()).unwrap().signer else { panic!() };
    let sec1 = pem::encode(&pem::Pem::new("EC PRIVATE KEY", key.private_key().as_der().unwrap().as_ref()));
    // As `openssl ecparam -genkey` writes it.
    let sec1 = format!("{}{sec1}", pem::encode(&pem::Pem::new("EC PARAMETERS", [6, 0])));
    let rsa = generate::key_text(Algorithm::Rs256).unwrap();
    // PKCS#1 stands in PKCS#8 after 26 bytes that say what it is.
    let pkcs1 = pem::encode(&pem::Pem::new("RSA PRIVATE KEY", &pem::parse(&rsa).unwrap().contents()[26..]));
    for (new, old) in [(text, sec1), (rsa, pkcs1)] {
        let (new, old) = (Material::from_pem(new.as_bytes()).unwrap(), Material::from_pem(old.as_bytes()).unwrap());
        assert_eq!(new.verifier.kid, old.verifier.kid);
        assert!(old.signer.is_some());
    }
}

#[test]
fn accepted_keys_verify_and_never_sign() {
    let directory = tempfile::tempdir().unwrap();
    let olds = [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256].map(|algorithm| {
        let private = generate::key_text(algorithm).unwrap();
        let old = ring_of(Material::from_pem(private.as_bytes()).unwrap());
        (old, write(directory.path(), algorithm.name(), public_pem(&private)))
    });
    let paths: Vec<_> = olds.iter().map(|(_, path)| format!("{path:?}")).collect();
    let secret = "an old secret of thirty-two bytes";
    let ring = KeyRing::load(&settings(&format!(
        "algorithm = \"EdDSA\"\nkeys.accept = [{}, {{ secret = {secret:?} }}]",
        paths.join(", ")
    )))
    .unwrap();
    let old_secret = ring_of(Material::from_secret(secret.as_bytes()).unwrap());
    for old in olds.iter().map(|(old, _)| old).chain([&old_secret]) {
        let signed = old.sign(TokenType::Access, &claims()).unwrap();
        assert_eq!(ring.verify(&signed.token).unwrap().kid, signed.kid);
        let unnamed = forge(old, &format!(r#"{{"alg":"{}"}}"#, old.keys[0].material.verifier.algorithm.name()), "{}");
        let verified = ring.verify(&unnamed).unwrap();
        assert_eq!((verified.kid.as_str(), verified.named), (old.current_kid(), false));
    }
    let states: Vec<_> =
        ring.list().iter().map(|key| (key.algorithm.as_deref().unwrap(), key.state.as_str())).collect();
    assert_eq!(states[0], ("EdDSA", "current"));
    assert_eq!(states[1..], ["EdDSA", "ES256", "RS256", "HS256"].map(|algorithm| (algorithm, "accepted")));
    assert_eq!(ring.sign(TokenType::Access, &claims()).unwrap().kid, ring.current_kid());
}
