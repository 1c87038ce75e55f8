use super::*;

fn release(toml: &str) -> Settings {
    settings(&format!("keys.generate = false\nkeys.allow_well_known = false\n{toml}"))
}

fn refusal(settings: &Settings) -> String {
    let error = KeyRing::load(settings).unwrap_err();
    assert!(error.is_config(), "{error}");
    error.to_string()
}

#[test]
fn a_key_that_is_unusable_is_refused_by_its_setting() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| write(directory.path(), name, text);
    let ed = generate::key_text(Algorithm::EdDsa).unwrap();
    let both = format!("{ed}{ed}");
    let cases = [
        (PathBuf::from("/nowhere/at/all.pem"), "can't be read"),
        (file("text", "hello"), "no PEM block"),
        (file("two", &both), "more than one PEM block"),
        (file("bad", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "not an Ed25519, P-256 or RSA"),
        (file("certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "certificate"),
        (
            file("encrypted", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"),
            "encrypted",
        ),
        (file("es256", &generate::key_text(Algorithm::Es256).unwrap()), "a key for ES256, and the algorithm is EdDSA"),
        (file("public", &public_pem(&ed)), "a public key"),
    ];
    for (path, why) in cases {
        let sentence = refusal(&settings(&format!("keys.file = {path:?}")));
        assert!(sentence.starts_with("keys.file ") && sentence.contains(why), "{sentence}");
        assert!(!sentence.contains("AAAA") && !sentence.contains('\n'), "{sentence}");
    }
    let sentence = refusal(&settings("algorithm = \"EdDSA\"\nkeys.accept = [\"/nowhere/at/all.pem\"]"));
    assert!(sentence.starts_with("keys.accept "), "{sentence}");
    let sentence = refusal(&settings("algorithm = \"EdDSA\"\nkeys.accept = [{ secret = \"short\" }]"));
    assert!(sentence.contains("32 bytes"), "{sentence}");
}

#[test]
fn a_short_rsa_key_is_refused() {
    let mut der = vec![0x30, 0x81, 0x89, 0x02, 0x81, 0x81, 0x00];
    der.extend([0xFF; 128]);
    der.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
    let refused = Material::from_pem(pem::encode(&pem::Pem::new("RSA PUBLIC KEY", der)).as_bytes()).err().unwrap();
    assert!(refused.contains("2048"), "{refused}");
}

#[test]
fn without_a_key_the_refusal_says_how_to_get_one() {
    let sentence = refusal(&release("algorithm = \"EdDSA\""));
    assert!(sentence.contains("openssl genpkey -algorithm ed25519") && sentence.contains("keys.file"), "{sentence}");
    assert!(refusal(&release("algorithm = \"HS256\"")).contains("keys.secret_file"));
}

#[test]
fn well_known_keys_are_refused_unless_allowed() {
    // As it is printed in RFC 7515 A.1, where it stands for the bytes that it encodes.
    let printed = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    for secret in ["a-string-secret-at-least-256-bits-long".to_owned(), printed.to_owned(), "0".repeat(40)] {
        let toml = format!("algorithm = \"HS256\"\nkeys.secret = {secret:?}");
        assert!(refusal(&release(&toml)).starts_with("keys.secret is a well-known key"));
        assert!(KeyRing::load(&settings(&toml)).is_ok());
        let toml = format!(
            "algorithm = \"HS256\"\nkeys.secret = {:?}\nkeys.accept = [{{ secret = {secret:?} }}]",
            "ab".repeat(16)
        );
        assert!(refusal(&release(&toml)).starts_with("keys.accept is a well-known key"));
    }
}

#[test]
fn a_master_key_of_one_byte_is_refused_unless_allowed() {
    let good = "00112233445566778899aabbccddeeff".repeat(2);
    for known in ["0".repeat(64), "aB".repeat(32)] {
        let toml = format!("master_key = {known:?}");
        assert!(refusal(&release(&toml)).starts_with("master_key is a well-known key"), "{known}");
        assert!(KeyRing::load(&settings(&toml)).is_ok());
        // One that is in use can be replaced.
        assert!(KeyRing::load(&release(&format!("master_key = {good:?}\nmaster_key_old = {known:?}"))).is_ok());
    }
    assert!(KeyRing::load(&release(&format!("master_key = {:?}", "01".repeat(31) + "02"))).is_ok());
}

#[test]
fn a_generated_key_stays_the_same_and_private() {
    for (algorithm, name) in [(Algorithm::EdDsa, "app-key.pem"), (Algorithm::Hs256, "app-key.secret")] {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("app.db");
        let toml = format!("algorithm = {:?}\ndatabase_url = \"sqlite://{}\"", algorithm.name(), database.display());
        let settings = settings(&toml);
        // Several processes may start at once.
        let kids: Vec<String> = std::thread::scope(|scope| {
            let loading: Vec<_> =
                (0..8).map(|_| scope.spawn(|| KeyRing::load(&settings).unwrap().current_kid().to_owned())).collect();
            loading.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(kids.iter().all(|kid| *kid == kids[0]), "{kids:?}");
        assert_eq!(KeyRing::load(&settings).unwrap().current_kid(), kids[0]);
        let files: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap()).collect();
        assert_eq!(files.iter().map(|file| file.file_name()).collect::<Vec<_>>(), [name]);
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&files[0].metadata().unwrap().permissions()) & 0o777, 0o600);
    }
}

#[test]
fn a_generated_key_can_be_kept_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mine.pem");
    let settings = settings(&format!("algorithm = \"ES256\"\nkeys.generated_file = {path:?}"));
    let kid = KeyRing::load(&settings).unwrap().current_kid().to_owned();
    assert_eq!(KeyRing::load(&settings).unwrap().current_kid(), kid);
    assert!(path.exists());
}

#[test]
fn nothing_shown_holds_a_secret() {
    let settings = settings("algorithm = \"HS256\"\nkeys.secret = \"0123456789abcdef0123456789abcdef\"");
    let ring = KeyRing::load(&settings).unwrap();
    assert_eq!(format!("{ring:?}"), format!("[{:?}]", ring.current_kid()));
    let signed = ring.sign(TokenType::Access, &claims()).unwrap();
    assert!(!format!("{signed:?}").contains(&signed.token));
}
