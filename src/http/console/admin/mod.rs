//! The pages for holders of `registry:admin`: what the routes of the API and the command line do, to look at.

pub(super) mod audit;
mod because;
mod client_new;
pub(super) mod clients;
mod form;
pub(super) mod keys;
pub(super) mod overview;
mod plot;
pub(super) mod purge;
pub(super) mod replicas;
mod sessions;
mod subjects;
mod token;
pub(super) mod tokens;
mod user_new;
mod user_password;
mod user_scopes;
pub(super) mod users;

use rocket::Route;
use rocket::http::RawStr;

use crate::error::Error;
use crate::token::Subject;

/// The routes of all of them.
pub(super) fn routes() -> Vec<Route> {
    [
        overview::routes(),
        tokens::routes(),
        token::routes(),
        sessions::routes(),
        subjects::routes(),
        users::routes(),
        user_new::routes(),
        user_scopes::routes(),
        user_password::routes(),
        clients::routes(),
        client_new::routes(),
        keys::routes(),
        replicas::routes(),
        purge::routes(),
        audit::routes(),
    ]
    .concat()
}

/// A text as a value in an address. The name of a subject as a segment is a [`segment`].
fn encoded(text: &str) -> String {
    RawStr::new(text).percent_encode().to_string()
}

/// The name of a subject as a segment of a path. `.` and `..` are steps there to whoever reads an address, however they
/// are encoded, so they get a mark before them; and one more mark gets what would be taken for a marked one.
fn segment(name: &str) -> String {
    let mark = if is_step(name) { MARK } else { "" };
    format!("{mark}{}", encoded(name))
}

/// The subject whose name a segment is.
fn named(segment: &str) -> Result<Subject, Error> {
    segment.strip_prefix(MARK).filter(|name| is_step(name)).unwrap_or(segment).parse()
}

const MARK: &str = "~";

fn is_step(name: &str) -> bool {
    matches!(name.trim_start_matches(MARK), "." | "..")
}

/// Takes off what a list has beyond one page, and tells whether there was anything: lists are asked for one more than a
/// page shows.
fn cut<T>(items: &mut Vec<T>, page: u16) -> bool {
    let goes_on = items.len() > usize::from(page);
    items.truncate(usize::from(page));
    goes_on
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_as_a_segment_is_no_step_and_the_same_name_again() {
        for (name, is) in [
            (".", "~."),
            ("..", "~.."),
            ("~.", "~~."),
            ("~~..", "~~~.."),
            ("...", "..."),
            (".a", ".a"),
            ("~", "~"),
            ("~a", "~a"),
            ("a/..", "a%2F.."),
        ] {
            assert_eq!(segment(name), is);
            let read = RawStr::new(is).percent_decode_lossy();
            assert_eq!(named(&read).unwrap().as_str(), name);
        }
    }
}
