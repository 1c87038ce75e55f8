//! Tokens issued elsewhere before the registry was adopted: verified with an accepted key, and given a record.

use serde_json::{Map, Value};

use super::check::is_of_own_form;
use super::draft::Granted;
use super::{Registry, whole_seconds};
use crate::config::Settings;
use crate::error::Error;
use crate::keys::Verified;
use crate::store::{NewToken, Status};
use crate::token::{AudienceRule, Claims, Denial, Jti, Record, Scopes, Subject, TokenType};

/// What the `client_id` is taken to be of an imported token, and of those got with it.
pub(crate) const IMPORTED_CLIENT: &str = "imported";

/// What scopes that open the registry's own routes begin with.
const REGISTRY_SCOPES: &str = "registry:";

/// The claims of other issuers that name the subject, in the order of looking (`identity`: Flask-JWT-Extended 2 and 3).
const SUBJECT_CLAIMS: [&str; 2] = ["sub", "identity"];

impl Registry {
    /// Puts a token that was issued elsewhere on the registry, so that it is accepted until it expires or is revoked.
    ///
    /// Its key must be the current one or among `keys.accept`. It must have `exp`, a `jti` that is a UUID, and a
    /// subject in `sub` or `identity`; what else it lacks is filled in: the type is access, it is not fresh and has no
    /// scopes. One with a scope of the registry itself (`registry:…`) is refused.
    ///
    /// ```
    /// use counterfoil::{Error, Registry};
    ///
    /// async fn import_all(registry: &Registry, tokens: &[String]) -> Result<(), Error> {
    ///     for token in tokens {
    ///         match registry.import(token).await {
    ///             // Done now, or in a run before.
    ///             Ok(_) => {}
    ///             Err(error) if error.is_conflict() => {}
    ///             // It has expired, say.
    ///             Err(error) if error.is_invalid() => eprintln!("left out: {error}"),
    ///             Err(error) => return Err(error),
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_invalid`](Error::is_invalid) with what is wrong with it; [`is_conflict`](Error::is_conflict) where it is on
    /// the registry already; [`is_unavailable`](Error::is_unavailable), after which trying again is safe.
    pub async fn import(&self, token: &str) -> Result<Record, Error> {
        let verified = self.verify(token).await.map_err(|denial| match denial {
            Denial::Unavailable => Error::unavailable("the keys can't be read just now"),
            Denial::Malformed => Error::invalid("token", "token is not a signed JWT"),
            _ => Error::invalid("token", "token is not signed by the current or an accepted key"),
        })?;
        // Nothing is filled in where the form is our own: what lacks something, or is of another issuer, would never be
        // accepted.
        if is_of_own_form(&verified) && !self.is_own(&verified) {
            return Err(Error::invalid("token", "token is of another registry, whose tokens are not taken over"));
        }
        let members = verified.claims;
        let jti = jti_of(&members).ok_or_else(|| Error::invalid("token", "token has no jti that is a UUID"))?;
        let subject =
            subject_of(&members).ok_or_else(|| Error::invalid("token", "token has no usable sub or identity"))?;
        let expires_at = seconds_of(&members, "exp").ok_or_else(|| Error::invalid("token", "token has no exp"))?;
        let now = self.seconds();
        if now >= expires_at.saturating_add(whole_seconds(self.settings().leeway)) {
            return Err(Error::invalid("token", "token has expired"));
        }
        let token_type = type_of(&members)
            .ok_or_else(|| Error::invalid("token", "token has a type that is not access or refresh"))?;
        let scope = scope_of(&members).ok_or_else(|| Error::invalid("token", "token has a scope that is no scope"))?;
        // Whoever held the old key could have written it, and the operator may import a whole file of tokens.
        if scope.iter().any(|scope| scope.starts_with(REGISTRY_SCOPES)) {
            return Err(Error::invalid("token", "token has a scope of the registry itself, which is not taken over"));
        }
        let issued_at = seconds_of(&members, "iat").unwrap_or(now);
        let granted = match token_type {
            TokenType::Access => None,
            TokenType::Refresh => Some(
                Granted {
                    scope: scope.clone(),
                    audience: Vec::new(),
                    claims: Map::new(),
                    access_expires: None,
                    cookies: members.contains_key("csrf"),
                }
                .to_json()?,
            ),
        };
        let claims = serde_json::to_string(&members)
            .map_err(|error| Error::internal("claims can't be written as JSON").with_source(error))?;
        let record = NewToken {
            jti,
            token_type,
            issued_at,
            not_before: seconds_of(&members, "nbf").unwrap_or(issued_at),
            expires_at,
            scope,
            claims,
            granted,
            kid: verified.kid,
            imported: true,
        };
        self.register_imported(subject, record, jti.own_session()).await?;
        self.get(jti).await
    }

    /// Whether the claims of a token of our own form are those of one that was issued here.
    fn is_own(&self, verified: &Verified) -> bool {
        Claims::from_members(verified.claims.clone()).is_ok_and(|claims| {
            verified.typ == Some(claims.token_type) && claims.check_origin(&self.rules(AudienceRule::Any)).is_ok()
        })
    }
}

pub(super) fn jti_of(members: &Map<String, Value>) -> Option<Jti> {
    members.get("jti")?.as_str()?.parse().ok()
}

/// The claims of an imported token, with what it leaves out taken from its record and the settings.
pub(super) fn complete(
    mut members: Map<String, Value>,
    jti: Jti,
    status: &Status,
    settings: &Settings,
) -> Result<Claims, Denial> {
    if subject_of(&members).as_ref() != Some(&status.subject) || type_of(&members) != Some(status.token_type) {
        return Err(Denial::Invalid);
    }
    let exp = seconds_of(&members, "exp").ok_or(Denial::Invalid)?;
    let fresh = members.get("fresh").and_then(Value::as_bool).unwrap_or(false);
    let scope = scope_of(&members).ok_or(Denial::Invalid)?;
    let csrf = members.get("csrf").and_then(Value::as_str).map(str::to_owned);
    let iat = seconds_of(&members, "iat").unwrap_or(status.not_before);
    members.retain(|name, _| !crate::token::RESERVED.contains(&name.as_str()));
    Ok(Claims {
        iss: settings.issuer.clone(),
        sub: status.subject.clone(),
        aud: vec![settings.issuer.clone()],
        exp,
        nbf: status.not_before,
        iat,
        jti,
        token_type: status.token_type,
        sid: status.sid,
        client_id: IMPORTED_CLIENT.to_owned(),
        fresh: fresh && status.token_type == TokenType::Access,
        scope,
        csrf,
        extra: members,
    })
}

fn subject_of(members: &Map<String, Value>) -> Option<Subject> {
    let value = SUBJECT_CLAIMS.iter().find_map(|name| members.get(*name))?;
    match value {
        Value::String(subject) => subject.parse().ok(),
        // Flask-JWT-Extended let applications use the row id of their user.
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

fn type_of(members: &Map<String, Value>) -> Option<TokenType> {
    match members.get("type") {
        None => Some(TokenType::Access),
        Some(value) => value.as_str()?.parse().ok(),
    }
}

fn scope_of(members: &Map<String, Value>) -> Option<Scopes> {
    match members.get("scope") {
        None => Some(Scopes::default()),
        Some(value) => value.as_str()?.parse().ok(),
    }
}

/// A NumericDate (RFC 7519 §2), which may have a fraction; `None` for one that is no date.
fn seconds_of(members: &Map<String, Value>, name: &str) -> Option<i64> {
    let value = members.get(name)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float cast saturates, and a saturated time is still in order"
    )]
    let seconds = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64))?;
    // A record with a time that nobody can write down would be one that no list can show.
    chrono::DateTime::from_timestamp(seconds, 0).map(|_| seconds)
}
