//! Histories written by hand, and what the judge must say of each.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::gateway::Gateway;
use super::history::*;
use super::judge::{Rule, judge};

const TOKEN: &str = "token";
const SESSION: &str = "session";
const KEY: &str = "key";
/// The session of what is issued once.
const SHOP: &str = "00000000-0000-7000-8000-000000000000";

/// A history under construction; its times are seconds.
#[derive(Default)]
struct Story(History);

impl Story {
    /// One process and a session, begun at 1 to 2.
    fn new() -> Self {
        let processes = vec![Life::default(); 2];
        Self(History { processes, lease: 2 * SECOND, ..History::default() }).issue(1, 2, TOKEN, SESSION, None)
    }

    fn call(mut self, begun: Time, ended: Time, change: impl FnOnce(&mut Call)) -> Self {
        let mut call = Call {
            what: "call",
            begun: begun * SECOND,
            ended: ended * SECOND,
            is_answered: true,
            process: Some(0),
            presented: None,
            signed_by: None,
            effect: None,
            wrong: None,
            setting: Setting::Alone,
        };
        change(&mut call);
        self.0.calls.push(call);
        self
    }

    fn effect(self, begun: Time, ended: Time, effect: Effect, outcome: Outcome) -> Self {
        self.call(begun, ended, |call| call.effect = Some((effect, outcome)))
    }

    fn issue(self, begun: Time, ended: Time, jti: &str, sid: &str, parent: Option<&str>) -> Self {
        let issued =
            Issued { jti: jti.into(), sid: sid.into(), kid: KEY.into(), is_wide: true, parent: parent.map(Into::into) };
        self.effect(begun, ended, Effect::Issue("alice".into(), vec![issued]), Outcome::Done)
    }

    fn issue_once(self, begun: Time, ended: Time, jti: &str) -> Self {
        self.issue_once_by(begun, ended, jti, KEY)
    }

    fn issue_once_by(self, begun: Time, ended: Time, jti: &str, kid: &str) -> Self {
        let issued = Issued { jti: jti.into(), sid: SHOP.into(), kid: kid.into(), is_wide: true, parent: None };
        self.effect(begun, ended, Effect::IssueOnce("k".into(), "dora".into(), vec![issued]), Outcome::Done)
    }

    fn revoke(self, begun: Time, ended: Time, outcome: Outcome) -> Self {
        self.effect(begun, ended, Effect::Revoke(TOKEN.into()), outcome)
    }

    fn unrevoke(self, begun: Time, ended: Time, outcome: Outcome) -> Self {
        self.effect(begun, ended, Effect::Unrevoke(TOKEN.into()), outcome)
    }

    fn end_all(self, begun: Time, ended: Time, keep: Option<&str>) -> Self {
        let effect = Effect::EndAll { subject: "alice".into(), keep: keep.map(Into::into) };
        self.effect(begun, ended, effect, Outcome::Done)
    }

    fn retire_key(self, begun: Time, ended: Time, kid: &str) -> Self {
        self.effect(begun, ended, Effect::RetireKey(kid.into()), Outcome::Done)
    }

    /// For a second.
    fn spend(self, begun: Time, token: &str, successor: Option<&str>, outcome: Outcome) -> Self {
        self.effect(begun, begun + 1, Effect::Spend(token.into(), successor.map(Into::into)), outcome)
    }

    fn check(self, begun: Time, ended: Time, token: &str, verdict: Verdict) -> Self {
        self.call(begun, ended, |call| call.presented = Some((token.into(), verdict)))
    }

    fn accepted(self, begun: Time, ended: Time) -> Self {
        self.check(begun, ended, TOKEN, Verdict::Accepted)
    }

    fn refused(self, begun: Time, ended: Time) -> Self {
        self.check(begun, ended, TOKEN, Verdict::Revoked)
    }

    #[track_caller]
    fn breaks(self, rules: &[Rule]) {
        let violations = judge(&self.0);
        let mut broken: Vec<Rule> = violations.iter().map(|violation| violation.rule).collect();
        broken.sort();
        assert_eq!(broken, rules, "{violations:#?}");
    }

    #[track_caller]
    fn holds(self) {
        self.breaks(&[]);
    }
}

#[test]
fn a_revoked_token_is_refused_from_the_acknowledgement_on() {
    let story = || Story::new().accepted(2, 3).revoke(4, 6, Outcome::Done);
    story().accepted(5, 7).refused(5, 7).refused(7, 8).holds();
    story().check(7, 8, TOKEN, Verdict::Silent).holds();
    story().accepted(7, 8).breaks(&[Rule::AcceptedAfterRevocation]);
    Story::new().refused(2, 3).revoke(4, 6, Outcome::Done).breaks(&[Rule::RefusedWithoutCause]);
    story().check(7, 8, TOKEN, Verdict::Inactive).holds();
    Story::new().check(3, 4, TOKEN, Verdict::Inactive).breaks(&[Rule::RefusedWithoutCause]);
}

#[test]
fn an_unrevoked_token_is_accepted_from_the_acknowledgement_on() {
    let story = || Story::new().revoke(4, 6, Outcome::Done).unrevoke(8, 10, Outcome::Done);
    story().accepted(9, 11).refused(9, 11).accepted(11, 12).holds();
    story().refused(11, 12).breaks(&[Rule::RefusedWithoutCause]);
    story().accepted(7, 8).breaks(&[Rule::AcceptedAfterRevocation]);
    story().revoke(13, 14, Outcome::Done).accepted(15, 16).breaks(&[Rule::AcceptedAfterRevocation]);
    Story::new()
        .revoke(4, 6, Outcome::Done)
        .unrevoke(8, 10, Outcome::Not)
        .accepted(11, 12)
        .breaks(&[Rule::AcceptedAfterRevocation]);
}

#[test]
fn of_two_changes_that_overlap_either_may_have_been_the_last() {
    let story = || Story::new().revoke(4, 8, Outcome::Done).unrevoke(6, 10, Outcome::Done);
    story().accepted(11, 12).refused(13, 14).holds();
}

#[test]
fn a_change_without_an_acknowledgement_may_have_been_made_or_not() {
    let story = || Story::new().revoke(4, 6, Outcome::Perhaps);
    story().accepted(7, 8).refused(7, 8).holds();
    // It may come after an un-revocation that begins before it can have settled.
    story().unrevoke(8, 9, Outcome::Done).refused(10, 11).holds();
    story().unrevoke(18, 19, Outcome::Done).refused(20, 21).breaks(&[Rule::RefusedWithoutCause]);
    Story::new().revoke(4, 6, Outcome::Done).unrevoke(7, 8, Outcome::Perhaps).accepted(9, 10).holds();
}

#[test]
fn a_call_without_an_answer_is_open_until_its_process_is_dead() {
    let story = |died: Option<Time>| {
        let mut story = Story::new().revoke(4, 6, Outcome::Perhaps);
        story.0.calls[1].is_answered = false;
        story.0.processes[0].died = died.map(|at| at * SECOND);
        story.unrevoke(30, 31, Outcome::Done).refused(32, 33)
    };
    story(None).holds();
    story(Some(25)).holds();
    story(Some(15)).breaks(&[Rule::RefusedWithoutCause]);
}

#[test]
fn what_is_committed_is_in_force_a_lease_later() {
    let story = || Story::new().revoke(4, 6, Outcome::Committed);
    story().accepted(7, 8).refused(7, 8).holds();
    story().accepted(9, 10).breaks(&[Rule::AcceptedAfterRevocation]);
}

#[test]
fn an_ended_session_takes_its_tokens_with_it_for_good() {
    let story = || {
        Story::new().issue(3, 4, "refreshed", SESSION, None).effect(
            5,
            6,
            Effect::EndSession(SESSION.into()),
            Outcome::Done,
        )
    };
    story().refused(7, 8).check(7, 8, "refreshed", Verdict::Revoked).holds();
    story().unrevoke(7, 8, Outcome::Done).accepted(9, 10).breaks(&[Rule::AcceptedAfterRevocation]);
    story().check(7, 8, "refreshed", Verdict::Accepted).breaks(&[Rule::AcceptedAfterRevocation]);
}

#[test]
fn a_revoke_all_ends_what_was_there_before_it() {
    let story = || Story::new().end_all(4, 6, None);
    story().refused(7, 8).accepted(5, 7).holds();
    story().accepted(7, 8).breaks(&[Rule::AcceptedAfterRevocation]);
    Story::new().end_all(4, 6, Some(SESSION)).accepted(7, 8).holds();
    Story::new().end_all(4, 6, Some(SESSION)).refused(7, 8).breaks(&[Rule::RefusedWithoutCause]);
    // A log-in that overlaps it may have come after it; a later one has.
    let other = || story().issue(5, 7, "other", "its session", None);
    other().check(8, 9, "other", Verdict::Accepted).check(8, 9, "other", Verdict::Revoked).holds();
    let later = || story().issue(7, 8, "later", "its session", None);
    later().check(9, 10, "later", Verdict::Revoked).breaks(&[Rule::RefusedWithoutCause]);
}

#[test]
fn no_refresh_and_no_personal_token_outlives_a_revoke_all_of_the_session_it_came_from() {
    let refreshed = || Story::new().end_all(4, 6, None).issue(3, 8, "late", SESSION, None);
    refreshed().check(9, 10, "late", Verdict::Accepted).breaks(&[Rule::AcceptedAfterRevocation]);
    let personal = |keep| Story::new().end_all(4, 6, keep).issue(3, 8, "late", "its own", Some(SESSION));
    personal(None).check(9, 10, "late", Verdict::Accepted).breaks(&[Rule::AcceptedAfterRevocation]);
    personal(Some(SESSION)).check(9, 10, "late", Verdict::Accepted).holds();
}

#[test]
fn a_retired_key_takes_with_it_what_it_signed() {
    let story = || Story::new().retire_key(4, 6, KEY);
    story().accepted(5, 7).refused(5, 7).refused(7, 8).holds();
    story().accepted(7, 8).breaks(&[Rule::AcceptedAfterRevocation]);
    story().unrevoke(7, 8, Outcome::Done).accepted(9, 10).breaks(&[Rule::AcceptedAfterRevocation]);
    story().issue(5, 7, "late", "its session", None).check(8, 9, "late", Verdict::Revoked).holds();
    story().issue(7, 8, "later", "its session", None).breaks(&[Rule::SignedWithRetiredKey]);
    Story::new().retire_key(4, 6, "another").accepted(7, 8).holds();
    Story::new().retire_key(4, 6, "another").refused(7, 8).breaks(&[Rule::RefusedWithoutCause]);
}

#[test]
fn a_scope_that_is_taken_away_takes_with_it_what_holds_it() {
    let change = |story: Story, begun, effect: fn(Id) -> Effect| {
        story.effect(begun, begun + 2, effect("alice".into()), Outcome::Done)
    };
    let narrowed = || change(Story::new(), 4, Effect::Narrow);
    narrowed().accepted(5, 7).refused(5, 7).refused(7, 8).holds();
    narrowed().accepted(7, 8).breaks(&[Rule::AcceptedAfterRevocation]);
    narrowed().unrevoke(7, 8, Outcome::Done).accepted(9, 10).breaks(&[Rule::AcceptedAfterRevocation]);
    // One that was issued meanwhile, or even later, may not hold it.
    narrowed()
        .issue(5, 7, "late", "other", None)
        .check(8, 9, "late", Verdict::Accepted)
        .breaks(&[Rule::AcceptedAfterRevocation]);
    narrowed()
        .issue(7, 8, "late", "other", None)
        .check(8, 9, "late", Verdict::Accepted)
        .breaks(&[Rule::AcceptedAfterRevocation]);
    // Once it was given back, those issued from then on may, and those of before still not.
    let widened = || change(narrowed(), 10, Effect::Widen);
    widened().issue(11, 13, "later", "other", None).check(14, 15, "later", Verdict::Accepted).holds();
    widened()
        .issue(13, 14, "later", "other", None)
        .check(14, 15, "later", Verdict::Revoked)
        .breaks(&[Rule::RefusedWithoutCause]);
    widened().accepted(13, 14).breaks(&[Rule::AcceptedAfterRevocation]);
    change(widened(), 16, Effect::Narrow)
        .issue(13, 14, "later", "other", None)
        .check(19, 20, "later", Verdict::Accepted)
        .breaks(&[Rule::AcceptedAfterRevocation]);
}

#[test]
fn a_disabled_user_is_turned_away() {
    let disabled = || Story::new().effect(4, 6, Effect::Disable("alice".into()), Outcome::Done);
    let refused = || Effect::Issue("alice".into(), Vec::new());
    disabled().refused(7, 8).effect(7, 8, refused(), Outcome::Not).holds();
    disabled().accepted(7, 8).breaks(&[Rule::AcceptedAfterRevocation]);
    disabled().issue(5, 7, "late", "other", None).holds();
    disabled().issue(7, 8, "late", "other", None).breaks(&[Rule::LoggedInWhileDisabled]);
    let enabled = || disabled().effect(9, 11, Effect::Enable("alice".into()), Outcome::Done);
    enabled().issue(10, 12, "later", "other", None).check(12, 13, "later", Verdict::Accepted).holds();
    enabled().effect(10, 12, refused(), Outcome::Not).holds();
    enabled().effect(12, 13, refused(), Outcome::Not).breaks(&[Rule::LogInRefused]);
}

#[test]
fn a_token_does_not_undo_its_own_revocation() {
    let undone = |by: &'static str| {
        Story::new().revoke(4, 6, Outcome::Done).call(5, 7, |call| {
            call.presented = Some((by.into(), Verdict::Accepted));
            call.effect = Some((Effect::Unrevoke(TOKEN.into()), Outcome::Done));
        })
    };
    undone("another").accepted(8, 9).holds();
    undone(TOKEN).accepted(8, 9).breaks(&[Rule::AcceptedAfterRevocation]);
}

#[test]
fn who_hears_of_revocations_alone_knows_them() {
    // Of half a second past the epoch.
    const BEGUN: &str = "00000000-01f4-7000-8000-000000000000";
    let told = |verdict: Verdict, events: &[Value]| {
        let mut story = Story::new().issue(1, 2, "told", BEGUN, None).revoke(3, 4, Outcome::Done);
        story = story.effect(3, 4, Effect::EndSession(BEGUN.into()), Outcome::Perhaps);
        let mut gateway = Gateway::default();
        events.iter().for_each(|event| gateway.hear(event));
        story.0.gateway = Some(gateway);
        story.call(20, 21, |call| {
            call.setting = Setting::Quiet;
            call.presented = Some(("told".into(), verdict));
        })
    };
    let named = |name: &str, id: &str, action: &str| json!({ name: id, "action": action });
    told(Verdict::Accepted, &[]).holds();
    told(Verdict::Revoked, &[]).breaks(&[Rule::ToldOtherwise]);
    for (name, id) in [("jti", "told"), ("sid", BEGUN), ("kid", KEY)] {
        told(Verdict::Revoked, &[named(name, id, "revoked")]).holds();
        told(Verdict::Accepted, &[named(name, id, "revoked")]).breaks(&[Rule::ToldOtherwise]);
        told(Verdict::Accepted, &[named(name, id, "revoked"), named(name, id, "unrevoked")]).holds();
    }
    // Of one that two keys signed, it may be told of either.
    let twice = |verdict, kids: &[&str]| {
        let mut story = Story::new().issue_once(1, 2, "twice").issue_once_by(3, 4, "twice", "another");
        story = story.effect(5, 6, Effect::RetireKey(KEY.into()), Outcome::Perhaps);
        let mut gateway = Gateway::default();
        kids.iter().for_each(|kid| gateway.hear(&named("kid", kid, "revoked")));
        story.0.gateway = Some(gateway);
        story.call(20, 21, |call| {
            call.setting = Setting::Quiet;
            call.presented = Some(("twice".into(), verdict));
        })
    };
    for verdict in [Verdict::Accepted, Verdict::Revoked] {
        twice(verdict, &[KEY]).holds();
    }
    twice(Verdict::Revoked, &[]).breaks(&[Rule::ToldOtherwise]);
    twice(Verdict::Accepted, &[KEY, "another"]).breaks(&[Rule::ToldOtherwise]);
    let all = |before: f64| json!({ "sub": "alice", "action": "revoked", "before": before });
    told(Verdict::Revoked, &[all(0.501), all(0.1)]).holds();
    told(Verdict::Revoked, &[all(0.5)]).breaks(&[Rule::ToldOtherwise]);
}

#[test]
fn what_is_asked_for_once_is_issued_once() {
    let asked = || Story::new().issue_once(3, 4, "one").issue_once(3, 5, "one");
    asked().check(6, 7, "one", Verdict::Accepted).holds();
    asked().issue_once(7, 8, "two").breaks(&[Rule::IssuedTwice]);
    // Asked for again, it is given as long as it is live.
    let revoked = || asked().effect(6, 7, Effect::Revoke("one".into()), Outcome::Done);
    revoked().check(8, 9, "one", Verdict::Revoked).holds();
    revoked().check(8, 9, "one", Verdict::Accepted).breaks(&[Rule::AcceptedAfterRevocation]);
}

#[test]
fn what_two_keys_signed_ends_with_either() {
    let story = || Story::new().issue_once(3, 4, "one").issue_once_by(5, 6, "one", "another");
    for (kid, other) in [(KEY, "another"), ("another", KEY)] {
        let retired = || story().retire_key(7, 8, kid);
        retired().check(9, 10, "one", Verdict::Accepted).check(9, 10, "one", Verdict::Revoked).holds();
        story().check(6, 7, "one", Verdict::Revoked).retire_key(7, 8, kid).breaks(&[Rule::RefusedWithoutCause]);
        let both = || retired().retire_key(10, 11, other);
        both().check(12, 13, "one", Verdict::Accepted).breaks(&[Rule::AcceptedAfterRevocation]);
    }
    // Of its texts, the one that a retired key signed.
    let by = |kid: &str| {
        story().retire_key(7, 8, KEY).call(9, 10, |call| {
            call.presented = Some(("one".into(), Verdict::Accepted));
            call.signed_by = Some(kid.into());
        })
    };
    by(KEY).breaks(&[Rule::AcceptedAfterRevocation]);
    by("another").holds();
    // Whoever came first gave no answer, and its record is there.
    let silent = Effect::IssueOnce("k".into(), "dora".into(), Vec::new());
    let retired = |begun| {
        let asked = Story::new().effect(4, 5, silent.clone(), Outcome::Perhaps).issue_once_by(6, 7, "one", "another");
        asked.retire_key(begun, begun + 1, KEY)
    };
    retired(5).check(8, 9, "one", Verdict::Revoked).holds();
    retired(5).check(8, 9, "one", Verdict::Accepted).holds();
    retired(2).check(8, 9, "one", Verdict::Revoked).breaks(&[Rule::RefusedWithoutCause]);
}

#[test]
fn a_log_in_is_refused_only_where_a_revoke_all_overtook_it() {
    let refused = || Effect::Issue("alice".into(), Vec::new());
    Story::new().end_all(4, 6, None).effect(5, 7, refused(), Outcome::Not).holds();
    Story::new().end_all(4, 6, None).effect(7, 8, refused(), Outcome::Not).breaks(&[Rule::LogInRefused]);
}

#[test]
fn a_used_refresh_token_may_be_refused() {
    Story::new().refused(5, 6).breaks(&[Rule::RefusedWithoutCause]);
    Story::new().spend(3, TOKEN, None, Outcome::Done).refused(5, 6).holds();
}

#[test]
fn a_refresh_token_that_comes_again_after_its_successor_ends_the_session() {
    let refreshed = || {
        let story = Story::new().issue(1, 2, "first", SESSION, None);
        story.spend(3, "first", Some("second"), Outcome::Done).issue(3, 4, "second", SESSION, None)
    };
    let theft = || refreshed().spend(5, "second", None, Outcome::Done).spend(7, "first", None, Outcome::Not);
    theft().accepted(6, 7).refused(7, 8).refused(9, 10).holds();
    theft().accepted(9, 10).breaks(&[Rule::AcceptedAfterRevocation]);
    theft().refused(5, 6).breaks(&[Rule::RefusedWithoutCause]);
    // Its successor was not used, or nobody answered: either may be.
    let again = || refreshed().spend(7, "first", Some("second"), Outcome::Done);
    again().accepted(9, 10).refused(9, 10).holds();
    // Somebody else may have ended the session, and wait for that to be in force.
    let effect = Effect::EndSession(SESSION.into());
    theft().effect(7, 8, effect, Outcome::Perhaps).accepted(9, 10).refused(9, 10).holds();
    let unanswered = || refreshed().spend(5, "second", None, Outcome::Done).spend(7, "first", None, Outcome::Perhaps);
    unanswered().accepted(9, 10).refused(9, 10).holds();
    // Its key may have been retired, and then nobody looked at what it was.
    let retired = theft().retire_key(7, 10, KEY);
    retired.accepted(9, 10).refused(11, 12).holds();
    // The successor may have been replaced, and then it is the one that comes again.
    again().spend(11, "second", None, Outcome::Not).refused(13, 14).holds();
    refreshed().spend(11, "second", None, Outcome::Not).refused(13, 14).breaks(&[Rule::RefusedWithoutCause]);
}

#[test]
fn an_acknowledged_issue_is_on_the_registry_in_the_end() {
    let mut story = Story::new();
    story.0.listed = Some([TOKEN.into()].into());
    story.holds();
    let mut story = Story::new();
    story.0.listed = Some(HashSet::new());
    story.breaks(&[Rule::NotOnTheRegistry]);
    Story::new().check(3, 4, TOKEN, Verdict::Unknown).breaks(&[Rule::NotOnTheRegistry]);
    Story::new().revoke(3, 4, Outcome::Missing).breaks(&[Rule::NotOnTheRegistry]);
}

#[test]
fn what_was_committed_to_a_lost_tail_is_not_held_against_anybody() {
    let story = |from, to| {
        let mut story = Story::new().revoke(4, 6, Outcome::Done).accepted(20, 21);
        story.0.lost = Some((from * SECOND, to * SECOND));
        story
    };
    story(5, 10).holds();
    story(7, 10).breaks(&[Rule::AcceptedAfterRevocation]);
    for verdict in [Verdict::Unknown, Verdict::Inactive] {
        let mut story = Story::new().issue(6, 7, "gone", "its session", None).check(20, 21, "gone", verdict);
        story.0.lost = Some((5 * SECOND, 10 * SECOND));
        story.holds();
    }
}

#[test]
fn two_processes_agree_where_nothing_changes() {
    let pair = |story: Story, begun: Time, ended: Time| {
        let ask = |story: Story, process, verdict| {
            story.call(begun, ended, |call| {
                call.process = Some(process);
                call.setting = Setting::Pair(1);
                call.presented = Some((TOKEN.into(), verdict));
            })
        };
        ask(ask(story, 0, Verdict::Accepted), 1, Verdict::Revoked)
    };
    pair(Story::new().revoke(4, 6, Outcome::Done), 5, 6).holds();
    pair(Story::new().revoke(4, 6, Outcome::Perhaps), 17, 18).holds();
    pair(Story::new().revoke(4, 6, Outcome::Perhaps), 19, 20).breaks(&[Rule::Disagreement]);
    let quiet = |verdict| {
        move |call: &mut Call| {
            call.setting = Setting::Quiet;
            call.presented = Some((TOKEN.into(), verdict));
        }
    };
    let story = || Story::new().revoke(4, 6, Outcome::Perhaps).call(8, 9, quiet(Verdict::Accepted));
    story().call(10, 11, quiet(Verdict::Accepted)).call(10, 11, quiet(Verdict::Silent)).holds();
    story().call(10, 11, quiet(Verdict::Revoked)).breaks(&[Rule::Disagreement]);
}

#[test]
fn no_request_takes_long_but_while_its_server_is_stopped() {
    Story::new().accepted(3, 12).holds();
    Story::new().accepted(3, 14).breaks(&[Rule::Slow]);
    let mut story = Story::new().accepted(3, 14);
    story.0.processes[0].stops.push((5 * SECOND, 8 * SECOND));
    story.holds();
    Story::new().call(3, 4, |call| call.wrong = Some("500".to_owned())).breaks(&[Rule::Wrong]);
}
