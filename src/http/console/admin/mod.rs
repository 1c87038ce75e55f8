//! The pages for holders of `registry:admin`: what the routes of the API and the command line do, to look at.

pub(super) mod audit;
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
