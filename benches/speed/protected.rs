//! `GET /protected` with live tokens: from memory and strict, beside a route without a guard and beside bare Rocket.

use std::path::Path;

use counterfoil::Registry;
use reqwest::{Client, StatusCode};

use crate::apps::{ANSWER, REVOKED};
use crate::library::{self, Replica, Token};
use crate::postgres::settle;
use crate::process;
use crate::rows::Rows;
use crate::server::Server;
use crate::setup::Setup;
use crate::statistics::{over, ratio};
use crate::table::{MICROS, PER_SECOND, Reach, Table, Unit};
use crate::wrk::{CONNECTIONS, Requests};
use crate::{Bench, Outcome};

const FIGURE: &str = "protected";

/// A kind of request to a server, and what the rounds of it gave.
struct Case<'a> {
    name: &'static str,
    server: &'a Server,
    /// The process of the database, where it is one of its own.
    database: Option<u32>,
    requests: Requests,
    per_second: Vec<f64>,
    server_micros: Vec<f64>,
    database_micros: Vec<f64>,
}

pub(crate) async fn measure(bench: &Bench, table: &mut Table) -> Outcome<()> {
    let records = Rows::live(bench.options.records);
    bench.say(FIGURE, format!("{} records in each database", bench.options.records));
    let folder = bench.folder("protected-postgres")?;
    let setup = Setup::new(&bench.postgres.create("protected").await?, &folder);
    let replica = Replica::open(&setup).await?;
    let mut connection = bench.postgres.connect("protected").await?;
    records.load_postgres(&mut connection).await?;
    let tokens = library::issue(&replica.registry, bench.options.tokens).await?;
    settle(&mut connection).await?;
    let on_postgres = Servers::start(&folder, &setup, replica, tokens).await?;

    let folder = bench.folder("protected-sqlite")?;
    let file = folder.join("bench.db");
    let setup = Setup::new(&format!("sqlite://{}", file.display()), &folder);
    let replica = Replica::open(&setup).await?;
    records.load_sqlite(&file).await?;
    let tokens = library::issue(&replica.registry, bench.options.tokens).await?;
    let on_sqlite = Servers::start(&folder, &setup, replica, tokens).await?;

    let mut postgres = on_postgres.cases(Some(bench.postgres.pid));
    let mut sqlite = on_sqlite.cases(None);
    // Every token is seen once, so that what is measured is what a token in use costs; nothing is gained by that where
    // nothing is remembered.
    for case in postgres[1..].iter().chain(&sqlite[1..]) {
        case.requests.send_all(case.server.port, CONNECTIONS)?;
    }
    for round in 0..bench.options.rounds {
        bench.say(FIGURE, format!("round {} of {}", round + 1, bench.options.rounds));
        // Each round begins with another case, so that none always runs in the wake of the same one; and the same case
        // on both databases, so that whatever else the machine does meets both alike.
        let first = round % postgres.len();
        postgres.rotate_left(first);
        sqlite.rotate_left(first);
        for (postgres, sqlite) in postgres.iter_mut().zip(&mut sqlite) {
            let (one, other) = if round % 2 == 0 { (postgres, sqlite) } else { (sqlite, postgres) };
            one.measure(bench.options.seconds)?;
            other.measure(bench.options.seconds)?;
        }
        postgres.rotate_right(first);
        sqlite.rotate_right(first);
    }
    report(table, "PostgreSQL", &postgres, 0.20);
    report(table, "SQLite", &sqlite, 0.50);
    drop(on_postgres);
    bench.postgres.drop_database("protected").await
}

/// Servers on one database, and what they are asked.
struct Servers {
    bare: Server,
    guarded: Server,
    shipped: Server,
    strict: Server,
    protected: Requests,
    unguarded: Requests,
    looked_up: Requests,
}

impl Servers {
    async fn start(folder: &Path, setup: &Setup, replica: Replica, tokens: Vec<Token>) -> Outcome<Self> {
        let bare = Server::bare("")?;
        let guarded = Server::app("guarded", setup)?;
        let shipped = Server::counterfoil(setup)?;
        let strict = Server::counterfoil(&setup.clone().strict())?;
        for server in [&guarded, &shipped, &strict] {
            answers_are_right(server, &replica.registry, &tokens[0]).await?;
        }
        // It has done its work, and as a replica would only be waited for.
        replica.close().await;

        let tokens: Vec<String> = tokens.into_iter().map(|token| token.text).collect();
        let requests = |path: &str| Requests::with_tokens(folder.join(&path[1..]), "GET", path, &tokens);
        let (protected, unguarded, looked_up) =
            (requests("/protected")?, requests("/unguarded")?, requests("/looked-up")?);
        Ok(Self { bare, guarded, shipped, strict, protected, unguarded, looked_up })
    }

    fn cases(&self, database: Option<u32>) -> [Case<'_>; 6] {
        let case = |name, server, requests: &Requests| Case {
            name,
            server,
            database,
            requests: requests.clone(),
            per_second: Vec::new(),
            server_micros: Vec::new(),
            database_micros: Vec::new(),
        };
        [
            case("bare Rocket", &self.bare, &self.protected),
            case("without a guard", &self.guarded, &self.unguarded),
            case("looked up", &self.guarded, &self.looked_up),
            case("guarded", &self.guarded, &self.protected),
            case("as shipped", &self.shipped, &self.protected),
            case("strict", &self.strict, &self.protected),
        ]
    }
}

impl Case<'_> {
    fn measure(&mut self, seconds: u64) -> Outcome<()> {
        let cpu = |server: &Server| (server.cpu_micros(), self.database.map_or(0, process::family_cpu_micros));
        let before = cpu(self.server);
        let loaded = self
            .requests
            .send(self.server.port, CONNECTIONS, seconds)
            .map_err(|error| format!("{}: {error}", self.name))?;
        let after = cpu(self.server);
        let each = |before: u64, after: u64| ratio(usize::try_from(after - before).unwrap_or(0), loaded.requests);
        self.per_second.push(loaded.per_second);
        self.server_micros.push(each(before.0, after.0));
        self.database_micros.push(each(before.1, after.1));
        Ok(())
    }
}

fn report(table: &mut Table, database: &str, cases: &[Case<'_>; 6], strict_reach: f64) {
    let [bare, unguarded, looked_up, guarded, shipped, strict] = cases;
    let figure = |text: &str| format!("`GET /protected`, {text}, {database}");
    let rates = |case: &'static str, base: &Case<'_>| (case, base.per_second.clone());
    let (name, base) = rates("the same server without a guard", unguarded);
    table.ratio(figure("leased"), PER_SECOND, &guarded.per_second, (name, &base), Reach::AtLeast(0.95));
    table.difference(
        figure("leased, server CPU a request"),
        MICROS,
        &guarded.server_micros,
        (name, &unguarded.server_micros),
        Reach::AtMost(1.5),
    );
    table.ratio(figure("looked up in a map alone"), PER_SECOND, &looked_up.per_second, (name, &base), Reach::Report);
    table.difference(
        figure("looked up in a map alone, server CPU a request"),
        MICROS,
        &looked_up.server_micros,
        (name, &unguarded.server_micros),
        Reach::Report,
    );
    let (name, base) = rates("bare Rocket", bare);
    table.ratio(figure("as shipped"), PER_SECOND, &shipped.per_second, (name, &base), Reach::AtLeast(0.85));
    table.ratio(figure("strict"), PER_SECOND, &strict.per_second, (name, &base), Reach::AtLeast(strict_reach));
    let (name, base) = rates("strict", strict);
    table.ratio(
        figure("as shipped, leased over strict"),
        PER_SECOND,
        &shipped.per_second,
        (name, &base),
        Reach::Report,
    );
    for case in [shipped, strict] {
        let cpu = format!("{}, server CPU a request", case.name);
        let base = ("bare Rocket", bare.server_micros.as_slice());
        table.difference(figure(&cpu), MICROS, &case.server_micros, base, Reach::Report);
        if database == "PostgreSQL" {
            let cpu = format!("{}, database CPU a request", case.name);
            table.value(figure(&cpu), MICROS, &case.database_micros, Reach::Report);
        }
    }
    let unguarded = over(&unguarded.per_second, &bare.per_second);
    table.value(figure("without a guard, of bare Rocket"), Unit("", 2), &unguarded, Reach::Report);
}

/// Before anything is measured: a live token is accepted, again and again; none, a forged and a revoked one are not,
/// and the revoked one not from the very moment on.
pub(crate) async fn answers_are_right(server: &Server, registry: &Registry, live: &Token) -> Outcome<()> {
    let client = Client::new();
    let get = |token: String| client.get(server.url("/protected")).bearer_auth(token).send();
    for _ in 0..3 {
        let accepted = get(live.text.clone()).await?;
        assert_eq!((accepted.status(), accepted.text().await?.as_str()), (StatusCode::OK, ANSWER));
    }
    assert_eq!(client.get(server.url("/protected")).send().await?.status(), StatusCode::UNAUTHORIZED);
    let forged = live.text.split_at(live.text.len() - 8).0.to_owned() + "AAAAAAAA";
    assert_eq!(get(forged).await?.status(), StatusCode::UNAUTHORIZED);

    let doomed = library::issue(registry, 1).await?.remove(0);
    for _ in 0..3 {
        assert_eq!(get(doomed.text.clone()).await?.status(), StatusCode::OK);
    }
    let revoke = client.put(server.url(&format!("/auth/tokens/revoke/{}", doomed.jti))).bearer_auth(&doomed.text);
    let revoked = revoke.send().await?;
    assert_eq!((revoked.status(), revoked.text().await?.as_str()), (StatusCode::OK, REVOKED));
    assert_eq!(get(doomed.text).await?.status(), StatusCode::UNAUTHORIZED);
    Ok(())
}
