//! The steps of whoever makes a change.

use super::Protocol;
use super::actions::Action;
use super::rules::Rule;
use super::world::{Database, Entry, Mark, Phase, Process, Row, State, TICK, short};
use crate::registry::lease::{Look, Wait};

impl Protocol {
    pub(super) fn step_change(&self, state: &mut State, index: usize, action: Action) {
        let plan = self.plans[index];
        let now = state.reading(plan.process);
        match (action, state.changes[index].phase.clone()) {
            (Action::Send(_), _) => state.changes[index].phase = Phase::Sent { since: now },
            (Action::Commit(_), Phase::Sent { since }) => {
                let mark = self.commit_change(state, index);
                state.changes[index].phase = Phase::Committed { mark, since: Some(since) };
            }
            (Action::Commit(_), _) => {
                let mark = self.commit_change(state, index);
                state.changes[index].phase = Phase::Committed { mark, since: None };
            }
            (Action::Confirm(_), Phase::Committed { mark, since }) => {
                state.changes[index].phase = Phase::Confirmed { mark, since: since.unwrap_or(now) };
                if self.processes[plan.process].lease_ticks == 0 {
                    self.step_change(state, index, Action::ForgetOwn(index));
                }
            }
            (Action::ForgetOwn(_), Phase::Confirmed { mark, since }) => {
                let is_skipped = match mark {
                    Some(_) => self.lacks(Rule::OwnMemory),
                    None => self.lacks(Rule::OwnMemoryOfRetry),
                };
                if !is_skipped {
                    state.processes[plan.process].forget(plan.tokens());
                }
                if mark.is_none() && self.lacks(Rule::NothingToChangeWaits) {
                    return self.acknowledge(state, index, Phase::Done);
                }
                let wait = mark.map_or(Wait::for_all(since), |mark| Wait::for_change(mark.place.position(), since));
                state.changes[index].phase = Phase::Waiting { mark, wait };
            }
            (Action::Look(_), Phase::Waiting { mark, wait }) if self.reads_ahead => {
                state.changes[index].phase = Phase::Looked { mark, wait, seen: state.database.clone() };
            }
            (Action::Look(_), Phase::Waiting { mark, wait }) => {
                let seen = state.database.clone();
                self.look(state, index, mark, wait, &seen);
            }
            (Action::TakeLook(_), Phase::Looked { mark, wait, seen }) => self.look(state, index, mark, wait, &seen),
            (Action::End(_), _) => self.acknowledge(state, index, Phase::Done),
            (Action::MarkOut(_), Phase::MarkingOut { target, silent }) => {
                let is_own_history = state.database.holds(target.position()) || self.lacks(Rule::MarkOutInOwnHistory);
                if is_own_history {
                    let is_anyone = self.lacks(Rule::MarkOutOnlyUntold);
                    let stays = |row: &Row| !silent.contains(&row.id) || (row.granted >= target.seq && !is_anyone);
                    let moves = self.knows_alone && !self.lacks(Rule::MarkOutMovesRoll);
                    let roll = if moves { state.new_roll() } else { state.database.roll };
                    state.commit_loosely(self.database_crashes, |database| {
                        database.rows.retain(stays);
                        database.roll = roll;
                    });
                }
                state.changes[index].phase = Phase::Done;
            }
            _ => {}
        }
    }

    /// The transaction of a change, if it finds anything to change.
    fn commit_change(&self, state: &mut State, index: usize) -> Option<Mark> {
        let plan = self.plans[index];
        let is_revoked = state.database.revoked & plan.tokens() != 0;
        if is_revoked == plan.is_revocation {
            return None;
        }
        let entry = Entry { history: state.history, token: plan.token };
        state.commit(|database| {
            database.revoked ^= plan.tokens();
            database.log.push(entry);
        });
        if !plan.is_revocation {
            self.undo(state, plan.token);
        }
        Some(Mark { place: state.database.place(), roll: state.database.roll })
    }

    /// A revoked token is live again: what was promised about it ends.
    fn undo(&self, state: &mut State, token: u8) {
        state.promised &= !(1 << token);
        for process in &mut state.processes {
            process.check &= !(1 << token);
        }
        for (change, plan) in state.changes.iter_mut().zip(self.plans) {
            change.is_void |= plan.token == token && change.phase != Phase::Idle;
        }
    }

    fn look(&self, state: &mut State, index: usize, mark: Option<Mark>, mut wait: Wait, seen: &Database) {
        let process = self.plans[index].process;
        let own = Self::own(state, process);
        let mut roll = seen.roll();
        if self.lacks(Rule::LeaseOfTheRow) {
            let shortest = roll.replicas.iter().map(|replica| replica.lease_ms).min();
            roll.replicas.iter_mut().for_each(|replica| replica.lease_ms = shortest.unwrap_or(replica.lease_ms));
        }
        let mut now = state.reading(process);
        if wait.target().is_none() && self.lacks(Rule::WaitForAllFromLook) {
            wait = Wait::for_change(roll.position, now - wait.lasted(now));
        }
        if self.lacks(Rule::WholeLease) {
            now += TICK;
        }
        let is_alone = self.knows_alone && seen.rows.iter().all(|row| Some(row.id) == own.map(short));
        state.processes[process].alone = is_alone.then_some(seen.roll);
        let target = match mark {
            Some(mark) => mark.place,
            None => seen.place(),
        };
        // The number is what a wait for everything found at its first look; its place in the log is of the same look.
        let mark = mark.or(Some(Mark { place: target, roll: seen.roll }));
        match wait.look(&roll, own, now) {
            Look::Confirmed => self.acknowledge(state, index, Phase::Done),
            Look::Pending(_) if self.lacks(Rule::WaitForLeases) => self.acknowledge(state, index, Phase::Done),
            Look::Pending(_) => state.changes[index].phase = Phase::Waiting { mark, wait },
            Look::Expired { silent } if silent.is_empty() => self.acknowledge(state, index, Phase::Done),
            Look::Expired { silent } => {
                let silent = silent.into_iter().map(short).collect();
                self.acknowledge(state, index, Phase::MarkingOut { target, silent });
            }
        }
    }

    /// Whether this process knows that nobody else was on the roll when it made its change.
    pub(super) fn is_known_alone(&self, process: &Process, mark: Option<Mark>) -> bool {
        let (Some(alone), Some(mark)) = (process.alone, mark) else { return false };
        if self.lacks(Rule::RollUnchanged) {
            return true;
        }
        alone.id == mark.roll.id || (alone.number == mark.roll.number && self.lacks(Rule::RollIds))
    }

    /// The caller is told. To mark out comes at some time after it, if it ever comes.
    fn acknowledge(&self, state: &mut State, index: usize, phase: Phase) {
        let (plan, change) = (self.plans[index], &mut state.changes[index]);
        change.phase = phase;
        if plan.is_revocation && !change.is_void {
            state.promised |= plan.tokens();
        }
    }
}
