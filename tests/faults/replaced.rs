//! A SQLite file that is replaced while servers have it open, by an older copy of itself.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::calls::{By, Token};
use super::commands::Tamper;
use super::fleet::Fleet;
use super::history::{Effect, Outcome, Setting, Verdict};
use super::{LEASE, REPLICAS, USERS, stage};
use crate::support::run;

/// No server goes on with the file that is gone for longer than its lease: from then on a change holds at all of them,
/// whoever made it.
#[test]
fn a_replaced_file_is_noticed_within_a_lease() {
    run(async {
        let fleet = Fleet::start(stage::home(None), vec![Vec::new(); REPLICAS]).await;
        let seats = fleet.seats();
        let (caller, undone) = (log_in(&fleet).await, log_in(&fleet).await);
        expect(&fleet, &undone, Verdict::Accepted).await;

        let (file, copy) = (fleet.home.path("registry.db"), fleet.home.path("copy.db"));
        let backup = format!(".backup '{}'", copy.display());
        assert!(Command::new("sqlite3").arg(&file).arg(&backup).status().unwrap().success());
        let revoke = |token: &Token| Effect::Revoke(token.jti.clone());
        assert_eq!(fleet.change(seats[0], By::User(&caller), &revoke(&undone)).await, Outcome::Done);
        let gone = log_in(&fleet).await;
        expect(&fleet, &undone, Verdict::Revoked).await;
        expect(&fleet, &gone, Verdict::Accepted).await;

        // As whoever restores a copy does: what belongs to the old file goes with it.
        for suffix in ["-wal", "-shm"] {
            fs::remove_file(fleet.home.path(&format!("registry.db{suffix}"))).unwrap();
        }
        fs::rename(&copy, &file).unwrap();
        tokio::time::sleep(LEASE + Duration::from_millis(500)).await;

        expect(&fleet, &gone, Verdict::Unknown).await;
        expect(&fleet, &undone, Verdict::Accepted).await;
        let token = fleet.command_issue(USERS[0]).await.remove(0);
        expect(&fleet, &token, Verdict::Accepted).await;
        assert_eq!(fleet.command(&revoke(&token), Tamper::Nothing).await, Outcome::Done);
        expect(&fleet, &token, Verdict::Revoked).await;
        for seat in seats {
            let token = log_in(&fleet).await;
            expect(&fleet, &token, Verdict::Accepted).await;
            assert_eq!(fleet.change(seat, By::User(&caller), &revoke(&token)).await, Outcome::Done);
            expect(&fleet, &token, Verdict::Revoked).await;
        }
    });
}

/// One that is gone is no registry any more: nothing is said of any token, and no change is acknowledged that nobody
/// will ever find.
#[test]
fn a_removed_file_is_noticed_within_a_lease() {
    run(async {
        let fleet = Fleet::start(stage::home(None), vec![Vec::new(); REPLICAS]).await;
        let (caller, token) = (log_in(&fleet).await, log_in(&fleet).await);
        expect(&fleet, &token, Verdict::Accepted).await;
        for suffix in ["", "-wal", "-shm"] {
            fs::remove_file(fleet.home.path(&format!("registry.db{suffix}"))).unwrap();
        }
        tokio::time::sleep(LEASE + Duration::from_millis(500)).await;
        expect(&fleet, &token, Verdict::Silent).await;
        let revoke = Effect::Revoke(token.jti.clone());
        assert_ne!(fleet.change(fleet.seats()[0], By::User(&caller), &revoke).await, Outcome::Done);
    });
}

async fn log_in(fleet: &Fleet) -> Token {
    fleet.log_in(fleet.seats()[0], USERS[0]).await.remove(0)
}

/// Every server says this of the token.
async fn expect(fleet: &Fleet, token: &Token, verdict: Verdict) {
    for seat in fleet.seats() {
        assert_eq!(fleet.check(seat, token, Setting::Alone).await, Some(verdict), "{seat:?}");
    }
}
