//! The pages of `docs/integrations`: what they show is what runs here. The program for Rocket is a test of the
//! documentation.

use std::any::Any;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::foreign::{Place, Running, node, python};
use crate::support::process::{PATIENCE, ask, free_port};
use crate::support::{ClientSecret, Database};

#[path = "../examples/axum.rs"]
#[expect(dead_code, reason = "its main is for cargo run")]
mod axum_example;

const AXUM: &str = include_str!("../docs/integrations/axum.md");
const FLASK: &str = include_str!("../docs/integrations/flask.md");
const DJANGO: &str = include_str!("../docs/integrations/django.md");
const EXPRESS: &str = include_str!("../docs/integrations/express.md");

/// The code of a page in this language, one block after another.
fn code(page: &str, language: &str) -> Vec<String> {
    let fence = format!("\n```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// An application that is protected as its page says.
struct App {
    place: Place,
    client: ClientSecret,
    port: u16,
    /// Whether it is told of a revocation after that is acknowledged; otherwise no request passes any more.
    is_told_later: bool,
    /// What runs it.
    held: Option<Box<dyn Any>>,
}

const AUDIENCE: &str = "https://api.example";

impl App {
    #[track_caller]
    fn new() -> Self {
        let place = Place::start(Database::Sqlite, "EdDSA");
        let client = place.add_client(&["--scope", "tokens:introspect", "--serves", AUDIENCE]);
        Self { place, client, port: free_port(), is_told_later: false, held: None }
    }

    #[track_caller]
    fn run(mut self, mut command: Command) -> Self {
        let Self { place, client, port, .. } = &self;
        command.env("COUNTERFOIL", &place.issuer).env("CLIENT_ID", &client.id).env("CLIENT_SECRET", &client.secret);
        command.env("AUDIENCE", AUDIENCE).env("PORT", port.to_string());
        self.held = Some(Box::new(Running::listening(command, *port)));
        self
    }

    fn ask(&self, token: &str) -> String {
        ask(self.port, "app.example.com", "/notes", &format!("Authorization: Bearer {token}\r\n"))
    }

    /// It comes to this answer: what follows a feed hears of it a moment later.
    #[track_caller]
    fn comes_to(&self, token: &str, status: &str) {
        let began = Instant::now();
        let begins = format!("HTTP/1.1 {status}");
        let mut answer = self.ask(token);
        while !answer.starts_with(&begins) {
            assert!(self.is_told_later && began.elapsed() < PATIENCE, "{answer}");
            std::thread::sleep(Duration::from_millis(20));
            answer = self.ask(token);
        }
    }

    /// It lets live access tokens pass that are for it, and no others.
    #[track_caller]
    fn protects(mut self) {
        let issue = |audience: &str, scope: &str| self.place.issue(&["--audience", audience, "--scope", scope]);
        let begins =
            |answer: String, status: &str| assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        let (access, refresh) = issue(AUDIENCE, "notes:read");

        let answer = self.ask(&access);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let body = &answer[answer.find('{').unwrap()..=answer.rfind('}').unwrap()];
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap(), json!({ "hello": "alice" }));

        let answer = ask(self.port, "app.example.com", "/notes", "");
        assert!(answer.to_lowercase().contains("www-authenticate: bearer\r\n"), "{answer}");
        begins(answer, "401");
        begins(self.ask(&refresh), "401");
        begins(self.ask(&access[..access.len() - 2]), "401");
        begins(self.ask(&issue("https://other.example", "notes:read").0), "401");
        begins(self.ask(&issue(AUDIENCE, "notes:write").0), "403");

        let other = issue(AUDIENCE, "notes:read").0;
        begins(self.ask(&other), "200");
        self.place.home.run(&["token", "revoke", &crate::support::forge::jti_of(&access)]).ok();
        self.comes_to(&access, "401");
        begins(self.ask(&other), "200");
        self.place.home.run(&["subject", "revoke-all", "alice"]).ok();
        self.comes_to(&other, "401");

        // Nobody passes of whom nobody can tell.
        let unknown = issue(AUDIENCE, "notes:read").0;
        self.place.server.signal("KILL");
        self.place.server.wait();
        let answer = self.ask(&unknown);
        assert!(answer.starts_with("HTTP/1.1 503") || answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
}

#[test]
fn flask() {
    let app = &code(FLASK, "python")[0];
    App::new().run(python(&format!("{app}\napp.run(port=int(os.environ['PORT']))\n"))).protects();
}

#[test]
fn django() {
    let [tokens, view] = &code(DJANGO, "python")[..] else { panic!("two blocks of Python") };
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    // The smallest project that Django runs.
    let project = format!(
        "import os, sys\nsys.path.insert(0, '{examples}')\n{tokens}\n{view}\n\
         from django.conf import settings\nfrom django.core.servers.basehttp import run\n\
         from django.core.wsgi import get_wsgi_application\nfrom django.urls import path\n\
         settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=['*'], SECRET_KEY='of the tests')\n\
         urlpatterns = [path('notes', notes)]\n\
         run('127.0.0.1', int(os.environ['PORT']), get_wsgi_application())\n"
    );
    App { is_told_later: true, ..App::new() }.run(python(&project)).protects();
}

#[test]
fn express() {
    App::new().run(node(&code(EXPRESS, "js")[0])).protects();
}

#[test]
fn axum() {
    for block in code(AXUM, "rust") {
        assert!(include_str!("../examples/axum.rs").contains(&block), "not in examples/axum.rs: {block}");
    }
    let mut app = App::new();
    let registry = axum_example::Registry {
        server: app.place.issuer.clone(),
        client: (app.client.id.clone(), app.client.secret.clone()),
        audience: AUDIENCE.to_owned(),
        http: reqwest::Client::builder().no_proxy().build().unwrap(),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", app.port))).unwrap();
    runtime.spawn(async { axum::serve(listener, axum_example::app(registry)).await });
    app.held = Some(Box::new(runtime));
    app.protects();
}

/// Traefik itself is not run: what its configuration must say for nobody to pass himself off as somebody else.
#[test]
fn traefik() {
    let text = include_str!("../docs/proxy/traefik.yml");
    for needed in [
        // Every router drops first, and the application's asks then.
        "middlewares: [drop-auth]\n      service: counterfoil",
        "middlewares: [drop-auth, check]\n      service: app",
        "address: \"http://127.0.0.1:8000/auth/check\"",
        "trustForwardHeader: false",
        // What is for operators alone.
        r#"&& !PathRegexp(`^/(metrics|openapi\\.json|docs)(/|$)`)""#,
    ] {
        assert!(text.contains(needed), "{needed}");
    }
    let (_, told) = text.split_once("authResponseHeaders: [").unwrap();
    let told = told.split(']').next().unwrap();
    let (_, dropped) = text.split_once("customRequestHeaders:\n").unwrap();
    let dropped: Vec<&str> = dropped.lines().map_while(|line| line.trim().strip_suffix(": \"\"")).collect();
    assert_eq!(dropped.join(", "), told);
    // All that the check says of somebody.
    assert_eq!(dropped, ["X-Auth-Subject", "X-Auth-Scope", "X-Auth-Jti", "X-Auth-Session"]);
}
