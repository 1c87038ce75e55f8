//! `counterfoil keys`: the keys whose tokens are accepted.

use clap::Subcommand;

use super::output::{Failure, Output, Table};
use super::settings;
use crate::clock::SystemClock;
use crate::registry::Registry;

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// List them, the one that signs first.
    List,
}

pub(super) async fn run(command: KeysCommand, output: &Output) -> Result<(), Failure> {
    let KeysCommand::List = command;
    // Keys are no matter of the database, which may be down.
    let registry = Registry::open(settings()?, SystemClock).await?;
    let keys = registry.keys();
    registry.close().await;
    output.answer(&keys, || {
        let mut table = Table::new(["KID", "ALGORITHM", "STATE"]);
        for key in &keys {
            table.row([key.kid.clone(), key.algorithm.to_owned(), key.state.to_owned()]);
        }
        table.render("No keys.")
    })
}
