//! The OpenAPI document, put together from what stands at the routes.

use std::sync::LazyLock;

use serde::Serialize;
use utoipa::openapi::path::Operation;
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, ResponseBuilder, Schema};
use utoipa::{Modify, OpenApi, ToSchema};

/// What every error answer looks like.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "Error")]
pub(super) struct ErrorBody {
    /// The code, for programs: `token_expired`, `not_found`, …
    #[schema(example = "token_revoked")]
    pub(super) error: String,
    /// One sentence, for people.
    #[schema(example = "The token has been revoked")]
    pub(super) msg: String,
    /// With `insufficient_scope`: what is missing, space-separated.
    #[schema(required = false)]
    pub(super) scope: String,
    /// With the 503 of `/readyz`: `database`, `migrations` or `lease`.
    #[schema(required = false)]
    pub(super) reason: String,
}

/// What every error answer under `/oauth/` looks like (RFC 6749 §5.2).
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "OAuthError")]
pub(super) struct OAuthErrorBody {
    /// The code, for programs: `invalid_client`, `invalid_grant`, …
    #[schema(example = "invalid_client")]
    pub(super) error: String,
    /// One sentence, for people.
    pub(super) error_description: String,
    /// With `insufficient_scope`: what is missing, space-separated.
    #[schema(required = false)]
    pub(super) scope: String,
}

/// The whole document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Counterfoil",
        description = "A SQL-persistent token registry: it issues JWTs, keeps a record of each, and refuses every token without a live one.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    servers((url = "/", description = "The server this document comes from")),
    components(schemas(ErrorBody)),
    modifiers(&Security),
)]
struct Api;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some("A token in the `Authorization` header."))
            .build();
        let cookie = ApiKeyValue::with_description(
            "access_token_cookie",
            "An access token in its cookie, where `locations` has `cookie`; other methods than GET also want the double-submit value in `X-CSRF-TOKEN`.",
        );
        let refresh_cookie = ApiKeyValue::with_description(
            "refresh_token_cookie",
            "A refresh token in its cookie, as an access token in its own.",
        );
        let client = HttpBuilder::new()
            .scheme(HttpAuthScheme::Basic)
            .description(Some("A client's id and secret, form-encoded (RFC 6749 §2.3.1)."))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("client", SecurityScheme::Http(client));
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        components.add_security_scheme("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
        components.add_security_scheme("refresh_cookie", SecurityScheme::ApiKey(ApiKey::Cookie(refresh_cookie)));
    }
}

/// What every route with a JSON body may answer to one that is none.
const OF_JSON: [(&str, &str); 4] = [
    ("400", "`invalid_request`: the body is not JSON that can be read"),
    ("408", "`invalid_request`: the body did not arrive in time"),
    ("413", "`invalid_request`: the body is too large"),
    ("415", "`invalid_request`: the content type is not application/json"),
];

/// What a token is refused for that is not the only one.
const OF_TOKENS: (&str, &str) = ("400", "`invalid_request`: the request has more than one token for one purpose");

/// What a token by cookie may be refused for besides.
const OF_COOKIE: (&str, &str) = ("403", "`csrf_failed`: the token came by cookie, and without its double-submit value");

/// Adds what holds for every route of a kind, and stands at none: what a body is refused for, a second token, and a
/// cookie.
fn complete(document: &mut utoipa::openapi::OpenApi) {
    for item in document.paths.paths.values_mut() {
        let changing = [&mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in changing.into_iter().flatten() {
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                leave_out(body);
            }
            if takes_json(operation) {
                OF_JSON.into_iter().for_each(|(status, description)| add(operation, status, description));
            }
            if takes(operation, "cookie") || takes(operation, "refresh_cookie") {
                add(operation, OF_COOKIE.0, OF_COOKIE.1);
            }
        }
        let all = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in all.into_iter().flatten().filter(|operation| takes(operation, "bearer")) {
            add(operation, OF_TOKENS.0, OF_TOKENS.1);
        }
    }
}

/// A body that may be left out can't be `null` for that.
fn leave_out(body: &mut RequestBody) {
    for content in body.content.values_mut() {
        if let RefOr::T(content) = content
            && let Some(RefOr::T(Schema::OneOf(either))) = &content.schema
            && let Some(body_schema) = either.items.iter().find(|item| matches!(item, RefOr::Ref(_))).cloned()
        {
            content.schema = Some(body_schema);
            body.required = Some(Required::False);
        }
    }
}

fn takes_json(operation: &Operation) -> bool {
    matches!(&operation.request_body, Some(RefOr::T(body)) if body.content.contains_key("application/json"))
}

/// Whether one may show who calls by this scheme.
fn takes(operation: &Operation, scheme: &str) -> bool {
    // What a requirement names can be told from its JSON alone.
    serde_json::to_string(&operation.security).is_ok_and(|security| security.contains(&format!("\"{scheme}\"")))
}

/// Adds an error, beside what stands there for that status already.
fn add(operation: &mut Operation, status: &str, description: &str) {
    let code = description.split(':').next().unwrap_or_default();
    match operation.responses.responses.get_mut(status) {
        Some(RefOr::T(response)) if response.description.contains(code) => {}
        Some(RefOr::T(response)) => response.description.push_str(&format!("; {description}")),
        Some(RefOr::Ref(_)) => {}
        None => {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
            let response = ResponseBuilder::new().description(description).content("application/json", content);
            operation.responses.responses.insert(status.to_owned(), RefOr::T(response.build()));
        }
    }
}

/// The document as JSON.
pub(super) fn json() -> &'static str {
    static JSON: LazyLock<String> = LazyLock::new(|| {
        let mut document = Api::openapi();
        document.merge(super::login::Api::openapi());
        document.merge(super::tokens::Api::openapi());
        document.merge(super::sessions::Api::openapi());
        document.merge(super::issue::Api::openapi());
        document.merge(super::oauth::Api::openapi());
        document.merge(super::introspect::Api::openapi());
        document.merge(super::revoke::Api::openapi());
        document.merge(super::discovery::Api::openapi());
        document.merge(super::password::Api::openapi());
        document.merge(super::check::Api::openapi());
        document.merge(super::feed::Api::openapi());
        document.merge(super::admin::Api::openapi());
        document.merge(super::overview::Api::openapi());
        document.merge(super::health::Api::openapi());
        document.merge(super::operations::Api::openapi());
        complete(&mut document);
        // Serialising a document that has only string keys can't fail.
        document.to_pretty_json().unwrap_or_default()
    });
    &JSON
}
