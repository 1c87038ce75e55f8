//! Undoing revocations: by whom, and with what.

use counterfoil::{Actor, Checked, Expect};

use super::{Fixture, admin, by, jti, name, open, open_with, refresh_token, sid};
use crate::support::on_both;

impl Fixture {
    async fn present(&self, token: &str) -> Checked {
        self.check(token, Expect::either()).await.unwrap()
    }
}

on_both! {
    async fn revoking_touches_one_record_and_can_be_undone(database: Database) {
        let registry = open(database).await;
        let issued = registry.pair("alice").await;
        let at = registry.now().timestamp();
        registry.revoke(jti(&issued), by("alice")).await.unwrap();
        assert!(!registry.accepts(issued.access_token()).await);
        assert!(registry.accepts(refresh_token(&issued)).await);
        registry.pass(5);
        registry.revoke(jti(&issued), by("alice")).await.unwrap();
        assert_eq!(registry.revocation_of(jti(&issued)).await, Some((at, "alice".into(), None, false)));

        registry.unrevoke(jti(&issued), by("alice")).await.unwrap();
        registry.unrevoke(jti(&issued), by("alice")).await.unwrap();
        assert!(registry.accepts(issued.access_token()).await);
        assert_eq!(registry.get(jti(&issued)).await.unwrap().revocation, None);
    }

    async fn who_revoked_decides_who_may_undo_it(database: Database) {
        let registry = open(database).await;
        let issued = registry.pair("alice").await;
        let first = registry.now().timestamp();
        registry.revoke(jti(&issued), by("alice")).await.unwrap();
        registry.pass(5);
        // An administrator takes it over, and keeps it whatever the subject does after.
        registry.revoke(jti(&issued), admin()).await.unwrap();
        registry.revoke(jti(&issued), by("alice")).await.unwrap();
        let revocation = registry.revocation_of(jti(&issued)).await;
        assert_eq!(revocation, Some((first, "root".into(), Some("a lost phone".into()), false)));
        assert!(registry.unrevoke(jti(&issued), by("alice")).await.unwrap_err().is_final());
        assert!(!registry.accepts(issued.access_token()).await);
        registry.unrevoke(jti(&issued), Actor::command_line("ops")).await.unwrap();
        assert!(registry.accepts(issued.access_token()).await);

        registry.revoke(jti(&issued), by("alice")).await.unwrap();
        registry.unrevoke(jti(&issued), admin()).await.unwrap();
        assert!(registry.accepts(issued.access_token()).await);
    }

    async fn an_expired_token_is_not_unrevoked(database: Database) {
        let registry = open_with(database, "leeway = '30s'").await;
        let issued = registry.pair("alice").await;
        registry.revoke(jti(&issued), by("alice")).await.unwrap();
        registry.pass(15 * 60 + 29);
        registry.unrevoke(jti(&issued), by("alice")).await.unwrap();
        assert!(registry.accepts(issued.access_token()).await);
        registry.revoke(jti(&issued), by("alice")).await.unwrap();
        registry.pass(1);
        assert!(registry.unrevoke(jti(&issued), admin()).await.unwrap_err().is_final());
    }

    async fn a_token_that_was_taken_back_gives_nothing_back(database: Database) {
        let registry = open(database).await;
        let issued = registry.pair("alice").await;
        let as_alice = |checked: &Checked| checked.act_as(Actor::subject(checked.subject()));
        // Each was presented while it was live, and is asked about after it was taken back.
        let presented = registry.present(issued.access_token()).await;
        registry.revoke(jti(&issued), by("alice")).await.unwrap();
        assert!(registry.unrevoke(jti(&issued), as_alice(&presented)).await.unwrap_err().is_superseded());
        let sibling = registry.present(refresh_token(&issued)).await;
        registry.end_session(sid(&registry.pair("alice").await), by("alice")).await.unwrap();
        registry.unrevoke(jti(&issued), as_alice(&sibling)).await.unwrap();
        registry.revoke(jti(&issued), by("alice")).await.unwrap();

        let session = registry.pair("alice").await;
        let presented = registry.present(session.access_token()).await;
        registry.end_session(sid(&session), by("alice")).await.unwrap();
        assert!(registry.unrevoke(jti(&issued), as_alice(&presented)).await.unwrap_err().is_superseded());

        let root = registry.pair("root").await;
        let presented = registry.present(root.access_token()).await;
        registry.revoke_all(&name("root"), None, by("root")).await.unwrap();
        let act = presented.act_as(Actor::administrator(&name("root")));
        assert!(registry.unrevoke(jti(&issued), act).await.unwrap_err().is_superseded());
        assert!(!registry.accepts(issued.access_token()).await);
        registry.unrevoke(jti(&issued), admin()).await.unwrap();
        assert!(registry.accepts(issued.access_token()).await);
    }

    async fn a_token_without_a_record_gives_back_while_its_session_is_live(database: Database) {
        let registry = open_with(database, "check = 'refresh'").await;
        let (issued, other) = (registry.pair("alice").await, registry.pair("alice").await);
        let refresh = issued.refresh_claims().unwrap().jti;
        let presented = registry.present(other.access_token()).await;
        let act = presented.act_as(Actor::subject(presented.subject()));
        registry.revoke(refresh, by("alice")).await.unwrap();
        registry.unrevoke(refresh, act.clone()).await.unwrap();
        registry.revoke(refresh, by("alice")).await.unwrap();
        registry.end_session(sid(&other), by("alice")).await.unwrap();
        assert!(registry.unrevoke(refresh, act).await.unwrap_err().is_superseded());
    }
}
