//! Issuing: sign, put on the registry, and only then hand out.

use serde_json::{Map, Value};

use super::draft::{Draft, Drafted, lifetime};
use super::{AsOf, Checked, Grant, Issued, IssuedToken, Personal, Registry};
use crate::config::WhenFull;
use crate::error::{Error, Kind};
use crate::keys::{KeyRing, Signed};
use crate::store::{Cap, Insert, Inserted, NewToken, Origin, Premise, Within};
use crate::token::{Actor, Claims, Jti, Sid, Subject, Target, TokenType};

/// The `client_id` of tokens that no client asked for.
pub(crate) const OWN_CLIENT: &str = "counterfoil";

impl Registry {
    /// The moment to grant tokens [as of](Grant::as_of). Take it before checking the subject's credentials, so that a
    /// log-in that is under way when all of the subject's tokens are ended can't leave a live one behind.
    ///
    /// ```
    /// use counterfoil::{Actor, Grant, Registry, Settings, Subject, SystemClock};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let registry = Registry::open(Settings::for_tests(), SystemClock).await?;
    /// let alice: Subject = "alice".parse()?;
    ///
    /// let as_of = registry.as_of(&alice).await?;
    /// // Here the password is checked, which takes its time. Meanwhile somebody revokes all that she has.
    /// registry.revoke_all(&alice, None, Actor::application("support")).await?;
    /// let refused = registry.issue(Grant::to(alice).fresh(true).as_of(as_of)).await;
    /// assert!(refused.unwrap_err().is_superseded());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_unavailable`](Error::is_unavailable).
    pub async fn as_of(&self, subject: &Subject) -> Result<AsOf, Error> {
        self.permit()?;
        let generation = self.inner.generations.call(subject.clone()).await?;
        Ok(AsOf { subject: subject.clone(), generation })
    }

    /// Issues tokens, in a session of their own. They are on the registry when this returns.
    ///
    /// # Errors
    ///
    /// [`is_superseded`](Error::is_superseded) where all of the subject's tokens were ended since the grant's moment;
    /// [`is_session_limit`](Error::is_session_limit) where the subject has as many sessions as `sessions.max`;
    /// [`is_invalid`](Error::is_invalid) with the [`field`](Error::field) for what no token may have: a lifetime that
    /// makes no sense, more than 64 scopes, a claim that repeats the subject (`identity_claim`), the audience of the
    /// console, more than 8 KiB in all; [`is_unavailable`](Error::is_unavailable). Where that is
    /// [`is_unconfirmed`](Error::is_unconfirmed), the session is there and others were ended to make room for it
    /// (`sessions.when_full`), but nobody has its tokens.
    pub async fn issue(&self, grant: Grant) -> Result<Issued, Error> {
        let drafted = self.draft(grant)?;
        self.register(drafted).await
    }

    /// Issues a personal token for the subject of a token that was checked: never fresh, without a refresh token, its
    /// own session, always recorded and checked.
    ///
    /// A route that calls this asks for a [`FreshToken`](crate::FreshToken), as the server's does: a personal token
    /// lives for long, and whoever got hold of any access token, a personal one too, could go on with others for ever.
    ///
    /// ```
    /// use std::time::Duration;
    /// use counterfoil::{Expect, Grant, Personal, Registry, Settings, SystemClock};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let registry = Registry::open(Settings::for_tests(), SystemClock).await?;
    /// let alice = Grant::to("alice".parse()?).scope("notes:read notes:write".parse()?).fresh(true);
    /// let issued = registry.issue(alice).await?;
    /// let presented = registry.check(issued.access_token(), Expect::access()).await?;
    ///
    /// let week = Duration::from_secs(7 * 24 * 60 * 60);
    /// let personal = Personal::new("backup script")?.scope("notes:read".parse()?).expires(week);
    /// let script = registry.issue_personal(&presented, personal).await?;
    /// assert!(script.refresh_token().is_none());
    /// assert_eq!(script.access_claims().scope.to_string(), "notes:read");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_invalid`](Error::is_invalid) with the field `token` for a refresh token, with `scope` for a scope that the
    /// presenting token lacks, with `expires_in` for a lifetime of less than a second or over `personal.max_expires`,
    /// with `claims` for one that repeats the subject (`identity_claim`); [`is_superseded`](Error::is_superseded) where
    /// the presenting token or its key was revoked or retired meanwhile; [`is_unavailable`](Error::is_unavailable),
    /// after which a personal token may be on the registry that nobody has.
    pub async fn issue_personal(&self, presented: &Checked, personal: Personal) -> Result<Issued, Error> {
        let by = presented.claims();
        if by.token_type != TokenType::Access {
            return Err(Error::invalid("token", "token must be an access token"));
        }
        let scope = personal.scope.unwrap_or_else(|| by.scope.clone());
        if !scope.is_subset(&by.scope) {
            return Err(Error::invalid("scope", "scope must be within the scopes of the presenting token"));
        }
        let max = self.settings().personal_max_expires;
        let expires = personal.expires.unwrap_or(max);
        if expires > max {
            return Err(Error::invalid("expires_in", format!("expires_in must be at most {} seconds", max.as_secs())));
        }
        Claims::check_extra(&personal.claims, self.settings().identity_claim.as_deref())?;
        // Whoever ends all of the subject's tokens from here on comes before the last look at the presenting token, or
        // makes the insert fail.
        let generation = self.as_of(&by.sub).await?.generation;

        let jti = Jti::new(self.now());
        let mut claims =
            self.draft_claims(&by.sub, jti.own_session(), TokenType::Access, lifetime(expires, "expires_in")?, false);
        claims.jti = jti;
        // What is made in the console is for everything but the console.
        if !by.is_console() {
            claims.aud.clone_from(&by.aud);
            self.cut_audience(&mut claims.aud, personal.audience.as_deref())?;
        }
        claims.scope = scope.clone();
        claims.extra.extend(personal.claims);
        // Who got it by a client's token got it from that client: the client may take it back, and it is found with
        // what else the client got.
        claims.client_id.clone_from(&by.client_id);
        let access = Draft { claims, granted: None, scope };
        let mut origin = personal.device.with_label(Some(personal.label));
        if by.client_id != OWN_CLIENT {
            origin.client = self.store()?.session(by.sid).await?.ok_or_else(superseded)?.session.client;
        }
        let (subject, within) = (by.sub.clone(), Within::New(jti.own_session(), Premise::Generation(generation)));
        let drafted = Drafted { subject, origin, within, access, refresh: None, cookies: false };
        let issued = self.register_for(presented, drafted).await?;
        // Once it is on the registry: whoever ends the presenting token later has it in the list.
        if let Err(error) = self.still_live(by).await {
            self.end_session(jti.own_session(), Actor::system("presenting token ended")).await?;
            return Err(error);
        }
        Ok(issued)
    }

    /// [Registers](Self::register) what is given for a token, and hands it out where the token's key was not retired
    /// meanwhile: whoever has a leaked key must not be left with a token of another one.
    pub(super) async fn register_for(&self, presented: &Checked, drafted: Drafted) -> Result<Issued, Error> {
        let issued = self.register(drafted).await?;
        if self.was_retired(presented.kid()).await? { Err(superseded()) } else { Ok(issued) }
    }

    /// Signs these claims as a token is signed when it is issued, and puts nothing on the registry: so no check
    /// accepts it but with `check = "refresh"`. For the benchmark of that part alone.
    #[doc(hidden)]
    pub fn sign_alone(&self, claims: &Claims) -> Result<String, Error> {
        Ok(self.ring().sign(claims.token_type, claims)?.token)
    }

    /// Whether a token that was found live a moment ago still is. One without a record is good for opening routes until
    /// it expires, but what it leaves behind would outlive it, so here its session must be live.
    async fn still_live(&self, claims: &Claims) -> Result<(), Error> {
        let is_live = if self.is_recorded(claims) {
            self.inner.statuses.call(claims.jti).await?.is_some_and(|status| !status.revoked)
        } else {
            self.live_session(&claims.sub, claims.sid).await?.is_some()
        };
        if is_live { Ok(()) } else { Err(superseded()) }
    }

    /// Signs the drafts and puts those that are recorded on the registry, together or not at all.
    pub(super) async fn register(&self, drafted: Drafted) -> Result<Issued, Error> {
        let ring = self.ring();
        let (issued, insert) = self.signed(&ring, drafted)?;
        self.permit()?;
        let inserted = match self.cap_of(&insert.within, issued.access_claims()) {
            Some(cap) => self.insert_capped(&insert, cap).await?,
            None => self.inner.inserts.call(insert).await?,
        };
        // Its ids are random and were made here: where they are on the registry already, an attempt came through whose
        // answer was lost, and the batch was tried again.
        if inserted != Inserted::Duplicate {
            stored(inserted)?;
        }
        self.still_signs(&ring).await?;
        self.inner.metrics.issued(issued.access_claims(), issued.refresh.is_some());
        Ok(issued)
    }

    /// How many sessions its subject may have with this one; `None` for any number, for a token that is its own
    /// session, as a personal token is, and for one that a client gets for itself.
    pub(super) fn cap_of(&self, within: &Within, access: &Claims) -> Option<Cap> {
        let sessions = &self.settings().sessions;
        let sessions_max = usize::try_from(sessions.max?).unwrap_or(usize::MAX);
        let is_login = access.sid != access.jti.own_session() && access.sub.as_str() != access.client_id;
        let ends_oldest = sessions.when_full == WhenFull::EndOldest;
        match within {
            Within::New(..) if is_login => Some(Cap { sessions_max, ends_oldest, live_at: self.live_at() }),
            _ => None,
        }
    }

    pub(super) async fn insert_capped(&self, insert: &Insert, cap: Cap) -> Result<Inserted, Error> {
        let done = self.store()?.insert_capped(insert, cap).await?;
        if done.mark.is_none() {
            return Ok(done.outcome.inserted);
        }
        // Before the tokens are handed out: the sessions that made room are over everywhere.
        let ended: Vec<Target> = done.outcome.ended.iter().copied().map(Target::Session).collect();
        Ok(self.in_force(done, &ended).await?.inserted)
    }

    /// Signs the drafts; what is then to be put on the registry.
    pub(super) fn signed(&self, ring: &KeyRing, drafted: Drafted) -> Result<(Issued, Insert), Error> {
        let Drafted { subject, origin, within, access, refresh, cookies } = drafted;
        let mut tokens = Vec::with_capacity(2);
        let mut sign = |draft: Draft| -> Result<IssuedToken, Error> {
            let signed = sign_draft(ring, &draft)?;
            if self.is_recorded(&draft.claims) {
                tokens.push(new_token(&draft, signed.claims, signed.kid));
            }
            Ok(IssuedToken { token: signed.token, claims: draft.claims })
        };
        let access = sign(access)?;
        let refresh = refresh.map(&mut sign).transpose()?;
        let session_expires_at = refresh.as_ref().map_or(0, |refresh| refresh.claims.exp).max(access.claims.exp);
        let insert = Insert { subject, origin, within, tokens, now: self.seconds(), session_expires_at };
        Ok((Issued { access, refresh, cookies }, insert))
    }

    /// Puts one token on the registry as imported, in a session of its own.
    pub(super) async fn register_imported(&self, subject: Subject, token: NewToken, sid: Sid) -> Result<(), Error> {
        let insert = Insert {
            subject,
            origin: Origin::default(),
            within: Within::New(sid, Premise::None),
            session_expires_at: token.expires_at,
            now: self.seconds(),
            tokens: vec![token],
        };
        // By itself: an id that is there already would fail the others of a batch.
        match self.store()?.insert(&[insert]).await?.first() {
            Some(Inserted::Duplicate) => Err(Error::new(Kind::Conflict, "the token is on the registry already")),
            Some(inserted) => stored(*inserted),
            None => Err(superseded()),
        }
    }
}

pub(super) fn sign_draft(ring: &KeyRing, draft: &Draft) -> Result<Signed, Error> {
    ring.sign(draft.claims.token_type, &draft.claims)
}

/// A token from the claims of its record, signed once more.
pub(super) fn sign_again(ring: &KeyRing, members: Map<String, Value>) -> Result<IssuedToken, Error> {
    let claims = Claims::from_members(members).map_err(|_| Error::internal("the claims of a record can't be read"))?;
    let signed = ring.sign(claims.token_type, &claims)?;
    Ok(IssuedToken { token: signed.token, claims })
}

pub(super) fn new_token(draft: &Draft, claims: String, kid: String) -> NewToken {
    NewToken {
        jti: draft.claims.jti,
        token_type: draft.claims.token_type,
        issued_at: draft.claims.iat,
        not_before: draft.claims.nbf,
        expires_at: draft.claims.exp,
        scope: draft.scope.clone(),
        claims,
        granted: draft.granted.clone(),
        kid,
        imported: false,
    }
}

/// What became of an insert, where it is not stored.
pub(super) fn stored(inserted: Inserted) -> Result<(), Error> {
    match inserted {
        Inserted::Stored => Ok(()),
        Inserted::Superseded => Err(superseded()),
        Inserted::Full => Err(Error::new(Kind::Full, "The subject has as many sessions as it may have: end one first")),
        Inserted::Reserved => {
            let message = "The subject is a user of this server or a client, and gets its tokens itself";
            Err(Error::new(Kind::Reserved, message))
        }
        Inserted::Duplicate => Err(Error::internal("a token's id is on the registry already")),
    }
}

pub(super) fn superseded() -> Error {
    Error::new(Kind::Superseded, "the session or all tokens of the subject were ended meanwhile")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::config::Settings;
    use crate::registry::Expect;
    use crate::token::Scopes;

    #[tokio::test]
    async fn what_was_stored_by_an_attempt_without_an_answer_is_issued() {
        let registry = Registry::open(Settings::for_tests(), ManualClock::here()).await.unwrap();
        let (alice, sid): (Subject, Sid) = ("alice".parse().unwrap(), Sid::new(registry.now()));
        let claims = registry.draft_claims(&alice, sid, TokenType::Access, 60, false);
        let issue = async || {
            let access = Draft { claims: claims.clone(), granted: None, scope: Scopes::default() };
            let (subject, origin, within) = (alice.clone(), Origin::default(), Within::New(sid, Premise::None));
            registry.register(Drafted { subject, origin, within, access, refresh: None, cookies: false }).await
        };
        let first = issue().await.unwrap();
        assert_eq!(issue().await.unwrap(), first);
        assert!(registry.check(first.access_token(), Expect::access()).await.is_ok());
    }

    #[tokio::test]
    async fn one_that_is_there_already_speaks_for_nobody_else_of_its_batch() {
        let registry = Registry::open(Settings::for_tests(), ManualClock::here()).await.unwrap();
        let drafted = |subject: &str| registry.draft(Grant::to(subject.parse().unwrap())).unwrap();
        let insert = |subject: &str| registry.signed(&registry.ring(), drafted(subject)).unwrap().1;
        let (there, new) = (insert("alice"), insert("bob"));
        let store = registry.store().unwrap();
        assert_eq!(store.insert(std::slice::from_ref(&there)).await.unwrap(), [Inserted::Stored]);
        assert!(store.insert(&[there.clone(), new.clone()]).await.is_err());
        let inserts = &registry.inner.inserts;
        let (told, stored) = tokio::join!(inserts.call(there), inserts.call(new.clone()));
        assert_eq!((told.unwrap(), stored.unwrap()), (Inserted::Duplicate, Inserted::Stored));
        assert!(registry.get(new.tokens[0].jti).await.is_ok());
    }

    #[tokio::test]
    async fn no_personal_token_is_made_with_a_token_whose_session_has_ended() {
        for check in ["all", "refresh"] {
            let settings = Settings::for_tests_with(&format!("check = \"{check}\"")).unwrap();
            let registry = Registry::open(settings, ManualClock::here()).await.unwrap();
            let alice: Subject = "alice".parse().unwrap();
            let issued = registry.issue(Grant::to(alice.clone()).fresh(true)).await.unwrap();
            let presented = registry.check(issued.access_token(), Expect::access()).await.unwrap();
            let personal = || Personal::new("script").unwrap();
            assert!(registry.issue_personal(&presented, personal()).await.is_ok(), "{check}");
            let refresh = registry.check(issued.refresh_token().unwrap(), Expect::refresh()).await.unwrap();
            assert!(registry.issue_personal(&refresh, personal()).await.unwrap_err().is_invalid());

            registry.revoke_all(&alice, None, Actor::application("test")).await.unwrap();
            let refused = registry.issue_personal(&presented, personal()).await;
            assert!(refused.unwrap_err().is_superseded(), "{check}");
        }
    }
}
