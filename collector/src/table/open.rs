//! Opening a table: as it stands, new, or set aside and begun again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use deltalake::kernel::StructField;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::operations::create::CreateBuilder;
use deltalake::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use serde_json::Value;
use url::Url;

use crate::schema::Table;
use crate::table::commit::NoWatch;
use crate::table::disk;
use crate::table::{
    MARKS_KEY, Marks, Store, TableError, app_id, configuration, delta_error, marks_from_json,
};

/// How many commits back the last marks are looked for.
const COMMITS_BACK_MAX: usize = 16;

impl Store {
    /// Opens the table in `tables` for reading; `None` where there is none yet.
    ///
    /// # Errors
    /// There is one, and it does not open or is not ours.
    pub async fn open(tables: &Path, table: Table) -> Result<Option<Self>, TableError> {
        Self::load(tables, table, names_of(&table.schema()).len()).await
    }

    /// Opens the table in `tables` to be proven: an older version of this program may have made it,
    /// before its last columns were thought of.
    ///
    /// # Errors
    /// There is one, and it does not open or is not ours.
    pub async fn open_to_prove(tables: &Path, table: Table) -> Result<Option<Self>, TableError> {
        Self::load(tables, table, 1).await
    }

    async fn load(
        tables: &Path,
        table: Table,
        columns_min: usize,
    ) -> Result<Option<Self>, TableError> {
        let root = tables.join(table.name());
        if !root.join("_delta_log").try_exists().map_err(|e| disk_error(table, &root, e))? {
            return Ok(None);
        }
        let root = root.canonicalize().map_err(|e| disk_error(table, &root, e))?;
        let url = folder_url(table, &root)?;
        let builder = DeltaTableBuilder::from_url(url).map_err(|e| delta_error(table, e))?;
        let delta = match builder.load().await {
            Ok(delta) => delta,
            Err(DeltaTableError::NotATable(_)) => return Ok(None),
            Err(source) => return Err(delta_error(table, source)),
        };
        check_columns(table, &delta, columns_min)?;
        let marks = read_marks(table, &delta).await?;
        Ok(Some(Self { table, root, delta, marks, watch: Arc::new(NoWatch) }))
    }

    /// Opens the table in `tables` for writing, and makes it where there is none.
    ///
    /// # Errors
    /// It does not open, is not ours, or cannot be made.
    pub async fn open_or_create(tables: &Path, table: Table) -> Result<Self, TableError> {
        if let Some(store) = Self::open(tables, table).await? {
            return Ok(store);
        }
        let root = tables.join(table.name());
        std::fs::create_dir_all(&root).map_err(|e| disk_error(table, &root, e))?;
        let root = root.canonicalize().map_err(|e| disk_error(table, &root, e))?;
        let delta = CreateBuilder::new()
            .with_location(folder_url(table, &root)?.to_string())
            .with_table_name(table.name())
            .with_columns(delta_columns(table)?)
            .with_partition_columns(table.partition_columns().iter().copied())
            .with_configuration(configuration())
            .await
            .map_err(|e| delta_error(table, e))?;
        disk::sync_log(&root, 0).map_err(|e| disk_error(table, &root, e))?;
        let marks = Marks::new();
        Ok(Self { table, root, delta, marks, watch: Arc::new(NoWatch) })
    }

    /// Sets the table's folder aside, so that it can be begun again; gives its new name.
    ///
    /// # Errors
    /// The folder cannot be renamed.
    pub fn set_aside(tables: &Path, table: Table, seconds: u64) -> Result<PathBuf, TableError> {
        let root = tables.join(table.name());
        let aside = tables.join(format!("{}.broken-{seconds}", table.name()));
        std::fs::rename(&root, &aside).map_err(|e| disk_error(table, &root, e))?;
        disk::sync_folder(tables).map_err(|e| disk_error(table, tables, e))?;
        Ok(aside)
    }
}

/// The columns as Delta writes them down.
fn delta_columns(table: Table) -> Result<Vec<StructField>, TableError> {
    let field = |field: &Arc<datafusion::arrow::datatypes::Field>| {
        let made: Result<StructField, _> = field.as_ref().try_into_kernel();
        made.map_err(|source| TableError::Rows { table: table.name(), source })
    };
    table.schema().fields().iter().map(field).collect()
}

/// Refuses a table whose columns are not ours, in our order, or not `columns_min` of them: its rows
/// could not be compared with the ledger.
fn check_columns(table: Table, delta: &DeltaTable, columns_min: usize) -> Result<(), TableError> {
    let state = delta.snapshot().map_err(|e| delta_error(table, e))?;
    let (found, wanted) = (names_of(&state.snapshot().arrow_schema()), names_of(&table.schema()));
    if wanted.starts_with(&found) && found.len() >= columns_min {
        return Ok(());
    }
    let strange = found.iter().find(|column| !wanted.contains(column));
    let missing = wanted.iter().find(|column| !found.contains(column));
    let what = format!("its columns differ (found {strange:?}, missing {missing:?})");
    Err(TableError::Foreign { table: table.name(), what })
}

fn names_of(schema: &Schema) -> Vec<(String, String)> {
    schema.fields().iter().map(|f| (f.name().clone(), f.data_type().to_string())).collect()
}

/// The marks of the last commit, checked against Delta's own transactions.
pub(in crate::table) async fn read_marks(
    table: Table,
    delta: &DeltaTable,
) -> Result<Marks, TableError> {
    let state = delta.snapshot().map_err(|e| delta_error(table, e))?;
    if state.version() == 0 {
        return Ok(Marks::new());
    }
    let foreign = |what: String| TableError::Foreign { table: table.name(), what };
    let marks = last_marks(table, delta, state.version()).await?;
    let marks = marks.ok_or_else(|| foreign("its last commits say not how far it came".into()))?;
    for (stream, mark) in &marks {
        let version = state
            .transaction_version(delta.log_store().as_ref(), app_id(stream))
            .await
            .map_err(|e| delta_error(table, e))?;
        if version != i64::try_from(mark.seq).ok() {
            return Err(foreign(format!("stream `{stream}`: marks and transactions differ")));
        }
    }
    Ok(marks)
}

/// The marks in the newest of the commits up to `version` that has any. Delta's own history goes on
/// to commits that landed behind this version, while it was being read.
async fn last_marks(
    table: Table,
    delta: &DeltaTable,
    version: u64,
) -> Result<Option<Marks>, TableError> {
    let log = delta.log_store();
    for number in (0..=version).rev().take(COMMITS_BACK_MAX) {
        let entry = log.read_commit_entry(number).await.map_err(|e| delta_error(table, e))?;
        let Some(entry) = entry else { continue };
        let actions = serde_json::Deserializer::from_slice(&entry).into_iter::<Value>();
        for action in actions.map_while(Result::ok) {
            if let Some(marks) = action.get("commitInfo").and_then(|info| info.get(MARKS_KEY)) {
                return Ok(marks_from_json(marks));
            }
        }
    }
    Ok(None)
}

fn folder_url(table: Table, root: &Path) -> Result<Url, TableError> {
    Url::from_directory_path(root).map_err(|()| TableError::Foreign {
        table: table.name(),
        what: format!("`{}` is no absolute path", root.display()),
    })
}

pub(in crate::table) fn disk_error(
    table: Table,
    path: &Path,
    source: std::io::Error,
) -> TableError {
    TableError::Disk { table: table.name(), path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::table::Mark;

    #[tokio::test]
    async fn a_commit_that_lands_while_a_table_is_read_does_not_change_what_was_read() {
        let tables = tempfile::tempdir().unwrap();
        let marks = |seq| Marks::from([(Uuid::nil(), Mark { seq, chain: [7; 32] })]);
        let mut writer = Store::open_or_create(tables.path(), Table::Calls).await.unwrap();
        writer.commit(&[], &marks(1)).await.unwrap();
        let reader = Store::open(tables.path(), Table::Calls).await.unwrap().unwrap();
        writer.commit(&[], &marks(2)).await.unwrap();
        assert_eq!(read_marks(Table::Calls, &reader.delta).await.unwrap(), marks(1));
        assert_eq!(read_marks(Table::Calls, &writer.delta).await.unwrap(), marks(2));
    }
}
