//! The faults that are injected while clients work, one function each.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::{JoinSet, block_in_place};

use super::calls::By;
use super::commands::Tamper;
use super::fleet::Fleet;
use super::history::{Effect, Outcome};
use super::proxy::{Link, Proxy};
use super::work::{Pool, check_everywhere};
use super::{ADMIN, DATABASE, LEASE, SMALL_POOL, USERS};
use crate::support::postgres::Cluster;
use crate::support::random::Random;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    StopBriefly,
    StopPastTheLease,
    KillReplica,
    OverlapTwoStarts,
    FreezeReplica,
    DelayLink,
    StallLink,
    CutLink,
    KillDatabase,
    DropListeners,
    FillPool,
    HoldRow,
    FreezeInTransaction,
    StepClock,
    HoldFile,
    FreezeRevoker,
    KillRevoker,
    RetireKey,
    RotateKeys,
    TakeScope,
    DisableUser,
}

/// What happens to the servers, whatever their database.
pub(super) const TO_REPLICAS: &[Fault] =
    &[Fault::StopBriefly, Fault::StopPastTheLease, Fault::KillReplica, Fault::OverlapTwoStarts, Fault::FreezeReplica];
/// What happens to those who make changes.
pub(super) const TO_REVOKERS: &[Fault] = &[
    Fault::FreezeRevoker,
    Fault::KillRevoker,
    Fault::RetireKey,
    Fault::RotateKeys,
    Fault::TakeScope,
    Fault::DisableUser,
];
pub(super) const TO_POSTGRES: &[Fault] = &[
    Fault::DelayLink,
    Fault::StallLink,
    Fault::CutLink,
    Fault::KillDatabase,
    Fault::DropListeners,
    Fault::FillPool,
    Fault::HoldRow,
    Fault::FreezeInTransaction,
    Fault::StepClock,
];
pub(super) const TO_SQLITE: &[Fault] = &[Fault::HoldFile];

/// How often each fault was injected.
pub(super) type Counts = Arc<Mutex<BTreeMap<Fault, u32>>>;

/// One who injects faults, one after the other.
pub(super) struct Injector {
    pub(super) fleet: Arc<Fleet>,
    pub(super) pool: Arc<Pool>,
    /// The PostgreSQL server, and the proxy in front of it; neither with SQLite.
    pub(super) postgres: Option<Arc<(Cluster, Proxy)>>,
    pub(super) random: Random,
    pub(super) counts: Counts,
}

impl Injector {
    /// Injects these faults in an order of its own, again and again, each once at least.
    pub(super) async fn work(mut self, faults: &[Fault], length: Duration) {
        let mut faults = faults.to_vec();
        let began = self.fleet.now();
        loop {
            self.random.shuffle(&mut faults);
            for fault in &faults {
                self.inject(*fault).await;
                *self.counts.lock().unwrap().entry(*fault).or_default() += 1;
                tokio::time::sleep(self.millis(100, 400)).await;
            }
            if self.fleet.is_past(began, length) {
                return;
            }
        }
    }

    async fn inject(&mut self, fault: Fault) {
        match fault {
            Fault::StopBriefly => self.stop_briefly().await,
            Fault::StopPastTheLease => self.stop_past_the_lease().await,
            Fault::KillReplica => self.kill_replica().await,
            Fault::OverlapTwoStarts => self.overlap_two_starts().await,
            Fault::FreezeReplica => self.freeze_replica().await,
            Fault::DelayLink => self.delay_link().await,
            Fault::StallLink => self.stall_link().await,
            Fault::CutLink => self.cut_link().await,
            Fault::KillDatabase => self.kill_database().await,
            Fault::DropListeners => self.drop_listeners(),
            Fault::FillPool => self.fill_pool().await,
            Fault::HoldRow => self.hold_row().await,
            Fault::FreezeInTransaction => self.freeze_in_transaction().await,
            Fault::StepClock => self.step_clock().await,
            Fault::HoldFile => self.hold_file().await,
            Fault::FreezeRevoker => self.freeze_revoker().await,
            Fault::KillRevoker => self.kill_revoker().await,
            Fault::RetireKey => self.retire_key().await,
            Fault::RotateKeys => self.rotate_keys().await,
            Fault::TakeScope => self.take_scope().await,
            Fault::DisableUser => self.disable_user().await,
        }
    }

    /// A replica that does nothing for a part of its lease may answer from memory when it goes on.
    async fn stop_briefly(&mut self) {
        let length = self.millis(100, 1_500);
        self.pause_one(length).await;
    }

    /// A replica that does nothing for longer than its lease must not answer from memory when it goes on.
    async fn stop_past_the_lease(&mut self) {
        let length = LEASE + self.millis(200, 1_200);
        self.pause_one(length).await;
    }

    async fn pause_one(&mut self, length: Duration) {
        let seats = self.fleet.seats();
        let seat = *self.random.pick(&seats);
        self.fleet.pause(seat, length).await;
    }

    /// A replica dies with its lease, and another process takes its place with nothing in memory.
    async fn kill_replica(&mut self) {
        let seats = self.fleet.seats();
        let seat = *self.random.pick(&seats);
        self.fleet.end(seat, "KILL");
        tokio::time::sleep(self.millis(0, 800)).await;
        self.fleet.launch(seat.replica).await;
    }

    /// Two processes with the same settings serve side by side until the first ends, killed or in good order: neither
    /// may pass for the other.
    async fn overlap_two_starts(&mut self) {
        let seats = self.fleet.seats();
        let first = *self.random.pick(&seats);
        self.fleet.launch(first.replica).await;
        tokio::time::sleep(self.millis(300, 1_000)).await;
        let signal = *self.random.pick(&["TERM", "KILL"]);
        self.fleet.end(first, signal);
    }

    /// A replica is stopped at any moment of a change that it makes.
    async fn freeze_replica(&mut self) {
        let seats = self.fleet.seats();
        let (seat, helper) = (*self.random.pick(&seats), *self.random.pick(&seats));
        let Some(admin) = self.fleet.log_in(helper, ADMIN).await.into_iter().next() else { return };
        for _ in 0..3 {
            let Some(token) = self.pool.access(&mut self.random) else { return };
            let (after, length) = (self.millis(0, 20), self.millis(100, 1_200));
            let revoke = Effect::Revoke(token.jti.clone());
            let (outcome, ()) = tokio::join!(self.fleet.change(seat, By::Admin(&admin), &revoke), async {
                tokio::time::sleep(after).await;
                self.fleet.pause(seat, length).await;
            });
            if outcome == Outcome::Done {
                check_everywhere(&self.fleet, &token).await;
            }
        }
    }

    /// One replica hears of everything late.
    async fn delay_link(&mut self) {
        let delay = self.millis(5, 150);
        self.with_link(Link::Slow(delay), 1_000, 2_000).await;
    }

    /// One replica hears of nothing for longer than its lease, and then of everything; what it sent arrives late too.
    async fn stall_link(&mut self) {
        let lease = LEASE.as_millis() as u64;
        self.with_link(Link::Stalled, lease + 200, lease + 1_500).await;
    }

    /// One replica's connections break, and it gets no new ones for a while.
    async fn cut_link(&mut self) {
        self.with_link(Link::Cut, 0, 1_000).await;
    }

    async fn with_link(&mut self, link: Link, least: u64, most: u64) {
        let postgres = self.postgres();
        postgres.1.set(link);
        tokio::time::sleep(self.millis(least, most)).await;
        postgres.1.set(Link::Open);
    }

    /// The database dies and comes back with all that was acknowledged.
    async fn kill_database(&mut self) {
        let postgres = self.postgres();
        block_in_place(|| postgres.0.kill());
        tokio::time::sleep(self.millis(0, 800)).await;
        block_in_place(|| postgres.0.start_again());
    }

    /// Whoever waits to be woken is not woken any more, and is not told so.
    fn drop_listeners(&mut self) {
        let listening = "from pg_stat_activity where query ilike 'listen%' and pid <> pg_backend_pid()";
        let sql = format!("select count(pg_terminate_backend(pid)) {listening}");
        block_in_place(|| self.postgres().0.sql(DATABASE, &sql));
    }

    /// Log-ins wait for a lock until the replica has no connection left for anybody else.
    async fn fill_pool(&mut self) {
        let postgres = self.postgres();
        let mut psql = postgres.0.psql(DATABASE);
        block_in_place(|| psql.run("begin; lock table cf_users in access exclusive mode;"));
        let mut log_ins = JoinSet::new();
        for seat in self.fleet.seats_of(SMALL_POOL).into_iter().take(1) {
            for user in USERS.iter().cycle().take(12) {
                let fleet = self.fleet.clone();
                log_ins.spawn(async move { fleet.log_in(seat, user).await });
            }
        }
        tokio::time::sleep(self.millis(800, 1_800)).await;
        block_in_place(|| psql.run("rollback;"));
        while let Some(tokens) = log_ins.join_next().await {
            self.pool.add(&tokens.unwrap());
        }
    }

    /// An idle session holds a token's row and its subject's, and with them everybody who would change them.
    async fn hold_row(&mut self) {
        let Some(token) = self.pool.access(&mut self.random) else { return };
        let mut psql = self.postgres().0.psql(DATABASE);
        let rows = format!(
            "begin; select 1 from cf_subjects where subject = '{}' for update; \
            select 1 from cf_tokens where jti = '{}' for update;",
            token.subject, token.jti
        );
        block_in_place(|| psql.run(&rows));
        let (revoke, length) = (Effect::Revoke(token.jti.clone()), self.millis(500, 3_000));
        let command = self.fleet.command(&revoke, Tamper::Nothing);
        let (outcome, ()) = tokio::join!(command, async {
            tokio::time::sleep(length).await;
            block_in_place(|| psql.run("rollback;"));
        });
        if outcome == Outcome::Done {
            check_everywhere(&self.fleet, &token).await;
        }
    }

    /// The command line is stopped while its transaction waits for a row, and so holds the row when it gets it.
    async fn freeze_in_transaction(&mut self) {
        let Some(token) = self.pool.access(&mut self.random) else { return };
        let postgres = self.postgres();
        let mut psql = postgres.0.psql(DATABASE);
        let row = format!("begin; select 1 from cf_tokens where jti = '{}' for update;", token.jti);
        block_in_place(|| psql.run(&row));
        let (now, length, revoke) = (Notify::new(), self.millis(800, 3_000), Effect::Revoke(token.jti.clone()));
        let command = self.fleet.command(&revoke, Tamper::FreezeOn(&now, length));
        let (outcome, ()) = tokio::join!(command, async {
            // It may be somebody else who waits; then this was another fault, and no worse.
            let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
            let began = Instant::now();
            while began.elapsed() < LEASE && block_in_place(|| postgres.0.sql(DATABASE, waiting)) == "0" {
                tokio::task::yield_now().await;
            }
            now.notify_one();
            tokio::time::sleep(Duration::from_millis(50)).await;
            block_in_place(|| psql.run("rollback;"));
        });
        if outcome == Outcome::Done {
            check_everywhere(&self.fleet, &token).await;
        }
    }

    /// The database's clock jumps, and some time later back.
    async fn step_clock(&mut self) {
        let postgres = self.postgres();
        let step = *self.random.pick(&[-86_400, -300, -5, 5, 300, 86_400, 8_640_000]);
        block_in_place(|| postgres.0.step_clock(step));
        tokio::time::sleep(self.millis(500, 2_000)).await;
        block_in_place(|| postgres.0.step_clock(0));
    }

    /// Another program holds the SQLite file, so that nobody else can write.
    async fn hold_file(&mut self) {
        let mut holder = Holder::start(&self.fleet.home.path("registry.db").to_string_lossy());
        tokio::time::sleep(self.millis(300, 2_000)).await;
        holder.end();
        // So that something is written at all.
        tokio::time::sleep(self.millis(500, 1_500)).await;
    }

    fn postgres(&self) -> Arc<(Cluster, Proxy)> {
        self.postgres.clone().unwrap()
    }

    pub(super) fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.random.below((most - least) as usize) as u64)
    }
}

/// A `sqlite3` that holds a file's write lock. It is killed when it is dropped.
struct Holder(Child);

impl Holder {
    fn start(file: &str) -> Self {
        let mut sqlite = Command::new("sqlite3");
        sqlite.args(["-bail", "-cmd", ".timeout 2000", "-cmd", "begin immediate", file]);
        sqlite.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(sqlite.spawn().expect("sqlite3 can be run"))
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.end();
    }
}
