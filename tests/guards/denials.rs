//! Every reason to refuse, through a route: status, JSON and challenge.

use std::time::Duration;

use counterfoil::{Actor, Clock, Denial, Grant, ManualClock, Registry, Settings};
use rocket::http::Status;
use rocket::local::asynchronous::Client;

use super::app::{Answer, App, alice, bearer, rocket};

/// The answer is the contract's: the JSON of exactly these members, the challenge, and nothing that a cache keeps.
#[track_caller]
fn assert_denied(answer: &Answer, denial: &Denial) {
    let mut expected = rocket::serde::json::json!({ "error": denial.code(), "msg": denial.message() });
    if let Denial::InsufficientScope { missing } = denial {
        expected["scope"] = missing.to_string().into();
    }
    assert_eq!(answer.status, denial.status(), "{answer:?}");
    assert_eq!(answer.json(), expected);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("WWW-Authenticate"), denial.challenge().as_deref());
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    assert_eq!(answer.header("Retry-After"), (*denial == Denial::Unavailable).then_some("1"));
}

#[rocket::async_test]
async fn a_live_token_is_let_in() {
    let app = App::new().await;
    let pair = app.alice().await;
    let answer = app.get_with("/access", pair.access_token()).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "alice"));
    let answer = app.get_with("/refresh", pair.refresh_token().unwrap()).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "refresh"));
    assert_eq!(app.get_with("/fresh", pair.access_token()).await.status, 200);
}

#[rocket::async_test]
async fn no_token_is_missing() {
    let app = App::new().await;
    let answer = app.get("/access", &[]).await;
    assert_denied(&answer, &Denial::Missing);
    assert_eq!(answer.header("WWW-Authenticate"), Some(r#"Bearer realm="counterfoil""#));
    let basic = [("Authorization", "Basic dGVzdDp0ZXN0".to_owned())];
    assert_denied(&app.get("/access", &basic).await, &Denial::Missing);
}

#[rocket::async_test]
async fn what_is_no_token_is_malformed() {
    let app = App::new().await;
    for value in ["Bearer", "Bearer x", "Bearer a.b.c", "Bearer a b"] {
        let answer = app.get("/access", &[("Authorization", value.to_owned())]).await;
        assert_denied(&answer, &Denial::Malformed);
    }
}

#[rocket::async_test]
async fn a_token_of_another_key_is_invalid() {
    let app = App::new().await;
    let other = App::new().await;
    let token = other.alice().await;
    assert_denied(&app.get_with("/access", token.access_token()).await, &Denial::Invalid);
}

#[rocket::async_test]
async fn a_token_for_another_audience_is_invalid() {
    let app = App::new().await;
    let token = app.issue(alice().audience(["https://elsewhere.example"]).unwrap()).await;
    assert_denied(&app.get_with("/access", token.access_token()).await, &Denial::Invalid);
}

#[rocket::async_test]
async fn an_expired_token_is_expired() {
    let app = App::new().await;
    let pair = app.alice().await;
    app.clock.advance(Duration::from_secs(15 * 60 - 1));
    assert_eq!(app.get_with("/access", pair.access_token()).await.status, 200);
    app.clock.advance(Duration::from_secs(1));
    assert_denied(&app.get_with("/access", pair.access_token()).await, &Denial::Expired);
    assert_eq!(app.get_with("/refresh", pair.refresh_token().unwrap()).await.status, 200);
}

#[rocket::async_test]
async fn a_token_from_ahead_is_not_yet_valid_and_one_from_another_database_unknown() {
    let settings = Settings::for_tests();
    let app = App::with_settings(settings.clone()).await;
    // A clock of its own that shows the same second.
    let clock = ManualClock::at(app.clock.now_seconds());
    let elsewhere = Registry::open(settings, clock.clone()).await.unwrap();

    let token = elsewhere.issue(alice()).await.unwrap();
    assert_denied(&app.get_with("/access", token.access_token()).await, &Denial::Unknown);

    clock.advance(Duration::from_secs(60));
    let token = elsewhere.issue(alice()).await.unwrap();
    assert_denied(&app.get_with("/access", token.access_token()).await, &Denial::NotYetValid);
}

#[rocket::async_test]
async fn a_revoked_token_is_revoked_until_that_is_undone() {
    let app = App::new().await;
    let pair = app.alice().await;
    let (jti, actor) = (pair.access_claims().jti, Actor::subject(&pair.access_claims().sub));
    app.registry().revoke(jti, actor.clone()).await.unwrap();
    assert_denied(&app.get_with("/access", pair.access_token()).await, &Denial::Revoked);
    app.registry().unrevoke(jti, actor.clone()).await.unwrap();
    assert_eq!(app.get_with("/access", pair.access_token()).await.status, 200);

    app.registry().end_session(pair.access_claims().sid, actor).await.unwrap();
    assert_denied(&app.get_with("/access", pair.access_token()).await, &Denial::Revoked);
    assert_denied(&app.get_with("/refresh", pair.refresh_token().unwrap()).await, &Denial::Revoked);
}

#[rocket::async_test]
async fn a_token_of_the_other_type_is_the_wrong_one() {
    let app = App::new().await;
    let pair = app.alice().await;
    assert_denied(&app.get_with("/access", pair.refresh_token().unwrap()).await, &Denial::WrongType);
    assert_denied(&app.get_with("/refresh", pair.access_token()).await, &Denial::WrongType);
}

#[rocket::async_test]
async fn a_refreshed_token_is_not_fresh() {
    let app = App::new().await;
    let pair = app.alice().await;
    let answer = app.post("/refresh", &[bearer(pair.refresh_token().unwrap())], "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(app.get_with("/access", &token).await.status, 200);
    let answer = app.get_with("/fresh", &token).await;
    assert_denied(&answer, &Denial::NotFresh);
    assert!(answer.header("WWW-Authenticate").unwrap().contains(r#"error="insufficient_user_authentication""#));
}

#[rocket::async_test]
async fn a_missing_scope_is_named() {
    let app = App::new().await;
    let token = app.issue(alice().scope("notes:write".parse().unwrap())).await;
    let answer = app.get_with("/read", token.access_token()).await;
    assert_denied(&answer, &Denial::InsufficientScope { missing: "notes:read".parse().unwrap() });
    assert_eq!(
        answer.header("WWW-Authenticate"),
        Some(r#"Bearer realm="counterfoil", error="insufficient_scope", scope="notes:read""#)
    );
}

#[rocket::async_test]
async fn two_headers_are_ambiguous() {
    let app = App::new().await;
    let pair = app.alice().await;
    let answer = app.get("/access", &[bearer(pair.access_token()), bearer(pair.access_token())]).await;
    assert_denied(&answer, &Denial::Ambiguous);
}

#[rocket::async_test]
async fn a_registry_that_can_not_be_asked_is_unavailable() {
    let app = App::new().await;
    let pair = app.alice().await;
    app.registry().close().await;
    for path in ["/access", "/optional", "/read", "/user"] {
        assert_denied(&app.get_with(path, pair.access_token()).await, &Denial::Unavailable);
    }
    // What needs no database is still told apart.
    assert_denied(&app.get("/access", &[]).await, &Denial::Missing);
}

#[rocket::async_test]
async fn an_error_that_a_route_returns_says_what_failed() {
    let app = App::with("sessions.max = 1").await;
    let pair = app.alice().await;
    app.registry().end_session(pair.access_claims().sid, Actor::application("test")).await.unwrap();
    let ended = format!("/unrevoke/{}", pair.access_claims().jti);
    let unknown = "/unrevoke/7f9c24e8-3b12-4fef-91e0-47b2a3f3c1d5".to_owned();
    assert_eq!(app.post("/issue?sub=alice", [], "").await.status, 200);
    for (path, status, code, msg) in [
        ("/issue?sub=".to_owned(), 422, "invalid_request", "subject"),
        ("/issue?sub=alice".to_owned(), 409, "session_limit", "end one first"),
        ("/unrevoke/nonsense".to_owned(), 422, "invalid_request", "jti must be a UUID"),
        (unknown, 404, "not_found", "Token not found"),
        (ended.clone(), 409, "revocation_final", "final"),
    ] {
        let answer = app.post(&path, [], "").await;
        assert_eq!(answer.error(), (status, code.to_owned()), "{path}");
        let body = answer.json();
        assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
        assert!(body["msg"].as_str().unwrap().contains(msg), "{path}: {body}");
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    }
    app.registry().close().await;
    assert_denied(&app.post("/issue?sub=alice", [], "").await, &Denial::Unavailable);
    assert_denied(&app.post(&ended, [], "").await, &Denial::Unavailable);
}

#[rocket::async_test]
async fn a_guard_of_the_application_s_own_refuses_as_ours_do() {
    let app = App::new().await;
    let (alice, sleeper) = (app.alice().await, app.issue(Grant::to("sleeper".parse().unwrap())).await);
    assert_eq!(app.get_with("/awake", alice.access_token()).await.status, 200);
    assert_denied(&app.get("/awake", &[]).await, &Denial::Missing);
    let asleep = Denial::InsufficientScope { missing: "awake".parse().unwrap() };
    assert_denied(&app.get_with("/awake", sleeper.access_token()).await, &asleep);
}

#[rocket::async_test]
async fn an_id_in_a_path_is_read_or_left_to_another_route() {
    let app = App::new().await;
    let sid = app.alice().await.access_claims().sid.to_string();
    assert_eq!(app.get(&format!("/session/{sid}"), &[]).await.text, sid);
    assert_eq!(app.get(&format!("/session/{}", sid.replace('-', "")), &[]).await.status, 422);
}

#[rocket::async_test]
async fn a_route_may_answer_by_itself() {
    let app = App::new().await;
    let pair = app.alice().await;
    let answer = app.get("/result", &[]).await;
    assert_eq!((answer.status, answer.text.as_str()), (418, "token_missing"));
    let answer = app.get_with("/result", pair.access_token()).await;
    assert_eq!((answer.status, answer.text.as_str()), (418, "insufficient_scope"));
    let reader = app.issue(alice().scope("notes:read".parse().unwrap())).await;
    let answer = app.get_with("/result", reader.access_token()).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "alice"));
    // A denial that a route returns is answered as one that Rocket catches.
    assert_denied(&app.get("/answered", &[]).await, &Denial::Missing);
}

#[rocket::catch(401)]
fn own_catcher(status: Status, request: &rocket::Request<'_>) -> String {
    counterfoil::denial(status, request).map_or("none".to_owned(), |denial| format!("own: {}", denial.code()))
}

#[rocket::catch(default)]
fn own_default(status: Status, _: &rocket::Request<'_>) -> String {
    format!("own default: {status}")
}

#[rocket::get("/forbidden")]
fn forbidden() -> Status {
    Status::Forbidden
}

#[rocket::async_test]
async fn an_application_s_own_catchers_win() {
    let app = rocket()
        .mount("/", rocket::routes![forbidden])
        .register("/", rocket::catchers![own_catcher, own_default])
        .attach(counterfoil::fairing().settings(Settings::for_tests()));
    let client = Client::untracked(app).await.unwrap();
    let text = |response: rocket::local::asynchronous::LocalResponse<'_>| response.status().code;

    let answer = client.get("/access").dispatch().await;
    assert_eq!(text(answer), 401);
    let answer = client.get("/access").dispatch().await.into_string().await;
    assert_eq!(answer.as_deref(), Some("own: token_missing"));
    // A 403 that is no denial goes where it would have gone.
    let answer = client.get("/forbidden").dispatch().await.into_string().await;
    assert_eq!(answer.as_deref(), Some("own default: 403 Forbidden"));
    // A denial goes to the catcher for it.
    let registry: &Registry = client.rocket().state().unwrap();
    let pair = registry.issue(alice()).await.unwrap();
    let header = rocket::http::Header::new("Authorization", bearer(pair.access_token()).1);
    let answer = client.get("/read").header(header).dispatch().await.into_string().await;
    assert!(answer.unwrap().contains("insufficient_scope"));
}
