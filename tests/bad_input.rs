//! Hostile paths, bodies, queries and headers: the contract's 4xx, never a 5xx, and nothing half-written.

use crate::support::forge::{jti_of, sid_of};
use crate::support::{ADMIN, Answer, PASSWORD, Pair, Server, Value, json, on_both};

/// Percent-encoded path segments that are no id.
const HOSTILE: [&str; 14] = [
    "%00",
    "x%00y",
    "%27%3B%20drop%20table%20cf_tokens%3B--",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "%ff%fe",
    "%E2%98%83",
    "%0d%0aX-Injected:%20yes",
    "null",
    "*",
    "%25",
    "0190A5A0-0000-7000-8000-00000000000g",
    "00000000-0000-0000-0000-000000000000",
    "{0190a5a0-0000-7000-8000-000000000001}",
    "urn:uuid:0190a5a0-0000-7000-8000-000000000001",
];

/// How many records, sessions and audit entries there are: what must not change when a request is refused.
async fn census(server: &Server, by: &Pair) -> [usize; 4] {
    let mut counts = [0; 4];
    let paths = ["/auth/all-tokens", "/auth/all-tokens?state=live", "/auth/sessions", "/admin/audit"];
    for (count, path) in counts.iter_mut().zip(paths) {
        *count = server.get(path).bearer(&by.access).send().await.ok(200).as_array().unwrap().len();
    }
    counts
}

/// An error that says so in the contract's form, and is the caller's fault.
#[track_caller]
fn assert_refused(answer: &Answer, what: &str) {
    assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
    let body = answer.body_json();
    assert_eq!(answer.error(answer.status, body["error"].as_str().unwrap()), body["msg"].as_str().unwrap(), "{what}");
}

on_both! {
    async fn hostile_ids_in_paths_are_not_found(server: Server) {
        let pair = server.login().await;
        let before = census(&server, &pair).await;
        let long = "9".repeat(5_000);
        for id in HOSTILE.into_iter().chain([long.as_str()]) {
            for (method, path) in [
                ("GET", format!("/auth/tokens/{id}")),
                ("PATCH", format!("/auth/tokens/{id}")),
                ("PUT", format!("/auth/tokens/revoke/{id}")),
                ("PUT", format!("/auth/tokens/unrevoke/{id}")),
                ("PUT", format!("/admin/tokens/revoke/{id}")),
                ("PUT", format!("/admin/tokens/unrevoke/{id}")),
                ("DELETE", format!("/auth/sessions/{id}")),
                ("DELETE", format!("/admin/sessions/{id}")),
            ] {
                let call = server.call(method, &path).bearer(&pair.access);
                let call = if method == "PATCH" { call.json(&json!({ "label": "x" })) } else { call };
                let answer = call.send().await;
                let msg = answer.error(404, "not_found");
                // A segment that the router itself can't read as one is just no path of ours.
                assert!(
                    ["Token not found", "Session not found"].contains(&msg.as_str()) || id.contains("%f"),
                    "{path}: {msg}"
                );
                assert_eq!(answer.header("X-Injected"), None);
            }
        }
        for subject in ["%00", "a%0ab", &"x".repeat(256)] {
            let answer =
                server.post(&format!("/admin/subjects/{subject}/revoke-all")).bearer(&pair.access).send().await;
            assert_refused(&answer, subject);
        }
        assert_eq!(census(&server, &pair).await, before);
        server.accepts(&pair.access).await;
    }

    async fn bodies_that_are_no_json_of_ours_are_refused(server: Server) {
        let pair = server.login().await;
        let before = census(&server, &pair).await;
        let deep = format!("{{\"username\":{}1{}}}", "[".repeat(20_000), "]".repeat(20_000));
        let bodies: [&[u8]; 16] = [
            b"{",
            b"",
            b"null",
            b"[]",
            b"7",
            b"\"x\"",
            b"{\"label\":",
            b"{'label':'x'}",
            b"{\"label\":\"\xff\"}",
            b"\xff\xfe",
            b"\x00",
            b"{\"label\":\"\\ud800\"}",
            b"{\"label\":NaN}",
            b"{\"a\":1}{\"b\":2}",
            b"\xef\xbb\xbf{}",
            deep.as_bytes(),
        ];
        let label = format!("/auth/tokens/{}", jti_of(&pair.access));
        for body in bodies {
            let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            for (method, path) in [("POST", "/auth/tokens"), ("PATCH", label.as_str()), ("POST", "/auth/password")] {
                let answer = server.call(method, path).bearer(&pair.access).json_bytes(body).send().await;
                assert!(matches!(answer.status, 400 | 422), "{path} {shown}: {answer:?}");
                answer.error(answer.status, "invalid_request");
            }
            let answer = server.post("/login").json_bytes(body).send().await;
            assert!(matches!(answer.status, 400 | 422), "{shown}: {answer:?}");
            answer.error(answer.status, "invalid_request");
            let revoke_all = server.post("/auth/tokens/revoke-all").bearer(&pair.access);
            if !body.is_empty() {
                assert_refused(&revoke_all.json_bytes(body).send().await, &shown);
            }
        }
        assert_eq!(census(&server, &pair).await, before);
    }

    async fn what_a_body_is_refused_for_is_documented(server: Server) {
        let document = server.get("/openapi.json").send().await.ok(200);
        let large = format!("{{\"label\": \"{}\"}}", "x".repeat(1 << 20));
        let mut routes = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                if !operation["requestBody"]["content"]["application/json"].is_object() {
                    continue;
                }
                routes += 1;
                let pair = server.login().await;
                let path = path.replace("{jti}", &jti_of(&pair.access)).replace("{sid}", &sid_of(&pair.access));
                let path = path.replace("{sub}", "alice");
                for (content_type, body) in [
                    ("application/json", "{"),
                    ("application/json", large.as_str()),
                    ("application/json", "[]"),
                    ("text/plain", "{}"),
                ] {
                    let call = server.call(&method.to_uppercase(), &path).bearer(&pair.access);
                    let answer = call.body(content_type, body).send().await;
                    let said = &operation["responses"][answer.status.to_string()];
                    let start = &body[..1];
                    assert!(said.is_object(), "{method} {path} with {start} as {content_type}: {answer:?}");
                }
            }
        }
        assert!(routes > 10, "{routes}");
    }

    async fn that_two_tokens_are_refused_is_documented(server: Server) {
        let document = server.get("/openapi.json").send().await.ok(200);
        let pair = server.login().await;
        let mut routes = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let schemes = operation["security"].as_array().into_iter().flatten();
                if !schemes.into_iter().any(|scheme| scheme["bearer"].is_array()) {
                    continue;
                }
                routes += 1;
                let path = path.replace("{jti}", &jti_of(&pair.access)).replace("{sid}", &sid_of(&pair.access));
                let path = path.replace("{sub}", "alice");
                let call = server.call(&method.to_uppercase(), &path).bearer(&pair.access).bearer(&pair.access);
                let answer = match operation["requestBody"]["content"].as_object().and_then(|content| content.keys().next()) {
                    Some(form) if form.contains("form") => call.body(form, "token=a").send().await,
                    Some(json) => call.body(json, "{}").send().await,
                    None => call.send().await,
                };
                assert_eq!(answer.status, 400, "{method} {path}: {answer:?}");
                let said = &operation["responses"]["400"]["description"];
                assert!(said.as_str().is_some_and(|said| said.contains("invalid_request")), "{method} {path}: {said}");
            }
        }
        assert!(routes > 20, "{routes}");
    }

    async fn fields_of_another_form_are_named(server: Server) {
        let login = |body: Value| server.post("/login").json(&body);
        for (field, body) in [
            ("username", json!({ "password": "x" })),
            ("username", json!({ "username": null, "password": "x" })),
            ("username", json!({ "username": ["admin"], "password": "x" })),
            ("password", json!({ "username": "admin", "password": { "$ne": "" } })),
            ("password", json!({ "username": "admin", "password": true })),
            ("scope", json!({ "username": ADMIN, "password": PASSWORD, "scope": ["a"] })),
            ("scope", json!({ "username": ADMIN, "password": PASSWORD, "scope": "a\"b" })),
            ("scope", json!({ "username": ADMIN, "password": PASSWORD, "scope": "x".repeat(200) })),
            ("label", json!({ "username": ADMIN, "password": PASSWORD, "label": 7 })),
            ("label", json!({ "username": ADMIN, "password": PASSWORD, "label": "x".repeat(101) })),
            ("label", json!({ "username": ADMIN, "password": PASSWORD, "label": "a\u{7}" })),
        ] {
            let msg = login(body.clone()).send().await.error(422, "invalid_request");
            assert!(msg.contains(field), "{body}: {msg}");
            assert!(!msg.contains(PASSWORD), "{msg}");
        }
        for username in ["a\u{0}b", "a\nb", "x' or '1'='1", "☃", " admin", "ADMIN", "admin ", "admin\u{0}"] {
            let answer = login(json!({ "username": username, "password": PASSWORD })).send().await;
            assert!(matches!(answer.status, 401 | 422), "{username:?}: {answer:?}");
        }
        for username in ["x".repeat(256), "x".repeat(60_000)] {
            let answer = login(json!({ "username": username, "password": PASSWORD })).send().await;
            assert!(matches!(answer.status, 401 | 422), "{answer:?}");
        }
        let long = login(json!({ "username": ADMIN, "password": "x".repeat(60_000) })).send().await;
        assert!(matches!(long.status, 401 | 422), "{long:?}");
        let pair = server.login().await;
        assert_eq!(census(&server, &pair).await[..2], [2, 2]);
    }

    async fn other_content_types_are_refused(server: Server) {
        let pair = server.login().await;
        let body = json!({ "username": ADMIN, "password": PASSWORD, "label": "x" }).to_string();
        let mut accepted = 0;
        for content in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/xml",
            "application/jsonp",
            "text/json",
            "x",
            "application/octet-stream",
        ] {
            server.post("/login").body(content, body.clone()).send().await.error(415, "invalid_request");
            let call = server.post("/auth/tokens").bearer(&pair.access);
            call.body(content, body.clone()).send().await.error(415, "invalid_request");
        }
        for content in ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON"] {
            server.post("/login").body(content, body.clone()).send().await.ok(200);
            accepted += 1;
        }
        let answer = server.raw(format!(
            "POST /login HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let (status, answer) = answer.await;
        assert_eq!(status, 415, "{answer}");
        assert_eq!(census(&server, &pair).await[0], 2 + 2 * accepted);
    }

    async fn a_body_over_the_limit_is_too_large(database: Database) {
        let server = Server::start(database, |settings| settings.set("body_limit", 2_048)).await;
        let pair = server.login().await;
        let before = census(&server, &pair).await;
        let body = |bytes: usize| {
            let rest = bytes - r#"{"label":"x","pad":""}"#.len();
            format!(r#"{{"label":"x","pad":"{}"}}"#, "x".repeat(rest))
        };
        server
            .post("/auth/tokens")
            .bearer(&pair.access)
            .json_bytes(body(2_049))
            .send()
            .await
            .error(413, "invalid_request");
        server.post("/login").json_bytes(body(1_000_000)).send().await.error(413, "invalid_request");
        assert_eq!(census(&server, &pair).await, before);
        server.post("/auth/tokens").bearer(&pair.access).json_bytes(body(2_048)).send().await.ok(201);
        server.accepts(&pair.access).await;
    }

    async fn hostile_queries_are_refused(server: Server) {
        let pair = server.login().await;
        for query in [
            "limit=1e3",
            "limit=0x10",
            "limit=%00",
            "limit=1%2C000",
            "limit=-9223372036854775808",
            "limit=1&limit=2",
            "cursor=%27%20or%201%3D1--",
            "cursor=99999999999999999999.x",
            "state=live%00",
            "type=%FF",
            &format!("cursor={}", "9".repeat(4_000)),
        ] {
            let answer = server.get(&format!("/auth/all-tokens?{query}")).bearer(&pair.access).send().await;
            answer.error(422, "invalid_request");
        }
        for query in ["subject=%00", "subject=", "subject=a%0Ab", &format!("subject={}", "x".repeat(256))] {
            let answer = server.get(&format!("/auth/all-tokens?{query}")).bearer(&pair.access).send().await;
            answer.error(422, "invalid_request");
        }
        // Far ends of what a cursor can hold are places like any other.
        for time in [i64::MIN, 0, i64::MAX] {
            let path = format!("/auth/all-tokens?cursor={time}.ffffffff-ffff-ffff-ffff-ffffffffffff");
            server.get(&path).bearer(&pair.access).send().await.ok(200);
        }
        for query in ["cursor=9223372036854775808", "cursor=-1.5", "limit=&cursor="] {
            server
                .get(&format!("/admin/audit?{query}"))
                .bearer(&pair.access)
                .send()
                .await
                .error(422, "invalid_request");
        }
        for query in ["unknown=1", "&&&", "=", "%zz", "a=b=c"] {
            server.get(&format!("/auth/tokens?{query}")).bearer(&pair.access).send().await.ok(200);
        }
    }

    async fn hostile_headers_do_no_harm(server: Server) {
        let pair = server.login().await;
        for value in [&b"Bearer \xff\xfe"[..], b"Bearer", b"Bearer ", b"\xc3\xa9", b"Bearer\t", b""] {
            let answer = server.get("/protected").header_bytes("Authorization", value).send().await;
            assert!(matches!(answer.status, 400 | 401), "{value:?}: {answer:?}");
            assert_refused(&answer, "a header");
        }
        let spaces = format!("Bearer  {}", pair.access);
        let answer = server.get("/protected").header("Authorization", &spaces).send().await;
        assert!(matches!(answer.status, 200 | 401), "{answer:?}");
        for list in [format!("Bearer {0}, Bearer {0}", pair.access), format!("Basic x, Bearer {}", pair.access)] {
            let answer = server.get("/protected").header("Authorization", &list).send().await;
            assert_refused(&answer, "a list");
        }
        let long = "x".repeat(30_000);
        let answer = server.get("/protected").bearer(&long).send().await;
        assert!((400..500).contains(&answer.status), "{answer:?}");

        // What a device says of itself is kept within bounds.
        let agent = "Agent/1 ".repeat(1_000);
        let body = json!({ "username": ADMIN, "password": PASSWORD });
        let answer = server.post("/login").header("User-Agent", &agent).json(&body).send().await;
        let wordy = Pair::of(&answer.ok(200));
        let record =
            server.get(&format!("/auth/tokens/{}", jti_of(&wordy.access))).bearer(&wordy.access).send().await.ok(200);
        let kept = record["user_agent"].as_str().unwrap();
        assert!(kept.chars().count() <= 255 && agent.starts_with(kept), "{kept}");
        let answer = server.post("/login").header_bytes("User-Agent", b"\xff\xfe").json(&body).send().await;
        answer.ok(200);
        // Nobody chooses the address that is recorded.
        let answer = server.post("/login").header("X-Real-IP", "203.0.113.9").header("X-Forwarded-For", "203.0.113.9");
        let pair = Pair::of(&answer.json(&body).send().await.ok(200));
        let record =
            server.get(&format!("/auth/tokens/{}", jti_of(&pair.access))).bearer(&pair.access).send().await.ok(200);
        assert_eq!(record["ip"], "127.0.0.1");
    }

    async fn callers_are_known_by_the_header_of_a_proxy_where_it_is_set(database: Database) {
        // Also where Rocket's own key says otherwise, as it does in these tests.
        let server = Server::start(database, |settings| settings.set("ip_header", "X-Real-IP")).await;
        let body = json!({ "username": ADMIN, "password": PASSWORD });
        let pair = Pair::of(&server.post("/login").header("X-Real-IP", "203.0.113.9").json(&body).send().await.ok(200));
        let path = format!("/auth/tokens/{}", jti_of(&pair.access));
        assert_eq!(server.get(&path).bearer(&pair.access).send().await.ok(200)["ip"], "203.0.113.9");
    }

    async fn what_is_hardly_http_is_refused_and_the_server_goes_on(server: Server) {
        for request in [
            &b"GET /\x00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"[..],
            b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            b"GET /auth/tokens/../../login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            b"BREW /login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            b"POST /login HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: x\r\n\r\n{}",
            b"GET /protected HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer a\x00b\r\n\r\n",
        ] {
            let (status, answer) = server.raw(request).await;
            assert!((400..500).contains(&status) || status == 501, "{answer}");
        }
        server.login().await;
    }
}
