//! The command line: what operators type, and how it answers.

mod client;
mod input;
mod keys;
mod log;
mod maintain;
mod output;
mod session;
mod token;
mod user;

use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::clock::SystemClock;
use crate::config::{Check, Settings};
use crate::error::Error;
use crate::http;
use crate::registry::Registry;
use crate::token::{Act, Actor, Scopes};
use output::{Failure, Output};

/// A SQL-persistent token registry: it issues JWTs, keeps a record of each, and refuses every token without a live one.
#[derive(Debug, Parser)]
#[command(name = "counterfoil", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    /// Print JSON; errors and notes, on standard error, are JSON too.
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

const AFTER_HELP: &str = "\
Settings come from Rocket.toml in the working directory or the nearest above it (or the file that ROCKET_CONFIG names) and from COUNTERFOIL_* \
in the environment; `counterfoil config` shows those in force. Commands need those of the server, and with a relative \
database_url its directory. None but `serve` and `migrate` makes or migrates a database, and none but `serve` and \
`keys` changes the keys.

Exit status: 0 done, 1 refused or not found, 2 wrong usage, 3 done but not yet confirmed everywhere.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve HTTP (the default).
    Serve,
    /// Apply the migrations that the database lacks.
    Migrate,
    /// Add, change and remove the users of the server.
    #[command(subcommand)]
    User(user::UserCommand),
    /// Add, change and remove the programs that call the endpoints for other services.
    #[command(subcommand)]
    Client(client::ClientCommand),
    /// Issue, look at and revoke tokens.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// End a session: everything that descends from one log-in.
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// Revoke everything of a subject.
    #[command(subcommand)]
    Subject(session::SubjectCommand),
    /// Remove the records of expired tokens now (the server does so by itself, every `purge.every`).
    Purge(maintain::Purge),
    /// List, rotate, retire and reseal the keys.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Show the processes that answer from memory, and which changes each has applied.
    Replicas,
    /// Show who changed what, newest first.
    Audit(maintain::Audit),
    /// Show the settings in force and where each came from, secrets masked.
    Config,
    /// Print the completions for a shell.
    #[command(after_help = "Example: counterfoil completions bash > /etc/bash_completion.d/counterfoil")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Why something is done.
#[derive(Debug, Args)]
struct Why {
    /// Why, for the audit.
    #[arg(long)]
    reason: Option<String>,
}

/// How long a list is.
#[derive(Debug, Args)]
struct Limit {
    /// How many to show, 1 to 1000.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
}

/// Reads the command line, does what it says, and returns the exit status.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && asks_for_json() => {
            return Output::new(true).wrong_usage(&in_one_line(&error));
        }
        // Help and the version are text for whoever asks.
        Err(error) => error.exit(),
    };
    let output = Output::new(cli.json);
    match dispatch(cli.command.unwrap_or(Command::Serve), &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.fail(&failure),
    }
}

/// Whether `--json` is among the arguments, which can't be read otherwise.
fn asks_for_json() -> bool {
    std::env::args_os().skip(1).take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

/// What is wrong, without the lines that say where help is.
fn in_one_line(error: &clap::Error) -> String {
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "the command is not complete: --help shows what may follow".to_owned();
    }
    let text = error.render().to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let paragraph = paragraph.strip_prefix("error: ").unwrap_or(paragraph);
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn dispatch(command: Command, output: &Output) -> Result<(), Failure> {
    let command = match command {
        Command::Serve => return serve(),
        Command::Completions { shell } => return completions(shell, output),
        Command::Config => return maintain::config(output),
        command => command,
    };
    log::init_for_command();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal("the runtime can't be started").with_source(error))?;
    runtime.block_on(async {
        match command {
            Command::User(command) => user::run(command, output).await,
            Command::Client(command) => client::run(command, output).await,
            Command::Token(command) => token::run(command, output).await,
            Command::Session(command) => session::end(command, output).await,
            Command::Subject(command) => session::revoke_all(command, output).await,
            Command::Purge(command) => maintain::purge(command, output).await,
            Command::Keys(command) => keys::run(command, output).await,
            Command::Replicas => maintain::replicas(output).await,
            Command::Audit(command) => maintain::audit(command, output).await,
            Command::Migrate => maintain::migrate(output).await,
            Command::Serve | Command::Completions { .. } | Command::Config => Ok(()),
        }
    })
}

fn serve() -> Result<(), Failure> {
    let figment = http::figment();
    // Read here first, so that a broken setting is one sentence on standard error and not a log of half a start.
    let settings = Settings::from_figment(&figment)?;
    log::init_for_server(settings.log);
    Ok(http::serve(figment, settings)?)
}

fn completions(shell: clap_complete::Shell, output: &Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "counterfoil", &mut script);
    output.text(&String::from_utf8_lossy(&script))
}

fn settings() -> Result<Settings, Error> {
    Settings::from_figment(&http::figment())
}

/// Opens the registry for one command, which needs its database to answer.
async fn open() -> Result<Registry, Error> {
    let (registry, unreached) = Registry::open_as_is(settings()?, SystemClock).await?;
    let Some(error) = unreached else { return Ok(registry) };
    let advice = "check that it runs, database_url, and what its user may do";
    Err(Error::unavailable(format!("{}; {advice}", error.in_full())))
}

/// An act of whoever runs this command, by the name of the machine's user.
fn act(reason: Option<String>) -> Result<Act, Error> {
    let user =
        ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    let user = user.unwrap_or_else(|| "unknown".to_owned());
    let act = Act::by(Actor::command_line(user));
    match reason {
        Some(reason) => act.reason(reason),
        None => Ok(act),
    }
}

/// All of these scopes together.
fn union<'a>(sets: impl IntoIterator<Item = &'a Scopes>) -> Result<Scopes, Error> {
    let mut text = String::new();
    for set in sets {
        text.push_str(&set.to_string());
        text.push(' ');
    }
    text.parse()
}

/// Says, where it is so, that access tokens are out of reach of what was asked.
fn note_unrecorded(registry: &Registry, output: &Output) {
    if registry.settings().check == Check::Refresh {
        output.note(
            "access tokens are not on the registry (check = \"refresh\"), but for personal ones: they can be neither listed nor revoked, and expire by themselves",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_given_apart_are_one_set() {
        let sets: [Scopes; 2] = ["b a".parse().unwrap(), "c a".parse().unwrap()];
        assert_eq!(union(&sets).unwrap().to_string(), "a b c");
        assert!(union([]).unwrap().is_empty());
    }
}
