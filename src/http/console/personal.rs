//! Personal tokens: for one's programs, each with scopes and an end of its own.

use std::time::Duration;

use askama::Template;
use chrono::{DateTime, Days, NaiveDate, Utc};
use rocket::form::FromForm;
use rocket::{Route, State, get, post, routes};

use super::error::{ConsoleError, sentence};
use super::form::{Confirmed, Field, Posted, WRONG};
use super::frame::Frame;
use super::page::{Made, Page, SeeOther};
use super::sessions::{is_console, is_own_session, own_record, records};
use super::signed_in::SignedIn;
use super::time::When;
use crate::accounts::{ADMIN_SCOPE, Accounts};
use crate::guard::Device;
use crate::http::issuing::{Began, confirm, require_within};
use crate::registry::{Personal, Registry};
use crate::token::{ActorKind, Filter, Jti, Record, Scope, Scopes, TokenType, at};

/// Where the list is.
pub(super) const HERE: &str = "/console/personal";

/// How long a token lives where nothing else is chosen, in days.
const DAYS_DEFAULT: u64 = 90;

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![list, ask_new, create, ask_revoke, revoke, unrevoke]
}

/// A personal token as it is shown.
struct PersonalView {
    jti: Jti,
    label: String,
    scopes: Vec<String>,
    issued: When,
    expires: When,
    used: Option<When>,
    state: PersonalState,
}

/// What can be done with it.
enum PersonalState {
    Live,
    Expired,
    Revoked { at: When, by: Option<&'static str>, can_undo: bool },
}

impl PersonalView {
    fn of(record: &Record, now: DateTime<Utc>) -> Self {
        let state = match &record.revocation {
            Some(revocation) => PersonalState::Revoked {
                at: revocation.at.into(),
                by: (revocation.by.kind != ActorKind::Subject).then_some("by an administrator"),
                can_undo: !revocation.is_final && revocation.by.kind == ActorKind::Subject && now < record.expires_at,
            },
            None if now < record.expires_at => PersonalState::Live,
            None => PersonalState::Expired,
        };
        Self {
            jti: record.jti,
            label: record.label.clone().unwrap_or_else(|| "Without a label".to_owned()),
            scopes: record.scope.iter().map(str::to_owned).collect(),
            issued: record.issued_at.into(),
            expires: record.expires_at.into(),
            used: record.last_used_at.map(When::from),
            state,
        }
    }
}

#[derive(Template)]
#[template(path = "console/personal.html")]
struct PersonalPage<'r> {
    frame: Frame<'r>,
    tokens: Vec<PersonalView>,
}

/// A scope that can be ticked.
struct Choice {
    scope: String,
    is_chosen: bool,
    is_admin: bool,
}

#[derive(Template)]
#[template(path = "console/personal_new.html")]
struct NewPage<'r> {
    frame: Frame<'r>,
    label: Field,
    choices: Vec<Choice>,
    scope_error: Option<String>,
    expires: Field,
    first_day: NaiveDate,
    last_day: NaiveDate,
}

/// The one page with a token in it: the answer to the form, kept by nobody.
#[derive(Template)]
#[template(path = "console/personal_made.html")]
struct MadePage<'r> {
    frame: Frame<'r>,
    label: String,
    token: String,
    expires: When,
}

#[derive(Template)]
#[template(path = "console/personal_revoke.html")]
struct RevokePage<'r> {
    frame: Frame<'r>,
    token: PersonalView,
}

#[get("/personal")]
async fn list<'r>(person: SignedIn<'r>, registry: &State<Registry>) -> Result<Page<PersonalPage<'r>>, ConsoleError> {
    let filter = Filter::subject(person.subject().clone()).token_type(TokenType::Access);
    let records = records(registry, filter).await?;
    let now = registry.now();
    let personal = records.iter().filter(|record| is_own_session(record) && !is_console(record));
    let tokens = personal.map(|record| PersonalView::of(record, now)).collect();
    Ok(Page(PersonalPage { frame: person.frame(), tokens }))
}

impl<'r> NewPage<'r> {
    fn of(person: &SignedIn<'r>, registry: &Registry, chosen: &[String]) -> Self {
        let today = registry.now().date_naive();
        let last_day = last_day(registry);
        let preset = today.checked_add_days(Days::new(DAYS_DEFAULT)).map_or(last_day, |day| day.min(last_day));
        let choice = |scope: &str| Choice {
            scope: scope.to_owned(),
            is_chosen: chosen.iter().any(|chosen| chosen == scope),
            is_admin: scope == ADMIN_SCOPE,
        };
        Self {
            frame: person.frame(),
            label: Field::default(),
            choices: person.scopes().iter().map(choice).collect(),
            scope_error: None,
            expires: Field::of(preset.to_string()),
            first_day: today,
            last_day,
        }
    }
}

/// The last day that a token may be good on.
fn last_day(registry: &Registry) -> NaiveDate {
    (registry.now() + registry.settings().personal_max_expires).date_naive()
}

#[get("/personal/new")]
fn ask_new<'r>(person: SignedIn<'r>, registry: &State<Registry>) -> Page<NewPage<'r>> {
    Page(NewPage::of(&person, registry, &[]))
}

#[derive(FromForm)]
struct New {
    label: String,
    scope: Vec<String>,
    expires: String,
}

#[post("/personal/new", data = "<form>")]
async fn create<'r>(
    person: SignedIn<'r>,
    device: Device<'_>,
    accounts: &State<Accounts>,
    registry: &State<Registry>,
    form: Posted<New>,
) -> Result<Made<MadePage<'r>, NewPage<'r>>, ConsoleError> {
    let New { label, scope: chosen, expires } = form.0;
    let label = label.trim().to_owned();
    let mut page = NewPage::of(&person, registry, &chosen);
    page.label = Field::of(label.clone());
    page.expires = Field::of(expires.clone());
    let lifetime = match lifetime(&expires, registry) {
        Ok(lifetime) => lifetime,
        Err(error) => {
            page.expires.error = Some(error.to_owned());
            return Ok(Made::Wrong(WRONG, page));
        }
    };
    let scopes: Result<Scopes, _> = chosen.iter().map(|scope| scope.parse::<Scope>()).collect();
    let Some(scopes) = scopes.ok().filter(|scopes| require_within(scopes, &person.scopes()).is_ok()) else {
        page.scope_error = Some("Choose among the scopes that you have.".to_owned());
        return Ok(Made::Wrong(WRONG, page));
    };
    let personal = match Personal::new(label.clone()) {
        Ok(personal) => personal.scope(scopes).expires(lifetime).device(device.ip, device.user_agent),
        Err(error) => {
            page.label.error = Some(sentence(&error));
            return Ok(Made::Wrong(WRONG, page));
        }
    };
    let issued = registry.issue_personal(person.token(), personal).await?;
    let issued = confirm(registry, accounts, issued, Began::Session).await?;
    let expires = at(issued.access_claims().exp);
    Ok(Made::Shown(MadePage {
        frame: person.frame(),
        label,
        token: issued.access_token().to_owned(),
        expires: expires.into(),
    }))
}

/// Until the end of this day (UTC), as far as a token may live at all.
fn lifetime(last_day: &str, registry: &Registry) -> Result<Duration, &'static str> {
    let day: NaiveDate = last_day.parse().map_err(|_| "Give a day, such as 2027-01-31.")?;
    let now = registry.now();
    if day < now.date_naive() {
        return Err("This day is over. Choose today or a later one.");
    }
    if day > self::last_day(registry) {
        return Err("Tokens can't live as long as that. Choose an earlier day.");
    }
    let end = day.succ_opt().and_then(|next| next.and_hms_opt(0, 0, 0)).ok_or("Choose an earlier day.")?;
    // Whole seconds, as tokens have them.
    let left = u64::try_from(end.and_utc().timestamp() - now.timestamp()).map_err(|_| "This day is over.")?;
    Ok(Duration::from_secs(left.max(1)).min(registry.settings().personal_max_expires))
}

#[get("/personal/<jti>/revoke")]
async fn ask_revoke<'r>(
    jti: &str,
    person: SignedIn<'r>,
    registry: &State<Registry>,
) -> Result<Page<RevokePage<'r>>, ConsoleError> {
    let record = own_record(registry, person.subject(), jti).await?;
    Ok(Page(RevokePage { frame: person.frame(), token: PersonalView::of(&record, registry.now()) }))
}

#[post("/personal/<jti>/revoke", data = "<_form>")]
async fn revoke(
    jti: &str,
    person: SignedIn<'_>,
    device: Device<'_>,
    registry: &State<Registry>,
    _form: Posted<Confirmed>,
) -> Result<SeeOther, ConsoleError> {
    let record = own_record(registry, person.subject(), jti).await?;
    registry.revoke(record.jti, person.act(&device)).await?;
    Ok(SeeOther::done(HERE, "token-revoked"))
}

#[post("/personal/<jti>/unrevoke", data = "<_form>")]
async fn unrevoke(
    jti: &str,
    person: SignedIn<'_>,
    device: Device<'_>,
    registry: &State<Registry>,
    _form: Posted<Confirmed>,
) -> Result<SeeOther, ConsoleError> {
    let record = own_record(registry, person.subject(), jti).await?;
    registry.unrevoke(record.jti, person.act(&device)).await?;
    Ok(SeeOther::done(HERE, "token-unrevoked"))
}
