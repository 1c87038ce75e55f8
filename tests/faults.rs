//! Real servers, real databases and real faults: what was acknowledged holds at every server, whatever breaks.
//!
//! Clients of several servers work with the same tokens while faults are injected from a seed; every call is recorded
//! with its beginning and end, and in the end the history is held against the promise (`judge.rs`). What a fault can
//! show best by itself has a test of its own. `scripts/faults` runs the first part for longer.

mod alone;
mod calls;
mod commands;
mod fleet;
mod gateway;
mod history;
mod index;
mod inject;
mod judge;
mod judged;
mod load;
mod operators;
mod proxy;
mod replaced;
mod report;
mod shop;
mod stage;
mod standby;
mod waiting;
mod work;

use std::time::Duration;

/// The lease of the servers: their default.
const LEASE: Duration = Duration::from_secs(2);
/// Whether the servers know the setting `consistency`. Then one more of them is strict, to be compared with the others.
const HAS_LEASES: bool = true;

const REPLICAS: usize = 3;
/// The replica whose link to the database is tampered with.
const BEHIND_PROXY: usize = 0;
/// The replica with few connections.
const SMALL_POOL: usize = 1;
/// The name of the database in a PostgreSQL server of one's own.
const DATABASE: &str = "faults";

const USERS: [&str; 3] = ["alice", "bob", "carol"];
const ADMIN: &str = "root";
/// The scope that users have, and may lose.
const SCOPE: &str = "notes:write";
