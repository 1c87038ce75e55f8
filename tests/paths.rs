//! A path that is spelled differently is the same place: it has the same headers, and errors of the same form.

use crate::support::{Server, json, on_both};

/// Other spellings of the first segment of a path.
fn spellings(path: &str) -> [String; 3] {
    let (first, rest) = path[1..].split_at(1);
    [path.to_owned(), format!("/{path}"), format!("/%{:02X}{rest}", first.as_bytes()[0])]
}

on_both! {
    async fn the_console_is_confined_and_the_oauth_endpoints_keep_their_form(database: Database) {
        let server = Server::start(database, |settings| settings.set("cors.origins", "*")).await;
        for path in spellings("/console").into_iter().chain(spellings("/console/sessions")) {
            let answer = server.get(&path).header("Origin", "https://app.example").send().await;
            assert!(answer.see_other().starts_with("/console/sign-in"), "{path}: {answer:?}");
            assert_eq!(answer.header("Access-Control-Allow-Origin"), None, "{path}");
        }
        for path in spellings("/oauth/introspect") {
            server.post(&path).form(&[("token", "x")]).send().await.oauth_error(401, "invalid_client");
            server.get(&path).send().await.oauth_error(405, "method_not_allowed");
        }
    }

    async fn what_is_out_of_reach_is_said(database: Database) {
        let server = Server::start(database, |settings| settings.set("check", "refresh")).await;
        let pair = server.login().await;
        for path in spellings("/auth/tokens") {
            let answer = server.get(&format!("{path}?limit=1")).bearer(&pair.refresh).send().await;
            assert_eq!(answer.header("Counterfoil-Check"), Some("refresh"), "{path}");
        }
    }

    async fn the_next_page_is_on_this_server(server: Server) {
        let pair = server.login().await;
        for path in spellings("/auth/tokens") {
            let answer = server.get(&format!("{path}?limit=1")).bearer(&pair.access).send().await;
            assert_eq!(answer.ok(200).as_array().map(Vec::len), Some(1));
            assert!(answer.header("Link").unwrap().starts_with("</auth/tokens?"), "{path}: {answer:?}");
        }
        server.patch("//auth/tokens").bearer(&pair.access).json(&json!({})).send().await.error(405, "method_not_allowed");
    }
}
