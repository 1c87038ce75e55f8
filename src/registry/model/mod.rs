//! The protocol of `lease`, checked exhaustively: every order of steps that a few processes and their database can
//! take.
//!
//! Steps are split as finely as they are in the program: a process can stop between any two of them for any time,
//! answers are lost, processes and the database crash, clocks run at different speeds. What decides is the program's
//! own `Membership` and `Wait`; the rest of the program is modelled by its steps. The promise that is checked: no check
//! that began after a revocation was acknowledged accepts the token from memory.
//!
//! Time goes by in ticks, and everything that happens between two ticks happens at once, in any order. A lease is one
//! or two ticks long. A slow clock moves on by nine tenths of a tick, so a replica that used all of its lease would
//! overrun it.
//!
//! Not in the model: the table of stamps, which is replaced by what it is for (an entry or a fill whose token was to be
//! forgotten since its tick is no good); sessions, subjects and keys, since a change of any of them is one of tokens;
//! notifications, since a replica may ask whenever it likes. A change is visible as soon as it is durable. A restored
//! backup takes as long as the longest lease to come back; `Rule::RestoreTakesTime` shows why it has to.
//!
//! `configurations` checks the protocol as it is. `rules` takes one rule out at a time, and the checker has to find
//! what goes wrong without it: so no rule is there for nothing, and the model is fine enough to see what each is for.

mod actions;
mod changes;
mod configurations;
mod replicas;
mod rules;
mod world;

use std::time::Duration;

use stateright::{Model, Property};
use uuid::Uuid;

use crate::registry::lease::{Membership, Next};
use crate::token::News;
use actions::Action;
use configurations::Reach;
use rules::Rule;
use world::{Asking, Change, Database, Phase, Place, Process, RollName, Row, State, TICK, Tokens, uuid};

/// A process of a configuration.
#[derive(Debug, Clone, Copy)]
struct Setup {
    /// The length of its leases in ticks; zero for a process that is no replica, as the command line.
    lease_ticks: u8,
    is_slow: bool,
    /// It takes no step: it was stopped, and still has its lease.
    is_silent: bool,
    /// Whether it begins on the roll, with a lease; otherwise it has just started.
    has_joined: bool,
    /// Whether it begins with all tokens in its memory.
    remembers: bool,
}

impl Setup {
    const NEW: Self = Self { lease_ticks: 1, is_slow: true, is_silent: false, has_joined: false, remembers: false };
    const COMMAND_LINE: Self = Self { lease_ticks: 0, is_slow: false, ..Self::NEW };
    const EMPTY: Self = Self { has_joined: true, ..Self::NEW };
    const SLOW: Self = Self { remembers: true, ..Self::EMPTY };
    const FAST: Self = Self { is_slow: false, ..Self::SLOW };
    const LONG: Self = Self { lease_ticks: 2, ..Self::SLOW };
    const SILENT: Self = Self { is_silent: true, ..Self::SLOW };
}

/// A change that a process makes once in a run.
#[derive(Debug, Clone, Copy)]
struct Plan {
    process: usize,
    token: u8,
    is_revocation: bool,
    /// Whether the change before it has to be acknowledged first.
    is_next: bool,
    /// Whether who makes it dies of its commit.
    is_last: bool,
}

impl Plan {
    const fn revoke(process: usize, token: u8) -> Self {
        Self { process, token, is_revocation: true, is_next: false, is_last: false }
    }

    const fn unrevoke(process: usize, token: u8) -> Self {
        Self { is_revocation: false, ..Self::revoke(process, token) }
    }

    const fn last(self) -> Self {
        Self { is_last: true, ..self }
    }

    const fn next(self) -> Self {
        Self { is_next: true, ..self }
    }

    fn tokens(self) -> Tokens {
        1 << self.token
    }
}

/// What takes part, and how finely.
#[derive(Debug, Clone, Copy)]
struct Protocol {
    processes: &'static [Setup],
    plans: &'static [Plan],
    ticks: u8,
    /// How many ids a process can have, one after the other.
    lives: u8,
    /// Each process's clock may run slow or not, whatever its setup says.
    any_rate: bool,
    /// Forgetting and relying are steps of their own.
    is_fine: bool,
    /// The roll is read in one step, and looked at in another.
    reads_ahead: bool,
    /// Checks fill the memory, and stop between their two comparisons.
    has_checks: bool,
    /// The database takes the snapshot of a question before it changes the row; for one that was given up it still
    /// does.
    has_late_renewals: bool,
    loses_answers: bool,
    restarts: bool,
    leaves: bool,
    database_crashes: bool,
    restores: bool,
    /// There is a backup from before a replica that came and went.
    has_old_backup: bool,
    /// The log loses all but its last entry.
    trims: bool,
    /// Who knows to be alone on the roll doesn't look.
    knows_alone: bool,
    reaches: &'static [Reach],
    without: &'static [Rule],
}

impl Protocol {
    const BASE: Self = Self {
        processes: &[],
        plans: &[],
        ticks: 2,
        lives: 2,
        any_rate: false,
        is_fine: false,
        reads_ahead: false,
        has_checks: false,
        has_late_renewals: false,
        loses_answers: false,
        restarts: false,
        leaves: false,
        database_crashes: false,
        restores: false,
        has_old_backup: false,
        trims: false,
        knows_alone: false,
        reaches: &[],
        without: &[],
    };

    /// All tokens that there are.
    fn tokens(&self) -> Tokens {
        self.plans.iter().fold(0, |tokens, plan| tokens | plan.tokens())
    }

    fn lacks(&self, rule: Rule) -> bool {
        self.without.contains(&rule)
    }

    fn lease(&self, process: usize) -> Duration {
        TICK * u32::from(self.processes[process].lease_ticks)
    }

    /// The id of a process in one of its lives, the first of which is 1.
    fn id(process: usize, life: u8) -> u8 {
        u8::try_from(process).expect("few processes") * 8 + life
    }

    fn own(state: &State, process: usize) -> Option<Uuid> {
        state.processes[process].membership.as_ref().map(|membership| membership.id)
    }

    fn begin(&self, rates: u8) -> State {
        let start = Place { seq: 0, history: 0 };
        let mut state = State {
            ticks: 0,
            database: Database {
                log: Vec::new(),
                first: 0,
                roll: RollName { id: 0, number: 0 },
                rows: Vec::new(),
                revoked: 0,
            },
            durable: None,
            has_crashed: false,
            backup: None,
            history: 0,
            rolls: 0,
            late: None,
            processes: Vec::new(),
            changes: self.plans.iter().map(|_| Change { phase: Phase::Idle, is_void: false }).collect(),
            promised: 0,
        };
        if self.has_old_backup {
            state.backup = Some(state.database.clone());
            state.database.roll = state.new_roll();
        }
        for (process, setup) in self.processes.iter().enumerate() {
            let is_slow = if self.any_rate { rates & 1 << process != 0 } else { setup.is_slow };
            state.processes.push(Process {
                rate: if is_slow { 9 } else { 10 },
                lives: 0,
                membership: None,
                asking: Asking::Outside,
                until: Duration::ZERO,
                memory: 0,
                fill: None,
                check: 0,
                alone: None,
            });
            if !setup.has_joined {
                continue;
            }
            let id = Self::id(process, 1);
            let mut membership = Membership::joined(uuid(id), start.position(), self.lease(process));
            let renewal = News { position: start.position(), targets: Vec::new() };
            let Next::Follow { until: Some(until), .. } = membership.renewed(state.reading(process), Some(&renewal))
            else {
                unreachable!("a renewal gives a lease")
            };
            let new = &mut state.processes[process];
            *new = Process {
                lives: 1,
                membership: Some(membership),
                asking: Asking::Idle,
                until,
                memory: if setup.remembers { self.tokens() } else { 0 },
                ..new.clone()
            };
            let lease_ticks = setup.lease_ticks;
            state.database.rows.push(Row { id, lease_ticks, applied: 0, granted: 0 });
        }
        state
    }

    /// Makes one of all times that are past for good, so that states which differ in nothing else are the same.
    fn round(&self, state: &mut State, index: usize) {
        let (now, lease) = (state.reading(index), self.lease(index));
        let process = &mut state.processes[index];
        if now >= process.until {
            process.until = Duration::ZERO;
        }
        match &mut process.asking {
            Asking::Asked { at: Some(at) }
            | Asking::Seen { at: Some(at), .. }
            | Asking::Answered { at: Some(at), .. }
                if now >= *at + lease =>
            {
                *at = Duration::ZERO;
            }
            Asking::Told { until: Some(until), .. } | Asking::Forgot { until } if now >= *until => {
                *until = Duration::ZERO;
            }
            _ => {}
        }
    }

    /// Whether a check that began after the acknowledgement of a revocation is about to accept the token from memory.
    fn is_promise_broken(&self, state: &State) -> bool {
        (0..state.processes.len()).any(|index| {
            let process = &state.processes[index];
            let is_in_lease = state.is_in_lease(index);
            let is_at_second = if self.lacks(Rule::LeaseBeforeSlot) {
                is_in_lease && process.check != 0
            } else {
                process.check & process.memory != 0
            };
            is_at_second || (is_in_lease && process.memory & state.promised != 0)
        })
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let rates = if self.any_rate { 1 << self.processes.len() } else { 1 };
        (0..rates).map(|rates| self.begin(rates)).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.list(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        self.take(&mut state, action);
        for process in 0..self.processes.len() {
            self.round(&mut state, process);
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![Property::always("promise", |model: &Self, state| !model.is_promise_broken(state))];
        if self.without.is_empty() {
            properties.extend(configurations::reachable(self));
        }
        properties
    }
}
