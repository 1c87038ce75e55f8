//! One check per request however many guards: verdicts are kept with the request, and so is the last denial, for the
//! catcher that answers it.

use std::sync::{Mutex, OnceLock, PoisonError};

use rocket::Request;
use rocket::http::Status;
use rocket::outcome::Outcome;

use super::extract::{self, Found};
use super::locations::Locations;
use crate::registry::{Checked, Digest, Expect, Registry};
use crate::token::{Denial, TokenType};

/// What the guards of one request found out. Rocket's catchers see the request and a status alone, so this is also how
/// they learn the reason.
#[derive(Default)]
struct Cell {
    /// Append-only, so that guards can lend what is in it for as long as the request lives.
    first: OnceLock<Verdict>,
    denial: Mutex<Option<Denial>>,
}

struct Verdict {
    /// Of the token it is about.
    digest: Digest,
    /// The type that was asked for, `None` for either.
    expected: Option<TokenType>,
    outcome: Result<Checked, Denial>,
    next: OnceLock<Box<Verdict>>,
}

impl Verdict {
    fn next(&self) -> Option<&Self> {
        self.next.get().map(Box::as_ref)
    }

    /// What this verdict says about the same token where `expected` is asked for, if it says anything.
    fn answers(&self, digest: Digest, expected: Option<TokenType>) -> Option<Result<&Checked, Denial>> {
        if self.digest != digest {
            return None;
        }
        match (&self.outcome, expected) {
            (Ok(checked), Some(expected)) if checked.token_type() != expected => Some(Err(Denial::WrongType)),
            (Ok(checked), _) => Some(Ok(checked)),
            // Of the other type it may still be good.
            (Err(Denial::WrongType), expected) if expected != self.expected => None,
            (Err(denial), _) => Some(Err(denial.clone())),
        }
    }
}

fn cell<'r>(request: &'r Request<'_>) -> &'r Cell {
    request.local_cache(Cell::default)
}

/// The registry that the fairing manages.
pub(super) fn registry<'r>(request: &'r Request<'_>) -> Result<&'r Registry, Denial> {
    // The sentinels stop a launch without it, so this is for routes that hide their guards from Rocket.
    request.rocket().state::<Registry>().ok_or_else(|| {
        tracing::error!("a guard has no registry: attach counterfoil::fairing()");
        Denial::Unavailable
    })
}

/// Finds and checks the token of a request for one purpose.
pub(super) async fn token<'r, L: Locations>(
    request: &'r Request<'_>,
    expected: TokenType,
) -> Result<&'r Checked, Denial> {
    let registry = registry(request)?;
    let settings = registry.settings();
    let found = extract::find(request, settings, &L::choose(&settings.locations), expected)?;
    found_in(request, registry, found.ok_or(Denial::Missing)?, Some(expected)).await
}

/// Finds and checks the token of a request, of either type: the access token where it has both.
pub(super) async fn any_token<'r, L: Locations>(request: &'r Request<'_>) -> Result<&'r Checked, Denial> {
    let registry = registry(request)?;
    let settings = registry.settings();
    let locations = L::choose(&settings.locations);
    let found = match extract::find(request, settings, &locations, TokenType::Access)? {
        None => extract::find(request, settings, &locations, TokenType::Refresh)?,
        found => found,
    };
    let found = found.ok_or(Denial::Missing)?;
    found_in(request, registry, found, found.place_of).await
}

/// Checks a token that was found, unless this request already did, and its CSRF value where it came by cookie.
pub(super) async fn found_in<'r>(
    request: &'r Request<'_>,
    registry: &Registry,
    found: Found<'_>,
    expected: Option<TokenType>,
) -> Result<&'r Checked, Denial> {
    let checked = check_once(request, registry, found.token, expected).await?;
    extract::check_meant(request, registry.settings(), found, checked.claims())?;
    Ok(checked)
}

async fn check_once<'r>(
    request: &'r Request<'_>,
    registry: &Registry,
    token: &str,
    expected: Option<TokenType>,
) -> Result<&'r Checked, Denial> {
    let digest = registry.digest(token);
    let cell = cell(request);
    let mut last = None;
    while let Some(verdict) = last.map_or_else(|| cell.first.get(), Verdict::next) {
        if let Some(answer) = verdict.answers(digest, expected) {
            return answer;
        }
        last = Some(verdict);
    }
    let outcome = registry.check_digested(token, digest, Expect::of(expected)).await;
    let verdict = Verdict { digest, expected, outcome, next: OnceLock::new() };
    let verdict = match last {
        None => cell.first.get_or_init(|| verdict),
        Some(last) => last.next.get_or_init(|| Box::new(verdict)),
    };
    verdict.answers(digest, expected).unwrap_or(Err(Denial::Unavailable))
}

/// Checks once more all that was found good for this request.
pub(super) async fn look_again(request: &Request<'_>) -> Result<(), Denial> {
    let mut next = cell(request).first.get();
    while let Some(verdict) = next {
        if let Ok(checked) = &verdict.outcome {
            registry(request)?.check_again(checked, verdict.digest).await?;
        }
        next = verdict.next();
    }
    Ok(())
}

/// A guard's result as Rocket wants it. A denial is an error and never a forward, which could reach an open route.
pub(super) fn outcome<T, F>(request: &Request<'_>, result: Result<T, Denial>) -> Outcome<T, (Status, Denial), F> {
    match result {
        Ok(guard) => Outcome::Success(guard),
        Err(denial) => {
            *cell(request).denial.lock().unwrap_or_else(PoisonError::into_inner) = Some(denial.clone());
            Outcome::Error((Status::new(denial.status()), denial))
        }
    }
}

/// The last denial of this request with this status.
pub(super) fn last_denial(request: &Request<'_>, status: Status) -> Option<Denial> {
    let denial = cell(request).denial.lock().unwrap_or_else(PoisonError::into_inner).clone();
    denial.filter(|denial| denial.status() == status.code)
}
