//! The purge: removes what has expired for every checker, in bounded batches, one process at a time.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::tasks::Stop;
use super::{Registry, whole_seconds};
use crate::error::Error;
use crate::store::Job;
#[cfg(feature = "server")]
use crate::token::Act;
use crate::token::PurgeRun;

/// How far what a run leaves is counted: for millions PostgreSQL takes several cores for a while, and checks wait for
/// them.
const BACKLOG_MAX: i64 = 100_000;

/// How long the lease on the purge lasts beyond the batch that renews it.
const LEASE: Duration = Duration::from_secs(60);

/// How many batches of tokens go before the sessions that are left without any: a session mostly has a few tokens.
const TOKENS_PER_SESSION: u64 = 4;

/// How often that lease is renewed, and what has been done is noted.
const RENEWED_EVERY: Duration = Duration::from_secs(1);

/// What this process's clock may differ from the database's, beyond the leeway, before the purge refuses to run.
const DRIFT_SECONDS_MAX: i64 = 5;

/// What a purge did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Purged {
    /// How many token records it removed.
    pub tokens: u64,
    /// Whether it removed all there was: `false` where its time budget ran out, it was told to stop, or another process
    /// purges just now.
    pub complete: bool,
    /// Whether another process purges just now, so that this one left it alone or gave up.
    pub elsewhere: bool,
    /// How long it rested between its batches.
    pub rested: Duration,
}

/// How the purge stands, in all processes and in this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PurgeStatus {
    /// The run that goes on just now, in whichever process.
    pub running: Option<PurgeRun>,
    /// When this process purges next; `None` where it doesn't by itself.
    pub next_run: Option<DateTime<Utc>>,
    /// How many records a run would remove now.
    pub backlog: u64,
    /// The last 20 runs, the last first. One that neither has ended nor is running was killed.
    pub runs: Vec<PurgeRun>,
}

impl Registry {
    /// Removes the records of tokens that expired longer ago than the leeway and `purge.retain`, and what they leave
    /// behind, in batches with pauses, until none is left or `purge.budget` is used up.
    ///
    /// One process at a time does it: where another does, this one removes nothing and says so.
    ///
    /// # Errors
    ///
    /// [`is_unavailable`](Error::is_unavailable) where the database can't be asked, or its time differs from this
    /// process's by more than the leeway and 5 seconds: a wrong clock must not remove what is still good.
    pub async fn purge(&self) -> Result<Purged, Error> {
        self.purge_with(|_| {}).await
    }

    /// [`purge`](Self::purge), telling `progress` after each batch how many records have gone.
    ///
    /// # Errors
    ///
    /// Those of [`purge`](Self::purge).
    pub async fn purge_with(&self, progress: impl FnMut(u64)) -> Result<Purged, Error> {
        self.purge_until(std::future::pending(), progress).await
    }

    /// Notes who is about to purge: that one comes by itself is no act of anybody's.
    #[cfg(feature = "server")]
    pub(crate) async fn purge_asked(&self, act: &Act) -> Result<(), Error> {
        self.store()?.note_purge_asked(act, self.seconds()).await
    }

    /// Purges until `stop` is ready, which it looks at between two batches: so the lease is given back, and what has
    /// gone is counted.
    async fn purge_until(&self, stop: impl Future<Output = ()>, progress: impl FnMut(u64)) -> Result<Purged, Error> {
        let holder = Uuid::new_v4();
        let store = self.store()?;
        let now = self.database_seconds().await?;
        if !store.hold_job(Job::Purge, holder, now, now + whole_seconds(LEASE)).await? {
            return Ok(Purged { elsewhere: true, ..Purged::default() });
        }
        let mut purged = Purged::default();
        let mut run = self.begin_run(holder, now);
        self.note_run(&run).await;
        let outcome = self.purge_holding(&mut run, stop, &mut purged, progress).await;
        self.inner.metrics.purged(purged.tokens);
        run.records = purged.tokens;
        run.complete = purged.complete;
        run.error = outcome.as_ref().err().map(ToString::to_string);
        run.seen_at = self.now();
        run.ended_at = Some(run.seen_at);
        self.note_run(&run).await;
        let released = store.release_job(Job::Purge, holder).await;
        outcome.and(released)?;
        tracing::info!(tokens = purged.tokens, complete = purged.complete, "purged");
        Ok(purged)
    }

    /// How many records [`purge`](Self::purge) would remove.
    ///
    /// # Errors
    ///
    /// [`is_unavailable`](Error::is_unavailable), as [`purge`](Self::purge).
    pub async fn purgeable(&self) -> Result<u64, Error> {
        let cutoff = self.purge_cutoff(self.database_seconds().await?);
        self.store()?.purgeable(cutoff, i64::MAX).await
    }

    /// How the purge stands: the last runs, the next one of this process, and what it would find.
    ///
    /// # Errors
    ///
    /// [`is_unavailable`](Error::is_unavailable) where the database can't be asked, or its time differs from this
    /// process's by more than the leeway and 5 seconds.
    pub async fn purge_status(&self) -> Result<PurgeStatus, Error> {
        let now = self.database_seconds().await?;
        let (runs, holder) = self.store()?.purge_runs(now).await?;
        let running = runs.iter().find(|run| Some(run.holder) == holder && run.ended_at.is_none()).cloned();
        let next_run = match self.inner.next_purge.load(Ordering::Relaxed) {
            0 => None,
            at => DateTime::from_timestamp(at, 0),
        };
        Ok(PurgeStatus { running, next_run, backlog: self.purgeable().await?, runs })
    }

    fn begin_run(&self, holder: Uuid, now: i64) -> PurgeRun {
        let started_at = DateTime::from_timestamp(now, 0).unwrap_or_else(|| self.now());
        PurgeRun {
            holder,
            process: self.inner.name.clone(),
            started_at,
            seen_at: started_at,
            ended_at: None,
            records: 0,
            complete: false,
            error: None,
        }
    }

    /// Notes how far a run is, for people: a purge goes on without.
    async fn note_run(&self, run: &PurgeRun) {
        let noted = match self.store() {
            Ok(store) => store.note_purge_run(run).await,
            Err(error) => Err(error),
        };
        if let Err(error) = noted {
            tracing::warn!(error = %error.in_full(), "a run of the purge can't be noted");
        }
    }

    async fn purge_holding(
        &self,
        run: &mut PurgeRun,
        stop: impl Future<Output = ()>,
        purged: &mut Purged,
        mut progress: impl FnMut(u64),
    ) -> Result<(), Error> {
        let (settings, holder) = (self.settings().purge.clone(), run.holder);
        let batch_rows = u64::from(settings.batch_rows);
        let store = self.store()?;
        let began = Instant::now();
        let mut stop = pin!(stop);
        // The rows below these bounds have gone; not looking there again spares walking over their dead index entries.
        let (mut from, mut sessions_from) = (i64::MIN, i64::MIN);
        // Up to when sessions are to go before more tokens do, and whether no tokens are left before that.
        let (mut bereft, mut batches) = (None::<(i64, bool)>, 0_u64);
        let (mut now, mut cutoff, mut renewed_at) = (0, 0, None::<Instant>);
        loop {
            if renewed_at.is_none_or(|at| at.elapsed() >= RENEWED_EVERY) {
                now = self.database_seconds().await?;
                cutoff = self.purge_cutoff(now);
                if !store.hold_job(Job::Purge, holder, now, now + whole_seconds(LEASE)).await? {
                    purged.elsewhere = true;
                    return Ok(());
                }
                // However many tokens there are, the rest does not wait for the last of them.
                self.purge_rest(now, cutoff, settings.batch_rows).await?;
                // Should it be killed, it is known how far it came.
                run.records = purged.tokens;
                run.seen_at = self.now();
                self.note_run(run).await;
                renewed_at = Some(Instant::now());
            }
            let is_through = match bereft.take() {
                None => {
                    let batch = store.purge_batch(from, cutoff, settings.batch_rows).await?;
                    purged.tokens += batch.tokens;
                    progress(purged.tokens);
                    from = batch.up_to.unwrap_or(from);
                    batches += 1;
                    // A session lasts as long as its last token: while tokens are left, it is enough to look before
                    // them.
                    if batch.tokens < batch_rows {
                        bereft = Some((cutoff, true));
                    } else if batches % TOKENS_PER_SESSION == 0 {
                        bereft = Some((from, false));
                    }
                    false
                }
                Some((to, is_last)) => {
                    let sessions = store.purge_sessions(&(sessions_from..to), settings.batch_rows).await?;
                    let are_left = sessions == batch_rows;
                    match are_left {
                        true => bereft = Some((to, is_last)),
                        false => sessions_from = to,
                    }
                    !are_left && is_last
                }
            };
            if is_through && self.purge_rest(now, cutoff, settings.batch_rows).await? < batch_rows {
                purged.complete = true;
                self.inner.metrics.purge_backlog(0);
                return Ok(());
            }
            if began.elapsed() >= settings.budget {
                self.inner.metrics.purge_backlog(store.purgeable(cutoff, BACKLOG_MAX).await?);
                return Ok(());
            }
            let rests_at = Instant::now();
            tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                () = tokio::time::sleep(settings.pause) => purged.rested += rests_at.elapsed(),
            }
        }
    }

    /// Removes up to `rows_max` of each kind that is neither token nor session. Fewer than that are returned where
    /// nothing is left.
    async fn purge_rest(&self, now: i64, cutoff: i64, rows_max: u32) -> Result<u64, Error> {
        let store = self.store()?;
        let remains = store.purge_remains(cutoff, now.saturating_mul(1_000), rows_max).await?;
        let audit = store.purge_audit(now - whole_seconds(self.settings().audit_retain), rows_max).await?;
        // A replica that was away for longer forgets everything.
        let changes = store.purge_changes(now - whole_seconds(self.settings().feed.retain), rows_max).await?;
        self.purge_keys(cutoff).await?;
        Ok(remains.max(audit).max(changes))
    }

    /// Purges once each `purge.every`, a little earlier or later each time, so that processes started together don't
    /// ask together. An error is logged, and the next run tries again.
    pub(super) async fn keep_purging(&self, mut stop: Stop) {
        let Some(every) = self.settings().purge.every else { return };
        loop {
            let pause = jittered(every);
            self.inner.next_purge.store(self.seconds() + whole_seconds(pause), Ordering::Relaxed);
            tokio::select! {
                biased;
                () = stop.asked() => {
                    self.inner.next_purge.store(0, Ordering::Relaxed);
                    return;
                }
                () = tokio::time::sleep(pause) => {}
            }
            if let Err(error) = self.purge_until(stop.asked(), |_| {}).await {
                tracing::warn!(error = %error.in_full(), "the purge failed");
            }
        }
    }

    /// By the slower of the two clocks: what this process still accepts must not go because the database is ahead.
    fn purge_cutoff(&self, now: i64) -> i64 {
        now.min(self.seconds()) - self.leeway_seconds() - whole_seconds(self.settings().purge.retain)
    }

    /// The database's time, in seconds; refused where this process's differs too much.
    async fn database_seconds(&self) -> Result<i64, Error> {
        let database = self.clock().reconcile(self.store()?.time().await?).timestamp();
        let differs = (database - self.seconds()).abs();
        if differs > self.leeway_seconds() + DRIFT_SECONDS_MAX {
            return Err(Error::unavailable(format!(
                "the database's clock differs from this machine's by {differs} s: set the clocks right, then purge"
            )));
        }
        Ok(database)
    }
}

/// Between nine and eleven tenths of `every`; the random bits are those of an id.
fn jittered(every: Duration) -> Duration {
    let part = f64::from(Uuid::new_v4().as_bytes()[0]) / 255.0;
    every.mul_f64(0.9 + 0.2 * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_started_together_purge_a_little_apart() {
        let every = Duration::from_secs(600);
        let pauses: Vec<Duration> = (0..64).map(|_| jittered(every)).collect();
        assert!(pauses.iter().all(|pause| (every.mul_f64(0.89)..every.mul_f64(1.11)).contains(pause)), "{pauses:?}");
        assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{pauses:?}");
    }
}
