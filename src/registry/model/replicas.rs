//! The steps of a replica: its leases, and the checks that use them.

use std::time::Duration;

use super::Protocol;
use super::actions::Action;
use super::rules::Rule;
use super::world::{Asking, Database, Fill, FillStep, Late, Phase, Process, Row, Snapshot, State, Tokens, short, uuid};
use crate::registry::lease::{Membership, Next};
use crate::token::{Jti, News, Target};

impl Process {
    pub(super) fn forget(&mut self, tokens: Tokens) {
        self.memory &= !tokens;
        if let Some(fill) = &mut self.fill {
            fill.is_stale |= tokens & 1 << fill.token != 0;
        }
    }
}

impl Protocol {
    pub(super) fn step_replica(&self, state: &mut State, index: usize, action: Action) {
        let now = state.reading(index);
        match (action, state.processes[index].asking) {
            (Action::Ask(_), _) => state.processes[index].asking = Asking::Asked { at: Some(now) },
            (Action::Hear(_), _) => state.processes[index].asking = Asking::Asked { at: None },
            (Action::See(_), Asking::Asked { at }) => {
                let snapshot = self.snapshot(state, index);
                state.processes[index].asking = Asking::Seen { at, snapshot };
            }
            (Action::Renew(_), Asking::Asked { at }) => {
                let snapshot = self.snapshot(state, index);
                self.renew(state, index, at, snapshot);
            }
            (Action::Renew(_), Asking::Seen { at, snapshot }) => self.renew(state, index, at, snapshot),
            (Action::Lose(_), Asking::Seen { at, snapshot }) => {
                if let Some(membership) = &state.processes[index].membership {
                    let applied = u8::try_from(membership.position.seq).expect("a short log");
                    let is_renewal = at.is_some();
                    state.late = Some(Late { id: short(membership.id), applied, is_renewal, snapshot });
                }
                state.processes[index].asking = Asking::Idle;
            }
            (Action::Lose(_), Asking::Joined { .. }) => state.processes[index].asking = Asking::Outside,
            (Action::Lose(_), _) => state.processes[index].asking = Asking::Idle,
            (Action::Answer(_), Asking::Answered { at, answer }) => self.answer(state, index, at, answer),
            (Action::Forget(_), Asking::Told { until, targets }) => {
                let process = &mut state.processes[index];
                process.forget(targets);
                process.asking = match until {
                    Some(until) if !self.lacks(Rule::ForgetBeforeRely) => Asking::Forgot { until },
                    _ => Asking::Idle,
                };
            }
            (Action::Rely(_), Asking::Forgot { until }) => {
                let process = &mut state.processes[index];
                process.until = until;
                process.asking = Asking::Idle;
            }
            (Action::Withdraw(_), Asking::Refused { is_half_done }) => self.withdraw(state, index, is_half_done),
            (Action::SeeToJoin(_), _) => {
                let place = state.database.place();
                state.processes[index].asking = Asking::Joining { at: now, place };
            }
            (Action::Join(_), _) => self.join(state, index, now),
            (Action::AnswerJoin(_), Asking::Joined { at, place }) => {
                let lease = self.lease(index);
                let process = &mut state.processes[index];
                // What was read before the row was there is not vouched for by it.
                if !self.lacks(Rule::ForgetAtJoin) {
                    process.forget(Tokens::MAX);
                }
                let id = uuid(Self::id(index, process.lives));
                let mut membership = Membership::joined(id, place.position(), lease);
                if self.lacks(Rule::NoLeaseWithJoin) {
                    let renewal = News { position: place.position(), targets: Vec::new() };
                    if let Next::Follow { until: Some(until), .. } = membership.renewed(at, Some(&renewal)) {
                        process.until = until;
                    }
                }
                process.membership = Some(membership);
                process.asking = Asking::Idle;
            }
            (Action::Restart(_), _) => {
                let process = &mut state.processes[index];
                *process = Process {
                    membership: None,
                    asking: Asking::Outside,
                    until: Duration::ZERO,
                    memory: 0,
                    fill: None,
                    check: 0,
                    alone: None,
                    ..*process
                };
                for (change, plan) in state.changes.iter_mut().zip(self.plans) {
                    if plan.process == index && !matches!(change.phase, Phase::Idle | Phase::Done) {
                        change.phase = Phase::Dead;
                    }
                }
            }
            (Action::Leave(_), _) => {
                let process = &mut state.processes[index];
                process.asking = Asking::Leaving;
                if !self.lacks(Rule::StopBeforeLeaving) {
                    process.until = Duration::ZERO;
                }
            }
            (Action::Remove(_), _) => {
                if let Some(own) = Self::own(state, index).map(short) {
                    state.commit_loosely(self.database_crashes, |database| database.rows.retain(|row| row.id != own));
                }
                state.processes[index].asking = Asking::Gone;
            }
            _ => {}
        }
    }

    fn snapshot(&self, state: &State, index: usize) -> Snapshot {
        let membership = state.processes[index].membership.as_ref().expect("only a member asks");
        let (position, own) = (membership.position, short(membership.id));
        let (place, log) = (state.database.place(), &state.database);
        let is_known =
            if self.lacks(Rule::RandomIds) { position.seq <= i64::from(place.seq) } else { log.holds(position) };
        let is_there = log.rows.iter().any(|row| row.id == own) || self.lacks(Rule::GoneIsRefused);
        Snapshot { place, targets: log.since(position.seq), is_known: is_known && is_there }
    }

    fn renew(&self, state: &mut State, index: usize, at: Option<Duration>, snapshot: Snapshot) {
        let membership = state.processes[index].membership.as_ref().expect("only a member asks");
        let applied = u8::try_from(membership.position.seq).expect("a short log");
        let is_accepted = self.change_row(state, short(membership.id), applied, at.is_some(), snapshot);
        let answer = is_accepted.then_some(snapshot);
        state.processes[index].asking = Asking::Answered { at, answer };
    }

    pub(super) fn land(&self, state: &mut State) {
        if let Some(Late { id, applied, is_renewal, snapshot }) = state.late.take() {
            self.change_row(state, id, applied, is_renewal, snapshot);
        }
    }

    /// What the statement of a question writes, and whether it found its row and its position. A renewal has to find
    /// the row where it changes it.
    fn change_row(&self, state: &mut State, id: u8, applied: u8, is_renewal: bool, snapshot: Snapshot) -> bool {
        if !snapshot.is_known {
            return false;
        }
        let Some(row) = state.database.row(id) else { return !is_renewal || self.lacks(Rule::GoneIsRefused) };
        if !is_renewal || self.lacks(Rule::LeaseByRenewal) {
            let row = *row;
            state.commit_loosely(self.database_crashes, |database| {
                *database.row(id).expect("it was there") = Row { applied, ..row };
            });
            return true;
        }
        let told = snapshot.place.seq;
        let granted = if self.lacks(Rule::GrantedOnlyGrows) { told } else { told.max(row.granted) };
        let is_durable = row.granted < told && !self.lacks(Rule::TellingIsDurable);
        let change = |database: &mut Database| {
            let row = database.row(id).expect("it was there");
            (row.applied, row.granted) = (applied, granted);
        };
        if is_durable {
            state.commit(change);
        } else {
            state.commit_loosely(self.database_crashes, change);
        }
        true
    }

    fn answer(&self, state: &mut State, index: usize, at: Option<Duration>, answer: Option<Snapshot>) {
        let (now, lease) = (state.reading(index), self.lease(index));
        let asked_at = if self.lacks(Rule::LeaseFromQuestion) { at.map(|_| now) } else { at };
        let process = &mut state.processes[index];
        let membership = process.membership.as_mut().expect("only a member asks");
        let news = answer.map(|snapshot| News {
            position: snapshot.place.position(),
            targets: (0..8).filter(|token| snapshot.targets & 1 << token != 0).map(target).collect(),
        });
        let next = match asked_at {
            Some(asked_at) => membership.renewed(asked_at, news.as_ref()),
            None => membership.heard(news.as_ref()),
        };
        let (until, targets) = match (next, answer) {
            (Next::Follow { until, .. }, Some(snapshot)) => (until, snapshot.targets),
            _ => {
                process.asking = Asking::Refused { is_half_done: false };
                if !self.is_fine {
                    self.withdraw(state, index, false);
                    self.withdraw(state, index, true);
                }
                return;
            }
        };
        let until = if self.lacks(Rule::Margin) { asked_at.map(|asked_at| asked_at + lease) } else { until };
        if self.is_fine {
            process.asking = Asking::Told { until, targets };
            if self.lacks(Rule::ForgetBeforeRely) {
                process.until = until.unwrap_or(process.until);
            }
        } else {
            process.forget(targets);
            process.until = until.unwrap_or(process.until);
            process.asking = Asking::Idle;
        }
    }

    /// Does the first or the second of the two things that a refused replica has to do.
    fn withdraw(&self, state: &mut State, index: usize, is_second: bool) {
        let process = &mut state.processes[index];
        let stops = is_second == self.lacks(Rule::StopBeforeForgetting);
        if stops {
            process.until = Duration::ZERO;
        } else if !self.lacks(Rule::ForgetAtRefusal) {
            process.forget(Tokens::MAX);
        }
        process.asking = if is_second { Asking::Outside } else { Asking::Refused { is_half_done: true } };
    }

    fn join(&self, state: &mut State, index: usize, now: Duration) {
        let old = Self::own(state, index).map(short);
        let process = &mut state.processes[index];
        process.lives += 1;
        let (id, lease_ticks) = (Self::id(index, process.lives), self.processes[index].lease_ticks);
        let (at, place) = match process.asking {
            Asking::Joining { at, place } => (at, place),
            _ => (now, state.database.place()),
        };
        process.asking = Asking::Joined { at, place };
        let roll = if self.knows_alone { state.new_roll() } else { state.database.roll };
        let insert = |database: &mut Database| {
            database.rows.retain(|row| Some(row.id) != old);
            database.rows.push(Row { id, lease_ticks, applied: place.seq, granted: place.seq });
            database.roll = roll;
        };
        if self.lacks(Rule::JoinIsDurable) {
            state.commit_loosely(self.database_crashes, insert);
        } else {
            state.commit(insert);
        }
    }

    /// The tokens that a check which begins now must not accept, and which its first comparison lets pass.
    pub(super) fn first_comparison(&self, state: &State, index: usize) -> Tokens {
        if self.lacks(Rule::LeaseBeforeSlot) {
            return state.promised & state.processes[index].memory;
        }
        if state.is_in_lease(index) { state.promised } else { 0 }
    }

    pub(super) fn step_check(&self, state: &mut State, index: usize, action: Action) {
        let passed = self.first_comparison(state, index);
        let revoked = state.database.revoked;
        let process = &mut state.processes[index];
        match (action, process.fill) {
            (Action::BeginFill(_, token), _) => {
                process.fill = Some(Fill { token, step: FillStep::Begun, is_stale: false });
            }
            (Action::NoteTick(_), Some(fill)) => {
                process.fill = Some(Fill { step: FillStep::Noted, is_stale: false, ..fill });
            }
            // Absence is never remembered.
            (Action::Read(_), Some(fill)) if revoked & 1 << fill.token != 0 => process.fill = None,
            (Action::Read(_), Some(fill)) => process.fill = Some(Fill { step: FillStep::Read, ..fill }),
            (Action::Insert(_), Some(fill)) => {
                process.fill = None;
                if !fill.is_stale || self.lacks(Rule::TickBeforeRead) {
                    process.memory |= 1 << fill.token;
                }
            }
            (Action::Check(_), _) => process.check = passed,
            _ => {}
        }
    }
}

fn target(token: u8) -> Target {
    Target::Token(Jti::from(uuid(token)))
}
