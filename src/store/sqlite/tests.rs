use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn an_sqlite_that_is_too_old_is_told() {
    for (version, recent) in [("3.51.0", true), ("3.100.0", true), ("4.0", true), ("3.46.1", false), ("3", false)] {
        assert_eq!(is_recent(version), recent, "{version}");
    }
}

async fn store_at(path: &Path) -> Result<Sqlite, Error> {
    let url = format!("sqlite://{}", path.display());
    let store = Sqlite::new(&Options { url, in_memory: false, connections_max: 1, listen: false })?;
    store.migrate().await.map(|_| store)
}

async fn write(store: &Sqlite, name: &str) -> Result<(), sqlx::Error> {
    let mut tx = store.begin().await?;
    sqlx::query("insert into cf_login_limits (name, arrival_ms) values (?1, 1)").bind(name).execute(&mut *tx).await?;
    tx.commit().await
}

#[tokio::test]
async fn a_full_disk_is_over_once_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_at(&directory.path().join("registry.db")).await.unwrap();
    // No page more than there are, for the connection that is open.
    sqlx::query("pragma max_page_count = 1").execute(&store.writer).await.unwrap();
    let mut written = 0;
    let full = loop {
        match write(&store, &format!("{written} {}", "x".repeat(1_000))).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(failure::failed(full).is_unavailable());
    write(&store, "another").await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn what_was_opened_before_a_file_was_replaced_or_could_be_written_is_not_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    let old = Duration::from_secs(3_600);
    std::fs::write(&path, "").unwrap();
    for change in [
        (|path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o400)).unwrap()) as fn(&Path),
        |path| std::fs::remove_file(path).unwrap(),
    ] {
        let watched = Watched::new(&path);
        assert!(watched.is_current(old));
        change(&path);
        assert!(!watched.is_current(old));
        assert!(watched.is_current(Duration::ZERO));
    }
}

#[tokio::test]
async fn a_log_without_its_database_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    let url = format!("sqlite://{}", path.display());
    let open = || Sqlite::new(&Options { url: url.clone(), in_memory: false, connections_max: 1, listen: false });
    let store = open().unwrap();
    std::fs::write(log_of(&path), "what was not yet in the database").unwrap();
    for is_empty in [false, true] {
        if is_empty {
            std::fs::write(&path, "").unwrap();
        }
        for refused in [open().err(), store.schema().await.err(), store.migrate().await.err()] {
            assert!(refused.unwrap().to_string().contains("registry.db-wal"));
        }
        assert_eq!(path.exists(), is_empty);
        assert_eq!(std::fs::read(log_of(&path)).unwrap(), b"what was not yet in the database");
    }
}

#[tokio::test]
async fn a_copy_that_is_not_in_wal_mode_is_put_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let (path, copy) = (directory.path().join("registry.db"), directory.path().join("copy.db"));
    let store = store_at(&path).await.unwrap();
    sqlx::query("vacuum into ?1").bind(copy.to_str().unwrap()).execute(&store.writer).await.unwrap();
    store.close().await;
    let url = format!("sqlite://{}", copy.display());
    let store = Sqlite::new(&Options { url, in_memory: false, connections_max: 1, listen: false }).unwrap();
    // What a connection has not read since it does not know.
    let mode = async || {
        let mut tx = store.readers.begin().await.unwrap();
        sqlx::query("select 1 from cf_tokens").fetch_optional(&mut *tx).await.unwrap();
        sqlx::query_scalar::<_, String>("pragma journal_mode").fetch_one(&mut *tx).await.unwrap()
    };
    assert_eq!(mode().await, "delete");
    assert_eq!(store.schema().await.unwrap(), Schema::Current);
    assert_eq!(mode().await, "wal");
    write(&store, "one").await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_new_database_is_its_owners_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    let store = store_at(&path).await.unwrap();
    for file in [path.clone(), path.with_extension("db-wal")] {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    store.close().await;
}
