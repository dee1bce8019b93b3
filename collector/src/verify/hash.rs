//! Rows as hashes: equal rows have equal hashes, whatever file or builder they come from.

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::row::{RowConverter, SortField};
use sha2::{Digest, Sha256};

use crate::schema::{Column, Table};

/// The first half of a row's SHA-256.
pub(in crate::verify) type RowHash = [u8; 16];

/// Hashes rows of one table.
#[derive(Debug)]
pub(in crate::verify) struct Hasher {
    table: Table,
    converter: RowConverter,
}

// === impl Hasher ===

impl Hasher {
    pub(in crate::verify) fn new(table: Table) -> Result<Self, ArrowError> {
        let fields = proven(table).map(|column| SortField::new(column.form.data_type())).collect();
        Ok(Self { table, converter: RowConverter::new(fields)? })
    }

    /// The hash of each row, over all columns that come from the event.
    pub(in crate::verify) fn hashes(&self, rows: &RecordBatch) -> Result<Vec<RowHash>, ArrowError> {
        let columns = proven_columns(self.table, rows);
        let rows = self.converter.convert_columns(&columns)?;
        let hash = |row: datafusion::arrow::row::Row<'_>| {
            let mut half = [0; 16];
            half.iter_mut().zip(Sha256::digest(row.as_ref())).for_each(|(to, from)| *to = from);
            half
        };
        Ok(rows.iter().map(hash).collect())
    }
}

/// The columns whose values come from the event.
pub(in crate::verify) fn proven(table: Table) -> impl Iterator<Item = &'static Column> {
    table.columns().iter().filter(move |column| is_proven(table, column))
}

/// Those columns of `rows`, which has the table's columns.
pub(in crate::verify) fn proven_columns(table: Table, rows: &RecordBatch) -> Vec<ArrayRef> {
    let columns = table.columns().iter().zip(rows.columns());
    let proven = columns.filter(|(column, _)| is_proven(table, column));
    proven.map(|(_, values)| ArrayRef::clone(values)).collect()
}

fn is_proven(table: Table, column: &Column) -> bool {
    !table.unproven_columns().contains(&column.name)
}
