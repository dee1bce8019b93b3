//! The data folder: where everything lies that Cordon writes.

use std::{
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// The folder of all that Cordon writes, and the names in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFolder(PathBuf);

// === impl DataFolder ===

impl DataFolder {
    /// The folder at `path`; nothing is made yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Makes the folder, closed to others, where it is not there yet.
    pub fn create(&self) -> std::io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }
    /// Streams of the ledger.
    pub fn ledger(&self) -> PathBuf {
        self.0.join("ledger")
    }
    /// Signed heads and the public key.
    pub fn heads(&self) -> PathBuf {
        self.0.join("heads")
    }
    /// The key that heads are signed with.
    pub fn signing_key(&self) -> PathBuf {
        self.0.join("signing.key")
    }
    /// Delta tables.
    pub fn tables(&self) -> PathBuf {
        self.0.join("tables")
    }
    /// Files of the local models.
    pub fn models(&self) -> PathBuf {
        self.0.join("models")
    }
    /// Control data.
    pub fn database(&self) -> PathBuf {
        self.0.join("cordon.db")
    }
    /// What keys are hashed with.
    pub fn pepper(&self) -> PathBuf {
        self.0.join("cordon.pepper")
    }
    /// The demonstration key, alone on one line.
    pub fn demonstration_key(&self) -> PathBuf {
        self.0.join("demo.key")
    }
    /// What hashes of bodies are keyed with.
    pub fn body_hash_key(&self) -> PathBuf {
        self.0.join("body-hash.key")
    }
    /// The collector's socket.
    pub fn socket(&self) -> PathBuf {
        self.0.join("run/collector.sock")
    }
}
