//! Issued tokens as an answer, with their cookies, and an answer that takes the cookies back.

use rocket::Request;
use rocket::http::{Cookie, SameSite, Status};
use rocket::response::{self, Builder, Responder, Response};
use rocket::serde::json::Json;
use rocket::time::Duration;

use crate::config::{self, Location, Settings};
use crate::registry::{Issued, Registry};
use crate::token::{Claims, TokenType};

/// What browsers take of name and value together (RFC 6265bis §5.6).
const COOKIE_BYTES_MAX: usize = 4_096;

/// The tokens as JSON (RFC 6749 §5.1), never to be cached, and as cookies where
/// [`wants_cookies`](Issued::wants_cookies): each token `HttpOnly`, and beside it its CSRF value in a cookie that
/// scripts can read, to send back as the header `X-CSRF-TOKEN`.
impl<'r> Responder<'r, 'static> for Issued {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let mut answer = Response::build_from(Json(&self).respond_to(request)?);
        answer.raw_header("Cache-Control", "no-store").raw_header("Pragma", "no-cache");
        if self.wants_cookies() {
            set_cookies(&self, request, &mut answer);
        }
        answer.ok()
    }
}

/// An answer of the application's own that sets the cookies of issued tokens: for a log-in by a form, and where no
/// script is to see the tokens, which in [`Issued`]'s own answer stand in the JSON too.
///
/// The tokens must have been issued for that: the settings' `locations` have `cookie`, or the grant says so
/// ([`Grant::cookies`](crate::Grant::cookies)). Otherwise it is a 500, since they lack the CSRF value.
///
/// ```
/// use counterfoil::{Error, Grant, InCookies, Registry};
/// use rocket::{State, response::Redirect};
///
/// #[rocket::post("/login")]
/// async fn login(registry: &State<Registry>) -> Result<InCookies<Redirect>, Error> {
///     let issued = registry.issue(Grant::to("alice".parse()?).fresh(true).cookies(true)).await?;
///     Ok(InCookies(issued, Redirect::to("/")))
/// }
/// ```
#[derive(Debug)]
pub struct InCookies<R>(pub Issued, pub R);

impl<'r, 'o: 'r, R: Responder<'r, 'o>> Responder<'r, 'o> for InCookies<R> {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'o> {
        let Self(issued, rest) = self;
        if !issued.wants_cookies() {
            tracing::error!("tokens that were issued without Grant::cookies(true) can't be set as cookies");
            return Err(Status::InternalServerError);
        }
        let mut answer = Response::build_from(rest.respond_to(request)?);
        answer.raw_header("Cache-Control", "no-store");
        set_cookies(&issued, request, &mut answer);
        answer.ok()
    }
}

fn set_cookies(issued: &Issued, request: &Request<'_>, answer: &mut Builder<'_>) {
    let Some(registry) = request.rocket().state::<Registry>() else { return };
    let refresh = issued.refresh_token().zip(issued.refresh_claims());
    for (token, claims) in [(issued.access_token(), issued.access_claims())].into_iter().chain(refresh) {
        for cookie in cookies(registry.settings(), token, claims) {
            let bytes = cookie.name().len() + cookie.value().len();
            if bytes > COOKIE_BYTES_MAX {
                tracing::warn!(cookie = cookie.name(), bytes, "browsers drop a cookie of more than 4096 bytes");
            }
            answer.header_adjoin(cookie);
        }
    }
}

/// An answer that also takes back the cookies of the tokens, where the settings' `locations` have `cookie` or the
/// request came with one: for logging out.
///
/// ```
/// use counterfoil::{AccessToken, Actor, Cleared, Error, Registry};
/// use rocket::State;
///
/// #[rocket::post("/logout")]
/// async fn logout(token: AccessToken<'_>, registry: &State<Registry>) -> Result<Cleared<&'static str>, Error> {
///     registry.end_session(token.session(), Actor::subject(token.subject())).await?;
///     Ok(Cleared("bye"))
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Cleared<R>(pub R);

impl<'r, 'o: 'r, R: Responder<'r, 'o>> Responder<'r, 'o> for Cleared<R> {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'o> {
        let mut answer = Response::build_from(self.0.respond_to(request)?);
        answer.raw_header("Cache-Control", "no-store");
        if let Some(registry) = request.rocket().state::<Registry>() {
            let settings = registry.settings();
            let enabled = settings.locations.contains(&Location::Cookie);
            for slot in [TokenType::Access, TokenType::Refresh].into_iter().flat_map(|slot| slots(settings, slot)) {
                if enabled || request.cookies().get(slot.name).is_some() {
                    let mut cookie = slot.cookie(settings, String::new());
                    cookie.make_removal();
                    answer.header_adjoin(cookie);
                }
            }
        }
        answer.ok()
    }
}

/// A cookie that the settings describe.
struct Slot<'s> {
    name: &'s str,
    path: &'s str,
    http_only: bool,
}

impl Slot<'_> {
    fn cookie(&self, settings: &Settings, value: String) -> Cookie<'static> {
        let mut cookie = Cookie::build((self.name.to_owned(), value))
            .path(self.path.to_owned())
            .http_only(self.http_only)
            .secure(settings.cookie.secure)
            .same_site(match settings.cookie.same_site {
                config::SameSite::Strict => SameSite::Strict,
                config::SameSite::Lax => SameSite::Lax,
                config::SameSite::None => SameSite::None,
            });
        if let Some(domain) = &settings.cookie.domain {
            cookie = cookie.domain(domain.clone());
        }
        cookie.build()
    }
}

/// The cookies of a token of this type: itself, and its CSRF value.
fn slots(settings: &Settings, token_type: TokenType) -> [Slot<'_>; 2] {
    let (cookie, csrf) = (&settings.cookie, &settings.csrf);
    let (name, path, csrf_name, csrf_path) = match token_type {
        TokenType::Access => {
            (&cookie.access_name, &cookie.access_path, &csrf.access_cookie_name, &csrf.access_cookie_path)
        }
        TokenType::Refresh => {
            (&cookie.refresh_name, &cookie.refresh_path, &csrf.refresh_cookie_name, &csrf.refresh_cookie_path)
        }
    };
    [Slot { name, path, http_only: true }, Slot { name: csrf_name, path: csrf_path, http_only: false }]
}

fn cookies(settings: &Settings, token: &str, claims: &Claims) -> impl Iterator<Item = Cookie<'static>> {
    let [slot, csrf_slot] = slots(settings, claims.token_type);
    let csrf = claims.csrf.clone().map(|csrf| csrf_slot.cookie(settings, csrf));
    let lifetime = (!settings.cookie.session).then(|| Duration::seconds(claims.exp - claims.iat));
    [Some(slot.cookie(settings, token.to_owned())), csrf].into_iter().flatten().map(move |mut cookie| {
        cookie.set_max_age(lifetime);
        cookie
    })
}
