//! What every request passes through, in one fairing: each further one would cost every request an allocation.

use rocket::fairing::{self, Fairing, Info, Kind};
use rocket::form::Form;
use rocket::http::{Method, Status};
use rocket::response::{self, Responder};
use rocket::{Build, Data, Orbit, Request, Response, Rocket};

use super::{headers, log};

/// As far as Rocket looks into a form for another method.
const METHOD_FIELD_BYTES_MAX: usize = "_method=delete".len();

/// Completes the headers of every answer, and logs every request.
pub(super) struct Edge {
    complete: fn(&Request<'_>, &mut Response<'_>),
}

impl Edge {
    pub(super) fn new() -> Self {
        Self { complete: headers::complete }
    }

    /// For the operators' routes on a port of their own.
    pub(super) fn of_operators() -> Self {
        Self { complete: headers::complete_for_operators }
    }
}

/// The answer of a catcher. Rocket gives a request that it could not read to catchers alone: no fairing sees it, nor
/// the answer to it, which is completed here.
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

/// The status for a request to which Rocket itself would answer with this one. Where it does not know the method it
/// says 400, and hands on a GET (RFC 9110 §9.1).
pub(super) fn caught_status(status: Status, request: &Request<'_>) -> Status {
    match request.method() {
        Method::Get if !log::has_arrived(request) => Status::NotImplemented,
        _ => status,
    }
}

/// Whether Rocket took another method from a form that begins with the field `_method`. A form must reach no route but
/// those for forms, whatever it says.
async fn was_a_post(request: &Request<'_>, data: &mut Data<'_>) -> bool {
    if request.method() == Method::Post || !request.content_type().is_some_and(|of| of.is_form()) {
        return false;
    }
    let begins = std::str::from_utf8(data.peek(METHOD_FIELD_BYTES_MAX).await);
    begins.is_ok_and(|form| Form::values(form).next().is_some_and(|field| field.name == "_method"))
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

    async fn on_request(&self, request: &mut Request<'_>, data: &mut Data<'_>) {
        if was_a_post(request, data).await {
            request.set_method(Method::Post);
        }
        log::arrived(request);
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        (self.complete)(request, response);
        // Last: the status may have changed.
        log::answered(request, response);
    }
}
