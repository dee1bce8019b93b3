//! An answer as text: JSON, CSV, or a table for eyes.
//!
//! Everywhere alike: hashes in lower hex, times RFC 3339 in UTC with microseconds, money as
//! decimal digits. JSON is an array of row objects with every column named, nulls included. A text
//! beyond the answer's limit is refused, never cut.

use std::collections::HashSet;
use std::fmt::Write;
use std::num::NonZeroUsize;

use datafusion::arrow::array::{Array, ArrayData, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::Value;

use crate::query::QueryError;

/// How far cells of a table are padded: one long cell must not make every line as long.
const PADDING_MAX: usize = 100;

/// The shapes an answer comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An array of row objects.
    Json,
    /// Comma-separated values with a header line (RFC 4180).
    Csv,
    /// Columns for eyes.
    Table,
}

/// The rows of an answer.
#[derive(Debug)]
pub(in crate::query) struct Rows {
    /// Names and types of its columns.
    pub(in crate::query) schema: SchemaRef,
    /// The rows.
    pub(in crate::query) batches: Vec<RecordBatch>,
    /// How many there are.
    pub(in crate::query) count: usize,
}

/// The memory of batches that are kept: each buffer once, as many as share it. Aggregates give out
/// one large batch in slices, each of which knows the whole.
#[derive(Debug, Default)]
pub(in crate::query) struct Memory {
    pub(in crate::query) bytes: usize,
    known: HashSet<NonZeroUsize>,
}

/// A text that cannot grow beyond its limit.
struct Text {
    text: String,
    bytes_max: usize,
}

const FORMAT: FormatOptions<'_> = FormatOptions::new()
    .with_timestamp_format(Some("%Y-%m-%dT%H:%M:%S%.6f"))
    .with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.6fZ"))
    .with_display_error(false);

// === impl Format ===

impl Format {
    /// The format of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "table" => Some(Self::Table),
            _ => None,
        }
    }

    /// What HTTP calls it.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Table => "text/plain; charset=utf-8",
        }
    }
}

// === impl Memory ===

impl Memory {
    /// Counts the memory that `batch` holds and no batch before it did.
    pub(in crate::query) fn add(&mut self, batch: &RecordBatch) {
        batch.columns().iter().for_each(|column| self.add_data(&column.to_data()));
    }

    fn add_data(&mut self, data: &ArrayData) {
        let nulls = data.nulls().map(|nulls| nulls.buffer());
        for buffer in data.buffers().iter().chain(nulls) {
            if self.known.insert(buffer.data_ptr().addr()) {
                self.bytes += buffer.capacity();
            }
        }
        data.child_data().iter().for_each(|child| self.add_data(child));
    }
}

// === impl Rows ===

impl Rows {
    /// The rows as text of up to `bytes_max` bytes, ending with a line's end.
    ///
    /// # Errors
    /// The text is longer, or a value has none, which means that Arrow has a type we do not know.
    pub(in crate::query) fn to_text(
        &self,
        format: Format,
        bytes_max: usize,
    ) -> Result<String, QueryError> {
        let mut text = Text { text: String::new(), bytes_max };
        match format {
            Format::Json => self.write_json(&mut text)?,
            Format::Csv => self.write_csv(&mut text)?,
            Format::Table => self.write_table(&mut text)?,
        }
        Ok(text.text)
    }

    fn write_json(&self, text: &mut Text) -> Result<(), QueryError> {
        let names = names(&self.schema);
        // A reader of JSON keeps one of two values of the same name.
        if let Some(name) = twice(&names) {
            let why = format!(
                "two columns are called `{name}`: name them with AS, or ask for csv or table"
            );
            return Err(QueryError::Invalid(why));
        }
        let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
        let mut open = "[\n";
        for batch in &self.batches {
            let columns = in_utc(batch)?;
            let cells = cells_of(&columns)?;
            for row in 0..batch.num_rows() {
                text.push(open)?;
                open = ",\n";
                write_object(text, &names, &cells, row)?;
            }
        }
        text.push(if self.count == 0 { "[]\n" } else { "\n]\n" })
    }

    fn write_csv(&self, text: &mut Text) -> Result<(), QueryError> {
        let header: Vec<String> = names(&self.schema).iter().map(|name| csv_cell(name)).collect();
        text.push(&header.join(","))?;
        text.push("\r\n")?;
        for batch in &self.batches {
            let columns = in_utc(batch)?;
            let cells = cells_of(&columns)?;
            for row in 0..batch.num_rows() {
                for (index, cells) in cells.iter().enumerate() {
                    text.push(if index > 0 { "," } else { "" })?;
                    text.push(&csv_cell(&cells.plain(row)?))?;
                }
                text.push("\r\n")?;
            }
        }
        Ok(())
    }

    /// Columns as wide as their widest cell, up to a limit; a longer cell stands out, uncut.
    fn write_table(&self, text: &mut Text) -> Result<(), QueryError> {
        let mut table = vec![names(&self.schema)];
        let mut bytes = 0;
        for batch in &self.batches {
            let columns = in_utc(batch)?;
            let cells = cells_of(&columns)?;
            for row in 0..batch.num_rows() {
                let cell = |cell: &Cells<'_>| cell.plain(row).map(|text| one_line(&text));
                let line: Vec<String> = cells.iter().map(cell).collect::<Result<_, _>>()?;
                bytes += line.iter().map(String::len).sum::<usize>();
                text.check(bytes)?;
                table.push(line);
            }
        }
        let width = |column: usize| table.iter().map(|l| l[column].chars().count()).max();
        let widths: Vec<usize> = (0..table[0].len())
            .map(|column| width(column).unwrap_or_default().min(PADDING_MAX))
            .collect();
        table.insert(1, widths.iter().map(|&width| "-".repeat(width)).collect());
        for line in &table {
            let cells: Vec<String> =
                line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
            text.push(cells.join("  ").trim_end())?;
            text.push("\n")?;
        }
        let rows = if self.count == 1 { "row" } else { "rows" };
        text.push(&format!("({} {rows})\n", self.count))
    }
}

// === impl Text ===

impl Text {
    /// Adds a piece; refuses what would be too long.
    fn push(&mut self, piece: &str) -> Result<(), QueryError> {
        self.check(self.text.len() + piece.len())?;
        self.text.push_str(piece);
        Ok(())
    }

    fn check(&self, bytes: usize) -> Result<(), QueryError> {
        let max = self.bytes_max;
        if bytes > max { Err(QueryError::TooManyBytes { max }) } else { Ok(()) }
    }
}

/// The first name that stands there twice.
fn twice(names: &[String]) -> Option<&String> {
    let mut known = HashSet::new();
    names.iter().find(|name| !known.insert(name.as_str()))
}

fn names(schema: &SchemaRef) -> Vec<String> {
    schema.fields().iter().map(|field| field.name().clone()).collect()
}

fn write_object(
    text: &mut Text,
    names: &[String],
    cells: &[Cells<'_>],
    row: usize,
) -> Result<(), QueryError> {
    let mut value = String::new();
    for (index, (name, cells)) in names.iter().zip(cells).enumerate() {
        text.push(if index == 0 { "{" } else { "," })?;
        text.push(name)?;
        text.push(":")?;
        value.clear();
        cells.write_json(&mut value, row)?;
        text.push(&value)?;
    }
    text.push(if cells.is_empty() { "{}" } else { "}" })
}

/// The columns of a batch, instants with a zone turned to UTC.
fn in_utc(batch: &RecordBatch) -> Result<Vec<ArrayRef>, ArrowError> {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let column = |column: &ArrayRef| match column.data_type() {
        DataType::Timestamp(_, Some(_)) if *column.data_type() != utc => cast(column, &utc),
        _ => Ok(ArrayRef::clone(column)),
    };
    batch.columns().iter().map(column).collect()
}

fn cells_of(columns: &[ArrayRef]) -> Result<Vec<Cells<'_>>, ArrowError> {
    columns.iter().map(Cells::new).collect()
}

/// The cells of one column as text.
struct Cells<'a> {
    column: &'a ArrayRef,
    shown: ArrayFormatter<'a>,
}

// === impl Cells ===

impl<'a> Cells<'a> {
    fn new(column: &'a ArrayRef) -> Result<Self, ArrowError> {
        Ok(Self { column, shown: ArrayFormatter::try_new(column, &FORMAT)? })
    }

    /// One value as JSON.
    fn write_json(&self, text: &mut String, row: usize) -> Result<(), ArrowError> {
        if self.column.is_null(row) {
            text.push_str("null");
            return Ok(());
        }
        match self.column.data_type() {
            DataType::List(_) => write_list(text, &self.column.as_list::<i32>().value(row))?,
            DataType::LargeList(_) => write_list(text, &self.column.as_list::<i64>().value(row))?,
            kind if kind.is_integer() || kind.is_decimal() || *kind == DataType::Boolean => {
                write!(text, "{}", self.shown.value(row)).map_err(no_text)?;
            }
            kind if kind.is_floating() => {
                let number = self.shown.value(row).to_string().parse::<f64>().ok();
                text.push_str(&number.map_or(Value::Null, Value::from).to_string());
            }
            _ => text.push_str(&quoted(&self.shown.value(row).to_string())),
        }
        Ok(())
    }

    /// One value without quotes; lists as JSON, null as nothing.
    fn plain(&self, row: usize) -> Result<String, ArrowError> {
        if self.column.is_null(row) {
            return Ok(String::new());
        }
        let mut text = String::new();
        match self.column.data_type() {
            DataType::List(_) | DataType::LargeList(_) => self.write_json(&mut text, row)?,
            _ => write!(text, "{}", self.shown.value(row)).map_err(no_text)?,
        }
        Ok(text)
    }
}

fn write_list(text: &mut String, items: &ArrayRef) -> Result<(), ArrowError> {
    let cells = Cells::new(items)?;
    text.push('[');
    for row in 0..items.len() {
        if row > 0 {
            text.push(',');
        }
        cells.write_json(text, row)?;
    }
    text.push(']');
    Ok(())
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A cell of CSV, quoted where a reader would split it.
fn csv_cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

/// A cell that cannot break the table or steer the terminal it is shown on.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn no_text(error: std::fmt::Error) -> ArrowError {
    ArrowError::CastError(error.to_string())
}
