//! Looking closely at a token and a session: why a token would be refused, always what a check answers, and what
//! happened to them.

use counterfoil::{AudienceRule, Expect, Reason, Record, Registry};

use crate::support::forge::{Key, jti_of, sid_of};
use crate::support::{PASSWORD, Server, Value, json, on_both};

/// Of the record as it was, the verdict now, which has to be that of a check.
async fn judged(registry: &Registry, record: &Record, token: &str) -> (Option<&'static str>, Vec<Reason>) {
    let verdict = registry.verdict_on(record).await.unwrap();
    let checked = registry.check(token, Expect::either().audience(AudienceRule::Any)).await.err();
    assert_eq!(verdict.denial, checked, "{verdict:?}");
    assert_eq!(verdict.is_live(), checked.is_none());
    for reason in &verdict.reasons {
        assert!(reason.sentence().ends_with('.'), "{}", reason.sentence());
    }
    (verdict.denial.map(|denial| denial.code()), verdict.reasons)
}

async fn record(server: &Server, token: &str) -> Record {
    server.registry.get(jti_of(token).parse().unwrap()).await.unwrap()
}

async fn verdict(server: &Server, token: &str) -> (Option<&'static str>, Vec<Reason>) {
    judged(&server.registry, &record(server, token).await, token).await
}

/// What happened to a token, the last first.
async fn happened(server: &Server, token: &str) -> Vec<(String, Option<String>)> {
    let history = server.registry.history(&record(server, token).await).await.unwrap();
    history.into_iter().map(|one| (one.action, one.actor.map(|actor| actor.name))).collect()
}

fn did(action: &str, actor: Option<&str>) -> (String, Option<String>) {
    (action.to_owned(), actor.map(str::to_owned))
}

on_both! {
    async fn a_verdict_is_what_a_check_answers(server: Server) {
        let admin = server.login().await;
        let live = server.issue("alice", "").await;
        assert_eq!(verdict(&server, &live.access).await, (None, Vec::new()));

        let revoke = format!("/admin/tokens/revoke/{}", jti_of(&live.access));
        server.put(&revoke).bearer(&admin.access).json(&json!({ "reason": "lost phone" })).send().await.ok(200);
        let (code, reasons) = verdict(&server, &live.access).await;
        assert_eq!(code, Some("token_revoked"));
        let [Reason::Revoked(how)] = &reasons[..] else { panic!("{reasons:?}") };
        assert_eq!((how.by.name.as_str(), how.reason.as_deref(), how.is_final), ("admin", Some("lost phone"), false));
        assert!(reasons[0].sentence().contains("by the administrator admin"), "{}", reasons[0].sentence());

        let ended = server.issue("bob", "").await;
        server.delete(&format!("/admin/sessions/{}", sid_of(&ended.access))).bearer(&admin.access).send().await.ok(200);
        let (code, reasons) = verdict(&server, &ended.refresh).await;
        assert!(code == Some("token_revoked") && matches!(reasons[..], [Reason::SessionEnded(_)]), "{reasons:?}");

        let all = server.issue("carol", "").await;
        server.post("/admin/subjects/carol/revoke-all").bearer(&admin.access).send().await.ok(200);
        let (code, reasons) = verdict(&server, &all.access).await;
        assert!(code == Some("token_revoked") && matches!(reasons[..], [Reason::SubjectEnded(_)]), "{reasons:?}");

        let spent = server.issue("dora", "").await;
        let refreshed = server.post("/refresh").bearer(&spent.refresh).send().await.ok(200);
        let successor = refreshed["refresh_token"].as_str().unwrap();
        let (code, reasons) = verdict(&server, &spent.refresh).await;
        let [Reason::Spent(_, Some(next))] = reasons[..] else { panic!("{reasons:?}") };
        assert_eq!((code, next.to_string()), (Some("token_revoked"), jti_of(successor)));
        server.advance(60);
        server.post("/refresh").bearer(&spent.refresh).send().await.ok(200);
        let (code, reasons) = verdict(&server, successor).await;
        assert!(code == Some("token_revoked") && matches!(reasons[..], [Reason::Replaced(_)]), "{reasons:?}");

        let late = record(&server, &all.access).await;
        server.advance(900);
        let (code, reasons) = judged(&server.registry, &late, &all.access).await;
        assert_eq!((code, reasons.len()), (Some("token_expired"), 2));
        server.registry.purge().await.unwrap();
        let (code, reasons) = judged(&server.registry, &late, &all.access).await;
        assert_eq!((code, reasons.last()), (Some("token_expired"), Some(&Reason::Unrecorded)));
        let gone = server.issue("erin", "").await;
        let record = record(&server, &gone.access).await;
        server.sql("delete from cf_tokens where subject = 'erin'").await;
        assert_eq!(judged(&server.registry, &record, &gone.access).await, (Some("token_unknown"), vec![Reason::Unrecorded]));
    }

    async fn a_verdict_knows_of_keys_issuers_and_whose_it_is(server: Server) {
        let pair = server.issue("alice", "").await;
        let record = record(&server, &pair.access).await;
        let foreign = server.another(|settings| settings.set("issuer", "https://other.example")).await;
        assert_eq!(judged(&foreign.registry, &record, &pair.access).await, (Some("token_invalid"), vec![Reason::Foreign]));
        let key = server.home().join("other.pem");
        std::fs::write(&key, Key::generate().private_pem()).unwrap();
        let other = server.another(|settings| settings.set("keys.file", key.to_str().unwrap())).await;
        assert_eq!(judged(&other.registry, &record, &pair.access).await, (Some("token_invalid"), vec![Reason::KeyUnknown]));

        server.add_user("walter", PASSWORD, &[]);
        let walter = server.login_as("walter", PASSWORD).await;
        server.command_ok(&["user", "disable", "walter"], "");
        let (code, reasons) = verdict(&server, &walter.access).await;
        let [Reason::SubjectEnded(_), Reason::UserDisabled] = reasons[..] else { panic!("{reasons:?}") };
        assert_eq!(code, Some("token_revoked"));
        let billing = server.add_client("billing", &["--scope", "tokens:issue"]);
        let asked = server.post("/tokens").basic(&billing).json(&json!({ "subject": "alice" })).send().await.ok(201);
        server.command_ok(&["client", "disable", "billing"], "");
        assert_eq!(verdict(&server, asked["access_token"].as_str().unwrap()).await, (None, vec![Reason::ClientDisabled]));

        server.command_ok(&["keys", "retire", &server.key.kid(), "--reason", "leaked"], "");
        let (code, reasons) = verdict(&server, &pair.access).await;
        let [Reason::KeyRetired(how)] = &reasons[..] else { panic!("{reasons:?}") };
        assert_eq!((code, how.reason.as_deref()), (Some("token_revoked"), Some("leaked")));
        let history = happened(&server, &pair.access).await;
        assert_eq!(history.iter().map(|(action, _)| action.as_str()).collect::<Vec<_>>(), ["key.retired", "token.issued"]);
    }

    async fn what_happened_to_a_token_can_be_told(server: Server) {
        let admin = server.login().await;
        let other = server.issue("alice", "").await;
        server.post("/logout").bearer(&other.access).send().await.ok(200);
        server.advance(1);
        let address = "192.0.2.9".parse().unwrap();
        let pair = server.issue_with("alice", "", |grant| grant.device(Some(address), None)).await;
        let path = |verb: &str| format!("/admin/tokens/{verb}/{}", jti_of(&pair.access));
        for verb in ["revoke", "unrevoke"] {
            server.advance(1);
            server.put(&path(verb)).bearer(&admin.access).json(&json!({ "reason": verb })).send().await.ok(200);
        }
        server.advance(1);
        let refreshed = server.post("/refresh").bearer(&pair.refresh).send().await.ok(200);
        server.advance(1);
        server.post("/admin/subjects/alice/revoke-all").bearer(&admin.access).send().await.ok(200);
        server.advance(1);
        let later = server.issue("alice", "").await;

        let admins = |action| did(action, Some("admin"));
        assert_eq!(
            happened(&server, &pair.access).await,
            [admins("subject.ended"), admins("token.unrevoked"), admins("token.revoked"), did("token.issued", None)]
        );
        let history = server.registry.history(&record(&server, &pair.access).await).await.unwrap();
        assert_eq!((history[2].reason.as_deref(), history[2].audit_id.is_some()), (Some("revoke"), true));
        assert_eq!((history[3].ip.as_deref(), history[3].audit_id), (Some("192.0.2.9"), None));
        // The chain of refreshes, in both directions.
        let successor = refreshed["refresh_token"].as_str().unwrap();
        let history = server.registry.history(&record(&server, &pair.refresh).await).await.unwrap();
        let spent = history.iter().find(|one| one.action == "token.spent").unwrap();
        assert_eq!(spent.target, Some(jti_of(successor)));
        for token in [successor, refreshed["access_token"].as_str().unwrap()] {
            let history = server.registry.history(&record(&server, token).await).await.unwrap();
            assert_eq!(history.last().unwrap().target, Some(jti_of(&pair.refresh)));
        }
        // What was done before it was issued, and to others, is not its own.
        assert_eq!(happened(&server, &later.access).await, [did("token.issued", None)]);

        let target = jti_of(&pair.access);
        let audit = server.get(&format!("/admin/audit?target={target}")).bearer(&admin.access).send().await.ok(200);
        let actions: Vec<&Value> = audit.as_array().unwrap().iter().map(|entry| &entry["action"]).collect();
        assert_eq!(actions, ["token.unrevoked", "token.revoked"]);
        let narrowed = format!("/admin/audit?target={target}&action=token.revoked&subject=alice&limit=1");
        assert_eq!(server.get(&narrowed).bearer(&admin.access).send().await.ok(200).as_array().unwrap().len(), 1);
        let others = format!("/admin/audit?target={target}&subject=bob");
        assert_eq!(server.get(&others).bearer(&admin.access).send().await.ok(200), json!([]));
        server.get("/admin/audit?target=%00").bearer(&admin.access).send().await.error(422, "invalid_request");
        let shown = server.command_ok(&["audit", "--target", &target, "--json"], "");
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), audit);
    }

    async fn a_session_is_known_after_its_end(server: Server) {
        let admin = server.login().await;
        let (one, two) = (server.issue("alice", "").await, server.issue("alice", "").await);
        server.advance(1);
        let three = server.issue("alice", "").await;
        let sid = |pair: &crate::support::Pair| sid_of(&pair.access).parse::<counterfoil::Sid>().unwrap();
        let call = server.delete(&format!("/admin/sessions/{}", sid(&one))).bearer(&admin.access);
        call.json(&json!({ "reason": "stolen" })).send().await.ok(200);
        let session = server.registry.session(sid(&one)).await.unwrap();
        let ended = session.ended.unwrap();
        assert_eq!((ended.by.name.as_str(), ended.reason.as_deref(), session.with_subject), ("admin", Some("stolen"), false));
        assert_eq!((session.subject.as_str(), session.session.sid), ("alice", sid(&one)));
        assert_eq!(server.registry.session(sid(&two)).await.unwrap().ended, None);
        server.post("/admin/subjects/alice/revoke-all").bearer(&admin.access).send().await.ok(200);
        let session = server.registry.session(sid(&two)).await.unwrap();
        assert!(session.with_subject && session.ended.is_some(), "{session:?}");
        // What ended it first is what is told.
        let first = server.registry.session(sid(&one)).await.unwrap();
        assert!(!first.with_subject && first.ended.unwrap().reason.is_some());

        let alice = "alice".parse().unwrap();
        let all = server.registry.all_sessions(&alice, None, 1_000).await.unwrap();
        assert_eq!((all.sessions.len(), all.sessions[0].session.sid, all.next), (3, sid(&three), None));
        let (mut paged, mut after) = (Vec::new(), None);
        for place in 1..=3 {
            let page = server.registry.all_sessions(&alice, after, 1).await.unwrap();
            assert_eq!((page.sessions.len(), page.next.is_some()), (1, place < 3));
            paged.extend(page.sessions);
            after = page.next;
        }
        assert_eq!(paged, all.sessions);
        for limit in [0, 1_001] {
            assert!(server.registry.all_sessions(&alice, None, limit).await.unwrap_err().is_invalid());
        }
        let unknown = "0190a5a0-0000-7000-8000-000000000001".parse().unwrap();
        assert!(server.registry.session(unknown).await.unwrap_err().is_not_found());
    }
}
