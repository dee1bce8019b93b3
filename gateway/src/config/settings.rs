//! The configuration as written: one typed table per part of the house.
//!
//! Its JSON Schema (`cordon config schema`) is what unknown keys are recognised by.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::{
    catalog::settings::{RouteSettings, UpstreamSettings},
    config::listeners,
    identity::organisation::Organisation,
    local,
    quantity::{Size, Span},
};

/// Cordon's configuration.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
pub struct Settings {
    /// The folder of all that Cordon writes; `--data` wins.
    #[serde(default = "data")]
    pub data: PathBuf,
    /// Where clients and operators connect.
    #[serde(default)]
    pub listeners: listeners::Settings,
    /// Who we are: facts for the policy.
    pub organisation: Organisation,
    /// Which rules hold.
    #[serde(default)]
    pub policy: Policy,
    /// Where calls can go, by name.
    #[serde(default)]
    pub upstreams: BTreeMap<String, UpstreamSettings>,
    /// The model names that clients ask for.
    #[serde(default)]
    pub routes: BTreeMap<String, RouteSettings>,
    /// The model of this process.
    #[serde(default)]
    pub local: local::Settings,
    /// The record of every call.
    #[serde(default)]
    pub ledger: Ledger,
    /// Keys.
    #[serde(default)]
    pub identity: Identity,
    /// What inspection takes for granted.
    #[serde(default)]
    pub classify: Classify,
    /// The second process, which makes tables of the ledger.
    #[serde(default)]
    pub collector: Collector,
}

/// Which rules hold, and how long a decision may take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Policy {
    /// The bundle; the built-in one where none is said.
    pub bundle: Option<PathBuf>,
    /// How strict: `default`, `eu-sovereign`, `us-defense`, `health`.
    pub profile: String,
    /// Which law: `org`, `gdpr`, `us-ear`, `itar`, `markings`.
    pub packs: Vec<String>,
    /// The name of this environment, a fact for the policy.
    pub environment: String,
    /// How long a decision may take, waiting included; then the call is refused.
    pub deadline: Span,
    /// Threads that decide.
    pub threads: usize,
    /// Decisions that may wait; more are refused at once.
    pub queue_max: usize,
    /// Decisions remembered at once.
    pub memo_entries_max: usize,
    /// Memory for them.
    pub memo_bytes_max: Size,
}

/// The record of every call.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Ledger {
    /// `required`: no durable intent, no call. `required_full`: the answer's end, too, waits
    /// until its outcome is on disk. `best_effort` is not built yet.
    pub mode: LedgerMode,
    /// At this size no call is taken any more; the alert comes at 80 %.
    pub bytes_max: Size,
    /// A new file is begun at this size.
    pub segment_bytes: Size,
}

/// When the end of an answer may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LedgerMode {
    Required,
    RequiredFull,
    BestEffort,
}

/// What keys may do unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Identity {
    /// Calls at once of one key.
    pub calls_at_once_max: u32,
    /// Calls of one key that policy refuses a second, before it is answered 429.
    pub refused_per_second_max: u32,
    /// Makes `demo.key` at start: caller and auditor of tenant `demo`. Not for production.
    pub demonstration_key: bool,
}

/// What inspection takes for granted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Classify {
    /// The class of a call where nothing says another.
    pub class: Class,
}

/// The classes a call may have by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Class {
    Public,
    Internal,
    Confidential,
    Restricted,
}

/// The second process.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Collector {
    /// Starts it beside the gateway.
    pub start: bool,
    /// Its program; `cordon-collector` beside our own where none is said.
    pub program: Option<PathBuf>,
}

fn data() -> PathBuf {
    PathBuf::from("data")
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            bundle: None,
            profile: "default".to_owned(),
            packs: vec!["org".to_owned()],
            environment: "prod".to_owned(),
            // A decision takes half a millisecond; this is for a crowd at the quarter hour.
            deadline: Span(Duration::from_millis(500)),
            threads: 2,
            queue_max: 1_024,
            memo_entries_max: 10_000,
            memo_bytes_max: Size(64 << 20),
        }
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            mode: LedgerMode::Required,
            bytes_max: Size(20 << 30),
            segment_bytes: Size(64 << 20),
        }
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self { calls_at_once_max: 256, refused_per_second_max: 1_000, demonstration_key: false }
    }
}

impl Default for Classify {
    fn default() -> Self {
        Self { class: Class::Internal }
    }
}

impl Default for Collector {
    fn default() -> Self {
        Self { start: true, program: None }
    }
}

// === impl Class ===

impl Class {
    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "PUBLIC",
            Self::Internal => "INTERNAL",
            Self::Confidential => "CONFIDENTIAL",
            Self::Restricted => "RESTRICTED",
        }
    }
}
