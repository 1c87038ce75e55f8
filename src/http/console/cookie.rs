//! The cookies of the console: not for scripts, not for other sites, and, where browsers keep them for TLS, from no
//! other host.

use std::borrow::Cow;

use rocket::Request;
use rocket::http::{Cookie, SameSite};

use super::BASE;
use crate::config::{CONSOLE_COOKIE, HOST_PREFIX, Settings};
use crate::guard::sent_cookie;
use crate::registry::Registry;
use crate::token::Denial;

/// The cookie that holds the token.
pub(super) const TOKEN: &str = CONSOLE_COOKIE;

/// The cookie that the hidden field of the form for signing in must equal (double submit): before anybody has signed in
/// there is no token that could have such a value in it.
pub(super) const FORM: &str = "counterfoil_console_form";

/// The value that came in this cookie. Two that differ are [`Denial::Ambiguous`]: another host of the domain may have
/// planted one of them, and browsers don't say which.
pub(super) fn sent<'r>(request: &'r Request<'_>, cookie: &'static str) -> Result<Option<&'r str>, Denial> {
    let registry = request.rocket().state::<Registry>().ok_or(Denial::Unavailable)?;
    sent_cookie(request, &name(registry.settings(), cookie))
}

/// Whether the request came with the token's cookie.
pub(in crate::http) fn is_sent(request: &Request<'_>, settings: &Settings) -> bool {
    request.cookies().get(&name(settings, TOKEN)).is_some()
}

/// This cookie, to be set.
pub(super) fn kept(settings: &Settings, cookie: &'static str, value: String) -> Cookie<'static> {
    // Browsers take the prefix with this path alone.
    let path = if settings.cookie.secure { "/" } else { BASE };
    let cookie = Cookie::build((name(settings, cookie), value)).path(path).http_only(true);
    cookie.same_site(SameSite::Strict).secure(settings.cookie.secure).build()
}

/// The token's cookie, to be removed.
pub(super) fn removal(settings: &Settings) -> Cookie<'static> {
    let mut cookie = kept(settings, TOKEN, String::new());
    cookie.make_removal();
    cookie
}

/// What it is called: with the prefix that lets no other host set it, where that can be had.
fn name(settings: &Settings, cookie: &'static str) -> Cow<'static, str> {
    if settings.cookie.secure { format!("{HOST_PREFIX}{cookie}").into() } else { cookie.into() }
}
