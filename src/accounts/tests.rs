mod limits;

use std::time::Duration;

use super::first_admin::FirstAdmin;
use super::*;
use crate::clock::{Clock, ManualClock};
use crate::config::{self, LoginSettings, Secret, Settings};
use crate::registry::{Expect, Grant};
use crate::token::{AudienceRule, Denial};

const PASSWORD: &str = "correct horse battery";
const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const AWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

struct Bench {
    registry: Registry,
    accounts: Accounts,
    clock: ManualClock,
}

async fn bench(change: impl FnOnce(&mut Settings)) -> Bench {
    let mut settings = Settings::for_tests();
    settings.password.memory_kib = 16;
    settings.password.iterations = 1;
    settings.password.parallelism = 1;
    settings.login = LoginSettings { limit: 3, address_limit: 6, window: Duration::from_secs(300) };
    change(&mut settings);
    let clock = ManualClock::here();
    let registry = Registry::open(settings, clock.clone()).await.unwrap();
    let accounts = Accounts::new(&registry).unwrap();
    Bench { registry, accounts, clock }
}

fn without_limits(settings: &mut Settings) {
    (settings.login.limit, settings.login.address_limit) = (0, 0);
}

fn operator() -> Act {
    Act::by(Actor::command_line("tester"))
}

fn name(name: &str) -> Subject {
    name.parse().unwrap()
}

impl Bench {
    async fn with_alice(change: impl FnOnce(&mut Settings)) -> Self {
        let bench = bench(change).await;
        bench.accounts.add(&name("alice"), PASSWORD, &"notes:read".parse().unwrap(), &operator()).await.unwrap();
        bench
    }

    async fn login(&self, password: &str, ip: IpAddr) -> Result<LoggedIn, LoginFailure> {
        self.accounts.login("alice", password, Some(ip)).await
    }

    /// Logs in as `/login` does, from this address.
    async fn begin_session(&self, ip: IpAddr) -> Checked {
        let logged_in = self.login(PASSWORD, ip).await.unwrap();
        let grant = Grant::to(name("alice")).fresh(true).device(Some(ip), None).as_of(logged_in.as_of);
        let issued = self.registry.issue(grant).await.unwrap();
        self.registry.check(issued.access_token(), Expect::access()).await.unwrap()
    }
}

fn is_bad_credentials<T>(outcome: &Result<T, LoginFailure>) -> bool {
    matches!(outcome, Err(LoginFailure::BadCredentials))
}

fn retry_after<T>(outcome: Result<T, LoginFailure>) -> Duration {
    match outcome {
        Err(LoginFailure::Limited { retry_after }) => retry_after,
        _ => panic!("it should be limited"),
    }
}

#[tokio::test]
async fn whoever_is_unknown_wrong_disabled_or_impossible_is_told_the_same() {
    let bench = Bench::with_alice(without_limits).await;
    assert!(bench.login(PASSWORD, HOME).await.is_ok());
    assert!(is_bad_credentials(&bench.login("wrong", HOME).await));
    for nobody in ["bob", "", "a\u{0}b", &"x".repeat(300)] {
        assert!(is_bad_credentials(&bench.accounts.login(nobody, PASSWORD, Some(HOME)).await), "{nobody:?}");
    }
    bench.accounts.set_disabled(&name("alice"), true, &operator()).await.unwrap();
    assert!(is_bad_credentials(&bench.login(PASSWORD, HOME).await));
    bench.accounts.set_disabled(&name("alice"), false, &operator()).await.unwrap();
    assert!(bench.login(PASSWORD, HOME).await.is_ok());
}

#[tokio::test]
async fn whoever_is_unknown_or_impossible_takes_as_long_as_a_wrong_password() {
    let bench = Bench::with_alice(|settings| {
        without_limits(settings);
        // So long that hashing is what takes the time.
        settings.password.iterations = 1_000;
    })
    .await;
    // The quickest of some, in turns: other tests run beside this one.
    let mut quickest = [("alice", Duration::MAX), ("bob", Duration::MAX), ("a\u{0}b", Duration::MAX)];
    for _ in 0..5 {
        for (username, quickest) in &mut quickest {
            let began = std::time::Instant::now();
            assert!(is_bad_credentials(&bench.accounts.login(username, "wrong", Some(HOME)).await));
            *quickest = began.elapsed().min(*quickest);
        }
    }
    let [(_, wrong), (_, unknown), (_, impossible)] = quickest;
    // Without hashing it would be a hundredth.
    assert!(unknown > wrong / 5 && impossible > wrong / 5, "{quickest:?}");
}

/// Over the account's limit too: otherwise time would tell at a shared address who logs in there.
#[tokio::test]
async fn whoever_is_over_the_accounts_limit_takes_as_long_as_a_wrong_password() {
    let bench = Bench::with_alice(|settings| {
        settings.login = LoginSettings { limit: 1, address_limit: 0, window: Duration::from_secs(300) };
        settings.password.iterations = 1_000;
    })
    .await;
    bench.begin_session(HOME).await;
    for username in ["alice", "bob"] {
        assert!(is_bad_credentials(&bench.accounts.login(username, "wrong", Some(AWAY)).await));
    }
    let mut quickest =
        [("alice", "wrong", HOME), ("bob", "wrong", HOME), ("alice", "wrong", AWAY), ("alice", PASSWORD, AWAY)]
            .map(|attempt| (attempt, Duration::MAX));
    for _ in 0..5 {
        for ((username, password, ip), quickest) in &mut quickest {
            let began = std::time::Instant::now();
            retry_after(bench.accounts.login(username, password, Some(*ip)).await);
            *quickest = began.elapsed().min(*quickest);
        }
    }
    let known = quickest[0].1;
    assert!(quickest.iter().all(|(_, took)| *took > known / 5), "{quickest:?}");
}

/// What may happen between the check of a password and the issue of its tokens, without leaving a live token behind.
#[tokio::test]
async fn a_log_in_under_way_is_superseded_by_whatever_ends_all_of_its_users_tokens() {
    for case in ["revoke-all", "password", "disable", "delete"] {
        let bench = Bench::with_alice(|_| {}).await;
        let Bench { registry, accounts, .. } = &bench;
        let logged_in = bench.login(PASSWORD, HOME).await.unwrap();
        let alice = name("alice");
        match case {
            "revoke-all" => drop(registry.revoke_all(&alice, None, operator()).await.unwrap()),
            "password" => accounts.set_password(&alice, "another password", false, &operator()).await.unwrap(),
            "disable" => drop(accounts.set_disabled(&alice, true, &operator()).await.unwrap()),
            _ => accounts.delete(&alice, &operator()).await.unwrap(),
        }
        let issued = registry.issue(Grant::to(alice).as_of(logged_in.as_of)).await;
        assert!(issued.unwrap_err().is_superseded(), "{case}");
    }
}

#[tokio::test]
async fn a_password_is_hashed_anew_when_its_parameters_changed() {
    let bench = Bench::with_alice(|_| {}).await;
    let mut settings = bench.registry.settings().password;
    settings.iterations = 2;
    let newer = Accounts { registry: bench.registry.clone(), passwords: Arc::new(Passwords::new(&settings).unwrap()) };
    let store = bench.registry.store().unwrap();
    let hash = async || store.user(&name("alice")).await.unwrap().unwrap().password_hash;
    let before = hash().await;
    assert!(newer.login("alice", "wrong", None).await.is_err());
    assert_eq!(hash().await, before);
    newer.login("alice", PASSWORD, None).await.unwrap();
    let after = hash().await;
    assert_ne!(after, before);
    assert!(after.contains("t=2"), "{after}");
    newer.login("alice", PASSWORD, None).await.unwrap();
    assert_eq!(hash().await, after);
}

#[tokio::test]
async fn changing_a_password_ends_the_other_sessions_and_guesses_are_limited() {
    let bench = Bench::with_alice(|_| {}).await;
    let Bench { registry, accounts, .. } = &bench;
    let (mine, other) = (bench.begin_session(HOME).await, bench.begin_session(AWAY).await);
    let live = async || -> Vec<_> {
        let page = registry.sessions(&name("alice"), None, 10).await.unwrap();
        page.sessions.into_iter().map(|session| session.sid).collect()
    };
    let wrong = accounts.change_password(&mine, "wrong", "another password", false, Some(HOME)).await;
    assert!(is_bad_credentials(&wrong));
    let short = accounts.change_password(&mine, PASSWORD, "short", false, Some(HOME)).await;
    assert!(matches!(short, Err(LoginFailure::Failed(error)) if error.field() == Some("new")));
    assert_eq!(live().await.len(), 2);

    accounts.change_password(&mine, PASSWORD, "another password", true, Some(HOME)).await.unwrap();
    assert_eq!(live().await.len(), 2);
    accounts.change_password(&mine, "another password", "a third password", false, Some(HOME)).await.unwrap();
    assert_eq!(live().await, [mine.claims().sid]);
    assert_ne!(mine.claims().sid, other.claims().sid);

    for _ in 0..6 {
        drop(accounts.change_password(&mine, "wrong", "another password", false, Some(HOME)).await);
    }
    retry_after(accounts.change_password(&mine, "a third password", "another password", false, Some(HOME)).await);
}

#[tokio::test]
async fn nobody_changes_the_password_of_a_subject_that_is_no_user() {
    let bench = bench(|_| {}).await;
    let issued = bench.registry.issue(Grant::to(name("guest")).fresh(true)).await.unwrap();
    let guest = bench.registry.check(issued.access_token(), Expect::access()).await.unwrap();
    let changed = bench.accounts.change_password(&guest, "any", "another password", false, None).await;
    assert!(is_bad_credentials(&changed));
}

#[tokio::test]
async fn a_name_taken_again_does_not_inherit_tokens() {
    let bench = Bench::with_alice(|_| {}).await;
    let alice = name("alice");
    let token = bench.registry.issue(Grant::to(alice.clone())).await.unwrap();
    let add = bench.accounts.add(&alice, PASSWORD, &Scopes::default(), &operator()).await;
    assert!(add.unwrap_err().is_conflict());
    bench.accounts.delete(&alice, &operator()).await.unwrap();
    assert!(bench.accounts.get(&alice).await.unwrap_err().is_not_found());
    assert!(bench.accounts.delete(&alice, &operator()).await.unwrap_err().is_not_found());
    bench.accounts.add(&alice, PASSWORD, &Scopes::default(), &operator()).await.unwrap();
    let expect = Expect::access().audience(AudienceRule::Any);
    assert_eq!(bench.registry.check(token.access_token(), expect).await, Err(Denial::Revoked));
}

#[tokio::test]
async fn the_first_administrator_is_created_once_whoever_asks() {
    let bench = bench(|settings| {
        settings.first_admin = config::FirstAdmin::Print;
        settings.first_admin_password = None;
    })
    .await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let accounts = Accounts::new(&bench.registry).unwrap();
        asking.spawn(async move { accounts.ensure_first_admin().await.unwrap() });
    }
    let mut created: Vec<FirstAdmin> = asking.join_all().await.into_iter().flatten().collect();
    assert_eq!(created.len(), 1);
    let password = created.remove(0).password.unwrap();
    let admin = bench.accounts.login("admin", &password, None).await.unwrap().user;
    assert!(admin.scope.contains("registry:admin"));

    bench.accounts.delete(&name("admin"), &operator()).await.unwrap();
    assert!(bench.accounts.ensure_first_admin().await.unwrap().is_none(), "never again");
}

#[tokio::test]
async fn the_first_administrator_has_the_chosen_password_or_none_is_made() {
    let chosen = bench(|settings| {
        settings.first_admin = config::FirstAdmin::Print;
        settings.first_admin_password = Some(Secret(PASSWORD.to_owned()));
    })
    .await;
    assert!(chosen.accounts.ensure_first_admin().await.unwrap().unwrap().password.is_none());
    assert!(chosen.accounts.login("admin", PASSWORD, None).await.is_ok());

    let short = bench(|settings| {
        settings.first_admin = config::FirstAdmin::Print;
        settings.first_admin_password = Some(Secret("short".to_owned()));
    })
    .await;
    let refused = short.accounts.ensure_first_admin().await.unwrap_err();
    assert!(refused.is_config() && refused.to_string().contains("first_admin_password_file"), "{refused}");

    let off = bench(|settings| settings.first_admin = config::FirstAdmin::Off).await;
    assert!(off.accounts.ensure_first_admin().await.unwrap().is_none());

    let with_users = Bench::with_alice(|settings| settings.first_admin = config::FirstAdmin::Print).await;
    assert!(with_users.accounts.ensure_first_admin().await.unwrap().is_none());
}

/// Somebody takes a scope away while somebody else, who has looked at them already, adds another one: neither is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_was_taken_away_meanwhile_does_not_come_back() {
    let bench = Bench::with_alice(|_| {}).await;
    let (accounts, alice, act) = (&bench.accounts, name("alice"), operator());
    let looks = std::cell::Cell::new(0);
    let add = |held: &Scopes| {
        looks.set(looks.get() + 1);
        if looks.get() == 1 {
            let take = accounts.change_scopes(&alice, |_| Ok(Scopes::default()), &act);
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(take)).unwrap();
        }
        format!("{held} notes:write").parse()
    };
    let user = accounts.change_scopes(&alice, add, &act).await.unwrap();
    assert_eq!((user.scope.to_string().as_str(), looks.get()), ("notes:write", 2));
    assert_eq!(accounts.get(&alice).await.unwrap(), user);
}

/// The user's own change compared the old password before somebody above set another: it must not set that back.
#[tokio::test]
async fn a_change_under_way_does_not_undo_a_password_that_was_set_meanwhile() {
    let bench = Bench::with_alice(|_| {}).await;
    let mine = bench.begin_session(HOME).await;
    let store = bench.registry.store().unwrap();
    let alice = name("alice");
    let compared = store.user(&alice).await.unwrap().unwrap().password_hash;
    bench.accounts.set_password(&alice, "set by the operator", true, &operator()).await.unwrap();

    let ends = Some(EndSessions { keep: Some(mine.claims().sid) });
    let now = bench.clock.now_seconds();
    let replaced = Some(Replaced { hash: &compared, at_address: None });
    let changed = store.set_password(&alice, "$hash", replaced, ends, &operator(), now).await.unwrap();
    assert!(!changed.outcome);
    assert!(bench.login("set by the operator", HOME).await.is_ok());
}

/// Neither may a log-in with the old one make its address known.
#[tokio::test]
async fn a_log_in_under_way_makes_no_address_known_with_a_password_that_is_not_good_any_more() {
    let bench = Bench::with_alice(|_| {}).await;
    let store = bench.registry.store().unwrap();
    let (alice, now) = (name("alice"), bench.clock.now_seconds());
    let compared = store.user(&alice).await.unwrap().unwrap().password_hash;
    store.note_address(&alice, "192.0.2.1", &compared, now).await.unwrap();
    bench.accounts.set_password(&alice, "set by the operator", true, &operator()).await.unwrap();
    store.note_address(&alice, "192.0.2.1", &compared, now).await.unwrap();
    assert!(!store.knows_address(&alice, "192.0.2.1", 0).await.unwrap());
}

#[tokio::test]
async fn a_password_is_changed_though_a_log_in_hashes_it_anew_meanwhile() {
    let bench = Bench::with_alice(without_limits).await;
    let token = bench.begin_session(HOME).await;
    // Two processes with other parameters than the hash was made with. Who changes takes so long that the log-in is
    // over.
    let process = |iterations| {
        let settings = config::PasswordSettings { iterations, ..bench.registry.settings().password };
        Accounts { registry: bench.registry.clone(), passwords: Arc::new(Passwords::new(&settings).unwrap()) }
    };
    let (slow, quick) = (process(2_000), process(2));
    let before = bench.registry.store().unwrap().user(&name("alice")).await.unwrap().unwrap().password_hash;
    let (changed, logged_in) =
        tokio::join!(slow.change_password(&token, PASSWORD, "another password", false, Some(HOME)), async {
            let logged_in = quick.login("alice", PASSWORD, Some(HOME)).await;
            let hash = bench.registry.store().unwrap().user(&name("alice")).await.unwrap().unwrap().password_hash;
            (logged_in, hash)
        });
    assert!(logged_in.0.is_ok() && logged_in.1 != before, "it was hashed anew");
    changed.unwrap();
    assert!(is_bad_credentials(&bench.login(PASSWORD, HOME).await));
    assert!(bench.login("another password", HOME).await.is_ok());
}
