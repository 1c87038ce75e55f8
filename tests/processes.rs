//! Three servers on one database, clients of all three and the command line beside them, and one server that is killed
//! half-way: what was acknowledged holds on every server, and no server gives up.
//!
//! The steps are drawn from a seed and their interleaving is the machine's, so each answer is held against what its
//! requester can know: certain where no other change was under way, open where one was.

mod client;
mod fleet;
mod pooler;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use client::Client;
use fleet::{Fleet, KILLED, Outcome, SERVERS, USERS};
use pooler::Pooler;
use serde_json::Value;

use crate::support::forge::jti_of;
use crate::support::process::{Home, PATIENCE, Serving};
use crate::support::{Database, on_both, postgres, run};

const CLIENTS: usize = 6;
/// How long the clients work.
const LOAD: Duration = Duration::from_secs(4);

on_both! {
    async fn what_three_servers_acknowledge_holds_on_all_of_them(database: Database) {
        let url = (database == Database::Postgres).then(postgres::database);
        three_servers(Home::on(url.as_deref())).await;
    }
}

#[test]
fn what_three_servers_acknowledge_holds_behind_a_pooler_too() {
    run(async {
        let pooler = Pooler::start(&postgres::database());
        three_servers(Home::on(Some(pooler.url())).set("LISTEN", "false")).await;
    });
}

async fn three_servers(home: Home) {
    let home = home.unset("ALGORITHM").unset("KEYS__SECRET").unset("FIRST_ADMIN");
    // A refresh token is presented again and again here, which has tests of its own.
    let home = home.set("REFRESH__ROTATION", "false");
    // On an empty database, all at once.
    let mut servers: Vec<Serving> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..SERVERS)
            .map(|server| {
                scope.spawn({
                    let home = &home;
                    move || start(home, server)
                })
            })
            .collect();
        starting.into_iter().map(|server| server.join().unwrap()).collect()
    });
    USERS.iter().chain(&["scoped"]).for_each(|user| home.add_user(user));

    let fleet = Arc::new(Fleet::new(home, &servers));
    let deadline = Instant::now() + LOAD;
    let clients: Vec<_> = (0..CLIENTS).map(|index| tokio::spawn(Client::new(&fleet, index).work(deadline))).collect();
    let operator = tokio::spawn(operate(fleet.clone(), deadline));
    tokio::time::sleep(LOAD / 2).await;
    servers[KILLED].signal("KILL");
    servers[KILLED].wait();
    tokio::time::sleep(Duration::from_millis(300)).await;
    servers.push(tokio::task::block_in_place(|| start(&fleet.home, KILLED)));
    fleet.ports[KILLED].store(servers[SERVERS].port(), Ordering::Release);

    let mut done = operator.await.unwrap();
    let mut finished = Vec::new();
    for client in clients {
        finished.push(client.await.unwrap());
    }
    let unanswered = fleet.unanswered.load(Ordering::Acquire);
    for client in &mut finished {
        client.check_everything().await;
        done.short.append(&mut client.done.short);
        done.changes.append(&mut client.done.changes);
        done.kept.extend(client.held.iter().map(|held| held.jti.clone()));
    }
    assert_eq!(fleet.unanswered.load(Ordering::Acquire), unanswered, "all servers answer in the end");

    let logs: Vec<String> = servers.iter().map(Serving::log).collect();
    let (_, admin) = fleet.log_in(0, "admin", &first_password(&logs)).await;
    let admin = admin["access_token"].as_str().unwrap();
    wait_for_purge(&fleet, admin, &done).await;
    check_audit(&fleet, &fleet.pages("/admin/audit?limit=1000", admin).await, &done.changes);
    check_logs(&logs);
}

/// The first server purges, and no other.
fn start(home: &Home, server: usize) -> Serving {
    home.serve_with(&[("COUNTERFOIL_PURGE__EVERY", if server == 0 { "1s" } else { "off" })])
}

/// What must be found in the end.
#[derive(Default)]
struct Done {
    changes: Vec<Change>,
    /// The ids of tokens that lived for a second.
    short: Vec<String>,
    /// The ids of other tokens.
    kept: Vec<String>,
}

/// A change that the audit has, for certain or perhaps.
struct Change {
    action: &'static str,
    target: String,
    is_certain: bool,
}

/// Works with the command line: gives and takes a scope, and issues tokens.
async fn operate(fleet: Arc<Fleet>, deadline: Instant) -> Done {
    let mut done = Done::default();
    while Instant::now() < deadline {
        fleet.command(&["user", "set", "scoped", "--add-scope", "extra"]);
        let (_, body) = fleet.log_in(0, "scoped", "scoped password").await;
        assert_eq!(body["scope"], "extra", "{body}");
        fleet.command(&["user", "set", "scoped", "--remove-scope", "extra"]);
        fleet.expect(body["access_token"].as_str().unwrap(), 401).await;
        let change = || Change { action: "user.changed", target: "scoped".to_owned(), is_certain: true };
        done.changes.extend([change(), change()]);

        let issue = ["token", "issue", "--subject", "app", "--no-refresh"];
        let short = fleet.command(&[&issue[..], &["--access-expires", "1s"]].concat());
        done.short.push(jti_of(short["access_token"].as_str().unwrap()));
        let body = fleet.command(&issue);
        let token = body["access_token"].as_str().unwrap();
        fleet.expect(token, 204).await;
        done.kept.push(jti_of(token));
    }
    done
}

/// The first administrator's password, which one server alone has shown.
fn first_password(logs: &[String]) -> String {
    let mut shown = logs.iter().filter_map(|log| log.split_once("shown this once"));
    let (_, rest) = shown.next().unwrap();
    assert!(shown.next().is_none(), "{logs:#?}");
    rest.lines().skip(1).map(str::trim).find(|line| !line.is_empty() && !line.starts_with('{')).unwrap().to_owned()
}

/// The short-lived go from the list, and nothing else does.
async fn wait_for_purge(fleet: &Fleet, admin: &str, done: &Done) {
    let began = Instant::now();
    loop {
        let list = fleet.pages("/auth/all-tokens?limit=1000", admin).await;
        let listed: HashSet<&str> = list.iter().map(|record| record["token"]["jti"].as_str().unwrap()).collect();
        let lost: Vec<_> = done.kept.iter().filter(|jti| !listed.contains(jti.as_str())).collect();
        assert!(lost.is_empty(), "not listed: {lost:?}");
        if !done.short.iter().any(|jti| listed.contains(jti.as_str())) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "expired tokens are still listed");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// One entry for each acknowledged change.
fn check_audit(fleet: &Fleet, audit: &[Value], changes: &[Change]) {
    let mut known: HashMap<(&str, &str), (u32, u32)> = HashMap::from([(("user.added", "admin"), (1, 1))]);
    let endings = fleet.endings.each_ref().map(|endings| endings.lock().unwrap());
    let endings = USERS.iter().zip(&endings).flat_map(|(user, endings)| endings.iter().map(|ending| (*user, ending)));
    let endings = endings.filter(|(_, ending)| ending.outcome != Outcome::Refused);
    let endings = endings.map(|(user, ending)| ("subject.ended", user, matches!(ending.outcome, Outcome::Done(_))));
    let changes = changes.iter().map(|change| (change.action, change.target.as_str(), change.is_certain));
    for (action, target, is_certain) in changes.chain(endings) {
        let (least, most) = known.entry((action, target)).or_default();
        *least += u32::from(is_certain);
        *most += 1;
    }
    for ((action, target), (least, most)) in known {
        let is_of =
            |entry: &&Value| entry["action"] == action && (entry["target"] == target || entry["subject"] == target);
        let found = audit.iter().filter(is_of).count() as u32;
        assert!((least..=most).contains(&found), "{action} of {target}: {found}, not {least} to {most}");
    }
}

fn check_logs(logs: &[String]) {
    let times = |word| logs.iter().flat_map(|log| log.lines()).filter(|line| line.contains(word)).count();
    for word in ["panicked", "locked", r#""level":"ERROR""#] {
        assert_eq!(times(word), 0, "{word}: {logs:#?}");
    }
    for word in ["made a new key", "created the first administrator", "migrated the database"] {
        assert_eq!(times(word), 1, "{word}: {logs:#?}");
    }
}
