//! Guards that ask for more than a live token, and what several guards of one route cost.

use counterfoil::{Actor, Denial, Grant};

use super::app::{App, alice};

async fn status_with(app: &App, path: &str, scope: &str) -> u16 {
    let token = app.issue(alice().scope(scope.parse().unwrap())).await;
    app.get_with(path, token.access_token()).await.status
}

#[rocket::async_test]
async fn all_of_needs_each() {
    let app = App::new().await;
    for (scope, status) in [("", 403), ("notes:read", 403), ("notes:write", 403), ("notes:read notes:write", 200)] {
        assert_eq!(status_with(&app, "/all", scope).await, status, "{scope:?}");
    }
    let token = app.issue(alice()).await;
    let answer = app.get_with("/all", token.access_token()).await;
    assert_eq!(answer.json()["scope"], "notes:read notes:write");
}

#[rocket::async_test]
async fn any_of_needs_one_and_names_the_first() {
    let app = App::new().await;
    for (scope, status) in
        [("", 403), ("notes:read", 403), ("notes:admin", 200), ("notes:read notes:write", 200), ("notes", 403)]
    {
        assert_eq!(status_with(&app, "/any-of", scope).await, status, "{scope:?}");
    }
    let token = app.issue(alice().scope("notes:read".parse().unwrap())).await;
    let answer = app.get_with("/any-of", token.access_token()).await;
    assert_eq!(answer.json()["scope"], "notes:write");
}

#[rocket::async_test]
async fn an_optional_token_is_none_only_where_it_is_missing() {
    let app = App::new().await;
    assert_eq!(app.get("/optional", &[]).await.text, "nobody");
    let pair = app.alice().await;
    assert_eq!(app.get_with("/optional", pair.access_token()).await.text, "alice");
    assert_eq!(app.get_with("/optional", "nonsense").await.error(), (401, "token_malformed".to_owned()));
    let refresh = pair.refresh_token().unwrap();
    assert_eq!(app.get_with("/optional", refresh).await.error(), (401, "token_wrong_type".to_owned()));
    let (jti, actor) = (pair.access_claims().jti, Actor::application("test"));
    app.registry().revoke(jti, actor).await.unwrap();
    assert_eq!(app.get_with("/optional", pair.access_token()).await.error(), (401, "token_revoked".to_owned()));
}

#[rocket::async_test]
async fn a_guard_that_takes_either_type_vouches_for_none() {
    let app = App::new().await;
    let issued = app.issue(alice()).await;
    assert_eq!(app.get_with("/any-and-access", issued.access_token()).await.status, 200);
    let answer = app.get_with("/any-and-access", issued.refresh_token().unwrap()).await;
    assert_eq!(answer.error(), (401, "token_wrong_type".to_owned()));
}

#[rocket::async_test]
async fn either_type_is_any() {
    let app = App::new().await;
    let pair = app.alice().await;
    assert_eq!(app.get_with("/any", pair.access_token()).await.text, "access");
    assert_eq!(app.get_with("/any", pair.refresh_token().unwrap()).await.text, "refresh");
    assert_eq!(app.get("/any", &[]).await.error(), (401, "token_missing".to_owned()));
}

#[rocket::async_test]
async fn additional_claims_are_of_the_application_s_type() {
    let app = App::new().await;
    let token = app.issue(alice().claim("tenant", "acme").unwrap()).await;
    assert_eq!(app.get_with("/claims", token.access_token()).await.text, "alice of acme");
    for grant in [alice(), alice().claim("tenant", 7).unwrap()] {
        let token = app.issue(grant).await;
        assert_eq!(app.get_with("/claims", token.access_token()).await.error(), (401, "token_invalid".to_owned()));
    }
}

#[rocket::async_test]
async fn the_subject_must_be_a_user() {
    let app = App::new().await;
    let token = app.alice().await;
    assert_eq!(app.get_with("/user", token.access_token()).await.text, "alice alice");
    let token = app.issue(Grant::to("ghost".parse().unwrap())).await;
    let answer = app.get_with("/user", token.access_token()).await;
    assert_eq!(answer.error(), (401, "token_invalid".to_owned()));
    assert_eq!(answer.json()["msg"], Denial::NoUser.message().as_ref());
    let token = app.issue(Grant::to("broken".parse().unwrap())).await;
    let answer = app.get_with("/user", token.access_token()).await;
    assert_eq!(answer.error(), (503, "registry_unavailable".to_owned()));
    assert!(!answer.text.contains("table"));
}

#[rocket::async_test]
async fn five_guards_check_once() {
    let app = App::new().await;
    let grant = alice().fresh(true).scope("notes:read".parse().unwrap()).claim("tenant", "acme").unwrap();
    let token = app.issue(grant).await;
    let counted = async || {
        let text = app.registry().metrics_text().await.unwrap();
        let counts = text.lines().filter(|line| line.starts_with("counterfoil_checks_total{"));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum::<u64>()
    };
    assert_eq!(counted().await, 0);
    let answer = app.get_with("/five", token.access_token()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(counted().await, 1);
    // And the next request checks again.
    app.get_with("/five", token.access_token()).await;
    assert_eq!(counted().await, 2);
}
