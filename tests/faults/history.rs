//! What was asked and answered: calls with a beginning and an end, and what is known of them. Pure: no server, no
//! clock.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::gateway::Gateway;

/// Microseconds on a steady clock.
pub(super) type Time = u64;
pub(super) const SECOND: Time = 1_000_000;
pub(super) const NEVER: Time = Time::MAX;

/// How long a change may still be under way in the database, or in a proxy's buffer, after the process that asked for
/// it gave up or died.
const LINGER: Time = 10 * SECOND;
/// How long a request may take while its server is not stopped.
const SLOW: Time = 10 * SECOND;

/// A jti, a sid, a subject, a kid, or the key of a request.
pub(super) type Id = Arc<str>;

/// One call, of a server or of the command line.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) what: &'static str,
    pub(super) begun: Time,
    /// When its answer came, or when it was given up.
    pub(super) ended: Time,
    pub(super) is_answered: bool,
    /// The server process that was asked; `None` for the command line.
    pub(super) process: Option<usize>,
    /// The token it presented, and what became of that.
    pub(super) presented: Option<(Id, Verdict)>,
    /// The key that signed the text it presented.
    pub(super) signed_by: Option<Id>,
    /// What it was to change, and whether it did.
    pub(super) effect: Option<(Effect, Outcome)>,
    /// An answer that the contract doesn't know.
    pub(super) wrong: Option<String>,
    pub(super) setting: Setting,
}

/// What else was going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting {
    Alone,
    /// The other call with this number asked another process about the same token at about the same time.
    Pair(u64),
    /// Everything had been healthy for longer than a lease, and nobody changed anything.
    Quiet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    Revoked,
    /// Not on the registry.
    Unknown,
    /// One of these two: an application that asks is not told which.
    Inactive,
    /// 503, or no answer.
    Silent,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Tokens for a subject; none where a log-in was refused.
    Issue(Id, Vec<Issued>),
    /// The same under a key, by which they are given again however often they are asked for.
    IssueOnce(Id, Id, Vec<Issued>),
    Revoke(Id),
    Unrevoke(Id),
    EndSession(Id),
    EndAll {
        subject: Id,
        keep: Option<Id>,
    },
    RetireKey(Id),
    /// Takes from a user the scope that all of them have, or gives it back.
    Narrow(Id),
    Widen(Id),
    /// Refuses a user's log-ins, or accepts them again.
    Disable(Id),
    Enable(Id),
    /// Of a refresh token, which may be good for one use, for another one where it was.
    Spend(Id, Option<Id>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Issued {
    pub(super) jti: Id,
    pub(super) sid: Id,
    /// The key that signed it.
    pub(super) kid: Id,
    /// Whether it holds the scope that users may lose.
    pub(super) is_wide: bool,
    /// The session of the token that asked for it, where it begins one of its own.
    pub(super) parent: Option<Id>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// Committed, but not confirmed: in force everywhere a lease later.
    Committed,
    /// It may have been done, or still be.
    Perhaps,
    Not,
    /// Its target is not on the registry.
    Missing,
}

/// What is known of a server process.
#[derive(Debug, Clone, Default)]
pub(super) struct Life {
    pub(super) died: Option<Time>,
    /// When it was stopped by a signal, and until when.
    pub(super) stops: Vec<(Time, Time)>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct History {
    pub(super) calls: Vec<Call>,
    pub(super) processes: Vec<Life>,
    /// Everything that was on the registry in the end.
    pub(super) listed: Option<HashSet<Id>>,
    /// What somebody knew who heard of revocations alone.
    pub(super) gateway: Option<Gateway>,
    pub(super) lease: Time,
    /// Between these times the database was one whose commits were lost.
    pub(super) lost: Option<(Time, Time)>,
}

/// A change, as far as its time is known.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) begun: Time,
    /// The latest time at which it may have been committed.
    pub(super) until: Time,
    /// From when it is in force everywhere, for certain.
    pub(super) certain: Option<Time>,
    /// From when on all servers agree about it.
    pub(super) agreed: Time,
}

impl History {
    /// A request that took long while its server was not stopped.
    pub(super) fn is_slow(&self, call: &Call) -> bool {
        let Some(process) = call.process.map(|process| &self.processes[process]) else { return false };
        let stopped =
            process.stops.iter().map(|(from, to)| (*to).min(call.ended).saturating_sub(call.begun.max(*from)));
        (call.ended - call.begun).saturating_sub(stopped.sum()) > SLOW
    }

    /// Whether what it changed may be gone.
    pub(super) fn is_lost(&self, call: &Call) -> bool {
        self.lost.is_some_and(|(from, to)| call.ended > from && call.begun < to)
    }

    /// What a call changed, if it may have.
    pub(super) fn change(&self, call: &Call, outcome: Outcome) -> Option<Change> {
        let Call { begun, ended, .. } = *call;
        if matches!(outcome, Outcome::Not | Outcome::Missing) {
            return None;
        }
        let mut change = match outcome {
            Outcome::Done => Change { begun, until: ended, certain: Some(ended), agreed: ended },
            Outcome::Committed => {
                Change { begun, until: ended, certain: Some(ended + self.lease), agreed: ended + self.lease }
            }
            _ => {
                let died = call.process.map_or(ended, |process| self.processes[process].died.unwrap_or(NEVER));
                let gone = if call.is_answered { ended } else { died.max(ended) };
                let until = gone.saturating_add(LINGER);
                Change { begun, until, certain: None, agreed: until.saturating_add(self.lease) }
            }
        };
        if let Some((_, back)) = self.lost.filter(|_| self.is_lost(call)) {
            change.certain = None;
            change.until = change.until.max(back);
            change.agreed = change.agreed.max(back + self.lease);
        }
        Some(change)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Time| time as f64 / SECOND as f64;
        write!(f, "[{:.6} {:.6}] {}", seconds(self.begun), seconds(self.ended), self.what)?;
        match self.process {
            Some(process) => write!(f, " at {process}")?,
            None => write!(f, " by command")?,
        }
        if let Some((token, verdict)) = &self.presented {
            write!(f, " {token} {verdict:?}")?;
        }
        self.wrong.as_ref().map_or(Ok(()), |wrong| write!(f, ": {wrong}"))
    }
}
