//! Tokens of the console: each its own session, so that it is always recorded and checked, and good for nothing else.

use std::net::IpAddr;

use super::draft::{Draft, Drafted, lifetime};
use super::grant::Device;
use super::{AsOf, Checked, Expect, Issued, Registry};
use crate::error::Error;
use crate::store::{Premise, Within};
use crate::token::{Denial, Jti, Scopes, TokenType, console_audience};

impl Registry {
    /// Issues a token of the console to who has just logged in, as of that moment.
    ///
    /// # Errors
    ///
    /// [`is_superseded`](Error::is_superseded) where all of the subject's tokens were ended since.
    pub(crate) async fn issue_console(
        &self,
        as_of: AsOf,
        scope: Scopes,
        (ip, user_agent): (Option<IpAddr>, Option<&str>),
    ) -> Result<Issued, Error> {
        let AsOf { subject, generation } = as_of;
        let expires = lifetime(self.settings().console.expires, "console.expires")?;
        let jti = Jti::new(self.now());
        let mut claims = self.draft_claims(&subject, jti.own_session(), TokenType::Access, expires, false);
        claims.jti = jti;
        claims.aud = vec![console_audience(&self.settings().issuer)];
        claims.fresh = true;
        claims.scope = scope.clone();
        // Whatever is set for the cookies of the API: here every form has it. 122 random bits of the operating system.
        claims.csrf = Some(uuid::Uuid::new_v4().to_string());
        let origin = Device::new(ip, user_agent).with_label(None);
        let within = Within::New(claims.sid, Premise::Generation(generation));
        let access = Draft { claims, granted: None, scope };
        self.register(Drafted { subject, origin, within, access, refresh: None, cookies: false }).await
    }

    /// Checks a token of the console. No other is accepted here, and this one nowhere else.
    pub(crate) async fn check_console(&self, token: &str) -> Result<Checked, Denial> {
        let checked = self.check(token, Expect::console()).await?;
        let claims = checked.claims();
        // As it was issued here, and not by anybody who could name an audience.
        let is_whole = claims.aud.len() == 1 && claims.sid == claims.jti.own_session() && claims.csrf.is_some();
        if !is_whole || checked.is_imported() {
            return Err(Denial::Invalid);
        }
        checked.require_fresh()?;
        Ok(checked)
    }
}
