//! The configuration as written: one typed table per part of the house.
//!
//! Its JSON Schema (`cordon config schema`) is what unknown keys are recognised by.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use crate::{
    catalog::settings::{RouteSettings, UpstreamSettings},
    classify,
    config::listeners,
    identity::organisation::Organisation,
    local, policy, providers,
    quantity::Size,
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
    pub policy: policy::Settings,
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
    /// How calls are inspected.
    #[serde(default)]
    pub classify: classify::Settings,
    /// Limits of connections to upstreams and of their answers.
    #[serde(default)]
    pub providers: providers::Settings,
    /// The second process, which makes tables of the ledger.
    #[serde(default)]
    pub collector: Collector,
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

/// The second process.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Collector {
    /// Starts it beside the gateway.
    pub start: bool,
}

fn data() -> PathBuf {
    PathBuf::from("data")
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

impl Default for Collector {
    fn default() -> Self {
        Self { start: true }
    }
}
