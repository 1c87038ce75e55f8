//! Forms: who sent one, from which page, and what is in it.

use rocket::Request;
use rocket::data::{self, Data, FromData};
use rocket::form::{Form, FromForm};
use rocket::http::{RawStr, Status};
use rocket::outcome::Outcome;

use super::error::ConsoleError;
use super::signed_in::SignedIn;
use crate::guard::read_body;
use crate::registry::{Registry, is_same};

/// A form that a page of the console sent: its `csrf` is the one of who is signed in, and no other site made the
/// browser send it.
pub(super) struct Posted<T>(pub(super) T);

/// A form with nothing to fill in.
#[derive(FromForm)]
pub(super) struct Confirmed {
    #[field(name = "csrf")]
    _csrf: String,
}

#[derive(FromForm)]
struct Csrf {
    csrf: String,
}

#[rocket::async_trait]
impl<'r, T: for<'a> FromForm<'a> + 'static> FromData<'r> for Posted<T> {
    type Error = ();

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> data::Outcome<'r, Self> {
        let read = async {
            let person = SignedIn::find(request).await?;
            let form = read(request, data, Some(person.csrf())).await?;
            person.look_again(request).await?;
            Ok(form)
        };
        match read.await {
            Ok(form) => Outcome::Success(Self(form)),
            Err(error) => Outcome::Error((ConsoleError::keep(error, request), ())),
        }
    }
}

/// Reads a form whose `csrf` must be this; where it is none, no form is good.
pub(super) async fn read<T: for<'a> FromForm<'a> + 'static>(
    request: &Request<'_>,
    data: Data<'_>,
    csrf: Option<&str>,
) -> Result<T, ConsoleError> {
    if !is_from_here(request) {
        return Err(ConsoleError::forged());
    }
    if !request.content_type().is_some_and(|kind| kind.is_form()) {
        return Err(ConsoleError::bad_form());
    }
    let bytes = read_body(request, data)
        .await
        .map_err(|denial| ConsoleError::of_status(Status::new(denial.status()), request))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| ConsoleError::bad_form())?;
    let sent = Form::<Csrf>::parse_encoded(RawStr::new(text)).map_err(|_| ConsoleError::forged())?;
    if !csrf.is_some_and(|csrf| !csrf.is_empty() && is_same(sent.csrf.as_bytes(), csrf.as_bytes())) {
        return Err(ConsoleError::forged());
    }
    Form::<T>::parse_encoded(RawStr::new(text)).map_err(|_| ConsoleError::bad_form())
}

/// Whether a page of this origin sent the request, as far as the browser says: by `Sec-Fetch-Site`, which no page can
/// set, or by `Origin`, which older browsers send, and which is sent over plain HTTP too.
fn is_from_here(request: &Request<'_>) -> bool {
    let headers = request.headers();
    let mut sites = headers.get("Sec-Fetch-Site").peekable();
    if sites.peek().is_some() {
        // `none`: the user did it, by reloading for instance.
        return sites.all(|site| matches!(site, "same-origin" | "none"));
    }
    let issuer = request.rocket().state::<Registry>().map(|registry| registry.settings().issuer());
    let host = headers.get_one("Host");
    headers.get("Origin").all(|origin| is_own_origin(origin, host, issuer))
}

/// A proxy may ask with another host than the browser knows; then the issuer is the address that it knows.
fn is_own_origin(origin: &str, host: Option<&str>, issuer: Option<&str>) -> bool {
    let Some((_, authority)) = origin.split_once("://") else { return false };
    let is_issuer =
        |issuer: &str| issuer.strip_prefix(origin).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    host.is_some_and(|host| host.eq_ignore_ascii_case(authority)) || issuer.is_some_and(is_issuer)
}

/// One field of a form as it is shown: what is in it, and what is wrong with that.
#[derive(Debug, Clone, Default)]
pub(super) struct Field {
    pub(super) value: String,
    pub(super) error: Option<String>,
}

impl Field {
    pub(super) fn of(value: impl Into<String>) -> Self {
        Self { value: value.into(), error: None }
    }

    pub(super) fn wrong(value: impl Into<String>, error: impl Into<String>) -> Self {
        Self { value: value.into(), error: Some(error.into()) }
    }
}

/// The status of a form that is shown again, with what is wrong in it.
pub(super) const WRONG: Status = Status::UnprocessableEntity;

#[cfg(test)]
mod tests {
    use super::is_own_origin;

    #[test]
    fn an_origin_is_ones_own_by_the_host_or_the_issuer() {
        let host = Some("console.example:8000");
        assert!(is_own_origin("http://console.example:8000", host, None));
        assert!(is_own_origin("https://id.example", host, Some("https://id.example")));
        assert!(is_own_origin("https://id.example", host, Some("https://id.example/realm")));
        for bad in ["null", "", "https://evil.example", "https://id.example.evil.example", "http://console.example"] {
            assert!(!is_own_origin(bad, host, Some("https://id.example")), "{bad}");
        }
        // One that is only the beginning of the issuer's.
        assert!(!is_own_origin("https://id.ex", host, Some("https://id.example")));
    }
}
