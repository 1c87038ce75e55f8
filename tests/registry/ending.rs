//! What ends sessions, and what began before an end.

use counterfoil::{Expect, Filter, Grant, Issued, Jti, Personal, Refresh, Sid};

use super::{admin, by, jti, name, open, refresh_token, sid};
use crate::support::on_both;

/// What a test ends behind somebody's back.
enum End {
    All,
    Session(Sid),
    Token(Jti),
}

on_both! {
    async fn an_ended_session_takes_all_its_tokens_for_good(database: Database) {
        let registry = open(database).await;
        let (issued, other) = (registry.pair("alice").await, registry.pair("alice").await);
        let presented = registry.check(refresh_token(&issued), Expect::refresh()).await.unwrap();
        registry.refresh(&presented, Refresh::new()).await.unwrap();
        registry.revoke(jti(&issued), by("alice")).await.unwrap();
        assert_eq!(registry.end_session(sid(&issued), by("alice")).await.unwrap(), 2);
        assert_eq!(registry.end_session(sid(&issued), by("alice")).await.unwrap(), 0);
        assert!(registry.end_session(Sid::new(registry.now()), admin()).await.unwrap_err().is_not_found());
        assert!(!registry.accepts(refresh_token(&issued)).await);
        assert!(registry.accepts(other.access_token()).await);
        for jti in [jti(&issued), issued.refresh_claims().unwrap().jti] {
            assert!(registry.unrevoke(jti, admin()).await.unwrap_err().is_final());
            let (.., is_final) = registry.revocation_of(jti).await.unwrap();
            assert!(is_final);
        }
        assert!(registry.refresh(&presented, Refresh::new()).await.unwrap_err().is_superseded());
        let sessions = registry.sessions(&name("alice"), None, 10).await.unwrap().sessions;
        assert_eq!(sessions.iter().map(|session| session.sid).collect::<Vec<_>>(), [sid(&other)]);
    }

    async fn revoke_all_ends_every_session_but_the_one_to_keep(database: Database) {
        let registry = open(database).await;
        let (one, two, bobs) = (registry.pair("alice").await, registry.pair("alice").await, registry.pair("bob").await);
        // Another subject's session is not kept, and not touched.
        assert_eq!(registry.revoke_all(&name("alice"), Some(sid(&bobs)), admin()).await.unwrap(), 4);
        assert!(!registry.accepts(one.access_token()).await && !registry.accepts(refresh_token(&two)).await);
        assert!(registry.accepts(bobs.access_token()).await);
        let at = registry.now().timestamp();
        let expected = Some((at, "root".into(), Some("a lost phone".into()), true));
        assert_eq!(registry.revocation_of(jti(&one)).await, expected);

        registry.pass(5);
        let (kept, lost) = (registry.pair("alice").await, registry.pair("alice").await);
        assert_eq!(registry.revoke_all(&name("alice"), Some(sid(&kept)), by("alice")).await.unwrap(), 2);
        assert!(registry.accepts(kept.access_token()).await && !registry.accepts(lost.access_token()).await);
        assert_eq!(registry.revoke_all(&name("alice"), Some(sid(&kept)), by("alice")).await.unwrap(), 0);
        // An ended session is not brought back by being kept, and each keeps the first word on its end.
        assert_eq!(registry.revoke_all(&name("alice"), Some(sid(&lost)), by("alice")).await.unwrap(), 2);
        assert!(!registry.accepts(lost.access_token()).await);
        assert_eq!(registry.revocation_of(jti(&one)).await, expected);
        assert_eq!(registry.revoke_all(&name("nobody"), None, admin()).await.unwrap(), 0);
        assert!(registry.accepts(registry.pair("nobody").await.access_token()).await);
    }

    async fn whatever_began_before_an_end_leaves_nothing_live_behind(database: Database) {
        let registry = open(database).await;
        // A log-in, of a subject without and with a row.
        for _ in 0..2 {
            let as_of = registry.as_of(&name("alice")).await.unwrap();
            registry.revoke_all(&name("alice"), None, admin()).await.unwrap();
            let late = registry.issue(Grant::to(name("alice")).as_of(as_of)).await;
            assert!(late.unwrap_err().is_superseded());
        }
        // A moment of one subject says nothing about another.
        let as_of = registry.as_of(&name("bob")).await.unwrap();
        assert!(registry.issue(Grant::to(name("alice")).as_of(as_of)).await.unwrap_err().is_invalid());
        assert!(registry.list(&Filter::all()).await.unwrap().is_empty());

        // A refresh and a personal token, by an end of the session, of the token, of everything.
        let ends: [&dyn Fn(&Issued) -> End; 3] = [&|_| End::All, &|issued| End::Session(sid(issued)), &|issued| {
            End::Token(issued.refresh_claims().unwrap().jti)
        }];
        for end in ends {
            let issued = registry.pair("alice").await;
            let presented = registry.check(refresh_token(&issued), Expect::refresh()).await.unwrap();
            match end(&issued) {
                End::All => { registry.revoke_all(&name("alice"), None, admin()).await.unwrap(); }
                End::Session(sid) => { registry.end_session(sid, admin()).await.unwrap(); }
                End::Token(jti) => registry.revoke(jti, admin()).await.unwrap(),
            }
            assert!(registry.refresh(&presented, Refresh::new()).await.unwrap_err().is_superseded());
        }
        let issued = registry.pair("alice").await;
        let presented = registry.check(issued.access_token(), Expect::access()).await.unwrap();
        registry.revoke(jti(&issued), admin()).await.unwrap();
        let personal = registry.issue_personal(&presented, Personal::new("ci").unwrap()).await;
        assert!(personal.unwrap_err().is_superseded());
    }

    async fn a_crowd_on_two_processes_sees_no_error_and_leaves_no_revoked_token_live(database: Database) {
        let registry = open(database).await;
        let twin = registry.twin().await;
        let mut crowd = tokio::task::JoinSet::new();
        for n in 0..32_u32 {
            let registry = if n % 2 == 0 { registry.registry.clone() } else { twin.clone() };
            crowd.spawn(async move {
                let subject = name(&format!("user{}", n % 3));
                let mut revoked = Vec::new();
                for round in 0..6 {
                    let issued = match registry.issue(Grant::to(subject.clone())).await {
                        Err(error) if error.is_superseded() => continue,
                        issued => issued.unwrap(),
                    };
                    let presented = registry.check(refresh_token(&issued), Expect::refresh()).await;
                    if let Ok(presented) = presented {
                        match registry.refresh(&presented, Refresh::new()).await {
                            Err(error) if error.is_superseded() => {}
                            refreshed => drop(refreshed.unwrap()),
                        }
                    }
                    match (n + round) % 4 {
                        0 => registry.revoke(jti(&issued), admin()).await.unwrap(),
                        1 => drop(registry.end_session(sid(&issued), admin()).await.unwrap()),
                        2 if round == 2 => drop(registry.revoke_all(&subject, None, admin()).await.unwrap()),
                        _ => continue,
                    }
                    revoked.push(issued);
                }
                revoked
            });
        }
        for issued in crowd.join_all().await.into_iter().flatten() {
            assert!(!registry.accepts(issued.access_token()).await);
        }
    }
}
