//! What becomes of a user becomes of its tokens, over both databases and whatever is under way meanwhile.

use std::time::Duration;

use counterfoil::{Actor, Filter, State};

use crate::support::forge::jti_of;
use crate::support::process::Home;
use crate::support::server::Settings;
use crate::support::{ADMIN, Call, Database, PASSWORD, Server, json, on_both, postgres};

const ALICES: &str = "alice's own password";

/// With log-ins that hash for a while, so that something can happen meanwhile.
fn slow(settings: Settings) -> Settings {
    settings.set("password", json!({ "memory_kib": 19_456, "iterations": 30, "concurrency": 4 }))
}

fn login(server: &Server, username: &str, password: &str) -> Call {
    server.post("/login").json(&json!({ "username": username, "password": password }))
}

on_both! {
    async fn a_disabled_user_is_out_and_comes_back_with_nothing(server: Server) {
        server.add_user("alice", ALICES, &[]);
        let pair = server.login_as("alice", ALICES).await;
        server.command_ok(&["user", "disable", "alice"], "");
        server.refuses(&pair.access, "token_revoked").await;
        server.post("/refresh").bearer(&pair.refresh).send().await.error(401, "token_revoked");
        login(&server, "alice", ALICES).send().await.error(401, "bad_credentials");
        server.command_ok(&["user", "enable", "alice"], "");
        server.refuses(&pair.access, "token_revoked").await;
        server.login_as("alice", ALICES).await;
    }

    async fn what_held_a_scope_that_was_taken_away_is_revoked_for_good(server: Server) {
        server.add_user("alice", ALICES, &["notes:read", "notes:write"]);
        let pair = server.login_as("alice", ALICES).await;
        let jti = jti_of(&pair.access);
        server.command_ok(&["user", "set", "alice", "--remove-scope", "notes:write"], "");
        server.refuses(&pair.access, "token_revoked").await;
        let (again, admin) = (server.login_as("alice", ALICES).await, server.login().await);
        for (path, by) in [("auth", &again), ("admin", &admin)] {
            let call = server.put(&format!("/{path}/tokens/unrevoke/{jti}")).bearer(&by.access);
            call.send().await.error(409, "revocation_final");
        }
        server.refuses(&pair.access, "token_revoked").await;
    }

    async fn what_one_took_back_does_not_come_back_with_a_scope_that_one_lost(server: Server) {
        server.add_user("alice", ALICES, &["notes:read", "notes:write"]);
        let pair = server.login_as("alice", ALICES).await;
        let path = |verb: &str| format!("/auth/tokens/{verb}/{}", jti_of(&pair.access));
        server.put(&path("revoke")).bearer(&pair.access).send().await.ok(200);
        server.command_ok(&["user", "set", "alice", "--remove-scope", "notes:write"], "");
        let again = server.login_as("alice", ALICES).await;
        server.put(&path("unrevoke")).bearer(&again.access).send().await.error(409, "revocation_final");
        server.refuses(&pair.access, "token_revoked").await;
    }

    async fn a_scope_is_lost_by_its_whole_name(server: Server) {
        server.add_user("alice", ALICES, &["notes", "notes:read"]);
        let narrow = json!({ "username": "alice", "password": ALICES, "scope": "notes:read" });
        let narrow = server.post("/login").json(&narrow).send().await.ok(200);
        let wide = server.login_as("alice", ALICES).await;
        server.command_ok(&["user", "set", "alice", "--remove-scope", "notes"], "");
        server.refuses(&wide.access, "token_revoked").await;
        server.accepts(narrow["access_token"].as_str().unwrap()).await;
    }

    async fn a_scope_is_lost_by_however_many_tokens_hold_it(server: Server) {
        server.add_user("alice", ALICES, &["notes", "cart"]);
        let wide = server.login_as("alice", ALICES).await;
        let narrow = json!({ "username": "alice", "password": ALICES, "scope": "cart" });
        let narrow = server.post("/login").json(&narrow).send().await.ok(200);
        // More than one transaction takes away, and as many again.
        let (random, columns) = (server.random_id(), "issued_at, not_before, expires_at, scope, claims, kid");
        server
            .sql(&format!(
                "with recursive n (n) as (select 1 union all select n + 1 from n where n < 12000)
                insert into cf_tokens (jti, sid, subject, token_type, {columns})
                select {random}, sid, subject, token_type, {columns} from cf_tokens, n
                where subject = 'alice' and token_type = 'access' and scope like '%notes%'"
            ))
            .await;
        let live = "select count(*) from cf_tokens where subject = 'alice' and token_type = 'access' and not revoked_final";
        assert_eq!(server.count(live).await, 12_002);
        server.command_ok(&["user", "set", "alice", "--remove-scope", "notes"], "");
        assert_eq!(server.count(live).await, 1);
        server.refuses(&wide.access, "token_revoked").await;
        server.accepts(narrow["access_token"].as_str().unwrap()).await;
        let noted = "select count(*) from cf_audit where subject = 'alice' and action = 'user.changed'";
        assert_eq!(server.count(noted).await, 1);
        let shown = server.command_ok(&["user", "list", "--json"], "");
        assert!(!shown.contains("notes"), "{shown}");
    }

    async fn a_name_that_is_given_again_inherits_no_token(server: Server) {
        server.add_user("alice", ALICES, &[]);
        let removed = server.login_as("alice", ALICES).await;
        server.command_ok(&["user", "delete", "alice"], "");
        server.refuses(&removed.access, "token_revoked").await;
        // An application may have given tokens to a subject of that name meanwhile.
        let others = server.issue("alice", "").await;
        server.accepts(&others.access).await;
        server.add_user("alice", ALICES, &[]);
        for token in [&removed.access, &others.access] {
            server.refuses(token, "token_revoked").await;
        }
        server.login_as("alice", ALICES).await;
    }

    async fn a_password_that_an_operator_sets_ends_all_sessions(server: Server) {
        server.add_user("alice", ALICES, &[]);
        let pair = server.login_as("alice", ALICES).await;
        server.command_ok(&["user", "passwd", "alice"], "another long password");
        server.refuses(&pair.access, "token_revoked").await;
        login(&server, "alice", ALICES).send().await.error(401, "bad_credentials");
        let kept = server.login_as("alice", "another long password").await;
        server.command_ok(&["user", "passwd", "alice", "--keep-sessions"], "a third long password");
        server.accepts(&kept.access).await;
        login(&server, "alice", "another long password").send().await.error(401, "bad_credentials");
    }

    async fn a_log_in_that_is_under_way_when_all_is_ended_gets_nothing(database: Database) {
        let server = Server::start(database, slow).await;
        let admin = ADMIN.parse().unwrap();
        let login = tokio::spawn(login(&server, ADMIN, PASSWORD).send());
        while !login.is_finished() {
            server.registry.revoke_all(&admin, None, Actor::command_line("ops")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        login.await.unwrap().error(401, "bad_credentials");
        let live = Filter::subject(admin).state(State::Live);
        assert!(server.registry.list(&live).await.unwrap().is_empty());
    }

    async fn of_two_password_changes_at_once_one_is_too_late(database: Database) {
        let server = Server::start(database, slow).await;
        let (one, two) = (server.login().await, server.login().await);
        let change = |token: &str, new: &str| {
            let body = json!({ "current": PASSWORD, "new": new, "keep_sessions": true });
            server.post("/auth/password").bearer(token).json(&body).send()
        };
        let (one, two) = tokio::join!(change(&one.access, "the one password"), change(&two.access, "the other password"));
        let (late, password) = if one.status == 200 { (two, "the one password") } else { (one, "the other password") };
        late.error(401, "bad_credentials");
        server.login_as(ADMIN, password).await;
    }

    async fn no_administrator_is_made_where_there_are_users(database: Database) {
        let url = (database == Database::Postgres).then(postgres::database);
        let home = Home::on(url.as_deref()).set("FIRST_ADMIN", "print").migrated();
        home.add_user("alice");
        drop(home.serve());
        let listed = home.run(&["user", "list", "--json"]).ok().json();
        let names: Vec<_> = listed.as_array().unwrap().iter().map(|user| &user["username"]).collect();
        assert_eq!(names, ["alice"]);
    }
}
