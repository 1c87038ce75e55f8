//! The check: bytes, signature, claims, record. Cheapest first, and every answer but "yes" is a [`Denial`].

use super::Registry;
use crate::config::Check;
use crate::keys::Verified;
use crate::store::Status;
use crate::token::{AudienceRule, Claims, Denial, Jti, Scopes, Sid, Subject, TokenType};

/// What a caller expects of a token.
///
/// ```
/// use counterfoil::{AudienceRule, Expect};
///
/// let expect = Expect::access().audience(AudienceRule::Exactly("https://api.example"));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Expect<'a> {
    token_type: Option<TokenType>,
    audience: AudienceRule<'a>,
    even_expired: bool,
}

impl<'a> Expect<'a> {
    /// An access token for the issuer or a configured audience.
    pub fn access() -> Self {
        Self { token_type: Some(TokenType::Access), audience: AudienceRule::Own, even_expired: false }
    }

    /// A refresh token.
    pub fn refresh() -> Self {
        Self { token_type: Some(TokenType::Refresh), ..Self::access() }
    }

    /// A token of either type.
    pub fn either() -> Self {
        Self { token_type: None, ..Self::access() }
    }

    /// Another audience than the issuer or a configured one.
    pub fn audience(mut self, audience: AudienceRule<'a>) -> Self {
        self.audience = audience;
        self
    }

    /// An expired but otherwise genuine token too, even one whose record has been purged: for logging out, and for
    /// nothing that opens a door.
    pub fn even_expired(mut self) -> Self {
        self.even_expired = true;
        self
    }
}

/// A token that was checked and found live.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    claims: Claims,
}

impl Checked {
    /// What the token says. Of an imported token, what the registry says for it.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Whom it speaks for.
    pub fn subject(&self) -> &Subject {
        &self.claims.sub
    }

    /// What it may do.
    pub fn scopes(&self) -> &Scopes {
        &self.claims.scope
    }

    /// Its id.
    pub fn jti(&self) -> Jti {
        self.claims.jti
    }

    /// The session it descends from.
    pub fn session(&self) -> Sid {
        self.claims.sid
    }

    /// Refuses a token that was not got by logging in just now.
    pub fn require_fresh(&self) -> Result<(), Denial> {
        if self.claims.fresh { Ok(()) } else { Err(Denial::NotFresh) }
    }

    /// Refuses a token that lacks any of these scopes.
    pub fn require_scopes(&self, scopes: &Scopes) -> Result<(), Denial> {
        let missing = scopes.difference(&self.claims.scope);
        if missing.is_empty() { Ok(()) } else { Err(Denial::InsufficientScope { missing }) }
    }
}

impl Registry {
    /// Checks a token: shape, signature, claims, times, record.
    ///
    /// This is what the guards call. It asks the registry whether the token is known and live; where the registry can't
    /// be asked the answer is [`Denial::Unavailable`], never a yes.
    pub async fn check(&self, token: &str, expect: Expect<'_>) -> Result<Checked, Denial> {
        let started = std::time::Instant::now();
        let outcome = self.check_uncounted(token, expect).await;
        self.inner.metrics.checked(outcome.as_ref().err(), started.elapsed());
        if let Ok(checked) = &outcome {
            self.inner.last_used.note(checked.claims.jti, self.seconds());
        }
        outcome
    }

    pub(super) async fn check_uncounted(&self, token: &str, expect: Expect<'_>) -> Result<Checked, Denial> {
        let verified = self.inner.keys.verify(token)?;
        if verified.named && verified.typ.is_some() {
            self.check_own(verified, expect).await
        } else {
            self.check_imported(verified, expect).await
        }
    }

    /// A token of this registry's own making: its claims speak, its record decides.
    async fn check_own(&self, verified: Verified, expect: Expect<'_>) -> Result<Checked, Denial> {
        let claims = Claims::from_members(verified.claims)?;
        if verified.typ != Some(claims.token_type) {
            return Err(Denial::Invalid);
        }
        let rules = self.rules(expect.audience);
        claims.check_origin(&rules)?;
        let is_expired = match claims.check_times(&rules) {
            Err(Denial::Expired) if expect.even_expired => true,
            times => times.map(|()| false)?,
        };
        check_type(claims.token_type, expect)?;
        if self.is_recorded(&claims) {
            match self.status(claims.jti).await? {
                None if is_expired => {}
                None => return Err(Denial::Unknown),
                Some(status) if status.revoked => return Err(Denial::Revoked),
                // A record that says otherwise than the signed claims was tampered with, or is another token's.
                Some(status) if status.token_type != claims.token_type || status.subject != claims.sub => {
                    return Err(Denial::Invalid);
                }
                Some(_) => {}
            }
        }
        Ok(Checked { claims })
    }

    /// A token from before the registry was adopted: good only where its record says that it was imported, and then
    /// the record speaks for what the token leaves out.
    async fn check_imported(&self, verified: Verified, expect: Expect<'_>) -> Result<Checked, Denial> {
        let jti = super::import::jti_of(&verified.claims).ok_or(Denial::Invalid)?;
        let status = self.status(jti).await?.ok_or(Denial::Unknown)?;
        if !status.imported {
            return Err(Denial::Invalid);
        }
        if status.revoked {
            return Err(Denial::Revoked);
        }
        let claims = super::import::complete(verified.claims, jti, &status, &self.inner.settings)?;
        let rules = self.rules(expect.audience);
        match claims.check_times(&rules) {
            Err(Denial::Expired) if expect.even_expired => {}
            times => times?,
        }
        claims.check_origin(&rules)?;
        check_type(claims.token_type, expect)?;
        Ok(Checked { claims })
    }

    /// Whether tokens like this one are on the registry. With `check = "refresh"` access tokens are not, but for those
    /// that are their own session, as personal tokens are.
    pub(super) fn is_recorded(&self, claims: &Claims) -> bool {
        self.inner.settings.check == Check::All
            || claims.token_type == TokenType::Refresh
            || claims.sid == claims.jti.own_session()
    }

    async fn status(&self, jti: Jti) -> Result<Option<Status>, Denial> {
        let status = match self.store() {
            Ok(store) => store.status(jti).await,
            Err(error) => Err(error),
        };
        status.map_err(|error| {
            tracing::warn!(error = %error, cause = ?std::error::Error::source(&error), "a token can't be checked");
            Denial::Unavailable
        })
    }
}

fn check_type(token_type: TokenType, expect: Expect<'_>) -> Result<(), Denial> {
    match expect.token_type {
        Some(expected) if expected != token_type => Err(Denial::WrongType),
        _ => Ok(()),
    }
}
