//! Requests that arrive together share one transaction: while one is under way, the next gathers whatever comes. Where
//! two may be under way, it begins beside the other when it is as large. There is no timer, so a lone request waits for
//! nobody.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::error::Error;

/// The most requests that wait at once; beyond, callers are refused instead of piling up.
const WAITING_MAX: usize = 100_000;
/// The fewest requests that are begun to be written beside others.
const FEW: usize = 8;
/// So many wait that a batch need not let others come first.
const CROWD: usize = 64;
/// The most requests that one transaction takes.
const BATCH_MAX: usize = 1_000;

type Outcome<R> = Result<Vec<R>, Error>;
type Worker<T, R> = dyn Fn(Arc<[T]>) -> Pin<Box<dyn Future<Output = Outcome<R>> + Send>> + Send + Sync;

/// Gathers requests of one kind for a worker, which answers each in order or fails.
pub(super) struct Batcher<T, R>(Arc<Shared<T, R>>);

struct Shared<T, R> {
    queue: Mutex<Queue<T, R>>,
    work: Box<Worker<T, R>>,
    at_once: u32,
    kind: Kind,
}

/// What the work is, by which a batch knows how long to gather.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Writes,
    WritesAlone,
    Reads,
}

struct Queue<T, R> {
    waiting: Vec<(T, oneshot::Sender<Result<R, Error>>)>,
    running: u32,
    /// How many requests the batches under way have.
    under_way: usize,
}

impl<T: Clone + Send + Sync + 'static, R: Send + 'static> Batcher<T, R> {
    /// With up to `at_once` batches under way, another one only where as many wait as are under way.
    pub(super) fn new<F>(at_once: u32, work: impl Fn(Arc<[T]>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Outcome<R>> + Send + 'static,
    {
        Self::with(at_once, Kind::Writes, work)
    }

    /// The same for work that writes where one transaction can at a time, and waits for the disk each time. Who comes a
    /// moment late waits for all of the next batch, so each lets those come first who are ready to, unless a crowd
    /// waits.
    pub(super) fn alone<F>(work: impl Fn(Arc<[T]>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Outcome<R>> + Send + 'static,
    {
        Self::with(1, Kind::WritesAlone, work)
    }

    /// The same for work that only reads. That is so short that the next batch would be gone before those whom the last
    /// one woke can ask again, so each lets everybody come first who is ready to; what waits for a disk gains nothing
    /// by it. And it waits for no lock, so where the database has no answer for all it has none for one.
    pub(super) fn reading<F>(at_once: u32, work: impl Fn(Arc<[T]>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Outcome<R>> + Send + 'static,
    {
        Self::with(at_once, Kind::Reads, work)
    }

    fn with<F>(at_once: u32, kind: Kind, work: impl Fn(Arc<[T]>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Outcome<R>> + Send + 'static,
    {
        let queue = Mutex::new(Queue { waiting: Vec::new(), running: 0, under_way: 0 });
        let work: Box<Worker<T, R>> = Box::new(move |batch| Box::pin(work(batch)));
        Self(Arc::new(Shared { queue, work, at_once, kind }))
    }

    /// Has this done, with whatever else is asked for. A caller that goes away takes nothing from the others; what it
    /// asked for may be done all the same.
    pub(super) async fn call(&self, request: T) -> Result<R, Error> {
        let (answer, answered) = oneshot::channel();
        let starts = {
            let mut queue = self.0.lock();
            if queue.waiting.len() >= WAITING_MAX {
                return Err(Error::unavailable("too many requests wait for the database"));
            }
            queue.waiting.push((request, answer));
            let starts = queue.running == 0 || (queue.running < self.0.at_once && self.0.is_enough(&queue));
            queue.running += u32::from(starts);
            starts
        };
        if starts {
            // A task of its own: the caller may go away half-way, and the others are answered all the same.
            tokio::spawn(Running { shared: self.0.clone(), is_counted: true, under_way: 0 }.run());
        }
        answered.await.unwrap_or_else(|_| Err(Error::unavailable("the process stops, or a request's work broke off")))
    }
}

impl<T, R> Shared<T, R> {
    fn lock(&self) -> MutexGuard<'_, Queue<T, R>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether enough wait for a batch beside another one. What is written costs most for each batch, so that two small
    /// ones take longer than one of both. Where as many wait as are under way, none gets smaller: one batch after the
    /// other would take these in turn with those.
    fn is_enough(&self, queue: &Queue<T, R>) -> bool {
        self.kind == Kind::Reads || queue.waiting.len() >= queue.under_way.max(FEW)
    }

    /// Whether a batch lets others come first.
    fn gathers(&self) -> bool {
        match self.kind {
            Kind::Writes => false,
            Kind::WritesAlone => self.lock().waiting.len() < CROWD,
            Kind::Reads => true,
        }
    }
}

/// One task that works until nothing waits.
struct Running<T, R> {
    shared: Arc<Shared<T, R>>,
    /// Among those that run.
    is_counted: bool,
    /// How many of those under way are its own.
    under_way: usize,
}

impl<T: Clone + Send + Sync + 'static, R: Send + 'static> Running<T, R> {
    async fn run(mut self) {
        loop {
            if self.shared.gathers() {
                tokio::task::yield_now().await;
            }
            let batch: Vec<_> = {
                let mut queue = self.shared.lock();
                queue.under_way -= std::mem::take(&mut self.under_way);
                if queue.waiting.is_empty() || (queue.running > 1 && !self.shared.is_enough(&queue)) {
                    // Under the lock: who comes now starts another task, or is heard of by one that goes on.
                    queue.running -= 1;
                    self.is_counted = false;
                    return;
                }
                let size = queue.waiting.len().min(BATCH_MAX);
                let batch: Vec<_> = queue.waiting.drain(..size).filter(|(_, answer)| !answer.is_closed()).collect();
                self.under_way = batch.len();
                queue.under_way += self.under_way;
                batch
            };
            if !batch.is_empty() {
                self.answer(batch).await;
            }
        }
    }

    async fn answer(&self, batch: Vec<(T, oneshot::Sender<Result<R, Error>>)>) {
        let (requests, answers): (Vec<T>, Vec<_>) = batch.into_iter().unzip();
        let requests: Arc<[T]> = requests.into();
        let failure = match (self.shared.work)(requests.clone()).await {
            Ok(outcomes) if outcomes.len() == answers.len() => {
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    let _ = answer.send(Ok(outcome));
                }
                return;
            }
            Ok(_) => Error::internal("a batch was answered with another number of answers"),
            Err(error) => error,
        };
        if requests.len() == 1 || (self.shared.kind == Kind::Reads && failure.is_unavailable()) {
            answers.into_iter().for_each(|answer| drop(answer.send(Err(failure.clone()))));
            return;
        }
        // One of them may be to blame, or wait for a lock that the others don't need: each by itself.
        let mut alone = JoinSet::new();
        for (request, answer) in requests.iter().cloned().zip(answers) {
            let shared = self.shared.clone();
            alone.spawn(async move {
                let outcome = (shared.work)([request].into()).await;
                let one = outcome.and_then(|outcomes| {
                    outcomes.into_iter().next().ok_or_else(|| Error::internal("a request was not answered"))
                });
                let _ = answer.send(one);
            });
        }
        while alone.join_next().await.is_some() {}
    }
}

impl<T, R> Drop for Running<T, R> {
    /// Where the work panicked, or the runtime ends.
    fn drop(&mut self) {
        if self.is_counted {
            let mut queue = self.shared.lock();
            queue.running -= 1;
            queue.under_way -= self.under_way;
            if queue.running == 0 {
                // Nobody is left who would come to them.
                queue.waiting.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests;
