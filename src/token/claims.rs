//! What a token says: its claims, and the rules that need no key and no database.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::{Denial, Jti, Scopes, Sid, Subject, TokenType};
use crate::error::Error;

/// Claim names that additional claims may not use, whether they are present or not.
pub(crate) const RESERVED: &[&str] = &[
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "type",
    "sid",
    "client_id",
    "fresh",
    "scope",
    "csrf",
    "cnf",
    "act",
    "may_act",
    "active",
    "username",
    "token_type",
    "auth_time",
    "acr",
    "amr",
    "status",
];

/// The most bytes that additional claims may have together, as JSON.
const EXTRA_BYTES_MAX: usize = 2_048;

/// How many arrays and objects may lie in each other in one additional claim. Readers of JSON stop somewhere, the one
/// that reads tokens here at 128, and those of other services at 64.
const EXTRA_DEPTH_MAX: usize = 32;

/// The longest audience, in characters, and how many one token may have.
const AUDIENCE_CHARS_MAX: usize = 255;
const AUDIENCE_COUNT_MAX: usize = 16;

/// What the console's audience has after the issuer.
const CONSOLE_SUFFIX: &str = "/console";

/// Refuses audiences that no token may have.
pub(crate) fn checked_audiences(audiences: &[String]) -> Result<(), Error> {
    let is_bad =
        |aud: &String| aud.is_empty() || aud.chars().count() > AUDIENCE_CHARS_MAX || aud.chars().any(char::is_control);
    if audiences.len() > AUDIENCE_COUNT_MAX || audiences.iter().any(is_bad) {
        return Err(Error::invalid("audience", "audience must name at most 16 audiences of 1 to 255 characters"));
    }
    Ok(())
}

/// The audience of the console's own tokens.
pub(crate) fn console_audience(issuer: &str) -> String {
    format!("{issuer}{CONSOLE_SUFFIX}")
}

/// Whether this is that audience.
pub(crate) fn is_console_audience(audience: &str, issuer: &str) -> bool {
    audience.strip_suffix(CONSOLE_SUFFIX) == Some(issuer)
}

/// The claims of a token of this registry (RFC 7519 §4, RFC 9068 §2.2).
///
/// Times are whole seconds since the epoch (NumericDate).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Claims {
    /// `iss`: who issued it.
    pub iss: String,
    /// `sub`: whom it speaks for.
    pub sub: Subject,
    /// `aud`: whom it is meant for. Written as a string when it is one.
    pub aud: Vec<String>,
    /// `exp`: not good from this second on.
    pub exp: i64,
    /// `nbf`: not good before this second.
    pub nbf: i64,
    /// `iat`: when it was issued.
    pub iat: i64,
    /// `jti`: its id.
    pub jti: Jti,
    /// `type`: access or refresh.
    pub token_type: TokenType,
    /// `sid`: the session it descends from.
    pub sid: Sid,
    /// `client_id`: the client that asked for it, `counterfoil` for the server's own `/login`.
    pub client_id: String,
    /// `fresh`: whether it was got by logging in, not by refreshing. Always `false` for a refresh token, which has no
    /// such claim.
    pub fresh: bool,
    /// `scope`: what it may do. Empty where it has no such claim.
    pub scope: Scopes,
    /// `csrf`: the double-submit value, in tokens set as cookies only.
    pub csrf: Option<String>,
    /// The additional claims, at the top level of the token.
    pub extra: Map<String, Value>,
}

/// As the members of the token. A claim that is not there has no member.
impl Serialize for Claims {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(None)?;
        members.serialize_entry("iss", &self.iss)?;
        members.serialize_entry("sub", &self.sub)?;
        match self.aud.as_slice() {
            [one] => members.serialize_entry("aud", one)?,
            many => members.serialize_entry("aud", many)?,
        }
        members.serialize_entry("exp", &self.exp)?;
        members.serialize_entry("nbf", &self.nbf)?;
        members.serialize_entry("iat", &self.iat)?;
        members.serialize_entry("jti", &self.jti)?;
        members.serialize_entry("type", self.token_type.as_str())?;
        members.serialize_entry("sid", &self.sid)?;
        members.serialize_entry("client_id", &self.client_id)?;
        if self.token_type == TokenType::Access {
            members.serialize_entry("fresh", &self.fresh)?;
        }
        if !self.scope.is_empty() {
            members.serialize_entry("scope", &self.scope)?;
        }
        if let Some(csrf) = &self.csrf {
            members.serialize_entry("csrf", csrf)?;
        }
        for (name, value) in &self.extra {
            members.serialize_entry(name, value)?;
        }
        members.end()
    }
}

/// Which audience a route accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AudienceRule<'a> {
    /// The issuer, or one of the configured audiences.
    Own,
    /// Any audience issued here, but that of the server's console.
    Any,
    /// This one.
    Exactly(&'a str),
}

/// What claims are compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// The issuer that `iss` must equal.
    pub(crate) issuer: &'a str,
    /// The configured audiences.
    pub(crate) audiences: &'a [String],
    /// Which audience to accept.
    pub(crate) audience: AudienceRule<'a>,
    /// Seconds that clocks may differ.
    pub(crate) leeway: i64,
    /// The time now.
    pub(crate) now: i64,
}

impl Rules<'_> {
    /// Compares `exp` and `nbf` with the time now.
    pub(crate) fn check_times(&self, exp: i64, nbf: i64) -> Result<(), Denial> {
        if self.now >= exp.saturating_add(self.leeway) {
            return Err(Denial::Expired);
        }
        if self.now < nbf.saturating_sub(self.leeway) {
            return Err(Denial::NotYetValid);
        }
        Ok(())
    }
}

impl Claims {
    /// The claims as the members of the token.
    pub fn to_members(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(members)) => members,
            // Names that are text, and values that are JSON.
            _ => Map::new(),
        }
    }

    /// Reads the claims of a token of this registry; anything missing or of the wrong form is [`Denial::Invalid`].
    pub(crate) fn from_members(mut members: Map<String, Value>) -> Result<Self, Denial> {
        let token_type: TokenType = parse(&mut members, "type")?;
        let fresh = match (token_type, members.remove("fresh")) {
            (TokenType::Access, Some(Value::Bool(fresh))) => fresh,
            (TokenType::Refresh, None) => false,
            _ => return Err(Denial::Invalid),
        };
        let scope = match members.remove("scope") {
            None => Scopes::default(),
            Some(Value::String(scope)) => scope.parse().map_err(|_| Denial::Invalid)?,
            Some(_) => return Err(Denial::Invalid),
        };
        let csrf = match members.remove("csrf") {
            None => None,
            Some(Value::String(csrf)) => Some(csrf),
            Some(_) => return Err(Denial::Invalid),
        };
        Ok(Self {
            iss: text(&mut members, "iss")?,
            sub: parse(&mut members, "sub")?,
            aud: audience(members.remove("aud"))?,
            exp: seconds(&mut members, "exp")?,
            nbf: seconds(&mut members, "nbf")?,
            iat: seconds(&mut members, "iat")?,
            jti: parse(&mut members, "jti")?,
            token_type,
            sid: parse(&mut members, "sid")?,
            client_id: text(&mut members, "client_id")?,
            fresh,
            scope,
            csrf,
            extra: members,
        })
    }

    /// Compares issuer and audience.
    pub(crate) fn check_origin(&self, rules: &Rules<'_>) -> Result<(), Denial> {
        let accepted = |aud: &String| match rules.audience {
            AudienceRule::Any => true,
            AudienceRule::Own => aud == rules.issuer || rules.audiences.contains(aud),
            AudienceRule::Exactly(expected) => aud == expected,
        };
        if self.iss == rules.issuer && self.aud.iter().any(accepted) { Ok(()) } else { Err(Denial::Invalid) }
    }

    /// Whether it is for the console, which no other token opens and which opens nothing else.
    pub(crate) fn is_console(&self) -> bool {
        self.aud.iter().any(|aud| is_console_audience(aud, &self.iss))
    }

    /// Compares `exp` and `nbf` with the time now.
    pub(crate) fn check_times(&self, rules: &Rules<'_>) -> Result<(), Denial> {
        rules.check_times(self.exp, self.nbf)
    }

    /// Refuses additional claims that use a reserved name, are nested too deep or are too large. `identity` is a
    /// further name that repeats `sub`, where one is configured.
    pub(crate) fn check_extra(extra: &Map<String, Value>, identity: Option<&str>) -> Result<(), Error> {
        if extra.is_empty() {
            return Ok(());
        }
        if let Some(name) =
            extra.keys().find(|name| RESERVED.contains(&name.as_str()) || identity == Some(name.as_str()))
        {
            return Err(Error::invalid("claims", format!("claims must not contain the reserved name {name:?}")));
        }
        // Before they are written, which goes as deep as they are.
        if extra.values().any(|value| is_deeper(value, EXTRA_DEPTH_MAX)) {
            return Err(Error::invalid("claims", "claims must not be nested more than 32 deep"));
        }
        let bytes = serde_json::to_vec(extra).map_or(usize::MAX, |json| json.len());
        if bytes > EXTRA_BYTES_MAX {
            return Err(Error::invalid("claims", "claims must have at most 2048 bytes as JSON"));
        }
        Ok(())
    }
}

/// Whether more than so many arrays and objects lie in each other.
fn is_deeper(value: &Value, than: usize) -> bool {
    let mut parts: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(members) => Box::new(members.values()),
        _ => return false,
    };
    than == 0 || parts.any(|part| is_deeper(part, than - 1))
}

fn text(members: &mut Map<String, Value>, name: &str) -> Result<String, Denial> {
    match members.remove(name) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(Denial::Invalid),
    }
}

fn parse<T: std::str::FromStr>(members: &mut Map<String, Value>, name: &str) -> Result<T, Denial> {
    text(members, name)?.parse().map_err(|_| Denial::Invalid)
}

fn seconds(members: &mut Map<String, Value>, name: &str) -> Result<i64, Denial> {
    match members.remove(name) {
        Some(Value::Number(number)) => number.as_i64().ok_or(Denial::Invalid),
        _ => Err(Denial::Invalid),
    }
}

fn audience(value: Option<Value>) -> Result<Vec<String>, Denial> {
    match value {
        Some(Value::String(one)) => Ok(vec![one]),
        Some(Value::Array(many)) if !many.is_empty() => many
            .into_iter()
            .map(|value| match value {
                Value::String(aud) => Ok(aud),
                _ => Err(Denial::Invalid),
            })
            .collect(),
        _ => Err(Denial::Invalid),
    }
}

#[cfg(test)]
mod tests;
