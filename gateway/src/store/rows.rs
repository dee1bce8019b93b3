//! How control data stands in its tables: columns to values and back.

use serde_json::{Value, json};
use sqlx::{Row, Sqlite, SqlitePool, Transaction, sqlite::SqliteRow};

use crate::store::{Author, Change, ChangeKind, KeyRow, StoreError};

/// What a line of the change log is about.
pub(super) struct Subject<'a> {
    pub(super) kind: ChangeKind,
    pub(super) id: &'a str,
    pub(super) tenant: &'a str,
}

pub(super) async fn insert_key(
    transaction: &mut Transaction<'_, Sqlite>,
    row: &KeyRow,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO keys (id, hash, tenant, name, roles_json, attributes_json, \
         calls_at_once_max, refused_per_second_max, created_at, revoked_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&row.id)
    .bind(row.hash.as_slice())
    .bind(&row.tenant)
    .bind(&row.name)
    .bind(json!(row.roles).to_string())
    .bind(json!(row.attributes).to_string())
    .bind(row.calls_at_once_max)
    .bind(row.refused_per_second_max)
    .bind(&row.created_at)
    .bind(&row.revoked_at)
    .execute(&mut **transaction)
    .await
    .map(|_| ())
}

/// What the log says of a new key: all but its hash.
pub(super) fn created(row: &KeyRow) -> Value {
    json!({
        "name": row.name,
        "roles": row.roles,
        "attributes": row.attributes,
        "calls_at_once_max": row.calls_at_once_max,
        "refused_per_second_max": row.refused_per_second_max,
    })
}

pub(super) async fn log(
    transaction: &mut Transaction<'_, Sqlite>,
    subject: &Subject<'_>,
    author: &Author,
    detail: &Value,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO change_log (at, kind, subject, tenant, by, detail_json) \
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(&author.at)
    .bind(subject.kind.as_str())
    .bind(subject.id)
    .bind(subject.tenant)
    .bind(&author.by)
    .bind(detail.to_string())
    .execute(&mut **transaction)
    .await
    .map(|_| ())
}

pub(super) async fn keys(
    pool: &SqlitePool,
    statement: &'static str,
) -> Result<Vec<KeyRow>, StoreError> {
    let rows = sqlx::query(statement)
        .fetch_all(pool)
        .await
        .map_err(|source| StoreError::Statement { doing: "reading keys", source })?;
    rows.iter().map(key).collect()
}

fn key(row: &SqliteRow) -> Result<KeyRow, StoreError> {
    let id: String = row.get("id");
    let not_ours = |what| StoreError::Row { id: id.clone(), what };
    let hash: Vec<u8> = row.get("hash");
    let roles: String = row.get("roles_json");
    let attributes: String = row.get("attributes_json");
    Ok(KeyRow {
        hash: hash.try_into().map_err(|_bytes| not_ours("its hash is not 32 bytes"))?,
        tenant: row.get("tenant"),
        name: row.get("name"),
        roles: serde_json::from_str(&roles).map_err(|_fault| not_ours("its roles are no list"))?,
        attributes: serde_json::from_str(&attributes)
            .map_err(|_fault| not_ours("its attributes are no pairs"))?,
        calls_at_once_max: row.get("calls_at_once_max"),
        refused_per_second_max: row.get("refused_per_second_max"),
        created_at: row.get("created_at"),
        revoked_at: row.get("revoked_at"),
        id,
    })
}

pub(super) async fn changes(
    pool: &SqlitePool,
    after: i64,
    count_max: i64,
) -> Result<Vec<Change>, StoreError> {
    let rows = sqlx::query("SELECT * FROM change_log WHERE id > ? ORDER BY id LIMIT ?")
        .bind(after)
        .bind(count_max)
        .fetch_all(pool)
        .await
        .map_err(|source| StoreError::Statement { doing: "reading changes", source })?;
    rows.iter().map(change).collect()
}

fn change(row: &SqliteRow) -> Result<Change, StoreError> {
    let id: i64 = row.get("id");
    let not_ours = |what| StoreError::Row { id: format!("change_log {id}"), what };
    let kind: String = row.get("kind");
    let detail: String = row.get("detail_json");
    Ok(Change {
        id,
        at: row.get("at"),
        kind: ChangeKind::parse(&kind).ok_or_else(|| not_ours("its kind is not known"))?,
        subject: row.get("subject"),
        tenant: row.get("tenant"),
        by: row.get("by"),
        detail: serde_json::from_str(&detail)
            .map_err(|_fault| not_ours("its detail is no JSON"))?,
    })
}
