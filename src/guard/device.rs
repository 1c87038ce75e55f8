//! Where a request comes from, for the record.

use std::convert::Infallible;
use std::net::IpAddr;

use rocket::Request;
use rocket::outcome::Outcome;
use rocket::request::{self, FromRequest};

/// Where a request comes from. Never refuses one.
///
/// The address is Rocket's `client_ip()`, so the one of the setting `ip_header`, here or Rocket's own, where that is
/// set. Rocket's default believes the header `X-Real-IP`, which any caller can send: set `ip_header = false`, or to
/// what your proxy sets.
///
/// ```
/// use counterfoil::{Device, Grant, Issued, Registry};
/// use rocket::State;
///
/// # async fn login(registry: &State<Registry>, device: Device<'_>) -> Result<Issued, counterfoil::Error> {
/// let grant = Grant::to("alice".parse()?).device(device.ip, device.user_agent);
/// registry.issue(grant).await
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Device<'r> {
    /// The address it came from.
    pub ip: Option<IpAddr>,
    /// Its `User-Agent`.
    pub user_agent: Option<&'r str>,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Device<'r> {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, Infallible> {
        Outcome::Success(Self { ip: request.client_ip(), user_agent: request.headers().get_one("User-Agent") })
    }
}
