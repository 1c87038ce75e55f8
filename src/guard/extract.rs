//! Finding the token in a request. Nothing here judges a token: it is text in a place.

use rocket::Request;

use crate::config::{Location, Settings};
use crate::registry::is_same;
use crate::token::{Claims, Denial, TokenType};

/// A token found in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found<'r> {
    pub(super) token: &'r str,
    /// Whether the browser may have sent it by itself, so that only the CSRF value tells who asked for it.
    pub(super) by_cookie: bool,
    /// The type that its place is for; a header may hold either.
    pub(super) place_of: Option<TokenType>,
}

/// Looks for a token for one purpose in these locations, but for the body.
pub(super) fn find<'r>(
    request: &'r Request<'_>,
    settings: &Settings,
    locations: &[Location],
    purpose: TokenType,
) -> Result<Option<Found<'r>>, Denial> {
    let mut found = None;
    for location in locations {
        found = same(found, find_in(request, settings, *location, purpose)?)?;
    }
    Ok(found)
}

fn find_in<'r>(
    request: &'r Request<'_>,
    settings: &Settings,
    location: Location,
    purpose: TokenType,
) -> Result<Option<Found<'r>>, Denial> {
    let by_cookie = location == Location::Cookie;
    let token = match (location, purpose) {
        (Location::Header, _) => in_header(request.headers().get(&settings.header.name), &settings.header.scheme)?,
        (Location::Cookie, TokenType::Access) => in_cookie(request, &settings.cookie.access_name)?,
        (Location::Cookie, TokenType::Refresh) => in_cookie(request, &settings.cookie.refresh_name)?,
        (Location::Query, TokenType::Access) => in_query(request, &settings.query_name)?,
        // A refresh token lives too long for a place that is logged and kept in histories.
        (Location::Query, TokenType::Refresh) | (Location::Json, _) => None,
    };
    let place_of = (location != Location::Header).then_some(purpose);
    Ok(token.map(|token| Found { token, by_cookie, place_of }))
}

/// What is found in two places must be the same token: which of two was meant is nobody's to guess.
pub(super) fn same<'r>(one: Option<Found<'r>>, other: Option<Found<'r>>) -> Result<Option<Found<'r>>, Denial> {
    match (one, other) {
        (Some(one), Some(other)) if one.token != other.token => Err(Denial::Ambiguous),
        // A page of another origin can make the browser send the cookie, but can't know what is in it.
        (Some(one), Some(other)) => Ok(Some(Found {
            token: one.token,
            by_cookie: one.by_cookie && other.by_cookie,
            place_of: one.place_of.or(other.place_of),
        })),
        (one, other) => Ok(one.or(other)),
    }
}

/// The token in the values of the header. Another scheme counts as no token; the scheme is compared case-insensitively
/// (RFC 9110 §11.1).
fn in_header<'r>(mut values: impl Iterator<Item = &'r str>, scheme: &str) -> Result<Option<&'r str>, Denial> {
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Denial::Ambiguous);
    }
    let value = value.trim();
    let token = if scheme.is_empty() {
        value
    } else {
        let (sent, rest) = value.split_once(' ').unwrap_or((value, ""));
        if !sent.eq_ignore_ascii_case(scheme) {
            return Ok(None);
        }
        match rest.trim_start() {
            "" => return Err(Denial::Malformed),
            rest => rest,
        }
    };
    // All of it, byte by byte, whatever is found: that is done many bytes at a time. Other white space is no part of a
    // token either, but that is found out where it is read.
    if token.bytes().fold(false, |found, byte| found | byte.is_ascii_whitespace()) {
        return Err(Denial::Malformed);
    }
    Ok((!token.is_empty()).then_some(token))
}

/// What may stand around the names and values of cookies. Other white space is part of a name: a sibling domain could
/// plant one for `__Host-…` that begins with it, which browsers don't take for that prefix.
const BLANKS: [char; 2] = [' ', '\t'];

/// The value of a cookie as it was sent. A browser sends two of one name where they were set for two paths, or by a
/// sibling domain.
pub(crate) fn sent_cookie<'r>(request: &'r Request<'_>, name: &str) -> Result<Option<&'r str>, Denial> {
    let sent = request
        .headers()
        .get("Cookie")
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.split_once('='))
        .map(|(sent, value)| (sent.trim_matches(BLANKS), value.trim_matches(BLANKS)))
        .filter_map(|(sent, value)| (sent == name).then_some(value));
    only(sent)
}

/// The token in a cookie.
fn in_cookie<'r>(request: &'r Request<'_>, name: &str) -> Result<Option<&'r str>, Denial> {
    match sent_cookie(request, name)? {
        // A request that Rocket's local client makes has cookies and no such header. Where there is one, it alone
        // counts: Rocket decodes the names of cookies, so that a sibling domain could plant `__%48ost-…` for
        // `__Host-…`.
        None if !request.headers().contains("Cookie") => {
            only(request.cookies().get(name).map(|cookie| cookie.value()).into_iter())
        }
        sent => Ok(sent),
    }
}

fn in_query<'r>(request: &'r Request<'_>, name: &str) -> Result<Option<&'r str>, Denial> {
    only(request.query_fields().filter(|field| field.name.source() == name).map(|field| field.value))
}

/// The one value among these, however often it stands there; an empty one counts as none. Which of two was meant is
/// nobody's to guess.
fn only<'r>(values: impl Iterator<Item = &'r str>) -> Result<Option<&'r str>, Denial> {
    let mut values = values.filter(|value| !value.is_empty());
    let first = values.next();
    if values.any(|value| Some(value) != first) { Err(Denial::Ambiguous) } else { Ok(first) }
}

/// Compares the CSRF value where the token came by cookie and a request like this one needs it.
pub(super) fn check_meant(
    request: &Request<'_>,
    settings: &Settings,
    found: Found<'_>,
    claims: &Claims,
) -> Result<(), Denial> {
    if found.by_cookie && needs_csrf(request, settings) { check_csrf(request, settings, claims) } else { Ok(()) }
}

/// Whether a request like this one must show that no other site made the browser send it.
fn needs_csrf(request: &Request<'_>, settings: &Settings) -> bool {
    settings.csrf.enabled && settings.csrf.methods.iter().any(|method| method == request.method().as_str())
}

/// Compares the CSRF header with the `csrf` claim of a token that came by cookie (the double submit). The claim is
/// signed, so a cookie planted by a sibling domain does not help.
pub(super) fn check_csrf(request: &Request<'_>, settings: &Settings, claims: &Claims) -> Result<(), Denial> {
    let sent = only(request.headers().get(&settings.csrf.header_name)).map_err(|_| Denial::CsrfFailed)?;
    match (sent, &claims.csrf) {
        (Some(sent), Some(expected)) if is_same(sent.as_bytes(), expected.as_bytes()) => Ok(()),
        _ => Err(Denial::CsrfFailed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'a>(values: &[&'a str], scheme: &str) -> Result<Option<&'a str>, Denial> {
        in_header(values.iter().copied(), scheme)
    }

    #[test]
    fn the_scheme_is_compared_case_insensitively() {
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c "] {
            assert_eq!(header(&[value], "Bearer"), Ok(Some("a.b.c")), "{value:?}");
        }
    }

    #[test]
    fn another_scheme_counts_as_no_token() {
        for value in ["", "Basic dGVzdDp0ZXN0", "Bearers a.b.c", "a.b.c", "Basic a, Bearer b"] {
            assert_eq!(header(&[value], "Bearer"), Ok(None), "{value:?}");
        }
        assert_eq!(header(&[], "Bearer"), Ok(None));
    }

    #[test]
    fn a_scheme_without_one_token_is_malformed() {
        for value in ["Bearer", "bearer ", "Bearer a b", "Bearer a\tb"] {
            assert_eq!(header(&[value], "Bearer"), Err(Denial::Malformed), "{value:?}");
        }
    }

    #[test]
    fn two_headers_are_ambiguous_even_when_equal() {
        assert_eq!(header(&["Bearer a", "Bearer a"], "Bearer"), Err(Denial::Ambiguous));
        assert_eq!(header(&["Bearer a", "Basic b"], "Bearer"), Err(Denial::Ambiguous));
    }

    #[test]
    fn the_scheme_may_be_empty() {
        assert_eq!(header(&["a.b.c"], ""), Ok(Some("a.b.c")));
        assert_eq!(header(&[""], ""), Ok(None));
        assert_eq!(header(&["Bearer a"], ""), Err(Denial::Malformed));
    }

    #[test]
    fn the_same_token_twice_is_one_and_two_are_none() {
        let found = |token, by_cookie, place_of| Some(Found { token, by_cookie, place_of });
        let cookie = found("a", true, Some(TokenType::Access));
        let meant = Ok(found("a", false, Some(TokenType::Access)));
        assert_eq!(same(cookie, found("a", false, None)), meant);
        assert_eq!(same(found("a", false, None), cookie), meant);
        assert_eq!(same(cookie, cookie), Ok(cookie));
        assert_eq!(same(None, cookie), Ok(cookie));
        assert_eq!(same(cookie, found("b", false, None)), Err(Denial::Ambiguous));
        assert_eq!(only(["a", "", "a"].into_iter()), Ok(Some("a")));
        assert_eq!(only(["a", "b"].into_iter()), Err(Denial::Ambiguous));
    }
}
