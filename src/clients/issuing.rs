//! Tokens that a client asks for: for itself, and for the users of its application.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{Client, Clients};
use crate::error::Error;
use crate::keys::sha256;
use crate::registry::{Grant, Issued, Once, Repeated, require_free};
use crate::token::{Scopes, Subject};

/// The longest key under which a request is repeated, in characters.
const KEY_CHARS_MAX: usize = 255;

/// What an application that authenticates its own users asks for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) subject: Subject,
    pub(crate) scope: Scopes,
    pub(crate) audience: Vec<String>,
    pub(crate) fresh: bool,
    pub(crate) refresh: bool,
    pub(crate) access_expires: Option<Duration>,
    pub(crate) refresh_expires: Option<Duration>,
    pub(crate) label: Option<String>,
    pub(crate) claims: Map<String, Value>,
}

/// A request that may be made again, and is to get the same answer then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Repeatable<'a> {
    /// The caller's own name for it.
    pub(crate) key: &'a str,
    /// All that it asks for, byte for byte.
    pub(crate) body: &'a [u8],
}

/// Why a client gets no tokens.
#[derive(Debug)]
pub(crate) enum IssueFailure {
    /// It may not put these scopes into tokens of others.
    Scope { missing: Scopes },
    /// It may not put this audience into tokens of others.
    Audience(String),
    /// It is no client any more.
    NoClient,
    /// It used the key before, for something else.
    OtherBody,
    /// What it got for this key the first time has been revoked.
    Revoked,
    /// Anything else.
    Failed(Error),
}

impl From<Error> for IssueFailure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Clients {
    /// A token of the client itself, which opens what the client may do; all of it where no scope is named.
    pub(crate) async fn issue_own(
        &self,
        client: &Client,
        scope: Option<Scopes>,
        device: (Option<IpAddr>, Option<&str>),
    ) -> Result<Issued, IssueFailure> {
        let scope = scope.unwrap_or_else(|| client.scope().clone());
        require(&scope, client.scope())?;
        // As of now: the scopes that were looked at may be taken away meanwhile, and that ends what rests on them.
        let as_of = self.registry.as_of(client.subject()).await?;
        let current = self.registry.store()?.client(client.id()).await?;
        let current = current.filter(|current| !current.disabled).ok_or(IssueFailure::NoClient)?;
        require(&scope, &current.scope)?;
        let grant = Grant::to(client.subject().clone())
            .by_client(client.id(), client.name())
            .scope(scope)
            .device(device.0, device.1)
            .cookies(false)
            .without_refresh()
            .as_of(as_of);
        Ok(self.registry.issue(grant).await?)
    }

    /// Tokens for a user of the client's application, who is none of the server's.
    pub(crate) async fn issue_for(
        &self,
        client: &Client,
        wanted: Wanted,
        device: (Option<IpAddr>, Option<&str>),
        repeatable: Option<Repeatable<'_>>,
    ) -> Result<Issued, IssueFailure> {
        let settings = self.registry.settings();
        // As it is now: the caller may have had it since the request began.
        let client = self.get(client.id()).await?.filter(|client| client.is_live()).ok_or(IssueFailure::NoClient)?;
        require(&wanted.scope, client.grant_scope())?;
        let is_granted = |aud: &String| *aud == settings.issuer || client.audience().contains(aud);
        if let Some(other) = wanted.audience.iter().find(|aud| !is_granted(aud)) {
            return Err(IssueFailure::Audience(other.clone()));
        }
        require_free(&wanted.subject)?;
        capped(wanted.access_expires, settings.issue_max_access_expires, "access_expires_in")?;
        capped(wanted.refresh_expires, settings.issue_max_refresh_expires, "refresh_expires_in")?;
        let mut grant = Grant::to(wanted.subject)
            .by_client(client.id(), client.name())
            .scope(wanted.scope)
            .audience(wanted.audience)?
            .fresh(wanted.fresh)
            .device(device.0, device.1)
            .cookies(false)
            .claims(wanted.claims)
            .foreign_only();
        if !wanted.refresh {
            grant = grant.without_refresh();
        }
        // Who asks for nothing gets no longer one than could be asked for.
        let shortened = |default: Duration, max: Duration| (default > max).then_some(max);
        let access = shortened(settings.access_expires, settings.issue_max_access_expires);
        if let Some(lifetime) = wanted.access_expires.or(access) {
            grant = grant.access_expires(lifetime);
        }
        let refresh = shortened(settings.refresh_expires, settings.issue_max_refresh_expires);
        if let Some(lifetime) = wanted.refresh_expires.or(refresh) {
            grant = grant.refresh_expires(lifetime);
        }
        if let Some(label) = wanted.label {
            grant = grant.label(label)?;
        }
        let Some(Repeatable { key, body }) = repeatable else { return Ok(self.registry.issue(grant).await?) };
        if key.is_empty() || key.chars().count() > KEY_CHARS_MAX || !key.bytes().all(|b| matches!(b, 0x21..=0x7E)) {
            let message = "Idempotency-Key must have 1 to 255 printable ASCII characters without a space";
            return Err(Error::invalid("Idempotency-Key", message).into());
        }
        let once = Once { client_id: client.id(), key, body_digest: sha256(body) };
        match self.registry.issue_once(grant, once).await? {
            Repeated::Issued(issued) => Ok(*issued),
            Repeated::OtherBody => Err(IssueFailure::OtherBody),
            Repeated::Revoked => Err(IssueFailure::Revoked),
            Repeated::NoClient => Err(IssueFailure::NoClient),
        }
    }
}

fn require(wanted: &Scopes, held: &Scopes) -> Result<(), IssueFailure> {
    let missing = wanted.difference(held);
    if missing.is_empty() { Ok(()) } else { Err(IssueFailure::Scope { missing }) }
}

fn capped(wanted: Option<Duration>, max: Duration, field: &'static str) -> Result<(), Error> {
    match wanted {
        Some(wanted) if wanted > max => {
            Err(Error::invalid(field, format!("{field} must be at most {} seconds", max.as_secs())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::{ClientChange, NewClient};
    use crate::clock::ManualClock;
    use crate::config::Settings;
    use crate::registry::Registry;
    use crate::token::{Act, Actor};

    fn wanted(scope: &str, audience: &[&str]) -> Wanted {
        Wanted {
            subject: "customer-1".parse().unwrap(),
            scope: scope.parse().unwrap(),
            audience: audience.iter().map(|audience| (*audience).to_owned()).collect(),
            fresh: false,
            refresh: true,
            access_expires: None,
            refresh_expires: None,
            label: None,
            claims: Map::new(),
        }
    }

    #[tokio::test]
    async fn a_client_gives_what_it_may_give_when_it_issues() {
        let registry = Registry::open(Settings::for_tests(), ManualClock::here()).await.unwrap();
        let clients = Clients::new(&registry);
        let operator = Act::by(Actor::command_line("tester"));
        let new = NewClient {
            name: "shop".to_owned(),
            scope: "tokens:issue".parse().unwrap(),
            grant_scope: "a b".parse().unwrap(),
            audience: vec!["https://api.example".to_owned()],
            serves: None,
            first_party: false,
        };
        let (before, _) = clients.add(new, &operator).await.unwrap();
        let issue = async |scope, audience: &[&str]| {
            clients.issue_for(&before, wanted(scope, audience), (None, None), None).await
        };
        assert!(issue("b", &["https://api.example"]).await.is_ok());
        let less = ClientChange {
            grant_scope: Some("a".parse().unwrap()),
            audience: Some(Vec::new()),
            ..ClientChange::default()
        };
        clients.set(&before, less, &operator).await.unwrap();
        assert!(matches!(issue("b", &[]).await, Err(IssueFailure::Scope { .. })));
        assert!(matches!(issue("a", &["https://api.example"]).await, Err(IssueFailure::Audience(_))));
        assert!(issue("a", &[]).await.is_ok());
        let disabled = ClientChange { disabled: Some(true), ..ClientChange::default() };
        clients.set(&before, disabled, &operator).await.unwrap();
        assert!(matches!(issue("a", &[]).await, Err(IssueFailure::NoClient)));
    }
}
