//! One of the subjects, for administrators.

use rocket::Route;

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    Vec::new()
}
