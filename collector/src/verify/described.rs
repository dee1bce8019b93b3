//! What a table's log says of a data file, against the file's rows.
//!
//! Whatever reads the table believes the log: it counts rows by it, and passes files over whose
//! smallest and largest values do not fit. So a log that says something else hides rows or changes
//! answers, and every file may be intact.

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, Scalar};
use datafusion::arrow::compute::kernels::cmp::{gt, lt};
use datafusion::arrow::compute::or_kleene;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use serde_json::Value;

use crate::schema::{Column, Form, Table, column_of};
use crate::table::DataFile;

/// What the log says of one file, while the file's rows are counted.
#[derive(Debug)]
pub(in crate::verify) struct Described {
    rows: Claimed,
    columns: Vec<Bounds>,
}

/// What the log says of one column.
#[derive(Debug)]
struct Bounds {
    column: &'static Column,
    least: Option<ArrayRef>,
    most: Option<ArrayRef>,
    nulls: Claimed,
}

/// A number that the log says, and the number found.
#[derive(Debug)]
struct Claimed {
    said: Option<usize>,
    found: usize,
}

/// A row that the log says is not there.
#[derive(Debug)]
pub(in crate::verify) struct Hidden {
    /// Its place in the batch.
    pub(in crate::verify) row: usize,
    /// The column whose bounds exclude it.
    pub(in crate::verify) column: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Least,
    Most,
}

// === impl Described ===

impl Described {
    pub(in crate::verify) fn new(table: Table, file: &DataFile) -> Self {
        let said = |part: &str, column: &Column| file.stats.get(part)?.get(column.name);
        let bounds = |column: &'static Column| Bounds {
            column,
            least: bound(column, said("minValues", column), Side::Least),
            most: bound(column, said("maxValues", column), Side::Most),
            nulls: Claimed::new(said("nullCount", column)),
        };
        let columns = table.columns().iter().map(bounds).collect();
        Self { rows: Claimed::new(file.stats.get("numRecords")), columns }
    }

    /// Counts rows of the file; gives, for each column, the first one that the log excludes.
    pub(in crate::verify) fn take(
        &mut self,
        rows: &RecordBatch,
    ) -> Result<Vec<Hidden>, ArrowError> {
        self.rows.found += rows.num_rows();
        let mut hidden = Vec::new();
        for bounds in &mut self.columns {
            let Some(found) = rows.column_by_name(bounds.column.name) else {
                continue;
            };
            bounds.nulls.found += found.null_count();
            let outside = bounds.excluded(found)?;
            if let Some(row) = outside.iter().position(|outside| outside == Some(true)) {
                hidden.push(Hidden { row, column: bounds.column.name });
            }
        }
        Ok(hidden)
    }

    /// The numbers that are not as the log says, once all rows have been counted.
    pub(in crate::verify) fn differences(&self) -> Vec<String> {
        let nulls = self.columns.iter().filter_map(|bounds| {
            Some(format!("{} empty `{}`", bounds.nulls.difference()?, bounds.column.name))
        });
        let rows = self.rows.difference().map(|rows| format!("{rows} rows"));
        rows.into_iter().chain(nulls).collect()
    }
}

// === impl Bounds ===

impl Bounds {
    /// For each row, whether the log excludes it.
    fn excluded(&self, found: &ArrayRef) -> Result<BooleanArray, ArrowError> {
        let none = || BooleanArray::from(vec![false; found.len()]);
        let below = match &self.least {
            Some(least) => lt(found, &Scalar::new(least))?,
            None => none(),
        };
        let above = match &self.most {
            Some(most) => gt(found, &Scalar::new(most))?,
            None => none(),
        };
        or_kleene(&below, &above)
    }
}

// === impl Claimed ===

impl Claimed {
    fn new(said: Option<&Value>) -> Self {
        let said = said.and_then(Value::as_u64).and_then(|said| usize::try_from(said).ok());
        Self { said, found: 0 }
    }

    fn difference(&self) -> Option<String> {
        let said = self.said.filter(|said| *said != self.found)?;
        Some(format!("{} and not {said}", self.found))
    }
}

/// A bound of a column, as wide as the log means it: it rounds instants down to milliseconds, and
/// money to a float. `None` where there is none to compare with.
fn bound(column: &Column, said: Option<&Value>, side: Side) -> Option<ArrayRef> {
    let said = said?;
    let bound = match (column.form, side) {
        (Form::Texts | Form::Digest, _) => return None,
        (Form::Money, side) => widened(said.as_f64()?, side),
        (Form::Time, Side::Most) => last_microsecond(said.as_str()?),
        (Form::Time, Side::Least)
        | (Form::Text | Form::Whole | Form::Small | Form::Flag | Form::Real | Form::Day, _) => {
            said.clone()
        }
    };
    Some(column_of(column.form, &bound)).filter(|bound| bound.is_valid(0))
}

fn widened(money: f64, side: Side) -> Value {
    let room = money.abs() * 1e-12 + 1e-9;
    let bound = match side {
        Side::Least => money - room,
        Side::Most => money + room,
    };
    Value::from(format!("{bound:.9}"))
}

/// The last microsecond of the millisecond that an instant was rounded down to.
fn last_microsecond(instant: &str) -> Value {
    let text = instant.trim_end_matches('Z');
    Value::from(match text.rsplit_once('.').map(|(_, digits)| digits.len()) {
        None => format!("{text}.000999Z"),
        Some(3) => format!("{text}999Z"),
        Some(_) => instant.to_owned(),
    })
}
