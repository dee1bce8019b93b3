//! One Delta table on disk, and its one committer.
//!
//! A commit goes in steps: leave out what has landed, write the data files, fsync them, put the
//! log entry, fsync that. The log entry carries, for each stream, the last seq as a transaction of
//! its own and that seq's chain hash. Delta accepts the same transaction twice, so `commit` reads
//! it and skips. Only this module names Delta. Knows no ledger.

mod commit;
mod disk;
mod file;
mod merge;
mod open;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use deltalake::delta_datafusion::{DeltaScanConfig, DeltaScanNext};
use deltalake::{DeltaTable, DeltaTableError};
use thiserror::Error;
use uuid::Uuid;

use crate::schema::Table;

pub(crate) use commit::rows_beyond;
pub use commit::{NoWatch, Step, Watch};
pub use file::{DataFile, FileRows};

/// What is left out of the log where nobody asks for anything else: Delta warns at every start that
/// it keeps no smallest and largest hash, which nobody looks for.
pub const QUIET: &str = "deltalake_core::writer::stats=error";

/// How far a stream has come: its last event and the chain's hash with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Seq of the last event.
    pub seq: u64,
    /// Hash of the chain with that event.
    pub chain: [u8; 32],
}

/// How far each stream has come.
pub type Marks = BTreeMap<Uuid, Mark>;

/// A table on disk, opened by its only writer or by a reader.
#[derive(Debug)]
pub struct Store {
    table: Table,
    root: PathBuf,
    delta: DeltaTable,
    marks: Marks,
    watch: Arc<dyn Watch>,
}

/// One version of a table, ready to be read.
#[derive(Debug, Clone)]
pub struct Version {
    /// The table.
    pub table: Table,
    /// Delta's number of the version.
    pub number: u64,
    /// What reads its files.
    pub provider: Arc<dyn TableProvider>,
}

/// Why a table cannot be used.
#[derive(Debug, Error)]
pub enum TableError {
    /// Delta refused.
    #[error("table `{table}`: {source}")]
    Delta {
        /// The table's name.
        table: &'static str,
        /// What Delta says.
        source: Box<DeltaTableError>,
    },
    /// What lies in the folder is not what this program writes.
    #[error("table `{table}` is not as this program writes it: {what}")]
    Foreign {
        /// The table's name.
        table: &'static str,
        /// What differs.
        what: String,
    },
    /// The disk refused.
    #[error("table `{table}`: {path}: {source}")]
    Disk {
        /// The table's name.
        table: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The rows do not fit the table.
    #[error("table `{table}`: rows do not fit: {source}")]
    Rows {
        /// The table's name.
        table: &'static str,
        /// What Arrow says.
        source: datafusion::arrow::error::ArrowError,
    },
    /// The commit was broken off on purpose, by a test.
    #[error("table `{table}`: commit broken off at {step:?}")]
    BrokenOff {
        /// The table's name.
        table: &'static str,
        /// The step it was broken off at.
        step: Step,
    },
}

// === impl Store ===

impl Store {
    /// The table this is.
    #[must_use]
    pub fn table(&self) -> Table {
        self.table
    }

    /// How far each stream has been committed.
    #[must_use]
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Its folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Calls `watch` at every step of a commit; tests break commits off with it.
    pub fn set_watch(&mut self, watch: Arc<dyn Watch>) {
        self.watch = watch;
    }

    /// The version that stands now.
    ///
    /// # Errors
    /// The table's state cannot be read.
    pub fn version(&self) -> Result<Version, TableError> {
        let snapshot = self.delta.snapshot().map_err(|e| self.delta_error(e))?.snapshot().clone();
        let number = snapshot.version();
        let config = DeltaScanConfig {
            file_column_name: None,
            wrap_partition_values: false,
            enable_parquet_pushdown: false,
            schema_force_view_types: false,
            schema: Some(self.table.schema()),
        };
        let provider = DeltaScanNext::new(snapshot, config).map_err(|e| self.scan_error(&e))?;
        Ok(Version { table: self.table, number, provider: Arc::new(provider) })
    }

    fn delta_error(&self, source: DeltaTableError) -> TableError {
        delta_error(self.table, source)
    }

    fn scan_error(&self, source: &DataFusionError) -> TableError {
        TableError::Foreign { table: self.table.name(), what: source.to_string() }
    }
}

fn delta_error(table: Table, source: DeltaTableError) -> TableError {
    TableError::Delta { table: table.name(), source: Box::new(source) }
}

/// Name of the marks in a commit's own information.
const MARKS_KEY: &str = "cordonMarks";

/// The application id that a stream's seq is kept under.
fn app_id(stream: &Uuid) -> String {
    format!("cordon/{stream}")
}

/// Marks as they stand in a commit.
fn marks_to_json(marks: &Marks) -> serde_json::Value {
    let entry = |(stream, mark): (&Uuid, &Mark)| {
        let value = serde_json::json!({"seq": mark.seq, "chain": hex::encode(mark.chain)});
        (stream.to_string(), value)
    };
    serde_json::Value::Object(marks.iter().map(entry).collect())
}

/// Marks as a commit gives them back; `None` where it is not as this program writes it.
fn marks_from_json(value: &serde_json::Value) -> Option<Marks> {
    let mut marks = Marks::new();
    for (stream, mark) in value.as_object()? {
        let chain = hex::decode(mark.get("chain")?.as_str()?).ok()?;
        let mark = Mark { seq: mark.get("seq")?.as_u64()?, chain: chain.try_into().ok()? };
        marks.insert(Uuid::parse_str(stream).ok()?, mark);
    }
    Some(marks)
}

/// What every table is set up with. Logs are cleaned only by a recorded maintenance action, and
/// transactions never expire: both hold what keeps rows from coming twice.
fn configuration() -> HashMap<String, Option<String>> {
    let set = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
    HashMap::from([
        set("delta.enableExpiredLogCleanup", "false"),
        set("delta.checkpointInterval", "100"),
        set("delta.appendOnly", "true"),
    ])
}
