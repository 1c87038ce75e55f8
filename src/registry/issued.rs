//! What was issued.

use std::fmt;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::token::Claims;

/// Tokens that were issued, and are on the registry.
///
/// It serialises as an OAuth token answer (RFC 6749 §5.1). As the answer of a Rocket route it also sets the cookies,
/// where the settings ask for them.
#[derive(Clone, PartialEq)]
pub struct Issued {
    pub(super) access: IssuedToken,
    pub(super) refresh: Option<IssuedToken>,
    pub(super) cookies: bool,
}

/// One issued token and its claims.
#[derive(Clone, PartialEq)]
pub(super) struct IssuedToken {
    pub(super) token: String,
    pub(super) claims: Claims,
}

impl Issued {
    /// The access token.
    pub fn access_token(&self) -> &str {
        &self.access.token
    }

    /// The claims of the access token.
    pub fn access_claims(&self) -> &Claims {
        &self.access.claims
    }

    /// The refresh token, where one was issued.
    pub fn refresh_token(&self) -> Option<&str> {
        self.refresh.as_ref().map(|refresh| refresh.token.as_str())
    }

    /// The claims of the refresh token, where one was issued.
    pub fn refresh_claims(&self) -> Option<&Claims> {
        self.refresh.as_ref().map(|refresh| &refresh.claims)
    }

    /// Whether the tokens are to be set as cookies.
    pub fn wants_cookies(&self) -> bool {
        self.cookies
    }
}

impl Serialize for Issued {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let claims = &self.access.claims;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("access_token", &self.access.token)?;
        if let Some(refresh) = &self.refresh {
            map.serialize_entry("refresh_token", &refresh.token)?;
        }
        map.serialize_entry("token_type", "Bearer")?;
        map.serialize_entry("expires_in", &(claims.exp - claims.iat))?;
        if !claims.scope.is_empty() {
            map.serialize_entry("scope", &claims.scope)?;
        }
        map.end()
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("access", &self.access.claims.jti).finish_non_exhaustive()
    }
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedToken").field("jti", &self.claims.jti).finish_non_exhaustive()
    }
}
