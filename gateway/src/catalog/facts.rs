//! What the contract says about an upstream, and the deadlines of a route.
//!
//! Absent means unknown. Instants are kept; ages and days left are computed from `as_of` when
//! facts are assembled.

use std::time::Duration;

use crate::identity::attributes::{Country, Known};

/// The deadlines of an attempt; none cuts a stream that still flows but `total`, which has no
/// default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    pub connect: Duration,
    /// Until the first piece of a streamed answer.
    pub first_token: Duration,
    /// Until the head of an answer that comes whole: the model writes all of it before.
    pub answer: Duration,
    pub gap: Duration,
    pub total: Option<Duration>,
}

/// Where an upstream runs, in the contract's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CandidateKind {
    Remote,
    Private,
    OnPremises,
    Local,
}

/// A certificate of the provider.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Certification {
    pub id: String,
    pub level: Option<String>,
    /// Day it ends, `YYYY-MM-DD`.
    pub until: Option<String>,
}

/// One element of the contract's `candidates`. Fields follow the contract; `None` is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CandidateFacts {
    pub kind: CandidateKind,
    pub provider: String,
    pub provider_headquarters: Option<Country>,
    pub ultimate_parent_headquarters: Option<Country>,
    pub operator_headquarters: Option<Country>,
    pub operator_us_persons_only: Known,
    pub region: Option<Country>,
    /// `guaranteed`, `best_effort`, `global`.
    pub residency: Option<String>,
    pub subprocessors: Option<Vec<Country>>,
    /// `scc`, `dpf`, `bcr`.
    pub transfer_mechanisms: Option<Vec<String>>,
    pub dpf_listed: Known,
    /// `valid`, `expired`, `none`; `expired` is computed from `tia_until` where that is said.
    pub tia: Option<String>,
    pub tia_until: Option<String>,
    pub zdr: Known,
    pub train: Known,
    pub retention_days: Option<u64>,
    pub baa: Known,
    pub dpa: Known,
    pub dora_register: Known,
    pub certifications: Option<Vec<Certification>>,
    pub model_id: String,
    pub model_family: Option<String>,
    pub model_origin: Option<Country>,
    pub model_open_weights: Known,
    pub model_eccn: Option<String>,
    /// `verified`, `none`.
    pub model_signature: Option<String>,
    /// `verified`, `present`, `none`.
    pub model_aibom: Option<String>,
    pub model_advisories: Vec<String>,
    pub hardware_eccn: Option<String>,
    pub hardware_country: Option<Country>,
    /// Day the facts were checked, `YYYY-MM-DD`.
    pub as_of: Option<String>,
}
