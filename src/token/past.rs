//! What happened: to one token, and to the purge.

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::record::{as_rfc3339, rfc3339};
use super::{Actor, Revocation, Session, Subject};

/// A session, ended or not, for an administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionRecord {
    /// The session; never marked as current.
    pub session: Session,
    /// Whose it is.
    pub subject: Subject,
    /// Set when it has ended: by itself, or with all of its subject.
    pub ended: Option<Revocation>,
    /// Whether it ended with all of its subject.
    pub with_subject: bool,
}

/// One thing that happened to a token, to its session, or to all of its subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Happening {
    /// When.
    #[serde(serialize_with = "as_rfc3339")]
    pub at: DateTime<Utc>,
    /// What: an action of the audit, or `token.issued`, `token.spent`, `token.replaced` or `token.used`.
    pub action: String,
    /// By whom, where that is known.
    pub actor: Option<Actor>,
    /// What it was done to, or what came of it.
    pub target: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// From where.
    pub ip: Option<String>,
    /// The number of its entry in the audit, where it has one.
    pub audit_id: Option<i64>,
}

/// One run of the purge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PurgeRun {
    /// Random, of this run alone.
    #[serde(skip)]
    pub(crate) holder: Uuid,
    /// The machine and the process that it was of.
    pub process: String,
    /// When it began.
    #[serde(serialize_with = "as_rfc3339")]
    pub started_at: DateTime<Utc>,
    /// When it last said how far it was.
    #[serde(serialize_with = "as_rfc3339")]
    pub seen_at: DateTime<Utc>,
    /// When it ended; `None` while it goes on, and where it was killed.
    #[serde(serialize_with = "as_rfc3339_or_null")]
    pub ended_at: Option<DateTime<Utc>>,
    /// How many records of tokens it removed.
    pub records: u64,
    /// Whether it removed all there was.
    pub complete: bool,
    /// What it failed of.
    pub error: Option<String>,
}

/// What became of a run of the purge.
#[cfg(feature = "server")]
pub(crate) enum Outcome {
    Running,
    Complete,
    SomeLeft,
    Failed(String),
    Killed,
}

#[cfg(feature = "server")]
impl PurgeRun {
    /// What became of it, where `running` is the run that goes on.
    pub(crate) fn outcome(&self, running: Option<&Self>) -> Outcome {
        match (&self.error, self.ended_at) {
            (Some(error), _) => Outcome::Failed(error.clone()),
            (None, Some(_)) if self.complete => Outcome::Complete,
            (None, Some(_)) => Outcome::SomeLeft,
            (None, None) if running == Some(self) => Outcome::Running,
            (None, None) => Outcome::Killed,
        }
    }
}

fn as_rfc3339_or_null<S: Serializer>(at: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(rfc3339).serialize(serializer)
}
