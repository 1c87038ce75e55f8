//! What a token may do: scopes (RFC 6749 §3.3).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// One scope: 1 to 128 characters of `%x21 / %x23-5B / %x5D-7E` (RFC 6749 §3.3).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(String);

impl Scope {
    /// The longest scope, in characters.
    pub const CHARS_MAX: usize = 128;

    /// The scope as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Scope {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() || text.len() > Self::CHARS_MAX {
            return Err(Error::invalid("scope", "a scope must have 1 to 128 characters"));
        }
        if !text.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5B | 0x5D..=0x7E)) {
            return Err(Error::invalid("scope", "a scope must be printable ASCII without space, quote or backslash"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A set of scopes, written space-separated (RFC 8693 §4.2).
///
/// ```
/// use counterfoil::Scopes;
///
/// let granted: Scopes = "notes:write notes:read".parse()?;
/// assert_eq!(granted.to_string(), "notes:read notes:write");
/// assert!(granted.contains("notes:read"));
/// # Ok::<(), counterfoil::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scopes(Box<[Scope]>);

impl Scopes {
    /// The most scopes that a token may have. A set that was collected may hold more, but nothing is issued for it.
    pub const COUNT_MAX: usize = 64;

    /// Refuses a set that no token may have.
    pub(crate) fn check_count(&self) -> Result<(), Error> {
        if self.0.len() > Self::COUNT_MAX {
            return Err(Error::invalid("scope", "scope must name at most 64 scopes"));
        }
        Ok(())
    }

    /// Whether there is no scope in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the set has `scope`.
    pub fn contains(&self, scope: &str) -> bool {
        self.0.iter().any(|held| held.as_str() == scope)
    }

    /// Whether every scope of this set is in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.iter().all(|scope| other.holds(scope))
    }

    /// The scopes of both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.iter().filter(|scope| other.holds(scope)).cloned().collect())
    }

    /// The scopes of this set that `other` lacks.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self(self.0.iter().filter(|scope| !other.holds(scope)).cloned().collect())
    }

    fn holds(&self, scope: &Scope) -> bool {
        self.0.binary_search(scope).is_ok()
    }

    /// The scopes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Scope::as_str)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        // Sorted, and each once.
        Self(scopes.into_iter().collect::<BTreeSet<_>>().into_iter().collect())
    }
}

impl FromStr for Scopes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let scopes: Self =
            text.split(' ').filter(|part| !part.is_empty()).map(str::parse::<Scope>).collect::<Result<_, _>>()?;
        scopes.check_count()?;
        Ok(scopes)
    }
}

impl TryFrom<String> for Scopes {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Scopes> for String {
    fn from(scopes: Scopes) -> Self {
        scopes.to_string()
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, scope) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(text: &str) -> Scopes {
        text.parse().unwrap()
    }

    #[test]
    fn a_set_is_sorted_and_has_each_scope_once() {
        assert_eq!(scopes("b a  b").to_string(), "a b");
        assert!(scopes("").is_empty());
    }

    #[test]
    fn characters_outside_rfc_6749_are_refused() {
        for bad in ["a\"b", "a\\b", "é", "a\tb", "a\u{7f}"] {
            assert!(bad.parse::<Scopes>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sets_are_bounded() {
        let many = |n: usize| (0..n).map(|i| format!("s{i} ")).collect::<String>();
        assert!(many(Scopes::COUNT_MAX).parse::<Scopes>().is_ok());
        assert!(many(Scopes::COUNT_MAX + 1).parse::<Scopes>().is_err());
        assert!("x".repeat(Scope::CHARS_MAX).parse::<Scope>().is_ok());
        assert!("x".repeat(Scope::CHARS_MAX + 1).parse::<Scope>().is_err());
    }

    #[test]
    fn sets_compare_by_what_they_hold() {
        assert_eq!(scopes("a b c").difference(&scopes("b")), scopes("a c"));
        assert_eq!(scopes("a b").intersection(&scopes("b c")), scopes("b"));
        assert!(scopes("a").is_subset(&scopes("a b")));
        assert!(!scopes("a b").is_subset(&scopes("a")));
    }
}
