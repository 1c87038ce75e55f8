//! Requests whose body is held back until who sent them may not do so any more: what was acknowledged meanwhile holds.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::console::Visitor;
use crate::support::forge::jti_of;
use crate::support::{Server, Value, json, on_both};

/// A request of which all but the last byte has been sent.
struct Held {
    stream: TcpStream,
    last: u8,
}

impl Held {
    fn open(server: &Server, line: &str, headers: &[(&str, &str)], body: &str) -> Self {
        let mut stream = TcpStream::connect(server.url().trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let (most, last) = body.as_bytes().split_at(length - 1);
        let head = format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(&[head.as_bytes(), most].concat()).unwrap();
        Self { stream, last: last[0] }
    }

    fn json(server: &Server, line: &str, authorization: &str, body: &Value) -> Self {
        let headers = [("Authorization", authorization), ("Content-Type", "application/json")];
        Self::open(server, line, &headers, &body.to_string())
    }

    /// Sends the last byte; the status, and all that was answered.
    fn finish(mut self) -> (u16, String) {
        self.stream.write_all(&[self.last]).unwrap();
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).unwrap();
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }

    #[track_caller]
    fn refused_as(self, code: &str) {
        let (status, answer) = self.finish();
        assert!(status == 401 && answer.contains(&format!("\"error\":\"{code}\"")), "{answer}");
    }
}

on_both! {
    async fn a_client_that_was_disabled_meanwhile_issues_nothing(server: Server) {
        let client = server.add_client("shop", &["--scope", "tokens:issue"]);
        let token = server.client_token(&client).await;
        let before = server.count("select count(*) from cf_tokens").await;
        let hold = |authorization: &str| {
            Held::json(&server, "POST /tokens", authorization, &json!({ "subject": "customer-1" }))
        };
        assert_eq!(hold(&client.basic()).finish().0, 201);
        assert_eq!(hold(&format!("Bearer {token}")).finish().0, 201);
        let after = server.count("select count(*) from cf_tokens").await;
        assert!(after > before);

        let (leaked, by_token) = (hold(&client.basic()), hold(&format!("Bearer {token}")));
        server.command_ok(&["client", "rotate-secret", "shop", "--overlap", "0s"], "");
        leaked.refused_as("invalid_client");
        server.command_ok(&["token", "revoke", &jti_of(&token)], "");
        by_token.refused_as("token_revoked");
        let other = server.add_client("market", &["--scope", "tokens:issue"]);
        let held = Held::json(&server, "POST /tokens", &other.basic(), &json!({ "subject": "customer-1" }));
        server.command_ok(&["client", "disable", "market"], "");
        held.refused_as("invalid_client");
        assert_eq!(server.count("select count(*) from cf_tokens").await, after);
    }

    async fn a_token_that_was_revoked_meanwhile_does_nothing(server: Server) {
        let victim = server.issue("alice", "").await;
        let jti = jti_of(&victim.access);
        let reason = json!({ "reason": "held back" });
        let password = json!({ "current": crate::support::PASSWORD, "new": "another good password" });
        for (line, body) in [
            (format!("PUT /admin/tokens/revoke/{jti}"), &reason),
            ("POST /admin/subjects/alice/revoke-all".to_owned(), &reason),
            ("POST /auth/tokens/revoke-all".to_owned(), &json!({ "except_current": true })),
            ("PATCH /auth/tokens/JTI".to_owned(), &json!({ "label": "held back" })),
            ("POST /auth/password".to_owned(), &password),
        ] {
            let admin = server.login().await;
            let jti = jti_of(&admin.access);
            let held = Held::json(&server, &line.replace("JTI", &jti), &format!("Bearer {}", admin.access), body);
            server.command_ok(&["token", "revoke", &jti], "");
            held.refused_as("token_revoked");
        }
        server.accepts(&victim.access).await;
        server.login().await;
    }

    async fn an_administrator_who_was_disabled_meanwhile_adds_nobody(server: Server) {
        for (name, command) in [
            ("disabled", vec!["user", "disable", "disabled"]),
            ("lowered", vec!["user", "set", "lowered", "--scope", "notes:read"]),
        ] {
            server.command_ok(&["user", "add", name, "--admin"], "correct horse battery staple");
            let boss = Visitor::of(&server, name, "correct horse battery staple").await;
            let form = format!(
                "csrf={}&name=eve{name}&password=another+good+password&again=another+good+password&scope=&administrator=true&reason=x",
                boss.csrf
            );
            let headers = [
                ("Cookie", boss.cookie()),
                ("Sec-Fetch-Site", "same-origin".to_owned()),
                ("Content-Type", "application/x-www-form-urlencoded".to_owned()),
            ];
            let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
            let held = Held::open(&server, "POST /console/admin/new-user", &headers, &form);
            server.command_ok(&command, "");
            let (status, answer) = held.finish();
            assert!(status == 303 && answer.contains("/console/sign-in"), "{answer}");
            assert_eq!(server.count(&format!("select count(*) from cf_users where username = 'eve{name}'")).await, 0);
        }
    }
}
