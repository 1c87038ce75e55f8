//! Keys, for administrators.

use rocket::Route;

/// Where it is.
pub(in crate::http::console) const HERE: &str = "/console/admin/keys";

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    Vec::new()
}
