//! Requests that arrive together share one transaction: while one is under way, the next gathers whatever comes. Where two may
//! be under way, it begins beside the other when it is as large. There is no timer, so a lone request waits for nobody.

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
    /// moment late waits for all of the next batch, so each lets those come first who are ready to, unless a crowd waits.
    pub(super) fn alone<F>(work: impl Fn(Arc<[T]>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Outcome<R>> + Send + 'static,
    {
        Self::with(1, Kind::WritesAlone, work)
    }

    /// The same for work that only reads. That is so short that the next batch would be gone before those whom the last one
    /// woke can ask again, so each lets everybody come first who is ready to; what waits for a disk gains nothing by it. And
    /// it waits for no lock, so where the database has no answer for all it has none for one.
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

    /// Whether enough wait for a batch beside another one. What is written costs most for each batch, so that two small ones
    /// take longer than one of both. Where as many wait as are under way, none gets smaller: one batch after the other would
    /// take these in turn with those.
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
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    /// A worker that doubles numbers, takes a permit for each batch, and refuses batches with a 13.
    fn doubling(permits: &Arc<Semaphore>, batches: &Arc<AtomicUsize>) -> Arc<Batcher<u32, u32>> {
        doubling_at_once(1, permits, batches)
    }

    fn doubling_at_once(at_once: u32, permits: &Arc<Semaphore>, batches: &Arc<AtomicUsize>) -> Arc<Batcher<u32, u32>> {
        let (permits, batches) = (permits.clone(), batches.clone());
        Arc::new(Batcher::new(at_once, move |numbers: Arc<[u32]>| {
            let (permits, batches) = (permits.clone(), batches.clone());
            async move {
                batches.fetch_add(1, Ordering::SeqCst);
                permits.acquire().await.unwrap().forget();
                match numbers.contains(&13) {
                    true => Err(Error::unavailable("13")),
                    false => Ok(numbers.iter().map(|number| number * 2).collect()),
                }
            }
        }))
    }

    async fn ask(batcher: &Arc<Batcher<u32, u32>>, numbers: &[u32]) -> JoinSet<(u32, Result<u32, Error>)> {
        let mut asked = JoinSet::new();
        for number in numbers.iter().copied() {
            let batcher = batcher.clone();
            asked.spawn(async move { (number, batcher.call(number).await) });
        }
        // Until each waits.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        asked
    }

    #[tokio::test]
    async fn what_comes_while_a_batch_is_under_way_shares_the_next() {
        let (permits, batches) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let batcher = doubling(&permits, &batches);
        let first = ask(&batcher, &[1]).await;
        let others = ask(&batcher, &[2, 3, 4, 5]).await;
        permits.add_permits(2);
        for (number, answer) in first.join_all().await.into_iter().chain(others.join_all().await) {
            assert_eq!(answer.unwrap(), number * 2);
        }
        assert_eq!(batches.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn where_one_writes_at_a_time_those_who_are_ready_come_first() {
        let batches = Arc::new(AtomicUsize::new(0));
        let counted = batches.clone();
        let batcher = Arc::new(Batcher::alone(move |numbers: Arc<[u32]>| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move { Ok(numbers.to_vec()) }
        }));
        for (number, answer) in ask(&batcher, &[1, 2, 3, 4]).await.join_all().await {
            assert_eq!(answer.unwrap(), number);
        }
        assert_eq!(batches.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn as_many_as_are_under_way_do_not_wait_for_them() {
        let (permits, batches) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let batcher = doubling_at_once(2, &permits, &batches);
        let mut asked = Vec::new();
        // One is under way; then a few; then, when the one is done, as many as these.
        let few = u32::try_from(FEW).unwrap();
        for (count, begun) in [(1, 1), (few - 1, 1), (1, 2)] {
            asked.push(ask(&batcher, &(100..100 + count).collect::<Vec<_>>()).await);
            assert_eq!(batches.load(Ordering::SeqCst), begun);
        }
        asked.push(ask(&batcher, &(200..300).collect::<Vec<_>>()).await);
        permits.add_permits(2);
        asked.push(ask(&batcher, &(300..399).collect::<Vec<_>>()).await);
        assert_eq!(batches.load(Ordering::SeqCst), 3);
        asked.push(ask(&batcher, &[399]).await);
        assert_eq!(batches.load(Ordering::SeqCst), 4);
        permits.add_permits(100);
        for asked in asked {
            for (number, answer) in asked.join_all().await {
                assert_eq!(answer.unwrap(), number * 2);
            }
        }
        assert_eq!(batches.load(Ordering::SeqCst), 4);
    }

    #[tokio::test]
    async fn a_failure_reaches_those_it_is_about_and_nobody_else() {
        let (permits, batches) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let batcher = doubling(&permits, &batches);
        let first = ask(&batcher, &[1]).await;
        let others = ask(&batcher, &[2, 13, 4]).await;
        permits.add_permits(100);
        assert!(first.join_all().await[0].1.is_ok());
        for (number, answer) in others.join_all().await {
            assert_eq!(answer.is_err(), number == 13, "{number}");
        }
    }

    #[tokio::test]
    async fn a_database_that_is_away_is_not_read_once_for_each() {
        let batches = Arc::new(AtomicUsize::new(0));
        let counted = batches.clone();
        let batcher = Arc::new(Batcher::reading(1, move |_: Arc<[u32]>| {
            counted.fetch_add(1, Ordering::SeqCst);
            async { Err::<Vec<u32>, _>(Error::unavailable("away")) }
        }));
        for (_, answer) in ask(&batcher, &[1, 2, 3, 4]).await.join_all().await {
            assert!(answer.unwrap_err().is_unavailable());
        }
        assert!(batches.load(Ordering::SeqCst) < 4);
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_takes_nothing_from_the_others() {
        let (permits, batches) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let batcher = doubling(&permits, &batches);
        // The one whose call began the work, and one that waits for the next batch.
        let first = ask(&batcher, &[1]).await;
        let gone = ask(&batcher, &[2]).await;
        let others = ask(&batcher, &[3]).await;
        drop((first, gone));
        permits.add_permits(100);
        for (number, answer) in others.join_all().await {
            assert_eq!(answer.unwrap(), number * 2);
        }
        // And it works on.
        assert_eq!(batcher.call(21).await.unwrap(), 42);
    }

    #[tokio::test]
    async fn work_that_panics_is_answered_and_the_next_is_done() {
        let batcher: Batcher<u32, u32> = Batcher::new(1, |numbers: Arc<[u32]>| async move {
            assert_ne!(*numbers, [13], "this one panics");
            Ok(numbers.to_vec())
        });
        assert!(batcher.call(13).await.unwrap_err().is_unavailable());
        assert_eq!(batcher.0.lock().under_way, 0);
        assert_eq!(batcher.call(1).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn who_waits_for_work_that_panics_is_answered() {
        let permits = Arc::new(Semaphore::new(0));
        let held = permits.clone();
        let batcher = Arc::new(Batcher::new(1, move |numbers: Arc<[u32]>| {
            let held = held.clone();
            async move {
                held.acquire().await.unwrap().forget();
                assert_ne!(*numbers, [13], "this one panics");
                Ok(numbers.to_vec())
            }
        }));
        let (first, other) = (ask(&batcher, &[13]).await, ask(&batcher, &[1]).await);
        permits.add_permits(100);
        for asked in [first, other] {
            let answers = tokio::time::timeout(std::time::Duration::from_secs(10), asked.join_all()).await;
            assert!(answers.expect("nobody answers")[0].1.as_ref().unwrap_err().is_unavailable());
        }
        assert_eq!(batcher.call(2).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn no_batch_is_larger_than_a_transaction_may_be() {
        let (permits, largest) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let (held, seen) = (permits.clone(), largest.clone());
        let batcher = Arc::new(Batcher::new(1, move |numbers: Arc<[u32]>| {
            seen.fetch_max(numbers.len(), Ordering::SeqCst);
            let held = held.clone();
            async move {
                held.acquire().await.unwrap().forget();
                Ok(numbers.to_vec())
            }
        }));
        let first = ask(&batcher, &[0]).await;
        let others = ask(&batcher, &(0..=u32::try_from(BATCH_MAX).unwrap()).collect::<Vec<_>>()).await;
        permits.add_permits(3);
        for (number, answer) in first.join_all().await.into_iter().chain(others.join_all().await) {
            assert_eq!(answer.unwrap(), number);
        }
        assert_eq!(largest.load(Ordering::SeqCst), BATCH_MAX);
    }

    #[tokio::test]
    async fn whoever_comes_where_too_many_wait_is_refused() {
        let (permits, batches) = (Arc::new(Semaphore::new(100)), Arc::new(AtomicUsize::new(0)));
        let batcher = doubling(&permits, &batches);
        batcher.0.lock().waiting.extend((0..WAITING_MAX).map(|_| (1, oneshot::channel().0)));
        assert!(batcher.call(2).await.unwrap_err().is_unavailable());
        batcher.0.lock().waiting.pop();
        assert_eq!(batcher.call(2).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn nobody_is_given_the_answer_of_another() {
        let permits = Arc::new(Semaphore::new(0));
        let held = permits.clone();
        // Of several it leaves out the first.
        let batcher = Arc::new(Batcher::new(1, move |numbers: Arc<[u32]>| {
            let held = held.clone();
            async move {
                held.acquire().await.unwrap().forget();
                Ok(numbers[usize::from(numbers.len() > 1)..].to_vec())
            }
        }));
        let (first, others) = (ask(&batcher, &[1]).await, ask(&batcher, &[2, 3, 4]).await);
        permits.add_permits(100);
        for (number, answer) in first.join_all().await.into_iter().chain(others.join_all().await) {
            assert_eq!(answer.unwrap(), number);
        }
    }
}
