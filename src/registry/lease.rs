//! The coherence protocol without its database and its clock: what a replica may believe, and how long whoever made a
//! change waits. `docs/coherence.md` is its description; `model` checks it exhaustively.
//!
//! Times are spans since a fixed moment of one process's own steady clock. No time of another machine is compared.

use std::time::Duration;

use uuid::Uuid;

use crate::token::{News, Position, Replica, Roll};

/// What part of its lease a replica uses: the rest is for clocks that run at different speeds. Whoever waits for the
/// end of a lease waits for all of it.
const USED_TENTHS: u32 = 9;

/// One replica's own view of its membership.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Membership {
    pub(super) id: Uuid,
    /// The last change that is applied here.
    pub(super) position: Position,
    lease: Duration,
}

/// What a replica does when the registry has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It is no replica any more, or its position is not in the registry's log: forget everything, and join anew.
    Join,
    /// Forget what the answer names, then rely on memory until this time; without one, as long as before. Where there
    /// was something to forget, say so at once: somebody waits.
    Follow { until: Option<Duration>, tell: bool },
}

impl Membership {
    /// Of a replica that joined at this position and may not rely on its memory yet. A lease is only ever had by asking
    /// after having joined: a change that came before the question is in the answer, and one that comes after finds the
    /// replica on the roll.
    pub(super) fn joined(id: Uuid, position: Position, lease: Duration) -> Self {
        Self { id, position, lease }
    }

    /// Takes the answer to a renewal that was asked for at `asked_at`, a time taken before the question was sent.
    /// `None` is a refusal.
    pub(super) fn renewed(&mut self, asked_at: Duration, answer: Option<&News>) -> Next {
        self.take(answer, Some(asked_at + self.lease * USED_TENTHS / 10))
    }

    /// Takes the answer to a question for news alone, which gives no lease: what it says to have been told is not
    /// durable, and a lease must not rest on that.
    pub(super) fn heard(&mut self, answer: Option<&News>) -> Next {
        self.take(answer, None)
    }

    fn take(&mut self, answer: Option<&News>, until: Option<Duration>) -> Next {
        let Some(news) = answer else { return Next::Join };
        let tell = news.position != self.position;
        self.position = news.position;
        Next::Follow { until, tell }
    }
}

/// The wait of whoever made a change, until every replica knows or can't rely on what it remembers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wait {
    /// What every replica must have applied; not known yet where nothing was changed.
    target: Option<Position>,
    /// When it began, after the commit was confirmed.
    since: Duration,
    /// The longest lease among those that were found not to have applied it.
    longest: Option<Duration>,
}

/// What one look at the roll means for a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look {
    /// Every replica has applied the change.
    Confirmed,
    /// These have not, and may still rely on what they remember.
    Pending(Vec<Replica>),
    /// These have not, and can't rely on it any longer: the change is in force. `silent` are those that were not even
    /// told: nobody need wait for them again.
    Expired { silent: Vec<Uuid> },
}

impl Wait {
    /// For the change at this position, whose commit was confirmed before `now`.
    pub(super) fn for_change(position: Position, now: Duration) -> Self {
        Self { target: Some(position), since: now, longest: None }
    }

    /// For whatever there is: whoever found nothing left to change has to wait as the one who changed it.
    pub(super) fn for_all(now: Duration) -> Self {
        Self { target: None, since: now, longest: None }
    }

    /// The change it waits for, once that is known.
    pub(super) fn target(&self) -> Option<Position> {
        self.target
    }

    /// Looks at the roll as it was at some moment after the wait began and before `now`. A replica in this process,
    /// `own`, has been told directly.
    pub(super) fn look(&mut self, roll: &Roll, own: Option<Uuid>, now: Duration) -> Look {
        let target = *self.target.get_or_insert_with(|| {
            // The change was there at this look, so nobody who relies on an older position began to after it.
            self.since = now;
            roll.position
        });
        let target = target.seq;
        let behind = |replica: &&Replica| replica.applied < target && Some(replica.id) != own;
        let behind: Vec<Replica> = roll.replicas.iter().filter(behind).cloned().collect();
        if behind.is_empty() {
            return Look::Confirmed;
        }
        // A replica that joins later knows the change, so none is added to those of the first look.
        self.longest = self.longest.max(behind.iter().map(lease_of).max());
        if !self.is_over(now) {
            return Look::Pending(behind);
        }
        // One that was told of the change since has been given its lease with it, so its place on the roll is good.
        let silent = behind.iter().filter(|replica| replica.granted < target).map(|replica| replica.id).collect();
        Look::Expired { silent }
    }

    /// Whether the longest lease has passed, so that the wait can end though the roll can't be looked at any more.
    /// Without one look nobody knows how long that is.
    pub(super) fn is_over(&self, now: Duration) -> bool {
        self.longest.is_some_and(|longest| now >= self.since + longest)
    }

    /// How long until it can end in any case, where that is known.
    pub(super) fn left(&self, now: Duration) -> Option<Duration> {
        self.longest.map(|longest| (self.since + longest).saturating_sub(now))
    }

    /// Whether half of the longest lease has passed: by then a healthy replica has long answered.
    pub(super) fn is_long(&self, now: Duration) -> bool {
        self.longest.is_some_and(|longest| now >= self.since + longest / 2)
    }

    /// How long it has lasted.
    pub(super) fn lasted(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }
}

fn lease_of(replica: &Replica) -> Duration {
    Duration::from_millis(u64::try_from(replica.lease_ms).unwrap_or(0))
}
