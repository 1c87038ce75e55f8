//! What the model's states consist of: a database, and processes that may stop between any two of their steps.

use std::time::Duration;

use uuid::Uuid;

use crate::registry::lease::{Membership, Wait};
use crate::token::{Position, Replica, Roll};

/// How long time stands still. Clocks of full speed move on by this much at once, so that one tick is the least lease
/// of which nine tenths and the whole can be told apart by a clock that is a tenth slow.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// A set of tokens, one bit each.
pub(super) type Tokens = u8;

/// A place in the log of changes. What stands for the random id says which of several histories it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) seq: u8,
    pub(super) history: u8,
}

impl Place {
    pub(super) fn position(self) -> Position {
        let change = Uuid::from_u128(u128::from(self.history) << 8 | u128::from(self.seq));
        Position { seq: i64::from(self.seq), change }
    }
}

/// Which roll it is. The id stands for a random one, that no two rolls have; the number goes up by one each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RollName {
    pub(super) id: u8,
    pub(super) number: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Row {
    pub(super) id: u8,
    pub(super) lease_ticks: u8,
    pub(super) applied: u8,
    pub(super) granted: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) history: u8,
    pub(super) token: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Database {
    pub(super) log: Vec<Entry>,
    /// The first number that the log still has.
    pub(super) first: u8,
    pub(super) roll: RollName,
    pub(super) rows: Vec<Row>,
    pub(super) revoked: Tokens,
}

impl Database {
    pub(super) fn place(&self) -> Place {
        let history = self.log.last().map_or(0, |entry| entry.history);
        Place { seq: u8::try_from(self.log.len()).expect("a short log"), history }
    }

    /// Whether a position is in the log, or is where the log begins.
    pub(super) fn holds(&self, position: Position) -> bool {
        let Ok(seq) = u8::try_from(position.seq) else { return false };
        let history = match seq {
            0 => Some(0),
            _ => self.log.get(usize::from(seq) - 1).map(|entry| entry.history),
        };
        seq >= self.first && history.is_some_and(|history| Place { seq, history }.position() == position)
    }

    /// What changed after this number.
    pub(super) fn since(&self, seq: i64) -> Tokens {
        let seq = usize::try_from(seq).unwrap_or(0);
        self.log.iter().skip(seq).fold(0, |tokens, entry| tokens | 1 << entry.token)
    }

    pub(super) fn row(&mut self, id: u8) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.id == id)
    }

    /// The roll as the wait reads it.
    pub(super) fn roll(&self) -> Roll {
        let replica = |row: &Row| Replica {
            id: uuid(row.id),
            name: String::new(),
            lease_ms: i64::from(row.lease_ticks) * 10,
            applied: i64::from(row.applied),
            granted: i64::from(row.granted),
            joined_at: 0,
            seen_at: 0,
        };
        Roll {
            position: self.place().position(),
            id: uuid(self.roll.id),
            replicas: self.rows.iter().map(replica).collect(),
        }
    }
}

pub(super) fn uuid(id: u8) -> Uuid {
    Uuid::from_u128(u128::from(id))
}

pub(super) fn short(id: Uuid) -> u8 {
    u8::try_from(id.as_u128()).expect("an id of the model")
}

/// What the database found when it took the snapshot of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Snapshot {
    pub(super) place: Place,
    pub(super) targets: Tokens,
    /// Whether the position that the replica named is in the log, and its row on the roll.
    pub(super) is_known: bool,
}

/// How far a process is with asking: for its next lease, which it counts from `at`, or without that for news alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Asking {
    /// Not on the roll as far as it knows, and without anything in its memory.
    Outside,
    /// Only without a lock on the position: it was read, and the row is not there yet.
    Joining {
        at: Duration,
        place: Place,
    },
    /// The row is there; the answer is on its way.
    Joined {
        at: Duration,
        place: Place,
    },
    Idle,
    /// The question is on its way.
    Asked {
        at: Option<Duration>,
    },
    /// The snapshot was taken; the row has not been changed yet.
    Seen {
        at: Option<Duration>,
        snapshot: Snapshot,
    },
    /// The row was changed, or there is none; the answer is on its way.
    Answered {
        at: Option<Duration>,
        answer: Option<Snapshot>,
    },
    /// The answer is here, and has to be forgotten what it names.
    Told {
        until: Option<Duration>,
        targets: Tokens,
    },
    /// That is done; only to rely on memory again remains.
    Forgot {
        until: Duration,
    },
    /// It was refused, and has to stop relying and to forget everything, in this order.
    Refused {
        is_half_done: bool,
    },
    /// It stops for good, and its row has to go.
    Leaving,
    Gone,
}

/// What a fill has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum FillStep {
    /// It found that there is a lease.
    Begun,
    /// It noted the tick.
    Noted,
    /// It read the record.
    Read,
}

/// A check that asks the database, and will put what it finds into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fill {
    pub(super) token: u8,
    pub(super) step: FillStep,
    /// Whether its token was to be forgotten since its tick was noted: so the entry is no good from the start.
    pub(super) is_stale: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Process {
    /// How many milliseconds its clock moves on in a tick.
    pub(super) rate: u8,
    /// How many ids it has had.
    pub(super) lives: u8,
    pub(super) membership: Option<Membership>,
    pub(super) asking: Asking,
    /// Until when it may rely on its memory; zero once that has passed.
    pub(super) until: Duration,
    /// The tokens with a good entry. A tick and the stamps of the table tell good ones from bad ones; here that is
    /// said.
    pub(super) memory: Tokens,
    pub(super) fill: Option<Fill>,
    /// A check that has passed the first of its two comparisons: the tokens that it must not accept.
    pub(super) check: Tokens,
    /// A roll on which this process was alone.
    pub(super) alone: Option<RollName>,
}

/// What a change found when it was committed; without it there was nothing to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Mark {
    pub(super) place: Place,
    pub(super) roll: RollName,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Idle,
    /// Only where the wait begins too early: the transaction is under way.
    Sent {
        since: Duration,
    },
    /// The confirmation is on its way.
    Committed {
        mark: Option<Mark>,
        since: Option<Duration>,
    },
    /// It is here; the process's own memory has not been told yet.
    Confirmed {
        mark: Option<Mark>,
        since: Duration,
    },
    Waiting {
        mark: Option<Mark>,
        wait: Wait,
    },
    /// The roll was read, as it was in this state of the database; it has not been looked at yet.
    Looked {
        mark: Option<Mark>,
        wait: Wait,
        seen: Database,
    },
    /// It is acknowledged; these have still to be marked out.
    MarkingOut {
        target: Place,
        silent: Vec<u8>,
    },
    Done,
    /// The process that made it is gone.
    Dead,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Change {
    pub(super) phase: Phase,
    /// Whether it was undone, by a change or by a restored backup, so that it promises nothing any more.
    pub(super) is_void: bool,
}

/// A question whose answer nobody waits for any more, and which can still change its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Late {
    pub(super) id: u8,
    pub(super) applied: u8,
    pub(super) is_renewal: bool,
    pub(super) snapshot: Snapshot,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) ticks: u8,
    pub(super) database: Database,
    /// What would be left after a crash, where that is less than there is.
    pub(super) durable: Option<Database>,
    pub(super) has_crashed: bool,
    pub(super) backup: Option<Database>,
    pub(super) history: u8,
    /// How many rolls there have been.
    pub(super) rolls: u8,
    pub(super) late: Option<Late>,
    pub(super) processes: Vec<Process>,
    pub(super) changes: Vec<Change>,
    /// The tokens that nobody may accept any more, since their revocation was acknowledged.
    pub(super) promised: Tokens,
}

impl State {
    /// What a process's own clock shows. No two agree about the beginning.
    pub(super) fn reading(&self, process: usize) -> Duration {
        let start = Duration::from_secs(u64::try_from(process).expect("a small number") + 1);
        start + Duration::from_millis(u64::from(self.processes[process].rate) * u64::from(self.ticks))
    }

    pub(super) fn is_in_lease(&self, process: usize) -> bool {
        self.reading(process) < self.processes[process].until
    }

    /// A name for the roll that it has not had before.
    pub(super) fn new_roll(&mut self) -> RollName {
        self.rolls += 1;
        RollName { id: self.rolls, number: self.database.roll.number + 1 }
    }

    /// Changes the database by a commit that is waited for until it is durable. That makes what came before it durable
    /// too.
    pub(super) fn commit(&mut self, change: impl FnOnce(&mut Database)) {
        change(&mut self.database);
        self.durable = None;
    }

    /// Changes the database by a commit that a crash can undo.
    pub(super) fn commit_loosely(&mut self, can_crash: bool, change: impl FnOnce(&mut Database)) {
        let before = (can_crash && self.durable.is_none()).then(|| self.database.clone());
        change(&mut self.database);
        if before.as_ref().is_some_and(|before| *before != self.database) {
            self.durable = before;
        }
    }
}
