//! Opening a registry: tables that are missing, old or new, a database that is not there, and one that stops.

use counterfoil::{Actor, Denial, Expect, Filter, Grant, ManualClock, Registry, Settings};
use sqlx::Connection;
use tempfile::TempDir;

use super::{admin, jti, name, open};
use crate::support::postgres::Cluster;
use crate::support::{Database, on_both};

/// Settings for a database that has no tables yet.
fn open_unmigrated(database: Database) -> (String, TempDir) {
    let home = tempfile::tempdir().unwrap();
    (format!("database_url = '{}'", database.fresh(&home)), home)
}

on_both! {
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
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
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
        assert!(Registry::migrate(&parsed()).await.unwrap_err().is_schema());
    }
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
fn processes_that_start_together_migrate_once_whatever_isolation_is_the_default() {
    crate::support::run(async {
        for isolation in ["repeatable read", "serializable"] {
            let url = crate::support::postgres::database();
            let name = url.rsplit('/').next().unwrap();
            let by_default =
                format!("alter role counterfoil in database {name} set default_transaction_isolation = '{isolation}'");
            let mut session = sqlx::PgConnection::connect(&url).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(by_default)).execute(&mut session).await.unwrap();
            let mut starts = tokio::task::JoinSet::new();
            for _ in 0..4 {
                let settings = Settings::for_tests_with(&format!("database_url = '{url}'")).unwrap();
                starts.spawn(async move { Registry::migrate(&settings).await.unwrap().len() });
            }
            let applied = starts.join_all().await;
            assert_eq!(applied.iter().filter(|applied| **applied > 0).count(), 1, "{isolation}: {applied:?}");
        }
    });
}

#[test]
fn a_database_in_another_encoding_is_an_error_of_the_settings() {
    crate::support::run(async {
        let utf8 = crate::support::postgres::database();
        let mut session = sqlx::PgConnection::connect(&utf8).await.unwrap();
        for encoding in ["LATIN1", "SQL_ASCII"] {
            let name = format!("{}_{}", utf8.rsplit('/').next().unwrap(), encoding.to_lowercase());
            let create = format!("create database {name} encoding '{encoding}' template template0 locale 'C'");
            sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut session).await.unwrap();
            let url = format!("{}_{}", utf8, encoding.to_lowercase());
            let settings = || Settings::for_tests_with(&format!("database_url = '{url}'")).unwrap();
            let migrated = Registry::migrate(&settings()).await.unwrap_err();
            let opened = Registry::open(settings(), ManualClock::here()).await.unwrap_err();
            for error in [migrated, opened] {
                assert!(error.is_config() && error.to_string().contains(&format!("is {encoding}")), "{error:?}");
            }
        }
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
