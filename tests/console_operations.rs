//! The console's pages for whoever runs the server: the overview, keys, replicas and the purge.

use crate::support::console::Visitor;
use crate::support::forge::{jti_of, kid_of};
use crate::support::server::{MASTER_KEY, at_once};
use crate::support::{PASSWORD, Server, Value, json, on_both};

const HOSTILE: &str = "<script>alert(1)</script>\"'&";

/// Every page, and those that ask.
const PAGES: [&str; 6] = [
    "/console/admin/overview",
    "/console/admin/keys",
    "/console/admin/keys/rotate",
    "/console/admin/replicas",
    "/console/admin/purge",
    "/console/admin/purge/run",
];

async fn audit(server: &Server, action: &str) -> Value {
    let admin = server.login().await;
    server.get(&format!("/admin/audit?action={action}")).bearer(&admin.access).send().await.ok(200)
}

on_both! {
    async fn the_pages_are_for_administrators_and_their_forms(database: Database) {
        let server = Server::start(database, at_once).await;
        server.add_user("alice", PASSWORD, &["reports:read"]);
        let (admin, alice) = (Visitor::admin(&server).await, Visitor::of(&server, "alice", PASSWORD).await);
        let retire = format!("/console/admin/keys/{}/retire", kid_of(&admin.token));
        for path in PAGES.into_iter().chain([retire.as_str()]) {
            let page = admin.page(&server, path).await;
            assert_eq!(page.matches("<h1").count(), 1, "{path}: {page}");
            for part in ["<style", " style=", " onclick=", "<script>"] {
                assert!(!page.contains(part), "{part} in {path}");
            }
            alice.get(&server, path).send().await.html(403);
        }
        alice.get(&server, "/console/admin/overview/plots").send().await.html(403);
        for path in ["/console/admin/keys/rotate", "/console/admin/purge/run", &retire] {
            alice.post(&server, path, &[("reason", "")]).await.html(403);
            admin.call(&server, path).form(&[("reason", "")]).send().await.html(403);
        }
        server.accepts(&server.issue("alice", "").await.access).await;
        assert_eq!(server.count("select count(*) from cf_purge_runs").await, 0);
    }

    async fn the_overview_says_what_the_api_says(server: Server) {
        let admin = Visitor::admin(&server).await;
        server.issue("bob", "").await;
        let records = server.count("select count(*) from cf_tokens").await;
        server.protected("x").await;
        let token = server.login().await.access;
        let revoke = format!("/admin/tokens/revoke/{}", jti_of(&server.issue("bob", "").await.access));
        server.put(&revoke).bearer(&token).send().await.ok(200);
        let page = admin.page(&server, "/console/admin/overview").await;
        let api = server.get("/admin/overview").bearer(&token).send().await.ok(200);
        assert_eq!(api["records"], json!(records + 4));
        for (name, figures) in [
            ("Records held", format!("{}", api["records"])),
            ("Changes acknowledged", format!("{}", api["acknowledged"])),
            ("Issued, revoked, purged", format!("{}, {}, {}", api["issued"], api["revoked"], api["purged"])),
        ] {
            assert!(page.contains(&format!("<dt>{name}</dt><dd>{figures}</dd>")), "{name}: {figures}: {page}");
        }
        for (outcome, count) in api["checks"].as_object().unwrap() {
            // What has been asked of the API since is counted too, by one.
            let count = count.as_u64().unwrap() - u64::from(outcome == "accepted");
            let row = page.split("<tr>").find(|row| row.contains(&format!(">{outcome}<"))).expect(outcome);
            assert!(row.contains(&format!("<td>{count}</td></tr>")), "{outcome}: {count}: {row}");
        }
        for part in [
            "data-refresh=\"/console/admin/overview/plots\" data-every=\"10\"",
            "role=\"img\" aria-label=\"Checks per second",
            "registry_unavailable",
            "aria-current=\"page\">Overview<",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        let part = admin.page(&server, "/console/admin/overview/plots").await;
        assert_eq!(part.matches("<figure").count(), 4, "{part}");
        assert!(part.contains("There are no samples yet") && !part.contains("<h1") && !part.contains("<html"), "{part}");
    }

    async fn keys_are_rotated_and_retired(database: Database) {
        let server = Server::start(database, at_once).await;
        let admin = Visitor::admin(&server).await;
        let first = server.issue("alice", "").await.access;
        let page = admin.page(&server, "/console/admin/keys").await;
        assert!(page.contains(&kid_of(&first)) && page.contains(">Current<") && page.contains(">Next<"), "{page}");

        let answer = admin.post(&server, "/console/admin/keys/rotate", &[]).await;
        assert_eq!(answer.see_other(), "/console/admin/keys?done=keys-rotated");
        let second = server.issue("alice", "").await.access;
        assert_ne!(kid_of(&second), kid_of(&first));
        server.accepts(&first).await;
        let page = admin.page(&server, "/console/admin/keys?done=keys-rotated").await;
        assert!(page.contains(">Previous<") && page.contains("The keys have been rotated"), "{page}");

        // The one that the visitor's own token is not signed with.
        let retire = format!("/console/admin/keys/{}/retire", kid_of(&second));
        let page = admin.post(&server, &retire, &[("reason", &"x".repeat(256))]).await.html(422);
        assert!(page.contains("at most 255 characters") && page.contains("aria-invalid"), "{page}");
        server.accepts(&second).await;
        let answer = admin.post(&server, &retire, &[("reason", HOSTILE)]).await;
        assert_eq!(answer.see_other(), "/console/admin/keys?done=key-retired");
        server.refuses(&second, "token_revoked").await;
        server.accepts(&first).await;
        let page = admin.page(&server, "/console/admin/keys").await;
        assert!(page.contains(">Retired<") && !page.contains("<script>alert"), "{page}");
        admin.get(&server, "/console/admin/keys/nobody/retire").send().await.html(404);

        let retired = audit(&server, "key.retired").await;
        assert_eq!((&retired[0]["reason"], &retired[0]["target"]), (&json!(HOSTILE), &json!(kid_of(&second))), "{retired}");
        assert_eq!(retired[0]["actor"]["name"], json!(crate::support::ADMIN), "{retired}");
        assert_eq!(audit(&server, "key.rotated").await[0]["actor"]["name"], json!(crate::support::ADMIN));

        // Whoever retires the key of the own session is signed out with everybody else.
        let retire = format!("/console/admin/keys/{}/retire", kid_of(&admin.token));
        admin.post(&server, &retire, &[("reason", "")]).await.see_other();
        server.refuses(&first, "token_revoked").await;
        assert!(admin.get(&server, "/console/admin/keys").send().await.see_other().starts_with("/console/sign-in"));
    }

    async fn a_next_key_that_nobody_knows_yet_does_not_sign(database: Database) {
        let server = Server::start(database, |settings| settings.set("master_key", MASTER_KEY)).await;
        let admin = Visitor::admin(&server).await;
        let page = admin.page(&server, "/console/admin/keys/rotate").await;
        assert!(page.contains("it can sign from <time") && !page.contains("class=\"confirm\""), "{page}");
        let page = admin.post(&server, "/console/admin/keys/rotate", &[]).await.html(409);
        assert!(page.contains("it can sign from 20"), "{page}");
    }

    async fn keys_of_the_settings_are_not_rotated_here(server: Server) {
        let admin = Visitor::admin(&server).await;
        let page = admin.page(&server, "/console/admin/keys").await;
        assert!(page.contains("can't be rotated here"), "{page}");
        assert!(!page.contains("href=\"/console/admin/keys/rotate\""), "{page}");
        admin.get(&server, "/console/admin/keys/rotate").send().await.html(409);
        admin.post(&server, "/console/admin/keys/rotate", &[]).await.html(409);
        let retire = format!("/console/admin/keys/{}/retire", kid_of(&admin.token));
        assert!(admin.page(&server, &retire).await.contains("nobody can sign in"));
    }

    async fn replicas_are_those_of_the_roll(server: Server) {
        let admin = Visitor::admin(&server).await;
        let roll: Value = serde_json::from_str(&server.command_ok(&["replicas", "--json"], "")).unwrap();
        let page = admin.page(&server, "/console/admin/replicas").await;
        for replica in roll.as_array().unwrap() {
            assert!(page.contains(replica["id"].as_str().unwrap()), "{page}");
        }
        assert_eq!(page.contains("No process answers from memory."), roll.as_array().unwrap().is_empty(), "{page}");
    }

    async fn a_purge_can_be_run(database: Database) {
        let server = Server::start(database, |settings| settings.set("console.expires", "2d")).await;
        let admin = Visitor::admin(&server).await;
        let page = admin.page(&server, "/console/admin/purge").await;
        assert!(page.contains("0 records") && page.contains("No run is known."), "{page}");
        for subject in ["a", "b", "c"] {
            server.issue(subject, "").await;
        }
        server.advance(901);
        let page = admin.page(&server, "/console/admin/purge/run").await;
        assert!(page.contains("3 records of tokens"), "{page}");
        let answer = admin.post(&server, "/console/admin/purge/run", &[]).await;
        assert_eq!(answer.see_other(), "/console/admin/purge?done=purged");
        let page = admin.page(&server, "/console/admin/purge?done=purged").await;
        for part in ["The purge is done", "removed 3 records", ">Complete<", "<dd>0 records</dd>"] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert_eq!(server.count("select count(*) from cf_purge_runs").await, 1);
        let audit = admin.page(&server, "/console/admin/audit?action=purge.asked").await;
        assert!(audit.contains("the administrator admin") && audit.contains("127.0.0.1"), "{audit}");
    }

    async fn whoever_purges_already_is_named(server: Server) {
        let admin = Visitor::admin(&server).await;
        let now = server.registry.now().timestamp();
        let holder = server.random_id();
        server
            .sql(&format!(
                "insert into cf_purge_runs (holder, process, started_at, seen_at, records) values ({holder}, '<b>x</b>:1', {now}, {now}, 7);
                update cf_jobs set holder = (select holder from cf_purge_runs), held_until = {} where name = 'purge'",
                now + 60
            ))
            .await;
        for path in ["/console/admin/purge", "/console/admin/purge/run"] {
            let page = admin.page(&server, path).await;
            assert!(page.contains("&#60;b&#62;x") && !page.contains("<b>x"), "{page}");
        }
        let answer = admin.post(&server, "/console/admin/purge/run", &[]).await;
        assert_eq!(answer.see_other(), "/console/admin/purge?done=purged-elsewhere");
    }
}
