//! The command line, by running the binary: what it says to people and to programs, and its exit status.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::forge::{claims_of, header_of, jti_of, sign_hs256};
use crate::support::process::{Home, SECRET};
use crate::support::{ADMIN, Server, on_both};

/// Issues an access and a refresh token to `subject`, and returns the answer.
fn issue(home: &Home, subject: &str, more: &[&str]) -> Value {
    let args = [&["token", "issue", "--json", "--subject", subject], more].concat();
    home.run(&args).ok().json()
}

fn jti(issued: &Value, index: usize) -> String {
    issued["records"][index]["token"]["jti"].as_str().unwrap().to_owned()
}

fn verify(home: &Home, issued: &Value) -> (Option<i32>, Value) {
    let ran = home.run_with(&["token", "verify", "--json"], issued["access_token"].as_str().unwrap());
    (ran.code, ran.json())
}

/// A token from its issue to its last verdict.
fn a_token_lives_and_dies(home: &Home) {
    let issued =
        issue(home, "alice", &["--scope", "b a", "--scope", "c", "--label", "ci", "--claim", "tenant=\"acme\""]);
    assert_eq!(
        (&issued["token_type"], &issued["scope"], &issued["expires_in"]),
        (&json!("Bearer"), &json!("a b c"), &json!(900))
    );
    let record = &issued["records"][0];
    assert_eq!(
        (&record["label"], &record["token"]["tenant"], &record["token"]["fresh"]),
        (&json!("ci"), &json!("acme"), &json!(false))
    );
    let access = jti(&issued, 0);
    let (code, live) = verify(home, &issued);
    assert_eq!((code, &live["live"], &live["record"]["token"]["jti"]), (Some(0), &json!(true), &json!(access)));

    let revoked = home.run(&["token", "revoke", &access, "--reason", "lost", "--json"]).ok().json();
    assert_eq!((&revoked["revoked"], &revoked["revoked_reason"]), (&json!(true), &json!("lost")));
    let (code, dead) = verify(home, &issued);
    assert_eq!(
        (code, &dead["live"], &dead["error"], &dead["final"]),
        (Some(1), &json!(false), &json!("token_revoked"), &json!(false))
    );
    assert_eq!(dead["revoked_by"], json!({ "kind": "command_line", "name": "tester" }));

    home.run(&["token", "unrevoke", &access]).ok();
    assert_eq!(verify(home, &issued).0, Some(0));

    let sid = issued["records"][0]["token"]["sid"].as_str().unwrap();
    assert_eq!(home.run(&["session", "end", sid, "--json"]).ok().json(), json!({ "revoked": 2 }));
    let refused = home.run(&["token", "unrevoke", &access, "--json"]).code(1);
    let error: Value = serde_json::from_str(refused.sentence()).unwrap();
    assert_eq!(error, json!({ "error": "revocation_final", "msg": "The revocation is final" }));

    issue(home, "alice", &["--no-refresh"]);
    assert_eq!(home.run(&["subject", "revoke-all", "alice", "--json"]).ok().json(), json!({ "revoked": 1 }));
    let all = home.run(&["token", "list", "--subject", "alice", "--state", "live", "--json"]).ok().json();
    assert_eq!(all, json!([]));

    let audit = home.run(&["audit", "--subject", "alice", "--json"]).ok().json();
    let audit = audit.as_array().unwrap();
    assert!(audit.len() >= 4, "{audit:?}");
    assert!(
        audit.iter().all(|event| event["actor"] == json!({ "kind": "command_line", "name": "tester" })),
        "{audit:?}"
    );
    assert!(audit.iter().any(|event| event["reason"] == "lost" && event["target"] == json!(access)), "{audit:?}");
    let newest = audit[0]["id"].as_i64().unwrap();
    let older = home.run(&["audit", "--before", &newest.to_string(), "--limit", "1", "--json"]).ok();
    assert!(older.json()[0]["id"].as_i64().unwrap() < newest && older.err.contains("--before"), "{older:?}");
}

/// A user from the first password to the end.
fn a_user_comes_and_goes(home: &Home) {
    let added = home
        .run_with(&["user", "add", "bob", "--admin", "--scope", "notes:read", "--json"], "a fine password\n")
        .ok()
        .json();
    assert_eq!((&added["username"], &added["scope"]), (&json!("bob"), &json!("notes:read registry:admin")));
    assert!(!added.to_string().contains("argon2"), "{added}");
    let again = home.run_with(&["user", "add", "bob", "--json"], "a fine password\n").code(1);
    assert!(again.sentence().contains(r#""error":"conflict""#), "{again:?}");

    let set = home
        .run(&["user", "set", "bob", "--add-scope", "notes:write", "--remove-scope", "registry:admin", "--json"])
        .ok()
        .json();
    assert_eq!(set["scope"], json!("notes:read notes:write"));
    let set = home.run(&["user", "set", "bob", "--scope", "", "--json"]).ok().json();
    assert_eq!(set["scope"], json!(""));
    home.run(&["user", "set", "bob"]).code(2);

    assert_eq!(home.run(&["user", "disable", "bob", "--json"]).ok().json()["disabled"], json!(true));
    assert_eq!(home.run(&["user", "enable", "bob", "--json"]).ok().json()["disabled"], json!(false));
    home.run_with(&["user", "passwd", "bob"], "another password\n").ok();
    let listed = home.run(&["user", "list"]).ok();
    assert!(listed.out.starts_with("USERNAME  STATE") && listed.out.contains("\nbob       enabled"), "{listed:?}");
    home.run(&["user", "delete", "bob"]).ok();
    home.run(&["user", "delete", "bob"]).code(1);
    assert_eq!(home.run(&["user", "list"]).ok().out, "No users.\n");
}

#[test]
fn a_token_on_sqlite() {
    a_token_lives_and_dies(&Home::sqlite().migrated());
}

#[test]
fn a_token_on_postgres() {
    a_token_lives_and_dies(&Home::on(Some(&crate::support::postgres::database())).migrated());
}

#[test]
fn a_user_on_sqlite() {
    a_user_comes_and_goes(&Home::sqlite().migrated());
}

#[test]
fn a_user_on_postgres() {
    a_user_comes_and_goes(&Home::on(Some(&crate::support::postgres::database())).migrated());
}

#[test]
fn what_people_read_is_laid_out() {
    let home = Home::sqlite().migrated();
    assert_eq!(home.run(&["token", "list"]).ok().out, "No tokens.\n");
    let ran = home.run(&["token", "issue", "--subject", "zoë"]).ok();
    assert!(ran.out.starts_with("access token   ey") && ran.out.contains("\nrefresh token  ey"), "{ran:?}");
    let listed = home.run(&["token", "list", "--limit", "1"]).ok();
    assert!(listed.out.starts_with("JTI ") && listed.out.contains("  live   zoë      20"), "{listed:?}");
    let cursor = listed.err.trim().rsplit(' ').next().unwrap().trim_matches('"');
    let next = home.run(&["token", "list", "--cursor", cursor, "--json"]).ok().json();
    assert_eq!(next.as_array().unwrap().len(), 1);
    // A program reads it where it need not take a sentence apart.
    let listed = home.run(&["token", "list", "--limit", "1", "--json"]).ok();
    let note: Value = serde_json::from_str(&listed.err).unwrap();
    assert_eq!((&note["cursor"], listed.json().as_array().unwrap().len()), (&json!(cursor), 1));

    let jti = next[0]["token"]["jti"].as_str().unwrap();
    let shown = home.run(&["token", "show", jti]).ok();
    assert!(
        shown.out.contains(&format!("jti         {jti}\n")) && shown.out.contains("state       live\n"),
        "{shown:?}"
    );
    home.run(&["token", "revoke", jti]).ok();
    let shown = home.run(&["token", "show", jti]).ok();
    assert!(
        shown.out.contains("  by        command_line tester\n") && shown.out.contains("  undoable  yes\n"),
        "{shown:?}"
    );
}

#[test]
fn verify_says_why_not() {
    let home = Home::sqlite().migrated();
    let verdict = |token: &str| {
        let ran = home.run_with(&["token", "verify", "--json"], token).code(1);
        ran.json()["error"].as_str().unwrap().to_owned()
    };
    assert_eq!(verdict("hello\n"), "token_malformed");
    let issued = issue(&home, "alice", &["--no-refresh"]);
    let token = issued["access_token"].as_str().unwrap();
    let (head, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    assert_eq!(verdict(&format!("{head}.{other}{}", &signature[1..])), "token_invalid");
    let mut expired = claims_of(token);
    for time in ["iat", "nbf", "exp"] {
        expired[time] = json!(expired[time].as_i64().unwrap() - 3_600);
    }
    assert_eq!(verdict(&sign_hs256(SECRET.as_bytes(), &header_of(token), &expired)), "token_expired");
    // Issued for another registry with the same key.
    let elsewhere = issue(&Home::sqlite().migrated(), "alice", &["--no-refresh"]);
    assert_eq!(verdict(elsewhere["access_token"].as_str().unwrap()), "token_unknown");
    let human = home.run_with(&["token", "verify"], elsewhere["access_token"].as_str().unwrap()).code(1);
    assert_eq!(human.out, "The token is not live: it is well signed, but not on the registry.\n");
}

#[test]
fn purge_counts_what_it_removes() {
    let home = Home::sqlite().migrated();
    for _ in 0..3 {
        issue(&home, "bob", &["--no-refresh"]);
    }
    issue(&home, "alice", &[]);
    home.age("bob");
    assert_eq!(home.run(&["purge", "--dry-run", "--json"]).ok().json(), json!({ "would_purge": 3 }));
    assert_eq!(home.run(&["purge", "--json"]).ok().json(), json!({ "purged": 3 }));
    let ran = home.run(&["purge"]).ok();
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("Purged 0 records.\n", ""));
    assert_eq!(home.run(&["token", "list", "--json"]).ok().json().as_array().unwrap().len(), 2);
}

#[test]
fn imports_tell_which_line_was_refused() {
    let old = Home::sqlite().migrated();
    let home = Home::sqlite().migrated();
    let good = issue(&old, "alice", &["--no-refresh"])["access_token"].as_str().unwrap().to_owned();
    let lines = format!("{good}\n\nnot a token\n{good}\n");
    let report = home.run_with(&["token", "import", "--json"], &lines).code(1).json();
    assert_eq!((&report["imported"], &report["known"]), (&json!(1), &json!(1)));
    assert_eq!(report["refused"][0]["line"], json!(3));
    let again = home.run_with(&["token", "import"], &good).ok();
    assert_eq!(again.out, "Imported 0 tokens; 1 on the registry already.\n");
}

#[test]
fn migrations_are_applied_once_and_named() {
    let home = Home::sqlite();
    let applied = home.run(&["migrate", "--json"]).ok().json();
    assert!(!applied["applied"].as_array().unwrap().is_empty(), "{applied}");
    assert_eq!(home.run(&["migrate"]).ok().out, "Nothing to apply: the schema is up to date.\n");
    let fresh = Home::sqlite().set("MIGRATE", "false");
    let ran = fresh.run(&["user", "list"]).code(1);
    assert!(ran.sentence().contains("counterfoil migrate"), "{ran:?}");
}

/// What it is given may be the settings of another server, or those of none in another directory.
#[test]
fn a_command_makes_nothing_that_is_not_there() {
    let home = Home::sqlite().unset("DATABASE_URL").unset("ALGORITHM").unset("KEYS__SECRET");
    for args in [&["subject", "revoke-all", "alice"][..], &["user", "list"], &["token", "list"], &["keys", "list"]] {
        let ran = home.run(args).code(1);
        let sentence = ran.sentence();
        let path = home.path("counterfoil.db").display().to_string();
        assert!(sentence.contains(&path) && sentence.contains("`counterfoil migrate`"), "{sentence}");
    }
    assert_eq!(std::fs::read_dir(home.path("")).unwrap().count(), 0);
    let home = home.migrated();
    let ran = home.run(&["user", "list"]).code(1);
    assert!(ran.sentence().contains("the first start of a server makes it"), "{ran:?}");
    drop(home.serve());
    assert_eq!(home.run(&["user", "list"]).ok().out, "No users.\n");
    // Nor for a database that can't be.
    let home = Home::sqlite().unset("ALGORITHM").unset("KEYS__SECRET");
    let home = home.set("DATABASE_URL", "sqlite://registry.db?mode=foo");
    let ran = home.run(&[]).code(1);
    assert!(ran.sentence().contains("database_url"), "{ran:?}");
    assert_eq!(std::fs::read_dir(home.path("")).unwrap().count(), 0);
}

fn refuses_to_migrate(home: &Home) {
    let sentence = |args: &[&str]| home.run(args).code(1).sentence().to_owned();
    let first = sentence(&["user", "list"]);
    assert!(first.contains("lacks") && first.contains("run `counterfoil migrate`"), "{first}");
    for args in [&["token", "list"][..], &["keys", "list"], &["purge"], &["token", "issue", "--subject", "alice"]] {
        assert_eq!(sentence(args), first);
    }
    home.run(&["migrate"]).ok();
    assert_eq!(home.run(&["user", "list"]).ok().out, "No users.\n");
}

/// A newer version's would shut out the servers of the older one, and there is no way back.
#[test]
fn no_command_but_migrate_migrates_on_sqlite() {
    let home = Home::sqlite();
    std::fs::write(home.path("registry.db"), "").unwrap();
    refuses_to_migrate(&home);
}

#[test]
fn no_command_but_migrate_migrates_on_postgres() {
    refuses_to_migrate(&Home::on(Some(&crate::support::postgres::database())));
}

#[test]
fn a_file_of_settings_that_is_named_has_to_be_there() {
    for args in [&["config"][..], &["user", "list"], &[]] {
        let home = Home::sqlite().env("ROCKET_CONFIG", "/nope.toml");
        let ran = home.run(args).code(1);
        assert!(ran.sentence().contains("ROCKET_CONFIG names \"/nope.toml\""), "{ran:?}");
        assert_eq!(std::fs::read_dir(home.path("")).unwrap().count(), 0);
    }
    // It is looked for in the directories above too.
    let home = Home::sqlite().env("ROCKET_CONFIG", "given.toml");
    std::fs::write(home.path("given.toml"), "[debug.counterfoil]\naccess_expires = \"7m\"\n").unwrap();
    std::fs::create_dir(home.path("below")).unwrap();
    let shown = home.command(&["config"]).current_dir(home.path("below")).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.lines().any(|line| line.starts_with("access_expires ") && line.contains(" 7m ")), "{shown}");
}

#[test]
fn a_rotation_of_a_secret_says_until_when_the_old_one_is_good() {
    let home = Home::sqlite().migrated();
    home.run(&["client", "add", "shop"]).ok();
    let ran = home.run(&["client", "rotate-secret", "shop"]).ok();
    assert!(ran.out.contains("\nold secret     good until 20"), "{ran:?}");
    let ran = home.run(&["client", "rotate-secret", "shop", "--overlap", "0s"]).ok();
    assert!(ran.out.contains("\nold secret     refused from now on\n"), "{ran:?}");
}

#[test]
fn why_the_database_cant_be_asked_is_said() {
    let home = Home::on(Some("postgres://nobody@127.0.0.1:1/none"));
    let refused = home.run(&["token", "list"]).code(1);
    let sentence = refused.sentence();
    assert!(sentence.contains("Connection refused") && sentence.contains("check that it runs"), "{sentence}");
}

#[test]
fn settings_are_shown_and_secrets_masked() {
    let home = Home::sqlite().set("ACCESS_EXPIRES", "5m");
    let settings = home.run(&["config", "--json"]).ok();
    assert!(!settings.out.contains("a secret of the tests"), "{settings:?}");
    let settings = settings.json();
    let settings = settings.as_array().unwrap();
    let setting = |key: &str| {
        settings.iter().find(|setting| setting["key"] == key).unwrap_or_else(|| panic!("{key}: {settings:?}"))
    };
    assert_eq!(setting("access_expires")["value"], json!("5m"));
    assert_ne!(setting("access_expires")["source"], setting("refresh_expires")["source"]);
    assert!(home.run(&["config"]).ok().out.starts_with("SETTING "));

    let broken = Home::sqlite().set("ACCESS_EXPIRES", "soon");
    for args in [&["config"][..], &["user", "list"], &[]] {
        let ran = broken.run(args).code(1);
        assert!(ran.sentence().to_lowercase().contains("access_expires"), "{ran:?}");
    }
}

#[test]
fn keys_are_listed_without_a_database() {
    let home = Home::sqlite().set("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none");
    let keys = home.run(&["keys", "list", "--json"]).ok().json();
    assert_eq!((&keys[0]["algorithm"], &keys[0]["state"]), (&json!("HS256"), &json!("current")));
    let ran = home.run(&["user", "list", "--json"]).code(1);
    assert!(ran.sentence().contains("registry_unavailable"), "{ran:?}");
}

#[test]
fn a_key_that_is_made_lies_beside_the_database_or_where_the_server_runs() {
    for (url, file) in [
        (None, Some("registry-key.secret")),
        (Some("postgres://nobody@127.0.0.1:1/none"), Some("counterfoil-key.secret")),
        (Some("sqlite::memory:"), None),
    ] {
        let home = Home::on(url).unset("KEYS__SECRET");
        drop(home.serve());
        let files = std::fs::read_dir(home.path("")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let made: Vec<String> = names.filter(|name| name.contains("-key.")).collect();
        assert_eq!(made, file.into_iter().collect::<Vec<_>>(), "{url:?}");
    }
}

#[test]
fn access_tokens_off_the_registry_are_spoken_of() {
    let home = Home::sqlite().set("CHECK", "refresh").migrated();
    let ran = home.run(&["token", "issue", "--subject", "alice", "--json"]).ok();
    let note: Value = serde_json::from_str(&ran.err).unwrap();
    assert!(note["note"].as_str().unwrap().starts_with("access tokens are not on the registry"), "{ran:?}");
    assert_eq!(ran.json()["records"].as_array().unwrap().len(), 1);
    for args in [&["token", "list"][..], &["subject", "revoke-all", "alice"]] {
        let ran = home.run(args).ok();
        assert!(ran.err.contains("access tokens are not on the registry"), "{ran:?}");
    }
}

#[test]
fn secrets_come_from_the_environment_or_standard_input_and_never_from_an_argument() {
    let home = Home::sqlite().env("COUNTERFOIL_USER_PASSWORD", "from the environment").migrated();
    home.run(&["user", "add", "carol"]).ok();
    let home = Home::sqlite().migrated();
    let empty = home.run(&["user", "add", "carol"]).code(1);
    assert!(empty.sentence().contains("standard input"), "{empty:?}");
    home.run(&["user", "add", "carol", "--password", "x"]).code(2);
    home.run(&["token", "verify", "x"]).code(2);
}

#[test]
fn wrong_usage_is_2_and_what_is_not_there_is_1() {
    let home = Home::sqlite().migrated();
    home.run(&["token", "show", "no-uuid"]).code(2);
    home.run(&["frobnicate"]).code(2);
    home.run(&["token", "list", "--limit", "0"]).code(2);
    let ran = home.run(&["token", "show", "0192f0c1-7c1e-7000-8000-000000000000"]).code(1);
    assert_eq!((ran.out.as_str(), ran.sentence()), ("", "error: Token not found"));
    let ran = home.run(&["session", "end", "0192f0c1-7c1e-7000-8000-000000000000"]).code(1);
    assert_eq!(ran.sentence(), "error: Session not found");
    assert!(home.run(&["--help"]).ok().out.contains("Exit status"));
}

#[test]
fn the_servers_own_name_is_nobodys() {
    let home = Home::sqlite().env("COUNTERFOIL_USER_PASSWORD", "correct horse battery").migrated();
    for args in [&["user", "add", "counterfoil"][..], &["token", "issue", "--subject", "counterfoil"]] {
        let ran = home.run(args).code(1);
        assert!(ran.sentence().contains("The name counterfoil is the server's own"), "{ran:?}");
    }
}

#[test]
fn a_clients_id_is_nobody_elses_subject() {
    let home = Home::sqlite().env("COUNTERFOIL_USER_PASSWORD", "correct horse battery").migrated();
    let client = home.run(&["client", "add", "shop", "--json"]).ok().json();
    let id = client["client_id"].as_str().unwrap();
    let ran = home.run(&["token", "issue", "--subject", id, "--json"]).code(1);
    let error: Value = serde_json::from_str(ran.sentence()).unwrap();
    assert_eq!((&error["error"], ran.out.as_str()), (&json!("subject_reserved"), ""), "{ran:?}");
    let ran = home.run(&["user", "add", id]).code(1);
    assert!(ran.sentence().contains("a client of that id"), "{ran:?}");
    // Whom the server knows by a name of its own may have tokens of the operator's.
    home.run(&["user", "add", "alice"]).ok();
    issue(&home, "alice", &[]);
}

on_both! {
    async fn the_audit_shows_from_where_something_was_done(server: Server) {
        let pair = server.login().await;
        let path = format!("/auth/tokens/revoke/{}", jti_of(&pair.refresh));
        server.put(&path).bearer(&pair.access).send().await.ok(200);
        let listed = server.command_ok(&["audit", "--action", "token.revoked", "--actor", ADMIN], "");
        assert!(listed.contains("ADDRESS") && listed.contains("  127.0.0.1  "), "{listed}");
    }
}

#[test]
fn wrong_usage_is_json_too_where_that_is_asked_for() {
    let home = Home::sqlite();
    for (args, named) in [
        (&["token", "list", "--limit", "0", "--json"][..], "--limit"),
        (&["--json", "frobnicate"], "frobnicate"),
        (&["token", "show", "--json"], "<JTI>"),
        (&["user", "--json"], "subcommand"),
        (&["--json", "user"], "--help"),
        (&["client", "add", "shop", "--json", "--secret"], "--secret"),
    ] {
        let ran = home.run(args).code(2);
        let error: Value = serde_json::from_str(ran.sentence()).unwrap();
        assert_eq!((ran.out.as_str(), &error["error"]), ("", &json!("wrong_usage")), "{ran:?}");
        let msg = error["msg"].as_str().unwrap();
        assert!(msg.contains(named) && !msg.contains('\n') && !msg.starts_with("error"), "{msg}");
    }
    assert!(home.run(&["--help", "--json"]).ok().out.contains("Exit status"));
    let text = home.run(&["token", "show", "--", "--json"]).code(2);
    assert!(text.err.starts_with("error: "), "{text:?}");
}

#[test]
fn completions_are_a_script() {
    assert!(Home::sqlite().run(&["completions", "bash"]).ok().out.contains("_counterfoil()"));
}

#[test]
fn a_reader_that_stops_reading_is_no_error() {
    let home = Home::sqlite();
    let mut child = home.command(&["completions", "zsh"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0));
}

/// Runs a command whose reader goes away before there is anything to read.
fn run_unread(home: &Home, args: &[&str], input: &str) -> std::process::Output {
    let mut child = home.command(args).stdin(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_verdict_and_a_secret_that_nobody_reads_are_told_by_the_exit_status() {
    let home = Home::sqlite().migrated();
    let issued = issue(&home, "alice", &["--no-refresh"]);
    let token = issued["access_token"].as_str().unwrap();
    assert_eq!(run_unread(&home, &["token", "verify"], token).status.code(), Some(0));
    home.run(&["token", "revoke", &jti(&issued, 0)]).ok();
    assert_eq!(run_unread(&home, &["token", "verify"], token).status.code(), Some(1));
    assert_eq!(run_unread(&home, &["token", "import"], "no token\n").status.code(), Some(1));
    let added = run_unread(&home, &["client", "add", "shop"], "");
    let said = String::from_utf8(added.stderr).unwrap();
    assert!(added.status.code() == Some(1) && said.contains("it is not shown again"), "{said}");
    // What can be asked for again is no failure, as with `head`.
    assert_eq!(run_unread(&home, &["client", "list"], "").status.code(), Some(0));
}
