//! An answer as text: JSON, CSV, or a table for eyes.
//!
//! Everywhere alike: hashes in lower hex, times RFC 3339 in UTC with microseconds, money as
//! decimal digits. JSON is an array of row objects with every column named, nulls included.

use std::fmt::Write;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::Value;

use crate::query::Answer;

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

// === impl Answer ===

impl Answer {
    /// The answer as text, ending with a line's end.
    ///
    /// # Errors
    /// A value has no text, which means that Arrow has a type we do not know.
    pub fn to_text(&self, format: Format) -> Result<String, ArrowError> {
        match format {
            Format::Json => self.to_json(),
            Format::Csv => self.to_csv(),
            Format::Table => self.to_table(),
        }
    }

    fn to_json(&self) -> Result<String, ArrowError> {
        let names: Vec<String> = names(&self.schema).iter().map(|n| quoted(n)).collect();
        let mut text = String::from("[");
        let mut rows = 0;
        for batch in &self.batches {
            let columns = in_utc(batch)?;
            let cells = cells_of(&columns)?;
            for row in 0..batch.num_rows() {
                text.push_str(if rows == 0 { "\n" } else { ",\n" });
                rows += 1;
                write_object(&mut text, &names, &cells, row)?;
            }
        }
        text.push_str(if rows == 0 { "]\n" } else { "\n]\n" });
        Ok(text)
    }

    fn to_csv(&self) -> Result<String, ArrowError> {
        let header: Vec<String> = names(&self.schema).iter().map(|name| csv_cell(name)).collect();
        let mut text = header.join(",");
        text.push_str("\r\n");
        for batch in &self.batches {
            let columns = in_utc(batch)?;
            let cells = cells_of(&columns)?;
            for row in 0..batch.num_rows() {
                let cell = |cell: &Cells<'_>| Ok(csv_cell(&cell.plain(row)?));
                let line: Result<Vec<String>, ArrowError> = cells.iter().map(cell).collect();
                text.push_str(&line?.join(","));
                text.push_str("\r\n");
            }
        }
        Ok(text)
    }

    /// Columns as wide as their widest cell.
    fn to_table(&self) -> Result<String, ArrowError> {
        let mut lines = vec![names(&self.schema)];
        for batch in &self.batches {
            let columns = in_utc(batch)?;
            let cells = cells_of(&columns)?;
            for row in 0..batch.num_rows() {
                let cell = |cell: &Cells<'_>| cell.plain(row).map(|text| one_line(&text));
                lines.push(cells.iter().map(cell).collect::<Result<_, _>>()?);
            }
        }
        let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max();
        let widths: Vec<usize> =
            (0..lines[0].len()).map(|column| width(column).unwrap_or_default()).collect();
        lines.insert(1, widths.iter().map(|&width| "-".repeat(width)).collect());
        let mut text = String::new();
        for line in &lines {
            let cells: Vec<String> =
                line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        let rows = if self.rows == 1 { "row" } else { "rows" };
        writeln!(text, "({} {rows})", self.rows).map_err(no_text)?;
        Ok(text)
    }
}

fn names(schema: &SchemaRef) -> Vec<String> {
    schema.fields().iter().map(|field| field.name().clone()).collect()
}

fn write_object(
    text: &mut String,
    names: &[String],
    cells: &[Cells<'_>],
    row: usize,
) -> Result<(), ArrowError> {
    text.push('{');
    for (index, (name, cells)) in names.iter().zip(cells).enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(name);
        text.push(':');
        cells.write_json(text, row)?;
    }
    text.push('}');
    Ok(())
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
