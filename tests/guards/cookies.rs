//! Tokens in cookies: how they are set and taken back, and the CSRF double submit.

use std::time::Duration;

use counterfoil::Issued;
use rocket::http::Header;

use super::app::{Answer, App, alice, bearer, cookie, json_type};

const COOKIES: &str = "locations = [\"header\", \"cookie\"]";
const ACCESS: &str = "access_token_cookie";
const REFRESH: &str = "refresh_token_cookie";

fn csrf_failed() -> (u16, String) {
    (403, "csrf_failed".to_owned())
}

fn csrf_of(pair: &Issued) -> String {
    pair.access_claims().csrf.clone().unwrap()
}

fn access_cookie(pair: &Issued) -> (&'static str, String) {
    cookie(&[(ACCESS, pair.access_token())])
}

fn csrf(value: impl Into<String>) -> (&'static str, String) {
    ("X-CSRF-TOKEN", value.into())
}

/// The attributes of a cookie, without its name and value.
fn attributes(answer: &Answer, name: &str) -> Vec<String> {
    let line = answer.cookie(name).unwrap_or_else(|| panic!("no cookie {name} in {answer:?}"));
    let mut attributes: Vec<_> = line.split("; ").skip(1).map(str::to_owned).collect();
    attributes.sort();
    attributes
}

#[rocket::async_test]
async fn the_answer_to_a_log_in_is_never_cached_and_sets_cookies_where_asked() {
    let app = App::new().await;
    let answer = app.post("/login", &[], "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    assert_eq!(answer.header("Pragma"), Some("no-cache"));
    assert_eq!(answer.header("Set-Cookie"), None);
    assert_eq!(answer.json()["token_type"], "Bearer");
    // A grant may ask for them where the settings do not.
    assert!(app.post("/login?cookies=true", &[], "").await.cookie(ACCESS).is_some());
    let app = App::with(COOKIES).await;
    assert!(app.post("/login?cookies=false", &[], "").await.cookie(ACCESS).is_none());
}

#[rocket::async_test]
async fn an_answer_of_the_applications_own_sets_them_and_names_no_token() {
    let app = App::new().await;
    let answer = app.post("/login-by-form?cookies=true", &[], "").await;
    assert_eq!((answer.status, answer.header("Location")), (303, Some("/home")));
    assert_eq!((answer.header("Cache-Control"), answer.text.as_str()), (Some("no-store"), ""));
    for name in [ACCESS, REFRESH, "csrf_access_token", "csrf_refresh_token"] {
        assert!(answer.cookie(name).is_some(), "{name}");
    }
    // Without the value that shows who asks they would be good for nothing.
    let answer = app.post("/login-by-form?cookies=false", &[], "").await;
    assert_eq!((answer.status, answer.header("Set-Cookie")), (500, None));
}

#[rocket::async_test]
async fn cookies_have_safe_attributes() {
    let app = App::with(COOKIES).await;
    let answer = app.post("/login", &[], "").await;
    let attribute = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let (minutes_15, days_30) = ("Max-Age=900", "Max-Age=2592000");
    for (name, age) in [(ACCESS, minutes_15), (REFRESH, days_30)] {
        assert_eq!(
            attributes(&answer, name),
            attribute(&["HttpOnly", age, "Path=/", "SameSite=Lax", "Secure"]),
            "{name}"
        );
    }
    // A script must read these to send them back.
    for (name, age) in [("csrf_access_token", minutes_15), ("csrf_refresh_token", days_30)] {
        assert_eq!(attributes(&answer, name), attribute(&[age, "Path=/", "SameSite=Lax", "Secure"]), "{name}");
    }
}

#[rocket::async_test]
async fn cookies_follow_the_settings() {
    let app = App::with(
        r#"
        locations = ["cookie"]
        cookie.secure = false
        cookie.same_site = "Strict"
        cookie.domain = "app.example"
        cookie.refresh_name = "r"
        cookie.refresh_path = "/refresh"
        cookie.session = true
        "#,
    )
    .await;
    let answer = app.post("/login", &[], "").await;
    assert_eq!(attributes(&answer, "r"), ["Domain=app.example", "HttpOnly", "Path=/refresh", "SameSite=Strict"]);
}

#[rocket::async_test]
async fn logging_out_takes_the_cookies_back() {
    let app = App::with(COOKIES).await;
    let pair = app.alice().await;
    let answer = app.post("/logout", &[bearer(pair.access_token())], "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    for name in [ACCESS, REFRESH, "csrf_access_token", "csrf_refresh_token"] {
        let line = answer.cookie(name).unwrap();
        assert!(
            line.starts_with(&format!("{name}=;")) && line.contains("Max-Age=0") && line.contains("Path=/"),
            "{line}"
        );
    }
    let app = App::new().await;
    let pair = app.alice().await;
    assert_eq!(app.post("/logout", &[bearer(pair.access_token())], "").await.header("Set-Cookie"), None);
}

#[rocket::async_test]
async fn changes_by_cookie_need_the_csrf_value_of_their_own_token() {
    let app = App::with(COOKIES).await;
    let (pair, other) = (app.alice().await, app.alice().await);
    let own = access_cookie(&pair);
    // Reading needs none.
    assert_eq!(app.get("/access", [own.clone()]).await.status, 200);
    assert_eq!(app.post("/access", &[own.clone(), csrf(csrf_of(&pair))], "").await.status, 200);
    for wrong in [String::new(), "x".to_owned(), csrf_of(&other), pair.refresh_claims().unwrap().csrf.clone().unwrap()]
    {
        let answer = app.post("/access", &[own.clone(), csrf(wrong)], "").await;
        assert_eq!(answer.error(), csrf_failed());
        assert_eq!(answer.header("WWW-Authenticate"), None);
    }
    let answer = app.post("/access", [own.clone()], "").await;
    assert_eq!(answer.error(), csrf_failed());
    let twice = [own.clone(), csrf(csrf_of(&pair)), csrf("x")];
    assert_eq!(app.post("/access", &twice, "").await.error(), csrf_failed());
    // A token without the claim was not meant for a cookie.
    let bare = app.issue(alice().cookies(false)).await;
    assert_eq!(app.post("/access", &[access_cookie(&bare), csrf("x")], "").await.error(), csrf_failed());
    // A header is not sent by a browser on its own.
    assert_eq!(app.post("/access", &[bearer(pair.access_token())], "").await.status, 200);
    assert_eq!(app.post("/access", &[own, bearer(pair.access_token())], "").await.status, 200);
}

#[rocket::async_test]
async fn the_csrf_rule_follows_the_settings() {
    let app = App::with(&format!("{COOKIES}\ncsrf = false")).await;
    let pair = app.alice().await;
    assert_eq!(pair.access_claims().csrf, None);
    assert_eq!(app.post("/access", &[access_cookie(&pair)], "").await.status, 200);
    let app = App::with(&format!("{COOKIES}\ncsrf_methods = [\"GET\"]\ncsrf_header = \"X-Mine\"")).await;
    let pair = app.alice().await;
    assert_eq!(app.post("/access", &[access_cookie(&pair)], "").await.status, 200);
    assert_eq!(app.get("/access", &[access_cookie(&pair)]).await.error(), csrf_failed());
    assert_eq!(app.get("/access", &[access_cookie(&pair), ("X-Mine", csrf_of(&pair))]).await.status, 200);
}

#[rocket::async_test]
async fn refreshing_by_cookie_needs_the_refresh_token_s_value_and_sets_both_cookies() {
    let app = App::with(COOKIES).await;
    let pair = app.alice().await;
    let own = cookie(&[(ACCESS, pair.access_token()), (REFRESH, pair.refresh_token().unwrap())]);
    assert_eq!(app.post("/refresh", &[own.clone(), csrf(csrf_of(&pair))], "").await.error(), csrf_failed());
    let value = pair.refresh_claims().unwrap().csrf.clone().unwrap();
    let answer = app.post("/refresh", &[own, csrf(value)], "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.cookie(ACCESS).is_some() && answer.cookie("csrf_access_token").is_some());
    assert!(answer.cookie(REFRESH).is_some() && answer.cookie("csrf_refresh_token").is_some());
}

#[rocket::async_test]
async fn a_proxy_s_question_goes_by_the_method_it_forwards() {
    let app = App::with(COOKIES).await;
    let pair = app.alice().await;
    let method = |name: &str| ("X-Forwarded-Method", name.to_owned());
    for name in ["GET", "HEAD", "OPTIONS"] {
        assert_eq!(app.get("/check", &[access_cookie(&pair), method(name)]).await.status, 204, "{name}");
    }
    for name in ["POST", "DELETE", "get", ""] {
        assert_eq!(app.get("/check", &[access_cookie(&pair), method(name)]).await.error(), csrf_failed(), "{name:?}");
    }
    assert_eq!(app.get("/check", &[access_cookie(&pair)]).await.error(), csrf_failed());
    let meant = [access_cookie(&pair), csrf(csrf_of(&pair))];
    assert_eq!(app.get("/check", &meant).await.status, 204);
    assert_eq!(app.get("/check", &[bearer(pair.access_token())]).await.status, 204);
}

#[rocket::async_test]
async fn logging_out_takes_either_token_or_both_of_one_session() {
    let app = App::with(COOKIES).await;
    let sid = |pair: &Issued| pair.access_claims().sid.to_string();

    for by_refresh in [false, true] {
        let pair = app.alice().await;
        let token = if by_refresh { pair.refresh_token().unwrap() } else { pair.access_token() };
        let answer = app.post("/logout", &[bearer(token)], "").await;
        assert_eq!((answer.status, answer.text), (200, sid(&pair)));
        assert_eq!(app.get_with("/access", pair.access_token()).await.error(), (401, "token_revoked".to_owned()));
        // Once is enough.
        assert_eq!(app.post("/logout", &[bearer(token)], "").await.error(), (401, "token_revoked".to_owned()));
    }

    let pair = app.alice().await;
    let body = format!(r#"{{"refresh_token":"{}"}}"#, pair.refresh_token().unwrap());
    assert_eq!(app.post("/logout", &[json_type()], &body).await.text, sid(&pair));

    let pair = app.alice().await;
    let both = cookie(&[(ACCESS, pair.access_token()), (REFRESH, pair.refresh_token().unwrap())]);
    assert_eq!(app.post("/logout", [both.clone()], "").await.error(), csrf_failed());
    assert_eq!(app.post("/logout", &[both, csrf(csrf_of(&pair))], "").await.text, sid(&pair));
}

#[rocket::async_test]
async fn logging_out_of_two_sessions_at_once_is_ambiguous() {
    let app = App::with(COOKIES).await;
    let (one, other) = (app.alice().await, app.alice().await);
    let mixed = cookie(&[(ACCESS, one.access_token()), (REFRESH, other.refresh_token().unwrap())]);
    let answer = app.post("/logout", &[mixed, csrf(csrf_of(&one))], "").await;
    assert_eq!(answer.error(), (400, "invalid_request".to_owned()));
    assert_eq!(app.get_with("/access", one.access_token()).await.status, 200);
    assert_eq!(app.get_with("/access", other.access_token()).await.status, 200);
}

#[rocket::async_test]
async fn logging_out_works_with_an_expired_token_and_beside_a_bad_one() {
    let app = App::with(COOKIES).await;
    let pair = app.alice().await;
    app.clock.advance(Duration::from_secs(16 * 60));
    let answer = app.post("/logout", &[bearer(pair.access_token())], "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let refresh = pair.refresh_token().unwrap();
    assert_eq!(app.get_with("/refresh", refresh).await.error(), (401, "token_revoked".to_owned()));

    let pair = app.alice().await;
    let with_bad = cookie(&[(ACCESS, "nonsense"), (REFRESH, pair.refresh_token().unwrap())]);
    let value = pair.refresh_claims().unwrap().csrf.clone().unwrap();
    assert_eq!(app.post("/logout", &[with_bad, csrf(value)], "").await.status, 200);

    assert_eq!(app.post("/logout", &[], "").await.error(), (401, "token_missing".to_owned()));
    assert_eq!(app.post("/logout", &[bearer("nonsense")], "").await.error(), (401, "token_malformed".to_owned()));
}

#[rocket::async_test]
async fn the_name_of_a_cookie_is_taken_as_it_was_sent() {
    let app = App::with("locations = [\"cookie\"]\ncookie.access_name = \"__Host-token\"").await;
    let pair = app.alice().await;
    // As Rocket reads a request from the network: the header as it came, and beside it the names decoded.
    let sent = async |name: &str| {
        let request =
            app.client.get("/access").header(Header::new("Cookie", format!("{name}={}", pair.access_token())));
        request.cookie(("__Host-token", pair.access_token().to_owned())).dispatch().await.status().code
    };
    assert_eq!(sent("__Host-token").await, 200);
    // A browser lets a sibling domain set this one, for it does not begin with the prefix.
    assert_eq!(sent("__%48ost-token").await, 401);
    assert_eq!(sent("\u{2000}__Host-token").await, 401);
    assert_eq!(sent(" \t__Host-token ").await, 200);
}
