//! The commit, step by step, so that a crash between any two leaves nothing twice or missing.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, TimestampMicrosecondArray};
use datafusion::arrow::compute::{concat_batches, filter_record_batch};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use deltalake::kernel::transaction::CommitBuilder;
use deltalake::kernel::transaction::CommitProperties;
use deltalake::kernel::{Action, Add, Transaction};
use deltalake::parquet::basic::{Compression, ZstdLevel};
use deltalake::parquet::file::properties::WriterProperties;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::writer::{DeltaWriter, RecordBatchWriter};

use crate::schema::{Form, Table};
use crate::table::open::{disk_error, read_marks};
use crate::table::{MARKS_KEY, Marks, Store, TableError, app_id, disk, marks_to_json};

/// The steps of a commit, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The data files are written, not flushed.
    Written,
    /// The data files are flushed.
    Flushed,
    /// The log entry is there, not flushed.
    Entered,
    /// The log entry is flushed.
    Done,
}

/// Sees every step of every commit.
pub trait Watch: Debug + Send + Sync {
    /// Called after `step`; an answer of `false` breaks the commit off, as a crash would.
    fn goes_on(&self, table: Table, step: Step) -> bool;
}

/// Lets every commit go on.
#[derive(Debug)]
pub struct NoWatch;

impl Watch for NoWatch {
    fn goes_on(&self, _table: Table, _step: Step) -> bool {
        true
    }
}

impl Store {
    /// Adds `rows`, which bring the streams to `marks`, as one version of the table. Rows that
    /// have landed before are left out. With no rows the marks alone are written.
    ///
    /// # Errors
    /// Nothing landed, or it is not known: calling again with the same rows is right in both
    /// cases.
    pub async fn commit(&mut self, rows: &[RecordBatch], marks: &Marks) -> Result<(), TableError> {
        self.refresh().await?;
        let rows = self.new_rows(rows)?;
        let after = self.marks_after(marks);
        if after == self.marks {
            return Ok(());
        }
        let mut adds = Vec::new();
        if let Some(rows) = rows {
            let mut writer = self.writer()?;
            self.write(&mut writer, rows).await?;
            adds = self.finish(writer).await?;
        }
        let partitions = self.table.partition_columns();
        let partition_by = (!partitions.is_empty())
            .then(|| partitions.iter().map(|&name| name.to_owned()).collect());
        let operation =
            DeltaOperation::Write { mode: SaveMode::Append, partition_by, predicate: None };
        self.land(adds, Vec::new(), (operation, &after)).await
    }

    /// Makes one version of files that have been written, and of what else its log entry says.
    pub(in crate::table) async fn land(
        &mut self,
        adds: Vec<Add>,
        mut actions: Vec<Action>,
        (operation, marks): (DeltaOperation, &Marks),
    ) -> Result<(), TableError> {
        self.reached(Step::Written)?;
        for add in &adds {
            let path = self.root.join(&add.path);
            disk::sync_file(&path).map_err(|e| disk_error(self.table, &path, e))?;
        }
        disk::sync_folder(&self.root).map_err(|e| disk_error(self.table, &self.root, e))?;
        self.reached(Step::Flushed)?;
        actions.extend(adds.into_iter().map(Action::Add));
        let version = self.enter(actions, operation, marks).await?;
        self.reached(Step::Entered)?;
        disk::sync_log(&self.root, version).map_err(|e| disk_error(self.table, &self.root, e))?;
        self.reached(Step::Done)?;
        self.refresh().await
    }

    /// Reads what the table says now; after an unclear commit this tells whether it landed.
    pub(in crate::table) async fn refresh(&mut self) -> Result<(), TableError> {
        let before = self.delta.version();
        self.delta.update_state().await.map_err(|e| self.delta_error(e))?;
        if self.delta.version() != before {
            self.marks = read_marks(self.table, &self.delta).await?;
        }
        Ok(())
    }

    fn marks_after(&self, marks: &Marks) -> Marks {
        let mut after = self.marks.clone();
        for (stream, mark) in marks {
            if after.get(stream).is_none_or(|landed| landed.seq < mark.seq) {
                after.insert(*stream, *mark);
            }
        }
        after
    }

    /// The rows that have not landed yet, as one batch.
    fn new_rows(&self, rows: &[RecordBatch]) -> Result<Option<RecordBatch>, TableError> {
        let made = || -> Result<RecordBatch, ArrowError> {
            let all = concat_batches(&self.table.schema(), rows)?;
            let keep = rows_beyond(&all, self.table, &self.marks);
            stamp_commit(self.table, &filter_record_batch(&all, &keep)?)
        };
        let rows =
            made().map_err(|source| TableError::Rows { table: self.table.name(), source })?;
        Ok((rows.num_rows() > 0).then_some(rows))
    }

    /// What writes data files of this table.
    pub(in crate::table) fn writer(&self) -> Result<RecordBatchWriter, TableError> {
        let level = ZstdLevel::try_new(3).expect("3 is a level of zstd");
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_created_by(format!("cordon-collector {}", crate::config::VERSION))
            .build();
        let writer = RecordBatchWriter::for_table(&self.delta).map_err(|e| self.delta_error(e))?;
        Ok(writer.with_writer_properties(properties))
    }

    pub(in crate::table) async fn write(
        &self,
        writer: &mut RecordBatchWriter,
        rows: RecordBatch,
    ) -> Result<(), TableError> {
        writer.write(rows).await.map_err(|e| self.delta_error(e))
    }

    /// Ends the files; they are not flushed.
    pub(in crate::table) async fn finish(
        &self,
        mut writer: RecordBatchWriter,
    ) -> Result<Vec<Add>, TableError> {
        writer.flush().await.map_err(|e| self.delta_error(e))
    }

    async fn enter(
        &self,
        actions: Vec<Action>,
        operation: DeltaOperation,
        marks: &Marks,
    ) -> Result<u64, TableError> {
        let state = self.delta.snapshot().map_err(|e| self.delta_error(e))?;
        let transaction = |(stream, mark): (&uuid::Uuid, &crate::table::Mark)| {
            Transaction::new(app_id(stream), i64::try_from(mark.seq).unwrap_or(i64::MAX))
        };
        let properties = CommitProperties::default()
            .with_application_transactions(marks.iter().map(transaction).collect())
            .with_metadata([(MARKS_KEY.to_owned(), marks_to_json(marks))]);
        let finalized = CommitBuilder::from(properties)
            .with_actions(actions)
            .build(Some(state), self.delta.log_store(), operation)
            .await
            .map_err(|e| self.delta_error(e))?;
        Ok(finalized.version())
    }

    fn reached(&self, step: Step) -> Result<(), TableError> {
        if self.watch.goes_on(self.table, step) {
            return Ok(());
        }
        Err(TableError::BrokenOff { table: self.table.name(), step })
    }
}

/// Marks the rows whose seq lies beyond their stream's mark.
pub(crate) fn rows_beyond(rows: &RecordBatch, table: Table, marks: &Marks) -> BooleanArray {
    let stream_column = match table {
        Table::Events => "stream_id",
        Table::Calls | Table::Attempts | Table::Decisions => "node_id",
    };
    let column = |name: &str| rows.column_by_name(name).expect("every table has seq and stream");
    let streams = column(stream_column).as_string::<i32>();
    let seqs = column("seq").as_primitive::<Int64Type>();
    let landed: Vec<(String, i64)> = marks
        .iter()
        .map(|(stream, mark)| (stream.to_string(), i64::try_from(mark.seq).unwrap_or(i64::MAX)))
        .collect();
    let beyond = |row: usize| {
        let mark = landed.iter().find(|(stream, _)| stream == streams.value(row));
        mark.is_none_or(|(_, seq)| seqs.value(row) > *seq)
    };
    (0..rows.num_rows()).map(beyond).map(Some).collect()
}

/// Writes the instant of the commit into the tables that have a column for it.
fn stamp_commit(table: Table, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let Ok(place) = table.schema().index_of("commit_ts") else {
        return Ok(rows.clone());
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
    let stamps: TimestampMicrosecondArray = std::iter::repeat_n(Some(micros), rows.num_rows())
        .collect::<TimestampMicrosecondArray>()
        .with_data_type(Form::Time.data_type());
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    columns[place] = Arc::new(stamps);
    RecordBatch::try_new(table.schema(), columns)
}
