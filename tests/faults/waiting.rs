//! What waits for a row in PostgreSQL, and finds something else there than when it began to wait.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::task::{block_in_place, spawn_blocking};

use super::alone::expect;
use super::calls::{By, Token};
use super::commands::Tamper;
use super::fleet::{Fleet, Seat};
use super::history::{Effect, Id, Outcome, Setting, Verdict};
use super::{ADMIN, DATABASE, USERS, stage};
use crate::support::postgres::{Cluster, Psql};
use crate::support::process::Home;
use crate::support::run;
use crate::support::server::until;

/// A server on a PostgreSQL of its own, a session of that, and two people's tokens.
struct Stage {
    cluster: Cluster,
    fleet: Arc<Fleet>,
    seat: Seat,
    psql: Mutex<Psql>,
    admin: Token,
    token: Token,
}

impl Stage {
    async fn new(change: impl FnOnce(Home) -> Home) -> Self {
        let (cluster, _proxy) = stage::postgres().await;
        let fleet = Fleet::start(change(stage::home(Some(&cluster.url(DATABASE)))), vec![Vec::new()]).await;
        let seat = fleet.seats()[0];
        let admin = fleet.log_in(seat, ADMIN).await.remove(0);
        let token = fleet.log_in(seat, USERS[0]).await.remove(0);
        expect(&fleet, &token, Verdict::Accepted).await;
        let psql = Mutex::new(cluster.psql(DATABASE));
        Self { cluster, fleet, seat, psql, admin, token }
    }

    /// In the open transaction, if there is one.
    fn run(&self, sql: &str) {
        assert!(block_in_place(|| self.psql.lock().unwrap().run(sql)), "{sql}");
    }

    fn sql(&self, sql: &str) -> String {
        block_in_place(|| self.cluster.sql(DATABASE, sql))
    }

    /// Until so many wait for a lock.
    async fn until_waiting(&self, waiting: usize) {
        self.until("select count(*) from pg_stat_activity where wait_event_type = 'Lock'", &waiting.to_string()).await;
    }

    async fn until(&self, sql: &str, answer: &str) {
        until(&format!("{sql} is {answer}"), async || self.sql(sql) == answer).await;
    }

    /// Runs SQL in a transaction that stays open until somebody waits for it.
    async fn meanwhile(&self, sql: &str, what: impl Future<Output = Outcome>) -> Outcome {
        self.run(&format!("begin; {sql}"));
        self.then("commit;", what).await
    }

    /// Runs SQL once somebody waits for what was run before.
    async fn then(&self, sql: &str, what: impl Future<Output = Outcome>) -> Outcome {
        let (outcome, ()) = tokio::join!(what, async {
            self.until_waiting(1).await;
            self.run(sql);
        });
        // Whatever the database's default is, it looks again instead.
        assert!(!self.cluster.log().contains("could not serialize access"), "it fails where something has changed");
        outcome
    }
}

/// Whoever ends a session, and waits for somebody who has just ended all others of its subject, ends it all the same.
#[test]
fn a_session_that_was_kept_a_moment_ago_is_ended() {
    run(async {
        let stage = Stage::new(|home| home).await;
        let (fleet, token, admin) = (stage.fleet.clone(), stage.token.clone(), stage.admin.clone());
        let keep = format!(
            "update cf_subjects set generation = generation + 1 where subject = '{}'; \
            update cf_sessions set generation = generation + 1 where sid = '{}';",
            token.subject, token.sid
        );
        let end = Effect::EndSession(token.sid.clone());
        let outcome = stage.meanwhile(&keep, fleet.change(stage.seat, By::Admin(&admin), &end)).await;
        assert_eq!(outcome, Outcome::Done);
        expect(&fleet, &token, Verdict::Revoked).await;
    });
}

/// A token that is being revoked must not undo that, though it was live when the request began.
#[test]
fn a_token_that_is_being_revoked_does_not_undo_it() {
    run(async {
        let stage = Stage::new(|home| home).await;
        let (fleet, token) = (stage.fleet.clone(), stage.token.clone());
        let revoke = format!(
            "update cf_tokens set revoked_at = 1, revoked_by_kind = 'subject', revoked_by = subject where jti = '{}';",
            token.jti
        );
        let undo = Effect::Unrevoke(token.jti.clone());
        let outcome = stage.meanwhile(&revoke, fleet.change(stage.seat, By::User(&token), &undo)).await;
        assert_eq!(outcome, Outcome::Not);
        fleet.wait_until_refused(stage.seat, &token).await;
    });
}

/// What its session's end has revoked for good is not un-revoked after it.
#[test]
fn a_token_of_a_session_that_is_being_ended_is_not_unrevoked() {
    run(async {
        let stage = Stage::new(|home| home).await;
        let (fleet, token, admin) = (stage.fleet.clone(), stage.token.clone(), stage.admin.clone());
        let revoke = Effect::Revoke(token.jti.clone());
        assert_eq!(fleet.change(stage.seat, By::Admin(&admin), &revoke).await, Outcome::Done);
        let end = format!(
            "update cf_sessions set ended_at = 1, ended_by_kind = 'system', ended_by = 'test' where sid = '{}';",
            token.sid
        );
        let undo = Effect::Unrevoke(token.jti.clone());
        let outcome = stage.meanwhile(&end, fleet.change(stage.seat, By::Admin(&admin), &undo)).await;
        assert_eq!(outcome, Outcome::Not);
    });
}

/// A personal token that is asked for with a token whose session ends meanwhile is not handed out, and not left behind.
#[test]
fn a_session_that_ends_meanwhile_leaves_no_personal_token_behind() {
    run(async {
        let stage = Stage::new(|home| home).await;
        let (fleet, token, admin) = (stage.fleet.clone(), stage.token.clone(), stage.admin.clone());
        stage.run(&format!("begin; select 1 from cf_subjects where subject = '{}' for update;", token.subject));
        let (personal, ended) = tokio::join!(fleet.personal(stage.seat, &token), async {
            stage.until_waiting(1).await;
            let ended = fleet.change(stage.seat, By::Admin(&admin), &Effect::EndSession(token.sid.clone())).await;
            stage.run("rollback;");
            ended
        });
        assert_eq!((personal.len(), ended), (0, Outcome::Done));
        let left = "select count(*) from cf_tokens t join cf_sessions s on s.sid = t.sid \
            where t.label = 'script' and t.revoked_at is null and s.ended_at is null";
        assert_eq!(stage.sql(left), "0");
    });
}

/// Two keys are retired at once: the one that signs, and the one that would take its place.
#[test]
fn the_current_key_and_the_next_are_retired_at_once() {
    run(async {
        let stage = Stage::new(|home| home).await;
        let (fleet, token) = (stage.fleet.clone(), stage.token.clone());
        let next: Id = stage.sql("select kid from cf_keys where state = 'next'").as_str().into();
        stage.run(&format!("begin; select 1 from cf_keys where kid = '{next}' for update;"));
        let (next, current) = (Effect::RetireKey(next), Effect::RetireKey(token.kid.clone()));
        let (one, other, ()) = tokio::join!(
            fleet.command(&next, Tamper::Nothing),
            async {
                stage.until_waiting(1).await;
                fleet.command(&current, Tamper::Nothing).await
            },
            async {
                stage.until_waiting(2).await;
                stage.run("rollback;");
            }
        );
        assert_eq!((one, other), (Outcome::Done, Outcome::Done));
    });
}

/// Tokens are issued for a subject that a purge is just removing.
#[test]
fn a_subject_that_is_being_removed_gets_its_tokens() {
    run(async {
        let stage = Stage::new(|home| home.set("SESSIONS__MAX", "2")).await;
        let (fleet, key) = (stage.fleet.clone(), Id::from("key"));
        assert_eq!(stage.sql("insert into cf_subjects (subject) values ('zoe') returning 1"), "1");
        let issue = async {
            let tokens = fleet.issue_once(stage.seat, "zoe", &key, None).await;
            if tokens.is_empty() { Outcome::Not } else { Outcome::Done }
        };
        stage.run("begin; select 1 from cf_subjects where subject = 'zoe' for update;");
        let outcome = stage.then("delete from cf_subjects where subject = 'zoe'; commit;", issue).await;
        assert_eq!(outcome, Outcome::Done);
    });
}

/// Who is no client any more by the time that the database has to note what it asks for is told so.
#[test]
fn a_client_that_is_being_deleted_is_no_client() {
    run(async {
        let stage = Stage::new(|home| home).await;
        let shop = &stage.fleet.shop;
        let ask = async {
            let request = stage.fleet.http.post(format!("http://127.0.0.1:{}/tokens", stage.seat.port));
            let request = request.basic_auth(&shop.id, Some(&shop.secret)).header("Idempotency-Key", "key");
            let answer = request.json(&json!({ "subject": "zoe" })).send().await.unwrap();
            if answer.status().as_u16() == 401 { Outcome::Not } else { panic!("{answer:?}") }
        };
        let delete = format!("delete from cf_clients where client_id = '{}';", shop.id);
        assert_eq!(stage.meanwhile(&delete, ask).await, Outcome::Not);
    });
}

/// A table is emptied by somebody who waits for another change: whoever has heard of that one forgets everything all
/// the same.
#[test]
fn a_table_that_is_emptied_beside_another_change_is_noticed() {
    run(async {
        let stage = Stage::new(|home| home).await;
        stage.run(
            "begin; update cf_position set seq = seq + 1, change = gen_random_uuid(); \
            insert into cf_changes (seq, change, kind, target, at) select seq, change, 'key', '', 0 from cf_position;",
        );
        let position = stage.sql("select seq + 1 from cf_position");
        let mut emptier = stage.cluster.psql(DATABASE);
        let emptying = spawn_blocking(move || {
            assert!(emptier.run("begin isolation level read committed; truncate cf_tokens;"));
            emptier
        });
        stage.until_waiting(1).await;
        stage.run("commit;");
        let mut emptier = emptying.await.unwrap();
        // Both servers have heard of the one change when the other is made.
        stage.until("select min(applied) from cf_replicas", &position).await;
        assert!(block_in_place(|| emptier.run("commit;")));
        // That is not on the registry any more.
        let check = async || stage.fleet.check(stage.seat, &stage.token, Setting::Alone).await;
        until("the token is unknown", async || check().await == Some(Verdict::Unknown)).await;
    });
}
