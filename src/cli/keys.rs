//! `counterfoil keys`: the keys that sign, and those whose tokens are accepted.

use clap::Subcommand;
use serde_json::{Value, json};

use super::output::{Failure, Output, Table, count, describe, or_dash, time};
use super::{Why, act, open, settings};
use crate::clock::SystemClock;
use crate::registry::Registry;
use crate::token::KeyInfo;

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// List them, the one that signs first.
    List,
    /// Let the next key sign from now on, and publish a new next.
    Rotate {
        #[command(flatten)]
        why: Why,
    },
    /// Refuse everything that a key signed, for good: the answer to a leak.
    #[command(
        after_help = "Example: counterfoil keys retire 8OGeZCFTVnGvKfMHNIGUBBvBQcVXPkVl2ccQN6yMj5A --reason leaked"
    )]
    Retire {
        /// The id of the key, as `keys list` shows it.
        #[arg(allow_hyphen_values = true)]
        kid: String,
        /// Why, for the audit and the records of its tokens.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Seal the keys in the database under master_key, which master_key_old opens.
    Reseal,
}

pub(super) async fn run(command: KeysCommand, output: &Output) -> Result<(), Failure> {
    if let KeysCommand::List = command {
        // Keys that are files are no matter of the database, which may be down.
        let (registry, _) = Registry::open_as_is(settings()?, SystemClock).await?;
        let keys = registry.keys().await;
        registry.close().await;
        return list(&keys?, output);
    }
    let registry = open().await?;
    let done = change(command, &registry, output).await;
    registry.close().await;
    done
}

async fn change(command: KeysCommand, registry: &Registry, output: &Output) -> Result<(), Failure> {
    match command {
        KeysCommand::List => Ok(()),
        KeysCommand::Rotate { why } => show(&registry.rotate_keys(&act(why.reason)?).await?, output),
        KeysCommand::Retire { kid, reason } => show(&registry.retire_key(&kid, &act(reason)?).await?, output),
        KeysCommand::Reseal => {
            let resealed = registry.reseal_keys(&act(None)?).await?;
            output.answer(&json!({ "resealed": resealed }), || format!("Sealed {} anew.\n", count(resealed, "key")))
        }
    }
}

fn list(keys: &[KeyInfo], output: &Output) -> Result<(), Failure> {
    output.answer(&keys.iter().map(as_json).collect::<Vec<_>>(), || {
        let mut table = Table::new(["KID", "ALGORITHM", "STATE", "PUBLISHED", "SIGNED FROM", "SIGNED UNTIL"]);
        for key in keys {
            table.row([
                key.kid.clone(),
                or_dash(key.algorithm.as_deref()),
                key.state.to_string(),
                or_dash(key.published_at.map(time)),
                or_dash(key.current_at.map(time)),
                or_dash(key.replaced_at.or(key.retired_at).map(time)),
            ]);
        }
        table.render("No keys.")
    })
}

fn show(key: &KeyInfo, output: &Output) -> Result<(), Failure> {
    output.answer(&as_json(key), || {
        describe(&[
            ("kid", Some(key.kid.clone())),
            ("algorithm", key.algorithm.clone()),
            ("state", Some(key.state.to_string())),
            ("reason", key.retired_reason.clone()),
        ])
    })
}

fn as_json(key: &KeyInfo) -> Value {
    json!({
        "kid": key.kid,
        "algorithm": key.algorithm,
        "state": key.state.as_str(),
        "published_at": key.published_at.map(time),
        "current_at": key.current_at.map(time),
        "replaced_at": key.replaced_at.map(time),
        "retired_at": key.retired_at.map(time),
        "retired_reason": key.retired_reason,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::KeysCommand;

    #[derive(Parser)]
    struct Keys {
        #[command(subcommand)]
        command: KeysCommand,
    }

    /// One id in 64 begins with a hyphen, and whoever has to retire a leaked key has no time to learn of `--`.
    #[test]
    fn a_key_is_retired_whatever_its_id_begins_with() {
        for kid in
            ["-mbBSaxXtLkBcErEWwlQfLw9M3KTZNu6tk1NUlacnKc", "-hBSaxXtLkBcErEWwlQfLw9M3KTZNu6tk1NUlacnKc", "--BSax"]
        {
            for arguments in
                [["keys", "retire", kid, "--reason", "leaked"], ["keys", "retire", "--reason", "leaked", kid]]
            {
                let parsed = Keys::try_parse_from(arguments).map(|keys| keys.command);
                let Ok(KeysCommand::Retire { kid: read, reason }) = parsed else { panic!("{arguments:?}") };
                assert_eq!((read.as_str(), reason.as_deref()), (kid, Some("leaked")));
            }
        }
        assert!(Keys::try_parse_from(["keys", "retire"]).is_err());
    }
}
