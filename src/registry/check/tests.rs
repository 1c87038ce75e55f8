use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::config::Settings;
use crate::registry::Grant;

const OLD_SECRET: &str = "an-old-secret-of-another-issuer-0123456789";

/// Settings with an accepted key that an attacker has too.
fn settings() -> Settings {
    let toml = format!(
        "algorithm = \"HS256\"\nkeys.secret = \"the-secret-that-signs-here-0123456789abcdef\"\n\
         keys.accept = [{{ secret = \"{OLD_SECRET}\" }}]"
    );
    Settings::for_tests_with(&toml).unwrap()
}

/// A registry that signs with that key, in the attacker's hands.
async fn attacker(clock: ManualClock) -> Registry {
    let toml = format!("algorithm = \"HS256\"\nkeys.secret = \"{OLD_SECRET}\"");
    Registry::open(Settings::for_tests_with(&toml).unwrap(), clock).await.unwrap()
}

/// A registry, and the attacker's.
async fn registries() -> (Registry, Registry) {
    let clock = ManualClock::here();
    let registry = Registry::open(settings(), clock.clone()).await.unwrap();
    (registry, attacker(clock).await)
}

fn sign(attacker: &Registry, members: &Map<String, Value>) -> String {
    attacker.ring().sign(TokenType::Access, members).unwrap().token
}

#[tokio::test]
async fn a_known_id_with_other_claims_is_refused_though_an_accepted_key_signed_it() {
    let (registry, attacker) = registries().await;
    let issued = registry.issue(Grant::to("alice".parse().unwrap())).await.unwrap();
    let members = issued.access_claims().to_members();
    assert!(registry.check(&sign(&attacker, &members), Expect::access()).await.is_ok());
    let exp = members["exp"].as_i64().unwrap() + 1_000_000;
    for (name, value) in
        [("scope", json!("registry:admin")), ("fresh", json!(true)), ("exp", json!(exp)), ("role", json!("root"))]
    {
        let mut members = members.clone();
        members.insert(name.to_owned(), value);
        let forged = sign(&attacker, &members);
        assert_eq!(registry.check(&forged, Expect::access()).await, Err(Denial::Invalid), "{name}");
    }
}

/// A clock that goes on by an hour once it has been looked at so many times.
#[derive(Debug)]
struct Leaping {
    clock: ManualClock,
    looks_left: AtomicI64,
}

impl Clock for Leaping {
    fn now(&self) -> DateTime<Utc> {
        if self.looks_left.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.clock.advance(Duration::from_secs(3_600));
        }
        self.clock.now()
    }
}

#[tokio::test]
async fn a_token_that_expires_while_it_is_checked_needs_a_record_until_then() {
    let clock = Arc::new(Leaping { clock: ManualClock::here(), looks_left: AtomicI64::new(i64::MAX) });
    let registry = Registry::open(settings(), clock.clone()).await.unwrap();
    let attacker = attacker(clock.clock.clone()).await;
    let issued = attacker.issue(Grant::to("alice".parse().unwrap())).await.unwrap();
    let (mut expired, mut unknown) = (0, 0);
    for looks in 0..20 {
        let mut members = issued.access_claims().to_members();
        members.insert("exp".to_owned(), json!(clock.clock.now_seconds() + 60));
        let token = sign(&attacker, &members);
        clock.looks_left.store(looks, Ordering::SeqCst);
        match registry.check(&token, Expect::access()).await {
            Err(Denial::Expired) => expired += 1,
            Err(Denial::Unknown) => unknown += 1,
            checked => panic!("after {looks} looks at the clock: {checked:?}"),
        }
    }
    assert!(expired > 0 && unknown > 0, "{expired} {unknown}");
}

#[tokio::test]
async fn a_token_imported_from_another_registry_has_its_session_here() {
    let (registry, other) = registries().await;
    let issued = other.issue(Grant::to("alice".parse().unwrap())).await.unwrap();
    let record = registry.import(issued.access_token()).await.unwrap();
    let checked = registry.check(issued.access_token(), Expect::access()).await.unwrap();
    assert_eq!(checked.session(), record.sid);
    registry.end_session(checked.session(), crate::token::Actor::subject(checked.subject())).await.unwrap();
    assert_eq!(registry.check(issued.access_token(), Expect::access()).await, Err(Denial::Revoked));
}

#[tokio::test]
async fn an_imported_token_is_the_one_that_was_imported() {
    let (registry, issuer) = registries().await;
    let now = registry.seconds();
    let Value::Object(members) = json!({
        "sub": "alice", "jti": Jti::new(registry.now()).to_string(), "iat": f64::from(1_700_000_000) + 0.123_456_7,
        "exp": now + 600, "type": "access", "fresh": false,
    }) else {
        unreachable!("an object is written above")
    };
    let token = issuer.ring().sign_foreign(&members);
    let mut endless = members.clone();
    endless.insert("exp".to_owned(), json!(1e300));
    assert!(registry.import(&issuer.ring().sign_foreign(&endless)).await.unwrap_err().is_invalid());
    let mut administrator = members.clone();
    administrator.insert("scope".to_owned(), json!("notes:read registry:admin"));
    assert!(registry.import(&issuer.ring().sign_foreign(&administrator)).await.unwrap_err().is_invalid());
    registry.import(&token).await.unwrap();
    assert!(registry.check(&token, Expect::access()).await.is_ok());
    for (name, value) in
        [("scope", json!("registry:admin")), ("fresh", json!(true)), ("exp", json!(now + 6_000)), ("aud", json!("x"))]
    {
        let mut members = members.clone();
        members.insert(name.to_owned(), value);
        let forged = issuer.ring().sign_foreign(&members);
        assert_eq!(registry.check(&forged, Expect::access()).await, Err(Denial::Invalid), "{name}");
    }
}

#[tokio::test]
async fn what_a_retired_key_signed_anew_is_refused_though_its_record_names_another() {
    use crate::token::Act;

    let (registry, attacker) = registries().await;
    let issued = registry.issue(Grant::to("anna".parse().unwrap())).await.unwrap();
    let twin = sign(&attacker, &issued.access_claims().to_members());
    assert!(registry.check(&twin, Expect::access()).await.is_ok());
    let kid = attacker.ring().current_kid().to_owned();
    registry.retire_key(&kid, &Act::by(crate::token::Actor::system("test"))).await.unwrap();
    assert_eq!(registry.check(&twin, Expect::access()).await, Err(Denial::Revoked));
    assert!(registry.check(issued.access_token(), Expect::access()).await.is_ok());
}
