//! What an operator may know of a token that a caller may not.

use serde::Serialize;
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
        let verified = self.verify(token).await;
        let unverified = verified.is_err().then(|| self.ring().claims_of_retired(token)).flatten();
        let members = unverified.as_ref().or(verified.as_ref().ok().map(|verified| &verified.claims));
        let record = match members.and_then(jti_of) {
            Some(jti) => self.store()?.record(jti).await?,
            None => None,
        };
        // Of a retired key nothing may be left to verify by: then its record has to say the same.
        let record = record.filter(|record| unverified.as_ref().is_none_or(|claims| record.token == *claims));
        Ok(Inspected { verdict, record })
    }

    /// What is said of a token to a client, as a JWT that says who said it, to whom and when (RFC 9701 §5).
    pub(crate) async fn sign_introspection(&self, client_id: &str, said: &impl Serialize) -> Result<String, Error> {
        let said = serde_json::to_value(said)
            .map_err(|error| Error::internal("an introspection can't be written as JSON").with_source(error))?;
        let members = [
            ("iss".to_owned(), self.settings().issuer().into()),
            ("aud".to_owned(), client_id.into()),
            ("iat".to_owned(), self.seconds().into()),
            ("token_introspection".to_owned(), said),
        ];
        let ring = self.ring();
        let signed = ring.sign_as("token-introspection+jwt", &Map::from_iter(members))?;
        // A process without a lease may not have heard that the key was retired, and nobody could verify it.
        self.still_signs(&ring).await?;
        Ok(signed.token)
    }

    /// What a token of this registry's own making says, whether it is live or not; `None` for any other, for certain.
    pub(crate) async fn issued(&self, token: &str) -> Result<Option<Claims>, Error> {
        let verified = match self.verify_surely(token).await {
            Ok(verified) => verified,
            Err(Denial::Unavailable) => return Err(Error::unavailable("the keys can't be read just now")),
            Err(_) => return Ok(None),
        };
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

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::config::Settings;
    use crate::registry::Grant;
    use crate::token::{Act, Actor};

    /// Two processes on one database.
    async fn two(directory: &tempfile::TempDir, consistency: &str) -> (Registry, Registry) {
        let file = format!(
            "consistency = \"{consistency}\"\ndatabase_url = \"sqlite://{}/registry.db\"\n\
             master_key = \"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\"",
            directory.path().display()
        );
        let clock = ManualClock::here();
        let settings = Settings::for_tests_with(&file).expect("they are good");
        let open = async || Registry::open(settings.clone(), clock.clone()).await.expect("it opens");
        (open().await, open().await)
    }

    #[tokio::test]
    async fn nothing_is_said_that_a_retired_key_signed() {
        let directory = tempfile::tempdir().unwrap();
        let (stale, registry) = two(&directory, "strict").await;
        let retired = registry.ring().current_kid().to_owned();
        registry.retire_key(&retired, &Act::by(Actor::application("test"))).await.unwrap();
        assert_eq!(stale.ring().current_kid(), retired);
        assert!(stale.sign_introspection("api", &"").await.unwrap_err().is_unavailable());
        let said = stale.sign_introspection("api", &"").await.unwrap();
        assert!(registry.verify(&said).await.is_ok());
    }

    #[tokio::test]
    async fn what_another_process_signed_with_a_key_not_heard_of_is_found_though_a_look_was_just_taken() {
        let directory = tempfile::tempdir().unwrap();
        let (leased, registry) = two(&directory, "leased").await;
        leased.inner.memory.rely_until(leased.clock().steady() + std::time::Duration::from_secs(1));
        // Two keys are retired before it hears of either, and somebody names one that nobody has.
        for _ in 0..2 {
            registry.retire_key(registry.ring().current_kid(), &Act::by(Actor::application("test"))).await.unwrap();
        }
        let issued = registry.issue(Grant::to("alice".parse().unwrap())).await.unwrap();
        assert!(leased.inner.ring.may_ask(leased.clock().steady()));
        assert!(leased.verify(issued.access_token()).await.is_err());
        let found = leased.issued(issued.access_token()).await.unwrap();
        assert_eq!(found.as_ref(), Some(issued.access_claims()));
    }
}
