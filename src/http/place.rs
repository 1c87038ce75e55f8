//! Where a request is for: by the segments of its path as Rocket routes it, decoded and without empty ones. `//console`
//! and `/%63onsole` reach the console too, so that what depends on a path must not look at how it was spelled.

use rocket::Request;

/// Whether the path of a request begins with these segments.
pub(super) fn is_below(request: &Request<'_>, start: &[&str]) -> bool {
    let mut segments = request.uri().path().segments();
    start.iter().all(|segment| segments.next() == Some(segment))
}

#[cfg(test)]
mod tests {
    use rocket::local::blocking::Client;

    use super::is_below;

    #[test]
    fn it_is_the_same_place_however_it_is_spelled() {
        let client = Client::untracked(rocket::build()).unwrap();
        let is_console = |path: &'static str| is_below(&client.get(path), &["console"]);
        for path in ["/console", "/console/", "/console/sessions", "//console", "/%63onsole/x", "/console?a=b"] {
            assert!(is_console(path), "{path}");
        }
        for path in ["/", "/consoles", "/consolex/a", "/auth/console", "/console%2Fx"] {
            assert!(!is_console(path), "{path}");
        }
    }
}
