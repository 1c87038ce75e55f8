//! Issuing once, however often it is asked for: the first time notes the ids of the tokens, and every further time
//! finds the records that have them, and signs these again. So no token is ever kept.

use super::draft::Drafted;
use super::issue::sign_again;
use super::{Grant, Issued, Registry};
use crate::error::Error;
use crate::store::{Inserted, REPEATED_SECONDS, Repeat, Sha256};
use crate::token::{Actor, Jti, Sid};

/// After how many seconds an attempt is over, however it ended. What it noted is of no use then: tokens of its times
/// would expire sooner, and their session would be one from before what has been ended since.
const ATTEMPT_SECONDS: i64 = 60;

/// What is asked for once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Once<'a> {
    /// Who asks.
    pub(crate) client_id: &'a str,
    /// The caller's own name for it.
    pub(crate) key: &'a str,
    /// Of all that is asked for.
    pub(crate) body_digest: Sha256,
}

/// What asking once came to.
#[derive(Debug)]
pub(crate) enum Repeated {
    /// The tokens, of the first time or again.
    Issued(Box<Issued>),
    /// The key was used for something else.
    OtherBody,
    /// What was issued the first time has been revoked.
    Revoked,
    /// Who asks is no client any more.
    NoClient,
}

impl Registry {
    /// [Issues](Self::issue) tokens the first time that a client asks under this key; the same ones again later.
    pub(crate) async fn issue_once(&self, grant: Grant, once: Once<'_>) -> Result<Repeated, Error> {
        let (now, asked_at) = (self.now(), self.seconds());
        let asked = Repeat {
            body_digest: once.body_digest,
            sid: Sid::new(now),
            access: Jti::new(now),
            refresh: Jti::new(now),
            asked_at,
            expires_at: asked_at + REPEATED_SECONDS,
        };
        let mut drafted = self.draft(grant)?;
        let mut kept = match self.noted(once, &asked).await? {
            Ok(kept) => kept,
            Err(refused) => return Ok(refused),
        };
        drafted.become_that_of(&kept);
        // Who comes first may die before the tokens are there, or be slow: whoever asks again then does it instead.
        if kept.access != asked.access {
            if let Some(issued) = self.issued_before(&drafted).await? {
                return self.given(once, &kept, issued).await;
            }
            // Where they would have expired they may have been issued, and purged: then the answer is what it was.
            let is_unexpired = drafted.claims().any(|claims| claims.exp > asked_at);
            if is_unexpired && asked_at - kept.asked_at > ATTEMPT_SECONDS {
                self.store()?.forget_repeat(once.client_id, once.key, kept.access).await?;
                // Somebody else may have been quicker, and ask for something else.
                kept = match self.noted(once, &asked).await? {
                    Ok(kept) => kept,
                    Err(refused) => return Ok(refused),
                };
                drafted.become_that_of(&kept);
            }
        }
        let ring = self.ring();
        let (issued, insert) = self.signed(&ring, drafted.clone())?;
        // By itself: an id that is there already would fail the others of a batch.
        let inserted = match self.cap_of(&drafted.within, issued.access_claims()) {
            Some(cap) => Some(self.insert_capped(&insert, cap).await?),
            None => self.store()?.insert(std::slice::from_ref(&insert)).await?.pop(),
        };
        // Somebody else asked the same at once: its ids are there already, and its session is counted.
        if matches!(inserted, Some(Inserted::Duplicate | Inserted::Full))
            && let Some(issued) = self.issued_before(&drafted).await?
        {
            return self.given(once, &kept, issued).await;
        }
        if let Err(refused) = super::issue::stored(inserted.unwrap_or(Inserted::Superseded)) {
            // Nothing was issued, so the key is as good as new.
            self.store()?.forget_repeat(once.client_id, once.key, drafted.access.claims.jti).await?;
            return Err(refused);
        }
        self.still_signs(&ring).await?;
        self.inner.metrics.issued(issued.access_claims(), issued.refresh_token().is_some());
        self.given(once, &kept, Some(issued)).await
    }

    /// What was asked for first under this key: this, where nothing was.
    async fn noted(&self, once: Once<'_>, asked: &Repeat) -> Result<Result<Repeat, Repeated>, Error> {
        Ok(match self.store()?.repeat(once.client_id, once.key, asked).await? {
            None => Err(Repeated::NoClient),
            Some(kept) if kept.body_digest != once.body_digest => Err(Repeated::OtherBody),
            Some(kept) => Ok(kept),
        })
    }

    /// Gives what was issued by this note; `None` where it has been revoked. The note is looked for again, and made
    /// again where it is gone: somebody who went by it too and was refused took it back, if that was before the tokens
    /// were there.
    async fn given(&self, once: Once<'_>, kept: &Repeat, issued: Option<Issued>) -> Result<Repeated, Error> {
        let Some(issued) = issued else { return Ok(Repeated::Revoked) };
        match self.noted(once, kept).await? {
            Ok(now) if now.access == kept.access => Ok(Repeated::Issued(Box::new(issued))),
            // By now the key stands for what somebody else has asked for since, who may have been answered.
            _ => {
                self.end_session(kept.sid, Actor::system("Idempotency-Key")).await?;
                Err(Error::unavailable("somebody else used the Idempotency-Key at once: try again"))
            }
        }
    }

    /// What was issued for this draft before, if anything was: `Some(None)` where that has been revoked.
    async fn issued_before(&self, drafted: &Drafted) -> Result<Option<Option<Issued>>, Error> {
        // The session first: its records came with it, so whoever finds it doesn't miss one that nobody accepts.
        match self.store()?.session(drafted.access.claims.sid).await? {
            None => return Ok(None),
            Some(session) if session.ended.is_some() => return Ok(Some(None)),
            Some(_) => {}
        }
        let mut tokens = Vec::with_capacity(2);
        let ring = self.ring();
        for claims in drafted.claims() {
            let record = match self.store()?.record(claims.jti).await? {
                Some(record) if record.revocation.is_some() => return Ok(Some(None)),
                record => record,
            };
            // One without a record of its own, or with none any more, says the same again: it was asked for at the same
            // time.
            let members = record.map_or_else(|| claims.to_members(), |record| record.token);
            tokens.push(sign_again(&ring, members)?);
        }
        // Whoever issued them may not have come to the end of the wait for a session that made room for theirs.
        if self.cap_of(&drafted.within, &drafted.access.claims).is_some_and(|cap| cap.ends_oldest) {
            self.all_in_force().await?;
        }
        self.still_signs(&ring).await?;
        let mut tokens = tokens.into_iter();
        let access = tokens.next().ok_or_else(|| Error::internal("a draft has no access token"))?;
        Ok(Some(Some(Issued { access, refresh: tokens.next(), cookies: drafted.cookies })))
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;
    use crate::config::Settings;
    use crate::registry::Expect;
    use crate::store::StoredClient;
    use crate::token::{Act, Scopes, Subject};

    const SETTINGS: &str = "
        consistency = \"strict\"
        master_key = \"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\"
    ";

    /// Adds the client that asks.
    async fn add_shop(registry: &Registry) {
        let shop = StoredClient {
            client_id: "shop".to_owned(),
            name: "shop".to_owned(),
            scope: Scopes::default(),
            grant_scope: Scopes::default(),
            audience: Vec::new(),
            serves: None,
            first_party: false,
            disabled: false,
            secret_digest: [0; 32],
            old_secret: None,
            created_at: registry.seconds(),
            secret_changed_at: registry.seconds(),
        };
        assert!(
            registry
                .store()
                .expect("it is open")
                .add_client(&shop, &Act::by(Actor::application("test")), registry.seconds())
                .await
                .expect("it is added")
        );
    }

    #[tokio::test]
    async fn what_an_attempt_noted_that_died_is_finished_or_begun_anew() {
        let clock = ManualClock::here();
        let registry = Registry::open(Settings::for_tests(), clock.clone()).await.unwrap();
        add_shop(&registry).await;
        for (seconds, is_finished) in [(ATTEMPT_SECONDS, true), (ATTEMPT_SECONDS + 1, false)] {
            let (now, key) = (registry.now(), seconds.to_string());
            let noted = Repeat {
                body_digest: [0; 32],
                sid: Sid::new(now),
                access: Jti::new(now),
                refresh: Jti::new(now),
                asked_at: registry.seconds(),
                expires_at: registry.seconds() + REPEATED_SECONDS,
            };
            registry.store().unwrap().repeat("shop", &key, &noted).await.unwrap().unwrap();
            clock.advance(Duration::from_secs(seconds.try_into().unwrap()));
            let ask = async || {
                let once = Once { client_id: "shop", key: &key, body_digest: [0; 32] };
                let Repeated::Issued(issued) =
                    registry.issue_once(Grant::to("bob".parse().unwrap()), once).await.unwrap()
                else {
                    panic!("it was not issued")
                };
                *issued
            };
            let issued = ask().await;
            assert_eq!(issued.access_claims().jti == noted.access, is_finished);
            assert_eq!(issued.access_claims().iat == noted.asked_at, is_finished);
            assert_eq!(ask().await, issued);
        }
    }

    #[tokio::test]
    async fn nothing_is_given_again_that_a_retired_key_signed() {
        let directory = tempfile::tempdir().unwrap();
        let file = format!("{SETTINGS}\ndatabase_url = \"sqlite://{}/registry.db\"", directory.path().display());
        let clock = ManualClock::here();
        let open = || Registry::open(Settings::for_tests_with(&file).unwrap(), clock.clone());
        let (registry, other) = (open().await.unwrap(), open().await.unwrap());
        let act = Act::by(Actor::application("test"));
        add_shop(&registry).await;
        let ask = async || {
            let once = Once { client_id: "shop", key: "k", body_digest: [0; 32] };
            registry.issue_once(Grant::to("alice".parse().unwrap()), once).await
        };
        assert!(matches!(ask().await.unwrap(), Repeated::Issued(_)));
        clock.advance(Duration::from_secs(300));
        registry.rotate_keys(&act).await.unwrap();
        // This process asks the database each time, and has not heard of it yet.
        other.retire_key(registry.ring().current_kid(), &act).await.unwrap();
        assert!(ask().await.unwrap_err().is_unavailable());
        let Repeated::Issued(again) = ask().await.unwrap() else { panic!("it was issued before") };
        assert!(registry.check(again.access_token(), Expect::access()).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_given_is_live_where_somebody_asks_at_once_who_signs_with_a_retired_key() {
        let directory = tempfile::tempdir().unwrap();
        let file = format!("{SETTINGS}\ndatabase_url = \"sqlite://{}/registry.db\"", directory.path().display());
        let clock = ManualClock::here();
        let open = || Registry::open(Settings::for_tests_with(&file).unwrap(), clock.clone());
        let (stale, registry) = (open().await.unwrap(), open().await.unwrap());
        let act = Act::by(Actor::application("test"));
        add_shop(&registry).await;
        let mut given = 0;
        // Now one is the first, now the other, and now what one wrote is there when the other has looked half-way.
        for number in 0..200 {
            let key = number.to_string();
            let ask = async |registry: &Registry| {
                let once = Once { client_id: "shop", key: &key, body_digest: [0; 32] };
                registry.issue_once(Grant::to("alice".parse().unwrap()), once).await
            };
            // The other process asks the database each time, and has not heard of it yet.
            registry.retire_key(registry.ring().current_kid(), &act).await.unwrap();
            let (refused, answer) = tokio::join!(ask(&stale), ask(&registry));
            assert!(refused.unwrap_err().is_unavailable());
            if let Repeated::Issued(issued) = answer.unwrap() {
                given += 1;
                assert!(registry.check(issued.access_token(), Expect::access()).await.is_ok());
            }
        }
        assert!(given > 0);
    }

    #[tokio::test]
    async fn what_is_begun_anew_is_not_what_somebody_else_asks_for_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = format!("{SETTINGS}\ndatabase_url = \"sqlite://{}/registry.db\"", directory.path().display());
        let clock = ManualClock::here();
        let open = || Registry::open(Settings::for_tests_with(&file).unwrap(), clock.clone());
        let (one, other) = (open().await.unwrap(), open().await.unwrap());
        add_shop(&one).await;
        let mut met = 0;
        for number in 0..500 {
            if met == 2 {
                break;
            }
            let key = number.to_string();
            let died = Repeat {
                body_digest: [1; 32],
                sid: Sid::new(one.now()),
                access: Jti::new(one.now()),
                refresh: Jti::new(one.now()),
                asked_at: one.seconds() - ATTEMPT_SECONDS - 1,
                expires_at: one.seconds() + REPEATED_SECONDS,
            };
            one.store().unwrap().repeat("shop", &key, &died).await.unwrap().unwrap();
            let ask = async |registry: &Registry, subject: &str, body: u8| {
                let once = Once { client_id: "shop", key: &key, body_digest: [body; 32] };
                registry.issue_once(Grant::to(subject.parse().unwrap()), once).await.unwrap()
            };
            let (mut asked_first, mut asked_else) = (None, None);
            tokio::join!(async { asked_first = Some(ask(&one, "alice", 1).await) }, async {
                // Until there is no note of what was asked for first, or never again.
                for _ in 0..20 {
                    let answer = ask(&other, "bob", 2).await;
                    let is_met = !matches!(answer, Repeated::OtherBody);
                    asked_else = Some(answer);
                    if is_met {
                        met += 1;
                        break;
                    }
                }
            });
            for (answer, subject) in [(asked_first, "alice"), (asked_else, "bob")] {
                if let Some(Repeated::Issued(issued)) = answer {
                    assert_eq!(issued.access_claims().sub.as_str(), subject, "{number}");
                }
            }
        }
        assert!(met > 0);
    }

    #[tokio::test]
    async fn what_is_given_again_waits_for_the_end_of_the_session_that_made_room() {
        let capped = format!("{SETTINGS}\n[sessions]\nmax = 1\nwhen_full = \"end_oldest\"");
        let registry = Registry::open(Settings::for_tests_with(&capped).unwrap(), ManualClock::here()).await.unwrap();
        add_shop(&registry).await;
        registry.issue(Grant::to("alice".parse().unwrap())).await.unwrap();
        // A replica that says nothing until the end.
        let store = registry.store().unwrap();
        let replica = uuid::Uuid::new_v4();
        let joined = store.join(replica, "another", 60_000, None).await.unwrap();
        let ask = || {
            let once = Once { client_id: "shop", key: "k", body_digest: [0; 32] };
            registry.issue_once(Grant::to("alice".parse().unwrap()), once)
        };
        let (mut first, mut again) = (pin!(ask()), pin!(ask()));
        let moment = Duration::from_millis(50);
        while store.position().await.unwrap() == joined {
            assert!(tokio::time::timeout(moment, &mut first).await.is_err());
        }
        assert!(tokio::time::timeout(moment, &mut again).await.is_err(), "it is given before it is in force");
        let news = store.renew(replica, joined).await.unwrap().unwrap();
        store.renew(replica, news.position).await.unwrap().unwrap();
        let (Repeated::Issued(first), Repeated::Issued(again)) = (first.await.unwrap(), again.await.unwrap()) else {
            panic!("it was issued")
        };
        assert_eq!(first, again);
    }

    #[tokio::test]
    async fn what_is_given_is_what_the_key_stands_for_though_another_was_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = format!(
            "{SETTINGS}\ndatabase_url = \"sqlite://{}/registry.db\"\nsessions.max = 1",
            directory.path().display()
        );
        let clock = ManualClock::here();
        let open = || Registry::open(Settings::for_tests_with(&file).unwrap(), clock.clone());
        let (one, other) = (open().await.unwrap(), open().await.unwrap());
        add_shop(&one).await;
        let mut given = 0;
        for number in 0..60 {
            let key = number.to_string();
            let subject: Subject = format!("customer-{number}").parse().unwrap();
            let full = one.issue(Grant::to(subject.clone())).await.unwrap();
            let ask = async |registry: &Registry| {
                let once = Once { client_id: "shop", key: &key, body_digest: [0; 32] };
                match registry.issue_once(Grant::to(subject.clone()), once).await {
                    Ok(Repeated::Issued(issued)) => Some(issued),
                    _ => None,
                }
            };
            let sid = full.access_claims().sid;
            let (first, second, third, ended) =
                tokio::join!(ask(&one), ask(&other), ask(&one), one.end_session(sid, Actor::application("test")));
            ended.unwrap();
            for issued in [first, second, third].into_iter().flatten() {
                given += 1;
                assert_eq!(ask(&other).await, Some(issued), "{number}");
            }
        }
        assert!(given > 0);
    }
}
