//! Reading the ledger into the state, up to what is durable.
//!
//! Each look takes what every stream has that was not read yet, projects it into rows and hands
//! them to the state; it stops where the tail is full, and refuses to go on where the ledger is
//! not the one whose rows stand in the tables. Knows nothing of files but the ledger's.

mod seen;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use cordon_ledger::disk::RealDisk;
use cordon_ledger::follow::{self, Cursor, FollowError, Follower};
use thiserror::Error;
use uuid::Uuid;

use crate::config::Limits;
use crate::schema::{Batches, Record, Table, rows_of};
use crate::state::{Reach, State};
use crate::table::{Mark, Marks};

pub use seen::Seen;

/// Events that one look at a stream takes at most.
const CHUNK_EVENTS_MAX: usize = 5_000;

/// Reads all streams of one ledger folder.
#[derive(Debug)]
pub struct Reader {
    ledger: PathBuf,
    limits: Limits,
    storage: Arc<RealDisk>,
    followers: BTreeMap<Uuid, Follower>,
    listed: Option<Instant>,
    start: Marks,
    landed: [Marks; 4],
    seen: Seen,
}

/// Why the ledger cannot be followed.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The ledger itself.
    #[error("{0}")]
    Ledger(#[from] FollowError),
    /// The tables hold rows of another history.
    #[error(
        "event {seq} of stream {stream} is not the one that table `{table}` was made from: the \
         stream has a second history; find out which is the true one before going on"
    )]
    Forked {
        /// The stream.
        stream: Uuid,
        /// The event.
        seq: u64,
        /// The table.
        table: &'static str,
    },
    /// The rows do not fit their table.
    #[error("rows do not fit: {0}")]
    Rows(#[from] datafusion::arrow::error::ArrowError),
}

// === impl Reader ===

impl Reader {
    /// A reader of the streams in `ledger` that goes on behind what has landed in all tables.
    #[must_use]
    pub fn new(ledger: PathBuf, limits: Limits, state: &State, seen: Seen) -> Self {
        Self {
            ledger,
            limits,
            storage: Arc::new(RealDisk),
            followers: BTreeMap::new(),
            listed: None,
            start: state.lowest(),
            landed: state.landed(),
            seen,
        }
    }

    /// Reads what is durable now into `state` and says there how far it came.
    pub fn look(&mut self, state: &State) {
        let reach = match self.read_all(state) {
            Ok(reach) => reach,
            Err(error) => Reach::Refused(error.to_string()),
        };
        state.set_reach(reach);
    }

    /// Looks for new streams at the next look, however short ago the last time was.
    pub fn list_anew(&mut self) {
        self.listed = None;
    }

    fn read_all(&mut self, state: &State) -> Result<Reach, ReadError> {
        self.list_streams()?;
        let streams: Vec<Uuid> = self.followers.keys().copied().collect();
        for stream in streams {
            loop {
                if state.waiting().bytes >= self.limits.tail_bytes_max {
                    return Ok(Reach::Behind);
                }
                if !self.read_chunk(stream, state)? {
                    break;
                }
            }
        }
        Ok(Reach::Full)
    }

    /// Takes one chunk of one stream; says whether there was any.
    fn read_chunk(&mut self, stream: Uuid, state: &State) -> Result<bool, ReadError> {
        let Some(follower) = self.followers.get_mut(&stream) else {
            return Ok(false);
        };
        let records = follower.next_batch(CHUNK_EVENTS_MAX, self.limits.chunk_bytes_max)?;
        let Some(last) = records.last() else {
            return Ok(false);
        };
        let mark = Mark { seq: last.position.seq, chain: last.chain };
        let mut batches = Batches::default();
        for record in records {
            let record = Record {
                stream,
                seq: record.position.seq,
                json: record.json,
                prev: record.chain_prev,
                leaf: record.leaf,
                chain: record.chain,
            };
            self.check_history(&record)?;
            for row in rows_of(&record) {
                if row.table != Table::Decisions || self.seen.is_new(&row.cells) {
                    batches.push(&row);
                }
            }
        }
        state.take_in(batches.finish()?, &Marks::from([(stream, mark)]))?;
        Ok(true)
    }

    /// INVARIANT: a table only ever holds rows of the history that is being read.
    fn check_history(&self, record: &Record) -> Result<(), ReadError> {
        for (table, landed) in Table::ALL.into_iter().zip(&self.landed) {
            let Some(mark) = landed.get(&record.stream) else {
                continue;
            };
            if mark.seq == record.seq && mark.chain != record.chain {
                let (stream, seq) = (record.stream, record.seq);
                return Err(ReadError::Forked { stream, seq, table: table.name() });
            }
        }
        Ok(())
    }

    fn list_streams(&mut self) -> Result<(), ReadError> {
        if self.listed.is_some_and(|at| at.elapsed() < self.limits.streams_every) {
            return Ok(());
        }
        let folders = match follow::streams(&*self.storage, &self.ledger) {
            Ok(folders) => folders,
            Err(FollowError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Vec::new()
            }
            Err(error) => return Err(error.into()),
        };
        for folder in folders {
            if self.followers.contains_key(&folder.stream) {
                continue;
            }
            let from = self.start.get(&folder.stream);
            let from = from.map(|mark| Cursor { seq: mark.seq, chain: mark.chain });
            let follower = Follower::open(self.storage.clone(), &folder, from)?;
            self.followers.insert(folder.stream, follower);
        }
        self.listed = Some(Instant::now());
        Ok(())
    }
}
