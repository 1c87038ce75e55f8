//! Looking at records and sessions, and taking tokens back.

use super::Registry;
use super::grant::checked_label;
use super::issue::superseded;
use crate::error::{Error, Kind};
use crate::store::{AuditFilter, Revoke, Revoked, Unrevoked};
use crate::token::{
    Act, AuditEvent, Cursor, Filter, Jti, Record, RecordPage, Session, SessionPage, SessionRecord, Sid, Subject, Target,
};

/// How many records a page of a list looks at.
const WALK_MAX: u32 = 5_000;

impl Registry {
    /// The record of a token.
    ///
    /// # Errors
    ///
    /// [`is_not_found`](Error::is_not_found) where there is none; [`is_unavailable`](Error::is_unavailable).
    pub async fn get(&self, jti: Jti) -> Result<Record, Error> {
        self.store()?.record(jti).await?.ok_or_else(token_not_found)
    }

    /// The first records that a filter asks for, newest first, as many as its limit. With `check = "refresh"` access
    /// tokens have none, but for personal ones.
    ///
    /// ```
    /// use counterfoil::{Cursor, Error, Filter, Record, Registry};
    ///
    /// async fn all(registry: &Registry) -> Result<Vec<Record>, Error> {
    ///     let mut records = registry.list(&Filter::all()).await?;
    ///     while let Some(last) = records.last() {
    ///         let page = registry.list(&Filter::all().after(Cursor::of(last))).await?;
    ///         if page.is_empty() {
    ///             break;
    ///         }
    ///         records.extend(page);
    ///     }
    ///     Ok(records)
    /// }
    /// ```
    ///
    /// Where few of very many records are asked for it may take long: [`search`](Self::search) does not.
    ///
    /// # Errors
    ///
    /// [`is_unavailable`](Error::is_unavailable) where the database can't be asked.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<Record>, Error> {
        let mut filter = filter.clone();
        let mut records = Vec::new();
        loop {
            let page = self.search(&filter).await?;
            let found = u16::try_from(page.records.len()).unwrap_or(u16::MAX);
            records.extend(page.records);
            filter.limit = filter.limit.saturating_sub(found);
            match page.next {
                Some(next) if filter.limit > 0 => filter.after = Some(next),
                _ => return Ok(records),
            }
        }
    }

    /// One page of records, newest first, which takes about as long whatever is asked for: it looks at 5,000 records at
    /// most, and then says where to go on. So a page may have fewer records than the limit, or none, and a
    /// [`next`](RecordPage::next) all the same.
    ///
    /// ```
    /// use counterfoil::{Error, Filter, Registry, State, Subject};
    ///
    /// async fn print_live(registry: &Registry, subject: Subject) -> Result<(), Error> {
    ///     let mut filter = Filter::subject(subject).state(State::Live);
    ///     loop {
    ///         let page = registry.search(&filter).await?;
    ///         for record in &page.records {
    ///             println!("{} expires {}", record.jti, record.expires_at);
    ///         }
    ///         match page.next {
    ///             Some(next) => filter = filter.after(next),
    ///             None => return Ok(()),
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_unavailable`](Error::is_unavailable) where the database can't be asked.
    pub async fn search(&self, filter: &Filter) -> Result<RecordPage, Error> {
        let store = self.store()?;
        let mut filter = filter.clone();
        // Records have the name that a client had, and people its id.
        if let Some(asked) = &filter.client
            && let Some(client) = store.find_client(asked).await?
        {
            filter.client = Some(client.name);
        }
        store.list(&filter, self.live_at(), WALK_MAX).await
    }

    /// Sets the label of a record of this subject, 1 to 100 characters, or clears it; and with it that of its session,
    /// so that a device has one name.
    ///
    /// # Errors
    ///
    /// [`is_invalid`](Error::is_invalid) for a label of another length or with a control character;
    /// [`is_not_found`](Error::is_not_found) where the subject has no such record;
    /// [`is_unavailable`](Error::is_unavailable).
    pub async fn set_label(&self, jti: Jti, subject: &Subject, label: Option<String>) -> Result<Record, Error> {
        let label = label.map(checked_label).transpose()?;
        if !self.store()?.set_label(jti, subject, label.as_deref()).await? {
            return Err(token_not_found());
        }
        self.get(jti).await
    }

    /// Live sessions of a subject, newest first, `limit` of them (1 to 1000) from [`after`](Cursor::of_session) on.
    /// None is marked as [`current`](Session::current): whoever asks compares [`sid`](Session::sid) with that of its
    /// own token.
    ///
    /// # Errors
    ///
    /// [`is_invalid`](Error::is_invalid) for another limit; [`is_unavailable`](Error::is_unavailable) where the
    /// database can't be asked.
    pub async fn sessions(
        &self,
        subject: &Subject,
        after: Option<Cursor>,
        limit: u16,
    ) -> Result<SessionPage<Session>, Error> {
        let limit = Filter::checked_limit(limit)?;
        self.store()?.sessions(subject, self.live_at(), after, limit).await
    }

    /// A session of this subject's; `None` where it is another's, or over.
    pub(crate) async fn live_session(&self, subject: &Subject, sid: Sid) -> Result<Option<Session>, Error> {
        let found = self.store()?.session(sid).await?;
        let is_live = |record: &SessionRecord| {
            let is_over = record.ended.is_some() || record.with_subject;
            record.subject == *subject && !is_over && record.session.expires_at.timestamp() > self.live_at()
        };
        Ok(found.filter(is_live).map(|record| record.session))
    }

    /// Revokes one token. When this returns, no process that uses this registry accepts it any more; revoking it again
    /// is not an error.
    ///
    /// An actor that is a [subject](crate::Actor::subject) reaches its own tokens alone. Revoking a refresh token
    /// touches that record alone: [`end_session`](Self::end_session) takes back all that descends from one login.
    ///
    /// ```
    /// use counterfoil::{Actor, Denial, Expect, Grant, Registry, Settings, SystemClock};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let registry = Registry::open(Settings::for_tests(), SystemClock).await?;
    /// let issued = registry.issue(Grant::to("alice".parse()?)).await?;
    /// let jti = issued.access_claims().jti;
    ///
    /// registry.revoke(jti, Actor::application("billing")).await?;
    /// let refused = registry.check(issued.access_token(), Expect::access()).await;
    /// assert_eq!(refused.unwrap_err(), Denial::Revoked);
    ///
    /// registry.unrevoke(jti, Actor::application("billing")).await?;
    /// assert!(registry.check(issued.access_token(), Expect::access()).await.is_ok());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_not_found`](Error::is_not_found) where the actor can reach no such record;
    /// [`is_unavailable`](Error::is_unavailable), after which trying again is safe. Where that is
    /// [`is_unconfirmed`](Error::is_unconfirmed), it is revoked, but another process may not know yet.
    pub async fn revoke(&self, jti: Jti, act: impl Into<Act>) -> Result<(), Error> {
        self.revoke_as(jti, act.into(), false).await
    }

    /// [Revokes](Self::revoke) one token so that nobody can undo it.
    #[cfg(feature = "server")]
    pub(crate) async fn revoke_for_good(&self, jti: Jti, act: Act) -> Result<(), Error> {
        self.revoke_as(jti, act, true).await
    }

    async fn revoke_as(&self, jti: Jti, act: Act, is_final: bool) -> Result<(), Error> {
        self.permit()?;
        let done = self.inner.revocations.call(Revoke { jti, act, is_final, now: self.seconds() }).await?;
        if done.outcome == Revoked::NotFound {
            return Err(token_not_found());
        }
        self.in_force(done, &[Target::Token(jti)]).await?;
        self.inner.metrics.revoked("token");
        Ok(())
    }

    /// Undoes a revocation by jti. A subject undoes only its own; any other actor undoes anybody's.
    ///
    /// Where it is asked for with a token, say [with which](super::Checked::act_as): one that is taken back just now
    /// must not undo that.
    ///
    /// # Errors
    ///
    /// [`is_superseded`](Error::is_superseded) where the token that it is asked for with is not live any more;
    /// [`is_final`](Error::is_final) where it can't be undone: a revocation by somebody above the actor, an ended
    /// session, an expired token; [`is_not_found`](Error::is_not_found) where the actor can reach no such record;
    /// [`is_unavailable`](Error::is_unavailable), after which trying again is safe. Where that is
    /// [`is_unconfirmed`](Error::is_unconfirmed), it is undone, but another process may not know yet.
    pub async fn unrevoke(&self, jti: Jti, act: impl Into<Act>) -> Result<(), Error> {
        let done = self.store()?.unrevoke(jti, &act.into(), self.seconds(), self.live_at()).await?;
        match done.outcome {
            Unrevoked::Done => {
                self.in_force(done, &[Target::Token(jti)]).await?;
                self.inner.metrics.unrevoked();
                Ok(())
            }
            Unrevoked::NotFound => Err(token_not_found()),
            Unrevoked::Final => Err(Error::new(Kind::Final, "The revocation is final")),
            Unrevoked::Overtaken => Err(superseded()),
        }
    }

    /// Ends a session for good: everything that descends from one login. Returns how many live tokens that revoked: 0
    /// where it had ended before, which is not an error.
    ///
    /// # Errors
    ///
    /// [`is_not_found`](Error::is_not_found) where the actor can reach no such session;
    /// [`is_unavailable`](Error::is_unavailable), after which trying again is safe. Where that is
    /// [`is_unconfirmed`](Error::is_unconfirmed), it has ended, but another process may not know yet.
    pub async fn end_session(&self, sid: Sid, act: impl Into<Act>) -> Result<u64, Error> {
        let done = self.store()?.end_session(sid, &act.into(), self.seconds(), self.live_at()).await?;
        let Some(revoked) = done.outcome else { return Err(session_not_found()) };
        self.in_force(done, &[Target::Session(sid)]).await?;
        self.inner.metrics.revoked("session");
        Ok(revoked)
    }

    /// Ends all sessions of a subject for good, but for one to keep. Returns how many live tokens that revoked.
    ///
    /// It is one row, however many tokens there are, and no log-in or refresh that is under way
    /// [as of](super::Grant::as_of) an earlier moment leaves a live token behind.
    ///
    /// ```
    /// use counterfoil::{Actor, Denial, Expect, Grant, Registry, Settings, Subject, SystemClock};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let registry = Registry::open(Settings::for_tests(), SystemClock).await?; let alice: Subject = "alice".parse()?;
    /// let (here, lost) = (registry.issue(Grant::to(alice.clone())).await?,
    /// registry.issue(Grant::to(alice.clone())).await?);
    ///
    /// let keep = here.access_claims().sid;
    /// let revoked = registry.revoke_all(&alice, Some(keep), Actor::subject(&alice)).await?;
    /// assert_eq!(revoked, 2, "an access and a refresh token");
    /// assert!(registry.check(here.access_token(), Expect::access()).await.is_ok());
    /// assert_eq!(registry.check(lost.access_token(), Expect::access()).await.unwrap_err(), Denial::Revoked);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_not_found`](Error::is_not_found) for an actor that is another subject;
    /// [`is_unavailable`](Error::is_unavailable), after which trying again is safe. Where that is
    /// [`is_unconfirmed`](Error::is_unconfirmed), they have ended, but another process may not know yet.
    pub async fn revoke_all(&self, subject: &Subject, keep: Option<Sid>, act: impl Into<Act>) -> Result<u64, Error> {
        let act = act.into();
        if act.actor.confined_to().is_some_and(|own| own != subject.as_str()) {
            return Err(Error::new(Kind::NotFound, "Subject not found"));
        }
        let done = self.store()?.end_subject(subject, keep, &act, self.seconds(), self.live_at()).await?;
        let revoked = self.in_force(done, &[Target::Subject(subject.clone())]).await?;
        self.inner.metrics.revoked("subject");
        Ok(revoked)
    }

    /// One page of the audit, newest first.
    pub(crate) async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEvent>, Error> {
        self.store()?.audit(filter).await
    }
}

fn token_not_found() -> Error {
    Error::new(Kind::NotFound, "Token not found")
}

pub(super) fn session_not_found() -> Error {
    Error::new(Kind::NotFound, "Session not found")
}
