//! The example as its reader would try it: the flow of the seed page.

#[path = "../examples/quickstart.rs"]
#[expect(dead_code, reason = "its main is for cargo run")]
mod example;

use counterfoil::Settings;
use rocket::http::{ContentType, Header, Status};
use rocket::local::asynchronous::{Client, LocalRequest};
use rocket::serde::json::{Value, json};

async fn client() -> Client {
    let app = example::app(counterfoil::fairing().settings(Settings::for_tests()));
    let figment = app.figment().clone().merge(("log_level", "off"));
    Client::untracked(app.configure(figment)).await.unwrap()
}

async fn answer(request: LocalRequest<'_>, token: &str) -> (u16, Value) {
    let bearer = Header::new("Authorization", format!("Bearer {token}"));
    let response = request.header(bearer).dispatch().await;
    (response.status().code, response.into_json().await.unwrap())
}

async fn login(client: &Client, username: &str, password: &str) -> (Status, Value) {
    let body = json!({ "username": username, "password": password }).to_string();
    let response = client.post("/login").header(ContentType::JSON).body(body).dispatch().await;
    (response.status(), response.into_json().await.unwrap())
}

fn text(answer: &Value, member: &str) -> String {
    answer[member].as_str().unwrap().to_owned()
}

#[rocket::async_test]
async fn log_in_use_revoke_refused_unrevoke_accepted() {
    let client = client().await;
    assert_eq!(
        login(&client, "test", "wrong").await,
        (Status::Unauthorized, json!({ "msg": "Bad username or password" }))
    );
    let (status, pair) = login(&client, "test", "test").await;
    assert_eq!(status, Status::Ok);
    let (access, refresh) = (text(&pair, "access_token"), text(&pair, "refresh_token"));
    assert_eq!(answer(client.get("/protected"), &access).await, (200, json!({ "hello": "world" })));

    let (status, refreshed) = answer(client.post("/refresh"), &refresh).await;
    assert_eq!(status, 200);
    let second = text(&refreshed, "access_token");

    let (_, listed) = answer(client.get("/auth/tokens"), &access).await;
    // Two pairs: the refresh token comes with another in its place.
    assert_eq!(listed.as_array().unwrap().len(), 4);
    let find =
        |fresh: bool| listed.as_array().unwrap().iter().find(|record| record["token"]["fresh"] == fresh).unwrap();
    let jti = text(&find(true)["token"], "jti");
    assert_eq!(find(true)["revoked"], false);

    let revoke = format!("/auth/tokens/revoke/{jti}");
    let revoked = (200, json!({ "msg": "Token successfully revoked" }));
    assert_eq!(answer(client.put(revoke.clone()), &second).await, revoked);
    assert_eq!(answer(client.put(revoke.clone()), &second).await, revoked);
    assert_eq!(answer(client.get("/protected"), &access).await.0, 401);
    let unrevoke = format!("/auth/tokens/unrevoke/{jti}");
    let (status, refused) = answer(client.put(unrevoke.clone()), &access).await;
    assert_eq!((status, text(&refused, "error")), (401, "token_revoked".to_owned()));
    let unrevoked = (200, json!({ "msg": "Token successfully unrevoked" }));
    assert_eq!(answer(client.put(unrevoke), &second).await, unrevoked);
    assert_eq!(answer(client.get("/protected"), &access).await.0, 200);

    // Somebody else's token is as unknown as one that never was.
    let (_, other) = login(&client, "admin", "admin").await;
    let other = text(&other, "access_token");
    let not_found = json!({ "error": "not_found", "msg": "Token not found" });
    assert_eq!(answer(client.put(revoke), &other).await, (404, not_found));
    let nonsense = answer(client.put("/auth/tokens/revoke/nonsense"), &other).await;
    assert_eq!(nonsense, (404, json!({ "msg": "Token not found" })));
}

#[rocket::async_test]
async fn logging_out_revokes_the_token_that_was_sent() {
    let client = client().await;
    let (_, pair) = login(&client, "test", "test").await;
    let (access, refresh) = (text(&pair, "access_token"), text(&pair, "refresh_token"));
    let logged_out = (200, json!({ "msg": "Successfully logged out" }));
    assert_eq!(answer(client.post("/logout"), &access).await, logged_out);
    assert_eq!(answer(client.get("/protected"), &access).await.0, 401);
    let (status, refreshed) = answer(client.post("/refresh"), &refresh).await;
    let (refresh, spent) = (text(&refreshed, "refresh_token"), refresh);
    assert_eq!(status, 200);
    assert_eq!(answer(client.post("/logout2"), &spent).await.0, 401);
    assert_eq!(answer(client.post("/logout2"), &refresh).await, logged_out);
    assert_eq!(answer(client.post("/refresh"), &refresh).await.0, 401);
}

#[rocket::async_test]
async fn all_tokens_are_for_administrators() {
    let client = client().await;
    let (_, user) = login(&client, "test", "test").await;
    let (status, refused) = answer(client.get("/auth/all-tokens"), &text(&user, "access_token")).await;
    assert_eq!((status, text(&refused, "scope")), (403, "registry:admin".to_owned()));
    let (_, admin) = login(&client, "admin", "admin").await;
    let (status, listed) = answer(client.get("/auth/all-tokens"), &text(&admin, "access_token")).await;
    assert_eq!((status, listed.as_array().unwrap().len()), (200, 4));
}

#[rocket::async_test]
async fn a_password_may_be_written_with_escapes() {
    let client = client().await;
    // Some clients write so whatever is not ASCII, and all of them a quote.
    let escaped = r#"{ "username": "te\u0073t", "password": "te\u0073t" }"#;
    let response = client.post("/login").header(ContentType::JSON).body(escaped).dispatch().await;
    assert_eq!(response.status(), Status::Ok);
}
