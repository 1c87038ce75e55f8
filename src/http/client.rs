//! Which client calls: by HTTP Basic, by form fields, or by an access token of its own.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rocket::Request;
use rocket::data::{self, Data, FromData};
use rocket::http::{RawStr, Status};
use rocket::outcome::Outcome;
use rocket::request::{self, FromRequest};
use serde::de::DeserializeOwned;

use super::body;
use super::error::ApiError;
use crate::clients::{Client, ClientFailure, Clients};
use crate::guard;
use crate::registry::{Checked, Expect, Registry};
use crate::token::{Denial, Scopes};

/// A client that showed who it is.
pub(super) struct ClientCaller {
    client: Arc<Client>,
    /// The access token that it showed itself with.
    token: Option<(String, Checked)>,
    registry: Registry,
    clients: Clients,
}

/// The fields of a form, with the client that sent it.
pub(super) struct ClientForm {
    pub(super) caller: ClientCaller,
    pub(super) fields: Fields,
}

/// The same for a client that may not show itself with a token.
pub(super) struct SecretForm(pub(super) ClientForm);

/// A JSON body and its bytes as they came, with the client that sent it. Who that is is looked at when all of it has
/// arrived.
pub(super) struct ClientBody<T> {
    pub(super) caller: ClientCaller,
    pub(super) value: T,
    pub(super) bytes: Vec<u8>,
}

/// The fields of a form; one that is empty counts as not there (RFC 6749 §3.2).
pub(super) struct Fields(HashMap<String, String>);

/// What came in the `Authorization` header.
enum Presented<'r> {
    Nothing,
    Basic { id: String, secret: String },
    Bearer(&'r str),
}

impl ClientCaller {
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Refuses a client that may not do this, or whose token may not.
    pub(super) fn require(&self, scope: &str) -> Result<(), ApiError> {
        let missing = || scope.parse::<Scopes>();
        if !self.client.scope().contains(scope) {
            return Err(ApiError::insufficient_scope("The client lacks", missing()?));
        }
        match &self.token {
            Some((_, token)) if !token.scopes().contains(scope) => {
                Err(Denial::InsufficientScope { missing: missing()? }.into())
            }
            _ => Ok(()),
        }
    }

    /// The audiences that it is limited to; `None` where it is not.
    pub(super) fn serves(&self) -> Option<&[String]> {
        self.client.serves()
    }

    /// Whether it may still call, for answers that go on for long: with all that it might do at first.
    pub(super) async fn still_live(&self) -> bool {
        if let Some((token, _)) = &self.token
            && self.registry.check(token, Expect::access()).await.is_err()
        {
            return false;
        }
        match self.clients.get(self.client.id()).await {
            Ok(Some(client)) => {
                client.is_live() && self.client.scope().is_subset(client.scope()) && client.serves() == self.serves()
            }
            _ => false,
        }
    }

    async fn by_secret(request: &Request<'_>, id: &str, secret: &str) -> Result<Self, ApiError> {
        let (registry, clients) = managed(request)?;
        let client = clients.authenticate(id, secret, request.client_ip()).await?;
        Ok(Self { client, token: None, registry, clients })
    }

    async fn by_token(request: &Request<'_>, token: &str) -> Result<Self, ApiError> {
        let (registry, clients) = managed(request)?;
        let checked = registry.check(token, Expect::access()).await?;
        let client = match clients.of_token(&checked).await {
            // A good token, and nobody's who may call here.
            Err(ClientFailure::Invalid) => return Err(Denial::Invalid.into()),
            client => client?,
        };
        Ok(Self { client, token: Some((token.to_owned(), checked)), registry, clients })
    }

    async fn from_header(request: &Request<'_>) -> Result<Self, ApiError> {
        match Presented::read(request)? {
            Presented::Nothing => Err(ApiError::invalid_client()),
            Presented::Basic { id, secret } => Self::by_secret(request, &id, &secret).await,
            Presented::Bearer(token) => Self::by_token(request, token).await,
        }
    }

    /// Where a form carries a secret, nothing else may show who calls.
    async fn from_form(request: &Request<'_>, fields: &Fields, takes_tokens: bool) -> Result<Self, ApiError> {
        let presented = Presented::read(request)?;
        match (presented, fields.get("client_id"), fields.get("client_secret")) {
            (Presented::Nothing, Some(id), Some(secret)) => Self::by_secret(request, id, secret).await,
            (Presented::Nothing, _, _) => Err(ApiError::invalid_client()),
            (_, _, Some(_)) => Err(two_methods()),
            (Presented::Basic { id, .. }, Some(named), None) if id != named => Err(two_methods()),
            (Presented::Basic { id, secret }, _, None) => Self::by_secret(request, &id, &secret).await,
            // Good or bad: it is no credential of a client's here.
            (Presented::Bearer(_), _, None) if !takes_tokens => Err(ApiError::invalid_client()),
            (Presented::Bearer(token), named, None) => {
                let caller = Self::by_token(request, token).await?;
                match named {
                    Some(named) if named != caller.client.id() => Err(two_methods()),
                    _ => Ok(caller),
                }
            }
        }
    }
}

fn managed(request: &Request<'_>) -> Result<(Registry, Clients), ApiError> {
    let (registry, clients) = (request.rocket().state::<Registry>(), request.rocket().state::<Clients>());
    let (Some(registry), Some(clients)) = (registry, clients) else { return Err(Denial::Unavailable.into()) };
    Ok((registry.clone(), clients.clone()))
}

fn two_methods() -> ApiError {
    ApiError::invalid(Status::BadRequest, "The request shows in more than one way which client sends it")
}

impl<'r> Presented<'r> {
    fn read(request: &'r Request<'_>) -> Result<Self, ApiError> {
        let mut headers = request.headers().get("Authorization");
        let Some(header) = headers.next() else { return Ok(Self::Nothing) };
        if headers.next().is_some() {
            return Err(Denial::Ambiguous.into());
        }
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        let rest = rest.trim_start();
        if scheme.eq_ignore_ascii_case("Bearer") && !rest.is_empty() {
            Ok(Self::Bearer(rest))
        } else if scheme.eq_ignore_ascii_case("Basic") {
            // What can't be read is a client that nobody knows.
            basic(rest).ok_or_else(ApiError::invalid_client)
        } else {
            Ok(Self::Nothing)
        }
    }
}

/// RFC 7617, both parts form-encoded (RFC 6749 §2.3.1).
fn basic(credentials: &str) -> Option<Presented<'_>> {
    let bytes = STANDARD.decode(credentials).ok()?;
    let text = std::str::from_utf8(&bytes).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some(Presented::Basic { id: decode(id)?, secret: decode(secret)? })
}

impl ClientForm {
    async fn read(request: &Request<'_>, data: Data<'_>, takes_tokens: bool) -> Result<Self, ApiError> {
        let fields = Fields::read(request, data).await?;
        Ok(Self { caller: ClientCaller::from_form(request, &fields, takes_tokens).await?, fields })
    }
}

impl Fields {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The field, which must be there.
    pub(super) fn require(&self, name: &str) -> Result<&str, ApiError> {
        self.get(name).ok_or_else(|| ApiError::invalid(Status::BadRequest, format!("{name} is missing")))
    }

    async fn read(request: &Request<'_>, data: Data<'_>) -> Result<Self, ApiError> {
        if !request.content_type().is_some_and(|kind| kind.is_form()) {
            let msg = "The content type must be application/x-www-form-urlencoded";
            return Err(ApiError::invalid(Status::BadRequest, msg));
        }
        let bytes = guard::read_body(request, data).await?;
        let text = std::str::from_utf8(&bytes).map_err(|_| unreadable())?;
        let mut fields = HashMap::new();
        for field in text.split('&').filter(|field| !field.is_empty()) {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            let (name, value) = (decode(name).ok_or_else(unreadable)?, decode(value).ok_or_else(unreadable)?);
            // RFC 6749 §3.2.
            if fields.insert(name, value).is_some() {
                return Err(ApiError::invalid(Status::BadRequest, "A field stands twice"));
            }
        }
        Ok(Self(fields))
    }
}

/// Undoes the encoding of forms. A token, which is the longest there is, has none.
fn decode(part: &str) -> Option<String> {
    if !part.contains(['%', '+']) {
        return Some(part.to_owned());
    }
    RawStr::new(part).url_decode().ok().map(|part| part.into_owned())
}

fn unreadable() -> ApiError {
    ApiError::invalid(Status::BadRequest, "The form can't be read")
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for ClientCaller {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, ()> {
        match Self::from_header(request).await {
            Ok(caller) => Outcome::Success(caller),
            Err(error) => Outcome::Error((error.keep(request), ())),
        }
    }
}

#[rocket::async_trait]
impl<'r> FromData<'r> for ClientForm {
    type Error = ();

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> data::Outcome<'r, Self> {
        body::outcome(request, Self::read(request, data, true).await)
    }
}

#[rocket::async_trait]
impl<'r> FromData<'r> for SecretForm {
    type Error = ();

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> data::Outcome<'r, Self> {
        body::outcome(request, ClientForm::read(request, data, false).await.map(Self))
    }
}

#[rocket::async_trait]
impl<'r, T: DeserializeOwned> FromData<'r> for ClientBody<T> {
    type Error = ();

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> data::Outcome<'r, Self> {
        let read = async {
            let bytes = guard::read_body(request, data).await?;
            let caller = ClientCaller::from_header(request).await?;
            Ok(Self { caller, value: body::parse(request, &bytes)?, bytes })
        };
        body::outcome(request, read.await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_form_decoded() {
        let read = |credentials| match basic(credentials) {
            Some(Presented::Basic { id, secret }) => Some((id, secret)),
            _ => None,
        };
        // a%3Ab:c+d%25
        assert_eq!(read("YSUzQWI6YytkJTI1"), Some(("a:b".to_owned(), "c d%".to_owned())));
        // a:b:c
        assert_eq!(read("YTpiOmM="), Some(("a".to_owned(), "b:c".to_owned())));
        for bad in ["", "!!!!", "YQ==", "/////w=="] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
