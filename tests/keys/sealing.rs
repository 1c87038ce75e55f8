//! Keys in the database are sealed with the master key: what opens them, and how that is changed.

use counterfoil::{Error, Registry, SystemClock};

use super::keys;
use crate::support::server::{MASTER_KEY, at_once};
use crate::support::{Server, json, on_both};

const OTHER_KEY: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

/// Opens the database with other settings; why not.
async fn refusal(server: &Server, toml: &str) -> Error {
    let toml = format!("database_url = {:?}\n{toml}", server.database_url());
    let settings = counterfoil::Settings::for_tests_with(&toml).unwrap();
    Registry::open(settings, SystemClock).await.map(drop).unwrap_err()
}

on_both! {
    async fn the_wrong_master_key_does_not_start(database: Database) {
        let server = Server::start(database, at_once).await;
        let refused = refusal(&server, &format!("master_key = {OTHER_KEY:?}")).await;
        assert!(refused.is_config() && refused.to_string().starts_with("master_key does not open"), "{refused}");
        assert!(!format!("{refused} {refused:?}").contains(OTHER_KEY));
        assert_eq!(server.count("select count(*) from cf_keys").await, 2);
    }

    async fn a_master_key_is_changed_by_a_command(database: Database) {
        let server = Server::start(database, at_once).await;
        keys(&server, &["rotate"]);
        let token = server.issue("alice", "").await.access;
        let new = [("COUNTERFOIL_MASTER_KEY", OTHER_KEY), ("COUNTERFOIL_MASTER_KEY_OLD", MASTER_KEY)];
        let reseal = || server.command_with(&new, &["keys", "reseal", "--json"], "").ok().json();
        assert_eq!(reseal(), json!({ "resealed": 3 }));
        assert_eq!(reseal(), json!({ "resealed": 0 }));
        assert_eq!(server.count("select count(*) from cf_audit where action = 'keys.resealed'").await, 1);
        // What runs goes on, and what starts needs the new one alone.
        server.accepts(&token).await;
        let other = server.another(|settings| settings.set("master_key", OTHER_KEY)).await;
        other.accepts(&token).await;
        assert!(refusal(&server, &format!("master_key = {MASTER_KEY:?}")).await.is_config());
    }

    async fn no_private_part_is_in_the_clear(server: Server) {
        let sealed = server.another(at_once).await;
        let _ = sealed.issue("alice", "").await;
        let listed = format!("{:?}", keys(&sealed, &["list"]));
        assert!(!listed.contains("PRIVATE") && !format!("{:?}", sealed.registry).contains("PRIVATE"));
        keys(&sealed, &["rotate"]);
        // Of one that was replaced the public part is left alone, which is the shorter one.
        let shorter = "select count(*) from cf_keys where state = 'previous'
            and length(sealed) < (select min(length(sealed)) from cf_keys where state in ('current', 'next'))";
        assert_eq!(sealed.count(shorter).await, 1);
        let like = if sealed.database_url().starts_with("sqlite:") {
            "select count(*) from cf_keys where instr(sealed, cast('PRIVATE' as blob)) > 0"
        } else {
            "select count(*) from cf_keys where position('PRIVATE'::bytea in sealed) > 0"
        };
        assert_eq!(sealed.count(like).await, 0);
        assert_eq!(sealed.count("select count(*) from cf_keys where sealed is not null").await, 3);
    }
}

#[test]
fn settings_that_make_no_sense_with_a_master_key_are_refused() {
    let refused = |toml: &str| counterfoil::Settings::for_tests_with(toml).map(drop).unwrap_err().to_string();
    let master_key = format!("master_key = {MASTER_KEY:?}\n");
    for (toml, why) in [
        (format!("{master_key}keys.file = \"key.pem\""), "keys.file and master_key can't both be set"),
        (format!("{master_key}algorithm = \"HS256\"\nkeys.secret = {MASTER_KEY:?}"), "keys.secret and master_key"),
        (format!("{master_key}master_key_old = {MASTER_KEY:?}"), "master_key_old must differ"),
        (format!("{master_key}keys.rotate_every = \"5m\""), "keys.rotate_every must be longer than jwks_max_age"),
        (format!("master_key_old = {MASTER_KEY:?}"), "master_key_old has no use"),
        ("keys.rotate_every = \"5h\"".to_owned(), "keys.rotate_every needs master_key"),
        ("master_key = \"abc\"".to_owned(), "master_key must be 32 bytes in hex"),
        (format!("master_key = {:?}", "g".repeat(64)), "master_key must be 32 bytes in hex"),
    ] {
        let sentence = refused(&toml);
        assert!(sentence.starts_with(why) && !sentence.contains(MASTER_KEY), "{toml}: {sentence}");
    }
}
