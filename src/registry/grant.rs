//! What to issue: to whom, for what, for how long.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Map, Value};

#[cfg(feature = "server")]
use super::OWN_CLIENT;
use crate::error::Error;
#[cfg(feature = "server")]
use crate::error::Kind;
use crate::store::{Generation, Origin};
use crate::token::{Claims, Scopes, Subject, checked_audiences};

/// The longest label, in characters.
const LABEL_CHARS_MAX: usize = 100;
/// The longest user agent that is kept, in characters; longer ones are cut.
const USER_AGENT_CHARS_MAX: usize = 255;

/// What to issue: to whom, for what, for how long.
///
/// ```
/// use std::time::Duration;
/// use counterfoil::Grant;
///
/// let grant = Grant::to("alice".parse()?)
///     .scope("notes:read notes:write".parse()?)
///     .fresh(true)
///     .access_expires(Duration::from_secs(5 * 60))
///     .label("Alice's phone")?
///     .claim("tenant", "acme")?;
/// # Ok::<(), counterfoil::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "it does nothing until it is issued"]
pub struct Grant {
    pub(super) subject: Subject,
    pub(super) scope: Scopes,
    pub(super) audience: Vec<String>,
    pub(super) fresh: bool,
    pub(super) refresh: bool,
    pub(super) access_expires: Option<Duration>,
    pub(super) refresh_expires: Option<Duration>,
    pub(super) label: Option<String>,
    pub(super) claims: Map<String, Value>,
    pub(super) device: Device,
    pub(super) cookies: Option<bool>,
    pub(super) as_of: Option<AsOf>,
    pub(super) client: Option<ClientRef>,
    pub(super) is_foreign: bool,
    pub(super) is_personal: bool,
}

/// The client that asks for tokens.
#[derive(Debug, Clone)]
pub(super) struct ClientRef {
    pub(super) id: String,
    pub(super) name: String,
}

/// Where a token was asked for from.
#[derive(Debug, Clone, Default)]
pub(super) struct Device {
    pub(super) ip: Option<String>,
    pub(super) user_agent: Option<String>,
}

impl Device {
    pub(super) fn new(ip: Option<IpAddr>, user_agent: Option<&str>) -> Self {
        let user_agent =
            user_agent.map(|agent| agent.chars().filter(|c| !c.is_control()).take(USER_AGENT_CHARS_MAX).collect());
        // A caller of IPv4 has one address, whether or not the server listens for IPv6 as well.
        Self { ip: ip.map(|ip| ip.to_canonical().to_string()), user_agent }
    }

    pub(super) fn with_label(self, label: Option<String>) -> Origin {
        Origin { client: None, label, ip: self.ip, user_agent: self.user_agent }
    }
}

/// A moment in a subject's history, taken with [`Registry::as_of`](super::Registry::as_of) before credentials are
/// checked: tokens granted as of it are refused if all of the subject's tokens were ended since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsOf {
    pub(super) subject: Subject,
    pub(super) generation: Generation,
}

impl Grant {
    /// An access and a refresh token for this subject, not fresh, without scopes, with the lifetimes of the settings.
    pub fn to(subject: Subject) -> Self {
        Self {
            subject,
            scope: Scopes::default(),
            audience: Vec::new(),
            fresh: false,
            refresh: true,
            access_expires: None,
            refresh_expires: None,
            label: None,
            claims: Map::new(),
            device: Device::default(),
            cookies: None,
            as_of: None,
            client: None,
            is_foreign: false,
            is_personal: false,
        }
    }

    /// With these scopes, at most [`Scopes::COUNT_MAX`].
    pub fn scope(mut self, scope: Scopes) -> Self {
        self.scope = scope;
        self
    }

    /// For these audiences instead of the issuer: at most 16, each with 1 to 255 characters. That of the server's
    /// console, `<issuer>/console`, is none that can be issued for.
    ///
    /// # Errors
    ///
    /// [`is_invalid`](Error::is_invalid) for more or longer ones.
    pub fn audience<I: IntoIterator<Item = S>, S: Into<String>>(mut self, audience: I) -> Result<Self, Error> {
        self.audience = audience.into_iter().map(Into::into).collect();
        checked_audiences(&self.audience)?;
        Ok(self)
    }

    /// Whether the access token is fresh: whether the subject proved just now who it is.
    pub fn fresh(mut self, fresh: bool) -> Self {
        self.fresh = fresh;
        self
    }

    /// An access token alone.
    pub fn without_refresh(mut self) -> Self {
        self.refresh = false;
        self
    }

    /// With another lifetime of the access token than the settings': whole seconds, rounded down, 1 s to 100 years.
    /// Those got by refreshing have it too.
    pub fn access_expires(mut self, lifetime: Duration) -> Self {
        self.access_expires = Some(lifetime);
        self
    }

    /// With another lifetime of the refresh token than the settings': whole seconds, rounded down, 1 s to 100 years.
    pub fn refresh_expires(mut self, lifetime: Duration) -> Self {
        self.refresh_expires = Some(lifetime);
        self
    }

    /// With a name for the device, 1 to 100 characters.
    ///
    /// # Errors
    ///
    /// [`is_invalid`](Error::is_invalid) for one of another length or with a control character.
    pub fn label(mut self, label: impl Into<String>) -> Result<Self, Error> {
        self.label = Some(checked_label(label.into())?);
        Ok(self)
    }

    /// With an additional claim, at the top level of the access token and of those got by refreshing.
    ///
    /// # Errors
    ///
    /// [`is_invalid`](Error::is_invalid) for a name that the registry uses itself, for a value with more than 32 arrays
    /// and objects in each other, and when all additional claims together have more than 2048 bytes.
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Result<Self, Error> {
        self.claims.insert(name.into(), value.into());
        Claims::check_extra(&self.claims, None)?;
        Ok(self)
    }

    /// With where it was asked for from. A longer user agent is cut to 255 characters.
    pub fn device(mut self, ip: Option<IpAddr>, user_agent: Option<&str>) -> Self {
        self.device = Device::new(ip, user_agent);
        self
    }

    /// Whether the tokens are to be set as cookies; by default where the settings' `locations` have `cookie`.
    pub fn cookies(mut self, cookies: bool) -> Self {
        self.cookies = Some(cookies);
        self
    }

    /// With these additional claims; they are checked when the tokens are issued.
    #[cfg(feature = "server")]
    pub(crate) fn claims(mut self, claims: Map<String, Value>) -> Self {
        self.claims = claims;
        self
    }

    /// As asked for by a client, which the tokens then name.
    #[cfg(feature = "server")]
    pub(crate) fn by_client(mut self, id: &str, name: &str) -> Self {
        self.client = Some(ClientRef { id: id.to_owned(), name: name.to_owned() });
        self
    }

    /// Only if the subject is neither a user of the server nor a client.
    #[cfg(feature = "server")]
    pub(crate) fn foreign_only(mut self) -> Self {
        self.is_foreign = true;
        self
    }

    /// A personal token: an access token that is never fresh, alone in a session of its own.
    #[cfg(feature = "server")]
    pub(crate) fn personal(mut self) -> Self {
        self.is_personal = true;
        self.fresh(false).without_refresh()
    }

    /// As of a moment taken before the subject's credentials were checked.
    pub fn as_of(mut self, as_of: AsOf) -> Self {
        self.as_of = Some(as_of);
        self
    }
}

/// A personal token to issue: an access token that is its own session, for a program of the subject.
#[derive(Debug, Clone)]
#[must_use = "it does nothing until it is issued"]
pub struct Personal {
    pub(super) label: String,
    pub(super) scope: Option<Scopes>,
    pub(super) expires: Option<Duration>,
    pub(super) audience: Option<Vec<String>>,
    pub(super) claims: Map<String, Value>,
    pub(super) device: Device,
}

impl Personal {
    /// With a label of 1 to 100 characters, the scopes of the presenting token, and the longest lifetime there is.
    ///
    /// # Errors
    ///
    /// [`is_invalid`](Error::is_invalid) for another label, or one with a control character.
    pub fn new(label: impl Into<String>) -> Result<Self, Error> {
        Ok(Self {
            label: checked_label(label.into())?,
            scope: None,
            expires: None,
            audience: None,
            claims: Map::new(),
            device: Device::default(),
        })
    }

    /// With fewer scopes.
    pub fn scope(mut self, scope: Scopes) -> Self {
        self.scope = Some(scope);
        self
    }

    /// With a shorter lifetime: whole seconds, rounded down, 1 s to `personal.max_expires`.
    pub fn expires(mut self, lifetime: Duration) -> Self {
        self.expires = Some(lifetime);
        self
    }

    /// With the audiences of the presenting token cut to the issuer and these, which may still be given.
    #[cfg(feature = "server")]
    pub(crate) fn for_audiences(mut self, audience: &[String]) -> Self {
        self.audience = Some(audience.to_vec());
        self
    }

    /// With an additional claim, at the top level. Those of the presenting token are not taken over.
    ///
    /// # Errors
    ///
    /// As of [`Grant::claim`].
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Result<Self, Error> {
        self.claims.insert(name.into(), value.into());
        Claims::check_extra(&self.claims, None)?;
        Ok(self)
    }

    /// With where it was asked for from.
    pub fn device(mut self, ip: Option<IpAddr>, user_agent: Option<&str>) -> Self {
        self.device = Device::new(ip, user_agent);
        self
    }
}

/// How to refresh.
#[derive(Debug, Clone, Default)]
#[must_use = "it does nothing until a token is refreshed"]
pub struct Refresh {
    pub(super) within: Option<Scopes>,
    pub(super) narrowed: Option<Scopes>,
    pub(super) audience: Option<Vec<String>>,
    pub(super) rotates: bool,
    pub(super) device: Device,
}

impl Refresh {
    /// With the scopes that were granted.
    pub fn new() -> Self {
        Self::default()
    }

    /// With the granted scopes cut to these, what the subject still has.
    pub fn within(mut self, scope: Scopes) -> Self {
        self.within = Some(scope);
        self
    }

    /// With these scopes alone, all of which must have been granted. Those got by refreshing again have all once more.
    pub fn narrowed(mut self, scope: Scopes) -> Self {
        self.narrowed = Some(scope);
        self
    }

    /// With the granted audiences cut to the issuer and these, which may still be given.
    #[cfg(feature = "server")]
    pub(crate) fn for_audiences(mut self, audience: &[String]) -> Self {
        self.audience = Some(audience.to_vec());
        self
    }

    /// With another refresh token in the place of the presented one, even where the setting `refresh.rotation` is off.
    pub fn rotating(mut self) -> Self {
        self.rotates = true;
        self
    }

    /// With where it was asked for from.
    pub fn device(mut self, ip: Option<IpAddr>, user_agent: Option<&str>) -> Self {
        self.device = Device::new(ip, user_agent);
        self
    }
}

/// Refuses a subject of the name that the server's own tokens have as their `client_id`: where the two are equal a
/// token speaks for a client.
#[cfg(feature = "server")]
pub(crate) fn require_free(subject: &Subject) -> Result<(), Error> {
    if subject.as_str() == OWN_CLIENT {
        return Err(Error::new(Kind::Reserved, "The name counterfoil is the server's own: choose another"));
    }
    Ok(())
}

pub(super) fn checked_label(label: String) -> Result<String, Error> {
    if label.is_empty() || label.chars().count() > LABEL_CHARS_MAX || label.chars().any(char::is_control) {
        return Err(Error::invalid("label", "label must have 1 to 100 characters, none of them a control character"));
    }
    Ok(label)
}
