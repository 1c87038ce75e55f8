//! What a caller has already, and needs no second time: `If-None-Match` (RFC 9110 §13.1.2).

use rocket::Request;
use rocket::request::{FromRequest, Outcome};

/// The entity tags that the caller has already.
pub(super) struct IfNoneMatch(Vec<String>);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for IfNoneMatch {
    type Error = std::convert::Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Self::Error> {
        Outcome::Success(Self(request.headers().get("If-None-Match").map(str::to_owned).collect()))
    }
}

impl IfNoneMatch {
    /// Whether this one is among them, by the weak comparison.
    pub(super) fn has(&self, etag: &str) -> bool {
        let mut tags = self.0.iter().flat_map(|tags| tags.split(',')).map(str::trim);
        // `*` stands by itself: among tags it is part of one that has a comma in it.
        self.0.iter().any(|tags| tags.trim() == "*") || tags.any(|tag| tag.strip_prefix("W/").unwrap_or(tag) == etag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_recognised_among_others() {
        let known = |tags: &str| IfNoneMatch(vec![tags.to_owned()]).has("\"b\"");
        assert!(known("\"b\"") && known("\"a\", W/\"b\"") && known("*"));
        assert!(!known("\"a\"") && !known("b") && !known("") && !known("\"a,*,c\""));
    }
}
