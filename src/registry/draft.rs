//! What a grant comes to before it is signed: claims, and where the tokens belong.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::grant::ClientRef;
use super::issue::OWN_CLIENT;
use super::{Grant, Registry, whole_seconds};
use crate::config::Location;
use crate::error::Error;
use crate::store::{Origin, Premise, Repeat, Within};
use crate::token::{Claims, Jti, Scopes, Sid, Subject, TokenType, is_console_audience};

/// The longest lifetime that can be asked for: a hundred years.
const LIFETIME_SECONDS_MAX: i64 = 100 * 365 * 24 * 60 * 60;

/// What the access tokens got with a refresh token are given; kept in its record as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Granted {
    pub(super) scope: Scopes,
    pub(super) audience: Vec<String>,
    pub(super) claims: Map<String, Value>,
    /// Seconds; the settings' lifetime where not set.
    pub(super) access_expires: Option<i64>,
    pub(super) cookies: bool,
}

impl Granted {
    pub(super) fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string(self)
            .map_err(|error| Error::internal("a grant can't be written as JSON").with_source(error))
    }
}

/// A token before it is signed.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) claims: Claims,
    pub(super) granted: Option<String>,
    pub(super) scope: Scopes,
}

/// Tokens before they are signed, and where they belong.
#[derive(Clone)]
pub(super) struct Drafted {
    pub(super) subject: Subject,
    pub(super) origin: Origin,
    pub(super) within: Within,
    pub(super) access: Draft,
    pub(super) refresh: Option<Draft>,
    pub(super) cookies: bool,
}

impl Drafted {
    fn drafts(&mut self) -> impl Iterator<Item = &mut Draft> {
        std::iter::once(&mut self.access).chain(&mut self.refresh)
    }

    /// What the tokens say: the access token, and the refresh token where there is one.
    pub(super) fn claims(&self) -> impl Iterator<Item = &Claims> {
        std::iter::once(&self.access).chain(&self.refresh).map(|draft| &draft.claims)
    }

    /// As asked for by a client.
    fn be_of(&mut self, client: ClientRef) {
        for draft in self.drafts() {
            draft.claims.client_id.clone_from(&client.id);
        }
        self.origin.client = Some(client.name);
    }

    /// With the ids, and as of the time, of what was asked for first.
    pub(super) fn become_that_of(&mut self, first: &Repeat) {
        for draft in self.drafts() {
            let claims = &mut draft.claims;
            let earlier = claims.iat - first.asked_at;
            (claims.iat, claims.nbf, claims.exp) = (claims.iat - earlier, claims.nbf - earlier, claims.exp - earlier);
            claims.sid = first.sid;
        }
        self.access.claims.jti = first.access;
        if let Some(refresh) = &mut self.refresh {
            refresh.claims.jti = first.refresh;
        }
        if let Within::New(sid, _) = &mut self.within {
            *sid = first.sid;
        }
    }
}

impl Registry {
    /// What a grant comes to, before it is signed.
    pub(super) fn draft(&self, grant: Grant) -> Result<Drafted, Error> {
        let premise = match &grant.as_of {
            None if grant.is_foreign => Premise::Foreign,
            Some(as_of) if as_of.subject == grant.subject => Premise::Generation(as_of.generation),
            Some(_) => return Err(Error::invalid("as_of", "the grant is as of a moment of another subject")),
            None => Premise::None,
        };
        let settings = self.settings();
        if grant.audience.iter().any(|aud| is_console_audience(aud, &settings.issuer)) {
            return Err(Error::invalid(
                "audience",
                "audience must not be that of the console, which has its own log-in",
            ));
        }
        grant.scope.check_count()?;
        Claims::check_extra(&grant.claims, settings.identity_claim.as_deref())?;
        let sid = Sid::new(self.now());
        let cookies = grant.cookies.unwrap_or_else(|| settings.locations.contains(&Location::Cookie));
        let granted = Granted {
            scope: grant.scope.clone(),
            audience: grant.audience.clone(),
            claims: grant.claims,
            access_expires: grant.access_expires.map(whole_seconds),
            cookies,
        };

        let mut access = self.draft_access(&grant.subject, sid, &granted, grant.scope.clone(), grant.fresh)?;
        if grant.is_personal {
            access.claims.sid = access.claims.jti.own_session();
        }
        let refresh = if grant.refresh {
            let lifetime = self.within_max_age(grant.refresh_expires.unwrap_or(settings.refresh_expires));
            let lifetime = self::lifetime(lifetime, "refresh_expires_in")?;
            let mut claims = self.draft_claims(&grant.subject, sid, TokenType::Refresh, lifetime, cookies);
            claims.aud = vec![settings.issuer.clone()];
            Some(Draft { claims, granted: Some(granted.to_json()?), scope: grant.scope })
        } else {
            None
        };
        let origin = grant.device.with_label(grant.label);
        let within = Within::New(access.claims.sid, premise);
        let mut drafted = Drafted { subject: grant.subject, origin, within, access, refresh, cookies };
        if let Some(client) = grant.client {
            drafted.be_of(client);
        }
        Ok(drafted)
    }

    pub(super) fn draft_access(
        &self,
        subject: &Subject,
        sid: Sid,
        granted: &Granted,
        scope: Scopes,
        fresh: bool,
    ) -> Result<Draft, Error> {
        let expires = match granted.access_expires {
            Some(seconds) => Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
            None => self.settings().access_expires,
        };
        let lifetime = lifetime(expires, "access_expires_in")?;
        let mut claims = self.draft_claims(subject, sid, TokenType::Access, lifetime, granted.cookies);
        if !granted.audience.is_empty() {
            claims.aud.clone_from(&granted.audience);
        }
        claims.fresh = fresh;
        claims.scope = scope.clone();
        for (name, value) in &granted.claims {
            // What was granted before `identity_claim` was set may have that name, and must not speak for somebody
            // else.
            claims.extra.entry(name).or_insert_with(|| value.clone());
        }
        Ok(Draft { claims, granted: None, scope })
    }

    pub(super) fn draft_claims(
        &self,
        subject: &Subject,
        sid: Sid,
        token_type: TokenType,
        lifetime: i64,
        cookies: bool,
    ) -> Claims {
        let settings = self.settings();
        let now = self.seconds();
        let mut extra = Map::new();
        if let Some(name) = &settings.identity_claim {
            extra.insert(name.clone(), subject.as_str().into());
        }
        Claims {
            iss: settings.issuer.clone(),
            sub: subject.clone(),
            aud: vec![settings.issuer.clone()],
            exp: now + lifetime,
            nbf: now,
            iat: now,
            jti: Jti::new(self.now()),
            token_type,
            sid,
            client_id: OWN_CLIENT.to_owned(),
            fresh: false,
            scope: Scopes::default(),
            // 122 random bits of the operating system, which say nothing about the token.
            csrf: (cookies && settings.csrf.enabled).then(|| uuid::Uuid::new_v4().to_string()),
            extra,
        }
    }
}

/// A lifetime in whole seconds, at least one and at most a hundred years.
pub(super) fn lifetime(lifetime: Duration, field: &'static str) -> Result<i64, Error> {
    let seconds = whole_seconds(lifetime);
    if !(1..=LIFETIME_SECONDS_MAX).contains(&seconds) {
        return Err(Error::invalid(field, format!("{field} must be 1 second to 100 years")));
    }
    Ok(seconds)
}
