//! One durable token for each request over HTTP, by the library in an application and by `POST /tokens`, each beside a
//! bare route that reads the same body and answers the same bytes.

use std::path::Path;

use reqwest::Client;

use crate::server::{Server, add_client};
use crate::setup::Setup;
use crate::table::{PER_SECOND, Reach, Table};
use crate::wrk::{CONNECTIONS, Requests};
use crate::{Bench, Outcome};

/// Subjects that ask.
const SUBJECTS: usize = 1_000;

/// A route that issues a token, and who may call it.
struct Route {
    path: &'static str,
    /// The header `Authorization`, where one is needed.
    authorization: String,
    /// What the body has besides the subject.
    more: &'static str,
}

pub(crate) async fn measure(bench: &Bench, table: &mut Table) -> Outcome<()> {
    let folder = bench.folder("issue-http")?;
    let setup = Setup::new(&bench.postgres.create("issue_http").await?, &folder);
    let library = Route { path: "/issue", authorization: String::new(), more: "" };
    let issuer = Server::app("issuer", &setup)?;
    let own = "issue over HTTP (durable, EdDSA, 64 connections, PostgreSQL)";
    measure_route(bench, &folder, table, own, &issuer, &library).await?;
    issuer.stop()?;

    let server = Server::counterfoil(&setup)?;
    let authorization = add_client(&setup, &["--scope", "tokens:issue"])?;
    let tokens = Route { path: "/tokens", authorization, more: ",\"refresh\":false" };
    measure_route(bench, &folder, table, "the same by `POST /tokens`", &server, &tokens).await?;
    server.stop()?;
    bench.postgres.drop_database("issue_http").await
}

async fn measure_route(
    bench: &Bench,
    folder: &Path,
    table: &mut Table,
    figure: &'static str,
    issuer: &Server,
    route: &Route,
) -> Outcome<()> {
    let client = Client::new();
    let body = |number: usize| format!("{{\"subject\":\"user-{number}\"{}}}", route.more);
    let ask = |server: &Server| {
        let call = client.post(server.url(route.path)).header("Authorization", &route.authorization);
        call.header("Content-Type", "application/json").body(body(0)).send()
    };
    let issued = ask(issuer).await?.error_for_status()?.text().await?;
    let bare = Server::bare(&issued)?;
    assert_eq!(ask(&bare).await?.error_for_status()?.text().await?, issued, "the bare route answers the same bytes");
    let token: serde_json::Value = serde_json::from_str(&issued)?;
    assert!(token["access_token"].is_string() && token["refresh_token"].is_null(), "one token: {token}");

    let line = |number| format!("POST\t{}\t{}\t{}", route.path, route.authorization, body(number));
    let requests = Requests::write(folder.join("requests"), (0..SUBJECTS).map(line))?;
    let mut connection = bench.postgres.connect("issue_http").await?;
    // So that each subject is known, as it mostly is.
    requests.send_all(issuer.port, CONNECTIONS)?;
    let (mut own, mut base) = (Vec::new(), Vec::new());
    for round in 0..bench.options.rounds {
        bench.say("issue-http", format!("{}, round {} of {}", route.path, round + 1, bench.options.rounds));
        base.push(requests.send(bare.port, CONNECTIONS, bench.options.seconds)?.per_second);
        let before = held(&mut connection).await?;
        let loaded = requests.send(issuer.port, CONNECTIONS, bench.options.seconds)?;
        let recorded = usize::try_from(held(&mut connection).await? - before)?;
        assert!(recorded >= loaded.requests, "{} tokens were issued, and {recorded} recorded", loaded.requests);
        own.push(loaded.per_second);
    }
    table.ratio(figure, PER_SECOND, &own, ("a bare POST route", &base), Reach::AtLeast(0.25));
    Ok(())
}

async fn held(connection: &mut sqlx::PgConnection) -> Outcome<i64> {
    Ok(sqlx::query_scalar("select count(*) from cf_tokens").fetch_one(connection).await?)
}
