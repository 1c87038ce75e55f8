//! The console's pages of tokens, sessions and subjects, for administrators.

use counterfoil::Grant;

use crate::support::console::Visitor;
use crate::support::forge::{claims_of, jti_of, sid_of};
use crate::support::{ADMIN, PASSWORD, Server, json, on_both};

const HOSTILE: &str = "<script>alert(1)</script>\"'&";

/// What the API's audit has of an action, newest first.
async fn reasons(server: &Server, action: &str) -> Vec<String> {
    let admin = server.login().await;
    let events = server.get(&format!("/admin/audit?action={action}")).bearer(&admin.access).send().await.ok(200);
    let events = events.as_array().unwrap().iter();
    events.map(|event| event["reason"].as_str().unwrap_or_default().to_owned()).collect()
}

on_both! {
    async fn a_token_is_revoked_and_accepted_again(server: Server) {
        let visitor = Visitor::admin(&server).await;
        let alice = server.issue("alice", "notes:read").await;
        let path = format!("/console/admin/tokens/{}", jti_of(&alice.access));
        let page = visitor.page(&server, &path).await;
        for part in ["Access token of alice", "notes:read", "Issued", "Yes, wherever", &sid_of(&alice.access)] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains(&alice.access), "{page}");

        let page = visitor.page(&server, &format!("{path}/revoke")).await;
        assert!(page.contains("Revoke this token?") && page.contains("name=\"reason\""), "{page}");
        server.accepts(&alice.access).await;
        let long = "x".repeat(256);
        let page = visitor.post(&server, &format!("{path}/revoke"), &[("reason", &long)]).await.html(422);
        assert!(page.contains("at most 255 characters") && page.contains(&long), "{page}");
        server.accepts(&alice.access).await;

        let answer = visitor.post(&server, &format!("{path}/revoke"), &[("reason", HOSTILE)]).await;
        assert_eq!(answer.see_other(), format!("{path}?done=token-revoked"));
        server.refuses(&alice.access, "token_revoked").await;
        assert_eq!(reasons(&server, "token.revoked").await, [HOSTILE]);
        let page = visitor.page(&server, &path).await;
        for part in ["token_revoked", "by the administrator admin", "It can be undone.", "Accept it again", "&#60;script&#62;"] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains("<script>alert"), "{page}");

        visitor.page(&server, &format!("{path}/unrevoke")).await;
        let answer = visitor.post(&server, &format!("{path}/unrevoke"), &[("reason", "found")]).await;
        assert_eq!(answer.see_other(), format!("{path}?done=token-unrevoked"));
        server.accepts(&alice.access).await;
        assert_eq!(reasons(&server, "token.unrevoked").await, ["found"]);
    }

    async fn a_tokens_page_shows_its_claims_but_not_what_forms_need(server: Server) {
        let visitor = Visitor::admin(&server).await;
        let claim = |grant: Grant| grant.cookies(true).claim("tenant", json!("acme & sons")).unwrap();
        let alice = server.issue_with("alice", "", claim).await;
        let page = visitor.page(&server, &format!("/console/admin/tokens/{}", jti_of(&alice.access))).await;
        assert!(page.contains("&#34;tenant&#34;: &#34;acme &#38; sons&#34;"), "{page}");
        let csrf = claims_of(&alice.access)["csrf"].as_str().unwrap().to_owned();
        assert!(page.contains("&#34;csrf&#34;: &#34;(not shown)&#34;") && !page.contains(&csrf), "{page}");
    }

    async fn what_is_against_a_token_names_the_moment(server: Server) {
        let visitor = Visitor::admin(&server).await;
        let alice = server.issue("alice", "").await;
        server.advance(901);
        let expired = claims_of(&alice.access)["exp"].as_i64().unwrap();
        let at = chrono::DateTime::from_timestamp(expired, 0).unwrap().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let page = visitor.page(&server, &format!("/console/admin/tokens/{}", jti_of(&alice.access))).await;
        assert!(page.contains(&format!("<li>It expired at <time datetime=\"{at}\">")), "{at}: {page}");
    }

    async fn tokens_are_found_by_client_and_address(server: Server) {
        let visitor = Visitor::admin(&server).await;
        let shop = server.add_client("shop", &["--scope", "tokens:issue"]);
        let asked = server.post("/tokens").basic(&shop).json(&json!({ "subject": "bob" })).send().await.ok(201);
        let of_client = jti_of(asked["access_token"].as_str().unwrap());
        let device = |grant: Grant| grant.device(Some("192.0.2.7".parse().unwrap()), None);
        let of_address = jti_of(&server.issue_with("alice", "", device).await.access);
        for (query, found, other) in
            [("client=shop", &of_client, &of_address), ("address=192.0.2.7", &of_address, &of_client)]
        {
            let page = visitor.page(&server, &format!("/console/admin/tokens?{query}")).await;
            assert!(page.contains(found) && !page.contains(other), "{query}: {page}");
        }
    }

    async fn tokens_are_found_page_by_page(server: Server) {
        let visitor = Visitor::admin(&server).await;
        let alice = server.issue("alice", "").await;
        let odd = server.issue("Zoë / 100% <b>", "").await;
        for _ in 0..30 {
            server.issue("many & more", "").await;
            server.advance(1);
        }
        let (jti, sid) = (jti_of(&alice.access), sid_of(&alice.access));
        let answer = visitor.get(&server, &format!("/console/admin/tokens?subject=&jti=+{jti}+")).send().await;
        assert_eq!(answer.see_other(), format!("/console/admin/tokens/{jti}"));
        for query in ["subject=alice", &format!("session={sid}&state=live"), "subject=+alice+&address=&client=&jti="] {
            let page = visitor.page(&server, &format!("/console/admin/tokens?{query}")).await;
            assert!(page.contains(&jti) && page.contains(&jti_of(&alice.refresh)), "{query}: {page}");
            assert!(!page.contains(&jti_of(&odd.access)), "{query}: {page}");
        }
        let page = visitor.page(&server, "/console/admin/tokens?subject=Zo%C3%AB+%2F+100%25+%3Cb%3E").await;
        assert!(page.contains(&jti_of(&odd.access)) && !page.contains("<b>"), "{page}");
        assert!(page.contains("/console/admin/subjects/Zo%C3%AB%20%2F%20100%25%20%3Cb%3E"), "{page}");

        let page = visitor.page(&server, "/console/admin/tokens?subject=many+%26+more").await;
        assert_eq!(page.matches("<tr>").count(), 51, "{page}");
        let (_, rest) = page.split_once("rel=\"next\" href=\"").expect("a next page");
        let next = rest.split('"').next().unwrap().replace("&#38;", "&");
        let page = visitor.page(&server, &next).await;
        assert_eq!(page.matches("<tr>").count(), 11, "{page}");
        assert!(!page.contains("rel=\"next\""), "{page}");

        let page = visitor.page(&server, "/console/admin/tokens?subject=nobody").await;
        assert!(page.contains("No token is like that."), "{page}");
        for query in ["jti=x", "session=x", "address=x", "state=x", "client=%00"] {
            let page = visitor.get(&server, &format!("/console/admin/tokens?{query}")).send().await.html(422);
            assert!(page.contains("aria-invalid=\"true\""), "{query}: {page}");
        }
        for path in ["/console/admin/tokens/x", &format!("/console/admin/tokens/{sid}")] {
            visitor.get(&server, path).send().await.html(404);
        }
    }

    async fn a_session_is_ended(server: Server) {
        let visitor = Visitor::admin(&server).await;
        let alice = server.issue("alice", "").await;
        let other = server.issue("alice", "").await;
        let path = format!("/console/admin/sessions/{}", sid_of(&alice.access));
        let page = visitor.page(&server, &path).await;
        for part in [jti_of(&alice.access), jti_of(&alice.refresh), "/console/admin/subjects/alice".to_owned()] {
            assert!(page.contains(&part), "{part} in {page}");
        }
        visitor.page(&server, &format!("{path}/end")).await;
        let answer = visitor.post(&server, &format!("{path}/end"), &[("reason", "a lost phone")]).await;
        assert_eq!(answer.see_other(), format!("{path}?done=session-ended"));
        server.refuses(&alice.access, "token_revoked").await;
        server.accepts(&other.access).await;
        assert_eq!(reasons(&server, "session.ended").await, ["a lost phone"]);
        let page = visitor.page(&server, &path).await;
        for part in ["a lost phone", "the administrator admin", "Ended"] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains("/end\""), "{page}");
        visitor.get(&server, "/console/admin/sessions/x").send().await.html(404);
        // Whoever ends its own signs out.
        let own = format!("/console/admin/sessions/{}/end", sid_of(&visitor.token));
        assert!(visitor.post(&server, &own, &[("reason", "")]).await.see_other().contains("signed-out"));
    }

    async fn all_of_a_subject_is_revoked(server: Server) {
        let visitor = Visitor::admin(&server).await;
        let subject = "Zoë / 100% <b>";
        let path = "/console/admin/subjects/Zo%C3%AB%20%2F%20100%25%20%3Cb%3E";
        let (one, two) = (server.issue(subject, "").await, server.issue(subject, "").await);
        let alice = server.issue("alice", "").await;
        server.registry.end_session(sid_of(&one.access).parse().unwrap(), counterfoil::Actor::application("x")).await.unwrap();
        let page = visitor.page(&server, path).await;
        for part in [sid_of(&one.access), sid_of(&two.access), "Ended".to_owned(), "Live".to_owned(), format!("{path}/end")] {
            assert!(page.contains(&part), "{part} in {page}");
        }
        assert!(!page.contains("<b>"), "{page}");
        visitor.page(&server, &format!("{path}/end")).await;
        let answer = visitor.post(&server, &format!("{path}/end"), &[("reason", "left")]).await;
        assert_eq!(answer.see_other(), format!("{path}?done=subject-ended"));
        server.refuses(&two.access, "token_revoked").await;
        server.accepts(&alice.access).await;
        let page = visitor.page(&server, path).await;
        assert!(!page.contains("Live") && page.contains("left"), "{page}");
        let page = visitor.page(&server, "/console/admin/subjects/nobody").await;
        assert!(page.contains("No sessions of this subject are kept."), "{page}");
    }

    async fn subjects_that_look_like_steps_have_pages_too(server: Server) {
        let visitor = Visitor::admin(&server).await;
        for (subject, path) in [(".", "~."), ("..", "~.."), ("~..", "~~.."), ("a+b c", "a%2Bb%20c")] {
            let pair = server.issue(subject, "").await;
            let path = format!("/console/admin/subjects/{path}");
            let page = visitor.page(&server, &format!("/console/admin/sessions/{}", sid_of(&pair.access))).await;
            assert!(page.contains(&format!("href=\"{path}\"")), "{path} in {page}");
            // The client takes steps out of addresses, as browsers do.
            let page = visitor.page(&server, &path).await;
            assert!(page.contains(&sid_of(&pair.access)), "{page}");
            let answer = visitor.post(&server, &format!("{path}/end"), &[("reason", "left")]).await;
            assert_eq!(answer.see_other(), format!("{path}?done=subject-ended"));
            server.refuses(&pair.access, "token_revoked").await;
        }
    }

    async fn nobody_else_gets_there(server: Server) {
        server.add_user("bob", PASSWORD, &["notes:read"]);
        let bob = Visitor::of(&server, "bob", PASSWORD).await;
        let admin = Visitor::admin(&server).await;
        let pair = server.login().await;
        let (jti, sid) = (jti_of(&pair.access), sid_of(&pair.access));
        let shown = ["tokens".to_owned(), format!("tokens/{jti}"), format!("sessions/{sid}"), format!("subjects/{ADMIN}")];
        let acts = [
            format!("tokens/{jti}/revoke"),
            format!("tokens/{jti}/unrevoke"),
            format!("sessions/{sid}/end"),
            format!("subjects/{ADMIN}/end"),
        ];
        for path in shown.iter().chain(&acts) {
            let path = format!("/console/admin/{path}");
            bob.get(&server, &path).send().await.html(403);
            assert!(server.get(&path).send().await.see_other().starts_with("/console/sign-in"), "{path}");
        }
        for path in acts {
            let path = format!("/console/admin/{path}");
            bob.post(&server, &path, &[("reason", "")]).await.html(403);
            admin.call(&server, &path).form(&[("reason", "")]).send().await.html(403);
            admin.call(&server, &path).form(&[("reason", ""), ("csrf", &bob.csrf)]).send().await.html(403);
            admin.call(&server, &path).json(&json!({ "csrf": admin.csrf, "reason": "" })).send().await.html(422);
        }
        server.accepts(&pair.access).await;
    }
}
