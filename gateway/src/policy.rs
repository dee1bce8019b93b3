//! Where this call may go, and what must be done with it: decided by the bundle's Wasm alone.
//!
//! Makes the [`Permit`] or the [`Denial`], and from a permit the [`Outbound`] bytes. Knows the
//! nouns above it as one value, `Facts`; not HTTP, not clocks. Whatever it cannot understand is
//! a denial.

pub mod bundle;
pub mod check;
pub mod decision;
pub mod document;
pub mod duties;
pub mod engine;
pub mod facts;
pub mod memo;
pub mod replay;

use std::sync::Arc;

use bytes::Bytes;

use crate::catalog::Upstream;

/// Where the host refuses although policy did not (the contract's host codes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostCode {
    NoBundle,
    BundleStale,
    EngineError,
    EngineTimeout,
    Undefined,
    EchoMismatch,
    BadDecisionSchema,
    UnknownObligation,
    RedactionIncomplete,
    ConflictLog,
    ConflictRetention,
    NoEligibleUpstream,
    BodyOverInspectionLimit,
    UnknownRoute,
    AuditUnavailable,
}

/// What policy says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    Allow,
    LocalOnly,
    NeedsApproval,
    Deny,
}

/// A rule as users are told of it, from the bundle's `rules.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub id: String,
    pub title: String,
    pub citation: String,
}

/// What may be kept of a body in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogBody {
    None,
    Hash,
    Redacted,
}

/// What the host must do with a permitted call; only what we understand can be in here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duties {
    /// Category and how, `direction` prompt; empty: nothing to redact.
    pub redact: Vec<(String, crate::classify::Redaction)>,
    pub rescan: bool,
    pub log_body: LogBody,
    pub retain_decision_days: Option<u64>,
    pub retain_body_days: Option<u64>,
    /// Largest `max_tokens` that may be asked of an upstream.
    pub max_tokens: Option<u64>,
    pub zdr_required: bool,
    pub label_ai: bool,
    /// Who is told, and how urgently.
    pub notify: Vec<(String, String)>,
}

/// One upstream that a permit allows, with the reasons.
#[derive(Debug, Clone)]
pub struct Permitted {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) rank: u32,
    pub(crate) basis: Vec<Rule>,
    pub(crate) mechanism: Option<String>,
}

/// A decision as recorded: made once per evaluation, shared by every call it serves.
#[derive(Debug)]
pub struct Decided {
    /// `sha256:…` of the facts.
    pub(crate) digest: String,
    /// Bundle revision.
    pub(crate) revision: String,
    /// Canonical body of the ledger's `decision` event.
    pub(crate) event: Arc<[u8]>,
    /// The event's digest key for the ledger.
    pub(crate) effect: Effect,
    pub(crate) warnings: Vec<String>,
    /// Every rule that refused the request or a target, with what was missing.
    pub(crate) refused_by: Vec<Rule>,
    /// Rules that refused the request itself.
    pub(crate) request_rules: Vec<Rule>,
    /// Excluded target, its rules, what was missing.
    pub(crate) excluded: Vec<(String, Vec<Rule>, Vec<String>)>,
    pub(crate) missing: Vec<String>,
}

/// The right to attempt the named upstreams with this call's content; nothing else grants it.
#[derive(Debug, Clone)]
pub struct Permit {
    pub(crate) decided: Arc<Decided>,
    pub(crate) targets: Vec<Permitted>,
    pub(crate) duties: Arc<Duties>,
}

/// The refusal of a call, by policy or by the host.
#[derive(Debug, Clone)]
pub struct Denial {
    /// The first there is of: a rule that refused the request, a rule that excluded the route's
    /// first target, the host code.
    pub code: String,
    pub effect: Effect,
    pub host: Option<HostCode>,
    pub rules: Vec<Rule>,
    pub missing: Vec<String>,
    pub decided: Option<Arc<Decided>>,
    pub notify: Vec<(String, String)>,
}

/// The bytes that will leave, in the upstream's format, after redaction and rescan. Only
/// `policy/duties.rs` makes it.
#[derive(Debug, Clone)]
pub struct Outbound {
    pub(crate) bytes: Bytes,
    /// SHA-256 of `bytes`.
    pub(crate) digest: [u8; 32],
    /// Fields that translation dropped; empty for the same format.
    pub(crate) dropped: Vec<String>,
    /// How many places were redacted.
    pub(crate) redacted: u32,
}
