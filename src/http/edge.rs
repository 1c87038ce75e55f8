//! What every request passes through, in one fairing: each would cost every request an allocation and more.

use rocket::fairing::{Fairing, Info, Kind};
use rocket::{Data, Orbit, Request, Response, Rocket};

use super::headers;
use super::log::RequestLog;

/// Completes the headers of every answer, and logs every request.
pub(super) struct Edge {
    log: RequestLog,
    completes_headers: bool,
}

impl Edge {
    pub(super) fn new() -> Self {
        Self { log: RequestLog::new(), completes_headers: true }
    }

    /// For the operators' routes on a port of their own: what is said to pages of other origins is not said there.
    pub(super) fn of_operators() -> Self {
        Self { completes_headers: false, ..Self::new() }
    }
}

#[rocket::async_trait]
impl Fairing for Edge {
    fn info(&self) -> Info {
        Info { name: "edge", kind: Kind::Liftoff | Kind::Request | Kind::Response | Kind::Singleton }
    }

    async fn on_liftoff(&self, rocket: &Rocket<Orbit>) {
        let config = rocket.config();
        tracing::info!(address = %config.address, port = config.port, "listening");
    }

    async fn on_request(&self, request: &mut Request<'_>, _: &mut Data<'_>) {
        self.log.arrived(request);
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        if self.completes_headers {
            headers::complete(request, response);
        }
        // Last: the status may have changed.
        self.log.answered(request, response);
    }
}
