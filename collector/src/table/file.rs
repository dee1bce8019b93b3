//! One data file of a table: what the table's log says of it, and its rows as they lie there.

use std::fs::File;
use std::path::PathBuf;

use datafusion::arrow::array::{ArrayRef, UInt32Array, new_null_array};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use deltalake::kernel::LogicalFileView;
use serde_json::{Map, Value};

use crate::schema::{Column, Table, column_of};
use crate::table::{Store, TableError};

/// A data file of a table's current version, as the table's log describes it.
#[derive(Debug, Clone)]
pub struct DataFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// The partition that its rows are in: column and value.
    pub partition: Map<String, Value>,
    /// Counts and bounds of its columns, as Delta writes them: `numRecords`, `minValues`,
    /// `maxValues`, `nullCount`.
    pub stats: Value,
    /// Whether some of its rows are marked as deleted, which this program never does.
    pub deletes: bool,
}

/// The rows of a file, batch by batch.
pub type FileRows = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

impl Store {
    /// The data files of the version that stands now.
    ///
    /// # Errors
    /// The table's state cannot be read.
    pub fn data_files(&self) -> Result<Vec<DataFile>, TableError> {
        let state = self.delta.snapshot().map_err(|e| self.delta_error(e))?;
        Ok(state.log_data().iter().map(|view| self.data_file(&view)).collect())
    }

    pub(in crate::table) fn data_file(&self, view: &LogicalFileView) -> DataFile {
        let partition = view.partition_values_map().into_iter();
        let stats = view.stats().and_then(|stats| serde_json::from_str(&stats).ok());
        DataFile {
            path: self.root.join(view.object_store_path().as_ref()),
            bytes: u64::try_from(view.size()).unwrap_or_default(),
            partition: partition.map(|(column, value)| (column, Value::from(value))).collect(),
            stats: stats.unwrap_or_default(),
            deletes: view.deletion_vector_descriptor().is_some(),
        }
    }
}

// === impl DataFile ===

impl DataFile {
    /// Its rows, in the columns of `table`. They are read as they lie there and not through the
    /// table's log, which may say something else of them; only the partition is the log's to say.
    /// A column that the file does not have yet is empty.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn rows(&self, table: Table) -> Result<FileRows, ArrowError> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&self.path)?)?.build()?;
        let partition = self.partition.clone();
        Ok(Box::new(reader.map(move |rows| laid_out(table, &partition, &rows?))))
    }
}

/// `rows` in the columns of `table`.
fn laid_out(
    table: Table,
    partition: &Map<String, Value>,
    rows: &RecordBatch,
) -> Result<RecordBatch, ArrowError> {
    let column = |column: &Column| {
        let wanted = column.form.data_type();
        if table.partition_columns().contains(&column.name) {
            let value = partition.get(column.name).unwrap_or(&Value::Null);
            let each = UInt32Array::from(vec![0; rows.num_rows()]);
            return take(&column_of(column.form, value), &each, None);
        }
        match rows.column_by_name(column.name) {
            None => Ok(new_null_array(&wanted, rows.num_rows())),
            Some(found) if *found.data_type() == wanted => Ok(ArrayRef::clone(found)),
            Some(found) => cast(found, &wanted),
        }
    };
    let columns = table.columns().iter().map(column).collect::<Result<_, _>>()?;
    RecordBatch::try_new(table.schema(), columns)
}
