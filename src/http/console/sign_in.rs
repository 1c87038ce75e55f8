//! Signing in and out.

use askama::Template;
use rocket::data::{self, Data, FromData};
use rocket::form::FromForm;
use rocket::http::{Cookie, Method, RawStr, Status};
use rocket::outcome::Outcome;
use rocket::request::{self, FromRequest};
use rocket::time::Duration;
use rocket::{Request, Route, State, get, post, routes};

use super::BASE;
use super::cookie;
use super::error::ConsoleError;
use super::form::{self, Confirmed, Field, Posted, WRONG};
use super::frame::{self, Frame};
use super::page::{Answer, SeeOther};
use super::signed_in::SignedIn;
use crate::accounts::{Accounts, LoginFailure};
use crate::config::Settings;
use crate::guard::Device;
use crate::http::catchers::allowed;
use crate::http::issuing::{Began, confirm};
use crate::registry::Registry;
use crate::token::Denial;

/// Where one signs in.
const HERE: &str = "/console/sign-in";

/// The longest address to go on to, in bytes.
const NEXT_BYTES_MAX: usize = 1_024;

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![show, sign_in, sign_out]
}

#[derive(Template)]
#[template(path = "console/sign_in.html")]
struct SignInPage<'r> {
    frame: Frame<'r>,
    key: String,
    next: Option<String>,
    username: Field,
    error: Option<&'static str>,
}

/// What a request to sign in or out brings along, none of which is an error but two cookies where one belongs.
struct Visit<'r> {
    person: Option<SignedIn<'r>>,
    /// The value of the form's cookie, where it is one that was given here.
    key: Option<&'r str>,
    notice: Option<&'static str>,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Visit<'r> {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, ()> {
        match (SignedIn::find(request).await, key(request)) {
            (Err(denial @ Denial::Ambiguous), _) | (_, Err(denial)) => {
                Outcome::Error((ConsoleError::from(denial).keep(request), ()))
            }
            (person, Ok(key)) => Outcome::Success(Self { person: person.ok(), key, notice: frame::notice(request) }),
        }
    }
}

fn key<'r>(request: &'r Request<'_>) -> Result<Option<&'r str>, Denial> {
    Ok(cookie::sent(request, cookie::FORM)?.filter(|key| uuid::Uuid::try_parse(key).is_ok()))
}

#[derive(FromForm)]
struct Fields {
    username: String,
    password: String,
    next: Option<String>,
}

/// The form, sent from the page that this browser was shown.
struct SignInForm(Fields);

#[rocket::async_trait]
impl<'r> FromData<'r> for SignInForm {
    type Error = ();

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> data::Outcome<'r, Self> {
        let read = match key(request) {
            Ok(Some(key)) => form::read(request, data, Some(key)).await,
            Ok(None) => Err(no_cookie()),
            Err(denial) => Err(denial.into()),
        };
        match read {
            Ok(fields) => Outcome::Success(Self(fields)),
            Err(error) => Outcome::Error((error.keep(request), ())),
        }
    }
}

fn no_cookie() -> ConsoleError {
    let text = "The cookie of the form did not come back with it. Allow cookies for this site and reload the page. Over \
                plain HTTP browsers send it only where the setting cookie.secure is false.";
    ConsoleError::new(Status::Forbidden, "Cookies are needed here", text)
}

/// The page, and the cookie that its form goes with.
#[get("/sign-in?<next>")]
fn show<'r>(visit: Visit<'r>, next: Option<&str>, registry: &State<Registry>) -> Result<Shown<'r>, SeeOther> {
    let next = next.and_then(safe);
    if visit.person.is_some() {
        return Err(SeeOther::to(next.unwrap_or(BASE)));
    }
    // One that is there already stays: the form may be open in another tab.
    let key = visit.key.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
    let cookie = cookie::kept(registry.settings(), cookie::FORM, key.clone());
    let page = SignInPage {
        frame: Frame::of_nobody(visit.notice),
        key,
        next: next.map(str::to_owned),
        username: Field::default(),
        error: None,
    };
    Ok(Shown { page: super::page::Page(page), cookie: SetCookie(cookie) })
}

#[derive(rocket::Responder)]
struct Shown<'r> {
    page: super::page::Page<SignInPage<'r>>,
    cookie: SetCookie,
}

struct SetCookie(Cookie<'static>);

impl From<SetCookie> for rocket::http::Header<'static> {
    fn from(SetCookie(cookie): SetCookie) -> Self {
        (&cookie).into()
    }
}

/// Checks the password and begins a session of the console, which the browser keeps the token of.
#[post("/sign-in", data = "<form>")]
async fn sign_in<'r>(
    visit: Visit<'r>,
    device: Device<'r>,
    accounts: &State<Accounts>,
    registry: &State<Registry>,
    form: SignInForm,
) -> Result<Answer<SignInPage<'r>>, ConsoleError> {
    let Fields { username, password, next } = form.0;
    let next = next.as_deref().and_then(safe).map(str::to_owned);
    let again = |username: String, next| {
        let page = SignInPage {
            frame: Frame::of_nobody(None),
            key: visit.key.unwrap_or_default().to_owned(),
            next,
            username: Field::of(username),
            error: Some("That is not a username and its password. Check both and try again."),
        };
        Ok(Answer::Page(WRONG, page))
    };
    let logged_in = match accounts.login(&username, &password, device.ip).await {
        Ok(logged_in) => logged_in,
        Err(LoginFailure::BadCredentials) => return again(username, next),
        Err(failure) => return Err(failure.into()),
    };
    let device = (device.ip, device.user_agent);
    let issued = match registry.issue_console(logged_in.as_of, logged_in.user.scope, device).await {
        Ok(issued) => issued,
        // All of the user's tokens were ended meanwhile, perhaps because the password is not good any more.
        Err(error) if error.is_superseded() => return again(username, next),
        Err(error) => return Err(error.into()),
    };
    let issued = confirm(registry, accounts, issued, Began::Session).await?;
    // Its token is about to be forgotten by the only one who had it.
    if let Some(before) = visit.person {
        end(registry, &before, device.0).await?;
    }
    let claims = issued.access_claims();
    let mut kept = cookie::kept(registry.settings(), cookie::TOKEN, issued.access_token().to_owned());
    kept.set_max_age(Duration::seconds(claims.exp - claims.iat));
    Ok(Answer::SeeOther(SeeOther::to(next.unwrap_or_else(|| BASE.to_owned())).with_cookie(kept)))
}

/// Ends the console's session.
#[post("/sign-out", data = "<_form>")]
async fn sign_out(
    person: SignedIn<'_>,
    device: Device<'_>,
    registry: &State<Registry>,
    _form: Posted<Confirmed>,
) -> Result<SeeOther, ConsoleError> {
    end(registry, &person, device.ip).await?;
    Ok(signed_out(registry.settings()))
}

async fn end(
    registry: &Registry,
    person: &SignedIn<'_>,
    ip: Option<std::net::IpAddr>,
) -> Result<(), crate::error::Error> {
    let act = crate::token::Act::by(crate::token::Actor::subject(person.subject())).ip(ip);
    match registry.end_session(person.session(), act).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// To the page where one signs in, after having signed out.
pub(super) fn signed_out(settings: &Settings) -> SeeOther {
    SeeOther::done(HERE, "signed-out").with_cookie(cookie::removal(settings))
}

/// To the page where one signs in, and from there back to where a request was for.
pub(super) fn instead_of(request: &Request<'_>) -> SeeOther {
    let path = request.uri().path().as_str();
    let next = match request.method() {
        Method::Get | Method::Head => Some(request.uri().to_string()),
        _ if allowed(request).contains(Method::Get.as_str()) => Some(path.to_owned()),
        _ => None,
    };
    let next = next.as_deref().and_then(safe).filter(|next| *next != BASE);
    let to = match next {
        Some(next) => format!("{HERE}?next={}", RawStr::new(next).percent_encode()),
        None => HERE.to_owned(),
    };
    let settings = request.rocket().state::<Registry>().map(Registry::settings);
    match (cookie::sent(request, cookie::TOKEN), settings) {
        (Ok(Some(_)), Some(settings)) => SeeOther::done(&to, "expired").with_cookie(cookie::removal(settings)),
        // Without the cookie nobody was signed in, as far as this request can tell.
        _ => SeeOther::to(to),
    }
}

/// An address of the console to go on to: nobody may send a user elsewhere from here.
fn safe(next: &str) -> Option<&str> {
    let path = next.split(['?', '#']).next().unwrap_or_default();
    let is_sane = next.len() <= NEXT_BYTES_MAX
        && next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
        && !path.contains("//")
        && path.split('/').all(is_name);
    let is_below = path.strip_prefix(BASE).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let leads_back = path == HERE || path.starts_with("/console/sign-");
    (is_sane && is_below && !leads_back).then_some(next)
}

/// Whether a segment of a path is no step and holds no further path, also to whoever decodes it first.
fn is_name(segment: &str) -> bool {
    let segment = RawStr::new(segment).percent_decode_lossy();
    !matches!(&*segment, "." | "..") && !segment.contains(['/', '\\'])
}

#[cfg(test)]
mod tests {
    use super::safe;

    #[test]
    fn one_goes_on_within_the_console_alone() {
        for good in [
            "/console",
            "/console/sessions",
            "/console/admin/tokens?subject=a%20b&cursor=1.2",
            "/console/admin/tokens?subject=%2e%2e%2f",
            "/console/admin/users/%2ea%20b..",
        ] {
            assert_eq!(safe(good), Some(good));
        }
        for bad in [
            "",
            "/",
            "//evil.example",
            "/console//evil.example",
            "/console/../auth",
            "/console/./x",
            "/console/..",
            "/console/%2e%2e/docs",
            "/console/.%2E?a",
            "/console/%2e/x",
            "/console/%2e%2e%2fdocs",
            "/console/a%2Fb",
            "/console/a%5cb",
            "/consolex",
            "https://evil.example/console",
            "/\\evil.example",
            "/console/\\evil.example",
            "/console/a\r\nSet-Cookie: a=b",
            "/console/ä",
            "/console/sign-in",
            "/console/sign-out",
            "javascript:alert(1)",
        ] {
            assert_eq!(safe(bad), None, "{bad:?}");
        }
        assert_eq!(safe(&format!("/console/{}", "a".repeat(2_000))), None);
    }
}
