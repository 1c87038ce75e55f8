//! Which client calls.

use rocket::outcome::Outcome;
use rocket::request::{self, FromRequest};
use rocket::{Request, State};

use super::error::ApiError;
use crate::registry::{Checked, Expect, Registry};
use crate::token::{Denial, Scopes};

/// A client that showed who it is, by an access token.
pub(super) struct ClientCaller {
    token: String,
    checked: Checked,
    serves: Option<Vec<String>>,
    registry: Registry,
}

impl ClientCaller {
    /// Refuses a client that may not do this, or whose token may not.
    pub(super) fn require(&self, scope: &str) -> Result<(), ApiError> {
        let missing: Scopes = scope.parse()?;
        Ok(self.checked.require_scopes(&missing)?)
    }

    /// The audiences that it is limited to; `None` where it is not.
    pub(super) fn serves(&self) -> Option<&[String]> {
        self.serves.as_deref()
    }

    /// Whether it may still call, for answers that go on for long.
    pub(super) async fn still_live(&self) -> bool {
        self.registry.check(&self.token, Expect::access()).await.is_ok()
    }

    async fn from(request: &Request<'_>) -> Result<Self, ApiError> {
        let registry = request.guard::<&State<Registry>>().await.succeeded().ok_or(Denial::Unavailable)?;
        let header = request.headers().get_one("Authorization").and_then(|header| header.strip_prefix("Bearer "));
        let token = header.ok_or(Denial::Missing)?;
        let checked = registry.check(token, Expect::access()).await?;
        let serves = checked.claims().extra.get("serves").and_then(|serves| {
            serves.as_array().map(|serves| serves.iter().filter_map(|one| Some(one.as_str()?.to_owned())).collect())
        });
        Ok(Self { token: token.to_owned(), checked, serves, registry: Registry::clone(registry) })
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for ClientCaller {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, ()> {
        match Self::from(request).await {
            Ok(caller) => Outcome::Success(caller),
            Err(error) => Outcome::Error((error.keep(request), ())),
        }
    }
}
