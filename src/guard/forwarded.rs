//! The token of a request that a proxy asks about.

use std::ops::Deref;

use rocket::Request;
use rocket::request::{self, FromRequest};

use super::{extract, sentinel, verdict};
use crate::registry::{Checked, Expect};
use crate::token::{AudienceRule, Denial, TokenType};

/// The method of the request that the proxy asks about: Traefik's and Caddy's name for it.
const METHOD_HEADER: &str = "X-Forwarded-Method";

/// A live access token of a request that a proxy asks about, with nginx's `auth_request`, Traefik's ForwardAuth or
/// Caddy's `forward_auth`.
///
/// It differs from an [`AccessToken`](crate::AccessToken) in two things. The query parameter `audience` asks for that
/// audience instead of the registry's own. And a token that came by cookie needs its CSRF value unless the header
/// `X-Forwarded-Method` says that the request is a `GET`, `HEAD` or `OPTIONS`: the method of the proxy's own question
/// says nothing.
///
/// ```
/// use counterfoil::ForwardedToken;
/// use rocket::http::Status;
///
/// #[rocket::get("/check")]
/// fn check(_token: ForwardedToken) -> Status {
///     Status::NoContent
/// }
/// ```
#[derive(Debug)]
pub struct ForwardedToken(Checked);

impl Deref for ForwardedToken {
    type Target = Checked;

    fn deref(&self) -> &Checked {
        &self.0
    }
}

impl ForwardedToken {
    async fn from(request: &Request<'_>) -> Result<Self, Denial> {
        let registry = verdict::registry(request)?;
        let settings = registry.settings();
        let found = extract::find(request, settings, &settings.locations, TokenType::Access)?.ok_or(Denial::Missing)?;
        let audience = match request.query_value::<String>("audience") {
            Some(Ok(audience)) => Some(audience),
            Some(Err(_)) => return Err(Denial::Invalid),
            None => None,
        };
        let expect = Expect::access().audience(audience.as_deref().map_or(AudienceRule::Own, AudienceRule::Exactly));
        let checked = registry.check(found.token, expect).await?;
        if found.by_cookie && settings.csrf.enabled && !is_safe(request.headers().get(METHOD_HEADER)) {
            extract::check_csrf(request, settings, checked.claims())?;
        }
        Ok(Self(checked))
    }
}

/// Whether the methods that were sent all change nothing (RFC 9110 §9.2.1); none sent is not safe.
fn is_safe<'a>(methods: impl Iterator<Item = &'a str>) -> bool {
    let mut methods = methods.peekable();
    methods.peek().is_some() && methods.all(|method| matches!(method, "GET" | "HEAD" | "OPTIONS"))
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for ForwardedToken {
    type Error = Denial;

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, Denial> {
        verdict::outcome(request, Self::from(request).await)
    }
}

sentinel!([] ForwardedToken);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_methods_that_are_all_safe_are_safe() {
        assert!(is_safe(["GET"].into_iter()));
        assert!(!is_safe(["GET", "POST"].into_iter()));
        assert!(!is_safe(["get"].into_iter()));
        assert!(!is_safe([].into_iter()));
    }
}
