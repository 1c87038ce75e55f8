use std::path::Path;

use figment::Figment;
use figment::providers::{Format, Toml};
use serde_json::{Value, json};

use super::*;

/// The reference, which is also what this project starts with.
const REFERENCE: &str = include_str!("../../Rocket.toml");

fn figment(profile: &str, toml: &str) -> Figment {
    Figment::from(Toml::string(toml).nested()).select(profile)
}

fn reader(figment: &Figment, environment: &[(&str, &str)]) -> Result<Reader, Error> {
    let environment = environment.iter().map(|(name, value)| (Some((*name).to_owned()), Some((*value).to_owned())));
    Reader::from_sources(figment, environment)
}

fn read(toml: &str, environment: &[(&str, &str)]) -> Result<Settings, Error> {
    read::settings(&mut reader(&figment("debug", &format!("[default.counterfoil]\n{toml}")), environment)?)
}

fn refusal(toml: &str, environment: &[(&str, &str)]) -> String {
    let error = read(toml, environment).expect_err(toml);
    assert!(error.is_config());
    let sentence = error.to_string();
    assert!(!sentence.contains('\n'), "{sentence}");
    sentence
}

fn explained(toml: &str, environment: &[(&str, &str)]) -> Vec<Explained> {
    let mut reader = reader(&figment("debug", toml), environment).unwrap();
    read::settings(&mut reader).unwrap();
    reader.into_explained()
}

fn find<'a>(explained: &'a [Explained], key: &str) -> &'a Explained {
    explained.iter().find(|setting| setting.key == key).unwrap_or_else(|| panic!("{key}"))
}

/// The settings of the reference by key; `None` where it says that there is no default.
fn reference() -> Vec<(String, Option<Value>)> {
    let settings = REFERENCE.lines().filter_map(|line| line.strip_prefix("# ")?.split_once(" = "));
    let is_key = |key: &str| key.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '.'));
    settings
        .filter(|(key, _)| is_key(key))
        .map(|(key, value)| {
            let default = (!value.starts_with('<')).then(|| {
                Figment::from(Toml::string(&format!("value = {value}"))).extract_inner::<Value>("value").unwrap()
            });
            (key.to_owned(), default)
        })
        .collect()
}

#[test]
fn the_reference_names_every_setting_and_its_default() {
    let explained = explained(REFERENCE, &[]);
    let reference = reference();
    for (key, default) in &reference {
        let setting = find(&explained, key);
        assert_eq!(setting.source, "default", "{key}");
        match default {
            Some(default) => assert_eq!(&setting.value, default, "{key}"),
            // What depends on the machine has no default that could stand in a file.
            None if key == "password.concurrency" => {}
            None => assert_eq!(setting.value, Value::Null, "{key}"),
        }
    }
    for setting in &explained {
        assert_eq!(reference.iter().filter(|(key, _)| *key == setting.key).count(), 1, "{}", setting.key);
    }
}

#[test]
fn the_settings_page_names_every_setting() {
    let mut named = Vec::new();
    for row in include_str!("../../docs/settings.md").lines().filter_map(|line| line.strip_prefix("| `")) {
        let names = row.split(" | ").next().unwrap().split(", ").map(|name| name.trim_matches('`'));
        let mut first = "";
        for name in names {
            // `.grace` beside `refresh.rotation`, `_file` beside `database_url`.
            named.push(match name.chars().next() {
                Some('.') => format!("{}{name}", first.rsplit_once('.').unwrap().0),
                Some('_') => format!("{first}{name}"),
                _ => {
                    first = name;
                    name.to_owned()
                }
            });
        }
    }
    let mut settings: Vec<String> = explained("", &[]).into_iter().map(|setting| setting.key).collect();
    named.sort_unstable();
    settings.sort_unstable();
    assert_eq!(named, settings);
}

#[test]
fn each_setting_is_explained_once() {
    let explained = explained("", &[]);
    for setting in &explained {
        assert_eq!(explained.iter().filter(|other| other.key == setting.key).count(), 1, "{}", setting.key);
    }
}

#[test]
fn later_sources_win() {
    let toml = "[default.counterfoil]\ndatabase_url = \"sqlite://a.db\"\naccess_expires = \"1m\"\nleeway = \"1s\"\n\
                [debug.counterfoil]\naccess_expires = \"2m\"";
    let all = explained(toml, &[("COUNTERFOIL_DATABASE_URL", "sqlite://c.db"), ("DATABASE_URL", "sqlite://b.db")]);
    let url = find(&all, "database_url");
    assert_eq!(
        (&url.value, url.source.as_str()),
        (&json!("sqlite://c.db"), "environment variable COUNTERFOIL_DATABASE_URL")
    );
    assert_eq!(find(&all, "access_expires").value, json!("2m"));
    assert_eq!(find(&all, "leeway").value, json!("1s"));
    let two = explained(toml, &[("DATABASE_URL", "sqlite://b.db")]);
    assert_eq!(find(&two, "database_url").value, json!("sqlite://b.db"));
    assert_eq!(find(&two, "database_url").source, "environment variable DATABASE_URL");
}

#[test]
fn the_header_of_a_proxy_is_rockets_where_ours_is_not_written() {
    let shown = |toml: &str, environment: &[(&str, &str)]| {
        let mut reader = reader(&figment("debug", toml), environment).unwrap();
        let settings = read::settings(&mut reader).unwrap();
        (settings.ip_header, find(&reader.into_explained(), "ip_header").value.clone())
    };
    let real = || (Some("X-Real-IP".to_owned()), json!("X-Real-IP"));
    let off = || (Some(String::new()), json!(false));
    assert_eq!(shown("", &[]), (None, json!(false)));
    assert_eq!(shown("[default]\nip_header = \"X-Real-IP\"", &[]), real());
    assert_eq!(shown("[default.counterfoil]\nip_header = \"X-Real-IP\"", &[]), real());
    assert_eq!(shown("[default]\nip_header = \"X-Real-IP\"\n[default.counterfoil]\nip_header = false", &[]), off());
    assert_eq!(shown("[default.counterfoil]\nip_header = false", &[("COUNTERFOIL_IP_HEADER", "X-Real-IP")]), real());
    for none in ["", "false", "False", "off"] {
        assert_eq!(shown("[default]\nip_header = \"X-Real-IP\"", &[("COUNTERFOIL_IP_HEADER", none)]), off());
    }
}

#[test]
fn a_file_is_named_as_the_source() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Rocket.toml");
    std::fs::write(&path, "[default.counterfoil]\nleeway = \"1s\"").unwrap();
    let mut reader = reader(&Figment::from(Toml::file(&path).nested()).select("debug"), &[]).unwrap();
    read::settings(&mut reader).unwrap();
    let explained = reader.into_explained();
    assert!(find(&explained, "leeway").source.ends_with("Rocket.toml"));
}

#[test]
fn the_environment_holds_any_kind_of_value() {
    let settings = read(
        "",
        &[
            ("COUNTERFOIL_ISSUER", "12345"),
            ("COUNTERFOIL_ALGORITHM", "HS256"),
            ("COUNTERFOIL_KEYS__SECRET", "12345678901234567890123456789012"),
            ("COUNTERFOIL_LOCATIONS", r#"["header","cookie"]"#),
            ("COUNTERFOIL_AUDIENCE", "https://api.example"),
            ("COUNTERFOIL_MIGRATE", "false"),
            ("COUNTERFOIL_DATABASE_POOL", "3"),
            ("COUNTERFOIL_OPERATIONS__PORT", "9000"),
            ("COUNTERFOIL_QUERY__NAME", "true"),
            ("COUNTERFOIL_COOKIE__SAME_SITE", "Strict"),
            ("COUNTERFOIL_LAST_USED", "1m"),
            ("COUNTERFOIL_PURGE__EVERY", "off"),
            ("COUNTERFOIL_KEYS__ACCEPT", r#"["old.pem", {"file": "rsa.pem", "algorithm": "RS256"}]"#),
            ("COUNTERFOIL_TEST_DATABASE", "no setting"),
            ("COUNTERFOIL_USER_PASSWORD", "no setting"),
            ("PATH", "no setting"),
        ],
    )
    .unwrap();
    assert_eq!(settings.issuer, "12345");
    assert_eq!(settings.keys.secret.unwrap().0, "12345678901234567890123456789012");
    assert_eq!(settings.locations, [Location::Header, Location::Cookie]);
    assert_eq!(settings.audience, ["https://api.example"]);
    assert!(!settings.migrate);
    assert_eq!(settings.database_pool, 3);
    assert_eq!(settings.operations.port, Some(9000));
    assert_eq!(settings.query_name, "true");
    assert_eq!(settings.cookie.same_site, SameSite::Strict);
    assert_eq!(settings.last_used, Some(Duration::from_secs(60)));
    assert_eq!(settings.purge.every, None);
    let [AcceptedKey::File { path, algorithm: None }, AcceptedKey::File { algorithm: Some(Algorithm::Rs256), .. }] =
        settings.keys.accept.as_slice()
    else {
        panic!("{:?}", settings.keys.accept);
    };
    assert_eq!(path, Path::new("old.pem"));
}

#[test]
fn an_unknown_setting_is_refused_by_the_name_it_was_written_with() {
    assert_eq!(refusal("acess_expires = \"1m\"", &[]), "acess_expires is not a setting; did you mean access_expires?");
    assert_eq!(refusal("cookie.secur = true", &[]), "cookie.secur is not a setting; did you mean cookie.secure?");
    assert_eq!(
        refusal("", &[("COUNTERFOIL_COOKIE__SECUR", "true")]),
        "COUNTERFOIL_COOKIE__SECUR is not a setting; did you mean COUNTERFOIL_COOKIE__SECURE?"
    );
    let sentence = refusal("", &[("COUNTERFOIL_ZZZZZZZZZ", "1")]);
    assert_eq!(sentence, "COUNTERFOIL_ZZZZZZZZZ is not a setting; docs/settings.md lists those that are");
    for later in ["csrf.methods = [\"GET\"]", "sessions.limit = 3"] {
        assert!(refusal(later, &[]).contains("is not a setting"), "{later}");
    }
}

#[test]
fn a_database_url_for_something_else_is_refused_with_the_way_out() {
    let elsewhere = ("DATABASE_URL", "mysql://localhost/x");
    let sentence = refusal("", &[elsewhere]);
    assert!(
        sentence.starts_with("DATABASE_URL must") && sentence.ends_with("set COUNTERFOIL_DATABASE_URL"),
        "{sentence}"
    );
    assert!(!refusal("database_url = \"mysql://localhost/x\"", &[]).contains("DATABASE_URL"));
    let own = read("", &[elsewhere, ("COUNTERFOIL_DATABASE_URL", "sqlite::memory:")]).unwrap();
    assert_eq!(own.database_url, "sqlite::memory:");
}

#[test]
fn a_value_that_makes_no_sense_is_refused_by_its_key() {
    const SECRET: &str = "keys.secret = \"0123456789abcdef0123456789abcdef\"";
    let cases = [
        ("access_expires", "access_expires = 900"),
        ("access_expires", "access_expires = \"0s\""),
        ("access_expires", "access_expires = \"31d\""),
        ("access_expires", "access_expires = \"soon\""),
        ("access_expires", "access_expires = \"1500ms\""),
        ("refresh_expires", "refresh_expires = \"1m\""),
        ("leeway", "leeway = \"6m\""),
        ("migrate", "migrate = \"perhaps\""),
        ("algorithm", "algorithm = \"none\""),
        ("locations", "locations = []"),
        ("locations", "locations = [\"header\", \"header\"]"),
        ("locations", "locations = [\"headers\"]"),
        ("database_pool", "database_pool = 0"),
        ("database_url", "database_url = \"mysql://localhost/x\""),
        ("database_url", "database_url = 5"),
        ("database_url", "database_url = \"sqlite://\""),
        ("database_url", "database_url = \"postgres://db/x?ssl_mode=verify-full\""),
        ("purge.batch", "purge.batch = 100001"),
        ("issuer", "issuer = \"\""),
        ("issuer", "issuer = \"a b\""),
        ("issuer", "issuer = \"1:2\""),
        ("audience", "audience = [\"a\", \"a\"]"),
        ("audience", "audience = [1]"),
        ("audience", "issuer = \"https://id.example\"\naudience = [\"https://id.example/console\"]"),
        ("cookie.access_name", "cookie.access_name = \"counterfoil_console\""),
        ("cookie.access_name", "cookie.access_name = \"__Host-counterfoil_console\""),
        ("cookie.csrf_access_name", "cookie.csrf_access_name = \"__Host-counterfoil_console_form\""),
        ("console.expires", "console.expires = \"1s\""),
        ("identity_claim", "identity_claim = \"sub\""),
        ("keys.secret", SECRET),
        ("keys.secret", "algorithm = \"HS256\"\nkeys.secret = \"short\""),
        ("keys.file", "algorithm = \"HS256\"\nkeys.file = \"key.pem\""),
        ("keys.generated_file", "keys.file = \"key.pem\"\nkeys.generated_file = \"other.pem\""),
        ("keys.accept", "keys.accept = [{ file = \"a\", secret = \"b\" }]"),
        ("keys.accept", "keys.accept = \"a.pem\""),
        ("cookie.same_site", "cookie.same_site = \"None\"\ncookie.secure = false"),
        ("cookie.access_name", "cookie.access_name = \"a b\""),
        ("cookie.csrf_access_name", "cookie.csrf_access_name = \"access_token_cookie\""),
        ("cookie.refresh_path", "cookie.refresh_path = \"refresh\""),
        ("cookie.path", "cookie.path = \"x\""),
        ("cookie.domain", "cookie.domain = \"https://example.com\""),
        ("cookie.access_name", "cookie.access_name = \"__Host-a\"\ncookie.path = \"/api\""),
        ("cookie.access_name", "cookie.access_name = \"__host-a\"\ncookie.path = \"/api\""),
        ("cookie.refresh_name", "cookie.refresh_name = \"__SECURE-a\"\ncookie.secure = false"),
        ("cookie.csrf_access_name", "cookie.csrf_access_name = \"__Http-a\""),
        ("cookie.csrf_refresh_name", "cookie.csrf_refresh_name = \"__Host-Http-a\""),
        ("csrf_methods", "csrf_methods = [\"FETCH\"]"),
        ("csrf_methods", "csrf_methods = []"),
        ("csrf_header", "csrf_header = \"Authorization\""),
        ("json.refresh_name", "json.refresh_name = \"access_token\""),
        ("password.memory_kib", "password.memory_kib = 8\npassword.parallelism = 2"),
        ("operations.address", "operations.address = \"127.0.0.1\""),
        ("operations.port", "operations.port = 8000"),
        ("ip_header", "ip_header = \"X Real IP\""),
        ("ip_header", "ip_header = true"),
        ("ip_header", "ip_header = \"TRUE\""),
        ("ip_header", "ip_header = \"none\""),
        ("ip_header", "ip_header = \"0\""),
        ("first_admin", "first_admin = \"yes\""),
        ("first_admin_password_file", "first_admin_password_file = \"/nowhere/at/all\""),
        ("body_limit", "body_limit = 1"),
        ("login.window", "login.window = \"0s\""),
    ];
    for (key, toml) in cases {
        let sentence = refusal(toml, &[]);
        assert!(sentence.starts_with(&format!("{key} ")), "{toml}: {sentence}");
    }
    for none in ["true", "X Real IP"] {
        let sentence = refusal("", &[("COUNTERFOIL_IP_HEADER", none)]);
        assert!(sentence.starts_with("COUNTERFOIL_IP_HEADER must be the name of a header"), "{sentence}");
    }
    let sentence = refusal("", &[("COUNTERFOIL_LEEWAY", "1h")]);
    assert!(sentence.starts_with("COUNTERFOIL_LEEWAY must be"), "{sentence}");
    let refused = |toml: &str| reader(&figment("debug", toml), &[]).err().map(|error| error.to_string());
    let why = refused("[default.counterfoil]\nkeys.secret = \"open sesame\" leeway = \"1s\"").unwrap();
    assert!(why.contains("line 2") && why.contains("expected newline") && why.contains("in TOML"), "{why}");
    assert!(!why.contains("sesame") && !why.contains('\n'), "{why}");
    let misplaced = refused("[counterfoil]\nleeway = \"1s\"");
    assert_eq!(misplaced.as_deref(), Some("[counterfoil] would be read by nobody: write [default.counterfoil]"));
    assert!(read(&format!("algorithm = \"HS256\"\n{SECRET}"), &[]).is_ok());
}

#[test]
fn a_table_that_is_none_is_refused() {
    let error = reader(&figment("debug", "[default]\ncounterfoil = 5"), &[]).unwrap_err();
    assert!(error.to_string().starts_with("counterfoil must be a table"), "{error}");
}

#[test]
fn the_issuer_follows_the_port_in_debug_and_is_required_elsewhere() {
    let issuer =
        |profile: &str, toml: &str| read::settings(&mut reader(&figment(profile, toml), &[])?).map(|s| s.issuer);
    assert_eq!(issuer("debug", "").unwrap(), "http://localhost:8000");
    assert_eq!(issuer("debug", "[default]\nport = 9999").unwrap(), "http://localhost:9999");
    for profile in ["release", "production"] {
        let error = issuer(profile, "").unwrap_err().to_string();
        assert!(error.starts_with("issuer must be set"), "{error}");
        assert_eq!(
            issuer(profile, "[default.counterfoil]\nissuer = \"https://a.example\"").unwrap(),
            "https://a.example"
        );
    }
}

#[test]
fn only_the_debug_profile_generates_keys_unasked() {
    let toml = "[default.counterfoil]\nissuer = \"https://a.example\"";
    let keys = |profile: &str| read::settings(&mut reader(&figment(profile, toml), &[]).unwrap()).unwrap().keys;
    assert!(keys("debug").generate && keys("debug").allow_well_known);
    assert!(!keys("release").generate && !keys("release").allow_well_known);
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    std::fs::write(&path, "0123456789abcdef0123456789abcdef\n").unwrap();
    let toml = format!("algorithm = \"HS256\"\nkeys.secret_file = {:?}", path.to_str().unwrap());
    let settings = read(&toml, &[]).unwrap();
    assert_eq!(settings.keys.secret.clone().unwrap().0, "0123456789abcdef0123456789abcdef");
    assert!(!format!("{settings:?}").contains("0123456789abcdef"));
    let all = explained(&format!("[default.counterfoil]\n{toml}"), &[]);
    assert_eq!(find(&all, "keys.secret").value, json!("********"));
    assert!(find(&all, "keys.secret").source.starts_with("file "));
    std::fs::write(directory.path().join("short"), "too short").unwrap();
    let short = directory.path().join("short").display().to_string();
    let sentence = refusal(&format!("keys.accept = [{{ secret_file = {short:?} }}]"), &[]);
    assert_eq!(sentence, format!("keys.accept names {short}, which must have at least 32 bytes"));
    let both = format!("{toml}\nkeys.secret = \"0123456789abcdef0123456789abcdef\"");
    assert!(refusal(&both, &[]).starts_with("keys.secret and keys.secret_file can't both be set"));
    // The environment wins over either.
    let other = "x".repeat(31) + "y";
    assert_eq!(read(&toml, &[("COUNTERFOIL_KEYS__SECRET", &other)]).unwrap().keys.secret.unwrap().0, other);
}

#[test]
fn the_password_of_the_database_is_never_shown() {
    for (url, shown) in [
        ("postgres://u:p%40w@db/x", "postgres://u:********@db/x"),
        ("postgres://u:p@w@db/x", "postgres://u:********@db/x"),
        ("postgres://u:p?w@db/x", "postgres://u:********@db/x"),
        ("postgres://u@db/x", "postgres://u@db/x"),
        ("postgres://db/x?user=a@b&password=p&port=1", "postgres://db/x?user=a@b&password=********&port=1"),
        ("postgres://db/x?user=u&password=p", "postgres://db/x?user=u&password=********"),
        ("sqlite://counterfoil.db?mode=ro", "sqlite://counterfoil.db?mode=ro"),
        // Where what is not encoded makes it doubtful where it ends.
        ("postgres://h:5432/db?password=hunter@tail", "postgres://********"),
        ("postgres://h/db?user=u&password=hunter@tail", "postgres://********"),
        ("postgres://h/db?password=one?two&port=1", "postgres://h/db?password=********&port=1"),
    ] {
        let all = explained("", &[("DATABASE_URL", url)]);
        assert_eq!(find(&all, "database_url").value, json!(shown));
    }
    let settings = read("", &[("DATABASE_URL", "postgres://u:hidden@db/x")]).unwrap();
    assert!(!format!("{settings:?}").contains("hidden"));
}

#[test]
fn tests_get_settings_of_their_own() {
    let (one, other) = (Settings::for_tests(), Settings::for_tests());
    assert_ne!(one.keys.secret, other.keys.secret);
    assert_eq!(one.database_url, "sqlite::memory:");
    assert_eq!((one.issuer(), one.purge.every), ("http://localhost", None));
    let cookies = Settings::for_tests_with("leeway = \"30s\"\nlocations = [\"cookie\"]").unwrap();
    assert_eq!((cookies.leeway, cookies.locations()), (Duration::from_secs(30), [Location::Cookie].as_slice()));
    assert!(Settings::for_tests_with("algorithm = \"ES256\"").unwrap().keys.secret.is_none());
    assert!(Settings::for_tests_with("leway = \"30s\"").is_err());
    let broken = Settings::for_tests_with("keys.secret = hidden").unwrap_err();
    assert!(broken.to_string().contains("line 1") && !format!("{broken:?}").contains("hidden"), "{broken:?}");
    assert!(!broken.to_string().contains('\n'), "{broken}");
}
