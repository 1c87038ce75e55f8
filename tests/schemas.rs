//! A registry in one of several schemas of a PostgreSQL database, and plain SQL in sessions that look elsewhere.

use counterfoil::{ManualClock, Registry, Settings};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::forge::jti_of;
use crate::support::server::{until, until_leased};
use crate::support::{Server, postgres, run};

/// Revokes a token that the server remembers, by plain SQL in a session with this path, and waits until that is in
/// force.
async fn revoke_by_sql(server: &Server, schema: &str, path: &str) {
    until_leased(server).await;
    let token = server.issue("alice", "").await.access;
    server.accepts(&token).await;
    let revoke = format!(
        "set search_path = {path};
         update {schema}.cf_tokens set revoked_at = 1, revoked_by_kind = 'operator', revoked_by = 'sql' where jti = '{}'",
        jti_of(&token)
    );
    server.sql(&revoke).await;
    until("it is noticed", async || server.protected(&token).await.status == 401).await;
}

#[test]
fn plain_sql_is_noticed_whatever_path_its_session_has() {
    run(async {
        let server = Server::start_on(postgres::database(), |settings| settings).await;
        revoke_by_sql(&server, "public", "pg_catalog").await;
        // Whatever is made or replaced later, too.
        let free = "select count(*) from pg_proc where proname like 'cf\\_%'
            and not exists (select from unnest(proconfig) as by (setting) where setting = 'search_path=public, pg_temp')";
        assert_eq!(server.count(free).await, 0);
    });
}

#[test]
fn registries_in_two_schemas_are_apart() {
    run(async {
        let url = postgres::database();
        let mut session = PgConnection::connect(&url).await.unwrap();
        let mut servers = Vec::new();
        for schema in ["one", "Other"] {
            sqlx::raw_sql(AssertSqlSafe(format!("create schema \"{schema}\""))).execute(&mut session).await.unwrap();
            let url = format!("{url}?options[search_path]=\"{schema}\"");
            servers.push(Server::start_on(url, |settings| settings).await);
        }
        let position = async |server: &Server| server.count("select seq from cf_position").await;
        revoke_by_sql(&servers[0], "one", "\"Other\"").await;
        assert_eq!((position(&servers[0]).await, position(&servers[1]).await), (1, 0));
        revoke_by_sql(&servers[1], "\"Other\"", "one").await;
        assert_eq!((position(&servers[0]).await, position(&servers[1]).await), (1, 1));
    });
}

#[test]
fn a_registry_behind_another_schema_of_the_path_is_neither_passed_over_nor_made_twice() {
    run(async {
        let url = postgres::database();
        let settings = |path: &str| {
            Settings::for_tests_with(&format!("database_url = '{url}?options[search_path]={path}'")).unwrap()
        };
        Registry::migrate(&settings("public")).await.unwrap();
        let mut session = PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql("create schema tenant").execute(&mut session).await.unwrap();
        for (path, says) in [("tenant,public", "the registry is in public"), ("nowhere", "there is no schema")] {
            let migrated = Registry::migrate(&settings(path)).await.unwrap_err();
            let opened = Registry::open(settings(path), ManualClock::here()).await.unwrap_err();
            for error in [migrated, opened] {
                assert!(error.is_config() && error.to_string().contains(says), "{path}: {error:?}");
            }
        }
        let made: i64 = sqlx::query_scalar("select count(*) from pg_tables where schemaname = 'tenant'")
            .fetch_one(&mut session)
            .await
            .unwrap();
        assert_eq!(made, 0);
        // A path that goes on behind the registry is no other one.
        assert!(Registry::open(settings("public,tenant"), ManualClock::here()).await.is_ok());
    });
}

#[test]
fn a_table_of_clients_that_is_emptied_locks_the_position_last() {
    run(async {
        let url = postgres::database();
        let server = Server::start_on(url.clone(), |settings| settings).await;
        let id = server.add_client("shop", &[]).id;
        let mut session = PgConnection::connect(&url).await.unwrap();
        let mut change = session.begin().await.unwrap();
        sqlx::query("select subject from cf_subjects where subject = $1 for update")
            .bind(&id)
            .execute(&mut *change)
            .await
            .unwrap();
        // Not in that transaction, which would see the activity of its first look again and again.
        let mut looks = PgConnection::connect(&url).await.unwrap();
        let emptied = tokio::spawn(async move { server.try_sql("truncate cf_clients, cf_repeats").await });
        let waits = "select exists (select from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock' and query like 'truncate%')";
        until("it waits for the subject", async || {
            sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut looks).await.unwrap()
        })
        .await;
        sqlx::query("update cf_position set seq = seq + 1, change = gen_random_uuid()")
            .execute(&mut *change)
            .await
            .unwrap();
        change.commit().await.unwrap();
        emptied.await.unwrap().unwrap();
    });
}
