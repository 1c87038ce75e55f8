//! How many wrong passwords there may be, of an account and from an address.

use super::*;

#[tokio::test]
async fn an_account_is_limited_by_failures_alone_and_says_how_long() {
    let bench = Bench::with_alice(|_| {}).await;
    for _ in 0..5 {
        let logged_in = bench.accounts.login("alice", PASSWORD, None).await;
        assert!(logged_in.is_ok(), "log-ins that succeed don't count");
    }
    for _ in 0..3 {
        assert!(is_bad_credentials(&bench.login("wrong", AWAY).await));
    }
    assert_eq!(retry_after(bench.login(PASSWORD, AWAY).await), Duration::from_secs(100));
    bench.clock.advance(Duration::from_secs(99));
    assert_eq!(retry_after(bench.login(PASSWORD, HOME).await), Duration::from_secs(1), "from elsewhere too");
    bench.clock.advance(Duration::from_secs(1));
    assert!(bench.login(PASSWORD, AWAY).await.is_ok());
}

#[tokio::test]
async fn an_unknown_account_is_limited_like_a_known_one() {
    let bench = Bench::with_alice(|_| {}).await;
    for _ in 0..3 {
        assert!(is_bad_credentials(&bench.accounts.login("nobody", "wrong", Some(AWAY)).await));
    }
    retry_after(bench.accounts.login("nobody", "wrong", Some(AWAY)).await);
}

#[tokio::test]
async fn an_accounts_limit_does_not_lock_its_owner_out_at_home_but_the_addresss_own_does() {
    let bench = Bench::with_alice(|_| {}).await;
    bench.begin_session(HOME).await;
    for _ in 0..3 {
        assert!(is_bad_credentials(&bench.login("wrong", AWAY).await));
    }
    retry_after(bench.login(PASSWORD, AWAY).await);
    assert!(bench.login(PASSWORD, HOME).await.is_ok());

    for _ in 0..6 {
        retry_after(bench.login("wrong", HOME).await);
    }
    retry_after(bench.login(PASSWORD, HOME).await);
}

#[tokio::test]
async fn an_address_is_limited_across_accounts() {
    let bench = Bench::with_alice(|_| {}).await;
    for n in 0..6 {
        assert!(is_bad_credentials(&bench.accounts.login(&format!("user{n}"), "wrong", Some(AWAY)).await));
    }
    retry_after(bench.login(PASSWORD, AWAY).await);
    assert!(bench.login(PASSWORD, HOME).await.is_ok());
}

#[tokio::test]
async fn an_address_is_limited_for_names_that_nobody_can_have_too() {
    let bench = Bench::with_alice(|_| {}).await;
    for _ in 0..6 {
        assert!(is_bad_credentials(&bench.accounts.login("a\u{0}b", "wrong", Some(AWAY)).await));
    }
    retry_after(bench.accounts.login("a\u{0}b", "wrong", Some(AWAY)).await);
    retry_after(bench.login(PASSWORD, AWAY).await);
}

#[tokio::test]
async fn many_guesses_at_once_pass_the_limit_by_no_more_than_may_hash_at_once() {
    let bench = Bench::with_alice(|settings| settings.password.concurrency = 2).await;
    let mut guesses = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let accounts = bench.accounts.clone();
        guesses.spawn(async move { is_bad_credentials(&accounts.login("alice", "wrong", None).await) });
    }
    let tried = guesses.join_all().await.into_iter().filter(|tried| *tried).count();
    assert!((3..=3 + 1).contains(&tried), "{tried}");
}
