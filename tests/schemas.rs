//! A registry in one of several schemas of a PostgreSQL database, and plain SQL in sessions that look elsewhere.

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
