//! A standby that lacks the last commits takes its primary's place.
//!
//! What was acknowledged and then lost is lost: the documentation says so. Everything from before and from after holds
//! at every server, and no server goes on with what it learned from commits that are gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::{JoinSet, block_in_place};

use super::calls::{By, Token};
use super::fleet::Fleet;
use super::history::{Effect, Outcome, Setting, Verdict};
use super::judge::judge;
use super::proxy::{Link, Proxy};
use super::work::{Client, Pool};
use super::{ADMIN, DATABASE, REPLICAS, stage};
use crate::support::postgres::{Cluster, Standby};
use crate::support::random::Random;
use crate::support::run;
use crate::support::server::until;

const CLIENTS: usize = 4;
const SEED: u64 = 5;

#[test]
fn what_a_promoted_standby_has_holds_and_nothing_else_is_remembered() {
    run(async {
        let (cluster, proxy) = stage::postgres().await;
        let replication = Proxy::start(cluster.port()).await;
        let standby = block_in_place(|| cluster.standby(replication.port()));
        // The command line goes through the proxy too.
        let home = stage::home(Some(&stage::url_through(&cluster, &proxy)));
        let fleet = Fleet::start(home, vec![Vec::new(); REPLICAS]).await;

        let (pool, stop) = (Arc::new(Pool::default()), Arc::new(AtomicBool::new(false)));
        let mut clients = JoinSet::new();
        for index in 0..CLIENTS {
            clients.spawn(Client::new(&fleet, &pool, SEED, index).work(stop.clone()));
        }
        let caller = log_in(&fleet).await;
        let (kept, gone) = (log_in(&fleet).await, log_in(&fleet).await);
        must(&fleet, &caller, Effect::Revoke(kept.jti.clone())).await;
        tokio::time::sleep(Duration::from_secs(1)).await;

        // From here on commits are lost, perhaps.
        let from = fleet.now();
        let position = cluster.sql(DATABASE, "select pg_current_wal_flush_lsn()");
        wait_for(&standby, &position).await;
        replication.set(Link::Cut);
        must(&fleet, &caller, Effect::Unrevoke(kept.jti.clone())).await;
        must(&fleet, &caller, Effect::Revoke(gone.jti.clone())).await;
        let late = log_in(&fleet).await;
        for seat in fleet.seats() {
            assert_eq!(fleet.check(seat, &kept, Setting::Alone).await, Some(Verdict::Accepted));
            assert_eq!(fleet.check(seat, &gone, Setting::Alone).await, Some(Verdict::Revoked));
            assert_eq!(fleet.check(seat, &late, Setting::Alone).await, Some(Verdict::Accepted));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        fail_over(&cluster, &standby, &proxy);
        let back = fleet.now();

        tokio::time::sleep(Duration::from_secs(2)).await;
        stop.store(true, Ordering::Release);
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
        fleet.settle().await;
        for seat in fleet.seats() {
            assert_eq!(fleet.check(seat, &kept, Setting::Quiet).await, Some(Verdict::Revoked), "{seat:?}");
            assert_eq!(fleet.check(seat, &gone, Setting::Quiet).await, Some(Verdict::Accepted), "{seat:?}");
            assert_eq!(fleet.check(seat, &late, Setting::Quiet).await, Some(Verdict::Unknown), "{seat:?}");
        }
        for token in pool.sample(&mut Random::new(SEED)) {
            for seat in fleet.seats() {
                fleet.check(seat, &token, Setting::Quiet).await;
            }
        }
        must(&fleet, &caller, Effect::Revoke(gone.jti.clone())).await;
        for seat in fleet.seats() {
            assert_eq!(fleet.check(seat, &gone, Setting::Alone).await, Some(Verdict::Revoked), "{seat:?}");
        }
        let mut history = fleet.take_history();
        history.lost = Some((from, back));
        let violations = judge(&history);
        assert!(violations.is_empty(), "{violations:#?}");
        assert!(fleet.errors().is_empty(), "{:#?}", fleet.errors());
    });
}

/// The primary dies, and whoever asks for it finds the standby.
fn fail_over(cluster: &Cluster, standby: &Standby, proxy: &Proxy) {
    block_in_place(|| {
        cluster.kill();
        standby.promote();
    });
    proxy.lead_to(standby.port());
}

/// Waits until the standby has everything up to a position.
async fn wait_for(standby: &Standby, position: &str) {
    let sql = format!("select pg_last_wal_receive_lsn() >= '{position}'");
    until("the standby follows", async || block_in_place(|| standby.sql("postgres", &sql)) == "t").await;
}

/// An access token of a user that no client works as, so that only this test changes it.
async fn log_in(fleet: &Fleet) -> Token {
    fleet.log_in(fleet.seats()[0], ADMIN).await.remove(0)
}

async fn must(fleet: &Fleet, caller: &Token, effect: Effect) {
    let outcome = fleet.change(fleet.seats()[0], By::User(caller), &effect).await;
    assert_eq!(outcome, Outcome::Done, "{effect:?}");
}
