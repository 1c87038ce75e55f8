//! What a purge takes, and what it leaves.

use counterfoil::{Clock, Denial, Expect, Filter, Grant, Refresh, Registry, Settings, SystemClock};

use super::{admin, jti, name, open, open_with, refresh_token};
use crate::support::on_both;

/// The clock of a machine that is a minute ahead of its database.
#[derive(Debug)]
struct Ahead;

impl Clock for Ahead {
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        SystemClock.now() + chrono::TimeDelta::seconds(60)
    }
}

on_both! {
    async fn a_purge_ends_however_long_it_rests_between_batches(database: Database) {
        // Longer than what it takes for its cutoff to move on, which it does by the machine's clock.
        let registry = open_with(database, "purge.pause = '1100ms'").await;
        let settings = Settings::for_tests_with(&registry.settings).unwrap();
        let registry = Registry::open(settings, SystemClock).await.unwrap();
        let purge = tokio::time::timeout(std::time::Duration::from_secs(30), registry.purge());
        assert!(purge.await.expect("it ends").unwrap().complete);
    }

    async fn the_purge_takes_what_has_expired_for_every_checker_and_nothing_else(database: Database) {
        let registry = open_with(database, "leeway = '30s'\npurge.retain = '1m'\npurge.batch = 2\npurge.pause = '0s'").await;
        let mut access = Vec::new();
        for n in 0..5 {
            access.push(registry.issue(Grant::to(name(&format!("user{n}"))).without_refresh()).await.unwrap());
        }
        let kept = registry.pair("alice").await;
        registry.pass(15 * 60 - 1 + 30 + 60);
        assert_eq!((registry.purgeable().await.unwrap(), registry.purge().await.unwrap().tokens), (0, 0));
        registry.pass(1);
        assert_eq!(registry.purgeable().await.unwrap(), 5);
        let twin = registry.twin().await;
        let mut progress = Vec::new();
        let purged = twin.purge_with(|gone| progress.push(gone)).await.unwrap();
        assert_eq!((purged.tokens, purged.complete), (5, true));
        assert!(progress.is_sorted() && progress.len() >= 3, "{progress:?}");
        assert!(registry.get(jti(&access[0])).await.unwrap_err().is_not_found());
        assert_eq!(registry.check(access[0].access_token(), Expect::access()).await, Err(Denial::Expired));

        // The session outlives its access token, and the refresh token lives.
        let presented = registry.check(refresh_token(&kept), Expect::refresh()).await.unwrap();
        registry.pass(60);
        let refreshed = registry.refresh(&presented, Refresh::new()).await.unwrap();
        assert!(registry.accepts(refreshed.access_token()).await);
        registry.pass(31 * 24 * 60 * 60);
        registry.purge().await.unwrap();
        assert!(registry.list(&Filter::all()).await.unwrap().is_empty());
        assert!(registry.sessions(&name("alice"), None, 10).await.unwrap().sessions.is_empty());
    }

    async fn a_purge_forgets_no_end_that_still_matters(database: Database) {
        let registry = open(database).await;
        let issued = registry.pair("alice").await;
        registry.revoke_all(&name("alice"), None, admin()).await.unwrap();
        registry.pass(29 * 24 * 60 * 60);
        registry.purge().await.unwrap();
        assert!(!registry.accepts(refresh_token(&issued)).await);
        let (.., reason, is_final) = registry.revocation_of(issued.refresh_claims().unwrap().jti).await.unwrap();
        assert_eq!((reason.as_deref(), is_final), (Some("a lost phone"), true));
        // A log-in that is under way is superseded, purge or no purge.
        let as_of = registry.as_of(&name("bob")).await.unwrap();
        registry.revoke_all(&name("bob"), None, admin()).await.unwrap();
        registry.pass(60 * 60);
        registry.purge().await.unwrap();
        assert!(registry.issue(Grant::to(name("bob")).as_of(as_of)).await.unwrap_err().is_superseded());
    }

    async fn a_machine_with_a_wrong_clock_purges_nothing(database: Database) {
        let registry = open(database).await;
        let ahead = Registry::open(Settings::for_tests_with(&registry.settings).unwrap(), Ahead).await.unwrap();
        assert!(ahead.purge().await.unwrap_err().is_unavailable());
        assert!(ahead.purgeable().await.unwrap_err().is_unavailable());
    }

    async fn one_process_purges_at_a_time(database: Database) {
        let registry = open_with(database, "purge.batch = 1\npurge.pause = '50ms'").await;
        for _ in 0..6 {
            registry.issue(Grant::to(name("alice")).without_refresh()).await.unwrap();
        }
        registry.pass(15 * 60 + 1);
        let twin = registry.twin().await;
        let (one, two) = tokio::join!(registry.purge(), twin.purge());
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(one.tokens + two.tokens, 6);
        assert!(one.tokens == 0 || two.tokens == 0, "{one:?} {two:?}");
        assert!(one.complete != two.complete);
    }
}
