//! What other programs need to know of this server: its published keys, and what it can do.

use rocket::http::uri::fmt::Path as AnyPath;
use rocket::http::uri::{Origin, Segments};
use rocket::http::{ContentType, Header, Status};
use rocket::response::{self, Responder, Response};
use rocket::serde::json::{Value, json};
use rocket::{Request, Route, State, get, routes};

use super::error::ApiError;
use super::if_none_match::IfNoneMatch;
use super::openapi::ErrorBody;
use crate::config::Settings;
use crate::registry::Registry;

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![jwks, metadata, metadata_below]
}

/// The documentation of these routes.
#[derive(utoipa::OpenApi)]
#[openapi(paths(jwks, metadata, metadata_below))]
pub(super) struct Api;

/// A document that may be cached for as long as keys are published before they sign.
struct Document {
    content_type: ContentType,
    text: String,
    max_age_seconds: u64,
    etag: Option<String>,
    is_known: bool,
}

impl<'r> Responder<'r, 'static> for Document {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        let mut response = Response::build();
        response.header(Header::new("Cache-Control", format!("public, max-age={}", self.max_age_seconds)));
        if let Some(etag) = self.etag {
            response.header(Header::new("ETag", etag));
        }
        if self.is_known {
            return response.status(Status::NotModified).ok();
        }
        response.header(self.content_type).sized_body(self.text.len(), std::io::Cursor::new(self.text)).ok()
    }
}

/// The public keys that tokens of this registry are verified by (RFC 7517): of the key that signs, of the one that will
/// sign next, and of those whose tokens may still be live. Never a secret, nor a retired key.
#[utoipa::path(tag = "Discovery", responses(
    (status = 200, description = "The keys", body = Object, content_type = "application/jwk-set+json",
        headers(("ETag" = String), ("Cache-Control" = String)), example = json!({"keys": [{"kty": "OKP", "crv": "Ed25519",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
        "alg": "EdDSA", "use": "sig"}]})),
    (status = 304, description = "They are those that the caller has"),
    (status = 503, description = "`registry_unavailable`: the database has not been reached since the start", body = ErrorBody),
))]
#[get("/.well-known/jwks.json")]
async fn jwks(registry: &State<Registry>, known: IfNoneMatch) -> Result<Document, ApiError> {
    let jwks = registry.jwks().await?;
    Ok(Document {
        content_type: ContentType::new("application", "jwk-set+json"),
        is_known: known.has(&jwks.etag),
        text: jwks.json,
        max_age_seconds: registry.settings().jwks_max_age.as_secs(),
        etag: Some(jwks.etag),
    })
}

/// What this server is and can do as an OAuth authorization server (RFC 8414).
#[utoipa::path(tag = "Discovery", responses(
    (status = 200, description = "The metadata", body = Object, headers(("Cache-Control" = String))),
    (status = 404, description = "`not_found`: the issuer is no address", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`: the database has not been reached since the start", body = ErrorBody),
))]
#[get("/.well-known/oauth-authorization-server")]
async fn metadata(registry: &State<Registry>) -> Result<Document, ApiError> {
    match issuer_path(registry.settings().issuer()) {
        Some(_) => document(registry),
        None => Err(not_here()),
    }
}

/// The same where RFC 8414 §3.1 looks for it when the issuer has a path.
#[utoipa::path(tag = "Discovery", params(("path" = String, Path, description = "The path of the issuer")), responses(
    (status = 200, description = "The metadata", body = Object, headers(("Cache-Control" = String))),
    (status = 404, description = "`not_found`: the issuer has another path", body = ErrorBody),
    (status = 503, description = "`registry_unavailable`: the database has not been reached since the start", body = ErrorBody),
))]
#[get("/.well-known/oauth-authorization-server/<path..>")]
async fn metadata_below(
    path: Segments<'_, AnyPath>,
    here: &Origin<'_>,
    registry: &State<Registry>,
) -> Result<Document, ApiError> {
    // As it was sent, and not what that means: so it stands in the issuer.
    let below = segments(here.path().as_str()).skip(2);
    match issuer_path(registry.settings().issuer()) {
        Some(own) if !path.is_empty() && segments(own).eq(below) => document(registry),
        _ => Err(not_here()),
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

fn not_here() -> ApiError {
    ApiError::not_found("There is no such authorization server here")
}

fn document(registry: &Registry) -> Result<Document, ApiError> {
    let settings = registry.settings();
    Ok(Document {
        content_type: ContentType::JSON,
        text: describe(settings, registry.public_algorithm()?).to_string(),
        max_age_seconds: settings.jwks_max_age.as_secs(),
        etag: None,
        is_known: false,
    })
}

/// The path of an issuer that can be asked: an address without query or fragment (RFC 8414 §2).
pub(super) fn issuer_path(issuer: &str) -> Option<&str> {
    let rest = issuer.strip_prefix("https://").or_else(|| issuer.strip_prefix("http://"))?;
    if rest.starts_with('/') || rest.is_empty() || rest.contains(['?', '#']) {
        return None;
    }
    Some(rest.find('/').map_or("", |path| &rest[path..]))
}

/// `algorithm` is that of the key that signs, where it has a public part.
fn describe(settings: &Settings, algorithm: Option<&str>) -> Value {
    let base = settings.issuer.trim_end_matches('/');
    let methods = json!(["client_secret_basic", "client_secret_post"]);
    let mut metadata = json!({
        "issuer": settings.issuer,
        "token_endpoint": format!("{base}/oauth/token"),
        "token_endpoint_auth_methods_supported": methods,
        "introspection_endpoint": format!("{base}/oauth/introspect"),
        "introspection_endpoint_auth_methods_supported": methods,
        "revocation_endpoint": format!("{base}/oauth/revoke"),
        "revocation_endpoint_auth_methods_supported": methods,
        "grant_types_supported": ["client_credentials", "refresh_token"],
        "response_types_supported": [],
    });
    if let Some(algorithm) = algorithm {
        metadata["jwks_uri"] = json!(format!("{base}/.well-known/jwks.json"));
        metadata["introspection_signing_alg_values_supported"] = json!([algorithm]);
    }
    let operations = &settings.operations;
    if operations.docs && operations.openapi && operations.port.is_none() {
        metadata["service_documentation"] = json!(format!("{base}/docs"));
    }
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_can_be_asked() {
        let cases = [
            ("https://id.example", Some("")),
            ("https://id.example/", Some("/")),
            ("http://localhost:8000/a/b", Some("/a/b")),
            ("https://id.example?a", None),
            ("https://id.example/#a", None),
            ("https://", None),
            ("urn:example:issuer", None),
            ("issuer", None),
        ];
        for (issuer, path) in cases {
            assert_eq!(issuer_path(issuer), path, "{issuer}");
        }
    }
}
