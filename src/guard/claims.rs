//! The additional claims of a token, as a type that the application chooses.

use std::fmt;
use std::ops::Deref;

use rocket::Request;
use rocket::request::{self, FromRequest};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::locations::{Configured, Locations};
use super::token::AccessToken;
use super::{sentinel, verdict};
use crate::registry::Checked;
use crate::token::Denial;

/// A live access token whose additional claims are a `T`. Claims that are not are [`Denial::Invalid`].
///
/// ```
/// use counterfoil::WithClaims;
///
/// #[derive(serde::Deserialize)]
/// struct Tenancy {
///     tenant: String,
/// }
///
/// #[rocket::get("/tenant")]
/// fn tenant(token: WithClaims<'_, Tenancy>) -> String {
///     format!("{} of {}", token.subject(), token.custom().tenant)
/// }
/// ```
pub struct WithClaims<'r, T, L = Configured> {
    token: AccessToken<'r, L>,
    custom: T,
}

impl<T, L> WithClaims<'_, T, L> {
    /// The additional claims.
    pub fn custom(&self) -> &T {
        &self.custom
    }

    /// The additional claims, to keep.
    pub fn into_custom(self) -> T {
        self.custom
    }
}

impl<T, L> Deref for WithClaims<'_, T, L> {
    type Target = Checked;

    fn deref(&self) -> &Checked {
        &self.token
    }
}

impl<T, L> fmt::Debug for WithClaims<'_, T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WithClaims").field(&self.token).finish()
    }
}

impl<'r, T: DeserializeOwned, L: Locations> WithClaims<'r, T, L> {
    async fn from(request: &'r Request<'_>) -> Result<Self, Denial> {
        let token = AccessToken::from(request).await?;
        let extra = Value::Object(token.claims().extra.clone());
        let custom = serde_json::from_value(extra).map_err(|_| Denial::Invalid)?;
        Ok(Self { token, custom })
    }
}

#[rocket::async_trait]
impl<'r, T: DeserializeOwned, L: Locations> FromRequest<'r> for WithClaims<'r, T, L> {
    type Error = Denial;

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, Denial> {
        verdict::outcome(request, Self::from(request).await)
    }
}

sentinel!([T, L] WithClaims<'_, T, L>);
