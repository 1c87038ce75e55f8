//! Asking about tokens that were seen before, beside a bare route that reads the same form and answers the same bytes.

use counterfoil::Actor;
use reqwest::Client;

use crate::library::{self, Replica};
use crate::server::{Server, add_client};
use crate::setup::Setup;
use crate::table::{MICROS, PER_SECOND, Reach, Table};
use crate::wrk::{CONNECTIONS, Requests};
use crate::{Bench, Outcome, statistics};

const FIGURE: &str = "introspect";
const PATH: &str = "/oauth/introspect";

pub(crate) async fn measure(bench: &Bench, table: &mut Table) -> Outcome<()> {
    let folder = bench.folder(FIGURE)?;
    let setup = Setup::new(&bench.postgres.create(FIGURE).await?, &folder);
    let replica = Replica::open(&setup).await?;
    bench.say(FIGURE, format!("issues {} tokens", bench.options.tokens));
    let tokens = library::issue(&replica.registry, bench.options.tokens).await?;
    let doomed = library::issue(&replica.registry, 1).await?.remove(0);
    let server = Server::counterfoil(&setup)?;
    let authorization = add_client(&setup, &["--scope", "tokens:introspect"])?;

    let client = Client::new();
    let ask = async |server: &Server, token: &str| -> Outcome<String> {
        let call = client.post(server.url(PATH)).header("Authorization", &authorization);
        let call = call.header("Content-Type", "application/x-www-form-urlencoded").body(format!("token={token}"));
        Ok(call.send().await?.error_for_status()?.text().await?)
    };
    let told = ask(&server, &tokens[0].text).await?;
    assert!(told.starts_with(r#"{"active":true"#) && told.contains(&tokens[0].jti.to_string()), "{told}");
    assert!(ask(&server, &doomed.text).await?.starts_with(r#"{"active":true"#), "a live token is told to be");
    replica.registry.revoke(doomed.jti, Actor::application("bench")).await?;
    assert_eq!(ask(&server, &doomed.text).await?, r#"{"active":false}"#, "a revoked one not from that moment on");
    replica.close().await;
    let bare = Server::bare(&told)?;
    assert_eq!(ask(&bare, &tokens[0].text).await?, told, "the bare route answers the same bytes");

    let lines = tokens.iter().map(|token| format!("POST\t{PATH}\t{authorization}\ttoken={}", token.text));
    let requests = Requests::write(folder.join("requests"), lines)?;
    requests.send_all(server.port, CONNECTIONS)?;
    let (mut own, mut base, mut own_cpu, mut base_cpu) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..bench.options.rounds {
        bench.say(FIGURE, format!("round {} of {}", round + 1, bench.options.rounds));
        for (server, rates, cpu) in [(&bare, &mut base, &mut base_cpu), (&server, &mut own, &mut own_cpu)] {
            let before = server.cpu_micros();
            let loaded = requests.send(server.port, CONNECTIONS, bench.options.seconds)?;
            let spent = usize::try_from(server.cpu_micros() - before)?;
            rates.push(loaded.per_second);
            cpu.push(statistics::ratio(spent, loaded.requests));
        }
    }
    let name = "`POST /oauth/introspect`, a token seen before, PostgreSQL";
    table.ratio(name, PER_SECOND, &own, ("a bare POST route", &base), Reach::AtLeast(0.8));
    let base = ("a bare POST route", base_cpu.as_slice());
    table.difference("the same, server CPU a request", MICROS, &own_cpu, base, Reach::Report);
    server.stop()?;
    bench.postgres.drop_database(FIGURE).await
}
