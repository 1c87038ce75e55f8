//! What an operator may know of a token that a caller may not.

use serde_json::{Map, Value};

use super::import::jti_of;
use super::{Expect, Registry};
use crate::error::Error;
use crate::token::{AudienceRule, Claims, Denial, Record};

/// A token, and what the registry holds of it.
pub(crate) struct Inspected {
    /// Why it is not live; `None` where it is.
    pub(crate) verdict: Option<Denial>,
    /// Its record, where its signature is good and it has one.
    pub(crate) record: Option<Record>,
}

impl Registry {
    /// Checks a token of either type for any audience, and brings its record whatever the verdict. It counts as no use.
    pub(crate) async fn inspect(&self, token: &str) -> Result<Inspected, Error> {
        let verdict =
            self.check_uncounted(token, self.digest(token), Expect::either().audience(AudienceRule::Any)).await.err();
        if verdict == Some(Denial::Unavailable) {
            return Err(Error::unavailable("the registry can't be asked just now"));
        }
        // Of what nobody vouches for, the id means nothing.
        let jti = self.inner.keys.verify(token).ok().and_then(|verified| jti_of(&verified.claims));
        let record = match jti {
            Some(jti) => self.store()?.record(jti).await?,
            None => None,
        };
        Ok(Inspected { verdict, record })
    }

    /// What a token of this registry's own making says, whether it is live or not; `None` for any other.
    pub(crate) async fn issued(&self, token: &str) -> Result<Option<Claims>, Error> {
        let Ok(verified) = self.inner.keys.verify(token) else { return Ok(None) };
        let typ = verified.typ.filter(|_| verified.named);
        let Ok(claims) = Claims::from_members(verified.claims) else { return Ok(None) };
        if typ != Some(claims.token_type) || claims.check_origin(&self.rules(AudienceRule::Any)).is_err() {
            return Ok(None);
        }
        if !self.is_recorded(&claims) {
            return Ok(Some(claims));
        }
        let record = self.store()?.record(claims.jti).await?;
        let is_as_issued = |issued: Map<String, Value>| Claims::from_members(issued).as_ref() == Ok(&claims);
        Ok(record.is_some_and(|record| is_as_issued(record.token)).then_some(claims))
    }
}
