//! Reading the ledger into the state, up to what is durable.
//!
//! Each look takes what every stream has that was not read yet, projects it into rows and hands
//! them to the state; it stops where the tail is full, and refuses to go on where the ledger is
//! not the one whose rows stand in the tables. Knows nothing of files but the ledger's.

mod seen;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use cordon_ledger::disk::RealDisk;
use cordon_ledger::follow::{self, Cursor, Folder, FollowError, Follower};
use thiserror::Error;
use tracing::error;
use uuid::Uuid;

use crate::config::Limits;
use crate::schema::{Batches, Record, Table, decision_key, rows_of};
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
    /// When the ledger was refused, until it is looked at again.
    refused: Option<Instant>,
    seen: Seen,
}

/// Why the ledger cannot be followed.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The ledger itself.
    #[error("{0}")]
    Ledger(#[from] FollowError),
    /// The ledger does not have, or no longer, what a table was made from.
    #[error("{fault} (table `{table}` goes that far)")]
    Landed {
        /// What the ledger says.
        fault: FollowError,
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
    pub fn new(ledger: PathBuf, limits: Limits, seen: Seen) -> Self {
        Self {
            ledger,
            limits,
            storage: Arc::new(RealDisk),
            followers: BTreeMap::new(),
            listed: None,
            refused: None,
            seen,
        }
    }

    /// Reads what is durable now into `state` and says there how far it came. A ledger that was
    /// refused a moment ago is not looked at: the state still says why.
    pub fn look(&mut self, state: &State) {
        if self.refused.is_some_and(|at| at.elapsed() < self.limits.streams_every) {
            return;
        }
        self.refused = None;
        let reach = self.read_all(state).unwrap_or_else(|error| self.refuse(&error, state));
        state.set_reach(reach);
    }

    /// Looks for new streams at the next look, and at a ledger that was refused, however short ago
    /// the last time was.
    pub fn look_anew(&mut self) {
        (self.listed, self.refused) = (None, None);
    }

    /// INVARIANT: after an error every stream is opened again behind what the state holds, with
    /// all checks. So nothing that an error interrupted is passed over, and what was refused once
    /// is refused until it is repaired.
    fn refuse(&mut self, error: &ReadError, state: &State) -> Reach {
        self.followers.clear();
        (self.listed, self.refused) = (None, Some(Instant::now()));
        let reach = Reach::Refused(error.to_string());
        if state.snapshot().reach != reach {
            error!("the ledger cannot be followed, and SQL is refused: {error}");
        }
        reach
    }

    fn read_all(&mut self, state: &State) -> Result<Reach, ReadError> {
        self.list_streams(state)?;
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
        let mut decided = BTreeSet::new();
        for record in records {
            let record = Record {
                stream,
                seq: record.position.seq,
                json: record.json,
                prev: record.chain_prev,
                leaf: record.leaf,
                chain: record.chain,
            };
            for row in rows_of(&record) {
                let repeated = row.table == Table::Decisions && {
                    let key = Seen::key(&decision_key(&row.cells));
                    self.seen.holds(&key) || !decided.insert(key)
                };
                if !repeated {
                    batches.push(&row);
                }
            }
        }
        state.take_in(batches.finish()?, &Marks::from([(stream, mark)]))?;
        decided.into_iter().for_each(|key| self.seen.add(key));
        Ok(true)
    }

    fn list_streams(&mut self, state: &State) -> Result<(), ReadError> {
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
            if !self.followers.contains_key(&folder.stream) {
                let follower = self.open(&folder, state)?;
                self.followers.insert(folder.stream, follower);
            }
        }
        self.listed = Some(Instant::now());
        Ok(())
    }

    /// Opens a stream behind what the state holds of it.
    ///
    /// INVARIANT: a table only ever holds rows of the history that is read. So the ledger must
    /// still have the event at every table's mark, and not only at the lowest, where it is read on.
    fn open(&self, folder: &Folder, state: &State) -> Result<Follower, ReadError> {
        let open = |mark: Option<&Mark>| {
            let from = mark.map(|mark| Cursor { seq: mark.seq, chain: mark.chain });
            Follower::open(self.storage.clone(), folder, from)
        };
        for (table, landed) in Table::ALL.into_iter().zip(state.landed()) {
            if let Some(mark) = landed.get(&folder.stream) {
                let table = table.name();
                open(Some(mark)).map_err(|fault| ReadError::Landed { fault, table })?;
            }
        }
        let (read, lowest) = (state.read(), state.lowest());
        Ok(open(read.get(&folder.stream).or(lowest.get(&folder.stream)))?)
    }
}
