//! The log of changes, and the roll of replicas.

use uuid::Uuid;

use super::subject;
use crate::token::{News, Position, Replica, Roll, Target};

/// How many changes a replica may be behind and still be told of each; one that is further behind forgets everything.
pub(in crate::store) const BEHIND_MAX: i64 = 10_000;

/// A change that a replica is told of, with the position that all of them come to. Without any change there is one
/// row with the position alone.
pub(in crate::store) struct Noted {
    pub(in crate::store) seq: i64,
    pub(in crate::store) change: Uuid,
    pub(in crate::store) kind: Option<String>,
    pub(in crate::store) target: Option<String>,
}

/// Without a row it was refused. Where it names something that this program can't read, the replica is better off
/// forgetting everything.
pub(in crate::store) fn news(noted: Vec<Noted>) -> Result<Option<News>, sqlx::Error> {
    let Some(first) = noted.first() else { return Ok(None) };
    let position = Position { seq: first.seq, change: first.change };
    let targets = noted.into_iter().filter_map(|row| Some(target(&row.kind?, row.target?)));
    Ok(targets.collect::<Result<_, _>>().ok().map(|targets| News { position, targets }))
}

pub(in crate::store) fn target(kind: &str, target: String) -> Result<Target, sqlx::Error> {
    let id = |text: &str| Uuid::try_parse(text).map_err(|error| sqlx::Error::Decode(Box::new(error)));
    Ok(match kind {
        "token" => Target::Token(id(&target)?.into()),
        "session" => Target::Session(id(&target)?.into()),
        "subject" => Target::Subject(subject(target)?),
        _ => Target::Key(target),
    })
}

/// A replica, with the position as of the same moment. Without any replica there is one row with the position alone.
pub(in crate::store) struct RollRow {
    pub(in crate::store) seq: i64,
    pub(in crate::store) change: Uuid,
    pub(in crate::store) roll: Uuid,
    pub(in crate::store) id: Option<Uuid>,
    pub(in crate::store) name: Option<String>,
    pub(in crate::store) lease_ms: Option<i64>,
    pub(in crate::store) applied: Option<i64>,
    pub(in crate::store) granted: Option<i64>,
    pub(in crate::store) joined_at: Option<i64>,
    pub(in crate::store) seen_at: Option<i64>,
}

pub(in crate::store) fn roll(found: Vec<RollRow>) -> Result<Roll, sqlx::Error> {
    let first = found.first().ok_or(sqlx::Error::RowNotFound)?;
    let (position, id) = (Position { seq: first.seq, change: first.change }, first.roll);
    let replica = |row: RollRow| {
        Some(Replica {
            id: row.id?,
            name: row.name?,
            lease_ms: row.lease_ms?,
            applied: row.applied?,
            granted: row.granted?,
            joined_at: row.joined_at?,
            seen_at: row.seen_at?,
        })
    };
    Ok(Roll { position, id, replicas: found.into_iter().filter_map(replica).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_told_what_it_can_not_read_forgets_everything() {
        let noted = |kind: &str, target: &str| Noted {
            seq: 2,
            change: Uuid::nil(),
            kind: Some(kind.to_owned()),
            target: Some(target.to_owned()),
        };
        let told = |kind, target| news(vec![noted("subject", "alice"), noted(kind, target)]).unwrap();
        assert_eq!(told("key", "a").unwrap().targets.len(), 2);
        assert!(told("token", "a").is_none());
    }
}
