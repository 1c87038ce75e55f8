//! The registry through its public interface: what is recorded, listed, revoked, superseded and purged, the same on
//! both databases.

mod ending;
mod opening;
mod purging;
mod undoing;

use std::time::Duration;

use counterfoil::{
    Act, Actor, Clock, Cursor, Denial, Expect, Filter, Grant, Issued, Jti, ManualClock, Personal, Record, Refresh,
    Registry, Scope, Scopes, Settings, Sid, State, Subject, TokenType,
};
use tempfile::TempDir;

use crate::support::forge;
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
    let url = database.fresh(&home);
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

    async fn what_a_check_would_refuse_is_not_issued(database: Database) {
        let registry = open(database).await;
        let scopes = |count| (0..count).map(|n| format!("s{n}").parse::<Scope>().unwrap()).collect::<Scopes>();
        let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));

        let grant = Grant::to(name("alice")).scope(scopes(Scopes::COUNT_MAX)).claim("x", nested(32)).unwrap();
        let issued = registry.issue(grant).await.unwrap();
        assert!(registry.accepts(issued.access_token()).await);
        let presented = registry.check(refresh_token(&issued), Expect::refresh()).await.unwrap();
        let refreshed = registry.refresh(&presented, Refresh::new()).await.unwrap();
        assert!(registry.accepts(refreshed.access_token()).await);

        let refused = registry.issue(Grant::to(name("alice")).scope(scopes(Scopes::COUNT_MAX + 1))).await.unwrap_err();
        assert_eq!((refused.is_invalid(), refused.field()), (true, Some("scope")));
        let refused = Grant::to(name("alice")).claim("x", nested(33)).unwrap_err();
        assert_eq!((refused.is_invalid(), refused.field()), (true, Some("claims")));
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

        let sessions = registry.sessions(&name("alice"), None, 10).await.unwrap().sessions;
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions[0].last_seen_at.timestamp(), registry.now().timestamp());
        assert_eq!(sessions[0].expires_at.timestamp(), refreshed.refresh_claims().unwrap().exp);
    }

    async fn an_earlier_use_that_is_noted_later_changes_nothing(database: Database) {
        let first = open_with(database, "last_used = '5s'").await;
        let second = first.twin().await;
        let issued = first.pair("alice").await;
        second.check(issued.access_token(), Expect::access()).await.unwrap();
        first.clock.advance(Duration::from_secs(60));
        first.check(issued.access_token(), Expect::access()).await.unwrap();
        first.close().await;
        second.close().await;
        let third = first.twin().await;
        let (record, sessions) = (third.get(jti(&issued)).await.unwrap(), third.sessions(&name("alice"), None, 10).await.unwrap().sessions);
        let late = record.issued_at + Duration::from_secs(50);
        assert!(record.last_used_at.is_some_and(|at| at > late), "{record:?}");
        assert!(sessions[0].last_seen_at > late, "{sessions:?}");
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

    async fn a_caller_of_ipv4_has_one_address(database: Database) {
        let registry = open(database).await;
        for address in ["192.0.2.7", "::ffff:192.0.2.7"] {
            let grant = Grant::to(name("alice")).device(Some(address.parse().unwrap()), None).without_refresh();
            registry.issue(grant).await.unwrap();
        }
        for address in ["192.0.2.7", "::ffff:192.0.2.7"] {
            let found = registry.list(&Filter::all().address(address.parse().unwrap())).await.unwrap();
            let ips: Vec<_> = found.iter().map(|record| record.ip.as_deref()).collect();
            assert_eq!(ips, [Some("192.0.2.7"); 2], "{address}");
        }
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
        let of_acme = Personal::new("ci").unwrap().claim("tenant", "acme").unwrap();
        let of_acme = registry.issue_personal(&presented, of_acme).await.unwrap();
        let checked = registry.check(of_acme.access_token(), Expect::access()).await.unwrap();
        assert_eq!(checked.claims().extra["tenant"], "acme");
        assert!(Personal::new("ci").unwrap().claim("sub", "bob").unwrap_err().is_invalid());
        registry.end_session(sid(&issued), by("alice")).await.unwrap();
        assert!(registry.accepts(personal.access_token()).await);
        registry.revoke(jti(&personal), by("alice")).await.unwrap();
        assert!(!registry.accepts(personal.access_token()).await);
        registry.unrevoke(jti(&personal), by("alice")).await.unwrap();
        assert_eq!(registry.revoke_all(&name("alice"), None, by("alice")).await.unwrap(), 2);
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
    async fn a_token_of_another_registry_is_imported_where_it_is_accepted_then(database: Database) {
        let secret = "another secret of more than thirty-two bytes";
        let registry = open_with(database, &format!("keys.accept = [{{ secret = '{secret}' }}]")).await;
        for (issuer, is_accepted) in [("http://localhost", true), ("https://elsewhere.example", false)] {
            let settings = format!("algorithm = 'HS256'\nkeys.secret = '{secret}'\nissuer = '{issuer}'");
            let other = Registry::open(Settings::for_tests_with(&settings).unwrap(), registry.clock.clone()).await.unwrap();
            let issued = other.issue(Grant::to(name("alice"))).await.unwrap();
            for token in [issued.access_token(), refresh_token(&issued)] {
                let imported = registry.import(token).await;
                assert_eq!(imported.is_ok(), is_accepted, "{issuer}");
                assert_eq!(imported.err().and_then(|refused| refused.field()), (!is_accepted).then_some("token"));
                assert_eq!(registry.check(token, Expect::either()).await.is_ok(), is_accepted, "{issuer}");
            }
        }
    }

    async fn the_claim_that_repeats_the_subject_is_never_a_granted_one(database: Database) {
        let registry = open(database).await;
        let grant = Grant::to(name("alice")).claim("login", "bob").unwrap().claim("tenant", "acme").unwrap();
        let issued = registry.issue(grant).await.unwrap();
        let settings = format!("{}\nidentity_claim = 'login'", registry.settings);
        let later = Registry::open(Settings::for_tests_with(&settings).unwrap(), registry.clock.clone()).await.unwrap();
        let presented = later.check(refresh_token(&issued), Expect::refresh()).await.unwrap();
        let refreshed = later.refresh(&presented, Refresh::new()).await.unwrap();
        let extra = &refreshed.access_claims().extra;
        assert_eq!((&extra["login"], &extra["tenant"]), (&json!("alice"), &json!("acme")));
    }
}
