//! The attacks of RFC 8725 (JSON Web Token Best Current Practices) and their kin. Where a token must be well signed to
//! get as far as the check under test, the test signs it with the server's own key.

use crate::support::forge::{Key, base64url, jti_of, sid_of, sign_hs256};
use crate::support::{Server, Value, json, on_both};

/// The claims of the server with one of them replaced, or taken away by null.
fn claims_with(server: &Server, name: &str, value: Value) -> Value {
    let mut claims = server.claims();
    match value {
        Value::Null => claims.as_object_mut().unwrap().remove(name),
        value => claims.as_object_mut().unwrap().insert(name.to_owned(), value),
    };
    claims
}

fn header_with(server: &Server, name: &str, value: Value) -> Value {
    let mut header = server.key.header();
    header[name] = value;
    header
}

/// Which code a token gets, of those that say that it is none of the registry's.
async fn refused(server: &Server, token: &str, codes: &[&str]) {
    let answer = server.protected(token).await;
    let code = answer.body_json()["error"].as_str().unwrap().to_owned();
    assert!(codes.contains(&code.as_str()), "{codes:?}: {answer:?}");
    answer.error(401, &code);
}

/// Only the registry's not knowing it stands between this token and the door: what a test changes is what it tests.
async fn assert_control(server: &Server) {
    let token = server.key.sign(&server.key.header(), &server.claims());
    server.refuses(&token, "token_unknown").await;
}

on_both! {
    async fn a_well_signed_token_that_was_never_issued_is_unknown(server: Server) {
        assert_control(&server).await;
        let mut claims = server.claims();
        claims["type"] = json!("refresh");
        claims.as_object_mut().unwrap().remove("fresh");
        let token = server.key.sign(&header_with(&server, "typ", json!("rt+jwt")), &claims);
        server.post("/refresh").bearer(&token).send().await.error(401, "token_unknown");
    }

    async fn a_token_without_a_signature_is_refused(server: Server) {
        let real = server.login().await.access;
        let (_, rest) = real.split_once('.').unwrap();
        let (claims, signature) = rest.split_once('.').unwrap();
        for alg in ["none", "None", "NONE", "nOnE", ""] {
            let header = base64url(header_with(&server, "alg", json!(alg)).to_string().as_bytes());
            for token in
                [format!("{header}.{claims}."), format!("{header}.{claims}.{signature}"), format!("{header}.{claims}")]
            {
                refused(&server, &token, &["token_malformed", "token_invalid"]).await;
            }
        }
        let (signed, _) = real.rsplit_once('.').unwrap();
        refused(&server, &format!("{signed}."), &["token_malformed", "token_invalid"]).await;
        refused(&server, &format!("{signed}.{}", base64url(&[0; 64])), &["token_invalid"]).await;
    }

    async fn the_public_key_is_no_secret_of_hs256(server: Server) {
        let mut header = header_with(&server, "alg", json!("HS256"));
        let secrets = [
            server.key.public_pem().into_bytes(),
            server.key.public_pem().trim_end().into(),
            server.key.public_bytes().into(),
        ];
        for secret in secrets {
            for kid in [json!(server.key.kid()), Value::Null] {
                header["kid"] = kid;
                refused(&server, &sign_hs256(&secret, &header, &server.claims()), &["token_invalid"]).await;
            }
        }
        for alg in ["HS384", "RS256", "ES256", "PS256", "EdDSA ", "eddsa", "Ed448"] {
            let token = server.key.sign(&header_with(&server, "alg", json!(alg)), &server.claims());
            refused(&server, &token, &["token_invalid", "token_malformed"]).await;
        }
    }

    async fn another_key_is_refused_whatever_it_calls_itself(server: Server) {
        let other = Key::generate();
        for header in [other.header(), server.key.header()] {
            refused(&server, &other.sign(&header, &server.claims()), &["token_invalid"]).await;
        }
        // The header brings its own key, by value or by address: it is not asked for one.
        for (name, value) in [
            ("jwk", other.jwk()),
            ("jku", json!("http://127.0.0.1:1/jwks.json")),
            ("x5u", json!("http://127.0.0.1:1/cert.pem")),
            ("x5c", json!([base64url(other.public_bytes())])),
        ] {
            let mut header = other.header();
            header[name] = value;
            for kid in [json!(other.kid()), json!(server.key.kid())] {
                header["kid"] = kid;
                refused(&server, &other.sign(&header, &server.claims()), &["token_invalid"]).await;
            }
        }
    }

    async fn a_hostile_kid_names_no_key(server: Server) {
        for kid in [
            json!("unknown"),
            json!(""),
            json!("'; drop table cf_tokens; --"),
            json!("../../etc/passwd"),
            json!("/dev/null"),
            json!("\u{0}"),
            json!("☃"),
            json!("k".repeat(4_000)),
            json!("http://127.0.0.1:1/"),
            json!("$(id)"),
            json!(7),
            json!(["a"]),
            json!({ "a": 1 }),
            json!(true),
        ] {
            let token = server.key.sign(&header_with(&server, "kid", kid), &server.claims());
            refused(&server, &token, &["token_invalid", "token_malformed"]).await;
        }
        let mut header = server.key.header();
        header.as_object_mut().unwrap().remove("kid");
        let token = server.key.sign(&header, &server.claims());
        refused(&server, &token, &["token_invalid", "token_unknown"]).await;
        server.login().await;
    }

    async fn an_extension_that_must_be_understood_is_refused(server: Server) {
        for crit in [json!(["exp"]), json!(["b64"]), json!(["x"]), json!([]), json!("x"), json!(null)] {
            let mut header = header_with(&server, "crit", crit);
            header["b64"] = json!(true);
            header["x"] = json!(1);
            refused(&server, &server.key.sign(&header, &server.claims()), &["token_invalid", "token_malformed"]).await;
        }
    }

    async fn a_member_that_stands_twice_is_refused(server: Server) {
        let (header, claims) = (server.key.header().to_string(), server.claims().to_string());
        let twice = |text: &str, member: &str| format!("{{{member},{}", &text[1..]);
        for member in [r#""alg":"EdDSA""#, r#""alg":"none""#, r#""typ":"at+jwt""#, r#""kid":"x""#] {
            let token = server.key.sign_text(&twice(&header, member), &claims);
            refused(&server, &token, &["token_invalid", "token_malformed"]).await;
        }
        for member in
            [r#""sub":"admin""#, r#""sub":"mallory""#, r#""exp":99999999999"#, r#""jti":"x""#, r#""\u0073ub":"x""#]
        {
            let token = server.key.sign_text(&header, &twice(&claims, member));
            refused(&server, &token, &["token_invalid", "token_malformed"]).await;
        }
    }

    async fn another_typ_is_another_kind_of_token(server: Server) {
        let real = server.login().await;
        for typ in
            [json!("JWT"), json!("rt+jwt"), json!("logout+jwt"), json!("dpop+jwt"), json!(""), json!(7), json!("at")]
        {
            let token = server.key.sign(&header_with(&server, "typ", typ), &server.claims());
            refused(&server, &token, &["token_invalid", "token_malformed", "token_unknown"]).await;
        }
        // Nor does a wrong type help with the id of a token that is on the registry.
        let mut claims = claims_with(&server, "jti", json!(jti_of(&real.access)));
        claims["sid"] = json!(sid_of(&real.access));
        for typ in ["JWT", "rt+jwt"] {
            let token = server.key.sign(&header_with(&server, "typ", json!(typ)), &claims);
            refused(&server, &token, &["token_invalid"]).await;
        }
        let mut header = server.key.header();
        header.as_object_mut().unwrap().remove("typ");
        refused(&server, &server.key.sign(&header, &claims), &["token_invalid"]).await;
    }

    async fn another_issuer_or_audience_is_refused(server: Server) {
        assert_control(&server).await;
        for (name, value) in [
            ("iss", json!("https://other.example")),
            ("iss", json!("https://issuer.example/")),
            ("iss", json!("")),
            ("iss", json!(["https://issuer.example"])),
            ("iss", json!(7)),
            ("aud", json!("https://other.example")),
            ("aud", json!([])),
            ("aud", json!("")),
            ("aud", json!(7)),
            ("aud", json!(["https://other.example"])),
            ("aud", json!([["https://issuer.example"]])),
            ("aud", json!({ "a": "https://issuer.example" })),
        ] {
            let token = server.key.sign(&server.key.header(), &claims_with(&server, name, value));
            refused(&server, &token, &["token_invalid"]).await;
        }
        let several = json!(["https://other.example", "https://issuer.example"]);
        let token = server.key.sign(&server.key.header(), &claims_with(&server, "aud", several));
        server.refuses(&token, "token_unknown").await;
    }

    async fn a_claim_that_is_missing_or_of_another_form_is_refused(server: Server) {
        let names = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "type", "sid", "client_id", "fresh"];
        for name in names {
            let token = server.key.sign(&server.key.header(), &claims_with(&server, name, Value::Null));
            refused(&server, &token, &["token_invalid"]).await;
            // Who asked for a token may have any name.
            let texts: &[Value] = if name == "client_id" { &[] } else { &[json!("\u{0}"), json!("")] };
            for value in [json!({}), json!([[]]), json!(1.5e300)].iter().chain(texts) {
                let token = server.key.sign(&server.key.header(), &claims_with(&server, name, value.clone()));
                refused(&server, &token, &["token_invalid", "token_malformed"]).await;
            }
        }
        for (name, value) in [
            ("sub", json!(1)),
            ("sub", json!("a\nb")),
            ("sub", json!("x".repeat(256))),
            ("jti", json!("../x")),
            ("jti", json!("'; drop table cf_tokens; --")),
            ("jti", json!("0190a5a000007000800000000000001")),
            ("jti", json!("{0190a5a0-0000-7000-8000-000000000001}")),
            ("sid", json!("x")),
            ("scope", json!(["registry:admin"])),
            ("scope", json!("a\"b")),
            ("fresh", json!("true")),
            ("fresh", json!(1)),
            ("type", json!("id")),
            ("csrf", json!(1)),
        ] {
            let token = server.key.sign(&server.key.header(), &claims_with(&server, name, value));
            refused(&server, &token, &["token_invalid"]).await;
        }
    }

    async fn times_are_whole_seconds_compared_with_the_clock(server: Server) {
        assert_control(&server).await;
        let now = server.now();
        for (name, value, code) in [
            ("exp", json!(now), "token_expired"),
            ("exp", json!(now - 1), "token_expired"),
            ("exp", json!(0), "token_expired"),
            ("exp", json!(-1), "token_expired"),
            ("exp", json!(i64::MIN), "token_expired"),
            ("exp", json!(now + 1), "token_unknown"),
            ("exp", json!(i64::MAX), "token_unknown"),
            ("exp", json!(u64::MAX), "token_invalid"),
            ("exp", json!((now + 900).to_string()), "token_invalid"),
            ("exp", json!(true), "token_invalid"),
            ("nbf", json!(now + 1), "token_not_yet_valid"),
            ("nbf", json!(now), "token_unknown"),
            ("nbf", json!(i64::MAX), "token_not_yet_valid"),
            ("nbf", json!(i64::MIN), "token_unknown"),
            ("nbf", json!("0"), "token_invalid"),
        ] {
            let token = server.key.sign(&server.key.header(), &claims_with(&server, name, value.clone()));
            let answer = server.protected(&token).await;
            assert_eq!(answer.body_json()["error"], code, "{name} = {value}");
            answer.error(401, code);
        }
        let huge = server.claims().to_string().replace(&format!("\"exp\":{}", now + 900), "\"exp\":1e400");
        let token = server.key.sign_text(&server.key.header().to_string(), &huge);
        refused(&server, &token, &["token_invalid", "token_malformed"]).await;
        let fraction = claims_with(&server, "exp", json!(now as f64 + 900.5));
        let token = server.key.sign(&server.key.header(), &fraction);
        refused(&server, &token, &["token_invalid", "token_unknown"]).await;
    }

    async fn leeway_is_given_on_both_sides(database: Database) {
        let server = Server::start(database, |settings| settings.set("leeway", "10s")).await;
        let now = server.now();
        for (name, value, code) in [
            ("exp", now - 9, "token_unknown"),
            ("exp", now - 10, "token_expired"),
            ("nbf", now + 10, "token_unknown"),
            ("nbf", now + 11, "token_not_yet_valid"),
        ] {
            let token = server.key.sign(&server.key.header(), &claims_with(&server, name, json!(value)));
            server.refuses(&token, code).await;
        }
    }

    async fn what_is_too_long_or_no_base64url_or_no_json_is_malformed(server: Server) {
        let (header, claims) = (server.key.header(), server.claims());
        let padding = "x".repeat(9_000);
        server
            .refuses(&server.key.sign(&header, &claims_with(&server, "pad", json!(padding))), "token_malformed")
            .await;
        server.refuses(&"a".repeat(8 * 1024 + 1), "token_malformed").await;
        server
            .refuses(&format!("{}.{}.{}", "a".repeat(3_000), "a".repeat(3_000), "a".repeat(3_000)), "token_malformed")
            .await;

        let (h, c) = (base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()));
        for token in [
            server.key.sign_parts(&format!("{h}="), &c),
            server.key.sign_parts(&h, &format!("{c}==")),
            server.key.sign_parts(&format!("{h}+/"), &c),
            server.key.sign_parts(&h, &format!("{c}\t")),
            server.key.sign_parts(&h, &c.replacen('e', "é", 1).replace('é', "%C3%A9")),
            format!("{}=", server.key.sign_parts(&h, &c)),
            format!("{}!", server.key.sign_parts(&h, &c)),
            server.key.sign_parts("", &c),
            server.key.sign_parts(&h, ""),
            server.key.sign_text("null", &claims.to_string()),
            server.key.sign_text("[]", &claims.to_string()),
            server.key.sign_text(&format!("{header}x"), &claims.to_string()),
            server.key.sign_text(&header.to_string(), "null"),
            server.key.sign_text(&header.to_string(), "[]"),
            server.key.sign_text(&header.to_string(), "{"),
            server.key.sign_text(&header.to_string(), &format!("{claims}{claims}")),
            server.key.sign_text(&header.to_string(), &"[".repeat(3_000)),
            server.key.sign_text(&header.to_string(), &format!("{{\"a\":{}", "{\"a\":".repeat(1_000))),
            server.key.sign_text(&"[".repeat(3_000), &claims.to_string()),
        ] {
            refused(&server, &token, &["token_malformed", "token_invalid"]).await;
        }
        // The bits that base64url leaves over must be zero, or one token would have several spellings.
        let real = server.login().await.access;
        let last = real.chars().last().unwrap();
        const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let at = ALPHABET.find(last).unwrap();
        let twin = format!("{}{}", &real[..real.len() - 1], &ALPHABET[at + 1..at + 2]);
        refused(&server, &twin, &["token_malformed", "token_invalid"]).await;
        server.accepts(&real).await;
    }

    async fn deep_claims_of_a_signed_token_do_no_harm(server: Server) {
        let deep = format!("{}1{}", "[".repeat(1_000), "]".repeat(1_000));
        let claims = server.claims().to_string();
        let claims = format!("{{\"x\":{deep},{}", &claims[1..]);
        let token = server.key.sign_text(&server.key.header().to_string(), &claims);
        refused(&server, &token, &["token_malformed", "token_invalid", "token_unknown"]).await;
    }

    async fn the_json_serialisation_is_no_token(server: Server) {
        let real = server.login().await.access;
        let parts: Vec<&str> = real.split('.').collect();
        let flattened = json!({ "protected": parts[0], "payload": parts[1], "signature": parts[2] }).to_string();
        let general = json!({ "payload": parts[1], "signatures": [{ "protected": parts[0], "signature": parts[2] }] });
        for token in [flattened, general.to_string()] {
            server.refuses(&token, "token_malformed").await;
        }
    }

    async fn a_refresh_token_is_no_access_token_nor_the_reverse(server: Server) {
        let pair = server.login().await;
        server.refuses(&pair.refresh, "token_wrong_type").await;
        server.post("/refresh").bearer(&pair.access).send().await.error(401, "token_wrong_type");
        // Nor does calling it one help: header and claims must agree with each other and with the record.
        let mut claims = claims_with(&server, "jti", json!(jti_of(&pair.refresh)));
        claims["sid"] = json!(sid_of(&pair.refresh));
        refused(&server, &server.key.sign(&server.key.header(), &claims), &["token_invalid"]).await;
        claims["type"] = json!("refresh");
        refused(&server, &server.key.sign(&server.key.header(), &claims), &["token_invalid"]).await;
    }

    async fn the_id_of_a_real_token_lends_itself_to_no_other(server: Server) {
        let pair = server.issue("alice", "").await;
        let mut claims = claims_with(&server, "jti", json!(jti_of(&pair.access)));
        claims["sid"] = json!(sid_of(&pair.access));
        // Of another subject: the record says alice.
        refused(&server, &server.key.sign(&server.key.header(), &claims), &["token_invalid"]).await;
        let other = Key::generate();
        refused(&server, &other.sign(&server.key.header(), &claims), &["token_invalid"]).await;
        server.accepts(&pair.access).await;
    }
}
