//! Clients and services in other languages, as they are published, against a real server: what they refuse is not what
//! the RFCs say, whatever our own tests think of it.

use std::process::Command;

use crate::support::foreign::{Place, Running, done, node, python};
use crate::support::forge::{self, header_of};
use crate::support::{Database, on_both};

const AUTHLIB: &str = include_str!("interop/authlib_client.py");
const OAUTH4WEBAPI: &str = include_str!("interop/oauth4webapi.mjs");
const OPENID_CLIENT: &str = include_str!("interop/openid_client.mjs");
const PYJWT: &str = include_str!("interop/verify.py");
const JOSE: &str = include_str!("interop/verify.mjs");

/// A client runs its script to the end.
fn client(database: Database, mut command: Command) {
    let place = Place::start(database, "EdDSA");
    let client = place.add_client(&[
        "--scope",
        "notes:read tokens:issue tokens:introspect",
        "--grant-scope",
        "cart:read cart:write cart:delete",
    ]);
    command.env("COUNTERFOIL", &place.issuer).env("CLIENT_ID", &client.id).env("CLIENT_SECRET", &client.secret);
    done(command);
    let log = place.server.log();
    assert!(!log.contains(&client.secret) && !forge::holds_token(&log), "{log}");
}

on_both! {
    async fn authlib(database: Database) {
        client(database, python(AUTHLIB));
    }

    async fn oauth4webapi(database: Database) {
        client(database, node(OAUTH4WEBAPI));
    }

    async fn openid_client(database: Database) {
        client(database, node(OPENID_CLIENT));
    }
}

/// PyJWT and jose verify what a server with this algorithm signs.
#[track_caller]
fn verify(algorithm: &str) {
    let place = Place::start(Database::Sqlite, algorithm);
    let audience = "https://api.example";
    let (access, refresh) = place.issue(&["--audience", audience]);
    let (other, _) = place.issue(&["--audience", "https://other.example"]);
    let stranger = Place::start(Database::Sqlite, algorithm);
    let (foreign, _) = stranger.issue(&["--audience", audience]);
    let (rest, signature) = access.rsplit_once('.').unwrap();
    let forged = format!("{rest}.{}{}", if signature.starts_with('A') { 'B' } else { 'A' }, &signature[1..]);
    let services = |audience: &str| {
        [python(PYJWT), node(JOSE)].map(|mut command| {
            command.env("COUNTERFOIL", &place.issuer).env("ALGORITHM", algorithm).env("AUDIENCE", audience);
            Running::lines(command)
        })
    };
    for mut service in services(audience) {
        assert_eq!(service.ask(&access), "accept");
        assert_eq!(service.ask(&forged), "signature");
        assert_eq!(service.ask(&other), "audience");
        assert_eq!(service.ask(&foreign), "key");
    }
    // Whoever is the issuer's own audience tells a refresh token by its `typ` alone.
    for mut service in services(&place.issuer) {
        assert_eq!(service.ask(&refresh), "type");
    }
}

#[test]
fn services_verify_eddsa() {
    verify("EdDSA");
}

#[test]
fn services_verify_es256() {
    verify("ES256");
}

#[test]
fn services_verify_rs256() {
    verify("RS256");
}

/// Who fetched the keys before a rotation has the one that signs after it: jose fetches none again for half a minute.
#[test]
fn services_notice_no_rotation_and_every_retirement() {
    let place = Place::start(Database::Sqlite, "EdDSA");
    let service = |mut command: Command| {
        command.env("COUNTERFOIL", &place.issuer).env("ALGORITHM", "EdDSA").env("AUDIENCE", &place.issuer);
        Running::lines(command)
    };
    let mut old = [service(python(PYJWT)), service(node(JOSE))];
    let (before, _) = place.issue(&[]);
    for service in &mut old {
        assert_eq!(service.ask(&before), "accept");
    }
    place.home.run(&["keys", "rotate"]).ok();
    let (after, _) = place.issue(&[]);
    let kid = |token: &str| header_of(token)["kid"].as_str().unwrap().to_owned();
    assert_ne!(kid(&before), kid(&after));
    for service in &mut old {
        assert_eq!((service.ask(&after).as_str(), service.ask(&before).as_str()), ("accept", "accept"));
    }

    place.home.run(&["keys", "retire", &kid(&before)]).ok();
    for mut service in [service(python(PYJWT)), service(node(JOSE))] {
        assert_eq!((service.ask(&after).as_str(), service.ask(&before).as_str()), ("accept", "key"));
    }
}
