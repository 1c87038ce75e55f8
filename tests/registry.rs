//! The registry through its public interface: what is recorded, listed, revoked, superseded and purged, the same on both
//! databases.

mod undoing;

use std::time::Duration;

use counterfoil::{
    Act, Actor, Clock, Cursor, Denial, Expect, Filter, Grant, Issued, Jti, ManualClock, Personal, Record, Refresh,
    Registry, Settings, Sid, State, Subject, SystemClock, TokenType,
};
use tempfile::TempDir;

use crate::support::forge;
use crate::support::postgres::Cluster;
use crate::support::{Database, json, on_both};

/// A registry on a fresh database, with a clock that the test moves.
struct Fixture {
    registry: Registry,
    clock: ManualClock,
    settings: String,
    _home: TempDir,
}

impl std::ops::Deref for Fixture {
    type Target = Registry;

    fn deref(&self) -> &Registry {
        &self.registry
    }
}

/// With these settings, in TOML.
async fn open_with(database: Database, settings: &str) -> Fixture {
    let home = tempfile::tempdir().unwrap();
    let url = match database {
        Database::Sqlite => format!("sqlite://{}", home.path().join("registry.db").display()),
        Database::Postgres => crate::support::postgres::database(),
    };
    // A secret in the settings, so that a second registry on the same database accepts the same tokens.
    let settings = format!(
        "database_url = '{url}'\nalgorithm = 'HS256'\nkeys.secret = '{}'\n{settings}",
        "a secret of more than thirty-two bytes"
    );
    let clock = ManualClock::here();
    let registry = Registry::open(Settings::for_tests_with(&settings).unwrap(), clock.clone()).await.unwrap();
    Fixture { registry, clock, settings, _home: home }
}

async fn open(database: Database) -> Fixture {
    open_with(database, "").await
}

impl Fixture {
    /// Another process on the same database.
    async fn twin(&self) -> Registry {
        Registry::open(Settings::for_tests_with(&self.settings).unwrap(), self.clock.clone()).await.unwrap()
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Issues a pair; each in a second of its own.
    async fn pair(&self, subject: &str) -> Issued {
        self.pass(1);
        self.issue(Grant::to(name(subject)).scope("read write".parse().unwrap())).await.unwrap()
    }

    async fn accepts(&self, token: &str) -> bool {
        match self.check(token, Expect::either()).await {
            Ok(_) => true,
            Err(Denial::Revoked) => false,
            Err(denial) => panic!("{denial:?}"),
        }
    }

    async fn revocation_of(&self, jti: Jti) -> Option<(i64, String, Option<String>, bool)> {
        let revocation = self.get(jti).await.unwrap().revocation?;
        Some((revocation.at.timestamp(), revocation.by.name, revocation.reason, revocation.is_final))
    }
}

fn name(subject: &str) -> Subject {
    subject.parse().unwrap()
}

fn by(subject: &str) -> Act {
    Act::by(Actor::subject(&name(subject)))
}

fn admin() -> Act {
    Act::by(Actor::administrator(&name("root"))).reason("a lost phone").unwrap()
}

fn jti(issued: &Issued) -> Jti {
    issued.access_claims().jti
}

fn sid(issued: &Issued) -> Sid {
    issued.access_claims().sid
}

fn refresh_token(issued: &Issued) -> &str {
    issued.refresh_token().unwrap()
}

fn ids(records: &[Record]) -> Vec<Jti> {
    records.iter().map(|record| record.jti).collect()
}

/// In text, as the server writes it.
#[tokio::test]
async fn a_subject_forges_no_fields_in_the_log() {
    let registry = open(Database::Sqlite).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let writer = std::sync::Arc::new(file.reopen().unwrap());
    let _guard = tracing::subscriber::set_default(tracing_subscriber::fmt().with_writer(writer).finish());
    let present = async |issued: &Issued| registry.check(refresh_token(issued), Expect::refresh()).await.unwrap();
    let first = registry.pair("x session=y jti=\"z\" \u{2028}2026-01-01 ERROR").await;
    let presented = present(&first).await;
    let second = registry.refresh(&presented, Refresh::new()).await.unwrap();
    registry.refresh(&present(&second).await, Refresh::new()).await.unwrap();
    assert!(registry.refresh(&presented, Refresh::new()).await.unwrap_err().is_superseded());
    let log = std::fs::read_to_string(file.path()).unwrap();
    let line = log.lines().find(|line| line.contains("used twice")).unwrap_or_else(|| panic!("{log}"));
    let subject = r#"subject="x session=y jti=\"z\" \u{2028}2026-01-01 ERROR""#;
    assert!(line.contains(&format!("{subject} session={}", sid(&first))), "{line}");
}

on_both! {
    async fn what_is_issued_is_on_the_registry_and_accepted(database: Database) {
        let registry = open(database).await;
        let grant = Grant::to(name("alice")).scope("read".parse().unwrap()).label("phone").unwrap()
            .device(Some([192, 0, 2, 7].into()), Some("Browser/1")).claim("tenant", "acme").unwrap();
        let issued = registry.issue(grant).await.unwrap();
        let checked = registry.check(issued.access_token(), Expect::access()).await.unwrap();
        assert_eq!(checked.claims(), issued.access_claims());

        let record = registry.get(jti(&issued)).await.unwrap();
        assert_eq!(record.token, checked.claims().to_members());
        assert_eq!(record.token["tenant"], "acme");
        assert_eq!((record.token_type, record.subject.as_str()), (TokenType::Access, "alice"));
        assert_eq!(record.label.as_deref(), Some("phone"));
        assert_eq!(record.ip.as_deref(), Some("192.0.2.7"));
        assert_eq!(record.user_agent.as_deref(), Some("Browser/1"));
        assert_eq!((record.revocation, record.client, record.last_used_at), (None, None, None));

        assert!(registry.get(Jti::new(registry.now())).await.unwrap_err().is_not_found());
        let renamed = registry.set_label(jti(&issued), &name("alice"), Some("old phone".into())).await.unwrap();
        assert_eq!(renamed.label.as_deref(), Some("old phone"));
        assert!(registry.set_label(jti(&issued), &name("bob"), None).await.unwrap_err().is_not_found());
        assert!(registry.twin().await.check(issued.access_token(), Expect::access()).await.is_ok());
    }

    async fn a_refresh_issues_another_access_token_in_its_session(database: Database) {
        let registry = open(database).await;
        let issued = registry.pair("alice").await;
        let presented = registry.check(refresh_token(&issued), Expect::refresh()).await.unwrap();
        registry.pass(60);
        let refreshed =
            registry.refresh(&presented, Refresh::new().within("read".parse().unwrap())).await.unwrap();
        assert_eq!(sid(&refreshed), sid(&issued));
        assert_eq!(refreshed.access_claims().scope.to_string(), "read");
        assert!(registry.accepts(refreshed.access_token()).await);
        let access = registry.check(refreshed.access_token(), Expect::access()).await.unwrap();
        assert!(registry.refresh(&access, Refresh::new()).await.unwrap_err().is_invalid());

        // Only logging in makes a token fresh, and the refresh token is for the issuer whatever was granted.
        let grant = Grant::to(name("bob")).fresh(true).audience(["https://api.example"]).unwrap();
        let fresh = registry.issue(grant).await.unwrap();
        assert_eq!(fresh.refresh_claims().unwrap().aud, [registry.settings().issuer()]);
        let presented = registry.check(refresh_token(&fresh), Expect::refresh()).await.unwrap();
        let stale = registry.refresh(&presented, Refresh::new()).await.unwrap();
        assert!(fresh.access_claims().fresh && !stale.access_claims().fresh);
        assert_eq!(stale.access_claims().aud, ["https://api.example"]);

        let sessions = registry.sessions(&name("alice")).await.unwrap();
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions[0].last_seen_at.timestamp(), registry.now().timestamp());
        assert_eq!(sessions[0].expires_at.timestamp(), refreshed.refresh_claims().unwrap().exp);
    }

    async fn lists_are_newest_first_paged_and_narrowed(database: Database) {
        let registry = open(database).await;
        let mut newest_first = Vec::new();
        for n in 0..5 {
            let issued = registry.pair(if n == 2 { "bob" } else { "alice" }).await;
            newest_first.insert(0, issued);
        }
        let alices = Filter::subject(name("alice"));
        let all = registry.list(&alices).await.unwrap();
        assert_eq!(all.len(), 8);
        assert!(all.windows(2).all(|pair| (pair[0].issued_at, pair[0].jti) > (pair[1].issued_at, pair[1].jti)));
        assert!(all.iter().all(|record| record.subject.as_str() == "alice"));
        assert_eq!(registry.list(&Filter::all()).await.unwrap().len(), 10);
        assert!(registry.list(&Filter::subject(name("nobody"))).await.unwrap().is_empty());

        let mut pages = Vec::new();
        let mut filter = alices.clone().limit(3).unwrap();
        loop {
            let page = registry.list(&filter).await.unwrap();
            let Some(last) = page.last() else { break };
            filter = filter.after(Cursor::of(last).to_string().parse().unwrap());
            pages.extend(page);
        }
        assert_eq!(pages, all);

        let access = registry.list(&Filter::all().token_type(TokenType::Access)).await.unwrap();
        assert_eq!(ids(&access), newest_first.iter().map(jti).collect::<Vec<_>>());

        // One revoked by itself, one with its session; then the access tokens expire.
        registry.revoke(jti(&newest_first[0]), admin()).await.unwrap();
        registry.end_session(sid(&newest_first[1]), admin()).await.unwrap();
        let count = async |filter: &Filter, state| registry.list(&filter.clone().state(state)).await.unwrap().len();
        assert_eq!((count(&alices, State::Revoked).await, count(&alices, State::Live).await), (3, 5));
        registry.pass(15 * 60);
        assert_eq!(count(&alices, State::Revoked).await, 3);
        assert_eq!((count(&alices, State::Expired).await, count(&alices, State::Live).await), (2, 3));
        assert_eq!((count(&Filter::all(), State::Expired).await, count(&Filter::all(), State::Live).await), (3, 4));
    }

    async fn a_subject_reaches_its_own_records_alone(database: Database) {
        let registry = open(database).await;
        let issued = registry.pair("alice").await;
        assert!(registry.revoke(jti(&issued), by("bob")).await.unwrap_err().is_not_found());
        assert!(registry.unrevoke(jti(&issued), by("bob")).await.unwrap_err().is_not_found());
        assert!(registry.end_session(sid(&issued), by("bob")).await.unwrap_err().is_not_found());
        assert!(registry.revoke_all(&name("alice"), None, by("bob")).await.unwrap_err().is_not_found());
        assert!(registry.accepts(issued.access_token()).await);
    }

    async fn an_ended_session_takes_all_its_tokens_for_good(database: Database) {
        let registry = open(database).await;
        let (issued, other) = (registry.pair("alice").await, registry.pair("alice").await);
        let presented = registry.check(refresh_token(&issued), Expect::refresh()).await.unwrap();
        registry.refresh(&presented, Refresh::new()).await.unwrap();
        registry.revoke(jti(&issued), by("alice")).await.unwrap();
        assert_eq!(registry.end_session(sid(&issued), by("alice")).await.unwrap(), 2);
        assert_eq!(registry.end_session(sid(&issued), by("alice")).await.unwrap(), 0);
        assert!(registry.end_session(Sid::new(registry.now()), admin()).await.unwrap_err().is_not_found());
        assert!(!registry.accepts(refresh_token(&issued)).await);
        assert!(registry.accepts(other.access_token()).await);
        for jti in [jti(&issued), issued.refresh_claims().unwrap().jti] {
            assert!(registry.unrevoke(jti, admin()).await.unwrap_err().is_final());
            let (.., is_final) = registry.revocation_of(jti).await.unwrap();
            assert!(is_final);
        }
        assert!(registry.refresh(&presented, Refresh::new()).await.unwrap_err().is_superseded());
        let sessions = registry.sessions(&name("alice")).await.unwrap();
        assert_eq!(sessions.iter().map(|session| session.sid).collect::<Vec<_>>(), [sid(&other)]);
    }

    async fn revoke_all_ends_every_session_but_the_one_to_keep(database: Database) {
        let registry = open(database).await;
        let (one, two, bobs) = (registry.pair("alice").await, registry.pair("alice").await, registry.pair("bob").await);
        // Another subject's session is not kept, and not touched.
        assert_eq!(registry.revoke_all(&name("alice"), Some(sid(&bobs)), admin()).await.unwrap(), 4);
        assert!(!registry.accepts(one.access_token()).await && !registry.accepts(refresh_token(&two)).await);
        assert!(registry.accepts(bobs.access_token()).await);
        let at = registry.now().timestamp();
        let expected = Some((at, "root".into(), Some("a lost phone".into()), true));
        assert_eq!(registry.revocation_of(jti(&one)).await, expected);

        registry.pass(5);
        let (kept, lost) = (registry.pair("alice").await, registry.pair("alice").await);
        assert_eq!(registry.revoke_all(&name("alice"), Some(sid(&kept)), by("alice")).await.unwrap(), 2);
        assert!(registry.accepts(kept.access_token()).await && !registry.accepts(lost.access_token()).await);
        assert_eq!(registry.revoke_all(&name("alice"), Some(sid(&kept)), by("alice")).await.unwrap(), 0);
        // An ended session is not brought back by being kept, and each keeps the first word on its end.
        assert_eq!(registry.revoke_all(&name("alice"), Some(sid(&lost)), by("alice")).await.unwrap(), 2);
        assert!(!registry.accepts(lost.access_token()).await);
        assert_eq!(registry.revocation_of(jti(&one)).await, expected);
        assert_eq!(registry.revoke_all(&name("nobody"), None, admin()).await.unwrap(), 0);
        assert!(registry.accepts(registry.pair("nobody").await.access_token()).await);
    }

    async fn whatever_began_before_an_end_leaves_nothing_live_behind(database: Database) {
        let registry = open(database).await;
        // A log-in, of a subject without and with a row.
        for _ in 0..2 {
            let as_of = registry.as_of(&name("alice")).await.unwrap();
            registry.revoke_all(&name("alice"), None, admin()).await.unwrap();
            let late = registry.issue(Grant::to(name("alice")).as_of(as_of)).await;
            assert!(late.unwrap_err().is_superseded());
        }
        // A moment of one subject says nothing about another.
        let as_of = registry.as_of(&name("bob")).await.unwrap();
        assert!(registry.issue(Grant::to(name("alice")).as_of(as_of)).await.unwrap_err().is_invalid());
        assert!(registry.list(&Filter::all()).await.unwrap().is_empty());

        // A refresh and a personal token, by an end of the session, of the token, of everything.
        let ends: [&dyn Fn(&Issued) -> End; 3] = [&|_| End::All, &|issued| End::Session(sid(issued)), &|issued| {
            End::Token(issued.refresh_claims().unwrap().jti)
        }];
        for end in ends {
            let issued = registry.pair("alice").await;
            let presented = registry.check(refresh_token(&issued), Expect::refresh()).await.unwrap();
            match end(&issued) {
                End::All => { registry.revoke_all(&name("alice"), None, admin()).await.unwrap(); }
                End::Session(sid) => { registry.end_session(sid, admin()).await.unwrap(); }
                End::Token(jti) => registry.revoke(jti, admin()).await.unwrap(),
            }
            assert!(registry.refresh(&presented, Refresh::new()).await.unwrap_err().is_superseded());
        }
        let issued = registry.pair("alice").await;
        let presented = registry.check(issued.access_token(), Expect::access()).await.unwrap();
        registry.revoke(jti(&issued), admin()).await.unwrap();
        let personal = registry.issue_personal(&presented, Personal::new("ci").unwrap()).await;
        assert!(personal.unwrap_err().is_superseded());
    }

    async fn a_personal_token_is_its_own_session(database: Database) {
        let registry = open_with(database, "check = 'refresh'").await;
        let issued = registry.pair("alice").await;
        // With this setting an access token has no record; a personal one has.
        assert!(registry.get(jti(&issued)).await.unwrap_err().is_not_found());
        let presented = registry.check(issued.access_token(), Expect::access()).await.unwrap();
        let personal = registry.issue_personal(&presented, Personal::new("ci").unwrap()).await.unwrap();
        assert_eq!(sid(&personal), jti(&personal).own_session());
        let wider = Personal::new("ci").unwrap().scope("read admin".parse().unwrap());
        assert_eq!(registry.issue_personal(&presented, wider).await.unwrap_err().field(), Some("scope"));
        registry.end_session(sid(&issued), by("alice")).await.unwrap();
        assert!(registry.accepts(personal.access_token()).await);
        registry.revoke(jti(&personal), by("alice")).await.unwrap();
        assert!(!registry.accepts(personal.access_token()).await);
        registry.unrevoke(jti(&personal), by("alice")).await.unwrap();
        assert_eq!(registry.revoke_all(&name("alice"), None, by("alice")).await.unwrap(), 1);
        assert!(!registry.accepts(personal.access_token()).await);
    }

    async fn a_verdict_minds_what_a_check_minds_first(database: Database) {
        let secret = "another secret of more than thirty-two bytes";
        let registry = open_with(database, &format!("keys.accept = [{{ secret = '{secret}' }}]")).await;
        let is_denied = async |record: &Record, token: &str, denial: Denial| {
            let verdict = registry.verdict_on(record).await.unwrap();
            let checked = registry.check(token, Expect::access()).await.err();
            assert_eq!((verdict.denial.as_ref(), checked), (Some(&denial), Some(denial.clone())), "{verdict:?}");
        };
        // Issued by a process whose clock is ahead.
        let ahead = ManualClock::at(registry.clock.now_seconds() + 3_600);
        let ahead = Registry::open(Settings::for_tests_with(&registry.settings).unwrap(), ahead).await.unwrap();
        let early = ahead.issue(Grant::to(name("alice"))).await.unwrap();
        let record = registry.get(jti(&early)).await.unwrap();
        is_denied(&record, early.access_token(), Denial::NotYetValid).await;

        // The record of an imported token is asked before its times, and of any other after them.
        let id = Jti::new(registry.now());
        let exp = registry.clock.now_seconds() + 600;
        let claims = json!({ "sub": "alice", "jti": id.to_string(), "exp": exp, "iat": exp - 900 });
        let imported = forge::sign_hs256(secret.as_bytes(), &json!({ "alg": "HS256", "typ": "JWT" }), &claims);
        registry.import(&imported).await.unwrap();
        let own = registry.pair("alice").await;
        for id in [id, jti(&own)] {
            registry.revoke(id, admin()).await.unwrap();
        }
        registry.pass(3_600);
        let record = registry.get(id).await.unwrap();
        is_denied(&record, &imported, Denial::Revoked).await;
        assert_eq!(registry.verdict_on(&record).await.unwrap().reasons.len(), 2);
        is_denied(&registry.get(jti(&own)).await.unwrap(), own.access_token(), Denial::Expired).await;
    }

    async fn a_token_from_elsewhere_is_imported_once(database: Database) {
        let secret = "another secret of more than thirty-two bytes";
        let registry = open_with(database, &format!("keys.accept = [{{ secret = '{secret}' }}]")).await;
        let id = Jti::new(registry.now());
        let exp = registry.clock.now_seconds() + 600;
        let header = json!({ "alg": "HS256", "typ": "JWT" });
        let token = forge::sign_hs256(
            secret.as_bytes(),
            &header,
            &json!({ "identity": 7, "jti": id.to_string(), "exp": exp, "iat": exp - 900 }),
        );
        assert_eq!(registry.check(&token, Expect::access()).await, Err(Denial::Unknown));
        let record = registry.import(&token).await.unwrap();
        assert_eq!((record.subject.as_str(), record.jti), ("7", id));
        assert!(registry.import(&token).await.unwrap_err().is_conflict());
        assert!(registry.accepts(&token).await);
        assert_eq!(registry.revoke_all(&name("7"), None, admin()).await.unwrap(), 1);
        assert!(!registry.accepts(&token).await);
    }

    async fn the_purge_takes_what_has_expired_for_every_checker_and_nothing_else(database: Database) {
        let registry = open_with(database, "leeway = '30s'\npurge.retain = '1m'\npurge.batch = 2\npurge.pause = '0s'").await;
        let mut access = Vec::new();
        for n in 0..5 {
            access.push(registry.issue(Grant::to(name(&format!("user{n}"))).without_refresh()).await.unwrap());
        }
        let kept = registry.pair("alice").await;
        registry.pass(15 * 60 - 1 + 30 + 60);
        assert_eq!((registry.purgeable().await.unwrap(), registry.purge().await.unwrap().tokens), (0, 0));
        registry.pass(1);
        assert_eq!(registry.purgeable().await.unwrap(), 5);
        let twin = registry.twin().await;
        let mut progress = Vec::new();
        let purged = twin.purge_with(|gone| progress.push(gone)).await.unwrap();
        assert_eq!((purged.tokens, purged.complete), (5, true));
        assert!(progress.is_sorted() && progress.len() >= 3, "{progress:?}");
        assert!(registry.get(jti(&access[0])).await.unwrap_err().is_not_found());
        assert_eq!(registry.check(access[0].access_token(), Expect::access()).await, Err(Denial::Expired));

        // The session outlives its access token, and the refresh token lives.
        let presented = registry.check(refresh_token(&kept), Expect::refresh()).await.unwrap();
        registry.pass(60);
        let refreshed = registry.refresh(&presented, Refresh::new()).await.unwrap();
        assert!(registry.accepts(refreshed.access_token()).await);
        registry.pass(31 * 24 * 60 * 60);
        registry.purge().await.unwrap();
        assert!(registry.list(&Filter::all()).await.unwrap().is_empty());
        assert!(registry.sessions(&name("alice")).await.unwrap().is_empty());
    }

    async fn a_purge_forgets_no_end_that_still_matters(database: Database) {
        let registry = open(database).await;
        let issued = registry.pair("alice").await;
        registry.revoke_all(&name("alice"), None, admin()).await.unwrap();
        registry.pass(29 * 24 * 60 * 60);
        registry.purge().await.unwrap();
        assert!(!registry.accepts(refresh_token(&issued)).await);
        let (.., reason, is_final) = registry.revocation_of(issued.refresh_claims().unwrap().jti).await.unwrap();
        assert_eq!((reason.as_deref(), is_final), (Some("a lost phone"), true));
        // A log-in that is under way is superseded, purge or no purge.
        let as_of = registry.as_of(&name("bob")).await.unwrap();
        registry.revoke_all(&name("bob"), None, admin()).await.unwrap();
        registry.pass(60 * 60);
        registry.purge().await.unwrap();
        assert!(registry.issue(Grant::to(name("bob")).as_of(as_of)).await.unwrap_err().is_superseded());
    }

    async fn a_machine_with_a_wrong_clock_purges_nothing(database: Database) {
        let registry = open(database).await;
        let ahead = Registry::open(Settings::for_tests_with(&registry.settings).unwrap(), Ahead).await.unwrap();
        assert!(ahead.purge().await.unwrap_err().is_unavailable());
        assert!(ahead.purgeable().await.unwrap_err().is_unavailable());
    }

    async fn one_process_purges_at_a_time(database: Database) {
        let registry = open_with(database, "purge.batch = 1\npurge.pause = '50ms'").await;
        for _ in 0..6 {
            registry.issue(Grant::to(name("alice")).without_refresh()).await.unwrap();
        }
        registry.pass(15 * 60 + 1);
        let twin = registry.twin().await;
        let (one, two) = tokio::join!(registry.purge(), twin.purge());
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(one.tokens + two.tokens, 6);
        assert!(one.tokens == 0 || two.tokens == 0, "{one:?} {two:?}");
        assert!(one.complete != two.complete);
    }

    async fn a_crowd_on_two_processes_sees_no_error_and_leaves_no_revoked_token_live(database: Database) {
        let registry = open(database).await;
        let twin = registry.twin().await;
        let mut crowd = tokio::task::JoinSet::new();
        for n in 0..32_u32 {
            let registry = if n % 2 == 0 { registry.registry.clone() } else { twin.clone() };
            crowd.spawn(async move {
                let subject = name(&format!("user{}", n % 3));
                let mut revoked = Vec::new();
                for round in 0..6 {
                    let issued = match registry.issue(Grant::to(subject.clone())).await {
                        Err(error) if error.is_superseded() => continue,
                        issued => issued.unwrap(),
                    };
                    let presented = registry.check(refresh_token(&issued), Expect::refresh()).await;
                    if let Ok(presented) = presented {
                        match registry.refresh(&presented, Refresh::new()).await {
                            Err(error) if error.is_superseded() => {}
                            refreshed => drop(refreshed.unwrap()),
                        }
                    }
                    match (n + round) % 4 {
                        0 => registry.revoke(jti(&issued), admin()).await.unwrap(),
                        1 => drop(registry.end_session(sid(&issued), admin()).await.unwrap()),
                        2 if round == 2 => drop(registry.revoke_all(&subject, None, admin()).await.unwrap()),
                        _ => continue,
                    }
                    revoked.push(issued);
                }
                revoked
            });
        }
        for issued in crowd.join_all().await.into_iter().flatten() {
            assert!(!registry.accepts(issued.access_token()).await);
        }
    }

    async fn processes_that_start_together_migrate_once(database: Database) {
        let registry = open(database).await;
        let fresh = open_unmigrated(database);
        let mut starts = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let settings = fresh.0.clone();
            starts.spawn(async move {
                let settings = Settings::for_tests_with(&settings).unwrap();
                Registry::migrate(&settings).await.unwrap().len()
            });
        }
        assert_eq!(starts.join_all().await.into_iter().filter(|applied| *applied > 0).count(), 1);
        drop(registry);
    }

    async fn an_older_or_newer_schema_is_refused_and_nothing_is_written(database: Database) {
        let (settings, home) = open_unmigrated(database);
        let settings = format!("{settings}\nmigrate = false");
        let parsed = || Settings::for_tests_with(&settings).unwrap();
        for _ in 0..2 {
            let error = Registry::open(parsed(), ManualClock::here()).await.unwrap_err();
            assert!(error.is_schema() && error.to_string().contains("counterfoil migrate"), "{error}");
        }
        assert!(!home.path().join("registry.db").exists());
        assert!(!Registry::migrate(&parsed()).await.unwrap().is_empty());
        assert!(Registry::migrate(&parsed()).await.unwrap().is_empty());
        assert!(Registry::open(parsed(), ManualClock::here()).await.is_ok());

        let newer = "insert into cf_migrations (version, description, success, checksum, execution_time) \
                     values (9999, 'from the future', true, $1, 0)";
        let url = settings.split('\'').nth(1).unwrap();
        match database {
            Database::Sqlite => {
                let pool = sqlx::SqlitePool::connect(url).await.unwrap();
                sqlx::query(newer).bind(Vec::<u8>::new()).execute(&pool).await.unwrap();
                pool.close().await;
            }
            Database::Postgres => {
                let pool = sqlx::PgPool::connect(url).await.unwrap();
                sqlx::query(newer).bind(Vec::<u8>::new()).execute(&pool).await.unwrap();
                pool.close().await;
            }
        }
        let error = Registry::open(parsed(), ManualClock::here()).await.unwrap_err();
        assert!(error.is_schema() && error.to_string().contains("newer"), "{error}");
    }
}

/// The clock of a machine that is a minute ahead of its database.
#[derive(Debug)]
struct Ahead;

impl Clock for Ahead {
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        SystemClock.now() + chrono::TimeDelta::seconds(60)
    }
}

/// What a test ends behind somebody's back.
enum End {
    All,
    Session(Sid),
    Token(Jti),
}

/// Settings for a database that has no tables yet.
fn open_unmigrated(database: Database) -> (String, TempDir) {
    let home = tempfile::tempdir().unwrap();
    let url = match database {
        Database::Sqlite => format!("sqlite://{}", home.path().join("registry.db").display()),
        Database::Postgres => crate::support::postgres::database(),
    };
    (format!("database_url = '{url}'"), home)
}

#[test]
fn registries_in_memory_are_apart_and_outlive_their_idle_connections() {
    crate::support::run(async {
        let open = || async {
            let clock = ManualClock::here();
            (Registry::open(Settings::for_tests(), clock.clone()).await.unwrap(), clock)
        };
        let ((one, _), (two, _)) = (open().await, open().await);
        let issued = one.issue(Grant::to(name("alice"))).await.unwrap();
        assert_eq!(one.list(&Filter::all()).await.unwrap().len(), 2);
        assert!(two.list(&Filter::all()).await.unwrap().is_empty());
        let mut crowd = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let one = one.clone();
            crowd.spawn(async move { one.issue(Grant::to(name("bob"))).await.unwrap() });
        }
        assert_eq!(crowd.join_all().await.len(), 16);
        assert!(one.check(issued.access_token(), Expect::access()).await.is_ok());
    });
}

#[test]
fn a_file_that_can_not_be_is_an_error_of_the_settings() {
    crate::support::run(async {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("text.db"), "this is no database, however long it may be made to be").unwrap();
        for path in ["missing/registry.db", "text.db", "."] {
            let url = format!("database_url = 'sqlite://{}'", home.path().join(path).display());
            let error = Registry::open(Settings::for_tests_with(&url).unwrap(), ManualClock::here()).await.unwrap_err();
            assert!(error.is_config() && error.to_string().contains("database_url"), "{path}: {error:?}");
        }
    });
}

#[test]
fn a_server_that_refuses_or_lacks_the_database_is_an_error_of_the_settings() {
    crate::support::run(async {
        let missing = crate::support::postgres::database() + "_not_there";
        let settings = Settings::for_tests_with(&format!("database_url = '{missing}'")).unwrap();
        let error = Registry::open(settings, ManualClock::here()).await.unwrap_err();
        assert!(error.is_config() && error.to_string().contains("no such database"), "{error:?}");
    });
}

#[test]
fn a_database_that_stops_is_unavailable_and_comes_back_by_itself() {
    crate::support::run(async {
        let cluster = Cluster::start();
        let settings = format!("database_url = '{}'", cluster.create("registry"));
        let registry = Registry::open(Settings::for_tests_with(&settings).unwrap(), ManualClock::here()).await.unwrap();
        let issued = registry.issue(Grant::to(name("alice"))).await.unwrap();
        for stop in [Cluster::stop, Cluster::kill] {
            stop(&cluster);
            assert_eq!(registry.check(issued.access_token(), Expect::access()).await, Err(Denial::Unavailable));
            let acts = [
                registry.revoke(jti(&issued), admin()).await.err(),
                registry.issue(Grant::to(name("alice"))).await.err(),
                registry.list(&Filter::all()).await.err(),
            ];
            assert!(acts.into_iter().all(|error| error.is_some_and(|error| error.is_unavailable())));
            cluster.start_again();
            assert!(registry.check(issued.access_token(), Expect::access()).await.is_ok());
        }
    });
}

/// An application may drop it last of all, when nothing is left that a connection could be given back with.
#[test]
fn a_registry_that_outlives_its_runtime_is_dropped_quietly() {
    for database in [Database::Sqlite, Database::Postgres] {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let held = runtime.block_on(async {
            let registry = open(database).await;
            let issued = registry.pair("alice").await;
            registry.revoke(issued.access_claims().jti, Actor::application("test")).await.unwrap();
            registry
        });
        drop(runtime);
        drop(held);
    }
}
