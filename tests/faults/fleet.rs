//! The servers: several replicas on one database, each of which may be stopped, killed, started again, or be two
//! processes for a while; and what was asked of them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, block_in_place};

use super::history::{Call, History, Life, SECOND, Time};
use super::{HAS_LEASES, LEASE};
use crate::support::client::ClientSecret;
use crate::support::process::{Home, PATIENCE, Serving};

/// A server process that can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) replica: usize,
    /// Its number in the history.
    pub(super) process: usize,
    pub(super) port: u16,
}

/// One set of settings, and the processes that run with it: one as a rule.
pub(super) struct Replica {
    env: Vec<(&'static str, String)>,
    running: Mutex<Vec<(Seat, Serving)>>,
}

pub(super) struct Fleet {
    pub(super) home: Home,
    pub(super) http: reqwest::Client,
    /// An application that may have tokens issued.
    pub(super) shop: ClientSecret,
    replicas: Vec<Replica>,
    /// The last replica, where it asks the database every time.
    strict: Option<usize>,
    began: Instant,
    history: Mutex<History>,
    /// What the processes that have ended wrote of errors.
    errors: Mutex<Vec<String>>,
}

impl Fleet {
    /// Starts as many replicas as there are settings, and a strict one where the server knows of that.
    pub(super) async fn start(home: Home, mut replicas: Vec<Vec<(&'static str, String)>>) -> Arc<Self> {
        let strict = HAS_LEASES.then_some(replicas.len());
        if HAS_LEASES {
            replicas.push(vec![("COUNTERFOIL_CONSISTENCY", "strict".to_owned())]);
        }
        let replicas = replicas.into_iter().map(|env| Replica { env, running: Mutex::default() }).collect();
        // Idle connections go before the servers close them. No proxy of the environment: it would be asked too.
        let http = reqwest::Client::builder().no_proxy().pool_idle_timeout(Duration::from_secs(2)).timeout(PATIENCE);
        let history = History { lease: LEASE.as_micros() as Time, ..History::default() };
        let (http, began) = (http.build().unwrap(), Instant::now());
        let shop =
            home.run(&["client", "add", "shop", "--scope", "tokens:issue tokens:introspect", "--json"]).ok().json();
        let fleet = Arc::new(Self {
            home,
            http,
            shop: ClientSecret::of(&shop),
            replicas,
            strict,
            began,
            history: Mutex::new(history),
            errors: Mutex::default(),
        });
        let mut starting = JoinSet::new();
        for replica in 0..fleet.replicas.len() {
            let fleet = fleet.clone();
            starting.spawn(async move { fleet.launch(replica).await });
        }
        while let Some(started) = starting.join_next().await {
            started.unwrap();
        }
        fleet
    }

    pub(super) fn now(&self) -> Time {
        self.began.elapsed().as_micros() as Time
    }

    /// The processes that can be asked.
    pub(super) fn seats(&self) -> Vec<Seat> {
        let seats = self.replicas.iter().map(|replica| replica.running.lock().unwrap());
        seats.flat_map(|running| running.iter().map(|(seat, _)| *seat).collect::<Vec<_>>()).collect()
    }

    /// The processes of one replica, the oldest first.
    pub(super) fn seats_of(&self, replica: usize) -> Vec<Seat> {
        self.seats().into_iter().filter(|seat| seat.replica == replica).collect()
    }

    /// The process that asks the database every time.
    pub(super) fn strict_seat(&self) -> Option<Seat> {
        self.strict.and_then(|replica| self.seats_of(replica).first().copied())
    }

    pub(super) fn record(&self, call: Call) {
        self.history.lock().unwrap().calls.push(call);
    }

    pub(super) fn take_history(&self) -> History {
        std::mem::take(&mut self.history.lock().unwrap())
    }

    fn life<T>(&self, seat: Seat, change: impl FnOnce(&mut Life) -> T) -> T {
        change(&mut self.history.lock().unwrap().processes[seat.process])
    }

    /// Starts a process of this replica, as a supervisor would: until it runs, since the database may be away.
    pub(super) async fn launch(&self, replica: usize) -> Seat {
        let env = &self.replicas[replica].env;
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let began = Instant::now();
        loop {
            match block_in_place(|| self.home.try_serve_with(&env)) {
                Ok(serving) => return self.admit(replica, serving),
                Err(why) => assert!(began.elapsed() < PATIENCE, "{why}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn admit(&self, replica: usize, serving: Serving) -> Seat {
        let mut history = self.history.lock().unwrap();
        history.processes.push(Life::default());
        let seat = Seat { replica, process: history.processes.len() - 1, port: serving.port() };
        self.replicas[replica].running.lock().unwrap().push((seat, serving));
        seat
    }

    /// Ends a process with a signal, and returns when it is gone.
    pub(super) fn end(&self, seat: Seat, signal: &str) {
        let mut running = self.replicas[seat.replica].running.lock().unwrap();
        let Some(index) = running.iter().position(|(known, _)| *known == seat) else { return };
        let (_, mut serving) = running.remove(index);
        // Nobody waits for the list of processes while this one ends.
        drop(running);
        serving.signal(signal);
        block_in_place(|| serving.wait());
        let now = self.now();
        self.life(seat, |life| life.died = Some(now));
        self.errors.lock().unwrap().extend(errors(seat, &serving.log()));
    }

    /// Stops a process for so long.
    pub(super) async fn pause(&self, seat: Seat, length: Duration) {
        let from = self.now();
        if !self.signal(seat, "STOP") {
            return;
        }
        // Until it goes on, it is stopped for whoever looks meanwhile.
        let index = self.life(seat, |life| {
            life.stops.push((from, Time::MAX));
            life.stops.len() - 1
        });
        tokio::time::sleep(length).await;
        self.signal(seat, "CONT");
        let to = self.now();
        self.life(seat, |life| life.stops[index].1 = to);
    }

    fn signal(&self, seat: Seat, signal: &str) -> bool {
        let running = self.replicas[seat.replica].running.lock().unwrap();
        let serving = running.iter().find(|(known, _)| *known == seat);
        serving.is_some_and(|(_, serving)| {
            serving.signal(signal);
            true
        })
    }

    /// Waits until every process says that it is ready, and until leases of before have run out.
    pub(super) async fn settle(&self) {
        let began = Instant::now();
        for seat in self.seats() {
            let url = format!("http://127.0.0.1:{}/readyz", seat.port);
            while !self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                let log = self.logs(seat);
                assert!(began.elapsed() < PATIENCE, "{seat:?} does not get ready again\n{log}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        tokio::time::sleep(LEASE + Duration::from_millis(500)).await;
    }

    /// Whether it is a while since something began, in the history's time.
    pub(super) fn is_past(&self, since: Time, length: Duration) -> bool {
        self.now().saturating_sub(since) > length.as_secs() * SECOND
    }

    fn logs(&self, seat: Seat) -> String {
        let running = self.replicas[seat.replica].running.lock().unwrap();
        running.iter().filter(|(known, _)| *known == seat).map(|(_, serving)| serving.log()).collect()
    }

    /// What all processes wrote of errors.
    pub(super) fn errors(&self) -> Vec<String> {
        let running = self.seats().into_iter().flat_map(|seat| errors(seat, &self.logs(seat)));
        self.errors.lock().unwrap().iter().cloned().chain(running).collect()
    }
}

/// Panics and the server's own errors: the driver calls every broken connection one.
fn errors(seat: Seat, log: &str) -> Vec<String> {
    let is_error = |line: &str| line.contains(r#""level":"ERROR""#) && line.contains(r#""target":"counterfoil"#);
    let lines = log.lines().filter(|line| line.contains("panicked") || is_error(line));
    lines.map(|line| format!("process {}: {line}", seat.process)).collect()
}
