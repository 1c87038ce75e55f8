use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::*;

/// A worker that takes a permit for each batch, and answers with what `work` makes of it.
fn held(
    permits: &Arc<Semaphore>,
    work: impl Fn(&[u32]) -> Vec<u32> + Clone + Send + Sync + 'static,
) -> Arc<Batcher<u32, u32>> {
    let permits = permits.clone();
    Arc::new(Batcher::new(1, move |numbers: Arc<[u32]>| {
        let (permits, work) = (permits.clone(), work.clone());
        async move {
            permits.acquire().await.unwrap().forget();
            Ok(work(&numbers))
        }
    }))
}

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
    let batcher = held(&permits, |numbers| {
        assert_ne!(numbers, [13], "this one panics");
        numbers.to_vec()
    });
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
    let seen = largest.clone();
    let batcher = held(&permits, move |numbers| {
        seen.fetch_max(numbers.len(), Ordering::SeqCst);
        numbers.to_vec()
    });
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
    // Of several it leaves out the first.
    let batcher = held(&permits, |numbers| numbers[usize::from(numbers.len() > 1)..].to_vec());
    let (first, others) = (ask(&batcher, &[1]).await, ask(&batcher, &[2, 3, 4]).await);
    permits.add_permits(100);
    for (number, answer) in first.join_all().await.into_iter().chain(others.join_all().await) {
        assert_eq!(answer.unwrap(), number);
    }
}
