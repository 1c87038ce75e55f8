//! Refreshing: another access token in a session that goes on, and with rotation another refresh token in the place of
//! the one that was presented.

use std::time::Duration;

use super::draft::{Draft, Drafted, Granted};
use super::issue::{new_token, sign_again, sign_draft, superseded};
use super::issued::IssuedToken;
use super::{Checked, Issued, Refresh, Registry, whole_seconds};
use crate::error::Error;
use crate::store::{Origin, Refreshable, Rotated, Rotation, Within};
use crate::token::{Claims, Denial, Scopes, Target, TokenType};

impl Registry {
    /// Issues another access token in the session of a refresh token that was checked; with rotation (the setting
    /// `refresh.rotation`) another refresh token as well, and the presented one is spent.
    ///
    /// A spent token is refused by every check but one that is [even spent](super::Expect::even_spent), for a route
    /// that refreshes. Presented here within `refresh.grace` it gets the same successor again, where nobody has used
    /// that; presented after its successor was used, it is in two hands, and its session is ended for good.
    ///
    /// # Errors
    ///
    /// [`is_superseded`](Error::is_superseded) where the token or its session was revoked or ended meanwhile, or is by
    /// this; [`is_invalid`](Error::is_invalid) with the field `token` for an access token, with `scope` for scopes that
    /// were not granted; [`is_unavailable`](Error::is_unavailable), and [`is_unconfirmed`](Error::is_unconfirmed) where
    /// the session was ended but not all processes are known to have heard of it.
    pub async fn refresh(&self, presented: &Checked, refresh: Refresh) -> Result<Issued, Error> {
        let outcome = self.refresh_uncounted(presented, refresh).await;
        if presented.is_spent() {
            let denial = match &outcome {
                Err(error) if error.is_superseded() => Some(Denial::Revoked),
                Err(error) if error.is_unavailable() => Some(Denial::Unavailable),
                _ => None,
            };
            self.inner.metrics.checked(denial.as_ref());
        }
        outcome
    }

    async fn refresh_uncounted(&self, presented: &Checked, refresh: Refresh) -> Result<Issued, Error> {
        let claims = presented.claims();
        if claims.token_type != TokenType::Refresh {
            return Err(Error::invalid("token", "only a refresh token can be refreshed"));
        }
        let rotates = refresh.rotates || self.settings().refresh.rotation;
        if presented.is_spent() && !rotates {
            return Err(superseded());
        }
        let kept = self.store()?.refreshable(claims.jti).await?.ok_or_else(superseded)?;
        let mut granted: Granted = serde_json::from_str(&kept.granted)
            .map_err(|error| Error::internal("the grant of a refresh token can't be read").with_source(error))?;
        self.cut_audience(&mut granted.audience, refresh.audience.as_deref())?;
        let mut access =
            self.draft_access(&claims.sub, claims.sid, &granted, scope_of(&refresh, &granted.scope)?, false)?;
        access.claims.client_id.clone_from(&claims.client_id);
        let origin = Origin { client: kept.client.clone(), ..refresh.device.with_label(kept.label.clone()) };
        if rotates {
            let issued = self.rotate(claims, kept, granted, origin, access).await?;
            return if self.was_retired(presented.kid()).await? { Err(superseded()) } else { Ok(issued) };
        }
        let within = Within::Existing { sid: claims.sid, presented: claims.jti };
        let (subject, cookies) = (claims.sub.clone(), granted.cookies);
        self.register_for(presented, Drafted { subject, origin, within, access, refresh: None, cookies }).await
    }

    /// Takes away the audiences that may not be given any more. Where none is left, tokens without any would be for the
    /// issuer instead, which was not granted.
    pub(super) fn cut_audience(&self, audience: &mut Vec<String>, allowed: Option<&[String]>) -> Result<(), Error> {
        let Some(allowed) = allowed else { return Ok(()) };
        let had_some = !audience.is_empty();
        audience.retain(|audience| *audience == self.settings().issuer || allowed.contains(audience));
        if had_some && audience.is_empty() { Err(superseded()) } else { Ok(()) }
    }

    async fn rotate(
        &self,
        presented: &Claims,
        kept: Refreshable,
        granted: Granted,
        origin: Origin,
        access: Draft,
    ) -> Result<Issued, Error> {
        let refresh = self.draft_successor(presented, kept, &granted)?;
        let ring = self.ring();
        let (signed_access, signed_refresh) = (sign_draft(&ring, &access)?, sign_draft(&ring, &refresh)?);
        let asked = Rotation {
            subject: presented.sub.clone(),
            sid: presented.sid,
            presented: presented.jti,
            origin,
            session_expires_at: refresh.claims.exp.max(access.claims.exp),
            access: self
                .is_recorded(&access.claims)
                .then(|| new_token(&access, signed_access.claims, signed_access.kid)),
            refresh: new_token(&refresh, signed_refresh.claims, signed_refresh.kid),
            now: self.seconds(),
            grace: whole_seconds(self.settings().refresh.grace),
        };
        let done = self.store()?.rotate(&asked).await?;
        let access = IssuedToken { token: signed_access.token, claims: access.claims };
        let is_news = matches!(done.outcome, Rotated::Stored { .. });
        let refresh = match &done.outcome {
            Rotated::Superseded => return Err(superseded()),
            Rotated::Reused => {
                // As a text, which is written in quotes: a subject may have anything in it that a line of the log has.
                tracing::warn!(
                    subject = presented.sub.as_str(), session = %presented.sid, jti = %presented.jti,
                    "a refresh token was used twice: its session is ended"
                );
                self.inner.metrics.reused();
                self.in_force(done, &[Target::Session(presented.sid)]).await?;
                self.inner.metrics.revoked("session");
                return Err(superseded());
            }
            Rotated::Stored { replaced } => {
                if !replaced.is_empty() {
                    let targets: Vec<Target> = replaced.iter().copied().map(Target::Token).collect();
                    self.in_force(done, &targets).await?;
                }
                IssuedToken { token: signed_refresh.token, claims: refresh.claims }
            }
            Rotated::Again { claims } => {
                let members = serde_json::from_str(claims)
                    .map_err(|error| Error::internal("the claims of a record are no JSON").with_source(error))?;
                let again = sign_again(&ring, members)?;
                // Whoever put it in the place of another may not have come to the end of the wait for that.
                self.in_force(done, &[Target::Session(presented.sid)]).await?;
                again
            }
        };
        self.still_signs(&ring).await?;
        self.inner.metrics.issued(&access.claims, is_news);
        Ok(Issued { access, refresh: Some(refresh), cookies: granted.cookies })
    }

    /// The refresh token that takes the place of the presented one: as long as that was, and not beyond the end of the
    /// chain.
    fn draft_successor(&self, presented: &Claims, kept: Refreshable, granted: &Granted) -> Result<Draft, Error> {
        let lifetime = (presented.exp - presented.iat).max(1);
        let mut claims =
            self.draft_claims(&presented.sub, presented.sid, TokenType::Refresh, lifetime, granted.cookies);
        let end = kept.began_at.saturating_add(whole_seconds(self.settings().refresh.max_age));
        claims.exp = claims.exp.min(end);
        if claims.exp <= claims.iat {
            return Err(superseded());
        }
        claims.client_id.clone_from(&presented.client_id);
        Ok(Draft { claims, granted: Some(kept.granted), scope: granted.scope.clone() })
    }

    /// Not beyond the end that a chain of refresh tokens has.
    pub(super) fn within_max_age(&self, lifetime: Duration) -> Duration {
        lifetime.min(self.settings().refresh.max_age)
    }
}

fn scope_of(refresh: &Refresh, granted: &Scopes) -> Result<Scopes, Error> {
    let held = match &refresh.within {
        Some(within) => granted.intersection(within),
        None => granted.clone(),
    };
    match &refresh.narrowed {
        None => Ok(held),
        Some(narrowed) if narrowed.is_subset(&held) => Ok(narrowed.clone()),
        Some(_) => Err(Error::invalid("scope", "scope must be within what was granted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_cut_to_what_is_held_and_never_widened() {
        let scopes = |text: &str| text.parse::<Scopes>().unwrap();
        let granted = scopes("a b c");
        let within = Refresh::new().within(scopes("b c d"));
        assert_eq!(scope_of(&within, &granted).unwrap(), scopes("b c"));
        assert_eq!(scope_of(&within.clone().narrowed(scopes("c")), &granted).unwrap(), scopes("c"));
        assert!(scope_of(&within.narrowed(scopes("a")), &granted).unwrap_err().is_invalid());
    }
}
