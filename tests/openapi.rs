//! The OpenAPI document: held against the mounted routes in both directions, and against the committed snapshot.

use std::collections::BTreeSet;

use rocket::figment::Figment;

use crate::support::documented::misfit;
use crate::support::forge::jti_of;
use crate::support::{Answer, Server, Value, json, on_both};

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");

/// A server on a database of its own.
async fn client() -> (rocket::local::asynchronous::Client, tempfile::TempDir) {
    client_without(&[]).await
}

/// The same, with some of the operators' routes switched off.
async fn client_without(off: &[&str]) -> (rocket::local::asynchronous::Client, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut figment = Figment::from(rocket::Config::debug_default())
        .merge(("log_level", "off"))
        .merge(("counterfoil.database_url", format!("sqlite://{}/registry.db", dir.path().display())))
        .merge(("counterfoil.algorithm", "HS256"))
        .merge(("counterfoil.keys.secret", "a secret of the tests that is long enough"))
        .merge(("counterfoil.first_admin", "off"));
    for name in off {
        figment = figment.merge((format!("counterfoil.operations.{name}"), false));
    }
    let client = rocket::local::asynchronous::Client::untracked(counterfoil::server(figment)).await.unwrap();
    (client, dir)
}

async fn document(client: &rocket::local::asynchronous::Client) -> Value {
    let response = client.get("/openapi.json").dispatch().await;
    assert_eq!(response.status().code, 200);
    response.into_json().await.unwrap()
}

/// `get /auth/tokens/{jti}` for each operation.
fn documented(document: &Value) -> BTreeSet<String> {
    let methods = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            let item = item.as_object().unwrap().keys().filter(|key| methods.contains(&key.as_str()));
            item.map(move |method| format!("{method} {path}"))
        })
        .collect()
}

fn mounted(client: &rocket::local::asynchronous::Client) -> BTreeSet<String> {
    let name = |route: &rocket::Route| {
        let path = route.uri.path().replace("..>", ">").replace('<', "{").replace('>', "}");
        format!("{} {path}", route.method.as_str().to_lowercase())
    };
    // The console's pages are for people.
    client.rocket().routes().filter(|route| !route.uri.path().starts_with("/console")).map(name).collect()
}

#[rocket::async_test]
async fn every_route_is_documented_and_everything_documented_is_a_route() {
    let (client, _dir) = client().await;
    assert_eq!(documented(&document(&client).await), mounted(&client));
}

#[rocket::async_test]
async fn it_is_the_committed_document() {
    let (client, _dir) = client().await;
    let document = client.get("/openapi.json").dispatch().await.into_string().await.unwrap() + "\n";
    if std::env::var_os("COUNTERFOIL_TEST_WRITE_OPENAPI").is_some_and(|value| value == "1") {
        std::fs::write(SNAPSHOT, &document).unwrap();
    }
    let committed = std::fs::read_to_string(SNAPSHOT).unwrap();
    assert!(
        document == committed,
        "docs/openapi.json is not the document of these routes: look at what changed, then run this test with \
         COUNTERFOIL_TEST_WRITE_OPENAPI=1"
    );
}

#[rocket::async_test]
async fn it_is_whole() {
    let (client, _dir) = client().await;
    let document = document(&client).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    for scheme in ["bearer", "cookie", "refresh_cookie", "client"] {
        assert!(document["components"]["securitySchemes"][scheme].is_object(), "{scheme}");
    }
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#/").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(&format!("/{pointer}")).is_some(), "{pointer}");
    }
    // Each operation says what it is for, in words of its own.
    let operations =
        document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    let mut ids = BTreeSet::new();
    for operation in operations {
        assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{operation}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{operation}");
        // A body that may be left out is no `null`.
        assert!(!operation["requestBody"]["content"].to_string().contains("\"null\""), "{operation}");
    }
}

#[rocket::async_test]
async fn the_pages_ask_no_other_host() {
    let (client, _dir) = client().await;
    let response = client.get("/docs").dispatch().await;
    assert_eq!((response.status().code, response.headers().get_one("Location")), (303, Some("docs/index.html")));
    let response = client.get("/docs/").dispatch().await;
    assert_eq!((response.status().code, response.headers().get_one("Location")), (303, Some("./index.html")));
    for file in ["index.html", "swagger-initializer.js", "swagger-ui-bundle.js", "swagger-ui.css"] {
        let response = client.get(format!("/docs/{file}")).dispatch().await;
        assert_eq!(response.status().code, 200, "{file}");
        let policy = response.headers().get_one("Content-Security-Policy").unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("http"), "{policy}");
        if file == "swagger-initializer.js" {
            let text = response.into_string().await.unwrap();
            assert!(text.contains("../openapi.json"), "{text}");
        } else if file == "index.html" {
            let text = response.into_string().await.unwrap();
            assert!(!text.contains("src=\"http") && !text.contains("href=\"http"), "{text}");
        }
    }
    assert_eq!(client.get("/docs/../Cargo.toml").dispatch().await.status().code, 404);
    assert_eq!(client.get("/docs/none.js").dispatch().await.status().code, 404);
}

#[rocket::async_test]
async fn each_of_the_operators_routes_can_be_switched_off() {
    let paths = ["/metrics", "/openapi.json", "/docs/index.html"];
    for (off, there) in [
        (&["metrics"][..], [false, true, true]),
        (&["docs"], [true, true, false]),
        // The pages are nothing without the document.
        (&["openapi"], [true, false, false]),
    ] {
        let (client, _dir) = client_without(off).await;
        for (path, there) in paths.into_iter().zip(there) {
            assert_eq!(
                client.get(path).dispatch().await.status().code,
                if there { 200 } else { 404 },
                "{off:?} {path}"
            );
        }
    }
    let (client, _dir) = client().await;
    let metrics = client.get("/metrics").dispatch().await;
    assert_eq!(metrics.headers().get_one("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(metrics.into_string().await.unwrap().contains("counterfoil_check_seconds_count 0"));
}

on_both! {
    async fn answers_are_what_it_says(server: Server) {
        let document = server.get("/openapi.json").send().await.ok(200);
        let fits = |method: &str, path: &str, answer: &Answer| {
            let said = &document["paths"][path][method]["responses"][answer.status.to_string()];
            let schema = &said["content"]["application/json"]["schema"];
            assert_eq!(misfit(&document, schema, &answer.body_json()), None, "{method} {path}: {answer:?}");
        };
        let client = server.add_client("shop", &["--scope", "tokens:introspect"]);
        let nobody = server.add_client("nobody", &[]);
        let pair = server.login().await;
        for path in ["/auth/tokens", "/auth/sessions", "/admin/audit", "/admin/overview", "/livez", "/readyz"] {
            fits("get", path, &server.get(path).bearer(&pair.access).send().await);
        }
        let record = server.get(&format!("/auth/tokens/{}", jti_of(&pair.access))).bearer(&pair.access).send().await;
        fits("get", "/auth/tokens/{jti}", &record);
        let personal = server.post("/auth/tokens").bearer(&pair.access).json(&json!({ "label": "script" })).send().await;
        fits("post", "/auth/tokens", &personal);
        fits("post", "/refresh", &server.post("/refresh").bearer(&pair.refresh).send().await);

        let wide = server.issue_with("alice", "a b", |grant| grant.audience(["x", "y"]).unwrap()).await;
        for (caller, token) in [(&client, &pair.access), (&client, &wide.access), (&client, &wide.refresh), (&nobody, &wide.access)] {
            let call = server.post("/oauth/introspect").basic(caller);
            fits("post", "/oauth/introspect", &call.form(&[("token", token)]).send().await);
        }
        let reader = server.issue("alice", "notes:read").await;
        let refused = server.get("/auth/all-tokens").bearer(&reader.access).send().await;
        refused.error(403, "insufficient_scope");
        fits("get", "/auth/all-tokens", &refused);
        server.registry.close().await;
        let unready = server.get("/readyz").send().await;
        assert_eq!(unready.status, 503);
        fits("get", "/readyz", &unready);
    }
}
