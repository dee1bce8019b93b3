//! Every row of every table against the event it claims to come from.

use std::collections::{HashMap, HashSet};

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use uuid::Uuid;

use crate::schema::{Batches, Record, Table, decision_key, rows_of};
use crate::table::{DataFile, Marks, Store};
use crate::verify::described::{Described, Hidden};
use crate::verify::hash::{Hasher, RowHash, proven, proven_columns};
use crate::verify::{Fault, Report};

/// Rows that are compared at once.
const ROWS_AT_ONCE: usize = 1024;
/// Rows whose differing columns are looked up and named.
const NAMED_MAX: usize = 100;

/// All tables, waiting to be compared with the ledger.
#[derive(Debug)]
pub(in crate::verify) struct Comparison {
    tables: Vec<Rows>,
    decisions: HashSet<(String, String)>,
    batches: Batches,
    gathered: usize,
}

/// The rows of one table.
#[derive(Debug)]
struct Rows {
    table: Table,
    marks: Marks,
    hasher: Hasher,
    files: Vec<DataFile>,
    /// Whether all files could be read: only then is a row that is not there missing.
    whole: bool,
    found: HashMap<(Uuid, u64), Found>,
    faults: Vec<Fault>,
    named: usize,
}

/// A row as it lies in a file.
#[derive(Debug)]
struct Found {
    hash: RowHash,
    file: usize,
    row: usize,
    proven: bool,
}

// === impl Comparison ===

impl Comparison {
    /// Reads and hashes all rows of `stores`.
    pub(in crate::verify) fn new(
        stores: &[Store],
        report: &mut Report,
    ) -> Result<Self, ArrowError> {
        let mut tables = Vec::new();
        let mut decisions = HashSet::new();
        for store in stores {
            let rows = Rows::read(store)?;
            if rows.table == Table::Decisions {
                decisions = rows.decision_keys();
            }
            tables.push(rows);
        }
        for table in &mut tables {
            table.faults.drain(..).for_each(|fault| report.add(fault));
        }
        Ok(Self { tables, decisions, batches: Batches::default(), gathered: 0 })
    }

    /// Takes one intact event of the ledger.
    pub(in crate::verify) fn compare(&mut self, record: &Record) -> Result<(), ArrowError> {
        for row in rows_of(record) {
            let known = |key| self.decisions.contains(&key);
            let repeated = row.table == Table::Decisions && known(decision_key(&row.cells));
            let place = (record.stream, record.seq);
            let Some(table) = self.tables.iter_mut().find(|table| table.table == row.table) else {
                continue;
            };
            if table.found.contains_key(&place) {
                self.batches.push(&row);
                self.gathered += 1;
            } else if !repeated {
                let call = row.cells.get("call_id").and_then(|call| call.as_str());
                table.missing(place, call);
            }
        }
        if self.gathered >= ROWS_AT_ONCE {
            self.settle()?;
        }
        Ok(())
    }

    /// Compares what has been gathered.
    fn settle(&mut self) -> Result<(), ArrowError> {
        self.gathered = 0;
        for batch in std::mem::take(&mut self.batches).finish()? {
            if let Some(table) = self.tables.iter_mut().find(|table| table.table == batch.table) {
                table.settle(&batch.rows)?;
            }
        }
        Ok(())
    }

    /// Names what is left over, and gives all faults to `report`.
    pub(in crate::verify) fn finish(mut self, report: &mut Report) -> Result<(), ArrowError> {
        self.settle()?;
        for mut table in self.tables {
            table.left_over()?;
            table.faults.into_iter().for_each(|fault| report.add(fault));
        }
        Ok(())
    }
}

// === impl Rows ===

impl Rows {
    fn read(store: &Store) -> Result<Self, ArrowError> {
        let mut rows = Self {
            table: store.table(),
            marks: store.marks().clone(),
            hasher: Hasher::new(store.table())?,
            files: Vec::new(),
            whole: true,
            found: HashMap::new(),
            faults: Vec::new(),
            named: 0,
        };
        match store.data_files() {
            Ok(files) => files.into_iter().for_each(|file| rows.take_file(file)),
            Err(error) => rows.unreadable(&error.to_string()),
        }
        Ok(rows)
    }

    fn take_file(&mut self, file: DataFile) {
        let named = file.path.display().to_string();
        let bytes = std::fs::metadata(&file.path).map_or(0, |data| data.len());
        if bytes != file.bytes {
            self.log_fault(None, &format!("`{named}` has {bytes} bytes and not {}", file.bytes));
        }
        if file.deletes {
            self.log_fault(None, &format!("`{named}` has no deleted rows"));
        }
        self.files.push(file);
        if let Err(error) = self.read_last_file(&named) {
            self.unreadable(&format!("`{named}` cannot be read: {error}"));
        }
    }

    /// Takes the rows of the file that was added last, and compares them with its description.
    fn read_last_file(&mut self, named: &str) -> Result<(), ArrowError> {
        let Some((index, file)) = self.files.iter().enumerate().next_back() else {
            return Ok(());
        };
        let mut described = Described::new(self.table, file);
        let mut excluded: Vec<&str> = Vec::new();
        let mut first = 0;
        for batch in file.rows(self.table)? {
            let batch = batch?;
            self.take_rows(&batch, index, first)?;
            for Hidden { row, column } in described.take(&batch)? {
                // One row tells all: others of the column are hidden by the same words.
                if !excluded.contains(&column) {
                    excluded.push(column);
                    let text = format!("`{named}` has a row beyond the bounds of `{column}`");
                    self.log_fault(Some((&batch, row)), &text);
                }
            }
            first += batch.num_rows();
        }
        for difference in described.differences() {
            self.log_fault(None, &format!("`{named}` has {difference}"));
        }
        Ok(())
    }

    /// The table's log says something else of a file than the file.
    fn log_fault(&mut self, row: Option<(&RecordBatch, usize)>, what: &str) {
        let text = format!("the log of table `{}` is wrong: {what}", self.table.name());
        let place = row.and_then(|(rows, row)| places(self.table, rows).ok()?[row]);
        let call = row.and_then(|(rows, row)| call_of(rows, row));
        self.fault("table", place, call, text);
    }

    fn take_rows(
        &mut self,
        rows: &RecordBatch,
        file: usize,
        first: usize,
    ) -> Result<(), ArrowError> {
        let hashes = self.hasher.hashes(rows)?;
        let places = places(self.table, rows)?;
        for (row, (hash, place)) in hashes.into_iter().zip(places).enumerate() {
            let Some(place) = place else {
                let text = "a row names no stream and event".to_owned();
                self.fault("row_extra", None, None, text);
                continue;
            };
            let found = Found { hash, file, row: first + row, proven: false };
            if self.found.insert(place, found).is_some() {
                let text = format!("table `{}` holds the row twice", self.table.name());
                self.fault("row_twice", Some(place), call_of(rows, row), text);
            }
        }
        Ok(())
    }

    /// Compares rows made from events with the rows found.
    fn settle(&mut self, expected: &RecordBatch) -> Result<(), ArrowError> {
        let hashes = self.hasher.hashes(expected)?;
        let places = places(self.table, expected)?;
        for (row, (hash, place)) in hashes.into_iter().zip(places).enumerate() {
            let Some((place, found)) =
                place.and_then(|place| Some((place, self.found.get_mut(&place)?)))
            else {
                continue;
            };
            found.proven = true;
            if found.hash == hash {
                continue;
            }
            let (file, found_row) = (found.file, found.row);
            let differing = self.differing(&expected.slice(row, 1), file, found_row)?;
            let text = format!(
                "a row of table `{}` is not what its event says ({differing}), in `{}`",
                self.table.name(),
                self.files[file].path.display()
            );
            self.fault("row", Some(place), call_of(expected, row), text);
        }
        Ok(())
    }

    /// The names of the columns in which a row differs from what was expected.
    fn differing(
        &mut self,
        expected: &RecordBatch,
        file: usize,
        row: usize,
    ) -> Result<String, ArrowError> {
        let Some(found) = self.row_at(file, row)? else {
            return Ok("columns not looked up".to_owned());
        };
        let (found, expected) =
            (proven_columns(self.table, &found), proven_columns(self.table, expected));
        let pairs = proven(self.table).zip(found.iter().zip(&expected));
        let differ = pairs.filter(|(_, (found, expected))| found != expected);
        let names: Vec<&str> = differ.map(|(column, _)| column.name).collect();
        Ok(format!("columns: {}", names.join(", ")))
    }

    /// Reads one row again, so that it can be named; only so often.
    fn row_at(&mut self, file: usize, row: usize) -> Result<Option<RecordBatch>, ArrowError> {
        self.named += 1;
        if self.named > NAMED_MAX {
            return Ok(None);
        }
        let mut first = 0;
        for batch in self.files[file].rows(self.table)? {
            let batch = batch?;
            if row < first + batch.num_rows() {
                return Ok(Some(batch.slice(row - first, 1)));
            }
            first += batch.num_rows();
        }
        Ok(None)
    }

    /// An event has no row, and the table says that it came past it.
    fn missing(&mut self, place: (Uuid, u64), call: Option<&str>) {
        let past = self.marks.get(&place.0).is_some_and(|mark| place.1 <= mark.seq);
        if past && self.whole {
            let text = format!("table `{}` lacks the row of this event", self.table.name());
            self.fault("row_missing", Some(place), call.map(str::to_owned), text);
        }
    }

    /// Rows that no intact event of the ledger stands behind.
    fn left_over(&mut self) -> Result<(), ArrowError> {
        let unproven = self.found.iter().filter(|(_, found)| !found.proven);
        let mut rows: Vec<((Uuid, u64), usize, usize)> =
            unproven.map(|(place, found)| (*place, found.file, found.row)).collect();
        rows.sort_unstable();
        for (place, file, row) in rows {
            let call = self.row_at(file, row)?.and_then(|row| call_of(&row, 0));
            let text =
                format!("table `{}` holds a row that no intact event gives", self.table.name());
            self.fault("row_extra", Some(place), call, text);
        }
        Ok(())
    }

    fn decision_keys(&self) -> HashSet<(String, String)> {
        let mut keys = HashSet::new();
        let read = |file: &DataFile| file.rows(self.table).ok();
        let batches = self.files.iter().filter_map(read).flatten().flatten();
        for batch in batches {
            let column = |name| batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
            let (Some(digests), Some(versions)) = (column("digest"), column("policy_set_version"))
            else {
                continue;
            };
            let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
            keys.extend(digests.iter().zip(versions).map(|(d, v)| (text(d), text(v))));
        }
        keys
    }

    fn unreadable(&mut self, what: &str) {
        self.whole = false;
        let text = format!("table `{}`: {what}", self.table.name());
        self.fault("table", None, None, text);
    }

    fn fault(
        &mut self,
        kind: &'static str,
        place: Option<(Uuid, u64)>,
        call_id: Option<String>,
        detail: String,
    ) {
        let (stream, seq) = place.unzip();
        self.faults.push(Fault { kind, stream, segment: None, seq, call_id, detail });
    }
}

/// Which event each row names.
fn places(table: Table, rows: &RecordBatch) -> Result<Vec<Option<(Uuid, u64)>>, ArrowError> {
    let stream_column = if table == Table::Events { "stream_id" } else { "node_id" };
    let missing = |name: &str| ArrowError::SchemaError(format!("column `{name}` is missing"));
    let streams = rows
        .column_by_name(stream_column)
        .and_then(|column| column.as_string_opt::<i32>())
        .ok_or_else(|| missing(stream_column))?;
    let seqs = rows
        .column_by_name("seq")
        .and_then(|column| column.as_primitive_opt::<Int64Type>())
        .ok_or_else(|| missing("seq"))?;
    let place = |row: usize| {
        if streams.is_null(row) || seqs.is_null(row) {
            return None;
        }
        let stream = Uuid::parse_str(streams.value(row)).ok()?;
        Some((stream, u64::try_from(seqs.value(row)).ok()?))
    };
    Ok((0..rows.num_rows()).map(place).collect())
}

fn call_of(rows: &RecordBatch, row: usize) -> Option<String> {
    let calls = rows.column_by_name("call_id")?.as_string_opt::<i32>()?;
    (!calls.is_null(row)).then(|| calls.value(row).to_owned())
}
