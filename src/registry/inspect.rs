//! What an operator may know of a token that a caller may not.

use super::import::jti_of;
use super::{Expect, Registry};
use crate::error::Error;
use crate::token::{AudienceRule, Denial, Record};

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
}
