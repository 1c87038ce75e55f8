//! What operators read: metrics, the OpenAPI document and its pages; on the server's own port or on another.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rocket::fairing::{Fairing, Info, Kind};
use rocket::figment::providers::Serialized;
use rocket::http::uri::Origin;
use rocket::http::{ContentType, Header, Status};
use rocket::response::Redirect;
use rocket::tokio::task::JoinHandle;
use rocket::{Build, Orbit, Responder, Rocket, Route, Shutdown, State, get, routes, uri};

use super::edge::Edge;
use super::openapi;
use super::serve::Failure;
use crate::config::OperationsSettings;
use crate::registry::Registry;

/// How long the second server may take to stop beyond its own grace period.
const STOP_WITHIN: Duration = Duration::from_secs(7);

/// What the pages at `/docs` may load: their own files, and nothing from any other host. Swagger UI sets styles inline.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The documentation of these routes.
#[derive(utoipa::OpenApi)]
#[openapi(paths(metrics, openapi_json, docs, docs_file))]
pub(super) struct Api;

/// The routes that are switched on.
fn routes(settings: &OperationsSettings) -> Vec<Route> {
    let mut routes = Vec::new();
    if settings.metrics {
        routes.extend(routes![metrics]);
    }
    if settings.openapi {
        routes.extend(routes![openapi_json]);
        // The pages are nothing without the document.
        if settings.docs {
            routes.extend(routes![docs, docs_file]);
        }
    }
    routes
}

/// Counters, the latency of checks, pool use and records held, in the text format of Prometheus.
#[utoipa::path(tag = "Operations", responses(
    (status = 200, description = "The metrics", content_type = "text/plain", body = String),
))]
#[get("/metrics")]
async fn metrics(registry: &State<Registry>) -> Result<(ContentType, String), Status> {
    let text = registry.metrics_text().await.map_err(|error| {
        tracing::error!(error = %error.in_full(), "the metrics can't be written");
        Status::InternalServerError
    })?;
    Ok((ContentType::new("text", "plain").with_params([("version", "0.0.4"), ("charset", "utf-8")]), text))
}

/// This document: OpenAPI 3.1, generated from the routes.
#[utoipa::path(tag = "Operations", responses(
    (status = 200, description = "The OpenAPI document", content_type = "application/json"),
))]
#[get("/openapi.json")]
fn openapi_json() -> (ContentType, &'static str) {
    (ContentType::JSON, openapi::json())
}

/// To the pages that show the OpenAPI document.
#[utoipa::path(tag = "Operations", responses((status = 303, description = "To `/docs/index.html`")))]
#[get("/docs")]
fn docs(asked: &Origin<'_>) -> Redirect {
    // Relative, for the same reason as below.
    match asked.path().ends_with("/") {
        true => Redirect::to(uri!("./index.html")),
        false => Redirect::to(uri!("docs/index.html")),
    }
}

/// A file of the documentation.
#[derive(Responder)]
struct DocsFile {
    body: (ContentType, Vec<u8>),
    policy: Header<'static>,
}

/// A file of the pages that show the OpenAPI document; none comes from another host.
#[utoipa::path(tag = "Operations", params(("file" = String, Path, description = "`index.html` to begin with")), responses(
    (status = 200, description = "The file"),
    (status = 404, description = "There is no such file", body = openapi::ErrorBody),
))]
#[get("/docs/<file..>")]
fn docs_file(file: Option<PathBuf>) -> Option<DocsFile> {
    // Relative, so that the pages also work behind a proxy that serves them below a path of its own.
    let config = utoipa_swagger_ui::Config::from("../openapi.json");
    let page = utoipa_swagger_ui::serve(file?.to_str()?, Arc::new(config)).ok()??;
    let content_type = ContentType::parse_flexible(&page.content_type).unwrap_or(ContentType::Binary);
    Some(DocsFile {
        body: (content_type, page.bytes.into_owned()),
        policy: Header::new("Content-Security-Policy", DOCS_POLICY),
    })
}

/// Mounts the operators' routes, or serves them on a port of their own for as long as the server runs. Attach it after
/// the registry's fairing.
#[derive(Default)]
pub(super) struct Operations {
    second: Mutex<Option<(Shutdown, JoinHandle<()>)>>,
}

#[rocket::async_trait]
impl Fairing for Operations {
    fn info(&self) -> Info {
        Info { name: "operations", kind: Kind::Ignite | Kind::Liftoff | Kind::Shutdown | Kind::Singleton }
    }

    async fn on_ignite(&self, rocket: Rocket<Build>) -> rocket::fairing::Result {
        let Some(registry) = rocket.state::<Registry>() else {
            tracing::error!("the registry's fairing must be attached before that of the operators' routes");
            return Err(rocket);
        };
        let settings = registry.settings().operations.clone();
        Ok(match settings.port {
            None => rocket.mount("/", routes(&settings)),
            Some(_) => rocket,
        })
    }

    async fn on_liftoff(&self, rocket: &Rocket<Orbit>) {
        let Some(registry) = rocket.state::<Registry>().cloned() else { return };
        let settings = registry.settings().operations.clone();
        let Some(port) = settings.port else { return };
        let address = settings.address.unwrap_or(rocket.config().address);
        let figment = rocket
            .figment()
            .clone()
            .merge(Serialized::global("address", address))
            .merge(Serialized::global("port", port))
            // It stops with the first server, and by nothing else.
            .merge(Serialized::global("shutdown.ctrlc", false))
            .merge(Serialized::global("shutdown.signals", [""; 0]));
        let second = rocket::custom(figment)
            .manage(registry)
            .attach(Edge::of_operators())
            .mount("/", routes(&settings))
            .register("/", super::catchers());
        match second.ignite().await {
            Ok(second) => {
                let stop = second.shutdown();
                let first = rocket.shutdown();
                let failure = rocket.state::<Failure>().cloned().unwrap_or_default();
                let task = rocket::tokio::spawn(async move {
                    if let Err(error) = second.launch().await {
                        failure.set(format!("the operators' routes can't be served on {address}:{port}: {error}"));
                        first.notify();
                    }
                });
                *self.second.lock().unwrap_or_else(PoisonError::into_inner) = Some((stop, task));
            }
            Err(error) => {
                if let Some(failure) = rocket.state::<Failure>() {
                    failure.set(format!("the operators' routes can't be served: {error}"));
                }
                rocket.shutdown().notify();
            }
        }
    }

    async fn on_shutdown(&self, _: &Rocket<Orbit>) {
        let second = self.second.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((stop, task)) = second else { return };
        stop.notify();
        if rocket::tokio::time::timeout(STOP_WITHIN, task).await.is_err() {
            tracing::warn!("the server of the operators' routes did not stop in time");
        }
    }
}
