//! Request bodies: JSON of a bounded size, and an error that names the field.

use rocket::Request;
use rocket::data::{Data, FromData, Outcome};
use rocket::http::Status;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::ApiError;
use crate::guard;

/// A JSON body. Members it doesn't know are ignored, so that newer callers can talk to older servers.
pub(super) struct Body<T>(pub(super) T);

/// A JSON body that may be left out altogether.
pub(super) struct OptionalBody<T>(pub(super) T);

#[rocket::async_trait]
impl<'r, T: DeserializeOwned> FromData<'r> for Body<T> {
    type Error = ();

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r, Self> {
        let read = async {
            let bytes = guard::read_body(request, data).await?;
            parse(request, &bytes)
        };
        outcome(request, read.await.map(Self))
    }
}

#[rocket::async_trait]
impl<'r, T: DeserializeOwned + Default> FromData<'r> for OptionalBody<T> {
    type Error = ();

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r, Self> {
        let read = async {
            let bytes = guard::read_body(request, data).await?;
            if bytes.is_empty() { Ok(T::default()) } else { parse(request, &bytes) }
        };
        outcome(request, read.await.map(Self))
    }
}

/// What was read as Rocket wants it; an error is kept for the catcher.
pub(super) fn outcome<'r, T: FromData<'r, Error = ()>>(
    request: &Request<'_>,
    read: Result<T, ApiError>,
) -> Outcome<'r, T> {
    match read {
        Ok(body) => Outcome::Success(body),
        Err(error) => Outcome::Error((error.keep(request), ())),
    }
}

/// What a body says, by its bytes.
pub(super) fn parse<T: DeserializeOwned>(request: &Request<'_>, bytes: &[u8]) -> Result<T, ApiError> {
    if !guard::is_json(request) {
        return Err(ApiError::invalid(Status::UnsupportedMediaType, "The content type must be application/json"));
    }
    from_json(bytes)
}

/// Twice over the bytes: first whether they are JSON at all, and not nested too deeply; then what they say.
fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(_)) => {}
        Ok(_) => return Err(ApiError::invalid(Status::UnprocessableEntity, "The body must be a JSON object")),
        Err(_) => return Err(ApiError::invalid(Status::BadRequest, "The body is not JSON that can be read")),
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let msg = explain(&error.path().to_string(), &error.inner().to_string());
        ApiError::invalid(Status::UnprocessableEntity, msg)
    })
}

/// One sentence that names the field and says what it must be, without the value: that may be a password.
fn explain(path: &str, message: &str) -> String {
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    let quoted = |prefix: &str| message.strip_prefix(prefix)?.strip_suffix('`');
    if let Some(field) = quoted("missing field `") {
        return format!("{field} is missing");
    }
    if let Some(field) = quoted("duplicate field `") {
        return format!("{field} stands twice");
    }
    match message.rsplit_once(", expected ") {
        // All the numbers that bodies have are lifetimes, of a second at least.
        Some((_, "u64")) => format!("{path} must be a positive whole number"),
        Some((_, expected)) => format!("{path} must be {expected}"),
        // What our own types say of a value; they don't repeat it.
        None => format!("{path}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Scopes;

    #[derive(Debug, serde::Deserialize)]
    struct Example {
        #[expect(dead_code, reason = "only whether it can be read matters")]
        password: String,
        #[expect(dead_code, reason = "only whether it can be read matters")]
        scope: Option<Scopes>,
    }

    fn refused(json: &str) -> (u16, String) {
        match from_json::<Example>(json.as_bytes()) {
            Err(ApiError::Refused(refusal)) => {
                let error = ApiError::Refused(refusal);
                (error.status().code, format!("{error:?}"))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_never_repeated() {
        for (json, status, words) in [
            (r#"{"password": 12345678}"#, 422, "password must be a string"),
            (r#"{"password": "a", "password": "b"}"#, 422, "password stands twice"),
            ("{}", 422, "password is missing"),
            (r#"{"password": "a", "scope": "\"secret\""}"#, 422, "scope: a scope must be"),
            (r#"{"password": "a", "scope": {"secret, expected": 12345678}}"#, 422, "scope must be a string"),
            ("[]", 422, "must be a JSON object"),
            (r#"{"password": "secret"#, 400, "not JSON"),
            (r#"{"password": "secret"} x"#, 400, "not JSON"),
            (&format!(r#"{{"password":"a","other":{}}}"#, "[".repeat(4_000)), 400, "not JSON"),
            (&format!(r#"{{"password":"a","x":{}1{}}}"#, "[".repeat(200), "]".repeat(200)), 400, "not JSON"),
        ] {
            let (code, msg) = refused(json);
            assert_eq!(code, status, "{json}");
            assert!(msg.contains(words), "{msg}");
            assert!(!msg.contains("secret") && !msg.contains("12345678"), "{msg}");
        }
    }

    #[test]
    fn unknown_members_are_ignored() {
        assert!(from_json::<Example>(br#"{"password": "a", "later": [1]}"#).is_ok());
    }
}
