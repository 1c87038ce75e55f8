//! The pages for holders of `registry:admin`: what the routes of the API and the command line do, to look at.

pub(super) mod audit;
mod because;
pub(super) mod clients;
pub(super) mod keys;
pub(super) mod overview;
mod plot;
pub(super) mod purge;
pub(super) mod replicas;
mod sessions;
mod subjects;
mod token;
pub(super) mod tokens;
pub(super) mod users;

use rocket::Route;
use rocket::http::RawStr;

/// The routes of all of them.
pub(super) fn routes() -> Vec<Route> {
    [
        overview::routes(),
        tokens::routes(),
        token::routes(),
        sessions::routes(),
        subjects::routes(),
        users::routes(),
        clients::routes(),
        keys::routes(),
        replicas::routes(),
        purge::routes(),
        audit::routes(),
    ]
    .concat()
}

/// A text as a segment or a value in an address.
fn encoded(text: &str) -> String {
    RawStr::new(text).percent_encode().to_string()
}

/// Takes off what a list has beyond one page, and tells whether there was anything: lists are asked for one more than a page
/// shows.
fn cut<T>(items: &mut Vec<T>, page: u16) -> bool {
    let goes_on = items.len() > usize::from(page);
    items.truncate(usize::from(page));
    goes_on
}
