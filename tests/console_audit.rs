//! The console's page of the audit.

use crate::support::console::Visitor;
use crate::support::{Server, on_both};

on_both! {
    async fn what_was_done_is_found(server: Server) {
        server.add_user("alice", "a password of alice's", &[]);
        server.command_ok(&["subject", "revoke-all", "alice", "--reason", "<script>alert(1)</script>"], "");
        let visitor = Visitor::admin(&server).await;
        let all = visitor.get(&server, "/console/admin/audit").send().await.html(200);
        for text in ["user.added", "subject.ended", "&#60;script&#62;"] {
            assert!(all.contains(text), "{text} is not in {all}");
        }
        assert!(!all.contains("<script>alert"), "{all}");
        let narrowed = "/console/admin/audit?subject=alice&actor=&action=user.added&target=";
        let found = visitor.get(&server, narrowed).send().await.html(200);
        assert!(found.contains("<td>user.added</td>") && !found.contains("<td>subject.ended</td>"), "{found}");
        let none = visitor.get(&server, "/console/admin/audit?subject=%00nobody").send().await.html(200);
        assert!(none.contains("<td>user.added</td>"), "what no entry can have narrows nothing: {none}");
        let none = visitor.get(&server, "/console/admin/audit?target=nothing").send().await.html(200);
        assert!(none.contains("There is nothing here."), "{none}");
    }

    async fn it_is_for_administrators_and_goes_on_by_pages(server: Server) {
        server.add_user("alice", "a password of alice's", &[]);
        let alice = Visitor::of(&server, "alice", "a password of alice's").await;
        alice.get(&server, "/console/admin/audit").send().await.html(403);
        let visitor = Visitor::admin(&server).await;
        server.sql(
            "insert into cf_audit (at, actor_kind, actor, action) select 1, 'system', 'test', 'noise' from cf_audit a, cf_audit b, \
             cf_audit c, cf_audit d, cf_audit e, cf_audit f, cf_audit g",
        ).await;
        let page = visitor.get(&server, "/console/admin/audit?action=noise").send().await.html(200);
        assert_eq!(page.matches("<td>noise</td>").count(), 100);
        let (_, rest) = page.split_once("rel=\"next\" href=\"").expect("a further page");
        let next = rest.split('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&");
        assert!(next.contains("action=noise") && next.contains("cursor="), "{next}");
        let next = visitor.get(&server, &next).send().await.html(200);
        assert!(next.matches("<td>noise</td>").count() > 0);
    }
}
