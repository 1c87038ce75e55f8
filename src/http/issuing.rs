//! What the server adds to issuing: a user's tokens hold no scope that the user lacks, whatever happens meanwhile.

use crate::accounts::Accounts;
use crate::error::Error;
use crate::registry::{Issued, Registry};
use crate::token::{Act, Actor, Denial, Scopes, Subject};

/// The scopes that the subject has now; `None` for one that is no user of the server, whose tokens alone say what it
/// may do.
pub(super) async fn scopes_of(accounts: &Accounts, subject: &Subject) -> Result<Option<Scopes>, Error> {
    match accounts.get(subject).await {
        Ok(user) => Ok(Some(user.scope)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Refuses scopes beyond those held, naming them.
pub(super) fn require_within(wanted: &Scopes, held: &Scopes) -> Result<(), Denial> {
    let missing = wanted.difference(held);
    if missing.is_empty() { Ok(()) } else { Err(Denial::InsufficientScope { missing }) }
}

/// What began with tokens that were issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Began {
    /// Their session: by a log-in, or with a personal token.
    Session,
    /// Nothing: they joined a session, which goes on without them.
    Nothing,
}

/// Looks at the user's scopes again, now that the tokens are on the registry.
///
/// Whoever takes a scope away revokes the access tokens that hold it. One that was being issued just then was not there
/// to be revoked, and must not be handed out.
pub(super) async fn confirm(
    registry: &Registry,
    accounts: &Accounts,
    issued: Issued,
    began: Began,
) -> Result<Issued, Error> {
    let claims = issued.access_claims();
    if claims.scope.is_empty() {
        return Ok(issued);
    }
    match scopes_of(accounts, &claims.sub).await? {
        Some(held) if !claims.scope.is_subset(&held) => {
            let act = Act::by(Actor::system("scope taken away"));
            let undone = match began {
                Began::Session => registry.end_session(claims.sid, act).await.map(drop),
                Began::Nothing => registry.revoke_for_good(claims.jti, act).await,
            };
            match undone {
                // Not recorded (`check = "refresh"`): it is enough not to hand it out.
                Err(error) if !error.is_not_found() => Err(error),
                _ => Err(Error::unavailable("the user's scopes were changed while a token was issued")),
            }
        }
        _ => Ok(issued),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::config::Settings;
    use crate::registry::{Expect, Grant, Personal, Refresh};
    use crate::token::Filter;

    const PASSWORD: &str = "correct horse battery";

    #[tokio::test]
    async fn a_token_with_a_scope_that_was_taken_away_meanwhile_is_not_handed_out() {
        let registry = Registry::open(Settings::for_tests(), ManualClock::here()).await.unwrap();
        let accounts = Accounts::new(&registry).unwrap();
        let alice: Subject = "alice".parse().unwrap();
        let operator = Act::by(Actor::command_line("tester"));
        let (both, one): (Scopes, Scopes) = ("a b".parse().unwrap(), "a".parse().unwrap());
        accounts.add(&alice, PASSWORD, &both, &operator).await.unwrap();
        let kept = registry.issue(Grant::to(alice.clone()).scope(one.clone())).await.unwrap();

        let logged_in = accounts.login("alice", PASSWORD, None).await.unwrap();
        accounts.change_scopes(&alice, |_| Ok(one.clone()), &operator).await.unwrap();
        let grant = Grant::to(alice.clone()).scope(logged_in.user.scope).as_of(logged_in.as_of);
        let issued = registry.issue(grant).await.unwrap();
        let jti = issued.access_claims().jti;
        assert!(confirm(&registry, &accounts, issued, Began::Session).await.unwrap_err().is_unavailable());
        assert!(registry.get(jti).await.unwrap().revocation.unwrap().is_final);

        // What joins a session leaves it as it is, so that the refresh can be tried again.
        let wide = registry.issue(Grant::to(alice.clone()).scope(both)).await.unwrap();
        let presented = registry.check(wide.refresh_token().unwrap(), Expect::refresh()).await.unwrap();
        let refreshed = registry.refresh(&presented, Refresh::new()).await.unwrap();
        let jti = refreshed.access_claims().jti;
        assert!(confirm(&registry, &accounts, refreshed, Began::Nothing).await.unwrap_err().is_unavailable());
        assert!(registry.get(jti).await.unwrap().revocation.unwrap().is_final);
        let presented = registry.check(wide.refresh_token().unwrap(), Expect::refresh().even_spent()).await.unwrap();
        let refreshed = registry.refresh(&presented, Refresh::new().within(one.clone())).await.unwrap();
        assert!(confirm(&registry, &accounts, refreshed, Began::Nothing).await.is_ok());
        registry.end_session(presented.session(), operator).await.unwrap();

        // Tokens within what the user still has are not touched.
        let presented = registry.check(kept.access_token(), Expect::access()).await.unwrap();
        let personal = registry.issue_personal(&presented, Personal::new("script").unwrap()).await.unwrap();
        assert!(confirm(&registry, &accounts, personal, Began::Session).await.is_ok());
        let live = Filter::subject(alice).state(crate::token::State::Live);
        assert_eq!(registry.list(&live).await.unwrap().len(), 3);
    }

    #[test]
    fn what_is_missing_is_named() {
        let (wanted, held) = ("a b c".parse().unwrap(), "b".parse().unwrap());
        let missing = "a c".parse().unwrap();
        assert_eq!(require_within(&wanted, &held), Err(Denial::InsufficientScope { missing }));
        assert_eq!(require_within(&held, &wanted), Ok(()));
    }
}
