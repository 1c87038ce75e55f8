use serde_json::json;

use super::*;

fn members() -> Map<String, Value> {
    let Value::Object(members) = json!({
        "iss": "https://id.example", "sub": "alice", "aud": "https://id.example", "exp": 200, "nbf": 100, "iat": 100,
        "jti": "01900000-0000-7000-8000-000000000001", "type": "access", "sid": "01900000-0000-7000-8000-000000000002",
        "client_id": "counterfoil", "fresh": true, "scope": "a b", "tenant": "acme",
    }) else {
        unreachable!("an object is written above")
    };
    members
}

fn rules(now: i64, leeway: i64) -> Rules<'static> {
    Rules { issuer: "https://id.example", audiences: &[], audience: AudienceRule::Own, leeway, now }
}

#[test]
fn claims_survive_being_written_and_read() {
    let claims = Claims::from_members(members()).unwrap();
    assert_eq!(claims.extra, Map::from_iter([("tenant".to_owned(), json!("acme"))]));
    assert_eq!(claims.to_members(), members());
}

#[test]
fn every_claim_is_needed_and_must_have_its_form() {
    for name in ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "type", "sid", "client_id", "fresh"] {
        let mut missing = members();
        missing.remove(name);
        assert_eq!(Claims::from_members(missing), Err(Denial::Invalid), "without {name}");
        let mut wrong = members();
        wrong.insert(name.to_owned(), json!([{}]));
        assert_eq!(Claims::from_members(wrong), Err(Denial::Invalid), "{name} of another form");
    }
    for (name, value) in [("exp", json!("200")), ("exp", json!(1.5)), ("aud", json!([])), ("scope", json!("a\"b"))] {
        let mut wrong = members();
        wrong.insert(name.to_owned(), value.clone());
        assert_eq!(Claims::from_members(wrong), Err(Denial::Invalid), "{name} = {value}");
    }
}

#[test]
fn a_token_is_good_from_nbf_until_just_before_exp() {
    let claims = Claims::from_members(members()).unwrap();
    assert_eq!(claims.check_times(&rules(99, 0)), Err(Denial::NotYetValid));
    assert_eq!(claims.check_times(&rules(100, 0)), Ok(()));
    assert_eq!(claims.check_times(&rules(199, 0)), Ok(()));
    assert_eq!(claims.check_times(&rules(200, 0)), Err(Denial::Expired));
    assert_eq!(claims.check_times(&rules(209, 10)), Ok(()));
    assert_eq!(claims.check_times(&rules(210, 10)), Err(Denial::Expired));
    assert_eq!(claims.check_times(&rules(90, 10)), Ok(()));
}

#[test]
fn the_largest_times_do_not_overflow() {
    let mut far = members();
    far.insert("exp".to_owned(), json!(i64::MAX));
    far.insert("nbf".to_owned(), json!(i64::MIN));
    let claims = Claims::from_members(far).unwrap();
    assert_eq!(claims.check_times(&rules(0, 300)), Ok(()));
}

#[test]
fn an_audience_must_be_ones_own_unless_asked_otherwise() {
    let mut foreign = members();
    foreign.insert("aud".to_owned(), json!(["https://api.example", "https://other.example"]));
    let claims = Claims::from_members(foreign).unwrap();
    assert_eq!(claims.check_origin(&rules(100, 0)), Err(Denial::Invalid));
    let audiences = ["https://api.example".to_owned()];
    assert_eq!(claims.check_origin(&Rules { audiences: &audiences, ..rules(100, 0) }), Ok(()));
    let exactly = AudienceRule::Exactly("https://other.example");
    assert_eq!(claims.check_origin(&Rules { audience: exactly, ..rules(100, 0) }), Ok(()));
    assert_eq!(
        claims.check_origin(&Rules { audience: AudienceRule::Any, issuer: "x", ..rules(100, 0) }),
        Err(Denial::Invalid)
    );
}

#[test]
fn additional_claims_can_use_no_reserved_name() {
    for name in RESERVED {
        let extra = Map::from_iter([((*name).to_owned(), json!(1))]);
        assert_eq!(Claims::check_extra(&extra, None).unwrap_err().field(), Some("claims"), "{name}");
    }
    let extra = Map::from_iter([("identity".to_owned(), json!(1))]);
    assert!(Claims::check_extra(&extra, None).is_ok());
    assert!(Claims::check_extra(&extra, Some("identity")).is_err());
    let large = Map::from_iter([("x".to_owned(), json!("y".repeat(EXTRA_BYTES_MAX)))]);
    assert!(Claims::check_extra(&large, None).is_err());
}

#[test]
fn additional_claims_are_no_deeper_than_a_reader_goes() {
    let nested = |depth: usize, outermost: fn(Value) -> Value| {
        let inner = (1..depth).fold(json!(1), |inner, _| json!([inner]));
        Map::from_iter([("flat".to_owned(), json!([])), ("x".to_owned(), outermost(inner))])
    };
    for outermost in [|inner| json!([1, inner]), |inner| json!({ "a": 1, "b": inner })] {
        assert!(Claims::check_extra(&nested(EXTRA_DEPTH_MAX, outermost), None).is_ok());
        let refused = Claims::check_extra(&nested(EXTRA_DEPTH_MAX + 1, outermost), None).unwrap_err();
        assert_eq!(refused.field(), Some("claims"));
    }
}
