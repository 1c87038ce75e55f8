//! Issuing through the library: many callers at once, each of which has its token when its record is durable.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::sqlite::SqliteSynchronous;
use sqlx::{Connection, Executor, PgConnection};

use crate::library::{Replica, issue_rate};
use crate::rows::sqlite;
use crate::setup::Setup;
use crate::statistics::ratio;
use crate::table::{PER_SECOND, Reach, Table};
use crate::{Bench, Outcome};

/// Sessions that the rows of a baseline belong to: many, so that its clients don't queue for the row of one.
const SESSIONS: i64 = 10_000;

/// The rest of a row, after its ids.
macro_rules! row {
    () => {
        r#"'user-1', 'access', 1750000000, 1750000000, 1750000900, '', '{"aud": ["https://bench.example"],"client_id": "counterfoil","exp": 1750000900,"fresh": false,"iat": 1750000000,"iss": "https://bench.example","jti": "01977420-dc00-7000-8000-000000000000","nbf": 1750000000,"sid": "01977420-dc00-7000-8000-000000000001","sub": "user-1","type": "access"}', 'kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k'"#
    };
}

/// What pgbench runs: one row in a transaction of its own. The claims are as long as those of a token, and spaced,
/// since pgbench takes a colon before a number for a variable.
const INSERT: &str = concat!(
    "\\set session random(1, 10000)\n",
    "insert into cf_tokens (jti, sid, subject, token_type, issued_at, not_before, expires_at, scope, claims, kid) ",
    "values (gen_random_uuid(), lpad(to_hex(:session::int), 32, '0')::uuid, ",
    row!(),
    ");\n"
);

/// Many such rows in one statement. What PostgreSQL takes for them no program can do without.
const INSERT_MANY: &str = concat!(
    "insert into cf_tokens (jti, sid, subject, token_type, issued_at, not_before, expires_at, scope, claims, kid) ",
    "select gen_random_uuid(), lpad(to_hex((random() * 9999)::int + 1), 32, '0')::uuid, ",
    row!(),
    " from generate_series(1, :rows);\n"
);

/// The same with what an issue writes besides: a session for each. No trigger looks at the references, as with an
/// issue.
const INSERT_WITH_SESSIONS: &str = concat!(
    "with noted as materialized (select set_config('counterfoil.noted', 'on', true)), ",
    "known as materialized (select gen_random_uuid() as sid from noted cross join generate_series(1, :rows)), ",
    "stored as (insert into cf_sessions (sid, subject, generation, created_at, last_seen_at, expires_at) ",
    "select sid, 'user-1', 0, 1750000000, 1750000000, 1750000900 from known) ",
    "insert into cf_tokens (jti, sid, subject, token_type, issued_at, not_before, expires_at, scope, claims, kid) ",
    "select gen_random_uuid(), sid, ",
    row!(),
    " from known;\n"
);

/// What PostgreSQL does by itself: so many rows in a statement, over so many connections.
struct Floor {
    script: PathBuf,
    what: &'static str,
    rows: u32,
    clients: u32,
    per_second: Vec<f64>,
}

impl Floor {
    /// As many rows as callers wait at most, by one and by two connections, since there are two cores. And with
    /// sessions as many as 16 callers can have under way, in batches of all of them, of a half and of a quarter, and as
    /// many as 64 and 256 can.
    fn all(folder: &Path) -> Outcome<[Self; 7]> {
        let script = |name, sql| {
            let script = folder.join(name);
            fs::write(&script, sql).map(|()| script)
        };
        let (tokens, sessions) = (script("many.sql", INSERT_MANY)?, script("sessions.sql", INSERT_WITH_SESSIONS)?);
        let floor = |script: &PathBuf, what, rows, clients| {
            let script = script.clone();
            Self { script, what, rows, clients, per_second: Vec::new() }
        };
        Ok([
            floor(&tokens, "the table alone", 256, 1),
            floor(&tokens, "the table alone", 256, 2),
            floor(&sessions, "the tables alone, with sessions", 16, 1),
            floor(&sessions, "the tables alone, with sessions", 8, 2),
            floor(&sessions, "the tables alone, with sessions", 4, 4),
            floor(&sessions, "the tables alone, with sessions", 32, 2),
            floor(&sessions, "the tables alone, with sessions", 128, 2),
        ])
    }
}

/// One way of issuing, at a number of callers, and what it is to reach.
struct Case<'a> {
    name: &'static str,
    replica: &'a Replica,
    callers: usize,
    reach: f64,
    per_second: Vec<f64>,
}

/// Beside `pgbench`, 16 clients, single-row inserts into the same table.
pub(crate) async fn on_postgres(bench: &Bench, table: &mut Table) -> Outcome<()> {
    let folder = bench.folder("issue")?;
    let setup = Setup::new(&bench.postgres.create("issue").await?, &folder);
    let script = folder.join("insert.sql");
    fs::write(&script, INSERT)?;
    let mut floors = Floor::all(&folder)?;
    // An HMAC takes less than a microsecond, so that what is left is the record.
    let recording = Replica::open(&setup.clone().with_secret()).await?;
    let signing = Replica::open(&setup).await?;
    let case = |name, replica, callers, reach| Case { name, replica, callers, reach, per_second: Vec::new() };
    let mut cases = [
        case("record only (HS256)", &recording, 16, 2.0),
        case("record only (HS256)", &recording, 64, 6.0),
        case("record only (HS256)", &recording, 256, 12.0),
        case("with signing (EdDSA)", &signing, 16, 1.5),
        case("with signing (EdDSA)", &signing, 64, 4.0),
        case("with signing (EdDSA)", &signing, 256, 7.0),
    ];
    let mut connection = bench.postgres.connect("issue").await?;
    let mut base = Vec::new();
    for round in 0..bench.options.rounds {
        bench.say("issue", format!("round {} of {}", round + 1, bench.options.rounds));
        empty(&mut connection).await?;
        base.push(bench.postgres.pgbench("issue", &script, 16, 1, bench.options.seconds)?);
        for floor in &mut floors {
            empty(&mut connection).await?;
            let (clients, rows) = (floor.clients, floor.rows);
            let statements = bench.postgres.pgbench("issue", &floor.script, clients, rows, bench.options.seconds)?;
            floor.per_second.push(f64::from(rows) * statements);
        }
        for case in &mut cases {
            empty(&mut connection).await?;
            let issued = issue_rate(&case.replica.registry, case.callers, bench.options.seconds).await?;
            let held: i64 = sqlx::query_scalar("select count(*) from cf_tokens").fetch_one(&mut connection).await?;
            are_held(issued.count, held)?;
            case.per_second.push(issued.per_second);
        }
    }
    for case in &cases {
        table.ratio(
            format!("issue, {}, {} callers, PostgreSQL", case.name, case.callers),
            PER_SECOND,
            &case.per_second,
            ("pgbench, 16 clients", &base),
            Reach::AtLeast(case.reach),
        );
    }
    for Floor { what, rows, clients, per_second, .. } in &floors {
        let figure = format!("{what}, {rows} rows a statement, {clients} connections, PostgreSQL");
        table.ratio(figure, PER_SECOND, per_second, ("pgbench, 16 clients", &base), Reach::Report);
    }
    drop(cases);
    recording.close().await;
    signing.close().await;
    bench.postgres.drop_database("issue").await?;
    Ok(())
}

/// An empty table, and the sessions of the baseline. What the last case left to be written out is not the next one's.
async fn empty(connection: &mut PgConnection) -> Outcome<()> {
    connection.execute("set session_replication_role = replica").await?;
    connection.execute("truncate cf_tokens, cf_sessions").await?;
    connection.execute("insert into cf_subjects (subject) values ('user-1') on conflict do nothing").await?;
    sqlx::query(
        "insert into cf_sessions (sid, subject, generation, created_at, last_seen_at, expires_at)
        select lpad(to_hex(i), 32, '0')::uuid, 'user-1', 0, 1750000000, 1750000000, 1750000900
        from generate_series(1, $1) as i",
    )
    .bind(SESSIONS)
    .execute(&mut *connection)
    .await?;
    connection.execute("checkpoint").await?;
    Ok(())
}

/// Fails where not everything that was said to be issued is on the registry.
fn are_held(issued: usize, held: i64) -> Outcome<()> {
    match usize::try_from(held)? == issued {
        true => Ok(()),
        false => Err(format!("{issued} tokens were issued, and {held} are on the registry").into()),
    }
}

/// Beside one transaction for each row, on one connection, in a file of its own.
pub(crate) async fn on_sqlite(bench: &Bench, table: &mut Table) -> Outcome<()> {
    let (mut base, mut floor) = (Vec::new(), Vec::new());
    let mut rates = [(16, 8.0, Vec::new()), (256, 20.0, Vec::new())];
    for round in 0..bench.options.rounds {
        bench.say("issue-sqlite", format!("round {} of {}", round + 1, bench.options.rounds));
        let folder = bench.folder(&format!("issue-sqlite-{round}"))?;
        base.push(inserts(&folder, "base.db", INSERT_ONE, bench.options.seconds).await?);
        floor.push(inserts(&folder, "floor.db", INSERT_SOME, bench.options.seconds).await?);
        for (callers, _, per_second) in &mut rates {
            // A new file for each, so that none finds a larger one than another.
            let (setup, file) = sqlite_setup(&folder, &format!("{callers}.db"));
            let replica = Replica::open(&setup).await?;
            let issued = issue_rate(&replica.registry, *callers, bench.options.seconds).await?;
            replica.close().await;
            let mut connection = sqlite(&file, SqliteSynchronous::Full).await?;
            let held = sqlx::query_scalar("select count(*) from cf_tokens").fetch_one(&mut connection).await?;
            connection.close().await?;
            are_held(issued.count, held)?;
            per_second.push(issued.per_second);
        }
        fs::remove_dir_all(&folder)?;
    }
    let base = ("one transaction for each row", base.as_slice());
    for (callers, reach, per_second) in &rates {
        let figure = format!("issue (EdDSA), {callers} callers, SQLite, `synchronous=FULL`");
        table.ratio(figure, PER_SECOND, per_second, base, Reach::AtLeast(*reach));
    }
    table.ratio("the table alone, 256 rows a statement, SQLite", PER_SECOND, &floor, base, Reach::Report);
    Ok(())
}

/// A row of the baseline on SQLite, and as many in one statement as callers wait at most.
const INSERT_ONE: &str = concat!(
    "insert into cf_tokens (jti, sid, subject, token_type, issued_at, not_before, expires_at, scope, claims, kid) ",
    "values (randomblob(16), unhex(printf('%032x', abs(random() % 10000) + 1)), ",
    row!(),
    ")"
);
const INSERT_SOME: &str = concat!(
    "with recursive n (i) as (select 1 union all select i + 1 from n where i < 256) ",
    "insert into cf_tokens (jti, sid, subject, token_type, issued_at, not_before, expires_at, scope, claims, kid) ",
    "select randomblob(16), unhex(printf('%032x', abs(random() % 10000) + 1)), ",
    row!(),
    " from n"
);

fn sqlite_setup(folder: &Path, name: &str) -> (Setup, PathBuf) {
    let file = folder.join(name);
    (Setup::new(&format!("sqlite://{}", file.display()), folder), file)
}

/// How many rows a second a statement adds, each time in a transaction of its own.
async fn inserts(folder: &Path, name: &str, statement: &'static str, seconds: u64) -> Outcome<f64> {
    let (setup, file) = sqlite_setup(folder, name);
    counterfoil::Registry::migrate(&setup.settings()?).await?;
    let mut connection = sqlite(&file, SqliteSynchronous::Full).await?;
    connection.execute("insert into cf_subjects (subject) values ('user-1')").await?;
    sqlx::query(
        "with recursive n (i) as (select 1 union all select i + 1 from n where i < ?1)
        insert into cf_sessions (sid, subject, generation, created_at, last_seen_at, expires_at)
        select unhex(printf('%032x', i)), 'user-1', 0, 1750000000, 1750000000, 1750000900 from n",
    )
    .bind(SESSIONS)
    .execute(&mut connection)
    .await?;
    let began = Instant::now();
    let until = began + Duration::from_secs(seconds);
    let mut inserted = 0;
    while Instant::now() < until {
        inserted += sqlx::query(statement).execute(&mut connection).await?.rows_affected();
    }
    let took = began.elapsed().as_secs_f64();
    connection.close().await?;
    Ok(ratio(usize::try_from(inserted)?, 1) / took)
}
