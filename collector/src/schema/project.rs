//! The projection: which event gives which row, and where each cell comes from.
//!
//! A cell comes from the event's body by the column's name; the envelope and the frame give the
//! rest. Body keys of an `outcome` that are no column go into `attributes_json`.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::schema::cell::fits;
use crate::schema::{CALLS, Table};

/// One event as the ledger holds it.
#[derive(Debug, Clone)]
pub struct Record {
    /// The stream it stands in.
    pub stream: Uuid,
    /// Its place in the stream.
    pub seq: u64,
    /// The event's canonical JSON, byte for byte.
    pub json: Vec<u8>,
    /// Hash of the chain before it.
    pub prev: [u8; 32],
    /// Hash of its own bytes.
    pub leaf: [u8; 32],
    /// Hash of the chain with it.
    pub chain: [u8; 32],
}

/// One row of one table, by column name.
#[derive(Debug, Clone)]
pub struct Row {
    /// The table it belongs to.
    pub table: Table,
    /// The cells that have a value.
    pub cells: Map<String, Value>,
}

/// What the envelope and the frame say, which every row starts from.
struct Frame<'a> {
    record: &'a Record,
    event: &'a Map<String, Value>,
}

/// The rows that `record` gives: always one of `events`, and one more for some kinds.
#[must_use]
pub fn rows_of(record: &Record) -> Vec<Row> {
    let event = match serde_json::from_slice::<Value>(&record.json) {
        Ok(Value::Object(event)) => event,
        // INVARIANT: an event that cannot be read is still a row, so that counts agree.
        Ok(_) | Err(_) => Map::from_iter([("kind".to_owned(), Value::from("unreadable"))]),
    };
    let frame = Frame { record, event: &event };
    let mut rows = vec![frame.event_row()];
    match event.get("kind").and_then(Value::as_str) {
        Some("outcome") => rows.push(frame.call_row()),
        Some("attempt") => rows.push(frame.plain_row(Table::Attempts)),
        Some("decision") => rows.push(frame.decision_row()),
        Some(_) | None => {}
    }
    rows
}

/// What makes two rows of `decisions` the same decision.
#[must_use]
pub fn decision_key(cells: &Map<String, Value>) -> (String, String) {
    let text = |name: &str| cells.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    (text("digest"), text("policy_set_version"))
}

// === impl Frame ===

impl Frame<'_> {
    fn get(&self, name: &str) -> Value {
        self.event.get(name).cloned().unwrap_or(Value::Null)
    }

    fn body(&self) -> Map<String, Value> {
        match self.event.get("body") {
            Some(Value::Object(body)) => body.clone(),
            Some(_) | None => Map::new(),
        }
    }

    fn event_row(&self) -> Row {
        let stream = Value::from(self.record.stream.to_string());
        let cells = [
            ("stream_id", stream.clone()),
            ("seq", Value::from(self.record.seq)),
            ("ts", self.get("time")),
            ("node_id", stream),
            ("kind", self.get("kind")),
            ("call_id", self.get("call_id")),
            ("tenant_id", self.get("tenant")),
            ("body_json", Value::from(String::from_utf8_lossy(&self.record.json).into_owned())),
            ("prev_hash", Value::from(hex::encode(self.record.prev))),
            ("leaf_hash", Value::from(hex::encode(self.record.leaf))),
        ];
        Row { table: Table::Events, cells: named(cells) }
    }

    /// Puts what envelope and frame say over `cells`; a body cannot claim another place.
    fn stamp(&self, cells: &mut Map<String, Value>) {
        let place = [
            ("seq", Value::from(self.record.seq)),
            ("node_id", Value::from(self.record.stream.to_string())),
            ("tenant_id", self.get("tenant")),
            ("call_id", self.get("call_id")),
        ];
        cells.extend(named(place));
        if !cells.get("ts").is_some_and(|ts| fits(crate::schema::Form::Time, ts)) {
            cells.insert("ts".to_owned(), self.get("time"));
        }
    }

    fn plain_row(&self, table: Table) -> Row {
        let mut cells = self.body();
        self.stamp(&mut cells);
        Row { table, cells }
    }

    fn call_row(&self) -> Row {
        let mut cells = self.body();
        let attributes = take_attributes(&mut cells);
        self.stamp(&mut cells);
        let evidence = [
            ("schema_version", self.get("schema")),
            ("gateway_version", self.get("gateway")),
            ("config_digest", self.get("config")),
            ("leaf_index", Value::from(self.record.seq.saturating_sub(1))),
            ("leaf_hash", Value::from(hex::encode(self.record.leaf))),
            ("attributes_json", attributes),
            ("commit_ts", Value::Null),
            ("call_date", day_of(cells.get("ts"))),
        ];
        cells.extend(named(evidence));
        Row { table: Table::Calls, cells }
    }

    fn decision_row(&self) -> Row {
        let body = self.body();
        let mut cells = Map::new();
        for name in ["digest", "policy_set_version", "effect"] {
            cells.insert(name.to_owned(), body.get(name).cloned().unwrap_or(Value::Null));
        }
        for (name, part) in [("facts_json", "facts"), ("decision_json", "decision")] {
            let text = body.get(part).map_or(Value::Null, |value| Value::from(value.to_string()));
            cells.insert(name.to_owned(), text);
        }
        self.stamp(&mut cells);
        if cells.get("tenant_id").is_none_or(Value::is_null) {
            let tenant = body.get("facts").and_then(|facts| facts.pointer("/request/tenant"));
            cells.insert("tenant_id".to_owned(), tenant.cloned().unwrap_or(Value::Null));
        }
        Row { table: Table::Decisions, cells }
    }
}

/// Takes out of `cells` what no column of `calls` can hold, as one JSON text.
fn take_attributes(cells: &mut Map<String, Value>) -> Value {
    let has_column = |name: &str, value: &Value| {
        CALLS.iter().any(|column| column.name == name && fits(column.form, value))
    };
    let mut attributes = Map::new();
    for (name, value) in std::mem::take(cells) {
        if value.is_null() {
            continue;
        }
        let home = if has_column(&name, &value) { &mut *cells } else { &mut attributes };
        home.insert(name, value);
    }
    if attributes.is_empty() {
        return Value::Null;
    }
    Value::from(Value::Object(attributes).to_string())
}

/// The day of an RFC 3339 instant in UTC.
fn day_of(ts: Option<&Value>) -> Value {
    let day = ts.and_then(Value::as_str).and_then(|text| text.get(..10));
    day.map_or(Value::Null, Value::from)
}

fn named<const N: usize>(cells: [(&str, Value); N]) -> Map<String, Value> {
    cells.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
