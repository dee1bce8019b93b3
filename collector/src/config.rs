//! Where the collector finds its folders, and every limit it keeps.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// The version that all of Cordon's programs share.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The folder of all that Cordon writes.
#[derive(Debug, Clone)]
pub struct DataFolder {
    root: PathBuf,
}

impl DataFolder {
    /// The data folder at `root`; nothing is created.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The ledger: one folder per stream.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.root.join("ledger")
    }

    /// Signed heads and the public key they are checked with.
    #[must_use]
    pub fn heads(&self) -> PathBuf {
        self.root.join("heads")
    }

    /// The key that heads are signed with; the gateway and the collector share it.
    #[must_use]
    pub fn signing_key(&self) -> PathBuf {
        self.root.join("signing.key")
    }

    /// The Delta tables, one folder each.
    #[must_use]
    pub fn tables(&self) -> PathBuf {
        self.root.join("tables")
    }

    /// The folder of the socket; only its owner may enter it.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The socket that a running collector answers on.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run().join("collector.sock")
    }
}

/// Every limit of the collector, in one place.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How often the durable mark is looked at.
    pub poll_every: Duration,
    /// How often new streams are looked for.
    pub streams_every: Duration,
    /// The longest that rows wait before they are committed to the tables.
    pub commit_every: Duration,
    /// Rows that make a commit due at once.
    pub commit_rows: usize,
    /// Bytes of rows that make a commit due at once.
    pub commit_bytes: usize,
    /// Small files of a table that are merged into one.
    pub merge_files: usize,
    /// How long files that were merged are kept for those who read them still.
    pub merged_kept: Duration,
    /// Bytes of rows held in memory; beyond it SQL answers `AUDIT_BEHIND`.
    pub tail_bytes_max: usize,
    /// Bytes of events that one look at a stream takes.
    pub chunk_bytes_max: usize,
    /// Rows an answer may have; a longer one is an error.
    pub rows_max: usize,
    /// Bytes an answer may have; a longer one is an error.
    pub answer_bytes_max: usize,
    /// Bytes a statement may have.
    pub statement_bytes_max: usize,
    /// How long a statement may take, waiting included.
    pub deadline: Duration,
    /// Memory that all running statements share.
    pub memory_bytes: usize,
    /// Statements that one tenant may run at once; others wait.
    pub statements_per_tenant: usize,
    /// Statements of one tenant that may wait; further ones are refused.
    pub statements_waiting_per_tenant: usize,
    /// Statements that may run or wait at once, over all tenants.
    pub statements_max: usize,
    /// Bytes of the collector's own stream; beyond it SQL is refused.
    pub access_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            poll_every: Duration::from_millis(50),
            streams_every: Duration::from_secs(1),
            commit_every: Duration::from_secs(30),
            commit_rows: 20_000,
            commit_bytes: 32 << 20,
            merge_files: 32,
            merged_kept: Duration::from_secs(3600),
            tail_bytes_max: 64 << 20,
            chunk_bytes_max: 4 << 20,
            rows_max: 100_000,
            answer_bytes_max: 64 << 20,
            statement_bytes_max: 64 << 10,
            deadline: Duration::from_secs(30),
            memory_bytes: 256 << 20,
            statements_per_tenant: 2,
            statements_waiting_per_tenant: 8,
            statements_max: 64,
            access_bytes_max: 4 << 30,
        }
    }
}
