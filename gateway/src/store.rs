//! Control data in SQLite: keys and the log of their changes.
//!
//! Knows rows; not what a key may do. Migrations lie in `migrations/sqlite`, embedded.

use std::path::Path;

/// The database of control data (`cordon.db`).
#[derive(Debug, Clone)]
pub struct Store {
    // sqlx::SqlitePool
}

/// What went wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {}

/// A key as stored: its keyed hash, never the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Public id of the key, safe to show.
    pub id: String,
    /// HMAC-SHA256 of the key under the store's pepper.
    pub hash: [u8; 32],
    pub tenant: String,
    pub name: String,
    /// `caller`, `auditor`, `operator`.
    pub roles: Vec<String>,
    /// Path of the policy contract's vocabulary to value, as given at creation.
    pub attributes: Vec<(String, String)>,
    pub calls_at_once_max: u32,
    pub refused_per_second_max: u32,
    /// RFC 3339 UTC.
    pub created_at: String,
    pub revoked_at: Option<String>,
}

impl Store {
    /// Opens or creates the database and brings it to the newest schema.
    pub async fn open(_path: &Path) -> Result<Self, StoreError> {
        todo!()
    }
}
