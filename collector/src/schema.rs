//! From one event of the ledger to typed rows of the tables.
//!
//! A row is a pure projection of one event: `rows_of` reads the event's JSON and lays it out by
//! the column lists in `columns`; `Batches` gathers rows into Arrow. What a column cannot hold
//! stays in the event's own bytes, and for `calls` in `attributes_json`. Knows no files.

mod cell;
mod columns;
mod project;

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

pub(crate) use cell::column_of;
pub use cell::{Batches, TableBatch};
pub use columns::{ATTEMPTS, CALLS, DECISIONS, EVENTS};
pub use project::{Record, Row, decision_key, rows_of};

/// The tables that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// One row per ledger event.
    Events,
    /// One row per call.
    Calls,
    /// One row per attempt at an upstream.
    Attempts,
    /// One row per decision of the policy.
    Decisions,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// UTF-8 text.
    Text,
    /// A 64-bit signed integer.
    Whole,
    /// A 32-bit signed integer.
    Small,
    /// True or false.
    Flag,
    /// A 64-bit float.
    Real,
    /// Money: decimal with 18 digits, 9 of them after the point.
    Money,
    /// An instant, UTC, in microseconds.
    Time,
    /// A list of texts.
    Texts,
    /// Raw bytes of a digest.
    Digest,
    /// A day.
    Day,
}

/// One column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its name in SQL.
    pub name: &'static str,
    /// What it holds.
    pub form: Form,
    /// Whether every row has it.
    pub required: bool,
}

// === impl Form ===

impl Form {
    /// The Arrow type, which is also what the Delta table gives back.
    #[must_use]
    pub fn data_type(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8,
            Self::Whole => DataType::Int64,
            Self::Small => DataType::Int32,
            Self::Flag => DataType::Boolean,
            Self::Real => DataType::Float64,
            Self::Money => DataType::Decimal128(18, 9),
            Self::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Texts => DataType::List(Arc::new(list_item())),
            Self::Digest => DataType::Binary,
            Self::Day => DataType::Date32,
        }
    }
}

/// The item of a list as Delta names it.
fn list_item() -> Field {
    Field::new("element", DataType::Utf8, true)
}

// === impl Table ===

impl Table {
    /// Every table, in the order they are committed.
    pub const ALL: [Self; 4] = [Self::Events, Self::Calls, Self::Attempts, Self::Decisions];

    /// Its name in SQL and its folder.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Calls => "calls",
            Self::Attempts => "attempts",
            Self::Decisions => "decisions",
        }
    }

    /// Its place in [`Self::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Events => 0,
            Self::Calls => 1,
            Self::Attempts => 2,
            Self::Decisions => 3,
        }
    }

    /// Its columns in order.
    #[must_use]
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Events => EVENTS,
            Self::Calls => CALLS,
            Self::Attempts => ATTEMPTS,
            Self::Decisions => DECISIONS,
        }
    }

    /// The columns its files are laid out by.
    #[must_use]
    pub fn partition_columns(self) -> &'static [&'static str] {
        match self {
            Self::Calls => &["call_date"],
            Self::Events | Self::Attempts | Self::Decisions => &[],
        }
    }

    /// The columns whose values come from the commit, not from the event.
    #[must_use]
    pub fn unproven_columns(self) -> &'static [&'static str] {
        match self {
            Self::Calls => &["commit_ts"],
            Self::Events | Self::Attempts | Self::Decisions => &[],
        }
    }

    /// The Arrow schema of its rows.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        static SCHEMAS: LazyLock<[SchemaRef; 4]> =
            LazyLock::new(|| Table::ALL.map(|table| Arc::new(schema_of(table.columns()))));
        Arc::clone(&SCHEMAS[self.index()])
    }
}

fn schema_of(columns: &[Column]) -> Schema {
    let field =
        |column: &Column| Field::new(column.name, column.form.data_type(), !column.required);
    Schema::new(columns.iter().map(field).collect::<Vec<_>>())
}
