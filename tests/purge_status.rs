//! How the purge stands: its last runs, what is left for it, and who is at it.

use crate::support::{Server, Value, on_both};

on_both! {
    async fn the_last_runs_are_known(database: Database) {
        let server = Server::start(database, |settings| settings.set("purge.batch", 2).set("purge.pause", "0s")).await;
        let status = server.registry.purge_status().await.unwrap();
        assert_eq!((status.backlog, &status.running, status.runs.len()), (0, &None, 0));
        // This one purges by itself, some minutes from now.
        assert!(status.next_run.unwrap() > server.registry.now());
        for subject in ["a", "b", "c"] {
            server.issue(subject, "").await;
        }
        server.advance(901);
        assert_eq!(server.registry.purge_status().await.unwrap().backlog, 3);
        server.command(&["purge", "--status", "--json"], "").ok();
        server.registry.purge().await.unwrap();
        let status = server.registry.purge_status().await.unwrap();
        assert_eq!((status.backlog, &status.running), (0, &None));
        let run = &status.runs[0];
        assert_eq!((run.records, run.complete, &run.error), (3, true, &None));
        assert!(run.ended_at.unwrap() >= run.started_at && run.process.contains(':'), "{run:?}");

        for _ in 0..25 {
            server.advance(1);
            server.registry.purge().await.unwrap();
        }
        let runs = server.registry.purge_status().await.unwrap().runs;
        assert_eq!(runs.len(), 20);
        assert!(runs.is_sorted_by(|one, next| one.started_at >= next.started_at), "{runs:?}");
        assert!(runs.iter().all(|run| run.complete && run.records == 0), "{runs:?}");
    }

    async fn a_run_that_was_killed_is_known_for_what_it_is(server: Server) {
        let now = server.registry.now().timestamp();
        let holder = if server.database_url().starts_with("sqlite:") {
            "x'0190a5a0000070008000000000000001'"
        } else {
            "'0190a5a0-0000-7000-8000-000000000001'"
        };
        server
            .sql(&format!(
                "insert into cf_purge_runs (holder, process, started_at, seen_at, records) values ({holder}, 'x:1', {now}, {now}, 7);
                update cf_jobs set holder = {holder}, held_until = {} where name = 'purge'",
                now + 60
            ))
            .await;
        let status = server.registry.purge_status().await.unwrap();
        let running = status.running.unwrap();
        assert_eq!((running.process.as_str(), running.records, running.ended_at), ("x:1", 7, None));
        // Another one that purges meanwhile does nothing, and notes nothing.
        assert!(!server.registry.purge().await.unwrap().complete);
        assert_eq!(server.registry.purge_status().await.unwrap().runs.len(), 1);

        server.advance(61);
        let status = server.registry.purge_status().await.unwrap();
        assert_eq!((status.running, status.runs[0].ended_at), (None, None));
        let shown = server.command_ok(&["purge", "--status"], "");
        assert!(shown.starts_with("0 records would go now."), "{shown}");
        assert!(server.registry.purge().await.unwrap().complete);
        let runs = server.registry.purge_status().await.unwrap().runs;
        assert_eq!((runs.len(), runs[0].complete, runs[1].ended_at), (2, true, None));
    }

    async fn a_run_that_failed_says_why(server: Server) {
        server.issue("a", "").await;
        server.advance(901);
        let (refuses, allows) = if server.database_url().starts_with("sqlite:") {
            ("create trigger held before delete on cf_tokens begin select raise(abort, 'held'); end", "drop trigger held")
        } else {
            (
                "create function held() returns trigger language plpgsql as $$ begin raise exception 'held'; end $$;
                create trigger held before delete on cf_tokens for each row execute function held()",
                "drop trigger held on cf_tokens",
            )
        };
        server.sql(refuses).await;
        let error = server.registry.purge().await.unwrap_err();
        let status = server.registry.purge_status().await.unwrap();
        let run = &status.runs[0];
        assert_eq!((run.records, run.complete, run.error.as_deref()), (0, false, Some(error.to_string().as_str())));
        assert!(run.ended_at.is_some() && status.running.is_none(), "{status:?}");
        server.sql(allows).await;
        assert_eq!(server.registry.purge().await.unwrap().tokens, 1);
    }

    async fn a_purge_that_can_not_note_its_run_goes_on(server: Server) {
        server.issue("a", "").await;
        server.advance(901);
        server.sql("drop table cf_purge_runs").await;
        assert_eq!(server.registry.purge().await.unwrap().tokens, 1);
    }

    async fn the_status_is_json_for_programs(server: Server) {
        server.registry.purge().await.unwrap();
        let shown: Value = serde_json::from_str(&server.command_ok(&["purge", "--status", "--json"], "")).unwrap();
        assert_eq!((&shown["backlog"], &shown["running"]), (&0.into(), &Value::Null));
        assert_eq!((&shown["runs"][0]["complete"], shown["runs"][0].get("holder")), (&true.into(), None));
    }
}
