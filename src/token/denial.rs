//! Why a token was refused.

use std::borrow::Cow;
use std::fmt;

use super::Scopes;

/// Why a guard refused a request.
///
/// Routes may take `Result<Guard, Denial>` to answer in their own way; otherwise the answer is the JSON
/// `{"error": code, "msg": message}` with [`status`](Self::status) and, where RFC 6750 §3 asks for one, a
/// `WWW-Authenticate` challenge. No denial carries any part of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denial {
    /// No token in any accepted location.
    Missing,
    /// Not a JWS in compact form, too long, or bad base64url or JSON.
    Malformed,
    /// Wrong signature, algorithm, key, issuer, audience, or claims.
    Invalid,
    /// Its `exp` has passed.
    Expired,
    /// Its `nbf` has not passed yet.
    NotYetValid,
    /// Its record, session or key is revoked or ended.
    Revoked,
    /// Well signed, but not on the registry.
    Unknown,
    /// A refresh token where an access token is due, or the reverse.
    WrongType,
    /// The route asks for a token got by logging in, not by refreshing (RFC 9470).
    NotFresh,
    /// The token lacks these scopes.
    InsufficientScope {
        /// What it lacks.
        missing: Scopes,
    },
    /// The token came by cookie, and the double-submit value is missing or another.
    CsrfFailed,
    /// Two `Authorization` headers, or two different tokens for one purpose.
    Ambiguous,
    /// The request's JSON body, where its token may be, can't be read as JSON.
    BodyUnreadable,
    /// The body did not arrive in time.
    BodyTooSlow,
    /// The body is larger than the setting `body_limit`.
    BodyTooLarge,
    /// There is a body, which is not JSON, and a token nowhere else.
    BodyNotJson,
    /// The application has no user for the token's subject.
    NoUser,
    /// The registry can't tell: its database can't be asked. Never a reason to let a request pass.
    Unavailable,
}

impl Denial {
    /// Seconds after which a caller may try again when the registry is [unavailable](Self::Unavailable).
    pub const RETRY_AFTER_SECONDS: u32 = 1;

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::InsufficientScope { .. } | Self::CsrfFailed => 403,
            Self::Ambiguous | Self::BodyUnreadable => 400,
            Self::BodyTooSlow => 408,
            Self::BodyTooLarge => 413,
            Self::BodyNotJson => 415,
            Self::Unavailable => 503,
            _ => 401,
        }
    }

    /// The code of the answer's `error` member.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "token_missing",
            Self::Malformed => "token_malformed",
            Self::Invalid | Self::NoUser => "token_invalid",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::Revoked => "token_revoked",
            Self::Unknown => "token_unknown",
            Self::WrongType => "token_wrong_type",
            Self::NotFresh => "fresh_token_required",
            Self::InsufficientScope { .. } => "insufficient_scope",
            Self::CsrfFailed => "csrf_failed",
            Self::Ambiguous | Self::BodyUnreadable | Self::BodyTooSlow | Self::BodyTooLarge | Self::BodyNotJson => {
                "invalid_request"
            }
            Self::Unavailable => "registry_unavailable",
        }
    }

    /// The answer's `msg` member: one sentence.
    pub fn message(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Missing => "No token was sent",
            Self::Malformed => "The token is not a signed JWT",
            Self::Invalid => "The token is not valid here",
            Self::Expired => "The token has expired",
            Self::NotYetValid => "The token is not yet valid",
            Self::Revoked => "The token has been revoked",
            Self::Unknown => "The token is not on the registry",
            Self::WrongType => "A token of the other type is needed",
            Self::NotFresh => "A fresh token is needed: log in again",
            Self::InsufficientScope { missing } => {
                return Cow::Owned(format!("The token lacks the scope {missing}"));
            }
            Self::CsrfFailed => "The CSRF value is missing or does not match the token",
            Self::Ambiguous => "The request has more than one token for one purpose",
            Self::BodyUnreadable => "The body is not readable JSON",
            Self::BodyTooSlow => "The body did not arrive in time",
            Self::BodyTooLarge => "The body is too large",
            Self::BodyNotJson => "The body must be JSON: set Content-Type to application/json",
            Self::NoUser => "The token's subject is not a user here",
            Self::Unavailable => "The registry can't be asked just now",
        })
    }

    /// The `WWW-Authenticate` challenge (RFC 6750 §3, RFC 9470 §3), where the denial has one.
    pub fn challenge(&self) -> Option<String> {
        const REALM: &str = r#"Bearer realm="counterfoil""#;
        match self {
            Self::CsrfFailed
            | Self::Ambiguous
            | Self::BodyUnreadable
            | Self::BodyTooSlow
            | Self::BodyTooLarge
            | Self::BodyNotJson
            | Self::Unavailable => None,
            Self::Missing => Some(REALM.to_owned()),
            Self::NotFresh => Some(format!(
                r#"{REALM}, error="insufficient_user_authentication", error_description="{}""#,
                self.message()
            )),
            // Scope characters exclude the quote and the backslash (RFC 6749 §3.3), so this needs no escaping.
            Self::InsufficientScope { missing } => {
                Some(format!(r#"{REALM}, error="insufficient_scope", scope="{missing}""#))
            }
            _ => Some(format!(r#"{REALM}, error="invalid_token", error_description="{}""#, self.message())),
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}

impl std::error::Error for Denial {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_challenge_keeps_to_the_characters_of_rfc_6750() {
        let missing = "a:read b".parse().unwrap();
        for denial in [Denial::Missing, Denial::Invalid, Denial::NotFresh, Denial::InsufficientScope { missing }] {
            let challenge = denial.challenge().unwrap();
            assert!(challenge.bytes().all(|b| matches!(b, 0x20..=0x7E)), "{challenge}");
            assert_eq!(challenge.matches('"').count() % 2, 0, "{challenge}");
        }
    }

    #[test]
    fn a_missing_token_gets_a_challenge_without_an_error() {
        assert_eq!(Denial::Missing.challenge().unwrap(), r#"Bearer realm="counterfoil""#);
    }
}
