//! What happened: the call, its attempts, its outcome; durable before anything leaves.
//!
//! Makes the [`Entry`] when a caller is proven, and a [`Clearance`] once the intent that names
//! permit, upstream and bytes is on disk. Knows all nouns and the ledger; not how a stage works.
//!
//! Cost of one call: three small buffers (intent, attempt, outcome), no lock of our own, and one
//! wait for the disk, shared with every other call of the same group commit.

pub mod body;
pub mod entry;
pub mod metrics;
pub mod notes;
pub mod recorder;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
mod unknown;

use std::sync::Arc;

use uuid::Uuid;

use crate::{catalog::Upstream, policy::Outbound};

pub use crate::record::{
    entry::{AttemptEnd, Entry, Outcome},
    recorder::{Mode, Recorder},
};

/// The id of a call (UUIDv7), also given to calls that never begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId(Uuid);

impl CallId {
    /// A new id, ordered by time.
    #[expect(clippy::new_without_default, reason = "each one is another: no default")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
    /// The UUID itself.
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

impl std::fmt::Display for CallId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Why something could not be recorded; audited traffic is then refused
/// (`AUDIT_UNAVAILABLE`, 503).
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("the ledger takes no events: {0}")]
    Ledger(#[from] cordon_ledger::AppendError),
}

/// The right to send these bytes to this upstream, once: its intent is on disk. Only an [`Entry`]
/// makes it.
#[derive(Debug)]
pub struct Clearance {
    call_id: CallId,
    attempt: u16,
    upstream: Arc<Upstream>,
    outbound: Outbound,
    stream: bool,
}

impl Clearance {
    /// The call it belongs to.
    pub fn call_id(&self) -> CallId {
        self.call_id
    }
    /// Counts from 1 within the call.
    pub fn attempt(&self) -> u16 {
        self.attempt
    }
    /// Where the bytes may go.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }
    /// The bytes that were judged.
    pub fn outbound(&self) -> &Outbound {
        &self.outbound
    }
    /// Whether the call asked for a stream.
    pub fn stream(&self) -> bool {
        self.stream
    }
}
