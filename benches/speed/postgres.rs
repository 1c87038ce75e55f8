//! A throw-away PostgreSQL whose commits are durable.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::Outcome;

/// `scripts/postgres` keeps it for as long as its standard input is open.
pub(crate) struct Postgres {
    script: Child,
    port: u16,
    programs: PathBuf,
    /// Its first process.
    pub(crate) pid: u32,
}

impl Postgres {
    pub(crate) fn start() -> Outcome<Self> {
        let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/postgres"))
            .args(["--control", "--durable"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        // Its port, its directory and that of its programs, a line each.
        let mut lines = BufReader::new(script.stdout.take().ok_or("no standard output")?).lines();
        let mut line = || lines.next().ok_or("PostgreSQL does not start")?.map_err(Box::<dyn std::error::Error>::from);
        let (port, folder, programs) = (line()?.parse()?, line()?, line()?.into());
        let pid_file = fs::read_to_string(Path::new(&folder).join("data/postmaster.pid"))?;
        let pid = pid_file.lines().next().ok_or("PostgreSQL's process has no id")?.trim().parse()?;
        Ok(Self { script, port, programs, pid })
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://counterfoil@127.0.0.1:{}/{database}", self.port)
    }

    pub(crate) async fn connect(&self, database: &str) -> Outcome<PgConnection> {
        Ok(PgConnection::connect(&self.url(database)).await?)
    }

    /// Makes an empty database, and gives its URL.
    pub(crate) async fn create(&self, database: &str) -> Outcome<String> {
        self.administer(format!("create database {database}")).await?;
        Ok(self.url(database))
    }

    /// Makes a copy of a database that nobody is connected to.
    pub(crate) async fn copy(&self, from: &str, to: &str) -> Outcome<()> {
        self.administer(format!("create database {to} template {from} strategy file_copy")).await
    }

    pub(crate) async fn drop_database(&self, database: &str) -> Outcome<()> {
        self.administer(format!("drop database {database} with (force)")).await
    }

    /// The names of databases are this program's own.
    async fn administer(&self, sql: String) -> Outcome<()> {
        let mut connection = self.connect("postgres").await?;
        connection.execute(AssertSqlSafe(sql)).await?;
        connection.close().await?;
        Ok(())
    }

    /// Transactions a second of this script, which may ask for so many `:rows`: prepared statements, clients on 2
    /// threads.
    pub(crate) fn pgbench(&self, database: &str, script: &Path, clients: u32, rows: u32, seconds: u64) -> Outcome<f64> {
        let output = Command::new(self.programs.join("pgbench"))
            .args(["--no-vacuum", "--protocol", "prepared", "--client", &clients.to_string()])
            .args(["--define", &format!("rows={rows}")])
            .args(["--jobs", &clients.min(2).to_string()])
            .args(["--time", &seconds.to_string(), "--host", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--username", "counterfoil", "--file"])
            .arg(script)
            .arg(database)
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        // "tps = 14231.123456 (without initial connection time)"
        let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")).and_then(|rest| rest.split(' ').next());
        match rate {
            Some(rate) if output.status.success() => Ok(rate.parse()?),
            _ => Err(format!("pgbench failed: {}", String::from_utf8_lossy(&output.stderr)).into()),
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

/// Writes out what is in memory only, so that the next measurement doesn't pay for what came before.
pub(crate) async fn settle(connection: &mut PgConnection) -> Outcome<()> {
    connection.execute("vacuum (analyze)").await?;
    connection.execute("checkpoint").await?;
    Ok(())
}
