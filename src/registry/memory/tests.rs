use serde_json::{Map, Value, json};

use super::*;
use crate::token::{Jti, Sid, Subject};

const NOW: Duration = Duration::from_secs(1_000);

fn claims(subject: &str) -> Claims {
    let id = || Uuid::new_v4().to_string();
    let Value::Object(members) = json!({
        "iss": "https://id.example", "sub": subject, "aud": "https://id.example", "exp": 200, "nbf": 100, "iat": 100,
        "jti": id(), "type": "access", "sid": id(), "client_id": "counterfoil", "fresh": true,
    }) else {
        unreachable!("an object is written above")
    };
    Claims::from_members(members).unwrap()
}

/// A memory with a lease, and a token in it that was read under the lease.
fn with_one(token: &str) -> (Memory, Claims) {
    let memory = Memory::new(1 << 20);
    memory.rely_until(NOW + Duration::from_secs(1));
    let claims = claims("alice");
    let known = Arc::new(memory.known(claims.clone(), "key", Some("{}"), false, true));
    let reading = memory.begin(NOW);
    assert!(reading.is_some());
    memory.remember(memory.digest(token), known, reading);
    (memory, claims)
}

fn is_live(memory: &Memory, token: &str, now: Duration) -> Option<bool> {
    memory.recall(memory.digest(token), now).map(|recalled| recalled.is_live)
}

#[test]
fn what_was_read_under_a_lease_is_live_until_the_lease_ends() {
    let (memory, _) = with_one("a.b.c");
    assert_eq!(is_live(&memory, "a.b.c", NOW), Some(true));
    assert_eq!(is_live(&memory, "a.b.d", NOW), None);
    assert_eq!(is_live(&memory, "a.b.c", NOW + Duration::from_secs(1)), Some(false));
    memory.rely_until(Duration::ZERO);
    assert_eq!(is_live(&memory, "a.b.c", NOW), Some(false));
}

#[test]
fn whatever_a_token_rests_on_can_be_forgotten() {
    let other: Subject = "bob".parse().unwrap();
    for target in [
        |claims: &Claims| Target::Token(claims.jti),
        |claims: &Claims| Target::Session(claims.sid),
        |claims: &Claims| Target::Subject(claims.sub.clone()),
        |_: &Claims| Target::Key("key".to_owned()),
    ] {
        let (memory, claims) = with_one("a.b.c");
        let id = Uuid::new_v4();
        let others = [Target::Token(Jti::from(id)), Target::Session(Sid::from(id)), Target::Subject(other.clone())];
        memory.forget(&others);
        memory.forget(&[Target::Key("another".to_owned())]);
        assert_eq!(is_live(&memory, "a.b.c", NOW), Some(true));
        memory.forget(&[target(&claims)]);
        assert_eq!(is_live(&memory, "a.b.c", NOW), Some(false), "{:?}", target(&claims));
    }
    let (memory, _) = with_one("a.b.c");
    memory.forget_everything();
    assert_eq!(is_live(&memory, "a.b.c", NOW), Some(false));
}

#[test]
fn a_reading_that_a_change_overtakes_is_void() {
    let (memory, claims) = with_one("a.b.c");
    let known = memory.recall(memory.digest("a.b.c"), NOW).unwrap().known;
    let overtaken = memory.begin(NOW);
    memory.forget(&[Target::Token(claims.jti)]);
    memory.remember(memory.digest("a.b.c"), known.clone(), overtaken);
    assert_eq!(is_live(&memory, "a.b.c", NOW), Some(false));
    // One that begins after the change knows it.
    memory.remember(memory.digest("a.b.c"), known, memory.begin(NOW));
    assert_eq!(is_live(&memory, "a.b.c", NOW), Some(true));
}

#[test]
fn a_reading_outside_of_a_lease_vouches_for_the_bytes_alone() {
    let memory = Memory::new(1 << 20);
    let known = Arc::new(memory.known(claims("alice"), "key", Some("{}"), false, true));
    let reading = memory.begin(NOW);
    assert!(reading.is_none());
    memory.rely_until(NOW + Duration::from_secs(1));
    memory.remember(memory.digest("a.b.c"), known, reading);
    assert_eq!(is_live(&memory, "a.b.c", NOW), Some(false));
}

#[test]
fn what_was_read_of_a_subject_is_good_until_the_subject_or_everything_is_forgotten_or_the_lease_ends() {
    let subject = |name: &str| Target::Subject(name.parse().unwrap());
    let (memory, _) = with_one("a.b.c");
    let reading = memory.begin(NOW).unwrap();
    memory.forget(&[subject("bob")]);
    assert!(memory.vouches_for("alice", reading, NOW));
    assert!(!memory.vouches_for("bob", reading, NOW));
    assert!(!memory.vouches_for("alice", reading, NOW + Duration::from_secs(1)));
    memory.forget_everything();
    assert!(!memory.vouches_for("alice", reading, NOW));
    assert!(memory.vouches_for("alice", memory.begin(NOW).unwrap(), NOW));
}

#[test]
fn it_takes_no_more_than_it_may() {
    let bytes_max = 1 << 20;
    let memory = Memory::new(bytes_max);
    for number in 0..10_000 {
        let mut claims = claims("alice");
        claims.extra = Map::from_iter([("tenant".to_owned(), json!("acme"))]);
        let known = Arc::new(memory.known(claims, "key", Some("{}"), false, true));
        memory.remember(memory.digest(&number.to_string()), known, None);
    }
    let (tokens, bytes) = memory.size();
    assert!(bytes <= bytes_max && bytes > bytes_max / 2, "{bytes}");
    assert!((1_000..3_000).contains(&tokens), "{tokens}");
}
