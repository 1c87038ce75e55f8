//! The files that pages load: part of the program, and named by what is in them, so that a browser asks for each once.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use rocket::http::{ContentType, Header, Status};
use rocket::response::{self, Responder, Response};
use rocket::{Request, Route, get, routes};

use super::BASE;
use super::error::ConsoleError;
use crate::http::if_none_match::IfNoneMatch;

/// The routes of this topic.
pub(super) fn routes() -> Vec<Route> {
    routes![file]
}

/// One of the files.
pub(super) struct Asset {
    name: &'static str,
    content_type: ContentType,
    body: &'static str,
    /// Of what is in it.
    digest: LazyLock<String>,
    address: LazyLock<String>,
}

macro_rules! asset {
    ($(#[$doc:meta])* $asset:ident, $name:literal, $content_type:expr) => {
        $(#[$doc])*
        pub(super) static $asset: Asset = Asset {
            name: $name,
            content_type: $content_type,
            body: include_str!(concat!("static/", $name)),
            digest: LazyLock::new(|| digest($asset.body)),
            address: LazyLock::new(|| format!("{BASE}/static/{}?v={}", $asset.name, $asset.digest.as_str())),
        };
    };
}

asset! {
    /// How every page looks.
    CSS, "console.css", ContentType::CSS
}
asset! {
    /// What every page can do without, but is nicer with.
    JS, "console.js", ContentType::JavaScript
}
asset! {
    /// The sign of the console, in the browser's tab and beside its name.
    ICON, "icon.svg", ContentType::SVG
}

impl Asset {
    /// The address of the file as it is.
    pub(super) fn address(&'static self) -> &'static str {
        &self.address
    }
}

/// The same in every process of one version.
fn digest(body: &str) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

struct File {
    asset: &'static Asset,
    is_named: bool,
    is_held: bool,
}

#[get("/static/<name>?<v>")]
fn file(name: &str, v: Option<&str>, known: IfNoneMatch) -> Result<File, ConsoleError> {
    let asset = [&CSS, &JS, &ICON].into_iter().find(|asset| asset.name == name);
    let asset =
        asset.ok_or_else(|| ConsoleError::not_found("There is nothing here", "The console has no such file."))?;
    let tag = format!("\"{}\"", asset.digest.as_str());
    let is_held = known.has(&tag);
    Ok(File { asset, is_named: v == Some(asset.digest.as_str()), is_held })
}

impl<'r> Responder<'r, 'static> for File {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        let mut answer = Response::build();
        // By its digest it never changes; by its name alone it may, with the next version.
        let caching = if self.is_named { "public, max-age=31536000, immutable" } else { "no-cache" };
        answer
            .header(Header::new("Cache-Control", caching))
            .header(Header::new("ETag", format!("\"{}\"", self.asset.digest.as_str())));
        if self.is_held {
            return answer.status(Status::NotModified).ok();
        }
        answer
            .header(self.asset.content_type.clone())
            .sized_body(self.asset.body.len(), std::io::Cursor::new(self.asset.body))
            .ok()
    }
}
