//! Who asks: from the request's head alone, proven and not claimed.
//!
//! Makes the [`Caller`]. Knows headers, keys and the store; not what is asked.

pub mod attributes;

use std::sync::Arc;

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
}

/// Why a caller was not proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("no key was sent: use `Authorization: Bearer cdn_…`")]
    Missing,
    #[error("the key is not known or was revoked")]
    Unknown,
}

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
}
