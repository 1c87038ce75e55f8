//! Changes: what makes a live token less than live, or the reverse, as the processes of one registry tell each other.

use uuid::Uuid;

use super::{Jti, Sid, Subject};

/// What a change is about. It names no state: hearing of it means to forget what was known, and to ask again. So it
/// does no harm to hear of a change twice, late, or of a revocation after it was undone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// One token.
    Token(Jti),
    /// All tokens of a session.
    Session(Sid),
    /// All tokens of a subject.
    Subject(Subject),
    /// All tokens that a key signed, by its id.
    Key(String),
}

/// A place in the log of changes. The number says the order, without gaps; the random id tells two histories apart that
/// have the same numbers, as a restored backup or a failover can leave them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Position {
    pub(crate) seq: i64,
    pub(crate) change: Uuid,
}

/// Where a change stands, as whoever made it learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The place of its last entry in the log.
    pub(crate) position: Position,
    /// The roll of replicas it found: another id, another roll.
    pub(crate) roll: Uuid,
}

/// What a replica is told when it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    /// The last change there was when the registry was asked.
    pub(crate) position: Position,
    /// What changed since the replica's own position, up to there, in order.
    pub(crate) targets: Vec<Target>,
}

/// A process that answers from memory, as the registry knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Replica {
    /// Random, and new at every start.
    pub(crate) id: Uuid,
    /// For people: the machine and the process.
    pub(crate) name: String,
    /// How long one of its leases lasts at most, in milliseconds.
    pub(crate) lease_ms: i64,
    /// The last change that it says it has applied.
    pub(crate) applied: i64,
    /// The last change that it has been told of.
    pub(crate) granted: i64,
    /// When it joined and when it was last heard of, by the database's clock, in seconds. Nothing relies on these.
    pub(crate) joined_at: i64,
    pub(crate) seen_at: i64,
}

/// All replicas, and the last change, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Roll {
    pub(crate) position: Position,
    pub(crate) id: Uuid,
    pub(crate) replicas: Vec<Replica>,
}

impl Roll {
    /// How many changes a replica has not applied yet: whoever made one of them may be waiting for it.
    pub(crate) fn behind(&self, replica: &Replica) -> i64 {
        (self.position.seq - replica.applied).max(0)
    }
}

/// Whether tokens became less than live, or live again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Revoked,
    Unrevoked,
}

impl Action {
    /// `revoked` or `unrevoked`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Unrevoked => "unrevoked",
        }
    }
}

/// A change as other services are told of it, who keep a set of their own and can't ask again for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FeedEvent {
    /// Its number: later ones have larger ones, with gaps.
    pub(crate) seq: i64,
    pub(crate) target: Target,
    pub(crate) action: Action,
    pub(crate) at: i64,
    /// Of a subject: its sessions begun before this are over, in milliseconds.
    pub(crate) before_ms: Option<i64>,
    /// When the last token that it is about expires.
    pub(crate) expires_at: i64,
}

/// A part of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FeedPage {
    pub(crate) events: Vec<FeedEvent>,
    /// What to ask after next: nothing up to here is missing.
    pub(crate) next: i64,
    /// Whether nothing came after that yet.
    pub(crate) is_last: bool,
}
