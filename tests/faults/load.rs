//! The run with everything at once: clients, operators and faults, and the judgement of what they saw.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::fleet::Fleet;
use super::history::{Id, Setting, Verdict};
use super::inject::{Counts, Injector, TO_POSTGRES, TO_REPLICAS, TO_REVOKERS, TO_SQLITE};
use super::judge::judge;
use super::proxy::Proxy;
use super::report::{presented, report};
use super::work::{Client, Pool, operate};
use super::{ADMIN, BEHIND_PROXY, DATABASE, REPLICAS, SMALL_POOL, stage};
use crate::support::postgres::Cluster;
use crate::support::random::Random;
use crate::support::{Database, on_both};

const CLIENTS: usize = 16;

on_both! {
    async fn load(database: Database) {
        let seed = from_environment("FAULTS_SEED").unwrap_or(3);
        let (postgres, short) = match database {
            Database::Postgres => (Some(Arc::new(stage::postgres_with_loose_clock().await)), Duration::from_secs(12)),
            Database::Sqlite => (None, Duration::from_secs(5)),
        };
        let length = from_environment("FAULTS_SECONDS").map_or(short, Duration::from_secs);
        // Shown where the test fails, wherever that is: every run says how it can be repeated.
        let title = format!("faults on {database:?}, {length:?}, seed {seed}");
        println!("{title}");

        let url = postgres.as_ref().map(|postgres| postgres.0.url(DATABASE));
        let fleet = Fleet::start(stage::home(url.as_deref()), settings(postgres.as_deref())).await;
        let (pool, counts) = (Arc::new(Pool::default()), Counts::default());
        let stop = Arc::new(AtomicBool::new(false));
        let random = |salt: u64| Random::new(seed.wrapping_mul(1_000).wrapping_add(salt));

        let mut workers = JoinSet::new();
        for index in 0..CLIENTS {
            workers.spawn(Client::new(&fleet, &pool, seed.wrapping_mul(1_000), index).work(stop.clone()));
        }
        workers.spawn(operate(fleet.clone(), pool.clone(), random(100), stop.clone()));
        let to_database = if postgres.is_some() { TO_POSTGRES } else { TO_SQLITE };
        let mut lanes = JoinSet::new();
        for (salt, faults) in [(200, TO_REPLICAS), (201, TO_REVOKERS), (202, to_database)] {
            let (fleet, pool, postgres, counts) = (fleet.clone(), pool.clone(), postgres.clone(), counts.clone());
            let injector = Injector { fleet, pool, postgres, random: random(salt), counts };
            lanes.spawn(async move { injector.work(faults, length).await });
        }
        while let Some(lane) = lanes.join_next().await {
            lane.unwrap();
        }
        stop.store(true, Ordering::Release);
        while let Some(worker) = workers.join_next().await {
            worker.unwrap();
        }

        fleet.settle().await;
        for token in pool.sample(&mut random(300)) {
            for seat in fleet.seats() {
                fleet.look(seat, &token, Setting::Quiet).await;
            }
        }
        let listed = fleet.listed().await;
        let gateway = fleet.gateway(fleet.seats()[SMALL_POOL]).await;
        let mut history = fleet.take_history();
        history.listed = Some(listed);
        history.gateway = Some(gateway);
        let violations = judge(&history);
        let errors = fleet.errors();
        let text = report(&title, &history, &counts, &violations, &errors);
        print!("{text}");
        assert!(violations.is_empty() && errors.is_empty(), "{text}");
        for verdict in [Verdict::Accepted, Verdict::Revoked] {
            assert!(presented(&history, verdict) > 100, "too little was done to say anything: {text}");
        }
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// What the settings of each replica have of their own.
fn settings(postgres: Option<&(Cluster, Proxy)>) -> Vec<Vec<(&'static str, String)>> {
    let mut settings = vec![Vec::new(); REPLICAS];
    settings[SMALL_POOL].push(("COUNTERFOIL_DATABASE_POOL", "2".to_owned()));
    if let Some((cluster, proxy)) = postgres {
        let url = stage::url_through(cluster, proxy);
        settings[BEHIND_PROXY].push(("COUNTERFOIL_DATABASE_URL", url));
    }
    settings
}

impl Fleet {
    /// Every token on the registry.
    async fn listed(&self) -> HashSet<Id> {
        let seat = self.seats()[SMALL_POOL];
        let admin = self.log_in(seat, ADMIN).await.remove(0);
        let (mut listed, mut path) = (HashSet::new(), Some("/auth/all-tokens?limit=1000".to_owned()));
        while let Some(page) = path {
            let (tokens, next) = self.page(seat, &page, &admin).await;
            listed.extend(tokens);
            path = next;
        }
        listed
    }
}
