//! Where a token may be, and what happens where there are two.

use super::app::{Answer, App, alice, bearer, cookie, json_type};

const ACCESS: &str = "access_token_cookie";
const REFRESH: &str = "refresh_token_cookie";

fn missing() -> (u16, String) {
    (401, "token_missing".to_owned())
}

fn ambiguous() -> (u16, String) {
    (400, "invalid_request".to_owned())
}

#[rocket::async_test]
async fn the_header_alone_counts_unless_told_otherwise() {
    let app = App::new().await;
    let pair = app.alice().await;
    let token = pair.access_token();
    for value in [format!("Bearer {token}"), format!("bearer {token}"), format!("BEARER  {token}")] {
        assert_eq!(app.get("/access", &[("Authorization", value)]).await.status, 200);
    }
    assert_eq!(app.get("/access", &[cookie(&[(ACCESS, token)])]).await.error(), missing());
    assert_eq!(app.get(&format!("/access?jwt={token}"), &[]).await.error(), missing());
}

#[rocket::async_test]
async fn the_header_has_a_name_and_a_scheme() {
    let app = App::with("header.name = \"X-Token\"\nheader.scheme = \"\"").await;
    let pair = app.alice().await;
    assert_eq!(app.get("/access", &[("X-Token", pair.access_token().to_owned())]).await.status, 200);
    assert_eq!(app.get_with("/access", pair.access_token()).await.error(), missing());
    let app = App::with("header.scheme = \"JWT\"").await;
    let pair = app.alice().await;
    let value = format!("jwt {}", pair.access_token());
    assert_eq!(app.get("/access", &[("Authorization", value)]).await.status, 200);
    assert_eq!(app.get_with("/access", pair.access_token()).await.error(), missing());
}

#[rocket::async_test]
async fn the_query_carries_access_tokens_and_never_refresh_tokens() {
    let app = App::with("locations = [\"query\"]").await;
    let pair = app.alice().await;
    let (access, refresh) = (pair.access_token(), pair.refresh_token().unwrap());
    assert_eq!(app.get(&format!("/access?jwt={access}"), &[]).await.status, 200);
    assert_eq!(app.get(&format!("/access?jwt={access}&jwt={access}"), &[]).await.status, 200);
    assert_eq!(app.get(&format!("/access?jwt={access}&jwt=other"), &[]).await.error(), ambiguous());
    assert_eq!(app.get("/access?jwt=", &[]).await.error(), missing());
    assert_eq!(app.get_with("/access", access).await.error(), missing());
    for path in ["/refresh", "/refresh-by-query"] {
        assert_eq!(app.get(&format!("{path}?jwt={refresh}"), &[]).await.error(), missing(), "{path}");
    }
    // Not even where either type will do.
    assert_eq!(app.get(&format!("/any?jwt={access}"), &[]).await.text, "access");
    let wrong = app.get(&format!("/any?jwt={refresh}"), &[]).await.error();
    assert_eq!(wrong, (401, "token_wrong_type".to_owned()));
}

#[rocket::async_test]
async fn two_different_tokens_are_an_error_and_the_same_twice_is_not() {
    let app = App::with("locations = [\"cookie\", \"header\", \"query\"]").await;
    let (one, other) = (app.alice().await, app.alice().await);
    let (one, other) = (one.access_token(), other.access_token());
    let same = app.get(&format!("/access?jwt={one}"), &[bearer(one), cookie(&[(ACCESS, one)])]).await;
    assert_eq!(same.status, 200, "{same:?}");
    assert_eq!(app.get("/access", &[bearer(one), cookie(&[(ACCESS, other)])]).await.error(), ambiguous());
    assert_eq!(app.get(&format!("/access?jwt={other}"), &[bearer(one)]).await.error(), ambiguous());
    assert_eq!(app.get("/access", &[cookie(&[(ACCESS, one), (ACCESS, other)])]).await.error(), ambiguous());
    // The cookies of the two types are for two purposes.
    let pair = app.alice().await;
    let both = cookie(&[(ACCESS, pair.access_token()), (REFRESH, pair.refresh_token().unwrap())]);
    assert_eq!(app.get("/access", [both.clone()]).await.status, 200);
    assert_eq!(app.get("/refresh", [both.clone()]).await.status, 200);
    assert_eq!(app.get("/any", &[both]).await.text, "access");
}

#[rocket::async_test]
async fn a_route_may_look_elsewhere() {
    let app = App::with("locations = [\"header\", \"cookie\"]").await;
    let pair = app.alice().await;
    let token = pair.access_token();
    let header = [bearer(token)];
    let cookie = [cookie(&[(ACCESS, token)])];
    for (path, by_header, by_cookie) in
        [("/access", 200, 200), ("/by-header", 200, 401), ("/by-cookie", 401, 200), ("/by-query", 401, 401)]
    {
        assert_eq!(app.get(path, &header).await.status, by_header, "{path}");
        assert_eq!(app.get(path, &cookie).await.status, by_cookie, "{path}");
    }
    assert_eq!(app.get(&format!("/by-query?jwt={token}"), &[]).await.status, 200);
}

async fn post_json(app: &App, path: &str, body: &str) -> Answer {
    app.post(path, &[json_type()], body).await
}

#[rocket::async_test]
async fn a_data_guard_reads_the_body_where_the_locations_have_json() {
    let app = App::new().await;
    let pair = app.alice().await;
    let body = format!(r#"{{"access_token":"{}","text":"hello"}}"#, pair.access_token());
    let answer = post_json(&app, "/data-or-json", &body).await;
    assert_eq!((answer.status, answer.json()["body"]["text"].as_str()), (200, Some("hello")));
    assert_eq!(post_json(&app, "/data", &body).await.error(), missing());
    let app = App::with("locations = [\"json\"]").await;
    let pair = app.alice().await;
    let body = format!(r#"{{"access_token":"{}"}}"#, pair.access_token());
    assert_eq!(post_json(&app, "/data", &body).await.status, 200);
    assert_eq!(app.get_with("/access", pair.access_token()).await.error(), missing());
}

#[rocket::async_test]
async fn a_body_that_is_not_readable_is_refused() {
    let app = App::with("body_limit = 4096").await;
    let pair = app.alice().await;
    let with_token = |body: &'static str| [json_type(), bearer(pair.access_token()), ("X-Body", body.to_owned())];
    let invalid = |status: u16| (status, "invalid_request".to_owned());
    let path = "/data-or-json";

    assert_eq!(post_json(&app, path, "").await.error(), missing());
    assert_eq!(post_json(&app, path, "{}").await.error(), missing());
    assert_eq!(post_json(&app, path, "[1]").await.error(), missing());
    assert_eq!(post_json(&app, path, "{").await.error(), invalid(400));
    assert_eq!(post_json(&app, path, &"[".repeat(2000)).await.error(), invalid(400));
    assert_eq!(post_json(&app, path, &" ".repeat(5000)).await.error(), invalid(413));
    assert_eq!(post_json(&app, path, r#"{"access_token":1}"#).await.error(), (401, "token_malformed".to_owned()));
    assert_eq!(app.post(path, &with_token(""), "{").await.error(), invalid(400));
    assert_eq!(app.post(path, &with_token(""), "").await.status, 200);

    let form = ("Content-Type", "application/x-www-form-urlencoded".to_owned());
    assert_eq!(app.post(path, [form.clone()], "a=b").await.error(), invalid(415));
    assert_eq!(app.post(path, &[form.clone(), bearer(pair.access_token())], "a=b").await.status, 200);
    assert_eq!(app.post(path, &[form], "").await.error(), missing());
}

#[rocket::async_test]
async fn the_body_and_the_header_must_agree() {
    let app = App::new().await;
    let (one, other) = (app.alice().await, app.alice().await);
    let body = format!(r#"{{"refresh_token":"{}"}}"#, one.refresh_token().unwrap());
    assert_eq!(post_json(&app, "/refresh", &body).await.status, 200);
    let agreeing = [json_type(), bearer(one.refresh_token().unwrap())];
    assert_eq!(app.post("/refresh", &agreeing, &body).await.status, 200);
    let differing = [json_type(), bearer(other.refresh_token().unwrap())];
    assert_eq!(app.post("/refresh", &differing, &body).await.error(), ambiguous());
}

#[rocket::async_test]
async fn a_proxy_may_ask_for_another_audience() {
    let app = App::new().await;
    let own = app.alice().await;
    let api = app.issue(alice().audience(["https://api.example"]).unwrap()).await;
    let asked = "/check?audience=https://api.example";
    assert_eq!(app.get_with("/check", own.access_token()).await.status, 204);
    assert_eq!(app.get_with("/check", api.access_token()).await.error(), (401, "token_invalid".to_owned()));
    assert_eq!(app.get_with(asked, api.access_token()).await.status, 204);
    assert_eq!(app.get_with(asked, own.access_token()).await.error(), (401, "token_invalid".to_owned()));
    assert_eq!(app.get("/check", &[]).await.error(), missing());
}
