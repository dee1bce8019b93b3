//! Control data in SQLite: keys and the log of their changes.
//!
//! Knows rows; not what a key may do. Migrations lie in `migrations/sqlite`, embedded. A row and
//! its line in the change log are written in one transaction, so that whoever follows the log
//! misses nothing.

mod rows;

use std::{
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    SqlitePool,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// One writer at a time is SQLite's law; a few readers beside it are plenty for control data.
const CONNECTIONS_MAX: u32 = 4;
/// How long a statement waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a caller waits for a connection of the pool.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Two processes may create the database at the same moment; the later one finds it made.
const MIGRATION_TRIES_MAX: u32 = 3;
/// All keys are held in memory; more than this belongs to an identity provider.
pub const KEYS_MAX: u32 = 100_000;
/// Changes read at once; what is left is read at the next poll.
const CHANGES_READ_MAX: i64 = 1_000;

/// The database of control data (`cordon.db`).
#[derive(Debug, Clone)]
pub struct Store {
    pool: SqlitePool,
}

/// What went wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot create `{}` ({source}): check the folder and its owner", path.display())]
    Create { path: PathBuf, source: std::io::Error },
    #[error("cannot open `{}` ({source}): is it a database of Cordon, and not open elsewhere in exclusive mode?", path.display())]
    Open { path: PathBuf, source: sqlx::Error },
    #[error("cannot bring `{}` to this version ({source}): was it written by a newer Cordon?", path.display())]
    Migrate { path: PathBuf, source: sqlx::migrate::MigrateError },
    #[error("the database failed while {doing} ({source})")]
    Statement { doing: &'static str, source: sqlx::Error },
    #[error("row `{id}` of the database is not one of Cordon's: {what}")]
    Row { id: String, what: &'static str },
    #[error("`{}` is damaged ({found}): restore it and `cordon.pepper` from one backup", path.display())]
    Damaged { path: PathBuf, found: String },
    #[error("`{}` was written by a newer Cordon: start that one", path.display())]
    Newer { path: PathBuf },
    #[error("there are {KEYS_MAX} keys already: revoke those that nobody uses")]
    Full,
}

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

/// What happened to control data: one line of the change log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Grows by one with every change.
    pub id: i64,
    /// RFC 3339 UTC.
    pub at: String,
    pub kind: ChangeKind,
    /// Id of the key.
    pub subject: String,
    pub tenant: String,
    /// Who made it, as the operating system knows them.
    pub by: String,
    /// What a reader of the ledger wants to know of it; never a secret.
    pub detail: serde_json::Value,
}

/// The kinds of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    KeyCreated,
    KeyRevoked,
}

/// Who changes something, and when (RFC 3339 UTC).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    pub by: String,
    pub at: String,
}

/// What became of a revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    Done,
    /// It was revoked before, at this time.
    Already(String),
    /// No key has this id.
    Unknown,
}

// === impl ChangeKind ===

impl ChangeKind {
    /// The word in the log and in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KeyCreated => "key_created",
            Self::KeyRevoked => "key_revoked",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::KeyCreated, Self::KeyRevoked].into_iter().find(|kind| kind.as_str() == text)
    }
}

// === impl Store ===

impl Store {
    /// Opens or creates the database and brings it to the newest schema. Only its owner may
    /// read the file, whatever the umask.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        create_closed(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            // A revocation that was reported must survive a loss of power.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options)
            .await
            .map_err(|source| StoreError::Open { path: path.into(), source })?;
        migrate(&pool).await.map_err(|source| StoreError::Migrate { path: path.into(), source })?;
        Ok(Self { pool })
    }

    /// Opens a database that is there to look at it: writes nothing, and refuses one that is
    /// damaged or of another version.
    pub async fn inspect(path: &Path) -> Result<Self, StoreError> {
        let opened = |source| StoreError::Open { path: path.into(), source };
        let options = SqliteConnectOptions::new().filename(path).read_only(true);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options.busy_timeout(BUSY_TIMEOUT))
            .await
            .map_err(opened)?;
        let found: String =
            sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&pool).await.map_err(opened)?;
        if found != "ok" {
            return Err(StoreError::Damaged { path: path.into(), found });
        }
        let version: i64 = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
            .fetch_one(&pool)
            .await
            .map_err(opened)?;
        let ours = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
        if version > ours {
            return Err(StoreError::Newer { path: path.into() });
        }
        Ok(Self { pool })
    }

    /// Adds a key and says so in the change log.
    pub async fn insert_key(&self, row: &KeyRow, by: &str) -> Result<(), StoreError> {
        let failed = |source| StoreError::Statement { doing: "adding a key", source };
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM keys WHERE revoked_at IS NULL")
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed)?;
        if count >= i64::from(KEYS_MAX) {
            return Err(StoreError::Full);
        }
        rows::insert_key(&mut transaction, row).await.map_err(failed)?;
        let author = Author { by: by.to_owned(), at: row.created_at.clone() };
        let detail = rows::created(row);
        let subject =
            rows::Subject { kind: ChangeKind::KeyCreated, id: &row.id, tenant: &row.tenant };
        rows::log(&mut transaction, &subject, &author, &detail).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    /// Revokes a key and says so in the change log. Revoking twice changes nothing.
    pub async fn revoke_key(&self, id: &str, author: &Author) -> Result<Revocation, StoreError> {
        let failed = |source| StoreError::Statement { doing: "revoking a key", source };
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let found: Option<(String, Option<String>)> =
            sqlx::query_as("SELECT tenant, revoked_at FROM keys WHERE id = ?")
                .bind(id)
                .fetch_optional(&mut *transaction)
                .await
                .map_err(failed)?;
        let tenant = match found {
            None => return Ok(Revocation::Unknown),
            Some((_, Some(at))) => return Ok(Revocation::Already(at)),
            Some((tenant, None)) => tenant,
        };
        sqlx::query("UPDATE keys SET revoked_at = ? WHERE id = ?")
            .bind(&author.at)
            .bind(id)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        let subject = rows::Subject { kind: ChangeKind::KeyRevoked, id, tenant: &tenant };
        let detail = serde_json::json!({});
        rows::log(&mut transaction, &subject, author, &detail).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(Revocation::Done)
    }

    /// Every key, revoked ones too, oldest first.
    pub async fn keys(&self) -> Result<Vec<KeyRow>, StoreError> {
        rows::keys(&self.pool, "SELECT * FROM keys ORDER BY created_at, id").await
    }

    /// The keys that are valid.
    pub async fn valid_keys(&self) -> Result<Vec<KeyRow>, StoreError> {
        rows::keys(&self.pool, "SELECT * FROM keys WHERE revoked_at IS NULL").await
    }

    /// The changes after the one with this id, oldest first, a thousand at most.
    pub async fn changes_after(&self, id: i64) -> Result<Vec<Change>, StoreError> {
        rows::changes(&self.pool, id, CHANGES_READ_MAX).await
    }

    /// A value of ours by its name.
    pub async fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar("SELECT value FROM settings WHERE name = ?")
            .bind(name)
            .fetch_optional(&self.pool)
            .await
            .map_err(|source| StoreError::Statement { doing: "reading a setting", source })
    }

    /// Keeps a value of ours under a name, over what stood there.
    pub async fn set_setting(&self, name: &str, value: &str) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO settings (name, value) VALUES (?, ?) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(name)
        .bind(value)
        .execute(&self.pool)
        .await
        .map(|_| ())
        .map_err(|source| StoreError::Statement { doing: "keeping a setting", source })
    }

    /// Closes every connection; the files can be copied afterwards.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Makes the file before SQLite does: it and the files beside it take their mode from it.
fn create_closed(path: &Path) -> Result<(), StoreError> {
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map(|_| ())
        .map_err(|source| StoreError::Create { path: path.into(), source })
}

async fn migrate(pool: &SqlitePool) -> Result<(), sqlx::migrate::MigrateError> {
    let mut tries = 1;
    loop {
        match MIGRATIONS.run(pool).await {
            Err(_) if tries < MIGRATION_TRIES_MAX => tries += 1,
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests;
