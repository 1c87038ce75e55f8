//! `counterfoil session` and `counterfoil subject`: taking back more than one token.

use clap::Subcommand;
use serde_json::json;

use super::output::{Failure, Output, count};
use super::{Why, act, note_unrecorded, open};
use crate::token::{Sid, Subject};

#[derive(Debug, Subcommand)]
pub(super) enum SessionCommand {
    /// End a session for good.
    End {
        /// The id of the session.
        sid: Sid,
        #[command(flatten)]
        why: Why,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum SubjectCommand {
    /// End all sessions of a subject for good.
    RevokeAll {
        /// Whose.
        subject: Subject,
        #[command(flatten)]
        why: Why,
    },
}

pub(super) async fn end(command: SessionCommand, output: &Output) -> Result<(), Failure> {
    let SessionCommand::End { sid, why } = command;
    let registry = open().await?;
    note_unrecorded(&registry, output);
    let ended = registry.end_session(sid, act(why.reason)?).await;
    registry.close().await;
    let revoked = ended?;
    output.answer(&json!({ "revoked": revoked }), || {
        format!("Ended the session {sid}: {} revoked.\n", count(revoked, "live token"))
    })
}

pub(super) async fn revoke_all(command: SubjectCommand, output: &Output) -> Result<(), Failure> {
    let SubjectCommand::RevokeAll { subject, why } = command;
    let registry = open().await?;
    note_unrecorded(&registry, output);
    let ended = registry.revoke_all(&subject, None, act(why.reason)?).await;
    registry.close().await;
    let revoked = ended?;
    output.answer(&json!({ "revoked": revoked }), || {
        format!("Ended all sessions of {subject}: {} revoked.\n", count(revoked, "live token"))
    })
}
