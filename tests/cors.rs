//! Pages of other origins: closed unless set, and open no further than set.

use crate::support::{Answer, Call, Server, json, on_both};

const APP: &str = "https://app.example";

const HEADERS: [&str; 6] = [
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Credentials",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Headers",
    "Access-Control-Expose-Headers",
    "Access-Control-Max-Age",
];

fn preflight(server: &Server, path: &str, method: &str) -> Call {
    server
        .call("OPTIONS", path)
        .header("Access-Control-Request-Method", method)
        .header("Access-Control-Request-Headers", "authorization,content-type")
}

#[track_caller]
fn is_closed(answer: &Answer) {
    for name in HEADERS {
        assert_eq!(answer.header(name), None, "{answer:?}");
    }
}

on_both! {
    async fn it_is_closed_by_default(server: Server) {
        let token = server.login().await.access;
        let answer = server.get("/protected").bearer(&token).header("Origin", APP).send().await;
        answer.ok(200);
        is_closed(&answer);
        assert_eq!(answer.header("Vary"), None);
        let answer = preflight(&server, "/protected", "GET").header("Origin", APP).send().await;
        answer.error(405, "method_not_allowed");
        is_closed(&answer);
    }

    async fn an_origin_that_is_set_may_call(database: Database) {
        let server = Server::start(database, |settings| settings.set("cors.origins", json!([APP, "http://localhost:3000"]))).await;
        let token = server.login().await.access;
        for origin in [APP, "http://localhost:3000"] {
            let answer = server.get("/protected").bearer(&token).header("Origin", origin).send().await;
            answer.ok(200);
            assert_eq!(answer.header("Access-Control-Allow-Origin"), Some(origin));
            assert_eq!(answer.header("Access-Control-Allow-Credentials"), None);
            assert_eq!(answer.header("Vary"), Some("Origin"));
            let exposed = answer.header("Access-Control-Expose-Headers").unwrap();
            assert!(["ETag", "Link", "WWW-Authenticate", "Retry-After"].iter().all(|name| exposed.contains(name)), "{exposed}");
        }
        // A refusal is for the page to read as well.
        let answer = server.get("/protected").header("Origin", APP).send().await;
        answer.error(401, "token_missing");
        assert_eq!(answer.header("Access-Control-Allow-Origin"), Some(APP));

        let answer = preflight(&server, "/auth/tokens/0190a5a0-0000-7000-8000-000000000001", "PATCH").header("Origin", APP).send().await;
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{answer:?}");
        assert_eq!(answer.header("Access-Control-Allow-Origin"), Some(APP));
        assert_eq!(answer.header("Access-Control-Allow-Methods"), Some("GET, HEAD, PATCH"));
        let headers = answer.header("Access-Control-Allow-Headers").unwrap();
        let asked = ["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID"];
        assert!(asked.iter().all(|name| headers.contains(name)), "{headers}");
        assert!(!headers.contains("X-CSRF-TOKEN"), "no cookie, no double submit: {headers}");
        assert_eq!(answer.header("Access-Control-Max-Age"), Some("600"));
        assert_eq!((answer.header("Allow"), answer.header("Vary")), (None, Some("Origin")));

        for origin in ["https://app.example.evil", "https://evil.example", "null", "http://app.example", "https://app.example:8443", "HTTPS://APP.EXAMPLE"] {
            let answer = server.get("/protected").bearer(&token).header("Origin", origin).send().await;
            answer.ok(200);
            is_closed(&answer);
            let answer = preflight(&server, "/protected", "GET").header("Origin", origin).send().await;
            answer.error(405, "method_not_allowed");
            is_closed(&answer);
        }
        let answer = server.get("/protected").bearer(&token).header("Origin", APP).header("Origin", APP).send().await;
        is_closed(&answer);
        let answer = server.get("/protected").bearer(&token).send().await;
        is_closed(&answer);
        assert_eq!(answer.header("Vary"), Some("Origin"), "a cache must not hand it to a page");
        preflight(&server, "/nowhere", "GET").header("Origin", APP).send().await.error(404, "not_found");
    }

    async fn cookies_are_sent_where_they_are_a_location(database: Database) {
        let server = Server::start(database, |settings| {
            settings.set("cors.origins", json!([APP])).set("locations", json!(["header", "cookie"]))
        })
        .await;
        let answer = preflight(&server, "/auth/tokens/revoke-all", "POST").header("Origin", APP).send().await;
        assert_eq!(answer.header("Access-Control-Allow-Credentials"), Some("true"));
        assert!(answer.header("Access-Control-Allow-Headers").unwrap().contains("X-CSRF-TOKEN"));
    }

    async fn any_origin(database: Database) {
        let server = Server::start(database, |settings| settings.set("cors.origins", "*")).await;
        let token = server.login().await.access;
        let answer = server.get("/protected").bearer(&token).header("Origin", "https://any.example").send().await;
        assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("*"));
        assert_eq!((answer.header("Access-Control-Allow-Credentials"), answer.header("Vary")), (None, None));
        is_closed(&server.get("/protected").bearer(&token).send().await);
    }
}

#[test]
fn origins_that_make_no_sense_stop_the_start() {
    let wrong = [
        r#"["app.example"]"#,
        r#"["https://app.example/"]"#,
        r#"["https://app.example/path"]"#,
        r#"["https://App.example"]"#,
        r#"["https://app.example:443"]"#,
        r#"["https://app.example:x"]"#,
        r#"["https://*.example"]"#,
        r#"["https://"]"#,
        r#"["null"]"#,
        r#"["*", "https://app.example"]"#,
        r#"["https://app.example", "https://app.example"]"#,
        r#"["https://user@app.example"]"#,
    ];
    for origins in wrong {
        let error = counterfoil::Settings::for_tests_with(&format!("cors.origins = {origins}")).unwrap_err();
        assert!(error.is_config() && error.to_string().starts_with("cors.origins"), "{origins}: {error}");
    }
    let cookies = "cors.origins = [\"*\"]\nlocations = [\"header\", \"cookie\"]";
    let error = counterfoil::Settings::for_tests_with(cookies).unwrap_err();
    assert!(error.to_string().starts_with("cors.origins"), "{error}");
    for good in
        [r#"["http://localhost:3000"]"#, r#"["https://[::1]:8443"]"#, r#"["*"]"#, "[]", r#""https://a.example""#]
    {
        counterfoil::Settings::for_tests_with(&format!("cors.origins = {good}")).unwrap();
    }
}
