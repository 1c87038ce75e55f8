//! The guards for a token as such.

use std::marker::PhantomData;
use std::ops::Deref;

use rocket::Request;
use rocket::request::{self, FromRequest};

use super::locations::{Configured, Locations};
use super::{sentinel, verdict};
use crate::registry::Checked;
use crate::token::{Denial, TokenType};

macro_rules! guard {
    ($(#[$doc:meta])* $name:ident, $request:ident => $find:expr) => {
        $(#[$doc])*
        pub struct $name<'r, L = Configured> {
            checked: &'r Checked,
            locations: PhantomData<fn() -> L>,
        }

        impl<L> Deref for $name<'_, L> {
            type Target = Checked;

            fn deref(&self) -> &Checked {
                self.checked
            }
        }

        impl<L> std::fmt::Debug for $name<'_, L> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.checked.jti()).finish()
            }
        }

        impl<'r, L: Locations> $name<'r, L> {
            pub(super) async fn from(request: &'r Request<'_>) -> Result<Self, Denial> {
                let $request = request;
                Ok(Self { checked: $find, locations: PhantomData })
            }
        }

        #[rocket::async_trait]
        impl<'r, L: Locations> FromRequest<'r> for $name<'r, L> {
            type Error = Denial;

            async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, Denial> {
                verdict::outcome(request, Self::from(request).await)
            }
        }

        sentinel!([L] $name<'_, L>);
    };
}

guard! {
    /// A live access token.
    ///
    /// ```
    /// use counterfoil::AccessToken;
    ///
    /// #[rocket::get("/whoami")]
    /// fn whoami(token: AccessToken<'_>) -> String {
    ///     token.subject().to_string()
    /// }
    /// ```
    AccessToken, request => verdict::token::<L>(request, TokenType::Access).await?
}

guard! {
    /// A live refresh token. A route that also takes it from the JSON body uses
    /// [`RefreshTokenData`](crate::RefreshTokenData), one that refreshes a [`RefreshRequest`](crate::RefreshRequest).
    ///
    /// ```
    /// use counterfoil::RefreshToken;
    ///
    /// #[rocket::get("/session")]
    /// fn session(token: RefreshToken<'_>) -> String {
    ///     token.session().to_string()
    /// }
    /// ```
    RefreshToken, request => verdict::token::<L>(request, TokenType::Refresh).await?
}

guard! {
    /// A live access token that was got by logging in, not by refreshing, for as long as it lives: for what a stolen
    /// refresh token must not do.
    ///
    /// ```
    /// use counterfoil::FreshToken;
    ///
    /// #[rocket::delete("/account")]
    /// fn delete_account(token: FreshToken<'_>) -> String {
    ///     format!("good-bye, {}", token.subject())
    /// }
    /// ```
    FreshToken, request => {
        let checked = verdict::token::<L>(request, TokenType::Access).await?;
        checked.require_fresh()?;
        checked
    }
}

guard! {
    /// A live token of either type: the access token where a request has both.
    ///
    /// ```
    /// use counterfoil::AnyToken;
    ///
    /// #[rocket::get("/token-type")]
    /// fn token_type(token: AnyToken<'_>) -> &'static str {
    ///     token.claims().token_type.as_str()
    /// }
    /// ```
    AnyToken, request => verdict::any_token::<L>(request).await?
}

/// A live access token, or none at all.
///
/// Only a request without a token has none: a revoked or expired token, and a registry that can't be asked, are refused
/// as by [`AccessToken`]. `Option<AccessToken>` is a trap: Rocket makes `None` of *every* refusal, so that a revoked
/// token, or a database that is down, would silently become an anonymous visitor.
///
/// ```
/// use counterfoil::OptionalToken;
///
/// #[rocket::get("/greeting")]
/// fn greeting(token: OptionalToken<'_>) -> String {
///     match token.get() {
///         Some(token) => format!("hello, {}", token.subject()),
///         None => "hello, whoever you are".to_owned(),
///     }
/// }
/// ```
#[derive(Debug)]
pub struct OptionalToken<'r, L = Configured>(Option<AccessToken<'r, L>>);

impl<'r, L> OptionalToken<'r, L> {
    /// The token, where the request has one.
    pub fn get(&self) -> Option<&AccessToken<'r, L>> {
        self.0.as_ref()
    }
}

#[rocket::async_trait]
impl<'r, L: Locations> FromRequest<'r> for OptionalToken<'r, L> {
    type Error = Denial;

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, Denial> {
        let result = match AccessToken::from(request).await {
            Err(Denial::Missing) => Ok(Self(None)),
            result => result.map(|token| Self(Some(token))),
        };
        verdict::outcome(request, result)
    }
}

sentinel!([L] OptionalToken<'_, L>);
