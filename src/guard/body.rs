//! Data guards: for routes whose token may be in the JSON body.

use std::marker::PhantomData;
use std::ops::Deref;

use rocket::Request;
use rocket::data::{self, Data, FromData};
use serde_json::Value;

use super::arrival::{is_json, read};
use super::extract::{self, Found};
use super::locations::{Configured, Locations};
use super::{sentinel, verdict};
use crate::config::{Location, Settings};
use crate::registry::{Checked, Expect};
use crate::token::{AudienceRule, Denial, Sid, Subject, TokenType, Unique};

/// The JSON body of a request.
enum Body {
    Empty,
    Json(Value),
    /// Something else, which matters only where no token is found elsewhere.
    Other,
}

impl Body {
    async fn read(request: &Request<'_>, data: Data<'_>) -> Result<Self, Denial> {
        let body = read(request, data).await?;
        if body.is_empty() {
            return Ok(Self::Empty);
        }
        if !is_json(request) {
            return Ok(Self::Other);
        }
        // Which of two members of one name was meant, perhaps with two tokens, is nobody's to guess.
        serde_json::from_slice(&body).map(|Unique(value)| Self::Json(value)).map_err(|_| Denial::BodyUnreadable)
    }

    /// The token in a member of the body.
    fn find(&self, settings: &Settings, purpose: TokenType) -> Result<Option<Found<'_>>, Denial> {
        let name = match purpose {
            TokenType::Access => &settings.json.access_name,
            TokenType::Refresh => &settings.json.refresh_name,
        };
        match self {
            Self::Json(Value::Object(members)) => match members.get(name) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(token)) => {
                    let found = Found { token, by_cookie: false, place_of: Some(purpose) };
                    Ok((!token.is_empty()).then_some(found))
                }
                Some(_) => Err(Denial::Malformed),
            },
            _ => Ok(None),
        }
    }

    /// Why there is no token.
    fn missing(&self) -> Denial {
        if matches!(self, Self::Other) { Denial::BodyNotJson } else { Denial::Missing }
    }

    fn into_json(self) -> Option<Value> {
        match self {
            Self::Json(value) => Some(value),
            Self::Empty | Self::Other => None,
        }
    }
}

async fn token_or_body<'r, L: Locations>(
    request: &'r Request<'_>,
    data: Data<'_>,
    expected: TokenType,
) -> Result<(&'r Checked, Option<Value>), Denial> {
    let registry = verdict::registry(request)?;
    let body = Body::read(request, data).await?;
    let found = find::<L>(request, registry.settings(), &body, expected)?.ok_or_else(|| body.missing())?;
    let checked = verdict::found_in(request, registry, found, Some(expected)).await?;
    Ok((checked, body.into_json()))
}

/// The token of a request whose body was read; the same where it stands twice.
fn find<'t, L: Locations>(
    request: &'t Request<'_>,
    settings: &'t Settings,
    body: &'t Body,
    expected: TokenType,
) -> Result<Option<Found<'t>>, Denial> {
    let locations = L::choose(&settings.locations);
    let found = extract::find(request, settings, &locations, expected)?;
    let in_body = if locations.contains(&Location::Json) { body.find(settings, expected)? } else { None };
    extract::same(found, in_body)
}

macro_rules! data_guard {
    ($(#[$doc:meta])* $name:ident, $expected:expr) => {
        $(#[$doc])*
        pub struct $name<'r, L = Configured> {
            checked: &'r Checked,
            body: Option<Value>,
            locations: PhantomData<fn() -> L>,
        }

        impl<L> $name<'_, L> {
            /// The JSON body, where the request has one. A route that takes a token from its body finds the rest of it
            /// here.
            pub fn body(&self) -> Option<&Value> {
                self.body.as_ref()
            }
        }

        impl<L> Deref for $name<'_, L> {
            type Target = Checked;

            fn deref(&self) -> &Checked {
                self.checked
            }
        }

        impl<L> std::fmt::Debug for $name<'_, L> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                // The body holds the token.
                f.debug_tuple(stringify!($name)).field(&self.checked.jti()).finish()
            }
        }

        #[rocket::async_trait]
        impl<'r, L: Locations> FromData<'r> for $name<'r, L> {
            type Error = Denial;

            async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> data::Outcome<'r, Self> {
                let result = token_or_body::<L>(request, data, $expected).await;
                let result = result.map(|(checked, body)| Self { checked, body, locations: PhantomData });
                verdict::outcome(request, result)
            }
        }

        sentinel!([L] $name<'_, L>);
    };
}

data_guard! {
    /// A live access token, also from the JSON body (its member `access_token`, or as set) where the locations have
    /// `json`. It is checked once the body has arrived, as is whatever token another guard let in before.
    ///
    /// ```
    /// use counterfoil::{AccessTokenData, ConfiguredOrJson};
    ///
    /// #[rocket::post("/notes", data = "<token>")]
    /// fn add(token: AccessTokenData<'_, ConfiguredOrJson>) -> Option<String> {
    ///     Some(token.body()?.get("text")?.to_string())
    /// }
    /// ```
    AccessTokenData, TokenType::Access
}

data_guard! {
    /// A live refresh token, also from the JSON body (its member `refresh_token`, or as set) where the locations have
    /// `json`. A route that refreshes takes a [`RefreshRequest`] instead.
    ///
    /// ```
    /// use counterfoil::{ConfiguredOrJson, RefreshTokenData};
    ///
    /// #[rocket::post("/session", data = "<token>")]
    /// fn session(token: RefreshTokenData<'_, ConfiguredOrJson>) -> String {
    ///     token.session().to_string()
    /// }
    /// ```
    RefreshTokenData, TokenType::Refresh
}

/// What a request to refresh came with: a live refresh token, or one that was used before in a session that goes on, in
/// the configured locations, or in the JSON body (its member `refresh_token`, or as set) where the locations have
/// `json`.
///
/// It is for the route that calls [`Registry::refresh`](crate::Registry::refresh), which gives a retry the same answer
/// and ends the session of a stolen token, and for no other: every other guard refuses a token that was used before.
///
/// ```
/// use counterfoil::{ConfiguredOrJson, Error, Issued, Refresh, RefreshRequest, Registry};
/// use rocket::State;
///
/// #[rocket::post("/refresh", data = "<request>")]
/// async fn refresh(
///     request: RefreshRequest<ConfiguredOrJson>,
///     registry: &State<Registry>,
/// ) -> Result<Issued, Error> {
///     registry.refresh(&request, Refresh::new()).await
/// }
/// ```
pub struct RefreshRequest<L = Configured> {
    checked: Checked,
    locations: PhantomData<fn() -> L>,
}

impl<L> Deref for RefreshRequest<L> {
    type Target = Checked;

    fn deref(&self) -> &Checked {
        &self.checked
    }
}

impl<L> std::fmt::Debug for RefreshRequest<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RefreshRequest").field(&self.checked.jti()).finish()
    }
}

impl<L: Locations> RefreshRequest<L> {
    async fn from(request: &Request<'_>, data: Data<'_>) -> Result<Self, Denial> {
        let registry = verdict::registry(request)?;
        let settings = registry.settings();
        let body = Body::read(request, data).await?;
        let found = find::<L>(request, settings, &body, TokenType::Refresh)?.ok_or_else(|| body.missing())?;
        let checked = registry.check(found.token, Expect::refresh().even_spent()).await?;
        extract::check_meant(request, settings, found, checked.claims())?;
        Ok(Self { checked, locations: PhantomData })
    }
}

#[rocket::async_trait]
impl<'r, L: Locations> FromData<'r> for RefreshRequest<L> {
    type Error = Denial;

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> data::Outcome<'r, Self> {
        verdict::outcome(request, Self::from(request, data).await)
    }
}

sentinel!([L] RefreshRequest<L>);

/// The tokens that a request to log out came with: one of either type, or an access and a refresh token of one session,
/// live or expired; in the configured locations, or as the member `refresh_token` of the JSON body.
///
/// Where there are several, those that are not good are passed over, so that a browser with one revoked cookie can
/// still log out. Two good ones of one type, or of two sessions, are [`Denial::Ambiguous`].
///
/// ```
/// use counterfoil::{Actor, Cleared, Error, LogoutTokens, Registry};
/// use rocket::State;
///
/// #[rocket::post("/logout", data = "<tokens>")]
/// async fn logout(tokens: LogoutTokens, registry: &State<Registry>) -> Result<Cleared<&'static str>, Error> {
///     match registry.end_session(tokens.session(), Actor::subject(tokens.subject())).await {
///         // It has been purged: logging out of nothing is done.
///         Err(error) if !error.is_not_found() => Err(error),
///         _ => Ok(Cleared("bye")),
///     }
/// }
/// ```
#[derive(Debug)]
pub struct LogoutTokens {
    session: Sid,
    subject: Subject,
}

impl LogoutTokens {
    /// The session to end.
    pub fn session(&self) -> Sid {
        self.session
    }

    /// Whose it is.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    async fn from(request: &Request<'_>, data: Data<'_>) -> Result<Self, Denial> {
        let registry = verdict::registry(request)?;
        let settings = registry.settings();
        let locations = &settings.locations;
        let body = Body::read(request, data).await?;

        let elsewhere: Vec<Location> = locations.iter().copied().filter(|at| *at != Location::Cookie).collect();
        let cookie = if locations.contains(&Location::Cookie) { &[Location::Cookie][..] } else { &[] };
        let in_body = if locations.contains(&Location::Json) { body.find(settings, TokenType::Access)? } else { None };
        let candidates = [
            extract::find(request, settings, &elsewhere, TokenType::Access)?,
            extract::find(request, settings, cookie, TokenType::Access)?,
            extract::find(request, settings, cookie, TokenType::Refresh)?,
            in_body,
            body.find(settings, TokenType::Refresh)?,
        ];

        let mut good: Vec<(Found<'_>, Checked)> = Vec::new();
        let mut denial = None;
        for found in candidates.into_iter().flatten() {
            let expect = Expect::of(found.place_of).even_expired().audience(AudienceRule::Any);
            match registry.check(found.token, expect).await {
                Ok(checked) => good.push((found, checked)),
                Err(Denial::Unavailable) => return Err(Denial::Unavailable),
                Err(refused) => denial = denial.or(Some(refused)),
            }
        }
        let Some((_, first)) = good.first() else { return Err(denial.unwrap_or_else(|| body.missing())) };
        let contradicts = |other: &Checked| {
            let (first, other) = (first.claims(), other.claims());
            other.sid != first.sid || (other.token_type == first.token_type && other.jti != first.jti)
        };
        if good.iter().any(|(_, checked)| contradicts(checked)) {
            return Err(Denial::Ambiguous);
        }
        // One of them shows that the request was meant: all are of one session.
        let is_meant = |(found, checked): &(Found<'_>, Checked)| {
            extract::check_meant(request, settings, *found, checked.claims()).is_ok()
        };
        if !good.iter().any(is_meant) {
            return Err(Denial::CsrfFailed);
        }
        Ok(Self { session: first.claims().sid, subject: first.claims().sub.clone() })
    }
}

#[rocket::async_trait]
impl<'r> FromData<'r> for LogoutTokens {
    type Error = Denial;

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> data::Outcome<'r, Self> {
        verdict::outcome(request, Self::from(request, data).await)
    }
}

sentinel!([] LogoutTokens);
