//! The protocol as it is, in several small worlds instead of one that is too large to be searched.

use stateright::{Checker, Model, Property};

use super::world::{Phase, State};
use super::{Plan, Protocol, Setup};

/// What has to happen in some run, so that a promise isn't kept by standing still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// A check is answered from memory.
    Hit,
    /// A change is acknowledged before time has passed, since every replica has said that it applied it.
    Prompt,
    /// A change is acknowledged though a replica keeps silent, and that one is marked out.
    DespiteSilence,
    /// A replica that was marked out has a lease again, and all it remembers is from then.
    Back,
}

/// Three replicas, one of which is silent. One makes a change, and so does a process that is none.
pub(super) const THREE_REPLICAS: Protocol = Protocol {
    processes: &[Setup::FAST, Setup::SLOW, Setup::SILENT, Setup::COMMAND_LINE],
    plans: &[Plan::revoke(0, 0), Plan::revoke(3, 1)],
    ticks: 1,
    lives: 1,
    reaches: &[Reach::DespiteSilence],
    ..Protocol::BASE
};

/// Three that all go on.
pub(super) const LIVELY: Protocol = Protocol {
    processes: &[Setup::SLOW, Setup::SLOW, Setup::SLOW, Setup::COMMAND_LINE],
    plans: &[Plan::revoke(3, 0)],
    ticks: 1,
    lives: 1,
    reaches: &[Reach::Prompt, Reach::DespiteSilence],
    ..Protocol::BASE
};

/// Both revoke the same token: one of them finds nothing to change.
pub(super) const SAME_TOKEN: Protocol = Protocol {
    processes: &[Setup::FAST, Setup::SLOW, Setup::COMMAND_LINE],
    plans: &[Plan::revoke(0, 0), Plan::revoke(2, 0)],
    ticks: 1,
    loses_answers: true,
    reaches: &[Reach::Prompt, Reach::DespiteSilence, Reach::Back],
    ..Protocol::BASE
};

/// The answer to the first attempt never came, and the same process tries again.
pub(super) const RETRY: Protocol = Protocol {
    processes: &[Setup::FAST, Setup::SLOW],
    plans: &[Plan::revoke(0, 0), Plan::revoke(0, 0)],
    ticks: 1,
    is_fine: true,
    reaches: &[Reach::Prompt, Reach::DespiteSilence],
    ..Protocol::BASE
};

/// Who made a change is gone, and who comes after finds nothing to change, while another change is made.
pub(super) const NOTHING_TO_CHANGE: Protocol = Protocol {
    processes: &[Setup::COMMAND_LINE, Setup::SLOW],
    plans: &[Plan::revoke(0, 0).last(), Plan::revoke(0, 0), Plan::revoke(0, 1)],
    reaches: &[Reach::Prompt, Reach::DespiteSilence, Reach::Back],
    ..Protocol::BASE
};

/// Clocks of any speed within the margin, leases of different lengths.
pub(super) const CLOCKS: Protocol = Protocol {
    processes: &[Setup::COMMAND_LINE, Setup::SLOW, Setup::LONG],
    plans: &[Plan::revoke(0, 0)],
    ticks: 3,
    any_rate: true,
    reaches: &[Reach::Prompt, Reach::DespiteSilence, Reach::Back],
    ..Protocol::BASE
};

/// Looks at a roll that was read before.
pub(super) const READ_AHEAD: Protocol = Protocol {
    processes: &[Setup::COMMAND_LINE, Setup::SLOW],
    plans: &[Plan::revoke(0, 0), Plan::revoke(0, 1)],
    reads_ahead: true,
    reaches: &[Reach::Prompt, Reach::DespiteSilence, Reach::Back],
    ..Protocol::BASE
};

/// The database crashes, and a replica is marked out and joins anew.
pub(super) const CRASH: Protocol = Protocol {
    processes: &[Setup::SLOW, Setup::SLOW, Setup::COMMAND_LINE],
    plans: &[Plan::revoke(2, 0), Plan::revoke(2, 1).next()],
    database_crashes: true,
    reaches: &[Reach::Prompt, Reach::DespiteSilence, Reach::Back],
    ..Protocol::BASE
};

/// The database crashes soon after a replica has joined.
pub(super) const CRASH_AT_JOIN: Protocol = Protocol {
    processes: &[Setup::NEW, Setup::COMMAND_LINE],
    plans: &[Plan::revoke(1, 0)],
    has_checks: true,
    database_crashes: true,
    restarts: true,
    reaches: &[Reach::Hit, Reach::Prompt, Reach::DespiteSilence, Reach::Back],
    ..Protocol::BASE
};

/// Fills and hits, with pauses between all their steps.
pub(super) const CHECKS: Protocol = Protocol {
    processes: &[Setup::NEW, Setup::COMMAND_LINE],
    plans: &[Plan::revoke(1, 0), Plan::revoke(1, 1)],
    is_fine: true,
    has_checks: true,
    reaches: &[Reach::Hit, Reach::Prompt, Reach::DespiteSilence, Reach::Back],
    ..Protocol::BASE
};

/// The same where the replica's own process makes the change.
pub(super) const OWN_CHECKS: Protocol = Protocol {
    processes: &[Setup { is_slow: false, ..Setup::NEW }, Setup::SLOW],
    plans: &[Plan::revoke(0, 0)],
    ticks: 1,
    lives: 1,
    is_fine: true,
    has_checks: true,
    reaches: &[Reach::Hit, Reach::Prompt, Reach::DespiteSilence],
    ..Protocol::BASE
};

/// A token is revoked, live again, and revoked again, by whoever comes first.
pub(super) const UNDONE: Protocol = Protocol {
    processes: &[Setup::SLOW, Setup::COMMAND_LINE],
    plans: &[Plan::revoke(1, 0), Plan::unrevoke(1, 0).last(), Plan::revoke(1, 0)],
    ticks: 1,
    lives: 1,
    has_checks: true,
    reaches: &[Reach::Hit, Reach::Prompt, Reach::DespiteSilence],
    ..Protocol::BASE
};

/// A renewal that was given up changes its row long after it read what it writes.
pub(super) const LATE: Protocol = Protocol {
    processes: &[Setup::COMMAND_LINE, Setup::SLOW],
    plans: &[Plan::revoke(0, 0), Plan::revoke(0, 1)],
    has_late_renewals: true,
    database_crashes: true,
    reaches: &[Reach::Prompt, Reach::DespiteSilence, Reach::Back],
    ..Protocol::BASE
};

/// Replicas that stop.
pub(super) const LEAVING: Protocol = Protocol {
    processes: &[Setup::COMMAND_LINE, Setup::SLOW, Setup::SLOW],
    plans: &[Plan::revoke(0, 0)],
    leaves: true,
    is_fine: true,
    has_checks: true,
    lives: 1,
    ticks: 1,
    reaches: &[Reach::Prompt, Reach::DespiteSilence],
    ..Protocol::BASE
};

/// A backup is restored.
pub(super) const RESTORED: Protocol = Protocol {
    processes: &[Setup::COMMAND_LINE, Setup::SLOW],
    plans: &[Plan::revoke(0, 0), Plan::revoke(0, 1)],
    restores: true,
    reaches: &[Reach::Prompt, Reach::DespiteSilence, Reach::Back],
    ..Protocol::BASE
};

/// Who knows to be alone doesn't look; and a replica joins.
pub(super) const ALONE: Protocol = Protocol {
    processes: &[Setup::COMMAND_LINE, Setup::NEW],
    plans: &[Plan::revoke(0, 0), Plan::revoke(0, 1)],
    has_checks: true,
    knows_alone: true,
    reaches: &[Reach::Hit, Reach::Prompt, Reach::DespiteSilence, Reach::Back],
    ..Protocol::BASE
};

/// The same with one that is marked out, by a database that crashes.
pub(super) const ALONE_CRASH: Protocol = Protocol {
    processes: &[Setup::COMMAND_LINE, Setup::SLOW],
    plans: &[Plan::revoke(0, 0), Plan::revoke(0, 1).next(), Plan::revoke(0, 2).next()],
    knows_alone: true,
    database_crashes: true,
    reaches: &[Reach::Prompt, Reach::DespiteSilence, Reach::Back],
    ..Protocol::BASE
};

/// The same where a backup is restored in which it still has its row.
pub(super) const ALONE_BACKUP: Protocol = Protocol { database_crashes: false, restores: true, ..ALONE_CRASH };

/// The same where a backup is restored, and another replica joins.
pub(super) const ALONE_RESTORED: Protocol = Protocol {
    processes: &[Setup::COMMAND_LINE, Setup::NEW],
    plans: &[Plan::revoke(0, 0), Plan::revoke(0, 1).next()],
    has_checks: true,
    knows_alone: true,
    restores: true,
    has_old_backup: true,
    reaches: &[Reach::Hit, Reach::Prompt, Reach::DespiteSilence],
    ..Protocol::BASE
};

/// The log is trimmed, so that a replica is refused in the middle of its lease.
pub(super) const TRIMMED: Protocol = Protocol {
    processes: &[Setup::COMMAND_LINE, Setup::EMPTY],
    plans: &[Plan::revoke(0, 0), Plan::revoke(0, 1).last()],
    ticks: 1,
    is_fine: true,
    has_checks: true,
    trims: true,
    reaches: &[Reach::Hit, Reach::Prompt, Reach::DespiteSilence, Reach::Back],
    ..Protocol::BASE
};

impl Reach {
    fn property(self) -> Property<Protocol> {
        match self {
            Self::Hit => Property::sometimes("hit", |_, state: &State| {
                (0..state.processes.len())
                    .any(|process| state.is_in_lease(process) && state.processes[process].memory != 0)
            }),
            Self::Prompt => Property::sometimes("prompt", |_, state: &State| {
                state.ticks == 0 && state.changes.iter().any(|change| change.phase == Phase::Done)
            }),
            Self::DespiteSilence => Property::sometimes("despite silence", |_, state: &State| {
                let is_marked_out = |index: usize| {
                    let own = Protocol::own(state, index);
                    own.is_some_and(|own| state.database.roll().replicas.iter().all(|replica| replica.id != own))
                };
                state.promised != 0 && (0..state.processes.len()).any(is_marked_out)
            }),
            Self::Back => Property::sometimes("back", |_, state: &State| {
                let is_back = |index: usize| state.processes[index].lives == 2 && state.is_in_lease(index);
                (0..state.processes.len()).any(is_back)
            }),
        }
    }
}

pub(super) fn reachable(protocol: &Protocol) -> Vec<Property<Protocol>> {
    protocol.reaches.iter().map(|reach| reach.property()).collect()
}

/// Searches all of it.
pub(super) fn check(protocol: Protocol) {
    let checker = protocol.checker().spawn_bfs().join();
    println!("{} states, {} deep", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

macro_rules! checks {
    ($($name:ident: $protocol:ident;)*) => {
        $(
            #[test]
            fn $name() {
                check($protocol);
            }
        )*
    };
}

checks! {
    three_replicas: THREE_REPLICAS;
    lively: LIVELY;
    same_token: SAME_TOKEN;
    retry: RETRY;
    nothing_to_change: NOTHING_TO_CHANGE;
    clocks: CLOCKS;
    read_ahead: READ_AHEAD;
    crash: CRASH;
    crash_at_join: CRASH_AT_JOIN;
    checks: CHECKS;
    own_checks: OWN_CHECKS;
    undone: UNDONE;
    late: LATE;
    leaving: LEAVING;
    restored: RESTORED;
    alone: ALONE;
    alone_crash: ALONE_CRASH;
    alone_backup: ALONE_BACKUP;
    alone_restored: ALONE_RESTORED;
    trimmed: TRIMMED;
}
