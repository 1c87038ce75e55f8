//! Who changes something, from where and why: what a record of a change keeps.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::{Jti, Sid, Subject};
use crate::error::Error;

/// The kinds of actor, which decide what may be undone by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ActorKind {
    /// The subject itself, through a token of its own. It reaches its own records alone.
    Subject,
    /// A holder of the scope `registry:admin`.
    Administrator,
    /// A client: a program that calls the endpoints for other services.
    Client,
    /// The application that embeds the library.
    Application,
    /// The command line.
    CommandLine,
    /// The registry itself: a rule that took effect.
    System,
}

impl ActorKind {
    /// The word the database and the audit use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Administrator => "administrator",
            Self::Client => "client",
            Self::Application => "application",
            Self::CommandLine => "command_line",
            Self::System => "system",
        }
    }

    /// The kind in words, before the name of one.
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::Subject => "the subject",
            Self::Administrator => "the administrator",
            Self::Client => "the client",
            Self::Application => "the application",
            Self::CommandLine => "the command line of",
            Self::System => "the registry's rule",
        }
    }
}

impl fmt::Display for ActorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ActorKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::Subject, Self::Administrator, Self::Client, Self::Application, Self::CommandLine, Self::System]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| Error::internal("unknown kind of actor"))
    }
}

/// Who does something.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct Actor {
    /// What kind of actor it is.
    pub kind: ActorKind,
    /// Its name: a subject, a username, the name of a program.
    pub name: String,
}

impl Actor {
    const NAME_CHARS_MAX: usize = 255;

    /// The subject itself. It reaches its own records alone; others are "not found" to it.
    pub fn subject(subject: &Subject) -> Self {
        Self { kind: ActorKind::Subject, name: subject.as_str().to_owned() }
    }

    /// An administrator, by its subject.
    pub fn administrator(subject: &Subject) -> Self {
        Self { kind: ActorKind::Administrator, name: subject.as_str().to_owned() }
    }

    /// A client, by its name.
    pub fn client(name: impl Into<String>) -> Self {
        Self::named(ActorKind::Client, name)
    }

    /// The application that embeds the library, by a name of its choice.
    pub fn application(name: impl Into<String>) -> Self {
        Self::named(ActorKind::Application, name)
    }

    /// The command line, run by the named user of the machine.
    pub fn command_line(user: impl Into<String>) -> Self {
        Self::named(ActorKind::CommandLine, user)
    }

    /// A rule of the registry.
    pub fn system(rule: impl Into<String>) -> Self {
        Self::named(ActorKind::System, rule)
    }

    /// By a name without control characters, one of which PostgreSQL refuses in text, and no longer than a subject's.
    fn named(kind: ActorKind, name: impl Into<String>) -> Self {
        let mut name: String = name.into();
        name.retain(|c| !c.is_control());
        if let Some((end, _)) = name.char_indices().nth(Self::NAME_CHARS_MAX) {
            name.truncate(end);
        }
        Self { kind, name }
    }

    /// The one subject whose records this actor may reach, `None` for any.
    pub(crate) fn confined_to(&self) -> Option<&str> {
        (self.kind == ActorKind::Subject).then_some(self.name.as_str())
    }
}

/// One act of an actor, with what is kept of it.
///
/// ```
/// use counterfoil::{Act, Actor};
///
/// let act = Act::by(Actor::application("billing")).reason("invoice unpaid")?;
/// # Ok::<(), counterfoil::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "it says who does something and does nothing"]
pub struct Act {
    pub(crate) actor: Actor,
    pub(crate) reason: Option<String>,
    pub(crate) ip: Option<String>,
    pub(crate) presented: Option<Presented>,
}

/// The token that an act was asked for with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Presented {
    pub(crate) jti: Jti,
    pub(crate) sid: Sid,
    /// The key that signed it.
    pub(crate) kid: String,
}

impl Act {
    /// The longest reason, in characters.
    pub const REASON_CHARS_MAX: usize = 255;

    /// An act of `actor`, for no stated reason.
    pub fn by(actor: Actor) -> Self {
        Self { actor, reason: None, ip: None, presented: None }
    }

    /// With a reason.
    ///
    /// # Errors
    ///
    /// [`is_invalid`](Error::is_invalid) for more than 255 characters, or a control character.
    pub fn reason(mut self, reason: impl Into<String>) -> Result<Self, Error> {
        let reason = reason.into();
        if reason.chars().count() > Self::REASON_CHARS_MAX || reason.chars().any(char::is_control) {
            return Err(Error::invalid(
                "reason",
                "reason must have at most 255 characters, none of them a control character",
            ));
        }
        self.reason = Some(reason);
        Ok(self)
    }

    /// With the address it came from.
    pub fn ip(mut self, ip: Option<std::net::IpAddr>) -> Self {
        self.ip = ip.map(|ip| ip.to_canonical().to_string());
        self
    }
}

impl From<Actor> for Act {
    fn from(actor: Actor) -> Self {
        Self::by(actor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_actor_is_one_that_both_databases_keep() {
        assert_eq!(Actor::application("a\0\nb").name, "ab");
        for named in [Actor::client, Actor::application, Actor::command_line, Actor::system] {
            assert_eq!(named("ä".repeat(10_000)).name.chars().count(), Actor::NAME_CHARS_MAX);
        }
    }
}
