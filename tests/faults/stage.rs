//! What the tests begin with: databases, settings and users.

use tokio::task::block_in_place;

use super::proxy::Proxy;
use super::{ADMIN, DATABASE, SCOPE, USERS};
use crate::support::postgres::Cluster;
use crate::support::process::Home;

/// So that the keys are in the database, and can be retired.
const MASTER_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A PostgreSQL with an empty database, and a proxy in front of it.
pub(super) async fn postgres() -> (Cluster, Proxy) {
    serve(block_in_place(Cluster::start)).await
}

/// The same with a clock that can be moved.
pub(super) async fn postgres_with_loose_clock() -> (Cluster, Proxy) {
    serve(block_in_place(|| Cluster::start().with_loose_clock())).await
}

async fn serve(cluster: Cluster) -> (Cluster, Proxy) {
    block_in_place(|| {
        cluster.create(DATABASE);
        // Whatever somebody has set for the database, each says what it relies on.
        cluster.sql(DATABASE, &format!("alter database {DATABASE} set default_transaction_isolation = 'serializable'"));
    });
    let proxy = Proxy::start(cluster.port()).await;
    (cluster, proxy)
}

/// The URL of the database behind the proxy.
pub(super) fn url_through(cluster: &Cluster, proxy: &Proxy) -> String {
    cluster.url(DATABASE).replace(&cluster.port().to_string(), &proxy.port().to_string())
}

/// The settings that all servers and the command line share, and the users.
pub(super) fn home(url: Option<&str>) -> Home {
    let home = Home::on(url)
        .unset("KEYS__SECRET")
        .set("ALGORITHM", "EdDSA")
        .set("LOGIN__LIMIT", "0")
        .set("LOGIN__ADDRESS_LIMIT", "0")
        .set("ACCESS_EXPIRES", "12h")
        .set("PURGE__EVERY", "1s")
        .set("MASTER_KEY", MASTER_KEY)
        .migrated();
    for user in USERS {
        home.run_with(&["user", "add", user, "--scope", SCOPE], &format!("{user} password\n")).ok();
    }
    home.run_with(&["user", "add", ADMIN, "--admin"], &format!("{ADMIN} password\n")).ok();
    home
}
