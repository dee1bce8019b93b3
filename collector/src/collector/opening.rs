//! Opening all tables for writing, under one lock; one that does not open is begun again.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::error;

use crate::collector::CollectorError;
use crate::schema::Table;
use crate::table::{Store, TableError};

/// How often and how long the lock of the tables is waited for.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// All tables, opened by their one committer.
#[derive(Debug)]
pub struct Opened {
    /// Held for as long as anything is committed.
    pub lock: File,
    /// The tables, in the order of [`Table::ALL`].
    pub stores: [Store; 4],
    /// What was begun again, and why.
    pub rebuilt: Vec<String>,
}

// === impl Opened ===

impl Opened {
    /// Opens the tables in `tables`.
    ///
    /// # Errors
    /// Another process has them, or one can neither be opened nor begun again.
    pub async fn open(tables: &Path) -> Result<Self, CollectorError> {
        let lock = lock_soon(tables).await?;
        let mut rebuilt = Vec::new();
        let stores = [
            open_or_rebuild(tables, Table::Events, &mut rebuilt).await?,
            open_or_rebuild(tables, Table::Calls, &mut rebuilt).await?,
            open_or_rebuild(tables, Table::Attempts, &mut rebuilt).await?,
            open_or_rebuild(tables, Table::Decisions, &mut rebuilt).await?,
        ];
        Ok(Self { lock, stores, rebuilt })
    }
}

/// The one before us may still be completing its last commit.
async fn lock_soon(tables: &Path) -> Result<File, CollectorError> {
    for _try in 1..LOCK_TRIES {
        match lock(tables) {
            Err(CollectorError::InUse { .. }) => tokio::time::sleep(LOCK_PAUSE).await,
            locked => return locked,
        }
    }
    lock(tables)
}

fn lock(tables: &Path) -> Result<File, CollectorError> {
    let system = |source| CollectorError::System { path: tables.to_owned(), source };
    std::fs::create_dir_all(tables).map_err(system)?;
    let path = tables.join(".lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(system)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(CollectorError::InUse { path }),
        Err(TryLockError::Error(source)) => Err(system(source)),
    }
}

/// A table is derived: what does not open is set aside, never deleted, and read anew from the
/// ledger.
async fn open_or_rebuild(
    tables: &Path,
    table: Table,
    rebuilt: &mut Vec<String>,
) -> Result<Store, TableError> {
    let why = match Store::open_or_create(tables, table).await {
        Ok(store) => return Ok(store),
        Err(why @ (TableError::Delta { .. } | TableError::Foreign { .. })) => why,
        Err(why) => return Err(why),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let aside = Store::set_aside(tables, table, now.as_secs())?;
    let note = format!("{why}; set aside as `{}` and rebuilt from the ledger", aside.display());
    error!(table = table.name(), "{note}");
    rebuilt.push(note);
    Store::open_or_create(tables, table).await
}
