//! The guards: what a route writes in its signature to be reached with a live token alone.

mod arrival;
mod body;
mod claims;
mod denial;
mod device;
mod error;
mod extract;
mod forwarded;
mod issued;
mod locations;
mod param;
mod scoped;
mod token;
mod user;
mod verdict;

#[cfg(feature = "server")]
pub(crate) use arrival::{is_json, read as read_body};
pub use body::{AccessTokenData, LogoutTokens, RefreshRequest, RefreshTokenData};
pub use claims::WithClaims;
pub(crate) use denial::DenialCatcher;
pub use denial::denial;
pub use device::Device;
#[cfg(feature = "server")]
pub(crate) use error::Refusal;
#[cfg(feature = "server")]
pub(crate) use extract::sent_cookie;
pub use forwarded::ForwardedToken;
pub use issued::{Cleared, InCookies};
pub use locations::{Configured, ConfiguredOrJson, CookieOnly, HeaderOnly, JsonOnly, Locations, QueryOnly};
pub use scoped::{AllOf, AnyOf, ScopeRule, Scoped, is_scope};
pub use token::{AccessToken, AnyToken, FreshToken, OptionalToken, RefreshToken};
pub use user::{CurrentUser, LoadError, LoadUser};

/// Stops a launch where the fairing that manages the registry is missing.
macro_rules! sentinel {
    ([$($generics:tt)*] $guard:ty) => {
        impl<$($generics)*> rocket::Sentinel for $guard {
            fn abort(rocket: &rocket::Rocket<rocket::Ignite>) -> bool {
                rocket.state::<crate::registry::Registry>().is_none()
            }
        }
    };
}
pub(crate) use sentinel;
