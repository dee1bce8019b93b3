//! What the collector knows at one moment: for each table a version on disk and the rows after it.
//!
//! Rows come in from the ledger at the tail and leave it when a commit has landed; both happen
//! under one lock, and each publishes one `Snapshot`. A statement reads from one snapshot only,
//! so that it sees each row once: in the version or in the tail. Does no I/O.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;

use crate::schema::{Table, TableBatch};
use crate::table::{Marks, Version, rows_beyond};

/// All tables at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The tables, in the order of [`Table::ALL`].
    pub tables: [TableView; 4],
    /// Whether the tail reaches what was durable when it was read.
    pub reach: Reach,
}

/// One table at one moment: the version on disk, and the rows that are not in it yet.
#[derive(Debug, Clone)]
pub struct TableView {
    /// The table.
    pub table: Table,
    /// The version on disk; `None` where there is no table yet.
    pub version: Option<Version>,
    /// The rows after that version.
    pub tail: Arc<[RecordBatch]>,
}

/// How far the tail reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Not all streams have been read since the start.
    Starting,
    /// To all that was durable.
    Full,
    /// The tail is full and commits have not caught up.
    Behind,
    /// The ledger cannot be followed; the text says why and what to do.
    Refused(String),
}

/// The rows that a commit should take, of one table.
#[derive(Debug)]
pub struct Due {
    /// The table.
    pub table: Table,
    /// The rows, oldest first.
    pub rows: Vec<RecordBatch>,
    /// How far the streams have come with these rows.
    pub marks: Marks,
}

/// What is waiting for a commit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Waiting {
    /// Rows in all tails.
    pub rows: usize,
    /// Their bytes.
    pub bytes: usize,
    /// When the oldest of them came in.
    pub since: Option<Instant>,
}

/// The one state of a collector.
#[derive(Debug)]
pub struct State {
    inner: Mutex<Inner>,
    published: ArcSwap<Snapshot>,
}

#[derive(Debug)]
struct Inner {
    tables: [TableState; 4],
    read: Marks,
    reach: Reach,
}

#[derive(Debug)]
struct TableState {
    table: Table,
    version: Option<Version>,
    landed: Marks,
    tail: Vec<Part>,
}

/// Rows of the tail that came in together.
#[derive(Debug, Clone)]
struct Part {
    rows: RecordBatch,
    bytes: usize,
    since: Instant,
}

// === impl State ===

impl State {
    /// The state that begins with `versions`, each with how far its streams had come.
    #[must_use]
    pub fn new(versions: [(Option<Version>, Marks); 4]) -> Self {
        let mut tables = Table::ALL.into_iter();
        let tables = versions.map(|(version, landed)| {
            let table = tables.next().expect("there are as many versions as tables");
            TableState { table, version, landed, tail: Vec::new() }
        });
        let read = Marks::new();
        let inner = Inner { tables, read, reach: Reach::Starting };
        let published = ArcSwap::from_pointee(inner.snapshot());
        Self { inner: Mutex::new(inner), published }
    }

    /// All tables at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.published.load_full()
    }

    /// How far every table has landed: the lowest mark of each stream.
    #[must_use]
    pub fn lowest(&self) -> Marks {
        let inner = self.lock();
        let mut lowest = inner.tables[0].landed.clone();
        for table in &inner.tables[1..] {
            lowest.retain(|stream, _| table.landed.contains_key(stream));
            for (stream, mark) in &table.landed {
                if let Some(low) = lowest.get_mut(stream).filter(|low| low.seq > mark.seq) {
                    *low = *mark;
                }
            }
        }
        lowest
    }

    /// How far each table has landed.
    #[must_use]
    pub fn landed(&self) -> [Marks; 4] {
        let inner = self.lock();
        [0, 1, 2, 3].map(|index: usize| inner.tables[index].landed.clone())
    }

    /// How far the streams have been read.
    #[must_use]
    pub fn read(&self) -> Marks {
        self.lock().read.clone()
    }

    /// What is waiting for a commit.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        let inner = self.lock();
        let tails = || inner.tables.iter().flat_map(|table| &table.tail);
        Waiting {
            rows: tails().map(|part| part.rows.num_rows()).sum(),
            bytes: tails().map(|part| part.bytes).sum(),
            since: tails().map(|part| part.since).min(),
        }
    }

    /// Takes rows in at the tail; `marks` is how far their streams have come with them.
    ///
    /// # Errors
    /// Arrow refused the rows.
    pub fn take_in(&self, batches: Vec<TableBatch>, marks: &Marks) -> Result<(), ArrowError> {
        let mut inner = self.lock();
        let (mut news, since) = (Vec::new(), Instant::now());
        for batch in batches {
            let state = &inner.tables[batch.table.index()];
            let beyond = rows_beyond(&batch.rows, state.table, &state.landed);
            let rows = match beyond.true_count() {
                0 => continue,
                count if count == batch.rows.num_rows() => batch.rows,
                _ => filter_record_batch(&batch.rows, &beyond)?,
            };
            let bytes = rows.get_array_memory_size();
            news.push((batch.table, Part { rows, bytes, since }));
        }
        // INVARIANT: rows and marks come in together or not at all.
        for (table, part) in news {
            inner.tables[table.index()].tail.push(part);
        }
        for (stream, mark) in marks {
            inner.read.insert(*stream, *mark);
        }
        self.publish(&inner);
        Ok(())
    }

    /// Says how far the tail reaches now.
    pub fn set_reach(&self, reach: Reach) {
        let mut inner = self.lock();
        if inner.reach != reach {
            inner.reach = reach;
            self.publish(&inner);
        }
    }

    /// The rows of each table that wait for a commit.
    #[must_use]
    pub fn due(&self) -> [Due; 4] {
        let inner = self.lock();
        [0, 1, 2, 3].map(|index: usize| {
            let state = &inner.tables[index];
            let rows = state.tail.iter().map(|part| part.rows.clone()).collect();
            Due { table: state.table, rows, marks: inner.read.clone() }
        })
    }

    /// A commit of `due` has landed: its rows leave the tail in the moment the version takes them.
    /// Without a version, `due` had no rows and only its marks count.
    pub fn landed_with(&self, due: &Due, version: Option<Version>) {
        let mut inner = self.lock();
        let state = &mut inner.tables[due.table.index()];
        state.tail.drain(..due.rows.len());
        if version.is_some() {
            state.version = version;
        }
        for (stream, mark) in &due.marks {
            let landed = state.landed.entry(*stream).or_insert(*mark);
            if landed.seq < mark.seq {
                *landed = *mark;
            }
        }
        self.publish(&inner);
    }

    /// The same rows of a table stand in another version.
    pub fn replace(&self, version: Version) {
        let mut inner = self.lock();
        let index = version.table.index();
        inner.tables[index].version = Some(version);
        self.publish(&inner);
    }

    fn publish(&self, inner: &Inner) {
        self.published.store(Arc::new(inner.snapshot()));
    }

    /// A panic elsewhere cannot leave the state half-changed: every change is complete before it
    /// is published.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Inner ===

impl Inner {
    fn snapshot(&self) -> Snapshot {
        let view = |index: usize| {
            let state = &self.tables[index];
            TableView {
                table: state.table,
                version: state.version.clone(),
                tail: state.tail.iter().map(|part| part.rows.clone()).collect(),
            }
        };
        Snapshot { tables: [0, 1, 2, 3].map(view), reach: self.reach.clone() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::schema::{Batches, Record, rows_of};

    #[test]
    fn rows_wait_from_when_they_came_though_other_tables_were_committed() {
        let state = State::new([const { (None, Marks::new()) }; 4]);
        let event = json!({"kind": "outcome", "call_id": "c", "tenant": "acme", "body": {}});
        let json = event.to_string().into_bytes();
        let (stream, hash) = (Uuid::nil(), [0; 32]);
        let record = Record { stream, seq: 1, json, prev: hash, leaf: hash, chain: hash };
        let mut batches = Batches::default();
        rows_of(&record).iter().for_each(|row| batches.push(row));
        state.take_in(batches.finish().unwrap(), &Marks::new()).unwrap();

        let since = state.waiting().since.unwrap();
        let [events, calls, ..] = state.due();
        state.landed_with(&events, None);
        assert_eq!(state.waiting().since, Some(since));
        state.landed_with(&calls, None);
        assert_eq!(state.waiting().since, None);
    }
}
