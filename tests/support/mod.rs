//! What the tests share: a server on a real socket, a client that checks the form of every answer, a key to forge with.

pub(crate) mod client;
pub(crate) mod console;
pub(crate) mod documented;
pub(crate) mod feed;
pub(crate) mod foreign;
pub(crate) mod forge;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod server;

pub(crate) use client::{Answer, Call, ClientSecret};
pub(crate) use serde_json::{Value, json};
pub(crate) use server::{ADMIN, Database, ISSUER, PASSWORD, Pair, Server};

/// Runs a test to its end, on a runtime of its own.
pub(crate) fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts")
        .block_on(test);
}

/// Makes one test for each database out of each function, so that both run the same list.
///
/// A function takes either a `Server` with the settings of all tests, or the `Database`, to start one with its own.
macro_rules! on_both {
    () => {};
    ($(#[$meta:meta])* async fn $name:ident($server:ident: Server) $body:block $($rest:tt)*) => {
        $crate::support::on_both! {
            $(#[$meta])*
            async fn $name(database: Database) {
                let $server = Server::start(database, |settings| settings).await;
                $body
            }
        }
        $crate::support::on_both! { $($rest)* }
    };
    ($(#[$meta:meta])* async fn $name:ident($database:ident: Database) $body:block $($rest:tt)*) => {
        $(#[$meta])*
        mod $name {
            use super::*;

            async fn case($database: $crate::support::Database) $body

            #[test]
            fn sqlite() {
                $crate::support::run(case($crate::support::Database::Sqlite));
            }

            #[test]
            fn postgres() {
                $crate::support::run(case($crate::support::Database::Postgres));
            }
        }
        $crate::support::on_both! { $($rest)* }
    };
}
pub(crate) use on_both;
