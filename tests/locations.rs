//! Where else than in the `Authorization` header a token may be: the query, the body, a header of another name.

use crate::support::{Server, json, on_both};

on_both! {
    async fn by_query_an_access_token_alone(database: Database) {
        let server = Server::start(database, |settings| settings.set("locations", json!(["query"]))).await;
        let pair = server.login().await;
        let answer = server.get(&format!("/protected?jwt={}", pair.access)).send().await;
        assert_eq!(answer.ok(200), json!({ "hello": "world" }));
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
        server.get("/protected").bearer(&pair.access).send().await.error(401, "token_missing");
        server.post(&format!("/refresh?jwt={}", pair.refresh)).send().await.error(401, "token_missing");
        server.get(&format!("/protected?jwt={}", pair.refresh)).send().await.error(401, "token_wrong_type");
        server.post(&format!("/logout?jwt={}", pair.refresh)).send().await.error(401, "token_wrong_type");
        server.get(&format!("/protected?jwt={}", pair.access)).send().await.ok(200);
        server.get("/protected?jwt=").send().await.error(401, "token_missing");
        server.get("/protected?jwt=x").send().await.error(401, "token_malformed");
        server.get("/protected?jwt=%FF%00").send().await.error(401, "token_malformed");
    }

    async fn by_the_body_where_a_route_reads_it_there(database: Database) {
        let server = Server::start(database, |settings| settings.set("locations", json!(["header", "json"]))).await;
        let (one, two) = (server.login().await, server.login().await);
        server.post("/refresh").json(&json!({ "refresh_token": one.refresh })).send().await.ok(200);
        let wrong = server.post("/refresh").json(&json!({ "refresh_token": one.access })).send().await;
        wrong.error(401, "token_wrong_type");
        let both = server.post("/refresh").bearer(&two.refresh).json(&json!({ "refresh_token": one.refresh }));
        both.send().await.error(400, "invalid_request");
        server.post("/refresh").json(&json!({ "refresh_token": 7 })).send().await.error(401, "token_malformed");
        server
            .post("/logout")
            .json(&json!({ "access_token": one.access }))
            .send()
            .await
            .says("Successfully logged out");
        server.post("/refresh").bearer(&one.refresh).send().await.error(401, "token_revoked");
        server
            .post("/logout")
            .json(&json!({ "refresh_token": two.refresh }))
            .send()
            .await
            .says("Successfully logged out");
        server.refuses(&two.access, "token_revoked").await;
    }

    async fn in_a_header_of_another_name_and_scheme(database: Database) {
        let server =
            Server::start(database, |settings| settings.set("header", json!({ "name": "X-Token", "scheme": "" })))
                .await;
        let pair = server.login().await;
        assert_eq!(server.get("/protected").header("X-Token", &pair.access).send().await.status, 200);
        server.get("/protected").bearer(&pair.access).send().await.error(401, "token_missing");
    }
}
