//! Which locations a guard looks in: the configured ones, or others for one route.

use std::borrow::Cow;

use crate::config::Location;

/// Where a guard looks for its token, as a type: the last type parameter of every guard but
/// [`LogoutTokens`](crate::LogoutTokens), which looks in the configured locations, and
/// [`ForwardedToken`](crate::ForwardedToken), which goes by the request that it is asked about.
///
/// [`Configured`] unless a route says otherwise; an application writes its own where the ones here don't fit.
///
/// ```
/// use std::borrow::Cow;
/// use counterfoil::{AccessToken, Location, Locations};
///
/// /// For a route that a download link opens.
/// struct HeaderOrQuery;
///
/// impl Locations for HeaderOrQuery {
///     fn choose(_configured: &[Location]) -> Cow<'_, [Location]> {
///         Cow::Borrowed(&[Location::Header, Location::Query])
///     }
/// }
///
/// #[rocket::get("/download")]
/// fn download(token: AccessToken<'_, HeaderOrQuery>) -> String {
///     token.subject().to_string()
/// }
/// ```
pub trait Locations: Send + Sync + 'static {
    /// The locations to look in, in this order, given those of the settings.
    fn choose(configured: &[Location]) -> Cow<'_, [Location]>;
}

macro_rules! locations {
    ($($(#[$doc:meta])* $name:ident => $choose:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;

        impl Locations for $name {
            fn choose(configured: &[Location]) -> Cow<'_, [Location]> {
                let choose: fn(&[Location]) -> Cow<'_, [Location]> = $choose;
                choose(configured)
            }
        }
    )*};
}

locations! {
    /// The setting `locations`.
    Configured => |configured| Cow::Borrowed(configured);
    /// The setting `locations`, and the JSON body: for the [data guards](crate::RefreshTokenData).
    ConfiguredOrJson => |configured| {
        let mut locations = configured.to_vec();
        if !locations.contains(&Location::Json) {
            locations.push(Location::Json);
        }
        Cow::Owned(locations)
    };
    /// The `Authorization` header alone.
    HeaderOnly => |_| Cow::Borrowed(&[Location::Header]);
    /// The cookie alone.
    CookieOnly => |_| Cow::Borrowed(&[Location::Cookie]);
    /// The query string alone: for access tokens where nothing else can be sent, as with `EventSource`.
    /// Rocket's own log shows whole addresses at its level `normal`; an application sets `log_level = "critical"`.
    QueryOnly => |_| Cow::Borrowed(&[Location::Query]);
    /// The JSON body alone: for the [data guards](crate::RefreshTokenData).
    JsonOnly => |_| Cow::Borrowed(&[Location::Json]);
}
