//! What keeps a registry in order: migrations, the purge, the audit, the settings.

use std::io::IsTerminal;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::output::{Failure, Output, Table, count, or_dash, time};
use super::{Limit, act, open, settings};
use crate::config::Settings;
use crate::error::Error;
use crate::http;
use crate::registry::{AuditFilter, Registry};
use crate::token::{Outcome, rfc3339};

#[derive(Debug, Args)]
pub(super) struct Purge {
    /// Say how many records would go, and leave them.
    #[arg(long)]
    dry_run: bool,
    /// Show the last runs, whether one goes on just now, and how many records would go.
    #[arg(long, conflicts_with = "dry_run")]
    status: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: counterfoil audit --subject alice --action token.revoked")]
pub(super) struct Audit {
    /// What was done to this subject alone.
    #[arg(long)]
    subject: Option<String>,
    /// What this actor did alone: its name, without the kind that stands before it.
    #[arg(long)]
    actor: Option<String>,
    /// Acts of this kind alone, such as token.revoked.
    #[arg(long)]
    action: Option<String>,
    /// What was done to this alone: the id of a token or session, the name of a user or client, the id of a key.
    #[arg(long)]
    target: Option<String>,
    /// The next page: entries from before this one.
    #[arg(long, value_name = "ID")]
    before: Option<i64>,
    #[command(flatten)]
    limit: Limit,
}

pub(super) async fn migrate(output: &Output) -> Result<(), Failure> {
    let applied = Registry::migrate(&settings()?).await?;
    output.answer(&json!({ "applied": applied }), || match applied.as_slice() {
        [] => "Nothing to apply: the schema is up to date.\n".to_owned(),
        applied => format!("Applied {}: {}.\n", count(applied.len() as u64, "migration"), applied.join(", ")),
    })
}

pub(super) async fn purge(command: Purge, output: &Output) -> Result<(), Failure> {
    let registry = open().await?;
    let done = match command {
        Purge { status: true, .. } => purge_status(&registry, output).await,
        Purge { dry_run: true, .. } => would_purge(&registry, output).await,
        Purge { .. } => purge_now(&registry, output).await,
    };
    registry.close().await;
    done
}

async fn would_purge(registry: &Registry, output: &Output) -> Result<(), Failure> {
    let records = registry.purgeable().await?;
    output.answer(&json!({ "would_purge": records }), || format!("Would purge {}.\n", count(records, "record")))
}

async fn purge_status(registry: &Registry, output: &Output) -> Result<(), Failure> {
    let status = registry.purge_status().await?;
    // When this process purges next means nothing: it ends here.
    let answer = json!({ "running": status.running, "backlog": status.backlog, "runs": status.runs });
    output.answer(&answer, || {
        let mut table = Table::new(["STARTED", "TOOK", "RECORDS", "OUTCOME", "PROCESS"]);
        for run in &status.runs {
            table.row([
                rfc3339(run.started_at),
                or_dash(run.ended_at.map(|ended| format!("{} s", (ended - run.started_at).num_seconds()))),
                run.records.to_string(),
                match run.outcome(status.running.as_ref()) {
                    Outcome::Failed(error) => format!("failed: {error}"),
                    Outcome::Complete => "complete".to_owned(),
                    Outcome::SomeLeft => "some are left".to_owned(),
                    Outcome::Running => "running".to_owned(),
                    Outcome::Killed => "killed".to_owned(),
                },
                run.process.clone(),
            ]);
        }
        let runs = table.render("No run is known.");
        format!("{} would go now.\n\n{runs}", count(status.backlog, "record"))
    })
}

async fn purge_now(registry: &Registry, output: &Output) -> Result<(), Failure> {
    let progress = if std::io::stderr().is_terminal() && !output.is_json() {
        let style = ProgressStyle::with_template("Purging {wide_bar} {human_pos}/{human_len} {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(registry.purgeable().await?).with_style(style)
    } else {
        ProgressBar::hidden()
    };
    registry.purge_asked(&act(None)?).await?;
    let mut records = 0;
    // One run ends when its budget does; here somebody waits for all of it.
    loop {
        let purged = registry.purge_with(|gone| progress.set_position(records + gone)).await?;
        records += purged.tokens;
        if purged.complete {
            break;
        }
        if purged.elsewhere {
            progress.finish_and_clear();
            return Err(Error::unavailable(format!(
                "another process is purging just now ({} removed here): try again when it is done",
                count(records, "record")
            ))
            .into());
        }
    }
    progress.finish_and_clear();
    output.answer(&json!({ "purged": records }), || format!("Purged {}.\n", count(records, "record")))
}

pub(super) async fn audit(command: Audit, output: &Output) -> Result<(), Failure> {
    let Limit { limit } = command.limit;
    let filter = AuditFilter {
        subject: command.subject,
        actor: command.actor,
        action: command.action,
        target: command.target,
        before: command.before,
        limit,
    };
    let registry = open().await?;
    let events = registry.audit(&filter).await;
    registry.close().await;
    let events = events?;
    if let Some(last) = events.last().filter(|_| events.len() == usize::from(limit)) {
        output.more("--before", &last.id.to_string());
    }
    output.answer(&events, || {
        let mut table = Table::new(["ID", "AT", "ACTOR", "ACTION", "SUBJECT", "TARGET", "ADDRESS", "REASON"]);
        for event in &events {
            table.row([
                event.id.to_string(),
                rfc3339(event.at),
                format!("{} {}", event.actor.kind, event.actor.name),
                event.action.clone(),
                or_dash(event.subject.as_deref()),
                or_dash(event.target.as_deref()),
                or_dash(event.ip.as_deref()),
                or_dash(event.reason.as_deref()),
            ]);
        }
        table.render("No entries.")
    })
}

pub(super) async fn replicas(output: &Output) -> Result<(), Failure> {
    let registry = open().await?;
    let roll = registry.replicas().await;
    let now = registry.seconds();
    registry.close().await;
    let roll = roll?;
    let replicas: Vec<Value> = roll
        .replicas
        .iter()
        .map(|replica| {
            json!({
                "id": replica.id, "name": replica.name, "lease_ms": replica.lease_ms, "applied": replica.applied,
                "behind": roll.behind(replica), "joined_at": time(replica.joined_at), "seen_at": time(replica.seen_at),
            })
        })
        .collect();
    output.answer(&replicas, || {
        let mut table = Table::new(["NAME", "SEEN", "APPLIED", "BEHIND", "LEASE", "JOINED", "ID"]);
        for replica in &roll.replicas {
            table.row([
                replica.name.clone(),
                format!("{} s ago", (now - replica.seen_at).max(0)),
                replica.applied.to_string(),
                roll.behind(replica).to_string(),
                format!("{} ms", replica.lease_ms),
                time(replica.joined_at),
                replica.id.to_string(),
            ]);
        }
        table.render("No process answers from memory.")
    })
}

pub(super) fn config(output: &Output) -> Result<(), Failure> {
    let explained = Settings::explain(&http::figment())?;
    let settings: Vec<Value> = explained
        .iter()
        .map(|setting| json!({ "key": setting.key, "value": setting.value, "source": setting.source }))
        .collect();
    output.answer(&settings, || {
        let mut table = Table::new(["SETTING", "VALUE", "SOURCE"]);
        for setting in &explained {
            let value = match &setting.value {
                Value::Null => "-".to_owned(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            table.row([setting.key.clone(), value, setting.source.clone()]);
        }
        table.render("No settings.")
    })
}
