//! Scope rules as types: a route says in its signature what a token must be allowed to do.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use rocket::Request;
use rocket::request::{self, FromRequest};

use super::locations::{Configured, Locations};
use super::token::AccessToken;
use super::{sentinel, verdict};
use crate::registry::Checked;
use crate::token::{Denial, Scope, Scopes};

/// What the scopes of a token must fulfil. [`scope!`](crate::scope!) declares one for a single scope; [`AllOf`] and
/// [`AnyOf`] combine them.
pub trait ScopeRule: Send + Sync + 'static {
    /// What `held` lacks; `None` where it fulfils the rule.
    fn missing(held: &Scopes) -> Option<Scopes>;
}

/// Declares types that stand for scopes, for [`Scoped`]. A name that is no scope (RFC 6749 §3.3) does not compile.
///
/// ```
/// counterfoil::scope! {
///     /// May read notes.
///     pub NotesRead = "notes:read";
///     pub NotesWrite = "notes:write";
/// }
/// ```
#[macro_export]
macro_rules! scope {
    ($($(#[$meta:meta])* $vis:vis $name:ident = $scope:literal;)+) => {$(
        $(#[$meta])*
        #[doc = concat!("The scope `", $scope, "`.")]
        #[derive(Debug)]
        $vis struct $name;

        const _: () = assert!($crate::is_scope($scope), concat!($scope, " is not a scope"));

        impl $crate::ScopeRule for $name {
            fn missing(held: &$crate::Scopes) -> ::core::option::Option<$crate::Scopes> {
                if held.contains($scope) {
                    return ::core::option::Option::None;
                }
                ::core::option::Option::Some(::core::iter::Iterator::collect(::core::iter::IntoIterator::into_iter(
                    $scope.parse::<$crate::Scope>(),
                )))
            }
        }
    )+};
}

/// Whether this text is one scope. For [`scope!`](crate::scope!), at compile time.
#[doc(hidden)]
pub const fn is_scope(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut n = 0;
    while n < bytes.len() {
        if !matches!(bytes[n], 0x21 | 0x23..=0x5B | 0x5D..=0x7E) {
            return false;
        }
        n += 1;
    }
    !bytes.is_empty() && bytes.len() <= Scope::CHARS_MAX
}

/// All of these rules: a tuple of one to six.
#[derive(Debug)]
pub struct AllOf<T>(PhantomData<fn() -> T>);

/// Any of these rules: a tuple of one to six. A refusal names what the first of them asks for.
#[derive(Debug)]
pub struct AnyOf<T>(PhantomData<fn() -> T>);

macro_rules! rules {
    ($($rule:ident),+) => {
        impl<$($rule: ScopeRule),+> ScopeRule for AllOf<($($rule,)+)> {
            fn missing(held: &Scopes) -> Option<Scopes> {
                let mut missing = [$($rule::missing(held)),+].into_iter().flatten().peekable();
                missing.peek()?;
                Some(missing.flat_map(|scopes| scopes.iter().map(str::parse).collect::<Vec<_>>()).flatten().collect())
            }
        }

        impl<$($rule: ScopeRule),+> ScopeRule for AnyOf<($($rule,)+)> {
            fn missing(held: &Scopes) -> Option<Scopes> {
                let mut first = None;
                for missing in [$($rule::missing),+] {
                    let missing = missing(held)?;
                    first.get_or_insert(missing);
                }
                first
            }
        }
    };
}

rules!(A);
rules!(A, B);
rules!(A, B, C);
rules!(A, B, C, D);
rules!(A, B, C, D, E);
rules!(A, B, C, D, E, F);

/// A live access token whose scopes fulfil the rule `S`.
///
/// ```
/// use counterfoil::{AllOf, AnyOf, Scoped};
///
/// counterfoil::scope! {
///     pub NotesRead = "notes:read";
///     pub NotesWrite = "notes:write";
///     pub Admin = "notes:admin";
/// }
///
/// type Editor = AnyOf<(AllOf<(NotesRead, NotesWrite)>, Admin)>;
///
/// #[rocket::get("/notes")]
/// fn notes(_token: Scoped<'_, NotesRead>) -> &'static str {
///     "notes"
/// }
///
/// #[rocket::put("/notes")]
/// fn edit(_token: Scoped<'_, Editor>) -> &'static str {
///     "edited"
/// }
/// ```
pub struct Scoped<'r, S, L = Configured> {
    token: AccessToken<'r, L>,
    rule: PhantomData<fn() -> S>,
}

impl<S, L> Deref for Scoped<'_, S, L> {
    type Target = Checked;

    fn deref(&self) -> &Checked {
        &self.token
    }
}

impl<S, L> fmt::Debug for Scoped<'_, S, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scoped").field(&self.token).finish()
    }
}

impl<'r, S: ScopeRule, L: Locations> Scoped<'r, S, L> {
    async fn from(request: &'r Request<'_>) -> Result<Self, Denial> {
        let token = AccessToken::from(request).await?;
        match S::missing(&token.claims().scope) {
            Some(missing) => Err(Denial::InsufficientScope { missing }),
            None => Ok(Self { token, rule: PhantomData }),
        }
    }
}

#[rocket::async_trait]
impl<'r, S: ScopeRule, L: Locations> FromRequest<'r> for Scoped<'r, S, L> {
    type Error = Denial;

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, Denial> {
        verdict::outcome(request, Self::from(request).await)
    }
}

sentinel!([S, L] Scoped<'_, S, L>);
