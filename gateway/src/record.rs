//! What happened: the call, its attempts, its outcome; durable before anything leaves.
//!
//! Makes the [`Entry`] when a caller is proven, and a [`Clearance`] once the intent that names
//! permit, upstream and bytes is on disk. Knows all nouns and the ledger; not how a stage works.

use std::sync::Arc;

use uuid::Uuid;

use crate::{catalog::Upstream, policy::Outbound};

/// The id of a call (UUIDv7), also given to calls that never begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId(Uuid);

impl CallId {
    /// A new id, ordered by time.
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

/// The right to send these bytes to this upstream, once: its intent is on disk.
#[derive(Debug)]
pub struct Clearance {
    pub(crate) call_id: CallId,
    pub(crate) attempt: u16,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) outbound: Outbound,
    pub(crate) stream: bool,
}

impl Clearance {
    pub fn call_id(&self) -> CallId {
        self.call_id
    }
    /// Counts from 1 within the call.
    pub fn attempt(&self) -> u16 {
        self.attempt
    }
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }
    pub fn outbound(&self) -> &Outbound {
        &self.outbound
    }
    /// Whether the call asked for a stream.
    pub fn stream(&self) -> bool {
        self.stream
    }
}
