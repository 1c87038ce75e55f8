//! `counterfoil client`: the programs that call the endpoints for other services.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{Failure, Output, Table, describe, or_dash};
use super::{Limit, Why, act, open, union};
use crate::clients::{Client, ClientChange, Clients, NewClient, NewSecret};
use crate::error::Error;
use crate::token::{Scopes, rfc3339};

#[derive(Debug, Subcommand)]
pub(super) enum ClientCommand {
    /// Add a client, and print its id and its secret, this once.
    #[command(
        after_help = "Example: counterfoil client add shop --scope tokens:issue --grant-scope 'cart:read cart:write'"
    )]
    Add(Add),
    /// List the clients by name.
    List {
        #[command(flatten)]
        limit: Limit,
        /// From after this name on.
        #[arg(long, value_name = "NAME")]
        after: Option<String>,
    },
    /// Change a client. Taking a scope away ends the client's own tokens.
    Set(Set),
    /// Give a client another secret, and print it, this once. The one before stays good for an hour; after a leak use
    /// --overlap 0s.
    RotateSecret {
        /// The client's id or name.
        client: String,
        /// For how long the secret before is good beside it, 30d at most.
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
        overlap: Duration,
        #[command(flatten)]
        why: Why,
    },
    /// Refuse a client's calls, and end its own tokens.
    Disable {
        /// The client's id or name.
        client: String,
        #[command(flatten)]
        why: Why,
    },
    /// Accept a disabled client's calls again.
    Enable {
        /// The client's id or name.
        client: String,
        #[command(flatten)]
        why: Why,
    },
    /// Remove a client, and end its own tokens.
    Delete {
        /// The client's id or name.
        client: String,
        #[command(flatten)]
        why: Why,
    },
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// What to call it, 1 to 100 characters.
    name: String,
    /// What it may do: `tokens:issue`, `tokens:introspect`, or scopes of your own for the tokens it gets for itself.
    /// May be given more than once.
    #[arg(long = "scope", value_name = "SCOPE")]
    scope: Vec<Scopes>,
    /// A scope that it may put into tokens of others.
    #[arg(long = "grant-scope", value_name = "SCOPE")]
    grant_scope: Vec<Scopes>,
    /// An audience, beside the issuer, that it may put into tokens of others.
    #[arg(long = "audience", value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// An audience that it serves: where it asks about tokens, it learns of those for its audiences alone.
    #[arg(long = "serves", value_name = "AUDIENCE")]
    serves: Vec<String>,
    /// Let whoever holds a refresh token that it got refresh it at /refresh, without its secret.
    #[arg(long)]
    first_party: bool,
    #[command(flatten)]
    why: Why,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true)
    .args(["new_name", "scope", "grant_scope", "audience", "serves", "first_party"]))]
pub(super) struct Set {
    /// The client's id or name.
    client: String,
    /// Another name.
    #[arg(long = "name", value_name = "NAME")]
    new_name: Option<String>,
    /// What it may do from now on, instead of all it might before; an empty one takes all away.
    #[arg(long = "scope", value_name = "SCOPE")]
    scope: Vec<Scopes>,
    /// The scopes that it may put into tokens of others, instead of those before.
    #[arg(long = "grant-scope", value_name = "SCOPE")]
    grant_scope: Vec<Scopes>,
    /// The audiences that it may put into tokens of others, instead of those before; an empty one takes all away.
    #[arg(long = "audience", value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// The audiences that it serves, instead of those before; an empty one lifts the limit.
    #[arg(long = "serves", value_name = "AUDIENCE")]
    serves: Vec<String>,
    /// Whether whoever holds a refresh token that it got may refresh it at /refresh.
    #[arg(long, value_name = "BOOL")]
    first_party: Option<bool>,
    #[command(flatten)]
    why: Why,
}

pub(super) async fn run(command: ClientCommand, output: &Output) -> Result<(), Failure> {
    let registry = open().await?;
    let done = act_on(command, &Clients::new(&registry), output).await;
    registry.close().await;
    done
}

async fn act_on(command: ClientCommand, clients: &Clients, output: &Output) -> Result<(), Failure> {
    match command {
        ClientCommand::Add(add) => {
            let new = NewClient {
                name: add.name,
                scope: union(&add.scope)?,
                grant_scope: union(&add.grant_scope)?,
                audience: add.audience,
                serves: Some(add.serves).filter(|serves| !serves.is_empty()),
                first_party: add.first_party,
            };
            let (client, secret) = clients.add(new, &act(add.why.reason)?).await?;
            output.answer_once(&with_secret(&client, &secret)?, || {
                let id = ("client_id", Some(client.id().to_owned()));
                describe(&[id, ("client_secret", Some(secret.clone()))])
            })
        }
        ClientCommand::List { limit: Limit { limit }, after } => {
            let found = clients.list(after.as_deref(), limit).await?;
            if let Some(last) = found.last().filter(|_| found.len() == usize::from(limit)) {
                output.more("--after", last.name());
            }
            output.answer(&found, || table(&found))
        }
        ClientCommand::Set(set) => {
            let client = clients.find(&set.client).await?;
            let scopes = |given: &[Scopes]| (!given.is_empty()).then(|| union(given)).transpose();
            let audiences = |given: Vec<String>| {
                (!given.is_empty()).then(|| given.into_iter().filter(|aud| !aud.is_empty()).collect::<Vec<_>>())
            };
            let change = ClientChange {
                name: set.new_name,
                scope: scopes(&set.scope)?,
                grant_scope: scopes(&set.grant_scope)?,
                audience: audiences(set.audience),
                serves: audiences(set.serves).map(|serves| Some(serves).filter(|serves| !serves.is_empty())),
                first_party: set.first_party,
                disabled: None,
            };
            let client = clients.set(&client, change, &act(set.why.reason)?).await?;
            output.answer(&client, || format!("Changed {}.\n", client.name()))
        }
        ClientCommand::RotateSecret { client, overlap, why } => {
            let client = clients.find(&client).await?;
            let NewSecret { client, secret, in_force } =
                clients.rotate_secret(&client, overlap, &act(why.reason)?).await?;
            output.answer_once(&with_secret(&client, &secret)?, || {
                let id = ("client_id", Some(client.id().to_owned()));
                let old_until = client
                    .old_secret_until()
                    .map_or_else(|| "refused from now on".to_owned(), |until| format!("good until {}", rfc3339(until)));
                describe(&[id, ("client_secret", Some(secret.clone())), ("old secret", Some(old_until))])
            })?;
            in_force.map_err(Failure::from)
        }
        ClientCommand::Disable { client, why } => {
            let client = disable(clients, &client, true, why).await?;
            output.answer(&client, || format!("Disabled {}; its own tokens are ended.\n", client.name()))
        }
        ClientCommand::Enable { client, why } => {
            let client = disable(clients, &client, false, why).await?;
            output.answer(&client, || format!("Enabled {}.\n", client.name()))
        }
        ClientCommand::Delete { client, why } => {
            let client = clients.find(&client).await?;
            clients.delete(&client, &act(why.reason)?).await?;
            output.answer(&client, || format!("Deleted {}; its own tokens are ended.\n", client.name()))
        }
    }
}

async fn disable(clients: &Clients, client: &str, disabled: bool, why: Why) -> Result<Client, Error> {
    let client = clients.find(client).await?;
    let change = ClientChange { disabled: Some(disabled), ..ClientChange::default() };
    clients.set(&client, change, &act(why.reason)?).await
}

fn with_secret(client: &Client, secret: &str) -> Result<Value, Error> {
    let mut answer = serde_json::to_value(client)
        .map_err(|error| Error::internal("the client can't be written as JSON").with_source(error))?;
    answer["client_secret"] = json!(secret);
    Ok(answer)
}

fn table(clients: &[Client]) -> String {
    let mut table = Table::new(["NAME", "CLIENT ID", "STATE", "SCOPES", "GRANTS"]);
    for client in clients {
        let state = if client.is_live() { "enabled" } else { "disabled" };
        let shown = |scopes: &Scopes| or_dash(Some(scopes.to_string()).filter(|text| !text.is_empty()));
        table.row([
            client.name().to_owned(),
            client.id().to_owned(),
            state.to_owned(),
            shown(client.scope()),
            shown(client.grant_scope()),
        ]);
    }
    table.render("No clients.")
}
