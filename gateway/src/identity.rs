//! Who asks: from the request's head alone, proven and not claimed.
//!
//! Makes the [`Caller`]. Knows headers, keys and the store; not what is asked.
//! Proving a caller costs one HMAC-SHA256 of 43 bytes (under a microsecond) and one lookup.

pub mod attributes;
pub mod countries;
pub mod demonstration;
pub mod keys;
pub mod organisation;
pub mod ring;
pub mod vocabulary;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

use crate::identity::attributes::{CallerFacts, DataAttributes, RequestAttributes};

/// A tenant's id, from configuration or a key; never from a header.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// Wraps an id that a key or the configuration names.
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// May call models.
    Caller,
    /// May ask the ledger of its own tenant.
    Auditor,
    /// May operate the gateway and ask about every tenant.
    Operator,
}

// === impl Role ===

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Caller, Self::Auditor, Self::Operator];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// A proven caller. Made once per key and shared by its calls.
#[derive(Debug)]
pub struct Caller {
    key_id: String,
    tenant: TenantId,
    roles: Vec<Role>,
    facts: Arc<CallerFacts>,
    request: RequestAttributes,
    data: DataAttributes,
    calls_at_once_max: u32,
    refused_per_second_max: u32,
    used: Arc<Used>,
}

/// What is used of a key's limits now; outlives a swap of the keys.
#[derive(Debug)]
struct Used {
    running: AtomicU32,
    /// The second (since `since`) in the upper half, refusals in it in the lower.
    refused: AtomicU64,
    since: Instant,
}

/// A call that runs within its key's limit; dropping it gives the place back.
#[derive(Debug)]
pub struct Running(Arc<Used>);

/// Why a key may not call now. Both are answered 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    #[error("this key has {max} calls running, its limit: wait for one to end")]
    AtOnce { max: u32 },
    #[error("policy refused {max} calls of this key within a second, its limit: wait a second")]
    RefusedPerSecond { max: u32 },
}

/// Why a caller was not proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("no key was sent: use `Authorization: Bearer cdn_…`")]
    Missing,
    #[error("the key is incomplete or mistyped (its checksum does not fit): copy it again")]
    Malformed,
    #[error("the key is not known or was revoked")]
    Unknown,
}

// === impl Caller ===

impl Caller {
    /// Public id of the key.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }
    /// The tenant the key belongs to.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }
    /// Whether the key has `role`.
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
    /// The contract's `caller` section, shared.
    pub fn facts(&self) -> &Arc<CallerFacts> {
        &self.facts
    }
    /// The key's own part of the contract's `request` section.
    pub fn request(&self) -> &RequestAttributes {
        &self.request
    }
    /// The key's own part of the contract's `data` section.
    pub fn data(&self) -> &DataAttributes {
        &self.data
    }
    /// Calls that may run at once with this key.
    pub fn calls_at_once_max(&self) -> u32 {
        self.calls_at_once_max
    }
    /// Calls refused by policy a second before the key is answered 429.
    pub fn refused_per_second_max(&self) -> u32 {
        self.refused_per_second_max
    }

    /// Takes a place among the calls that run with this key, or says which limit is reached.
    pub fn begin(&self, now: Instant) -> Result<Running, LimitError> {
        let max = self.refused_per_second_max;
        if self.used.refused_in_second(now) >= max {
            return Err(LimitError::RefusedPerSecond { max });
        }
        let max = self.calls_at_once_max;
        let one_more = |running| (running < max).then_some(running + 1);
        match self.used.running.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more) {
            Ok(_) => Ok(Running(Arc::clone(&self.used))),
            Err(_) => Err(LimitError::AtOnce { max }),
        }
    }

    /// Counts a call that policy refused.
    pub fn refused_by_policy(&self, now: Instant) {
        self.used.count_refusal(now);
    }

    /// Calls that run with this key now.
    pub fn calls_running(&self) -> u32 {
        self.used.running.load(Ordering::Acquire)
    }
}

// === impl Used ===

impl Default for Used {
    fn default() -> Self {
        Self { running: AtomicU32::new(0), refused: AtomicU64::new(0), since: Instant::now() }
    }
}

impl Used {
    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.since).as_secs() << 32
    }

    fn refused_in_second(&self, now: Instant) -> u32 {
        let refused = self.refused.load(Ordering::Relaxed);
        if refused >> 32 << 32 == self.second(now) { low_half(refused) } else { 0 }
    }

    fn count_refusal(&self, now: Instant) {
        let second = self.second(now);
        let one_more = |refused: u64| {
            let in_second = if refused >> 32 << 32 == second { low_half(refused) } else { 0 };
            Some(second | u64::from(in_second.saturating_add(1)))
        };
        // INVARIANT: the closure always gives a value, so the update cannot fail.
        let updated = self.refused.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        debug_assert!(updated.is_ok());
    }
}

/// The lower 32 bits.
fn low_half(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

// === impl Running ===

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
