//! Looking for tokens among all there are: by session, client, address and state, in pages that take no longer where
//! few of very many are asked for.

use counterfoil::{Filter, State};

use crate::support::forge::{jti_of, sid_of};
use crate::support::{Server, Value, json, on_both};

/// How many records a page looks at.
const WALK: usize = 5_000;

/// The ids of all records that a query gives, page by page, and how many pages that took.
async fn found(server: &Server, admin: &str, query: &str) -> (Vec<String>, usize) {
    let (mut ids, mut pages) = (Vec::new(), 0);
    let mut next = Some(format!("/auth/all-tokens?{query}"));
    while let Some(path) = next {
        let answer = server.get(&path).bearer(admin).send().await;
        let link = answer.header("Link").map(|link| link[1..link.find('>').unwrap()].to_owned());
        next = link.map(|target| target[target.find("/auth").unwrap()..].to_owned());
        let id = |record: &Value| record["token"]["jti"].as_str().unwrap().to_owned();
        ids.extend(answer.ok(200).as_array().unwrap().iter().map(id));
        pages += 1;
    }
    (ids, pages)
}

on_both! {
    async fn tokens_are_found_by_where_they_came_from(server: Server) {
        let admin = server.login().await;
        let (near, far) = ("192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap());
        let one = server.issue_with("alice", "", |grant| grant.device(Some(near), None)).await;
        let two = server.issue_with("bob", "", |grant| grant.device(Some(near), None)).await;
        let three = server.issue_with("alice", "", |grant| grant.device(Some(far), None)).await;
        let billing = server.add_client("billing", &["--scope", "tokens:issue", "--grant-scope", "read"]);
        let call = server.post("/tokens").basic(&billing).json(&json!({ "subject": "alice", "scope": "read" }));
        let asked = call.send().await.ok(201)["access_token"].as_str().unwrap().to_owned();

        let ids = |pairs: &[&crate::support::Pair]| -> Vec<String> {
            let mut ids: Vec<String> =
                pairs.iter().flat_map(|pair| [jti_of(&pair.access), jti_of(&pair.refresh)]).collect();
            ids.sort();
            ids
        };
        let is = async |query: &str, mut expected: Vec<String>| {
            let (mut ids, pages) = found(&server, &admin.access, query).await;
            ids.sort();
            expected.sort();
            assert_eq!((ids, pages), (expected, 1), "{query}");
        };
        is("address=192.0.2.7", ids(&[&one, &two])).await;
        is("address=2001:db8:0:0::7", ids(&[&three])).await;
        is("address=192.0.2.7&subject=bob", ids(&[&two])).await;
        is("address=192.0.2.7&type=access", vec![jti_of(&one.access), jti_of(&two.access)]).await;
        is("address=192.0.2.8", Vec::new()).await;
        is(&format!("session={}", sid_of(&three.access)), ids(&[&three])).await;
        is(&format!("session={}&subject=bob", sid_of(&three.access)), Vec::new()).await;
        let of_client = found(&server, &admin.access, "client=billing").await.0;
        assert!(of_client.len() == 2 && of_client.contains(&jti_of(&asked)), "{of_client:?}");
        is(&format!("client={}", billing.id), of_client.clone()).await;
        is("client=billing&subject=alice&state=live", of_client).await;
        is("client=nobody", Vec::new()).await;

        server.delete(&format!("/admin/sessions/{}", sid_of(&one.access))).bearer(&admin.access).send().await.ok(200);
        is("address=192.0.2.7&state=revoked", ids(&[&one])).await;
        is("address=192.0.2.7&state=live", ids(&[&two])).await;

        // One's own, by session.
        let own = server.get(&format!("/auth/tokens?session={}", sid_of(&three.access))).bearer(&three.access);
        assert_eq!(own.send().await.ok(200).as_array().unwrap().len(), 2);
        let others = server.get(&format!("/auth/tokens?session={}", sid_of(&two.access))).bearer(&three.access);
        assert_eq!(others.send().await.ok(200), json!([]));

        for query in ["session=x", "address=localhost", "address=", "client=%00", "session=&session="] {
            let answer = server.get(&format!("/auth/all-tokens?{query}")).bearer(&admin.access).send().await;
            answer.error(422, "invalid_request");
        }
        let listed = server.command_ok(&["token", "list", "--address", "192.0.2.7", "--state", "live", "--json"], "");
        assert_eq!(serde_json::from_str::<Value>(&listed).unwrap().as_array().unwrap().len(), 2);
    }

    async fn a_page_looks_at_no_more_than_so_many_records(server: Server) {
        let admin = server.login().await;
        let first = server.issue("first", "").await;
        let revoke = format!("/admin/tokens/revoke/{}", jti_of(&first.access));
        server.put(&revoke).bearer(&admin.access).send().await.ok(200);
        server.advance(1);
        // So many more of one session, as only time would make them.
        let crowd = server.issue_with("crowd", "", |grant| grant.without_refresh()).await;
        let rows = WALK * 2 + 10;
        let numbers = "with recursive n (i) as (select 1 union all select i + 1 from n where i < ROWS)";
        server
            .sql(&format!(
                "{} insert into cf_tokens (jti, sid, subject, token_type, issued_at, not_before, expires_at, scope, claims, kid)
                select {}, t.sid, t.subject, 'access', t.issued_at + n.i / 100, t.not_before, t.expires_at, t.scope, t.claims, t.kid
                from n cross join cf_tokens t where t.subject = 'crowd'",
                numbers.replace("ROWS", &rows.to_string()),
                server.random_id()
            ))
            .await;

        let (ids, pages) = found(&server, &admin.access, "state=revoked").await;
        assert_eq!((ids, pages), (vec![jti_of(&first.access)], 3));
        let (ids, pages) = found(&server, &admin.access, "subject=crowd&type=refresh").await;
        assert_eq!((ids.len(), pages), (0, 3));
        let (ids, pages) = found(&server, &admin.access, &format!("session={}&state=revoked", sid_of(&crowd.access))).await;
        assert_eq!((ids.len(), pages), (0, 3));
        // Where all are asked for, every page is full, and each record is on one.
        let (ids, pages) = found(&server, &admin.access, "subject=crowd&state=live&limit=1000").await;
        assert_eq!((ids.len(), pages), (rows + 1, (rows + 1).div_ceil(1_000)));

        // The library's list goes on by itself; its search says where to.
        let revoked = Filter::all().state(State::Revoked);
        let page = server.registry.search(&revoked).await.unwrap();
        assert!(page.records.is_empty() && page.next.is_some(), "{page:?}");
        assert_eq!(server.registry.list(&revoked).await.unwrap().len(), 1);
    }
}
