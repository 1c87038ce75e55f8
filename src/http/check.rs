//! Trying a token: a route for people, and one for proxies that ask before they let a request pass.

use rocket::http::{Header, Status};
use rocket::request::{FromRequest, Outcome};
use rocket::response::content::RawJson;
use rocket::response::{self, Responder, Response};
use rocket::{Request, Route, get, routes};
use utoipa::IntoParams;

use super::error::ApiError;
use super::openapi::ErrorBody;
use crate::config::Location;
use crate::error::Error;
use crate::guard::{AccessToken, ForwardedToken};
use crate::registry::{Checked, Registry};
use crate::token::{Denial, Scopes};

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![protected, check_token]
}

/// The documentation of these routes.
#[derive(utoipa::OpenApi)]
#[openapi(paths(protected, check_token))]
pub(super) struct Api;

/// A route to try a token on.
#[utoipa::path(tag = "Checks", responses(
    (status = 200, description = "The token is accepted", body = Object, example = json!({"hello": "world"})),
    (status = 401, description = "Why the token was refused", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("bearer" = []), ("cookie" = [])))]
#[get("/protected")]
async fn protected(_token: AccessToken<'_>) -> RawJson<&'static str> {
    RawJson(r#"{"hello":"world"}"#)
}

/// What `/auth/check` may be asked beyond a live access token; [`Asked`] reads it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the document alone reads it")]
struct CheckQuery {
    /// Scopes that the token must have, all of them, separated by `+` or a space.
    scope: Option<String>,
    /// `true`: the token must be fresh.
    fresh: Option<bool>,
    /// An audience that the token must have, instead of the registry's own.
    audience: Option<String>,
}

/// What the token must have. A parameter that stands there twice asks for both.
#[derive(Debug, Default)]
struct Asked {
    scopes: Vec<Scopes>,
    fresh: bool,
}

impl Asked {
    fn read(request: &Request<'_>) -> Result<Self, Error> {
        let mut asked = Self::default();
        let mut audiences = 0;
        for field in request.query_fields() {
            match field.name.source().as_str() {
                "scope" => asked.scopes.push(field.value.parse()?),
                "fresh" => match field.value {
                    "true" => asked.fresh = true,
                    "false" => {}
                    _ => return Err(Error::invalid("fresh", "fresh must be true or false")),
                },
                // The guard reads it.
                "audience" => audiences += 1,
                name if is_token_name(request, name) => {}
                // A demand that is misspelt must not be a demand that is met.
                _ => {
                    return Err(Error::invalid(
                        "query",
                        "the query must have no parameters but scope, fresh and audience",
                    ));
                }
            }
        }
        if audiences > 1 {
            return Err(Error::invalid("audience", "audience must stand there once"));
        }
        Ok(asked)
    }
}

/// Whether this parameter may hold the token itself.
fn is_token_name(request: &Request<'_>, name: &str) -> bool {
    let settings = request.rocket().state::<Registry>().map(Registry::settings);
    settings.is_some_and(|settings| settings.query_name == name && settings.locations.contains(&Location::Query))
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Asked {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        match Self::read(request) {
            Ok(asked) => Outcome::Success(asked),
            Err(error) => Outcome::Error((ApiError::from(error).keep(request), ())),
        }
    }
}

/// Who may pass, in headers for the proxy that asked.
struct Pass(Checked);

/// Whether a request may pass: what nginx `auth_request`, Traefik ForwardAuth and Caddy `forward_auth` call.
#[utoipa::path(tag = "Checks", params(CheckQuery), responses(
    (status = 204, description = "It may", headers(
        ("X-Auth-Subject" = String), ("X-Auth-Scope" = String), ("X-Auth-Jti" = String), ("X-Auth-Session" = String),
    )),
    (status = 401, description = "Why the token was refused", body = ErrorBody),
    (status = 403, description = "`insufficient_scope` or `csrf_failed`", body = ErrorBody),
    (status = 422, description = "`invalid_request`: a parameter is not valid", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`", body = ErrorBody),
), security(("bearer" = []), ("cookie" = [])))]
#[get("/auth/check")]
async fn check_token(token: ForwardedToken, asked: Asked) -> Result<Pass, Denial> {
    for scopes in &asked.scopes {
        token.require_scopes(scopes)?;
    }
    if asked.fresh {
        token.require_fresh()?;
    }
    Ok(Pass(Checked::clone(&token)))
}

impl<'r> Responder<'r, 'static> for Pass {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        let claims = self.0.claims();
        Response::build()
            .status(Status::NoContent)
            .header(Header::new("X-Auth-Subject", encode(claims.sub.as_str())))
            // Scopes are printable ASCII (RFC 6749 §3.3); the spaces between them stay.
            .header(Header::new("X-Auth-Scope", scope_header(&claims.scope)))
            .header(Header::new("X-Auth-Jti", claims.jti.to_string()))
            .header(Header::new("X-Auth-Session", claims.sid.to_string()))
            .ok()
    }
}

fn scope_header(scope: &Scopes) -> String {
    scope.iter().map(encode).collect::<Vec<_>>().join(" ")
}

/// Percent-encodes what can't stand in a header as it is, and the percent sign, so that it can be undone.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' => encoded.push_str("%25"),
            0x21..=0x7E => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_printable_ascii_and_can_be_undone() {
        assert_eq!(encode("al ice%\u{e4}"), "al%20ice%25%C3%A4");
        assert_eq!(scope_header(&"b a%".parse().unwrap()), "a%25 b");
        assert_eq!(scope_header(&Scopes::default()), "");
    }
}
