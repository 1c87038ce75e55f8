//! `counterfoil token`: issuing, looking at and revoking tokens.

use std::net::IpAddr;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{Failure, Output, Table, count, describe, error_code, or_dash, time};
use super::{Limit, Why, act, input, note_unrecorded, open, union};
use crate::clients::Clients;
use crate::error::{Error, Kind};
use crate::registry::{Grant, Inspected, Registry, require_free};
use crate::token::{Cursor, Denial, Filter, Jti, Record, Scopes, Sid, State, Subject, TokenType, rfc3339};

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Issue tokens for a subject, in a session of their own.
    #[command(
        after_help = "Example: counterfoil token issue --subject ci --scope deploy --no-refresh --access-expires 90d"
    )]
    Issue(Box<Issue>),
    /// List records, newest first.
    #[command(after_help = "Example: counterfoil token list --subject alice --state live")]
    List(List),
    /// Show the record of a token.
    Show {
        /// The id of the token.
        jti: Jti,
    },
    /// Revoke a token. It is refused everywhere when this returns.
    Revoke {
        /// The id of the token.
        jti: Jti,
        #[command(flatten)]
        why: Why,
    },
    /// Undo a revocation that was made by jti.
    Unrevoke {
        /// The id of the token.
        jti: Jti,
        #[command(flatten)]
        why: Why,
    },
    /// Say whether the token on standard input is live, and why not. Exit status 1 where it is not.
    #[command(after_help = "Example: counterfoil token verify < token.txt")]
    Verify,
    /// Put tokens that were issued elsewhere on the registry: one a line on standard input.
    #[command(after_help = "\
Their key must be the current one or among `keys.accept`. A token that is on the registry already is left as it is, so \
the command can be repeated.

Example: counterfoil token import < tokens.txt")]
    Import,
}

#[derive(Debug, Args)]
pub(super) struct Issue {
    /// Whom the tokens speak for.
    #[arg(long)]
    subject: Subject,
    /// A scope to have; may be given more than once.
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<Scopes>,
    /// Whom the access token is meant for, instead of the issuer; may be given more than once.
    #[arg(long)]
    audience: Vec<String>,
    /// Make the access token fresh, as after a log-in.
    #[arg(long)]
    fresh: bool,
    /// Issue an access token alone.
    #[arg(long)]
    no_refresh: bool,
    /// Issue a personal token: an access token alone, never fresh, that its subject sees among its own. It lasts as
    /// long as `personal.max_expires` says, unless --access-expires does.
    #[arg(long, requires = "label", conflicts_with_all = ["fresh", "refresh_expires"])]
    personal: bool,
    /// How long access tokens last, such as 15m.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    access_expires: Option<Duration>,
    /// How long the refresh token lasts, such as 30d.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with = "no_refresh")]
    refresh_expires: Option<Duration>,
    /// A name for the device or program, at most 100 characters.
    #[arg(long)]
    label: Option<String>,
    /// An additional claim, its value in JSON: 'tenant="acme"'; may be given more than once.
    #[arg(long, value_name = "NAME=JSON", value_parser = parse_claim)]
    claim: Vec<(String, Value)>,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Of this subject alone.
    #[arg(long)]
    subject: Option<Subject>,
    /// Of this type alone: access or refresh.
    #[arg(long = "type", value_name = "TYPE")]
    token_type: Option<TokenType>,
    /// In this state alone: live, revoked or expired.
    #[arg(long)]
    state: Option<State>,
    /// Of this session alone.
    #[arg(long, value_name = "SID")]
    session: Option<Sid>,
    /// Asked for by this client alone, by its id or its recorded name.
    #[arg(long)]
    client: Option<String>,
    /// Asked for from this address alone.
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    #[command(flatten)]
    limit: Limit,
    /// The next page, by what the page before said.
    #[arg(long)]
    cursor: Option<Cursor>,
}

pub(super) async fn run(command: TokenCommand, output: &Output) -> Result<(), Failure> {
    // Read before the database is opened, so that no connection waits for a person.
    let presented = match command {
        TokenCommand::Verify => Some(input::token()?),
        _ => None,
    };
    let registry = open().await?;
    let done = act_on(command, presented.unwrap_or_default(), &registry, output).await;
    registry.close().await;
    done
}

async fn act_on(command: TokenCommand, presented: String, registry: &Registry, output: &Output) -> Result<(), Failure> {
    match command {
        TokenCommand::Issue(issue) => self::issue(*issue, registry, output).await,
        TokenCommand::List(list) => self::list(list, registry, output).await,
        TokenCommand::Show { jti } => {
            let record = registry.get(jti).await?;
            output.answer(&record, || describe_record(&record, registry))
        }
        TokenCommand::Revoke { jti, why } => {
            note_unrecorded(registry, output);
            registry.revoke(jti, act(why.reason)?).await?;
            let record = registry.get(jti).await?;
            output.answer(&record, || format!("Revoked {jti}, {} token of {}.\n", record.token_type, record.subject))
        }
        TokenCommand::Unrevoke { jti, why } => {
            registry.unrevoke(jti, act(why.reason)?).await?;
            let record = registry.get(jti).await?;
            output.answer(&record, || format!("Unrevoked {jti}, {} token of {}.\n", record.token_type, record.subject))
        }
        TokenCommand::Verify => verify(&presented, registry, output).await,
        TokenCommand::Import => import(registry, output).await,
    }
}

async fn issue(issue: Issue, registry: &Registry, output: &Output) -> Result<(), Failure> {
    require_free(&issue.subject)?;
    if Clients::new(registry).get(issue.subject.as_str()).await?.is_some() {
        let sentence = "The subject is a client, and gets its tokens itself";
        return Err(Error::new(Kind::Reserved, sentence).into());
    }
    let mut grant = Grant::to(issue.subject).scope(union(&issue.scope)?).fresh(issue.fresh).audience(issue.audience)?;
    if issue.no_refresh {
        grant = grant.without_refresh();
    }
    if issue.personal {
        grant = grant.personal().access_expires(registry.settings().personal_max_expires);
    }
    if let Some(lifetime) = issue.access_expires {
        grant = grant.access_expires(lifetime);
    }
    if let Some(lifetime) = issue.refresh_expires {
        grant = grant.refresh_expires(lifetime);
    }
    if let Some(label) = issue.label {
        grant = grant.label(label)?;
    }
    for (name, value) in issue.claim {
        grant = grant.claim(name, value)?;
    }
    // A token for a program's hand is no cookie, and needs no double-submit value.
    let issued = registry.issue(grant.cookies(false)).await?;
    let mut records = Vec::new();
    for claims in [Some(issued.access_claims()), issued.refresh_claims()].into_iter().flatten() {
        match registry.get(claims.jti).await {
            Ok(record) => records.push(record),
            // With `check = "refresh"` the access token has none.
            Err(error) if error.is_not_found() => note_unrecorded(registry, output),
            Err(error) => return Err(error.into()),
        }
    }
    let mut answer = serde_json::to_value(&issued)
        .map_err(|error| Error::internal("the tokens can't be written as JSON").with_source(error))?;
    answer["records"] = json!(records);
    output.answer(&answer, || {
        let access = issued.access_claims();
        describe(&[
            ("access token", Some(issued.access_token().to_owned())),
            ("  jti", Some(access.jti.to_string())),
            ("  expires", Some(time(access.exp))),
            ("refresh token", issued.refresh_token().map(str::to_owned)),
            ("  jti", issued.refresh_claims().map(|claims| claims.jti.to_string())),
            ("  expires", issued.refresh_claims().map(|claims| time(claims.exp))),
            ("session", Some(access.sid.to_string())),
        ])
    })
}

async fn list(list: List, registry: &Registry, output: &Output) -> Result<(), Failure> {
    note_unrecorded(registry, output);
    let mut filter = list.subject.map_or_else(Filter::all, Filter::subject).limit(list.limit.limit)?;
    if let Some(token_type) = list.token_type {
        filter = filter.token_type(token_type);
    }
    if let Some(state) = list.state {
        filter = filter.state(state);
    }
    if let Some(session) = list.session {
        filter = filter.session(session);
    }
    if let Some(client) = list.client {
        filter = filter.client(client)?;
    }
    if let Some(address) = list.address {
        filter = filter.address(address);
    }
    if let Some(cursor) = list.cursor {
        filter = filter.after(cursor);
    }
    let page = registry.search(&filter).await?;
    let records = page.records;
    if let Some(next) = page.next {
        output.more("--cursor", &next.to_string());
    }
    output.answer(&records, || {
        let mut table = Table::new(["JTI", "TYPE", "STATE", "SUBJECT", "ISSUED", "EXPIRES", "LABEL"]);
        for record in &records {
            table.row([
                record.jti.to_string(),
                record.token_type.to_string(),
                record.state(registry.live_at()).as_str().to_owned(),
                record.subject.to_string(),
                rfc3339(record.issued_at),
                rfc3339(record.expires_at),
                or_dash(record.label.as_deref()),
            ]);
        }
        table.render("No tokens.")
    })
}

async fn verify(token: &str, registry: &Registry, output: &Output) -> Result<(), Failure> {
    let Inspected { verdict, record } = registry.inspect(token).await?;
    let Some(denial) = verdict else {
        return output.answer(&json!({ "live": true, "record": record }), || match &record {
            Some(record) => format!("The token is live.\n\n{}", describe_record(record, registry)),
            None => "The token is live, by its signature and times: it is of a kind that is not on the registry.\n"
                .to_owned(),
        });
    };
    let revocation = record.as_ref().and_then(|record| record.revocation.as_ref());
    let answer = json!({
        "live": false,
        "error": denial.code(),
        "msg": denial.message(),
        "revoked_by": revocation.map(|revocation| &revocation.by),
        "final": revocation.map(|revocation| revocation.is_final),
        "record": record,
    });
    Err(output.answer_no(&answer, || {
        let mut text = format!("The token is not live: {}.\n", why(&denial));
        if let Some(record) = &record {
            text.push('\n');
            text.push_str(&describe_record(record, registry));
        }
        text
    }))
}

/// Why a token is not live, for an operator.
fn why(denial: &Denial) -> &'static str {
    match denial {
        Denial::Malformed => "it is not a signed JWT",
        Denial::Invalid => "its signature, algorithm, key, issuer or claims are not this registry's",
        Denial::Expired => "it has expired",
        Denial::NotYetValid => "its time has not come yet",
        Denial::Revoked => "it has been revoked",
        Denial::Unknown => "it is well signed, but not on the registry",
        _ => "it is refused",
    }
}

async fn import(registry: &Registry, output: &Output) -> Result<(), Failure> {
    let (mut imported, mut known, mut refused) = (0_u64, 0_u64, Vec::new());
    for (index, line) in input::lines().enumerate() {
        let line = line?;
        let token = line.trim();
        if token.is_empty() {
            continue;
        }
        match registry.import(token).await {
            Ok(_) => imported += 1,
            Err(error) if error.is_conflict() => known += 1,
            Err(error) if error.is_invalid() => refused.push((index + 1, error)),
            Err(error) => return Err(error.into()),
        }
    }
    let report: Vec<Value> = refused
        .iter()
        .map(|(line, error)| json!({ "line": line, "error": error_code(error), "msg": error.to_string() }))
        .collect();
    let answer = json!({ "imported": imported, "known": known, "refused": report });
    let told = || {
        let mut text = format!("Imported {}", count(imported, "token"));
        if known > 0 {
            text.push_str(&format!("; {known} on the registry already"));
        }
        text.push_str(".\n");
        for (line, error) in &refused {
            text.push_str(&format!("Line {line}: {error}\n"));
        }
        text
    };
    if refused.is_empty() { output.answer(&answer, told) } else { Err(output.answer_no(&answer, told)) }
}

fn describe_record(record: &Record, registry: &Registry) -> String {
    let revocation = record.revocation.as_ref();
    let claims = serde_json::to_string(&record.token).unwrap_or_default();
    describe(&[
        ("jti", Some(record.jti.to_string())),
        ("type", Some(record.token_type.to_string())),
        ("state", Some(record.state(registry.live_at()).as_str().to_owned())),
        ("subject", Some(record.subject.to_string())),
        ("session", Some(record.sid.to_string())),
        ("scopes", Some(record.scope.to_string()).filter(|scope| !scope.is_empty())),
        ("issued", Some(rfc3339(record.issued_at))),
        ("expires", Some(rfc3339(record.expires_at))),
        ("last used", record.last_used_at.map(rfc3339)),
        ("revoked", revocation.map(|revocation| rfc3339(revocation.at))),
        ("  by", revocation.map(|revocation| format!("{} {}", revocation.by.kind, revocation.by.name))),
        ("  why", revocation.and_then(|revocation| revocation.reason.clone())),
        ("  undoable", revocation.map(|revocation| if revocation.is_final { "no" } else { "yes" }.to_owned())),
        ("label", record.label.clone()),
        ("client", record.client.clone()),
        ("ip", record.ip.clone()),
        ("user agent", record.user_agent.clone()),
        ("claims", Some(claims)),
    ])
}

fn parse_claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("a claim is written NAME=JSON")?;
    let value = serde_json::from_str(value)
        .map_err(|_| format!("{value} is not JSON; text is written '{name}=\"{value}\"'"))?;
    Ok((name.to_owned(), value))
}
