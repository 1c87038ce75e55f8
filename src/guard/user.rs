//! The application's own user for the subject of a token.

use std::fmt;
use std::ops::Deref;

use rocket::Request;
use rocket::request::{self, FromRequest};

use super::locations::{Configured, Locations};
use super::token::AccessToken;
use super::{sentinel, verdict};
use crate::registry::Checked;
use crate::token::Denial;

/// Why an application could not look for a user. It is logged, and the request is answered 503.
pub type LoadError = Box<dyn std::error::Error + Send + Sync>;

/// How an application finds its user for a token.
///
/// ```
/// use counterfoil::{Checked, CurrentUser, LoadError, LoadUser};
/// use rocket::Request;
///
/// struct User {
///     name: String,
/// }
///
/// #[rocket::async_trait]
/// impl LoadUser for User {
///     async fn load(token: &Checked, _request: &Request<'_>) -> Result<Option<Self>, LoadError> {
///         // An application asks its own database here, which it finds in `request.rocket().state()`.
///         Ok((token.subject().as_str() != "nobody").then(|| User { name: token.subject().to_string() }))
///     }
/// }
///
/// #[rocket::get("/me")]
/// fn me(user: CurrentUser<'_, User>) -> String {
///     user.name.clone()
/// }
/// ```
#[rocket::async_trait]
pub trait LoadUser: Sized + Send {
    /// The user of this token, `None` where there is none: then the request is refused with [`Denial::NoUser`].
    ///
    /// # Errors
    ///
    /// Where the application can't tell: then the request is refused with [`Denial::Unavailable`].
    async fn load(token: &Checked, request: &Request<'_>) -> Result<Option<Self>, LoadError>;
}

/// A live access token and the application's own user for its subject.
pub struct CurrentUser<'r, U, L = Configured> {
    token: AccessToken<'r, L>,
    user: U,
}

impl<'r, U, L> CurrentUser<'r, U, L> {
    /// The token.
    pub fn token(&self) -> &AccessToken<'r, L> {
        &self.token
    }

    /// The user, to keep.
    pub fn into_user(self) -> U {
        self.user
    }
}

impl<U, L> Deref for CurrentUser<'_, U, L> {
    type Target = U;

    fn deref(&self) -> &U {
        &self.user
    }
}

impl<U, L> fmt::Debug for CurrentUser<'_, U, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CurrentUser").field(&self.token).finish()
    }
}

impl<'r, U: LoadUser, L: Locations> CurrentUser<'r, U, L> {
    async fn from(request: &'r Request<'_>) -> Result<Self, Denial> {
        let token = AccessToken::from(request).await?;
        match U::load(&token, request).await {
            Ok(Some(user)) => Ok(Self { token, user }),
            Ok(None) => Err(Denial::NoUser),
            Err(error) => {
                tracing::error!(error = &*error, "the user of a token can't be loaded");
                Err(Denial::Unavailable)
            }
        }
    }
}

#[rocket::async_trait]
impl<'r, U: LoadUser, L: Locations> FromRequest<'r> for CurrentUser<'r, U, L> {
    type Error = Denial;

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, Denial> {
        verdict::outcome(request, Self::from(request).await)
    }
}

sentinel!([U, L] CurrentUser<'_, U, L>);
