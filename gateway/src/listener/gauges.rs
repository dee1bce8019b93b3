//! What the listeners hold right now, for the metrics.

use std::sync::Arc;

use crate::{listener::Limits, room::Budget};

/// For `cordon_calls_in_flight` and `cordon_buffered_bytes`.
#[derive(Debug, Clone)]
pub struct Gauges {
    /// Calls between their head and the last byte of their answer.
    pub calls: Arc<Budget>,
    /// Bytes of bodies, reserved or held; shared with whoever else holds bodies.
    pub bytes: Arc<Budget>,
}

// === impl Gauges ===

impl Gauges {
    /// No call yet, and the bytes as they are.
    pub fn new(limits: &Limits, bytes: Arc<Budget>) -> Self {
        Self { calls: Arc::new(Budget::new(u64::from(limits.calls_in_flight_max))), bytes }
    }
}
