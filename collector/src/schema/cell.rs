//! Cells: JSON values into Arrow columns, by the form of each column.
//!
//! A value that its column cannot hold becomes null; `fits` tells beforehand, so that nothing
//! disappears: `project` keeps what does not fit with the row's other attributes.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder,
    Int32Builder, Int64Builder, ListBuilder, StringBuilder, TimestampMicrosecondBuilder,
};
use datafusion::arrow::compute::kernels::cast_utils::{Parser, parse_decimal};
use datafusion::arrow::datatypes::{Date32Type, Decimal128Type, TimestampMicrosecondType};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use serde_json::Value;

use crate::schema::{Form, Row, Table, list_item};

/// Rows that a builder has room for at first: most batches are small, and their room is counted.
const ROWS: usize = 4;

/// The rows of one table, gathered from consecutive events.
#[derive(Debug, Clone)]
pub struct TableBatch {
    /// The table they belong to.
    pub table: Table,
    /// The rows.
    pub rows: RecordBatch,
}

/// Gathers rows for all tables.
#[derive(Debug)]
pub struct Batches {
    builders: [Vec<Builder>; 4],
    counts: [usize; 4],
}

#[derive(Debug)]
enum Builder {
    Text(StringBuilder),
    Whole(Int64Builder),
    Small(Int32Builder),
    Flag(BooleanBuilder),
    Real(Float64Builder),
    Money(Decimal128Builder),
    Time(TimestampMicrosecondBuilder),
    Texts(ListBuilder<StringBuilder>),
    Digest(BinaryBuilder),
    Day(Date32Builder),
}

// === impl Batches ===

impl Default for Batches {
    fn default() -> Self {
        let builders = |table: Table| table.columns().iter().map(|c| Builder::new(c.form));
        Self { builders: Table::ALL.map(|table| builders(table).collect()), counts: [0; 4] }
    }
}

impl Batches {
    /// Adds one row to its table.
    pub fn push(&mut self, row: &Row) {
        let builders = &mut self.builders[row.table.index()];
        for (column, builder) in row.table.columns().iter().zip(builders) {
            builder.append(row.cells.get(column.name).unwrap_or(&Value::Null), column.required);
        }
        self.counts[row.table.index()] += 1;
    }

    /// The gathered rows of each table that has any.
    ///
    /// # Errors
    /// Arrow refused the columns, which means that a column list is wrong.
    pub fn finish(mut self) -> Result<Vec<TableBatch>, ArrowError> {
        let mut batches = Vec::new();
        for table in Table::ALL {
            if self.counts[table.index()] == 0 {
                continue;
            }
            let columns = self.builders[table.index()].iter_mut().map(Builder::finish).collect();
            batches
                .push(TableBatch { table, rows: RecordBatch::try_new(table.schema(), columns)? });
        }
        Ok(batches)
    }
}

// === impl Builder ===

impl Builder {
    fn new(form: Form) -> Self {
        match form {
            Form::Text => Self::Text(StringBuilder::with_capacity(ROWS, ROWS * 16)),
            Form::Whole => Self::Whole(Int64Builder::with_capacity(ROWS)),
            Form::Small => Self::Small(Int32Builder::with_capacity(ROWS)),
            Form::Flag => Self::Flag(BooleanBuilder::with_capacity(ROWS)),
            Form::Real => Self::Real(Float64Builder::with_capacity(ROWS)),
            Form::Money => Self::Money(
                Decimal128Builder::with_capacity(ROWS).with_data_type(Form::Money.data_type()),
            ),
            Form::Time => Self::Time(
                TimestampMicrosecondBuilder::with_capacity(ROWS)
                    .with_data_type(Form::Time.data_type()),
            ),
            Form::Texts => Self::Texts(
                ListBuilder::with_capacity(StringBuilder::with_capacity(ROWS, ROWS * 16), ROWS)
                    .with_field(list_item()),
            ),
            Form::Digest => Self::Digest(BinaryBuilder::with_capacity(ROWS, ROWS * 32)),
            Form::Day => Self::Day(Date32Builder::with_capacity(ROWS)),
        }
    }

    /// Appends `value`; a required cell without one gets the empty value of its form.
    fn append(&mut self, value: &Value, required: bool) {
        match self {
            Self::Text(b) => b.append_option(text(value).or(required.then_some(""))),
            Self::Whole(b) => b.append_option(whole(value).or(required.then_some(0))),
            Self::Small(b) => b.append_option(small(value)),
            Self::Flag(b) => b.append_option(value.as_bool()),
            Self::Real(b) => b.append_option(value.as_f64()),
            Self::Money(b) => b.append_option(money(value)),
            Self::Time(b) => b.append_option(time(value).or(required.then_some(0))),
            Self::Texts(b) => match texts(value) {
                Some(items) => b.append_value(items.into_iter().map(Some)),
                None => b.append_null(),
            },
            Self::Digest(b) => {
                b.append_option(digest(value).or(required.then(Vec::new)));
            }
            Self::Day(b) => b.append_option(day(value)),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(b) => Arc::new(b.finish()),
            Self::Whole(b) => Arc::new(b.finish()),
            Self::Small(b) => Arc::new(b.finish()),
            Self::Flag(b) => Arc::new(b.finish()),
            Self::Real(b) => Arc::new(b.finish()),
            Self::Money(b) => Arc::new(b.finish()),
            Self::Time(b) => Arc::new(b.finish()),
            Self::Texts(b) => Arc::new(b.finish()),
            Self::Digest(b) => Arc::new(b.finish()),
            Self::Day(b) => Arc::new(b.finish()),
        }
    }
}

/// One value as a column of this form; null where the form cannot hold it.
pub(crate) fn column_of(form: Form, value: &Value) -> ArrayRef {
    let mut builder = Builder::new(form);
    builder.append(value, false);
    builder.finish()
}

/// Whether a column of this form can hold `value` without loss.
pub(crate) fn fits(form: Form, value: &Value) -> bool {
    match form {
        Form::Text => text(value).is_some(),
        Form::Whole => whole(value).is_some(),
        Form::Small => small(value).is_some(),
        Form::Flag => value.is_boolean(),
        Form::Real => value.as_f64().is_some(),
        Form::Money => money(value).is_some(),
        Form::Time => time(value).is_some(),
        Form::Texts => texts(value).is_some(),
        Form::Digest => digest(value).is_some(),
        Form::Day => day(value).is_some(),
    }
}

fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

/// Integers above 2^53 arrive as strings of digits.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

fn small(value: &Value) -> Option<i32> {
    i32::try_from(whole(value)?).ok()
}

/// Money arrives as text, so that no digit is lost on the way.
fn money(value: &Value) -> Option<i128> {
    let digits = match value {
        Value::String(digits) => digits.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    parse_decimal::<Decimal128Type>(&digits, 18, 9).ok()
}

fn time(value: &Value) -> Option<i64> {
    TimestampMicrosecondType::parse(value.as_str()?)
}

fn day(value: &Value) -> Option<i32> {
    Date32Type::parse(value.as_str()?)
}

fn texts(value: &Value) -> Option<Vec<&str>> {
    value.as_array()?.iter().map(Value::as_str).collect()
}

/// Digests arrive as lower hex, with or without the name of their function.
fn digest(value: &Value) -> Option<Vec<u8>> {
    let text = value.as_str()?;
    hex::decode(text.strip_prefix("sha256:").unwrap_or(text)).ok()
}
