//! An axum application whose routes want a live token, explained in `docs/integrations/axum.md`:
//!
//! ```sh
//! COUNTERFOIL=https://id.example CLIENT_ID=… CLIENT_SECRET=… AUDIENCE=https://api.example cargo run --example axum
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{StatusCode, request::Parts};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::get};
use serde::Deserialize;
use serde_json::{Value, json};

/// Where tokens are asked about, as which client, and which audience this service is.
#[derive(Clone)]
pub(crate) struct Registry {
    pub(crate) server: String,
    pub(crate) client: (String, String),
    pub(crate) audience: String,
    pub(crate) http: reqwest::Client,
}

/// A live access token for this service: a route that has it as an argument wants one.
pub(crate) struct Token {
    subject: String,
    scope: String,
}

/// What the server says of a token.
#[derive(Deserialize)]
struct Told {
    active: bool,
    #[serde(default)]
    sub: String,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    aud: Value,
}

impl Registry {
    async fn ask(&self, token: &str) -> reqwest::Result<Told> {
        let call = self.http.post(format!("{}/oauth/introspect", self.server)).timeout(Duration::from_secs(5));
        let call = call.basic_auth(&self.client.0, Some(&self.client.1)).form(&[("token", token)]);
        call.send().await?.error_for_status()?.json().await
    }

    fn is_meant(&self, told: &Told) -> bool {
        // A refresh token is active too, and opens nothing.
        let is_own = |aud: &Value| aud.as_str() == Some(&self.audience);
        let aud = told.aud.as_array().map_or(std::slice::from_ref(&told.aud), Vec::as_slice);
        told.active && told.r#type == "access" && aud.iter().any(is_own)
    }
}

impl FromRequestParts<Registry> for Token {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, registry: &Registry) -> Result<Self, Response> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token = match header.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty() => token,
            _ => return Err(refuse(StatusCode::UNAUTHORIZED, None)),
        };
        match registry.ask(token).await {
            Ok(told) if registry.is_meant(&told) => Ok(Self { subject: told.sub, scope: told.scope }),
            Ok(_) => Err(refuse(StatusCode::UNAUTHORIZED, Some("invalid_token"))),
            // Nobody passes of whom nobody can tell.
            Err(_) => {
                let body = Json(json!({ "error": "registry_unavailable" }));
                Err((StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], body).into_response())
            }
        }
    }
}

impl Token {
    fn has(&self, scope: &str) -> bool {
        self.scope.split(' ').any(|granted| granted == scope)
    }
}

fn refuse(status: StatusCode, error: Option<&str>) -> Response {
    let challenge = error.map_or("Bearer".to_owned(), |error| format!("Bearer error=\"{error}\""));
    let body = Json(json!({ "error": error.unwrap_or("token_missing") }));
    (status, [(WWW_AUTHENTICATE, challenge)], body).into_response()
}

async fn notes(token: Token) -> Response {
    if !token.has("notes:read") {
        return refuse(StatusCode::FORBIDDEN, Some("insufficient_scope"));
    }
    Json(json!({ "hello": token.subject })).into_response()
}

pub(crate) fn app(registry: Registry) -> Router {
    Router::new().route("/notes", get(notes)).with_state(registry)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = (std::env::var("CLIENT_ID")?, std::env::var("CLIENT_SECRET")?);
    let (server, audience) = (std::env::var("COUNTERFOIL")?, std::env::var("AUDIENCE")?);
    let port = std::env::var("PORT").unwrap_or("3000".to_owned()).parse()?;
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    axum::serve(listener, app(Registry { server, client, audience, http: reqwest::Client::new() })).await?;
    Ok(())
}
