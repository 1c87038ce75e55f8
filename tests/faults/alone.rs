//! Faults that show most by themselves, where it is certain what must come of them.

use std::time::{Duration, Instant};

use tokio::task::{JoinSet, block_in_place};

use super::calls::{By, Token};
use super::commands::Tamper;
use super::fleet::Fleet;
use super::history::{Effect, Outcome, Setting, Verdict};
use super::judge::judge;
use super::proxy::Link;
use super::{ADMIN, DATABASE, HAS_LEASES, LEASE, REPLICAS, USERS, stage};
use crate::support::process::PATIENCE;
use crate::support::{Database, on_both, postgres, run};

/// How often what depends on a moment is tried.
const ROUNDS: usize = 2;
/// A user whose password takes long to check.
const SLOW: &str = "dora";

on_both! {
    /// A replica is stopped, so that whoever revokes has to wait for it; then the revoker dies. Whoever tries again has
    /// no answer before all servers refuse the token.
    async fn a_revoker_that_is_killed_before_it_answers_can_be_repeated(database: Database) {
        let url = (database == Database::Postgres).then(postgres::database);
        let fleet = Fleet::start(stage::home(url.as_deref()), vec![Vec::new(); REPLICAS]).await;
        let admin = fleet.log_in(fleet.seats()[0], ADMIN).await.remove(0);
        let mut between = 0;
        for round in 0..2 * ROUNDS {
            let token = fleet.log_in(fleet.seats()[0], USERS[0]).await.remove(0);
            expect(&fleet, &token, Verdict::Accepted).await;
            let (watcher, stopped, revoker) = (fleet.seats_of(0)[0], fleet.seats_of(1)[0], fleet.seats_of(2)[0]);
            let revoke = Effect::Revoke(token.jti.clone());
            let kill = async {
                let outcome = if round % 2 == 0 {
                    fleet.command(&revoke, Tamper::KillOnceRefused(watcher, &token)).await
                } else {
                    let change = fleet.change(revoker, By::Admin(&admin), &revoke);
                    let (outcome, ()) = tokio::join!(change, async {
                        fleet.wait_until_refused(watcher, &token).await;
                        fleet.end(revoker, "KILL");
                    });
                    fleet.launch(revoker.replica).await;
                    outcome
                };
                between += usize::from(outcome == Outcome::Perhaps);
                // The stopped replica may still accept it, and nobody has said otherwise.
                retry(&fleet, &admin, &revoke, round % 2 == 0).await
            };
            // Stopped first, and for less than its lease, so that nobody may pass it over.
            let ((), retried) = tokio::join!(fleet.pause(stopped, LEASE / 2), kill);
            if retried == Outcome::Done {
                expect(&fleet, &token, Verdict::Revoked).await;
            }
        }
        // Without leases nobody waits, and the death comes too late as a rule.
        assert!(!HAS_LEASES || between > 0, "no revoker died between commit and acknowledgement");
        let violations = judge(&fleet.take_history());
        assert!(violations.is_empty(), "{violations:#?}");
    }
}

/// Revokes again, with the command line or at the first server.
async fn retry(fleet: &Fleet, admin: &Token, revoke: &Effect, is_command: bool) -> Outcome {
    let outcome = match is_command {
        true => fleet.command(revoke, Tamper::Nothing).await,
        false => fleet.change(fleet.seats_of(0)[0], By::Admin(admin), revoke).await,
    };
    assert!(matches!(outcome, Outcome::Done | Outcome::Committed), "{outcome:?}");
    outcome
}

/// A log-in that began before a revoke-all, and has its credentials still checked when that is acknowledged, leaves
/// nothing behind it.
#[test]
fn a_log_in_does_not_outlive_a_revoke_all_that_overtakes_it() {
    run(async {
        let (cluster, proxy) = stage::postgres().await;
        // Slow enough for the revoke-all to come in between; the users that are there already don't matter.
        let home = stage::home(Some(&cluster.url(DATABASE)));
        let home = home.set("PASSWORD__MEMORY_KIB", "32768").set("PASSWORD__ITERATIONS", "40");
        home.add_user(SLOW);
        let through = ("COUNTERFOIL_DATABASE_URL", stage::url_through(&cluster, &proxy));
        let fleet = Fleet::start(home, vec![vec![through]]).await;
        let seat = fleet.seats()[0];
        let mut overtaken = 0;
        for _ in 0..ROUNDS {
            let sql = |sql: &str| block_in_place(|| cluster.sql(DATABASE, sql));
            let before = sql("select clock_timestamp()");
            let mut log_in = JoinSet::new();
            let asking = fleet.clone();
            log_in.spawn(async move { asking.log_in(seat, SLOW).await });
            // The generation is what a log-in reads first, and what its end is held against; the user comes next. That
            // a statement is shown doesn't mean that it has run: it may only have been prepared.
            let has_begun = format!(
                "select count(*) from pg_stat_activity where application_name = 'counterfoil' \
                and query like '%from cf_users where username%' and query_start > '{before}'"
            );
            let began = Instant::now();
            while log_in.try_join_next().is_none() && sql(&has_begun) == "0" {
                assert!(began.elapsed() < PATIENCE, "the log-in does not begin");
            }
            proxy.set(Link::Stalled);
            let end = Effect::EndAll { subject: SLOW.into(), keep: None };
            assert_eq!(fleet.command(&end, Tamper::Nothing).await, Outcome::Done);
            overtaken += log_in.len();
            proxy.set(Link::Open);
            let tokens = log_in.join_next().await.map(Result::unwrap).unwrap_or_default();
            for token in tokens.iter().filter(|token| !token.is_refresh) {
                expect(&fleet, token, Verdict::Revoked).await;
            }
        }
        assert!(overtaken > 0, "each log-in was over too soon");
        let violations = judge(&fleet.take_history());
        assert!(violations.is_empty(), "{violations:#?}");
    });
}

/// A database whose clock is wrong, by however much, is still a database: nothing but the purge goes by its time.
#[test]
fn no_revocation_fails_because_of_the_database_clock() {
    run(async {
        let (cluster, _proxy) = stage::postgres_with_loose_clock().await;
        let fleet = Fleet::start(stage::home(Some(&cluster.url(DATABASE))), vec![Vec::new(); 2]).await;
        let seats = fleet.seats();
        let kept = fleet.log_in(seats[0], USERS[1]).await.remove(0);
        for step in [3, -3, 3_600, -3_600, 31_536_000, -31_536_000, 0] {
            block_in_place(|| cluster.step_clock(step));
            let caller = fleet.log_in(seats[0], USERS[0]).await.remove(0);
            let token = fleet.log_in(seats[1], USERS[0]).await.remove(0);
            expect(&fleet, &token, Verdict::Accepted).await;
            let changes = [
                (Effect::Revoke(token.jti.clone()), Verdict::Revoked),
                (Effect::Unrevoke(token.jti.clone()), Verdict::Accepted),
                (Effect::EndSession(token.sid.clone()), Verdict::Revoked),
            ];
            for (change, verdict) in changes {
                assert_eq!(
                    fleet.change(seats[0], By::User(&caller), &change).await,
                    Outcome::Done,
                    "{step} {change:?}"
                );
                expect(&fleet, &token, verdict).await;
            }
            // Several purges may come, and take nothing that has not expired.
            tokio::time::sleep(Duration::from_millis(300)).await;
            expect(&fleet, &kept, Verdict::Accepted).await;
        }
        let violations = judge(&fleet.take_history());
        assert!(violations.is_empty(), "{violations:#?}");
    });
}

/// A server that can't reach its database says so, and nothing else, however its connections end.
#[test]
fn a_cut_link_is_an_outage_and_no_error() {
    run(async {
        let (cluster, proxy) = stage::postgres().await;
        let home = stage::home(Some(&stage::url_through(&cluster, &proxy)));
        let fleet = Fleet::start(home, vec![Vec::new()]).await;
        let seat = fleet.seats()[0];
        let token = fleet.log_in(seat, USERS[0]).await.remove(0);
        proxy.set(Link::Cut);
        // Past what its memory may answer.
        tokio::time::sleep(if HAS_LEASES { LEASE } else { Duration::ZERO }).await;
        // Several at once: some find a connection that has ended, others get none.
        let mut log_ins = JoinSet::new();
        for _ in 0..4 {
            let fleet = fleet.clone();
            log_ins.spawn(async move { fleet.log_in(seat, USERS[0]).await });
        }
        while let Some(tokens) = log_ins.join_next().await {
            assert!(tokens.unwrap().is_empty());
        }
        assert_eq!(fleet.check(seat, &token, Setting::Alone).await, Some(Verdict::Silent));
        proxy.set(Link::Open);
        fleet.settle().await;
        assert_eq!(fleet.check(seat, &token, Setting::Alone).await, Some(Verdict::Accepted));
        let violations = judge(&fleet.take_history());
        assert!(violations.is_empty(), "{violations:#?}");
    });
}

/// Every server says this of the token.
pub(super) async fn expect(fleet: &Fleet, token: &Token, verdict: Verdict) {
    for seat in fleet.seats() {
        assert_eq!(fleet.check(seat, token, Setting::Alone).await, Some(verdict), "{seat:?}");
    }
}
