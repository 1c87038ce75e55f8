//! The check: bytes, signature, claims, record. Cheapest first, and every answer but "yes" is a [`Denial`].

use std::sync::Arc;

use serde_json::{Map, Value};

use super::memory::{Digest, Known, Reading, Recalled};
use super::{Checked, Expect, Registry};
use crate::config::Check;
use crate::keys::Verified;
use crate::store::Status;
#[cfg(feature = "server")]
use crate::token::Subject;
use crate::token::{AudienceRule, Claims, Denial, Jti, TokenType};

impl Registry {
    /// Checks a token: shape, signature, claims, times, record.
    ///
    /// This is what the guards call. A token that was seen before is answered from memory while this process has a
    /// lease on it, which asks no database; otherwise the registry is asked whether the token is known and live.
    ///
    /// # Errors
    ///
    /// Why it is refused; [`Denial::Unavailable`] where the registry can't be asked, which is never a yes.
    pub async fn check(&self, token: &str, expect: Expect<'_>) -> Result<Checked, Denial> {
        self.check_digested(token, self.digest(token), expect).await
    }

    /// What stands for a token's bytes in this process.
    pub(crate) fn digest(&self, token: &str) -> Digest {
        self.inner.memory.digest(token)
    }

    /// [`check`](Self::check), for a caller that has the digest.
    pub(crate) async fn check_digested(
        &self,
        token: &str,
        digest: Digest,
        expect: Expect<'_>,
    ) -> Result<Checked, Denial> {
        let outcome = self.check_uncounted(token, digest, expect).await;
        // What a spent one comes to is for the refresh to say.
        if !outcome.as_ref().is_ok_and(Checked::is_spent) {
            self.inner.metrics.checked(outcome.as_ref().err());
        }
        if let Ok(checked) = &outcome {
            self.note_use(&checked.known);
        }
        outcome
    }

    pub(super) async fn check_uncounted(
        &self,
        token: &str,
        digest: Digest,
        expect: Expect<'_>,
    ) -> Result<Checked, Denial> {
        let recalled = self.inner.memory.recall(digest, self.clock().steady());
        match recalled {
            Some(Recalled { known, is_live: true }) => {
                self.inner.metrics.hit();
                self.judge(&known, expect)?;
                Ok(Checked { known, spent: false })
            }
            // In a box: whatever asks a database would make the state of every check as large as its own.
            recalled => Box::pin(self.ask(token, digest, recalled.map(|recalled| recalled.known), expect)).await,
        }
    }

    /// Checks once more a token that was found live before, without its bytes: they were verified. It is answered from
    /// memory wherever a check would be.
    pub(crate) async fn check_again(&self, checked: &Checked, digest: Digest) -> Result<(), Denial> {
        let expect = Expect::either();
        let now = self.clock().steady();
        match self.inner.memory.recall(digest, now) {
            Some(Recalled { known, is_live: true }) => self.judge(&known, expect),
            _ if self.ask_again(&checked.known, expect, self.inner.memory.begin(now)).await? => Ok(()),
            // Its record has been changed by hand.
            _ => Err(Denial::Invalid),
        }
    }

    /// Begins to read something that rests on a subject; `None` where it can't be relied on later.
    #[cfg(feature = "server")]
    pub(crate) fn begin_reading(&self) -> Option<super::Reading> {
        self.inner.memory.begin(self.clock().steady())
    }

    /// Whether what was read of a subject may still be relied on.
    #[cfg(feature = "server")]
    pub(crate) fn vouches_for(&self, subject: &Subject, reading: super::Reading) -> bool {
        self.inner.memory.vouches_for(subject.as_str(), reading, self.clock().steady())
    }

    /// Checks a token whose record has to be asked for, and remembers what was found. The bytes of a `known` one have
    /// been verified before.
    async fn ask(
        &self,
        token: &str,
        digest: Digest,
        known: Option<Arc<Known>>,
        expect: Expect<'_>,
    ) -> Result<Checked, Denial> {
        // Before the database is asked: what changes from here on voids the reading.
        let reading = self.inner.memory.begin(self.clock().steady());
        let (checked, is_news) = match known {
            // Its bytes are remembered already, and what is read outside of a lease can't be relied on: nothing is new.
            Some(known) if self.ask_again(&known, expect, reading).await? => {
                (Checked { known, spent: false }, reading.is_some())
            }
            // Not known, or its record has been changed by hand.
            _ => (self.ask_first(token, expect, reading).await?, true),
        };
        let known = &checked.known;
        // A refresh token always asks: whether it was spent is decided in the database. Nor is a token remembered whose
        // record was purged: that is good for logging out alone.
        let has_its_record = known.recorded || known.asks_key;
        if is_news && known.token_type == TokenType::Access && has_its_record {
            // One that another key signed anew than its record names ends with either, and is found in memory by one of
            // them alone: of such a one no more than the bytes is known, and its record is asked each time.
            let reading = reading.filter(|_| !(known.recorded && known.asks_key));
            self.inner.memory.remember(digest, known.clone(), reading);
        }
        Ok(checked)
    }

    /// Checks a token that was verified before; `false` where its record is not the one that it was verified with.
    async fn ask_again(&self, known: &Known, expect: Expect<'_>, reading: Option<Reading>) -> Result<bool, Denial> {
        if !known.imported {
            self.judge(known, expect)?;
        }
        // The key that signed, where no record is asked about that.
        if known.asks_key {
            self.check_key(&known.kid, reading).await?;
            if !known.recorded {
                return Ok(true);
            }
        }
        let Some(status) = self.status(known.claims.jti).await? else {
            // Whether one that has expired is good for logging out is for the first check to say.
            return if self.is_expired(&known.claims) { Ok(false) } else { Err(Denial::Unknown) };
        };
        if status.revoked {
            return Err(Denial::Revoked);
        }
        let is_same = self.inner.memory.record_digest(&status.claims) == known.record_digest
            && status.sid == known.claims.sid
            && status.ends(&known.claims) == known.exp;
        if is_same && known.imported {
            self.judge(known, expect)?;
        }
        Ok(is_same)
    }

    async fn ask_first(&self, token: &str, expect: Expect<'_>, reading: Option<Reading>) -> Result<Checked, Denial> {
        let verified = self.verify(token).await?;
        if is_of_own_form(&verified) {
            self.check_own(verified, expect, reading).await
        } else {
            self.check_imported(verified, expect, reading).await
        }
    }

    /// The rules that need no record, in the order that the kind of token has.
    fn judge(&self, known: &Known, expect: Expect<'_>) -> Result<(), Denial> {
        let rules = self.rules(expect.audience);
        let origin = || match expect.audience {
            // Whatever audience was asked for: a token of the console opens nothing else, and no other opens the
            // console.
            _ if known.is_console != expect.console => Err(Denial::Invalid),
            // Settled when it was remembered: the claims lie further away.
            AudienceRule::Own if known.is_own => Ok(()),
            _ => known.claims.check_origin(&rules),
        };
        let times = || match rules.check_times(known.exp, known.nbf) {
            Err(Denial::Expired) if expect.even_expired => Ok(()),
            times => times,
        };
        if known.imported {
            times()?;
            origin()?;
        } else {
            origin()?;
            times()?;
        }
        check_type(known.token_type, expect)
    }

    /// A verified token, to be remembered, with its record's claims where it has one.
    fn known(&self, claims: Claims, kid: &str, record: Option<&Status>, imported: bool) -> Arc<Known> {
        let is_own = claims.check_origin(&self.rules(AudienceRule::Own)).is_ok();
        // A record answers for the key that it names, in the place of which another may have signed anew.
        let asks_key = match record {
            Some(record) => record.kid != kid,
            None => !self.is_recorded(&claims),
        };
        let exp = record.map_or(claims.exp, |record| record.ends(&claims));
        let record = record.map(|record| record.claims.as_str());
        let mut known = self.inner.memory.known(claims, kid, record, imported, is_own);
        (known.asks_key, known.exp) = (asks_key, exp);
        Arc::new(known)
    }

    /// A token of this registry's own making: its claims speak, its record decides.
    async fn check_own(
        &self,
        verified: Verified,
        expect: Expect<'_>,
        reading: Option<Reading>,
    ) -> Result<Checked, Denial> {
        let claims = Claims::from_members(verified.claims)?;
        if verified.typ != Some(claims.token_type) {
            return Err(Denial::Invalid);
        }
        let known = self.known(claims, &verified.kid, None, false);
        self.judge(&known, expect)?;
        let claims = &known.claims;
        if known.asks_key {
            self.check_key(&known.kid, reading).await?;
            return Ok(Checked { known, spent: false });
        }
        let record = match self.status(claims.jti).await? {
            // Its record may have been purged; what it may still do needs none, and it is not remembered. Whoever takes
            // no expired ones gets none that expired since it was judged.
            None if expect.even_expired && self.is_expired(claims) => return Ok(Checked { known, spent: false }),
            None => return Err(Denial::Unknown),
            Some(status) if is_refused(&status, expect) => return Err(Denial::Revoked),
            // Signed with a key that is accepted here, but not what was issued: whoever got hold of such a key,
            // perhaps an old one, can't give a token that is known other claims.
            Some(status) if !is_as_issued(claims, &status) => return Err(Denial::Invalid),
            Some(status) => status,
        };
        // One of another registry's, imported, has another session here than it names.
        let claims = Claims { sid: record.sid, ..claims.clone() };
        let known = self.known(claims, &verified.kid, Some(&record), false);
        if known.exp < known.claims.exp {
            self.judge(&known, expect)?;
        }
        if known.asks_key {
            self.check_key(&known.kid, reading).await?;
        }
        Ok(Checked { known, spent: record.spent })
    }

    /// A token from before the registry was adopted: good only where its record says that it was imported, and then
    /// the record speaks for what the token leaves out.
    async fn check_imported(
        &self,
        verified: Verified,
        expect: Expect<'_>,
        reading: Option<Reading>,
    ) -> Result<Checked, Denial> {
        let jti = super::import::jti_of(&verified.claims).ok_or(Denial::Invalid)?;
        let status = self.status(jti).await?.ok_or(Denial::Unknown)?;
        if !status.imported {
            return Err(Denial::Invalid);
        }
        if is_refused(&status, expect) {
            return Err(Denial::Revoked);
        }
        // It is the very token that was imported, or another one made up with its id.
        if !serde_json::to_string(&verified.claims).is_ok_and(|presented| presented == status.claims) {
            return Err(Denial::Invalid);
        }
        let claims = super::import::complete(verified.claims, jti, &status, &self.inner.settings)?;
        let known = self.known(claims, &verified.kid, Some(&status), true);
        if known.asks_key {
            self.check_key(&known.kid, reading).await?;
        }
        self.judge(&known, expect)?;
        Ok(Checked { known, spent: status.spent })
    }

    fn is_expired(&self, claims: &Claims) -> bool {
        claims.check_times(&self.rules(AudienceRule::Any)) == Err(Denial::Expired)
    }

    /// Whether tokens like this one are on the registry. With `check = "refresh"` access tokens are not, but for those
    /// that are their own session, as personal tokens are.
    pub(super) fn is_recorded(&self, claims: &Claims) -> bool {
        self.inner.settings.check == Check::All
            || claims.token_type == TokenType::Refresh
            || claims.sid == claims.jti.own_session()
    }

    async fn status(&self, jti: Jti) -> Result<Option<Status>, Denial> {
        let started = std::time::Instant::now();
        let status = match self.permit() {
            Ok(()) => self.inner.statuses.call(jti).await,
            Err(error) => Err(error),
        };
        self.inner.metrics.asked(self.is_leased(), started.elapsed());
        status.map_err(|error| {
            tracing::warn!(error = %error.in_full(), "a token can't be checked");
            Denial::Unavailable
        })
    }
}

/// Whether a token has the form of this registry's own, and is checked as one, whoever issued it.
pub(super) fn is_of_own_form(verified: &Verified) -> bool {
    verified.named && verified.typ.is_some()
}

/// Whether its record refuses a token.
fn is_refused(status: &Status, expect: Expect<'_>) -> bool {
    status.revoked && !(expect.even_spent && status.spent)
}

/// Whether a token says what its record says was issued.
fn is_as_issued(claims: &Claims, status: &Status) -> bool {
    serde_json::from_str::<Map<String, Value>>(&status.claims)
        .is_ok_and(|issued| Claims::from_members(issued).as_ref() == Ok(claims))
}

fn check_type(token_type: TokenType, expect: Expect<'_>) -> Result<(), Denial> {
    match expect.token_type {
        Some(expected) if expected != token_type => Err(Denial::WrongType),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
