//! Requests per second of `GET /protected`, where every check asks the database, beside a bare Rocket route in the same
//! run. `scripts/bench` is the command; `docs/benchmarks.md` has the numbers and what they mean.
//!
//! The load is closed-loop (wrk, 64 keep-alive connections) and bounded in time. Rounds are interleaved, so that other
//! work on the machine meets all cases alike.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rocket::response::content::RawJson;
use serde_json::{Value, json};

const COUNTERFOIL: &str = env!("CARGO_BIN_EXE_counterfoil");
/// What a bare route is asked to answer: the same bytes as `GET /protected`.
const ANSWER: &str = r#"{"hello":"world"}"#;
const CONNECTIONS: u32 = 64;
/// The kernel's unit of CPU time in `/proc`, in microseconds.
const TICK_MICROS: u64 = 10_000;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    // Cargo passes `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.as_slice() {
        [bare, port] if bare == "bare" => serve_bare(port.parse()?),
        [] => runtime()?.block_on(measure(5, 5)),
        [rounds, seconds] => runtime()?.block_on(measure(rounds.parse()?, seconds.parse()?)),
        _ => Err("give nothing, or the number of rounds and the seconds of each".into()),
    }
}

fn runtime() -> Outcome<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

#[rocket::get("/protected")]
fn bare() -> RawJson<&'static str> {
    RawJson(ANSWER)
}

/// A Rocket server with one route and nothing else, in this very binary, so that it is built as the server is.
fn serve_bare(port: u16) -> Outcome<()> {
    let config = rocket::Config { port, ip_header: None, log_level: rocket::config::LogLevel::Off, ..release() };
    rocket::execute(rocket::custom(config).mount("/", rocket::routes![bare]).launch())?;
    Ok(())
}

fn release() -> rocket::Config {
    rocket::Config::release_default()
}

/// A server to put load on. Dropping it ends it.
struct Case {
    name: &'static str,
    port: u16,
    server: Child,
    token: String,
    /// The database's first process, where it is not the server itself.
    database: Option<u32>,
    rounds: Vec<Round>,
}

struct Round {
    per_second: f64,
    server_micros: f64,
    database_micros: f64,
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A throw-away PostgreSQL: `scripts/postgres` keeps it for as long as its standard input is open.
struct Postgres {
    script: Child,
    url: String,
    /// Its first process.
    pid: u32,
}

impl Postgres {
    fn start() -> Outcome<Self> {
        let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/postgres"))
            .arg("--control")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        // Its port and its directory, a line each.
        let mut lines = BufReader::new(script.stdout.take().ok_or("no standard output")?).lines();
        let mut line = || lines.next().ok_or("PostgreSQL does not start")?.map_err(Box::<dyn Error>::from);
        let (port, folder) = (line()?, line()?);
        let pid_file = fs::read_to_string(Path::new(&folder).join("data/postmaster.pid"))?;
        let pid = pid_file.lines().next().ok_or("PostgreSQL's process has no id")?.trim().parse()?;
        Ok(Self { script, url: format!("postgres://counterfoil@127.0.0.1:{port}/postgres"), pid })
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

async fn measure(rounds: u32, seconds: u64) -> Outcome<()> {
    let postgres = Postgres::start()?;
    let folder = tempfile::tempdir()?;
    let sqlite_url = format!("sqlite://{}", folder.path().join("bench.db").display());
    let mut cases = vec![
        start_bare().await?,
        start_counterfoil("SQLite", &sqlite_url, folder.path(), None).await?,
        start_counterfoil("PostgreSQL", &postgres.url, folder.path(), Some(postgres.pid)).await?,
    ];

    for round in 1..=rounds {
        for case in &mut cases {
            eprintln!("round {round} of {rounds}: {}", case.name);
            let measured = load(case, seconds)?;
            case.rounds.push(measured);
        }
    }
    report(&cases, rounds, seconds);
    Ok(())
}

async fn start_bare() -> Outcome<Case> {
    let port = free_port()?;
    let server = Command::new(std::env::current_exe()?)
        .args(["bare", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let case = Case { name: "bare Rocket", port, server, token: String::new(), database: None, rounds: Vec::new() };
    until_up(port, "/protected").await?;
    Ok(case)
}

/// The real server with its defaults, but for what the release profile insists on. It logs as it does in production,
/// to nowhere.
async fn start_counterfoil(name: &'static str, url: &str, folder: &Path, database: Option<u32>) -> Outcome<Case> {
    let port = free_port()?;
    let counterfoil = || {
        let mut command = Command::new(COUNTERFOIL);
        command
            .current_dir(folder)
            .env("ROCKET_PROFILE", "release")
            .env("ROCKET_ADDRESS", "127.0.0.1")
            .env("ROCKET_PORT", port.to_string())
            .env("COUNTERFOIL_DATABASE_URL", url)
            .env("COUNTERFOIL_ISSUER", "https://bench.example")
            .env("COUNTERFOIL_KEYS__GENERATE", "true")
            .env("COUNTERFOIL_KEYS__GENERATED_FILE", folder.join("bench-key.pem"))
            .env("COUNTERFOIL_FIRST_ADMIN", "off")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    };
    if !counterfoil().arg("migrate").status()?.success() {
        return Err("counterfoil migrate failed".into());
    }
    let mut add = counterfoil().args(["user", "add", "bench"]).stdin(Stdio::piped()).spawn()?;
    std::io::Write::write_all(&mut add.stdin.take().ok_or("no standard input")?, b"correct horse battery\n")?;
    if !add.wait()?.success() {
        return Err("counterfoil user add failed".into());
    }
    let server = counterfoil().arg("serve").spawn()?;
    let mut case = Case { name, port, server, token: String::new(), database, rounds: Vec::new() };
    until_up(port, "/readyz").await?;
    case.token = log_in(port).await?;
    answers_are_right(&case).await?;
    Ok(case)
}

/// Before anything is measured: a live token is accepted, no token and a revoked token are not.
async fn answers_are_right(case: &Case) -> Outcome<()> {
    let revoked = log_in(case.port).await?;
    let client = reqwest::Client::new();
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", case.port);
    let get = |token: &str| client.get(url("/protected")).bearer_auth(token).send();

    let accepted = get(&case.token).await?;
    assert_eq!((accepted.status().as_u16(), accepted.text().await?.as_str()), (200, ANSWER));
    assert_eq!(client.get(url("/protected")).send().await?.status(), 401);

    assert_eq!(get(&revoked).await?.status(), 200);
    let records: Vec<Value> =
        client.get(url("/auth/tokens?type=access&limit=1")).bearer_auth(&revoked).send().await?.json().await?;
    let jti = records[0]["token"]["jti"].as_str().ok_or("the list names no jti")?.to_owned();
    let revoke = client.put(url(&format!("/auth/tokens/revoke/{jti}"))).bearer_auth(&case.token);
    assert_eq!(revoke.send().await?.status(), 200);
    assert_eq!(get(&revoked).await?.status(), 401);
    Ok(())
}

async fn log_in(port: u16) -> Outcome<String> {
    let answer: Value = reqwest::Client::new()
        .post(format!("http://127.0.0.1:{port}/login"))
        .json(&json!({ "username": "bench", "password": "correct horse battery" }))
        .send()
        .await?
        .error_for_status()?
        .json()
        .await?;
    Ok(answer["access_token"].as_str().ok_or("no access token")?.to_owned())
}

async fn until_up(port: u16, path: &str) -> Outcome<()> {
    for _ in 0..200 {
        if let Ok(answer) = reqwest::get(format!("http://127.0.0.1:{port}{path}")).await
            && answer.status().is_success()
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!("no server came up on port {port}").into())
}

/// One round of load on one server.
fn load(case: &Case, seconds: u64) -> Outcome<Round> {
    let cpu = |case: &Case| (own_cpu_micros(case.server.id()), case.database.map_or(0, family_cpu_micros));
    let before = cpu(case);
    let output = Command::new("wrk")
        .args(["--threads", "1", "--connections", &CONNECTIONS.to_string(), "--duration", &format!("{seconds}s")])
        .args(["--header", &format!("Authorization: Bearer {}", case.token)])
        .arg(format!("http://127.0.0.1:{}/protected", case.port))
        .output()
        .map_err(|error| format!("wrk can't be run ({error}): install it"))?;
    let after = cpu(case);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() || text.contains("Non-2xx") || text.contains("Socket errors") {
        return Err(format!("{}: not every request succeeded\n{text}", case.name).into());
    }
    // "  123456 requests in 5.00s, 20.00MB read" and "Requests/sec:  24691.20"
    let number = |line: Option<&str>, word: usize| -> Outcome<f64> {
        Ok(line.and_then(|line| line.split_whitespace().nth(word)).ok_or("wrk's report can't be read")?.parse()?)
    };
    let requests = number(text.lines().find(|line| line.contains(" requests in ")), 0)?;
    let per_second = number(text.lines().find(|line| line.starts_with("Requests/sec:")), 1)?;
    #[expect(clippy::cast_precision_loss, reason = "microseconds of CPU in seconds of load are far below 2^52")]
    let each = |before: u64, after: u64| (after - before) as f64 / requests;
    Ok(Round { per_second, server_micros: each(before.0, after.0), database_micros: each(before.1, after.1) })
}

/// CPU time of one process, user and system, in microseconds (proc(5), `stat`, fields 14 and 15).
fn own_cpu_micros(pid: u32) -> u64 {
    let ticks = stat_fields(pid).map_or(0, |fields| field(&fields, 14) + field(&fields, 15));
    ticks * TICK_MICROS
}

/// CPU time of a process and its children, which for PostgreSQL is the whole server.
fn family_cpu_micros(pid: u32) -> u64 {
    let is_child = |other: u32| stat_fields(other).is_some_and(|fields| field(&fields, 4) == u64::from(pid));
    processes().filter(|other| *other == pid || is_child(*other)).map(own_cpu_micros).sum()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The fields of `/proc/<pid>/stat` from the third on; the second may contain spaces.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// A field by its number in proc(5).
fn field(fields: &[String], number: usize) -> u64 {
    fields.get(number - 3).and_then(|field| field.parse().ok()).unwrap_or(0)
}

fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn report(cases: &[Case], rounds: u32, seconds: u64) {
    println!(
        "{CONNECTIONS} keep-alive connections, {rounds} interleaved rounds of {seconds} s; median (lowest to highest)\n"
    );
    println!("| case | requests/s | of bare Rocket | server CPU µs a request | database CPU µs a request |");
    println!("| --- | --- | --- | --- | --- |");
    for case in cases {
        let per_second = case.rounds.iter().map(|round| round.per_second);
        let ratio = case.rounds.iter().zip(&cases[0].rounds).map(|(own, bare)| own.per_second / bare.per_second);
        let server = case.rounds.iter().map(|round| round.server_micros);
        let database = case.rounds.iter().map(|round| round.database_micros);
        println!(
            "| {} | {} | {} | {} | {} |",
            case.name,
            spread(per_second, 0),
            spread(ratio, 2),
            spread(server, 1),
            if case.database.is_some() { spread(database, 1) } else { "–".to_owned() },
        );
    }
}

/// The median, and the lowest and highest.
fn spread(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (Some(low), Some(high)) = (values.first(), values.last()) else { return "–".to_owned() };
    format!("{:.digits$} ({low:.digits$} to {high:.digits$})", values[values.len() / 2])
}
