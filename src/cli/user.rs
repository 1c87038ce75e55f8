//! `counterfoil user`: the users of the server.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};

use super::output::{Failure, Output, Table};
use super::{Limit, Why, act, input, open, union};
use crate::accounts::{ADMIN_SCOPE, Accounts, User};
use crate::token::{Scopes, Subject};

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Add a user; the password is read from a prompt or standard input.
    #[command(after_help = PASSWORD_HELP)]
    Add {
        /// The username.
        name: Subject,
        #[command(flatten)]
        scopes: NewScopes,
        #[command(flatten)]
        why: Why,
    },
    /// List the users by name.
    List {
        #[command(flatten)]
        limit: Limit,
        /// From after this name on.
        #[arg(long, value_name = "NAME")]
        after: Option<String>,
    },
    /// Change a user's scopes. Access tokens that hold a scope which is taken away are revoked.
    #[command(
        after_help = "Example: counterfoil user set alice --add-scope notes:write",
        group = clap::ArgGroup::new("change").required(true).multiple(true).args(["scope", "add", "remove"]),
    )]
    Set {
        /// The username.
        name: Subject,
        /// The scopes to have from now on, instead of all others; an empty one takes all away.
        #[arg(long = "scope", value_name = "SCOPE", conflicts_with_all = ["add", "remove"])]
        scope: Vec<Scopes>,
        /// A scope to add.
        #[arg(long = "add-scope", value_name = "SCOPE")]
        add: Vec<Scopes>,
        /// A scope to take away.
        #[arg(long = "remove-scope", value_name = "SCOPE")]
        remove: Vec<Scopes>,
        #[command(flatten)]
        why: Why,
    },
    /// Change a user's password, and end the user's sessions.
    #[command(after_help = PASSWORD_HELP)]
    Passwd {
        /// The username.
        name: Subject,
        /// Leave the user's sessions as they are.
        #[arg(long)]
        keep_sessions: bool,
        #[command(flatten)]
        why: Why,
    },
    /// Refuse a user's log-ins, and end the user's sessions.
    Disable {
        /// The username.
        name: Subject,
        #[command(flatten)]
        why: Why,
    },
    /// Accept a disabled user's log-ins again.
    Enable {
        /// The username.
        name: Subject,
        #[command(flatten)]
        why: Why,
    },
    /// Remove a user, and end the user's sessions.
    Delete {
        /// The username.
        name: Subject,
        #[command(flatten)]
        why: Why,
    },
}

const PASSWORD_HELP: &str = "\
The password is asked for twice on a terminal; otherwise it is the first line of standard input. \
COUNTERFOIL_USER_PASSWORD in the environment comes before both.";

#[derive(Debug, Args)]
pub(super) struct NewScopes {
    /// A scope to have; may be given more than once.
    #[arg(long = "scope", value_name = "SCOPE")]
    scope: Vec<Scopes>,
    /// Make the user an administrator: the scope `registry:admin`.
    #[arg(long)]
    admin: bool,
}

pub(super) async fn run(command: UserCommand, output: &Output) -> Result<(), Failure> {
    // What is typed in is asked for before the database is opened, so that no connection waits for a person.
    let password = match &command {
        UserCommand::Add { name, .. } | UserCommand::Passwd { name, .. } => Some(input::new_password(name.as_str())?),
        _ => None,
    };
    let registry = open().await?;
    let accounts = Accounts::new(&registry)?;
    let done = act_on(command, password.unwrap_or_default(), &accounts, output).await;
    registry.close().await;
    done
}

async fn act_on(command: UserCommand, password: String, accounts: &Accounts, output: &Output) -> Result<(), Failure> {
    match command {
        UserCommand::Add { name, scopes, why } => {
            let admin = scopes.admin.then(|| ADMIN_SCOPE.parse::<Scopes>()).transpose()?;
            let scope = union(scopes.scope.iter().chain(&admin))?;
            let user = accounts.add(&name, &password, &scope, &act(why.reason)?).await?;
            output.answer(&user, || format!("Added {}{}.\n", user.username, with_scopes(&user.scope)))
        }
        UserCommand::List { limit: Limit { limit }, after } => {
            let users = accounts.list(after.as_deref(), limit).await?;
            if let Some(last) = users.last().filter(|_| users.len() == usize::from(limit)) {
                output.more("--after", last.username.as_str());
            }
            output.answer(&users, || table(&users))
        }
        UserCommand::Set { name, scope, add, remove, why } => {
            let remove = union(&remove)?;
            let change = |held: &Scopes| match scope.is_empty() {
                true => Ok(union([held].into_iter().chain(&add))?.difference(&remove)),
                false => union(&scope),
            };
            let user = accounts.change_scopes(&name, change, &act(why.reason)?).await?;
            output.answer(&user, || format!("{} now has {}.\n", user.username, scopes_or_none(&user.scope)))
        }
        UserCommand::Passwd { name, keep_sessions, why } => {
            accounts.set_password(&name, &password, keep_sessions, &act(why.reason)?).await?;
            let ended = if keep_sessions { "" } else { "; all sessions are ended" };
            let user = accounts.get(&name).await?;
            output.answer(&user, || format!("Changed the password of {name}{ended}.\n"))
        }
        UserCommand::Disable { name, why } => {
            let user = accounts.set_disabled(&name, true, &act(why.reason)?).await?;
            output.answer(&user, || format!("Disabled {}; all sessions are ended.\n", user.username))
        }
        UserCommand::Enable { name, why } => {
            let user = accounts.set_disabled(&name, false, &act(why.reason)?).await?;
            output.answer(&user, || format!("Enabled {}.\n", user.username))
        }
        UserCommand::Delete { name, why } => {
            let user = accounts.get(&name).await?;
            accounts.delete(&name, &act(why.reason)?).await?;
            output.answer(&user, || format!("Deleted {name}; all sessions are ended.\n"))
        }
    }
}

fn with_scopes(scope: &Scopes) -> String {
    if scope.is_empty() { String::new() } else { format!(" with {}", scopes_or_none(scope)) }
}

fn scopes_or_none(scope: &Scopes) -> String {
    match scope.iter().count() {
        0 => "no scope".to_owned(),
        1 => format!("the scope {scope}"),
        _ => format!("the scopes {scope}"),
    }
}

fn table(users: &[User]) -> String {
    let day = |at: DateTime<Utc>| at.format("%Y-%m-%d").to_string();
    let mut table = Table::new(["USERNAME", "STATE", "CREATED", "PASSWORD SET", "SCOPES"]);
    for user in users {
        let state = if user.disabled { "disabled" } else { "enabled" };
        table.row([
            user.username.to_string(),
            state.to_owned(),
            day(user.created_at),
            day(user.password_changed_at),
            user.scope.to_string(),
        ]);
    }
    table.render("No users.")
}
