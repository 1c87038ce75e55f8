//! What a check is asked for, and what it gives.

use std::sync::Arc;

use super::memory::Known;
use crate::token::{Act, Actor, AudienceRule, Claims, Denial, Jti, Presented, Scopes, Sid, Subject, TokenType};

/// What a caller expects of a token.
///
/// ```
/// use counterfoil::{AudienceRule, Expect};
///
/// let expect = Expect::access().audience(AudienceRule::Exactly("https://api.example"));
/// ```
#[derive(Debug, Clone, Copy)]
#[must_use = "it does nothing until a token is checked"]
pub struct Expect<'a> {
    pub(super) token_type: Option<TokenType>,
    pub(super) audience: AudienceRule<'a>,
    pub(super) even_expired: bool,
    pub(super) even_spent: bool,
    pub(super) console: bool,
}

impl<'a> Expect<'a> {
    /// An access token for the issuer or a configured audience.
    pub fn access() -> Self {
        Self {
            token_type: Some(TokenType::Access),
            audience: AudienceRule::Own,
            even_expired: false,
            even_spent: false,
            console: false,
        }
    }

    /// A refresh token.
    pub fn refresh() -> Self {
        Self::of(Some(TokenType::Refresh))
    }

    /// A token of either type.
    pub fn either() -> Self {
        Self::of(None)
    }

    /// A token of this type, or of either.
    pub(crate) fn of(token_type: Option<TokenType>) -> Self {
        Self { token_type, ..Self::access() }
    }

    /// A token of the console, which nothing else accepts.
    #[cfg(feature = "server")]
    pub(super) fn console() -> Self {
        Self { audience: AudienceRule::Any, console: true, ..Self::access() }
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

    /// A refresh token too that was used before, in a session that goes on: for a route that
    /// [refreshes](super::Registry::refresh), which finds out whether it is a retry or theft, and for nothing that
    /// opens a door.
    pub fn even_spent(mut self) -> Self {
        self.even_spent = true;
        self
    }
}

/// A token that was checked and found live.
///
/// A cheap handle on what is remembered of it.
#[derive(Debug, Clone)]
pub struct Checked {
    pub(super) known: Arc<Known>,
    /// Whether it is good for refreshing alone, if that.
    pub(super) spent: bool,
}

impl PartialEq for Checked {
    fn eq(&self, other: &Self) -> bool {
        self.claims() == other.claims()
    }
}

impl Checked {
    /// What the token says. Of an imported token, what the registry says for it.
    pub fn claims(&self) -> &Claims {
        &self.known.claims
    }

    /// Whom it speaks for.
    pub fn subject(&self) -> &Subject {
        &self.known.claims.sub
    }

    /// What it may do.
    pub fn scopes(&self) -> &Scopes {
        &self.known.claims.scope
    }

    /// Its id.
    pub fn jti(&self) -> Jti {
        self.known.claims.jti
    }

    /// The session it descends from.
    pub fn session(&self) -> Sid {
        self.known.claims.sid
    }

    /// What it is for. Every check asks, and the claims lie further away.
    pub(crate) fn token_type(&self) -> TokenType {
        self.known.token_type
    }

    /// An act that this actor asks for with this token. If the token is no longer live by then, an un-revocation asked
    /// for with it fails.
    ///
    /// ```
    /// use counterfoil::{AccessToken, Actor, Error, Jti, Registry};
    ///
    /// async fn unrevoke(registry: &Registry, token: AccessToken<'_>, jti: Jti) -> Result<(), Error> {
    ///     registry.unrevoke(jti, token.act_as(Actor::subject(token.subject()))).await
    /// }
    /// ```
    pub fn act_as(&self, actor: Actor) -> Act {
        let presented = Presented { jti: self.jti(), sid: self.session(), kid: self.kid().to_owned() };
        Act { presented: Some(presented), ..Act::by(actor) }
    }

    /// Whether it was issued elsewhere.
    #[cfg(feature = "server")]
    pub(crate) fn is_imported(&self) -> bool {
        self.known.imported
    }

    /// Whether it is a refresh token that was used before.
    pub(super) fn is_spent(&self) -> bool {
        self.spent
    }

    /// The key that signed it.
    pub(super) fn kid(&self) -> &str {
        &self.known.kid
    }

    /// Refuses a token that was not got by logging in, but by refreshing.
    ///
    /// # Errors
    ///
    /// [`Denial::NotFresh`].
    pub fn require_fresh(&self) -> Result<(), Denial> {
        if self.known.claims.fresh { Ok(()) } else { Err(Denial::NotFresh) }
    }

    /// Refuses a token that lacks any of these scopes.
    ///
    /// # Errors
    ///
    /// [`Denial::InsufficientScope`], which names those that it lacks.
    pub fn require_scopes(&self, scopes: &Scopes) -> Result<(), Denial> {
        let missing = scopes.difference(&self.known.claims.scope);
        if missing.is_empty() { Ok(()) } else { Err(Denial::InsufficientScope { missing }) }
    }
}
