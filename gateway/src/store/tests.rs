//! Rows and their changes stand or fall together.

use super::*;

fn row(id: &str, hash: u8) -> KeyRow {
    KeyRow {
        id: id.into(),
        hash: [hash; 32],
        tenant: "demo".into(),
        name: "ana".into(),
        roles: vec!["caller".into()],
        attributes: vec![("request.purpose".into(), "support".into())],
        calls_at_once_max: 1,
        refused_per_second_max: 2,
        created_at: "2026-11-22T19:45:12.123456Z".into(),
        revoked_at: None,
    }
}

async fn store(folder: &tempfile::TempDir) -> Store {
    Store::open(&folder.path().join("cordon.db")).await.unwrap()
}

#[tokio::test]
async fn a_row_comes_back_as_it_was_and_its_change_tells_no_hash() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    store.insert_key(&row("key_1", 1), "ana").await.unwrap();
    assert_eq!(store.keys().await.unwrap(), [row("key_1", 1)]);
    let changes = store.changes_after(0).await.unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].kind, changes[0].by.as_str()), (ChangeKind::KeyCreated, "ana"));
    assert!(changes[0].detail.get("hash").is_none());
}

#[tokio::test]
async fn a_row_that_cannot_be_written_leaves_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    store.insert_key(&row("key_1", 1), "ana").await.unwrap();
    assert!(store.insert_key(&row("key_2", 1), "ana").await.is_err());
    assert!(store.insert_key(&row("key_1", 2), "ana").await.is_err());
    assert_eq!(store.changes_after(0).await.unwrap().len(), 1);
}

#[tokio::test]
async fn two_that_open_a_new_database_at_once_both_succeed() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = tokio::join!(store(&folder), store(&folder));
    first.insert_key(&row("key_1", 1), "ana").await.unwrap();
    second.insert_key(&row("key_2", 2), "ana").await.unwrap();
    assert_eq!(first.keys().await.unwrap().len(), 2);
}

#[tokio::test]
async fn looking_at_a_database_changes_nothing_and_refuses_what_is_newer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cordon.db");
    assert!(Store::inspect(&path).await.is_err());
    assert!(!path.try_exists().unwrap());
    let made = store(&folder).await;
    made.insert_key(&row("key_1", 1), "ana").await.unwrap();
    let looked = Store::inspect(&path).await.unwrap();
    assert_eq!(looked.valid_keys().await.unwrap().len(), 1);
    assert!(looked.set_setting("a", "b").await.is_err());
    sqlx::query("UPDATE _sqlx_migrations SET version = 9000").execute(&made.pool).await.unwrap();
    let newer = Store::inspect(&path).await.unwrap_err();
    assert!(matches!(newer, StoreError::Newer { .. }), "{newer}");
}
