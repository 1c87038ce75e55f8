//! Each rule of the protocol taken out of the model by itself: the checker has to find a run in which a token is
//! accepted that nobody may accept any more.

use stateright::{Checker, HasDiscoveries, Model};

use super::Protocol;
use super::configurations as worlds;

/// A rule that the model can be told not to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// A replica counts its lease from before it asks. Without: from the answer.
    LeaseFromQuestion,
    /// It uses nine tenths of its lease. Without: all of it.
    Margin,
    /// It forgets what a renewal names before it relies on the renewal.
    ForgetBeforeRely,
    /// It has no lease by joining. Nothing rests on this.
    NoLeaseWithJoin,
    /// To join, the position is locked. Without: it is read before the row is there. Nothing rests on this.
    JoinLocksPosition,
    /// The row that joins is durable.
    JoinIsDurable,
    /// To mark out has the condition that the replica has not been told.
    MarkOutOnlyUntold,
    /// To mark out has the condition that the change is in the log.
    MarkOutInOwnHistory,
    /// To mark out gives the roll another id, so that nobody is taken to be alone once it is undone by a crash or a
    /// backup.
    MarkOutMovesRoll,
    /// A renewal without a row is refused.
    GoneIsRefused,
    /// A renewal that tells something new is durable.
    TellingIsDurable,
    /// What gives a lease says in the row what it told. Without: it writes no more than who asks for news alone.
    LeaseByRenewal,
    /// What a replica has been told never becomes less. Without: a late renewal writes what it once read.
    GrantedOnlyGrows,
    /// Who makes a change waits for those that have not applied it. Without: looks once.
    WaitForLeases,
    /// It waits for the whole lease.
    WholeLease,
    /// It waits for the longest lease of the rows.
    LeaseOfTheRow,
    /// It counts from the confirmation of its commit. Without: from before the commit.
    WaitFromConfirmation,
    /// Who found nothing to change counts from its first look. Without: from when it found that.
    WaitForAllFromLook,
    /// Who found nothing to change waits as well.
    NothingToChangeWaits,
    /// A fill notes its tick before it reads. Without: when it inserts.
    TickBeforeRead,
    /// A fill that begins outside a lease is never inserted. Nothing rests on this, since who joins forgets everything.
    FillsInLease,
    /// A check compares its lease first, and then looks for the entry.
    LeaseBeforeSlot,
    /// A refused replica forgets everything. Nothing rests on this, since who joins forgets everything.
    ForgetAtRefusal,
    /// Who joins forgets everything once its row is there.
    ForgetAtJoin,
    /// A refused replica stops relying before it forgets everything. Nothing rests on this either.
    StopBeforeForgetting,
    /// A replica that leaves stops relying before its row goes.
    StopBeforeLeaving,
    /// A position is known by its random id too, and not only by its number.
    RandomIds,
    /// Who makes a change forgets in its own memory.
    OwnMemory,
    /// So does who found nothing to change.
    OwnMemoryOfRetry,
    /// Who was alone on the roll looks again once it is another roll.
    RollUnchanged,
    /// Rolls are told apart by a random id. Without: by a number.
    RollIds,
    /// A backup is not restored while a lease lasts that was given before.
    RestoreTakesTime,
}

/// Searches until the promise is broken, and says how.
fn find(protocol: Protocol) {
    let checker = protocol.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let found = checker.discovery("promise").map(|path| path.into_actions());
    println!("{} states, {found:?}", checker.unique_state_count());
    assert!(found.is_some(), "nothing is wrong without {:?}", protocol.without);
}

macro_rules! finds {
    ($($name:ident: $world:ident without $($rule:ident),+;)*) => {
        $(
            #[test]
            fn $name() {
                find(Protocol { without: &[$(Rule::$rule),+], ..worlds::$world });
            }
        )*
    };
}

finds! {
    lease_from_question: CRASH without LeaseFromQuestion;
    margin: CLOCKS without Margin;
    forget_before_rely: CHECKS without ForgetBeforeRely;
    join_is_durable: CRASH_AT_JOIN without JoinIsDurable;
    mark_out_only_untold: CRASH without MarkOutOnlyUntold;
    mark_out_in_own_history: RESTORED without MarkOutInOwnHistory;
    mark_out_moves_roll_for_crashes: ALONE_CRASH without MarkOutMovesRoll;
    mark_out_moves_roll_for_backups: ALONE_BACKUP without MarkOutMovesRoll;
    gone_is_refused: CRASH without GoneIsRefused;
    telling_is_durable: CRASH without TellingIsDurable;
    lease_by_renewal: CRASH without LeaseByRenewal;
    granted_only_grows: LATE without GrantedOnlyGrows;
    wait_for_leases: CLOCKS without WaitForLeases;
    whole_lease: CLOCKS without WholeLease;
    lease_of_the_row: CLOCKS without LeaseOfTheRow;
    wait_from_confirmation: CRASH without WaitFromConfirmation;
    wait_for_all_from_look: NOTHING_TO_CHANGE without WaitForAllFromLook;
    nothing_to_change_waits: SAME_TOKEN without NothingToChangeWaits;
    tick_before_read: CHECKS without TickBeforeRead;
    lease_before_slot: CHECKS without LeaseBeforeSlot;
    forget_at_join: TRIMMED without ForgetAtJoin;
    forget_everything: CRASH without ForgetAtRefusal, ForgetAtJoin;
    stop_before_leaving: LEAVING without StopBeforeLeaving;
    random_ids: RESTORED without RandomIds;
    own_memory: RETRY without OwnMemory;
    own_memory_of_retry: RETRY without OwnMemoryOfRetry;
    roll_unchanged: ALONE without RollUnchanged;
    roll_ids: ALONE_RESTORED without RollIds;
    restore_takes_time: RESTORED without RestoreTakesTime;
}

/// A replica that joins has nothing in its memory, and what it reads from then on is newer than its row.
#[test]
fn nothing_rests_on_these() {
    let without = &[
        Rule::NoLeaseWithJoin,
        Rule::JoinLocksPosition,
        Rule::FillsInLease,
        Rule::ForgetAtRefusal,
        Rule::StopBeforeForgetting,
    ];
    worlds::check(Protocol { without, ..worlds::TRIMMED });
}
