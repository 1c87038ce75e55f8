//! The steps there are, and which of them can be taken.

use super::Protocol;
use super::rules::Rule;
use super::world::{Asking, Fill, FillStep, Phase, State};

/// One step. The number is that of a process or a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Tick,
    /// The database writes down what it has so far.
    Flush,
    Crash,
    BackUp,
    Restore,
    Trim,
    /// A question that was given up changes its row.
    Land,
    /// For the next lease.
    Ask(usize),
    /// For news alone.
    Hear(usize),
    /// The database takes the snapshot.
    See(usize),
    /// The database changes the row.
    Renew(usize),
    /// The client gives up.
    Lose(usize),
    Answer(usize),
    Forget(usize),
    Rely(usize),
    /// One half of what a refused replica has to do.
    Withdraw(usize),
    SeeToJoin(usize),
    Join(usize),
    AnswerJoin(usize),
    Restart(usize),
    Leave(usize),
    Remove(usize),
    BeginFill(usize, u8),
    NoteTick(usize),
    Read(usize),
    Insert(usize),
    /// A check passes the first of its two comparisons.
    Check(usize),
    Send(usize),
    Commit(usize),
    Confirm(usize),
    ForgetOwn(usize),
    Look(usize),
    TakeLook(usize),
    /// A wait ends without a look, since the database is away or the process knows that it is alone.
    End(usize),
    MarkOut(usize),
}

impl Protocol {
    pub(super) fn list(&self, state: &State, actions: &mut Vec<Action>) {
        if state.ticks < self.ticks {
            actions.push(Action::Tick);
        }
        if state.durable.is_some() {
            actions.push(Action::Flush);
            if !state.has_crashed {
                actions.push(Action::Crash);
            }
        }
        if self.restores && state.history == 0 {
            let downtime = self.downtime();
            match state.backup {
                None => actions.push(Action::BackUp),
                Some(_) if state.ticks + downtime <= self.ticks => actions.push(Action::Restore),
                Some(_) => {}
            }
        }
        if self.trims && state.database.first < state.database.place().seq {
            actions.push(Action::Trim);
        }
        if state.late.is_some() {
            actions.push(Action::Land);
        }
        for process in 0..self.processes.len() {
            if self.processes[process].lease_ticks > 0 && !self.processes[process].is_silent {
                self.list_replica(state, process, actions);
            }
        }
        for change in 0..self.plans.len() {
            self.list_change(state, change, actions);
        }
    }

    fn list_replica(&self, state: &State, index: usize, actions: &mut Vec<Action>) {
        let process = &state.processes[index];
        let can_join = process.lives < self.lives;
        match process.asking {
            Asking::Outside if can_join && self.lacks(Rule::JoinLocksPosition) => {
                actions.push(Action::SeeToJoin(index));
            }
            Asking::Outside if can_join => actions.push(Action::Join(index)),
            Asking::Joining { .. } => actions.push(Action::Join(index)),
            Asking::Joined { .. } => {
                actions.push(Action::AnswerJoin(index));
                if self.loses_answers {
                    actions.push(Action::Lose(index));
                }
            }
            Asking::Idle => {
                actions.push(Action::Ask(index));
                actions.push(Action::Hear(index));
                if self.leaves {
                    actions.push(Action::Leave(index));
                }
            }
            Asking::Asked { .. } if self.has_late_renewals => actions.push(Action::See(index)),
            Asking::Asked { .. } => actions.push(Action::Renew(index)),
            Asking::Seen { .. } => {
                actions.push(Action::Renew(index));
                if state.late.is_none() {
                    actions.push(Action::Lose(index));
                }
            }
            Asking::Answered { .. } => {
                actions.push(Action::Answer(index));
                if self.loses_answers {
                    actions.push(Action::Lose(index));
                }
            }
            Asking::Told { .. } => actions.push(Action::Forget(index)),
            Asking::Forgot { .. } => actions.push(Action::Rely(index)),
            Asking::Refused { .. } => actions.push(Action::Withdraw(index)),
            Asking::Leaving => actions.push(Action::Remove(index)),
            Asking::Outside | Asking::Gone => {}
        }
        if self.restarts && process.lives > 0 && can_join {
            actions.push(Action::Restart(index));
        }
        if self.has_checks {
            self.list_checks(state, index, actions);
        }
    }

    fn list_checks(&self, state: &State, index: usize, actions: &mut Vec<Action>) {
        let process = &state.processes[index];
        let is_in_lease = state.is_in_lease(index);
        match process.fill {
            Some(Fill { step: FillStep::Begun, .. }) => actions.push(Action::NoteTick(index)),
            Some(Fill { step: FillStep::Noted, .. }) => actions.push(Action::Read(index)),
            Some(Fill { step: FillStep::Read, .. }) => actions.push(Action::Insert(index)),
            // What begins outside a lease asks the database as well, and leaves nothing behind.
            None if is_in_lease || self.lacks(Rule::FillsInLease) => {
                for token in (0..8).filter(|token| self.tokens() & !process.memory & 1 << token != 0) {
                    actions.push(Action::BeginFill(index, token));
                }
            }
            None => {}
        }
        let passed = self.first_comparison(state, index);
        if passed & !process.check != 0 {
            actions.push(Action::Check(index));
        }
    }

    fn list_change(&self, state: &State, index: usize, actions: &mut Vec<Action>) {
        let (plan, process) = (self.plans[index], &state.processes[self.plans[index].process]);
        if process.asking == Asking::Gone {
            return;
        }
        let is_acknowledged = |phase: &Phase| matches!(phase, Phase::MarkingOut { .. } | Phase::Done);
        match &state.changes[index].phase {
            Phase::Idle if plan.is_next && !is_acknowledged(&state.changes[index - 1].phase) => {}
            Phase::Idle if self.lacks(Rule::WaitFromConfirmation) => actions.push(Action::Send(index)),
            Phase::Idle | Phase::Sent { .. } => actions.push(Action::Commit(index)),
            Phase::Committed { .. } if plan.is_last => {}
            Phase::Committed { .. } => actions.push(Action::Confirm(index)),
            Phase::Confirmed { .. } => actions.push(Action::ForgetOwn(index)),
            Phase::Waiting { mark, wait } => {
                actions.push(Action::Look(index));
                let is_over = wait.is_over(state.reading(plan.process));
                if is_over || self.is_known_alone(process, *mark) {
                    actions.push(Action::End(index));
                }
            }
            Phase::Looked { .. } => actions.push(Action::TakeLook(index)),
            Phase::MarkingOut { .. } => actions.push(Action::MarkOut(index)),
            Phase::Done | Phase::Dead => {}
        }
    }

    pub(super) fn take(&self, state: &mut State, action: Action) {
        match action {
            Action::Tick => state.ticks += 1,
            Action::Flush => state.durable = None,
            Action::Crash => {
                state.has_crashed = true;
                if let Some(durable) = state.durable.take() {
                    state.database = durable;
                }
                state.late = None;
                self.interrupt(state);
            }
            Action::BackUp => state.backup = Some(state.database.clone()),
            Action::Restore => self.restore(state),
            Action::Trim => {
                let first = state.database.place().seq;
                state.commit(|database| database.first = first);
            }
            Action::Land => self.land(state),
            Action::Ask(process)
            | Action::Hear(process)
            | Action::See(process)
            | Action::Renew(process)
            | Action::Lose(process)
            | Action::Answer(process)
            | Action::Forget(process)
            | Action::Rely(process)
            | Action::Withdraw(process)
            | Action::SeeToJoin(process)
            | Action::Join(process)
            | Action::AnswerJoin(process)
            | Action::Restart(process)
            | Action::Leave(process)
            | Action::Remove(process) => self.step_replica(state, process, action),
            Action::BeginFill(process, _)
            | Action::NoteTick(process)
            | Action::Read(process)
            | Action::Insert(process)
            | Action::Check(process) => {
                self.step_check(state, process, action);
            }
            Action::Send(change)
            | Action::Commit(change)
            | Action::Confirm(change)
            | Action::ForgetOwn(change)
            | Action::Look(change)
            | Action::TakeLook(change)
            | Action::End(change)
            | Action::MarkOut(change) => self.step_change(state, change, action),
        }
    }

    /// How many ticks a restore takes: the longest lease, so that none outlives what it was given for.
    fn downtime(&self) -> u8 {
        if self.lacks(Rule::RestoreTakesTime) {
            return 0;
        }
        self.processes.iter().map(|setup| setup.lease_ticks).max().unwrap_or(0)
    }

    /// The database goes back to the backup, and a new history begins. What was revoked after it isn't any more.
    fn restore(&self, state: &mut State) {
        let Some(backup) = state.backup.take() else { return };
        state.ticks += self.downtime();
        state.database = backup;
        state.durable = None;
        state.late = None;
        state.history += 1;
        state.promised &= state.database.revoked;
        for (change, plan) in state.changes.iter_mut().zip(self.plans) {
            let is_committed = !matches!(change.phase, Phase::Idle | Phase::Sent { .. });
            change.is_void |= is_committed && state.database.revoked & plan.tokens() == 0;
        }
        for process in &mut state.processes {
            process.check &= state.database.revoked;
        }
        self.interrupt(state);
    }

    /// What the database was doing comes to nothing.
    fn interrupt(&self, state: &mut State) {
        for process in &mut state.processes {
            match process.asking {
                Asking::Seen { .. } => process.asking = Asking::Idle,
                Asking::Joining { .. } => process.asking = Asking::Outside,
                _ => {}
            }
        }
    }
}
