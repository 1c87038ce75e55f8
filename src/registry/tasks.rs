//! The registry's background work: waiting for a database that is down, purging, noting last use.

use std::time::Duration;

use tokio::task::JoinSet;

use super::Registry;

/// The background tasks of a registry. Dropping it aborts them.
pub(crate) struct Tasks(JoinSet<()>);

impl Tasks {
    /// Starts all of them.
    pub(crate) fn start(registry: &Registry) -> Self {
        let mut tasks = JoinSet::new();
        let (opening, purging, flushing) = (registry.clone(), registry.clone(), registry.clone());
        tasks.spawn(async move { opening.keep_opening().await });
        tasks.spawn(async move { purging.keep_purging().await });
        tasks.spawn(async move { flushing.keep_flushing_last_used().await });
        Self(tasks)
    }

    /// Stops all of them, each at its next pause. Every batch is a transaction, so nothing is left half done.
    pub(crate) async fn stop(mut self, within: Duration) {
        self.0.abort_all();
        let drained = tokio::time::timeout(within, async { while self.0.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            tracing::warn!("a background task did not stop in time");
        }
    }
}
