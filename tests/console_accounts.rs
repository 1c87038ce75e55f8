//! The console's pages for users and clients: what stands there, that each act does what it says and is in the audit,
//! and that nobody else may.

use crate::support::console::{COOKIE, Visitor, csrf_of};
use crate::support::server::{until, until_leased};
use crate::support::{ADMIN, Answer, ClientSecret, PASSWORD, Server, json, on_both, postgres};

const ALICES: &str = "alice's own password";
const HOSTILE: &str = "<script>alert(1)</script>\"'&/?#%";
const HOSTILE_PATH: &str = "/console/admin/users/%3Cscript%3Ealert(1)%3C%2Fscript%3E%22'%26%2F%3F%23%25";

/// The newest entry of the audit about a subject.
async fn newest(server: &Server, subject: &str) -> (String, String, String) {
    let admin = server.login().await;
    let audit = server.get(&format!("/admin/audit?subject={subject}")).bearer(&admin.access).send().await.ok(200);
    let entry = &audit[0];
    assert_eq!(entry["actor"]["kind"], "administrator");
    assert_eq!(entry["ip"], "127.0.0.1");
    let text = |value: &crate::support::Value| value.as_str().unwrap_or_default().to_owned();
    (text(&entry["action"]), text(&entry["actor"]["name"]), text(&entry["reason"]))
}

fn noted(action: &str, reason: &str) -> (String, String, String) {
    (action.to_owned(), ADMIN.to_owned(), reason.to_owned())
}

/// The text of the read-only field of this id.
#[track_caller]
fn shown(page: &str, id: &str) -> String {
    let (_, rest) = page.split_once(&format!("<textarea id=\"{id}\"")).unwrap_or_else(|| panic!("no {id} in {page}"));
    let (_, rest) = rest.split_once('>').unwrap();
    rest.split('<').next().unwrap().to_owned()
}

#[track_caller]
fn secret_of(answer: &Answer) -> ClientSecret {
    let page = answer.html(200);
    assert!(page.contains("shown this once"), "{page}");
    ClientSecret { id: shown(&page, "client-id"), secret: shown(&page, "client-secret") }
}

async fn is_let_in(server: &Server, client: &ClientSecret) -> bool {
    server.post("/oauth/introspect").basic(client).form(&[("token", "x")]).send().await.status == 200
}

const NEW_USER: [(&str, &str); 5] = [
    ("name", "alice"),
    ("password", ALICES),
    ("again", ALICES),
    ("scope", "notes:read notes:write"),
    ("reason", "joined"),
];

on_both! {
    async fn a_user_is_added_and_changed(server: Server) {
        let admin = Visitor::admin(&server).await;
        let page = admin.page(&server, "/console/admin/users").await;
        assert!(page.contains("href=\"/console/admin/users/admin\""), "{page}");
        assert_eq!(csrf_of(&admin.page(&server, "/console/admin/new-user").await), admin.csrf);

        let answer = admin.post(&server, "/console/admin/new-user", &NEW_USER).await;
        assert_eq!(answer.see_other(), "/console/admin/users/alice?done=user-added");
        assert_eq!(newest(&server, "alice").await, noted("user.added", "joined"));
        let page = admin.page(&server, answer.see_other()).await;
        for part in ["The user has been added.", "notes:write", "/console/admin/subjects/alice", "?subject=alice"] {
            assert!(page.contains(part), "{part} in {page}");
        }
        let pair = server.login_as("alice", ALICES).await;
        server.accepts(&pair.access).await;
        // What can't be: the same once more, two passwords, too short a one, no scope, a long reason.
        assert!(admin.post(&server, "/console/admin/new-user", &NEW_USER).await.html(409).contains("that name already"));
        let own = NEW_USER.map(|(name, value)| (name, if name == "name" { "counterfoil" } else { value }));
        assert!(admin.post(&server, "/console/admin/new-user", &own).await.html(409).contains("The name counterfoil is"));
        for (field, value, says) in [
            ("again", "another", "differ"),
            ("scope", "a\"b", "cope"),
            ("name", "", "characters"),
            ("reason", &"x".repeat(256), "255"),
        ] {
            let fields = NEW_USER.map(|(name, old)| (name, if name == field { value } else { old }));
            let page = admin.post(&server, "/console/admin/new-user", &fields).await.html(422);
            assert!(page.contains(says) && !page.contains("own password"), "{field}: {page}");
        }
        let short = [("name", "bob"), ("password", "x"), ("again", "x"), ("scope", ""), ("reason", "")];
        assert!(admin.post(&server, "/console/admin/new-user", &short).await.html(422).contains("at least"));

        // To add a scope asks nothing, and to take one away asks once.
        let path = "/console/admin/users/alice/scopes";
        let fields = |held, scope, reason| [("held", held), ("scope", scope), ("reason", reason)];
        let all = "notes:read notes:write x";
        let answer = admin.post(&server, path, &fields("notes:read notes:write", all, "")).await;
        assert_eq!(answer.see_other(), "/console/admin/users/alice?done=user-scopes-changed");
        server.accepts(&pair.access).await;
        let page = admin.post(&server, path, &fields(all, "notes:read", "less")).await.html(200);
        assert!(page.contains("Take scopes away?") && page.contains("notes:write"), "{page}");
        assert!(page.contains(&format!(r#"name="held" value="{all}""#)), "{page}");
        server.accepts(&pair.access).await;
        let sure = [("held", all), ("scope", "notes:read"), ("reason", "less"), ("sure", "true")];
        admin.post(&server, path, &sure).await.see_other();
        server.refuses(&pair.access, "token_revoked").await;
        assert_eq!(newest(&server, "alice").await, noted("user.changed", "less"));

        // What was taken away meanwhile doesn't come back from a page of before.
        let page = admin.post(&server, path, &fields(all, "notes:read notes:write x y", "")).await.html(409);
        assert!(page.contains("Somebody else changed the scopes"), "{page}");
        assert!(admin.page(&server, path).await.contains(r#"name="held" value="notes:read""#));
    }

    async fn a_user_is_disabled_and_given_a_password(server: Server) {
        server.add_user("alice", ALICES, &[]);
        let admin = Visitor::admin(&server).await;
        let pair = server.login_as("alice", ALICES).await;
        let page = admin.page(&server, "/console/admin/users/alice/disable").await;
        assert!(page.contains("sessions end") && !page.contains("This is you"), "{page}");
        server.accepts(&pair.access).await;
        let answer = admin.post(&server, "/console/admin/users/alice/disable", &[("reason", "left")]).await;
        assert_eq!(answer.see_other(), "/console/admin/users/alice?done=user-disabled");
        server.refuses(&pair.access, "token_revoked").await;
        let body = json!({ "username": "alice", "password": ALICES });
        server.post("/login").json(&body).send().await.error(401, "bad_credentials");
        assert_eq!(newest(&server, "alice").await, noted("user.disabled", "left"));
        assert!(admin.page(&server, "/console/admin/users/alice").await.contains(">Disabled</span>"));
        let answer = admin.post(&server, "/console/admin/users/alice/enable", &[]).await;
        assert_eq!(answer.see_other(), "/console/admin/users/alice?done=user-enabled");
        assert_eq!(newest(&server, "alice").await, noted("user.enabled", ""));

        let pair = server.login_as("alice", ALICES).await;
        let path = "/console/admin/users/alice/password";
        let differ = [("password", PASSWORD), ("again", ALICES), ("reason", "")];
        assert!(admin.post(&server, path, &differ).await.html(422).contains("differ"));
        let kept = [("password", PASSWORD), ("again", PASSWORD), ("reason", "forgotten")];
        let answer = admin.post(&server, path, &kept).await;
        assert_eq!(answer.see_other(), "/console/admin/users/alice?done=user-password-set");
        server.accepts(&pair.access).await;
        server.login_as("alice", PASSWORD).await;
        assert_eq!(newest(&server, "alice").await, noted("user.password", "forgotten"));
        let ended = [("password", ALICES), ("again", ALICES), ("reason", ""), ("end_sessions", "true")];
        let answer = admin.post(&server, path, &ended).await;
        assert_eq!(answer.see_other(), "/console/admin/users/alice?done=user-password-set-sessions-ended");
        server.refuses(&pair.access, "token_revoked").await;
    }

    async fn administrators_are_warned_before_they_lock_themselves_out(server: Server) {
        let admin = Visitor::admin(&server).await;
        for path in ["/console/admin/users/admin/disable", "/console/admin/users/admin/password"] {
            assert!(admin.page(&server, path).await.contains("This is you."), "{path}");
        }
        let path = "/console/admin/users/admin/scopes";
        let page = admin.post(&server, path, &[("held", "registry:admin"), ("scope", ""), ("reason", "")]).await.html(200);
        assert!(page.contains("This is you.") && page.contains("registry:admin"), "{page}");
        admin.page(&server, "/console/admin/users").await;
        let sure = [("held", "registry:admin"), ("scope", ""), ("reason", ""), ("sure", "true")];
        let answer = admin.post(&server, path, &sure).await;
        assert_eq!(answer.see_other(), "/console/sessions?done=user-scopes-changed");
    }

    async fn a_client_is_added_rotated_and_disabled(server: Server) {
        let admin = Visitor::admin(&server).await;
        assert!(admin.page(&server, "/console/admin/clients").await.contains("There are no clients yet."));
        assert_eq!(csrf_of(&admin.page(&server, "/console/admin/new-client").await), admin.csrf);
        let fields = [
            ("name", "shop"),
            ("scope", "tokens:introspect"),
            ("grant_scope", "cart:read"),
            ("audience", "https://one.example\r\nhttps://two.example"),
            ("serves", ""),
            ("first_party", "true"),
            ("reason", "opens"),
        ];
        let old = secret_of(&admin.post(&server, "/console/admin/new-client", &fields).await);
        assert!(is_let_in(&server, &old).await);
        assert_eq!(newest(&server, &old.id).await, noted("client.added", "opens"));
        let path = format!("/console/admin/clients/{}", old.id);
        assert!(admin.page(&server, "/console/admin/clients").await.contains(&path));
        let page = admin.page(&server, &path).await;
        for part in ["tokens:introspect", "cart:read", ">https://two.example<", "all audiences", "First party"] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains(&old.secret));
        assert!(admin.post(&server, "/console/admin/new-client", &fields).await.html(409).contains("that name already"));
        for (field, value, says) in
            [("name", "", "1 to 100"), ("grant_scope", "registry:admin", "No client may"), ("scope", "a\"b", "cope")]
        {
            let fields = fields.map(|(name, old)| (name, if name == field { value } else { old }));
            let page = admin.post(&server, "/console/admin/new-client", &fields).await.html(422);
            assert!(page.contains(says), "{field}: {page}");
        }

        let rotate = format!("{path}/rotate");
        assert!(admin.page(&server, &rotate).await.contains("stays good"));
        admin.post(&server, &rotate, &[("overlap", "5"), ("reason", "")]).await.html(422);
        let new = secret_of(&admin.post(&server, &rotate, &[("overlap", "3600"), ("reason", "leaked")]).await);
        assert!(new.id == old.id && new.secret != old.secret);
        assert!(is_let_in(&server, &new).await && is_let_in(&server, &old).await);
        assert_eq!(newest(&server, &old.id).await, noted("client.secret", "leaked"));
        assert!(admin.page(&server, &path).await.contains("Secret before good until"));
        let newer = secret_of(&admin.post(&server, &rotate, &[("overlap", "0"), ("reason", "")]).await);
        assert!(is_let_in(&server, &newer).await && !is_let_in(&server, &new).await);

        let disable = format!("{path}/disable");
        assert!(admin.page(&server, &disable).await.contains("Disable this client?"));
        assert!(is_let_in(&server, &newer).await);
        let answer = admin.post(&server, &disable, &[("reason", "closes")]).await;
        assert_eq!(answer.see_other(), format!("{path}?done=client-disabled"));
        assert!(!is_let_in(&server, &newer).await);
        assert_eq!(newest(&server, &old.id).await, noted("client.disabled", "closes"));
        let answer = admin.post(&server, &format!("{path}/enable"), &[]).await;
        assert_eq!(answer.see_other(), format!("{path}?done=client-enabled"));
        assert!(is_let_in(&server, &newer).await);
    }

    async fn long_lists_go_on(server: Server) {
        let admin = Visitor::admin(&server).await;
        for n in 0..51 {
            let name = format!("client & {n:02}");
            let fields = [("name", name.as_str()), ("scope", ""), ("grant_scope", ""), ("audience", ""), ("serves", ""), ("reason", "")];
            admin.post(&server, "/console/admin/new-client", &fields).await.html(200);
            server.sql(&format!(
                "insert into cf_subjects (subject) values ('user & {n:02}');
                insert into cf_users (username, password_hash, scope, disabled, created_at, password_changed_at)
                select 'user & {n:02}', password_hash, '', disabled, 0, 0 from cf_users where username = 'admin'"
            )).await;
        }
        // The administrator is the first of the users.
        for (path, last, next) in [
            ("/console/admin/clients", "client &#38; 49", "/console/admin/clients?after=client%20%26%2049"),
            ("/console/admin/users", "user &#38; 48", "/console/admin/users?after=user%20%26%2048"),
        ] {
            let page = admin.page(&server, path).await;
            assert!(page.contains(&format!("rel=\"next\" href=\"{next}\"")) && page.contains(last), "{page}");
            assert!(!page.contains("&#38; 50"), "{page}");
            let page = admin.page(&server, next).await;
            assert!(page.contains("&#38; 50") && !page.contains("rel=\"next\"") && !page.contains(last), "{page}");
            let page = admin.page(&server, &format!("{path}?after=zzz")).await;
            assert!(page.contains("To the first ones") && !page.contains("<table"), "{page}");
        }
    }

    async fn nobody_else_may_and_hostile_names_are_text(server: Server) {
        server.add_user("alice", ALICES, &[]);
        server.add_user(HOSTILE, ALICES, &[]);
        let client = server.add_client(HOSTILE, &[]);
        let (admin, alice) = (Visitor::admin(&server).await, Visitor::of(&server, "alice", ALICES).await);
        let client_path = format!("/console/admin/clients/{}", client.id);
        let forms = [
            "/console/admin/new-user".to_owned(),
            format!("{HOSTILE_PATH}/scopes"),
            format!("{HOSTILE_PATH}/disable"),
            format!("{HOSTILE_PATH}/password"),
            "/console/admin/new-client".to_owned(),
            format!("{client_path}/rotate"),
            format!("{client_path}/disable"),
        ];
        let pages = ["/console/admin/users", "/console/admin/clients", HOSTILE_PATH, &client_path];
        for path in pages.iter().map(|path| (*path).to_owned()).chain(forms.clone()) {
            alice.get(&server, &path).send().await.html(403);
            let page = admin.page(&server, &path).await;
            assert_eq!(page.matches("<h1").count(), 1, "{path}: {page}");
            for part in ["<script>", "<style", " style=", &admin.token] {
                assert!(!page.contains(part), "{part} in {path}");
            }
        }
        let page = admin.page(&server, "/console/admin/users").await;
        let written = HOSTILE_PATH.replace('\'', "&#39;");
        assert!(page.contains(&format!("href=\"{written}\"")), "{page}");
        let enable = [format!("{HOSTILE_PATH}/enable"), format!("{client_path}/enable")];
        for path in forms.iter().chain(&enable) {
            alice.post(&server, path, &[("reason", "")]).await.html(403);
            let call = server.post(path).header("Cookie", &format!("{COOKIE}={}", admin.token));
            let page = call.form(&[("reason", "")]).send().await.html(403);
            assert!(page.contains("nothing was done"), "{path}: {page}");
        }
        server.login_as(HOSTILE, ALICES).await;
        for path in ["/console/admin/users/nobody", "/console/admin/users/%00", "/console/admin/clients/x"] {
            admin.get(&server, path).send().await.html(404);
        }
    }
}

/// Where nobody can tell whether every server knows of a client's new secret, it is shown all the same: it is nowhere
/// else.
#[test]
fn a_secret_that_cant_be_confirmed_is_shown() {
    crate::support::run(async {
        let cluster = postgres::Cluster::start();
        let server = Server::start_on(cluster.create("registry"), |settings| settings).await;
        let admin = Visitor::admin(&server).await;
        until_leased(&server).await;
        let old = server.add_client("shop", &["--scope", "tokens:introspect"]);
        server.add_gone(60_000).await;
        let path = format!("/console/admin/clients/{}/rotate", old.id);
        let fields = [("overlap", "3600"), ("reason", "")];
        let database_goes = async {
            let rotated = "select count(*) from cf_clients where old_secret_digest is not null";
            until("it is rotated", async || server.count(rotated).await > 0).await;
            cluster.kill();
            server.advance(30);
        };
        let (answer, ()) = tokio::join!(admin.post(&server, &path, &fields), database_goes);
        assert!(answer.html(200).contains("can't be told just now"));
        let new = secret_of(&answer);
        cluster.start_again();
        until_leased(&server).await;
        assert!(is_let_in(&server, &new).await && is_let_in(&server, &old).await);
        // The one before, for the hour that was asked for, to the second.
        server.advance(60 * 60 - 30 - 1);
        assert!(is_let_in(&server, &old).await);
        server.advance(1);
        assert!(is_let_in(&server, &new).await && !is_let_in(&server, &old).await);
    });
}
