//! What an operator says of upstreams and routes, as written.
//!
//! Everything the contract asks of an upstream can be said here; what is left out is unknown.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::{
    identity::attributes::{Country, Known},
    quantity::{Day, Span},
    secret::SecretReference,
    wire::Format,
};

/// An enumeration whose variants are the contract's words.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
        pub enum $name {
            $(#[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// The contract's word.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }
    };
}

words! {
    /// Where an upstream runs.
    Kind { Remote = "remote", Private = "private", OnPremises = "onprem" }
}
words! {
    /// How firmly data stays in the region.
    Residency { Guaranteed = "guaranteed", BestEffort = "best_effort", Global = "global" }
}
words! {
    /// What a transfer of personal data rests on.
    TransferMechanism { Clauses = "scc", Framework = "dpf", CorporateRules = "bcr" }
}
words! {
    /// The transfer impact assessment.
    Assessment { Valid = "valid", Expired = "expired", None = "none" }
}
words! {
    /// Whether the weights are signed.
    Signature { Verified = "verified", None = "none" }
}
words! {
    /// The bill of materials of a model.
    Aibom { Verified = "verified", Present = "present", None = "none" }
}
words! {
    /// How a stream is passed on.
    StreamMode { Pass = "pass", Hold = "hold" }
}

/// One provider: how it is reached, and what is true of it.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
pub struct UpstreamSettings {
    /// How it speaks.
    pub format: Format,
    /// Where it answers: `https://` with a name; `http://` only on loopback or with `plaintext`.
    pub url: String,
    /// The key we send; by reference only.
    pub key: Option<SecretReference>,
    /// Allows `http://` to another machine. Everybody between can read and change the calls.
    #[serde(default)]
    pub plaintext: bool,
    /// PEM file of the certificates that are trusted here, instead of the system's.
    pub trust_roots: Option<PathBuf>,
    /// Where it runs: `remote`, `private` (ours alone, at a provider), `onprem` (ours).
    #[serde(default = "remote")]
    pub kind: Kind,
    /// Country of the provider's headquarters.
    pub provider_headquarters: Option<Country>,
    /// Country where the parent at the top has its headquarters.
    pub ultimate_parent_headquarters: Option<Country>,
    /// Country of the headquarters of who runs the machines.
    pub operator_headquarters: Option<Country>,
    /// Whether only US persons run it (and only they may use it).
    #[serde(default)]
    pub operator_us_persons_only: Known,
    /// Country where the model runs.
    pub region: Option<Country>,
    /// How firmly data stays there.
    pub residency: Option<Residency>,
    /// Countries of subprocessors.
    pub subprocessors: Option<Vec<Country>>,
    /// What a transfer of personal data rests on.
    pub transfer_mechanisms: Option<Vec<TransferMechanism>>,
    /// Whether the provider is on the list of the EU-US Data Privacy Framework.
    #[serde(default)]
    pub dpf_listed: Known,
    /// The transfer impact assessment.
    pub tia: Option<Assessment>,
    /// Last day the assessment is valid.
    pub tia_until: Option<Day>,
    /// Whether the provider keeps nothing (zero data retention).
    #[serde(default)]
    pub zdr: Known,
    /// Whether the provider trains on our calls.
    #[serde(default)]
    pub train: Known,
    /// Days that the provider keeps calls.
    pub retention_days: Option<u64>,
    /// Whether there is a business associate agreement (HIPAA).
    #[serde(default)]
    pub baa: Known,
    /// Whether there is a data processing agreement (GDPR Art. 28).
    #[serde(default)]
    pub dpa: Known,
    /// Whether it stands in our register of information (DORA Art. 28(3)).
    #[serde(default)]
    pub dora_register: Known,
    /// Certificates it holds.
    pub certifications: Option<Vec<CertificationSettings>>,
    /// Export classification of the hardware.
    pub hardware_eccn: Option<String>,
    /// Country where the hardware stands.
    pub hardware_country: Option<Country>,
    /// Day these facts were checked; facts age.
    pub as_of: Option<Day>,
    /// Its models, by the name it knows them by.
    #[serde(default)]
    pub models: BTreeMap<String, ModelSettings>,
}

/// A certificate.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
pub struct CertificationSettings {
    /// Its id: `secnumcloud`, `hds`, `fedramp`, `iso27001`.
    pub id: String,
    /// Its level or version.
    pub level: Option<String>,
    /// Last day it is valid.
    pub until: Option<Day>,
}

/// What is true of one model.
#[derive(Debug, Clone, Default, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct ModelSettings {
    /// Country of whoever made it.
    pub origin: Option<Country>,
    /// Whether its weights are published.
    pub open_weights: Known,
    /// Its family.
    pub family: Option<String>,
    /// Its export classification.
    pub eccn: Option<String>,
    /// Whether its weights are signed and the signature was verified.
    pub signature: Option<Signature>,
    /// Its bill of materials.
    pub aibom: Option<Aibom>,
    /// Advisories that concern it, by id.
    pub advisories: Vec<String>,
    /// Tokens of prompt and answer together.
    pub context_tokens_max: Option<u64>,
}

/// One route: the model name that clients ask for.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
pub struct RouteSettings {
    /// `upstream/model`, the preferred first; `local/…` is the model of this process.
    pub targets: Vec<String>,
    /// When an attempt is given up.
    #[serde(default)]
    pub deadlines: DeadlineSettings,
    /// `pass`: pieces go on as they come. `hold` is not built yet.
    #[serde(default = "pass")]
    pub stream: StreamMode,
}

/// When an attempt is given up.
#[derive(Debug, Clone, Copy, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct DeadlineSettings {
    /// Until the connection stands, TLS included.
    pub connect: Span,
    /// Until the first piece of a streamed answer.
    pub first_token: Span,
    /// Until the head of an answer that comes whole: the model writes all of it before.
    pub answer: Span,
    /// Between two pieces.
    pub gap: Span,
    /// For the whole answer; without it a stream that still flows is never cut.
    pub total: Option<Span>,
}

impl Default for DeadlineSettings {
    fn default() -> Self {
        Self {
            connect: seconds(2),
            first_token: seconds(30),
            answer: seconds(120),
            gap: seconds(20),
            total: None,
        }
    }
}

fn seconds(count: u64) -> Span {
    Span(Duration::from_secs(count))
}

fn remote() -> Kind {
    Kind::Remote
}

fn pass() -> StreamMode {
    StreamMode::Pass
}
