//! Why a token would be refused, found from its record: what a check would answer, and in words what is behind it.

use chrono::{DateTime, Utc};

use super::record::{Revocation, rfc3339};
use super::{Denial, Jti};

/// One thing that stands against a token.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The key that signed it was retired.
    KeyRetired(Revocation),
    /// The key that signed it is not accepted any more.
    KeyUnknown,
    /// It was issued by another name than this registry has now, or for nobody that it could be meant for.
    Foreign,
    /// Its `exp` has passed.
    Expired(DateTime<Utc>),
    /// Its `nbf` has not passed yet.
    NotYetValid(DateTime<Utc>),
    /// It is a refresh token that was used, and this one was issued for it.
    Spent(DateTime<Utc>, Option<Jti>),
    /// It was never used, and another took its place.
    Replaced(DateTime<Utc>),
    /// It was revoked by itself.
    Revoked(Revocation),
    /// Its session has ended.
    SessionEnded(Revocation),
    /// All sessions of its subject were ended.
    SubjectEnded(Revocation),
    /// Its record is gone: it was purged meanwhile.
    Unrecorded,
    /// The user whom it speaks for is disabled. No check minds.
    UserDisabled,
    /// The client that it was issued to or for is disabled. No check minds, but the client can't refresh it.
    ClientDisabled,
}

impl Reason {
    /// What a check answers for this reason; `None` where it doesn't mind.
    pub fn denial(&self) -> Option<Denial> {
        Some(match self {
            Self::KeyUnknown | Self::Foreign => Denial::Invalid,
            Self::Expired(_) => Denial::Expired,
            Self::NotYetValid(_) => Denial::NotYetValid,
            Self::KeyRetired(_)
            | Self::Spent(..)
            | Self::Replaced(_)
            | Self::Revoked(_)
            | Self::SessionEnded(_)
            | Self::SubjectEnded(_) => Denial::Revoked,
            Self::Unrecorded => Denial::Unknown,
            Self::UserDisabled | Self::ClientDisabled => return None,
        })
    }

    /// What is behind it, where somebody did something.
    pub fn revocation(&self) -> Option<&Revocation> {
        match self {
            Self::KeyRetired(how) | Self::Revoked(how) | Self::SessionEnded(how) | Self::SubjectEnded(how) => Some(how),
            _ => None,
        }
    }

    /// The moment that it speaks of, if any.
    pub fn at(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Expired(at) | Self::NotYetValid(at) | Self::Spent(at, _) | Self::Replaced(at) => Some(*at),
            _ => self.revocation().map(|how| how.at),
        }
    }

    /// Its sentence in two parts with the moment that it speaks of between them, for whoever writes times in another
    /// way. A sentence without a moment is the first part alone.
    #[cfg(feature = "server")]
    pub(crate) fn around(&self) -> (String, Option<(DateTime<Utc>, String)>) {
        let sentence = self.sentence();
        let parts = self.at().and_then(|at| {
            let (before, after) = sentence.split_once(&rfc3339(at))?;
            Some((before.to_owned(), (at, after.to_owned())))
        });
        match parts {
            Some((before, rest)) => (before, Some(rest)),
            None => (sentence, None),
        }
    }

    /// One sentence, for an operator.
    pub fn sentence(&self) -> String {
        match self {
            Self::KeyRetired(how) => format!("The key that signed it was retired {}", told(how)),
            Self::KeyUnknown => "The key that signed it is not accepted here any more.".to_owned(),
            Self::Foreign => "Its issuer or audience is not one of this registry's any more.".to_owned(),
            Self::Expired(at) => format!("It expired at {}.", rfc3339(*at)),
            Self::NotYetValid(from) => format!("It is not valid before {}.", rfc3339(*from)),
            Self::Spent(at, Some(successor)) => {
                format!("It was used at {}, and {successor} was issued for it.", rfc3339(*at))
            }
            Self::Spent(at, None) => format!("It was used at {}.", rfc3339(*at)),
            Self::Replaced(at) => format!("Another took its place at {}, before anybody used it.", rfc3339(*at)),
            Self::Revoked(how) => format!("It was revoked {}", told(how)),
            Self::SessionEnded(how) => format!("Its session was ended {}", told(how)),
            Self::SubjectEnded(how) => format!("All sessions of its subject were ended {}", told(how)),
            Self::Unrecorded => "Its record has been purged.".to_owned(),
            Self::UserDisabled => "The user is disabled: nobody can log in by that name.".to_owned(),
            Self::ClientDisabled => {
                "The client is disabled: it can neither ask for tokens nor refresh them.".to_owned()
            }
        }
    }
}

fn told(how: &Revocation) -> String {
    let (by, at) = (&how.by, rfc3339(how.at));
    let undoable = if how.is_final { "" } else { " It can be undone." };
    match &how.reason {
        Some(reason) => format!("by {} {} at {at}: {reason}.{undoable}", by.kind.in_words(), by.name),
        None => format!("by {} {} at {at}.{undoable}", by.kind.in_words(), by.name),
    }
}

/// What a check of a token would answer now, and everything that stands against it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// What a check would answer; `None` where it would accept the token.
    pub denial: Option<Denial>,
    /// What a check minds, in the order that it would come upon it, and after that what it does not mind.
    pub reasons: Vec<Reason>,
}

impl Verdict {
    /// Of what was found, in the order of a check.
    pub(crate) fn of(reasons: Vec<Reason>) -> Self {
        Self { denial: reasons.iter().find_map(Reason::denial), reasons }
    }

    /// Whether a check would accept the token.
    pub fn is_live(&self) -> bool {
        self.denial.is_none()
    }
}

/// What decides about a token, as it was found.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Issued elsewhere: its record is asked before its times.
    pub(crate) imported: bool,
    /// Of its key, and of its issuer and audience.
    pub(crate) origin: Vec<Reason>,
    /// Of its times.
    pub(crate) times: Option<Reason>,
    /// Of its record, session and subject.
    pub(crate) record: Vec<Reason>,
    /// What no check minds.
    pub(crate) besides: Vec<Reason>,
}

impl Facts {
    pub(crate) fn judge(self) -> Verdict {
        let Self { imported, mut origin, times, record, besides } = self;
        if imported {
            origin.extend(record);
            origin.extend(times);
        } else {
            origin.extend(times);
            origin.extend(record);
        }
        origin.extend(besides);
        Verdict::of(origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Actor;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn revoked(reason: Option<&str>, is_final: bool) -> Reason {
        let by = Actor::command_line("root");
        Reason::Revoked(Revocation { at: at(0), by, reason: reason.map(str::to_owned), is_final })
    }

    #[test]
    fn the_first_thing_that_a_check_comes_upon_is_its_answer() {
        let facts = |imported| Facts {
            imported,
            times: Some(Reason::Expired(at(0))),
            record: vec![revoked(None, true)],
            besides: vec![Reason::UserDisabled],
            ..Facts::default()
        };
        assert_eq!(facts(false).judge().denial, Some(Denial::Expired));
        assert_eq!(facts(true).judge().denial, Some(Denial::Revoked));
        assert_eq!(facts(true).judge().reasons.len(), 3);
        let unknown = Facts { origin: vec![Reason::KeyUnknown], ..facts(true) };
        assert_eq!(unknown.judge().denial, Some(Denial::Invalid));
    }

    #[test]
    fn what_no_check_minds_refuses_nothing() {
        let besides = vec![Reason::UserDisabled, Reason::ClientDisabled];
        let verdict = Facts { besides, ..Facts::default() }.judge();
        assert!(verdict.is_live());
        assert_eq!(verdict.reasons.len(), 2);
    }

    #[test]
    fn it_says_who_and_why() {
        assert_eq!(
            revoked(Some("lost"), false).sentence(),
            "It was revoked by the command line of root at 1970-01-01T00:00:00Z: lost. It can be undone."
        );
        assert_eq!(
            revoked(None, true).sentence(),
            "It was revoked by the command line of root at 1970-01-01T00:00:00Z."
        );
    }
}
