//! Looking closely at one token and one session: why it would be refused, and what happened to it.

use super::Registry;
use super::import::complete;
use super::manage::session_not_found;
use crate::error::Error;
use crate::store::{Particulars, Status};
use crate::token::{
    Actor, AudienceRule, AuditEvent, Claims, Cursor, Denial, Facts, Filter, Happening, Jti, Reason, Record,
    SessionPage, SessionRecord, Sid, Subject, Verdict, at,
};

/// How many entries of the audit the history of one token has at most: the last ones.
const HISTORY_MAX: u16 = 200;

impl Registry {
    /// What a check for any audience would answer now to the token of this record, as it was issued, and everything
    /// that stands against it.
    ///
    /// # Errors
    ///
    /// [`is_unavailable`](Error::is_unavailable) where the database can't be asked.
    pub async fn verdict_on(&self, record: &Record) -> Result<Verdict, Error> {
        let store = self.store()?;
        let status = store.status(&[record.jti]).await?.pop().flatten();
        let particulars = store.particulars(record.jti).await?;
        let Some((status, particulars)) = status.zip(particulars) else {
            let expired = self.times(record.expires_at.timestamp(), record.issued_at.timestamp());
            let gone = match expired {
                Some(expired) => vec![expired, Reason::Unrecorded],
                None => vec![Reason::Unrecorded],
            };
            return Ok(Verdict::of(gone));
        };
        Ok(self.facts(record, &status, particulars).judge())
    }

    fn facts(&self, record: &Record, status: &Status, particulars: Particulars) -> Facts {
        let mut facts = Facts { imported: status.imported, ..Facts::default() };
        match particulars.key_retired {
            Some(retired) => facts.origin.push(Reason::KeyRetired(retired)),
            None if !self.ring().accepts(&status.kid) => facts.origin.push(Reason::KeyUnknown),
            None => {}
        }
        let claims = match status.imported {
            true => complete(record.token.clone(), record.jti, status, self.settings()),
            false => Claims::from_members(record.token.clone()),
        };
        let rules = self.rules(AudienceRule::Any);
        match claims {
            Ok(claims) => {
                if claims.check_origin(&rules).is_err() {
                    facts.origin.push(Reason::Foreign);
                }
                facts.times = self.times(status.ends(&claims), claims.nbf);
            }
            Err(_) => facts.origin.push(Reason::Foreign),
        }
        let is_used = match (particulars.spent, particulars.replaced_at) {
            (Some((at, successor)), _) => Some(Reason::Spent(at, successor)),
            (None, replaced_at) => replaced_at.map(Reason::Replaced),
        };
        // That it was spent says more than that it is revoked for it.
        let by_somebody =
            particulars.revoked.filter(|revoked| is_used.is_none() || revoked.by != Actor::system("rotation"));
        facts.record.extend(is_used);
        facts.record.extend(by_somebody.map(Reason::Revoked));
        facts.record.extend(particulars.session_ended.map(Reason::SessionEnded));
        facts.record.extend(particulars.subject_ended.map(Reason::SubjectEnded));
        if particulars.user_disabled {
            facts.besides.push(Reason::UserDisabled);
        }
        if particulars.client_disabled {
            facts.besides.push(Reason::ClientDisabled);
        }
        facts
    }

    /// What a check has against these times now.
    fn times(&self, exp: i64, nbf: i64) -> Option<Reason> {
        match self.rules(AudienceRule::Any).check_times(exp, nbf) {
            Err(Denial::NotYetValid) => Some(Reason::NotYetValid(at(nbf))),
            Err(_) => Some(Reason::Expired(at(exp))),
            Ok(()) => None,
        }
    }

    /// What happened to a token, newest first: what its record says, and what the audit has of it, of its session, and
    /// of all of its subject since it was issued, the last 200 entries of it.
    ///
    /// # Errors
    ///
    /// [`is_unavailable`](Error::is_unavailable) where the database can't be asked.
    pub async fn history(&self, record: &Record) -> Result<Vec<Happening>, Error> {
        let store = self.store()?;
        let status = store.status(&[record.jti]).await?.pop().flatten();
        let particulars = store.particulars(record.jti).await?;
        let kid = status.map(|status| status.kid).unwrap_or_default();
        let named = [record.jti.to_string(), record.sid.to_string(), record.subject.to_string(), kid.clone()];
        let targets: Vec<String> = named.into_iter().chain(record.client.clone()).collect();
        let since = record.issued_at.timestamp();
        let noted = store.history(&targets, &record.subject, since, HISTORY_MAX).await?;
        let mut happened = of_record(record, particulars.as_ref());
        let audited = noted.into_iter().filter(|event| concerns(record, &kid, event)).map(|event| Happening {
            at: event.at,
            action: event.action,
            actor: Some(event.actor),
            target: event.target.or(event.subject),
            reason: event.reason,
            ip: event.ip,
            audit_id: Some(event.id),
        });
        happened.extend(audited);
        // What the record knows has no number, and of one second it came before what was done about it.
        happened.sort_by_key(|one| std::cmp::Reverse((one.at, one.audit_id)));
        Ok(happened)
    }

    /// A session by its id, ended or not.
    ///
    /// # Errors
    ///
    /// [`is_not_found`](Error::is_not_found) where there is none, or none any more;
    /// [`is_unavailable`](Error::is_unavailable).
    pub async fn session(&self, sid: Sid) -> Result<SessionRecord, Error> {
        let found = self.store()?.session(sid).await?;
        found.ok_or_else(session_not_found)
    }

    /// Sessions of a subject, ended and expired ones too while they are kept, newest first, `limit` of them (1 to 1000)
    /// from [`after`](Cursor::of_session) on.
    ///
    /// # Errors
    ///
    /// [`is_invalid`](Error::is_invalid) for another limit; [`is_unavailable`](Error::is_unavailable).
    pub async fn all_sessions(
        &self,
        subject: &Subject,
        after: Option<Cursor>,
        limit: u16,
    ) -> Result<SessionPage<SessionRecord>, Error> {
        self.store()?.all_sessions(subject, after, Filter::checked_limit(limit)?).await
    }
}

/// What a record itself says of what happened to its token.
fn of_record(record: &Record, particulars: Option<&Particulars>) -> Vec<Happening> {
    let happened = |at, action: &str, target: Option<Jti>| Happening {
        at,
        action: action.to_owned(),
        actor: None,
        target: target.map(|jti| jti.to_string()),
        reason: None,
        ip: None,
        audit_id: None,
    };
    let mut all = Vec::new();
    all.extend(record.last_used_at.map(|at| happened(at, "token.used", None)));
    if let Some(particulars) = particulars {
        all.extend(particulars.spent.map(|(at, successor)| happened(at, "token.spent", successor)));
        all.extend(particulars.replaced_at.map(|at| happened(at, "token.replaced", None)));
    }
    let predecessor = particulars.and_then(|particulars| particulars.predecessor);
    let issued = happened(record.issued_at, "token.issued", predecessor);
    let actor = record.client.as_ref().map(crate::token::Actor::client);
    all.push(Happening { actor, ip: record.ip.clone(), ..issued });
    all
}

/// Whether an entry that names something of the token is about it: a user, a client and a key may have one name.
fn concerns(record: &Record, kid: &str, event: &AuditEvent) -> bool {
    let target = event.target.as_deref();
    let is_own = event.subject.as_deref() == Some(record.subject.as_str());
    match event.action.split_once('.').map_or("", |(of, _)| of) {
        "token" => target == Some(record.jti.to_string().as_str()),
        "session" | "refresh" => target == Some(record.sid.to_string().as_str()),
        "subject" => is_own,
        "user" => is_own && target == Some(record.subject.as_str()),
        "client" => is_own || (target.is_some() && target == record.client.as_deref()),
        "key" => event.action == "key.retired" && target == Some(kid),
        _ => false,
    }
}
