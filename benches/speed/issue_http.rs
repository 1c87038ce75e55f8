//! One durable token for each request over HTTP, beside a bare route that reads the same body and answers the same bytes.

use reqwest::Client;
use serde_json::json;

use crate::server::Server;
use crate::setup::Setup;
use crate::table::{PER_SECOND, Reach, Table};
use crate::wrk::{CONNECTIONS, Requests};
use crate::{Bench, Outcome};

/// Subjects that ask.
const SUBJECTS: usize = 1_000;

pub(crate) async fn measure(bench: &Bench, table: &mut Table) -> Outcome<()> {
    let folder = bench.folder("issue-http")?;
    let setup = Setup::new(&bench.postgres.create("issue_http").await?, &folder);
    let issuer = Server::app("issuer", &setup)?;
    let client = Client::new();
    let ask = |server: &Server| client.post(server.url("/issue")).json(&json!({ "subject": "user-0" })).send();
    let issued = ask(&issuer).await?.error_for_status()?.text().await?;
    let bare = Server::bare(&issued)?;
    assert_eq!(ask(&bare).await?.error_for_status()?.text().await?, issued, "the bare route answers the same bytes");
    let token: serde_json::Value = serde_json::from_str(&issued)?;
    assert!(token["access_token"].is_string() && token["refresh_token"].is_null(), "one token: {token}");

    let bodies = (0..SUBJECTS).map(|number| format!("POST\t/issue\t\t{{\"subject\":\"user-{number}\"}}"));
    let requests = Requests::write(folder.join("issue"), bodies)?;
    let mut connection = bench.postgres.connect("issue_http").await?;
    // So that each subject is known, as it mostly is.
    requests.send_all(issuer.port, CONNECTIONS)?;
    let (mut own, mut base) = (Vec::new(), Vec::new());
    for round in 0..bench.options.rounds {
        bench.say("issue-http", format!("round {} of {}", round + 1, bench.options.rounds));
        base.push(requests.send(bare.port, CONNECTIONS, bench.options.seconds)?.per_second);
        let before = held(&mut connection).await?;
        let loaded = requests.send(issuer.port, CONNECTIONS, bench.options.seconds)?;
        let recorded = usize::try_from(held(&mut connection).await? - before)?;
        assert!(recorded >= loaded.requests, "{} tokens were issued, and {recorded} recorded", loaded.requests);
        own.push(loaded.per_second);
    }
    table.ratio(
        "issue over HTTP (durable, EdDSA, 64 connections, PostgreSQL)",
        PER_SECOND,
        &own,
        ("a bare POST route", &base),
        Reach::AtLeast(0.25),
    );
    issuer.stop()?;
    bench.postgres.drop_database("issue_http").await
}

async fn held(connection: &mut sqlx::PgConnection) -> Outcome<i64> {
    Ok(sqlx::query_scalar("select count(*) from cf_tokens").fetch_one(connection).await?)
}
