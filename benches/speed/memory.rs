//! What it takes to remember tokens.

use std::fs::File;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use counterfoil::{Expect, Registry};
use rocket::futures::FutureExt;
use tokio::task::JoinSet;

use crate::library::{self, Replica};
use crate::postgres::settle;
use crate::process;
use crate::server::Server;
use crate::setup::Setup;
use crate::statistics::ratio;
use crate::table::{Reach, Table, Unit};
use crate::wrk::{CONNECTIONS, Requests};
use crate::{Bench, Outcome};

/// The name under which this binary runs again, to remember tokens and nothing else.
pub(crate) const CHILD: &str = "remember";

/// Checks under way at once.
const CALLERS: usize = 64;
/// How long a server is left alone before it counts as idle.
const SETTLED: Duration = Duration::from_secs(1);
/// Tokens that are looked at again, to be sure that they are remembered.
const SAMPLED: usize = 1_000;

pub(crate) async fn measure(bench: &Bench, table: &mut Table) -> Outcome<()> {
    let folder = bench.folder("memory")?;
    let setup = Setup::new(&bench.postgres.create("memory").await?, &folder);
    let replica = Replica::open(&setup).await?;
    bench.say("memory", format!("issuing {} tokens", bench.options.remembered));
    let tokens = library::issue(&replica.registry, bench.options.remembered).await?;
    replica.close().await;
    settle(&mut bench.postgres.connect("memory").await?).await?;
    let tokens: Vec<String> = tokens.into_iter().map(|token| token.text).collect();
    let length = ratio(tokens.iter().map(String::len).sum(), tokens.len());

    let file = folder.join("tokens");
    std::fs::write(&file, tokens.join("\n"))?;
    bench.say("memory", "checking each of them once");
    let output = Command::new(std::env::current_exe()?)
        .arg(CHILD)
        .arg(&file)
        .envs(setup.clone().boundless().environment(0))
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("the process that remembers tokens failed".into());
    }
    let printed = String::from_utf8(output.stdout)?;
    let (grown, counted) = printed.trim().split_once(' ').ok_or("two numbers are printed")?;
    let (grown, counted): (f64, f64) = (grown.parse()?, counted.parse()?);
    let each = grown / ratio(tokens.len(), 1);
    let bytes = Unit(" bytes", 0);
    let at = tokens.len();
    table.value(format!("memory for each token remembered, at {at}"), bytes, &[each], Reach::Report);
    let beyond = [each - length];
    table.value(format!("the same beyond the token's own {length:.0} bytes"), bytes, &beyond, Reach::AtMost(200.0));
    // Less than one would mean that `cache_bytes` bounds too little.
    table.value("of which are counted", Unit("", 2), &[counted / grown], Reach::Report);

    let used = &tokens[..bench.options.tokens.min(tokens.len())];
    let requests = Requests::with_tokens(folder.join("protected"), "GET", "/protected", used)?;
    let mut above = Vec::new();
    for round in 0..bench.options.rounds_up_to(3) {
        bench.say("memory", format!("a server with {} tokens in use, {}", used.len(), round + 1));
        let server = Server::counterfoil(&setup)?;
        std::thread::sleep(SETTLED);
        let idle = server.resident_bytes()?;
        requests.send_all(server.port, CONNECTIONS)?;
        requests.send_all(server.port, CONNECTIONS)?;
        above.push(ratio(usize::try_from(server.resident_bytes()?.saturating_sub(idle))?, 1) / 1_048_576.0);
        server.stop()?;
    }
    bench.postgres.drop_database("memory").await?;
    let figure = format!("memory of the server above idle, {} tokens in use", used.len());
    table.value(figure, Unit(" MiB", 1), &above, Reach::AtMost(64.0));
    Ok(())
}

/// In a process of its own: checks each token of the file once, and prints by how many bytes the process has grown, and
/// how many bytes it counts.
pub(crate) async fn remember(tokens: &Path) -> Outcome<()> {
    let figment = rocket::Config::figment();
    let app = rocket::custom(figment).attach(counterfoil::fairing());
    let client = rocket::local::asynchronous::Client::untracked(app).await.map_err(|error| error.to_string())?;
    let registry = client.rocket().state::<Registry>().ok_or("no registry")?.clone();
    let own = std::process::id();
    let before = process::resident_bytes(own)?;

    // Read a line at a time, so that the tokens themselves take no memory here.
    let lines = Arc::new(Mutex::new(BufReader::new(File::open(tokens)?).lines()));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (registry, lines) = (registry.clone(), Arc::clone(&lines));
        callers.spawn(async move {
            while let Some(token) = next(&lines)? {
                registry.check(&token, Expect::access()).await.map_err(|denial| format!("{denial:?}"))?;
            }
            Ok::<(), String>(())
        });
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    let grown = process::resident_bytes(own)?.saturating_sub(before);

    // What is remembered is answered without waiting for anything.
    let lines = BufReader::new(File::open(tokens)?).lines();
    let (mut sampled, mut remembered) = (0, 0);
    for token in lines.step_by(7).take(SAMPLED) {
        sampled += 1;
        let answer = registry.check(&token?, Expect::access()).now_or_never();
        remembered += usize::from(matches!(answer, Some(Ok(_))));
    }
    if remembered * 100 < sampled * 99 {
        return Err(format!("of {sampled} tokens only {remembered} are remembered").into());
    }
    let counted = counted(&registry.metrics_text().await?)?;
    println!("{grown} {counted}");
    client.terminate().await;
    registry.close().await;
    Ok(())
}

/// What remembered tokens take by the registry's own count.
fn counted(metrics: &str) -> Outcome<f64> {
    let mut lines = metrics.lines();
    let counted = lines.find_map(|line| line.strip_prefix("counterfoil_remembered_bytes "));
    Ok(counted.ok_or("remembered bytes are not among the metrics")?.parse()?)
}

fn next(lines: &Mutex<Lines<BufReader<File>>>) -> Result<Option<String>, String> {
    let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
    lines.next().transpose().map_err(|error| error.to_string())
}
