//! What every request passes through, in one fairing: each would cost every request an allocation and more.

use rocket::fairing::{self, Fairing, Info, Kind};
use rocket::http::{Method, Status};
use rocket::response::{self, Responder};
use rocket::{Build, Data, Orbit, Request, Response, Rocket};

use super::{headers, log};

/// Completes the headers of every answer, and logs every request.
pub(super) struct Edge {
    completes_headers: bool,
}

impl Edge {
    pub(super) fn new() -> Self {
        Self { completes_headers: true }
    }

    /// For the operators' routes on a port of their own: what is said to pages of other origins is not said there.
    pub(super) fn of_operators() -> Self {
        Self { completes_headers: false }
    }
}

/// The answer of a catcher. Rocket gives a request that it could not read to catchers alone: no fairing sees it, nor the answer
/// to it, which is completed here.
pub(super) struct Caught<R>(pub(super) R);

impl<'r, R: Responder<'r, 'static>> Responder<'r, 'r> for Caught<R> {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'r> {
        let mut response: Response<'r> = self.0.respond_to(request)?;
        if !log::has_arrived(request) {
            headers::complete_unread(request, &mut response);
            log::answered(request, &mut response);
        }
        Ok(response)
    }
}

/// The status for a request to which Rocket itself would answer with this one. Where it does not know the method it says 400,
/// and hands on a GET (RFC 9110 §9.1).
pub(super) fn caught_status(status: Status, request: &Request<'_>) -> Status {
    match request.method() {
        Method::Get if !log::has_arrived(request) => Status::NotImplemented,
        _ => status,
    }
}

#[rocket::async_trait]
impl Fairing for Edge {
    fn info(&self) -> Info {
        Info { name: "edge", kind: Kind::Ignite | Kind::Liftoff | Kind::Request | Kind::Response | Kind::Singleton }
    }

    async fn on_ignite(&self, rocket: Rocket<Build>) -> fairing::Result {
        Ok(rocket.manage(log::Ids::new()))
    }

    async fn on_liftoff(&self, rocket: &Rocket<Orbit>) {
        let config = rocket.config();
        tracing::info!(address = %config.address, port = config.port, "listening");
    }

    async fn on_request(&self, request: &mut Request<'_>, _: &mut Data<'_>) {
        log::arrived(request);
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        if self.completes_headers {
            headers::complete(request, response);
        }
        // Last: the status may have changed.
        log::answered(request, response);
    }
}
