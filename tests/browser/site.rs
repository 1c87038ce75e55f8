//! A site of a test's own: pages to try the harness on, and a stranger's origin to attack from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rocket::fairing::AdHoc;
use rocket::figment::Figment;
use rocket::http::ContentType;
use rocket::{State, get, routes};
use tokio::sync::oneshot;

use crate::support::json;

/// The pages, by their paths, which a test may change while it runs.
#[derive(Clone, Default)]
struct Pages(Arc<Mutex<BTreeMap<String, String>>>);

/// It stops when it is dropped.
pub(crate) struct Site {
    port: u16,
    pages: Pages,
    shutdown: rocket::Shutdown,
}

#[get("/<path..>")]
fn page(path: PathBuf, pages: &State<Pages>) -> Option<(ContentType, String)> {
    let extension = path.extension().and_then(|extension| ContentType::from_extension(extension.to_str()?));
    let body = pages.0.lock().unwrap().get(path.to_str()?).cloned()?;
    Some((extension.unwrap_or(ContentType::HTML), body))
}

impl Site {
    pub(crate) async fn start() -> Self {
        let figment = Figment::from(rocket::Config::debug_default())
            .merge(("address", "127.0.0.1"))
            .merge(("port", 0))
            .merge(("log_level", "off"))
            .merge(("shutdown", json!({ "ctrlc": false, "signals": [], "grace": 1, "mercy": 1 })));
        let (started, start) = oneshot::channel();
        let liftoff = AdHoc::on_liftoff("tell the test", |rocket| {
            let sent = started.send((rocket.config().port, rocket.shutdown()));
            Box::pin(async move { assert!(sent.is_ok(), "the test waits for the start") })
        });
        let pages = Pages::default();
        let rocket = rocket::custom(figment).mount("/", routes![page]).manage(pages.clone()).attach(liftoff);
        tokio::spawn(rocket.launch());
        let (port, shutdown) = start.await.unwrap();
        Self { port, pages, shutdown }
    }

    /// Puts what belongs into a page's `<main>` there, and gives its address.
    pub(crate) fn page(&self, path: &str, head: &str, main: &str) -> String {
        let html = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{path}</title>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><link rel=\"icon\" href=\"data:,\">\n\
             {head}</head><body><main><h1>{path}</h1>\n{main}\n</main></body></html>"
        );
        self.file(path, &html)
    }

    /// Puts this there, and gives its address. Without an extension it is HTML.
    pub(crate) fn file(&self, path: &str, body: &str) -> String {
        self.pages.0.lock().unwrap().insert(path.to_owned(), body.to_owned());
        format!("{}/{path}", self.origin())
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The same site under another name: for a browser that is another site altogether, not only another origin.
    pub(crate) fn elsewhere(&self) -> String {
        format!("http://localhost:{}", self.port)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.shutdown.clone().notify();
    }
}
