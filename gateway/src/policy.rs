//! Where this call may go, and what must be done with it: decided by the bundle's Wasm alone.
//!
//! Makes the [`Permit`] or the [`Denial`], and from a permit the [`Outbound`] bytes. Knows the
//! nouns above it as one value, [`facts::Facts`]; not HTTP, not clocks. Whatever it cannot
//! understand is a denial.

pub mod about;
pub mod bundle;
pub mod check;
pub mod decision;
mod denial;
pub mod document;
pub mod duties;
pub mod engine;
pub mod facts;
pub(crate) mod judge;
pub mod memo;
pub mod quarter;
pub mod replay;
#[cfg(test)]
pub(crate) mod sample;
pub mod steps;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;

use crate::{
    catalog::Upstream,
    identity::{TenantId, attributes::Country},
    policy::{
        about::{About, AboutError},
        bundle::{Bundle, BundleError},
        engine::{Engine, EngineError, EngineFault, Limits},
        facts::{Asked, Candidates, ContextFacts, DataFacts, Facts, GRACE, RequestFacts},
        judge::{Bench, Court, Ruling, Verdict},
        memo::{Bounds, Memo, Observer},
        quarter::Quarter,
    },
    quantity::{Size, Span},
};

pub(crate) use denial::Refusal;
pub use denial::{Denial, Effect, HostCode};

/// Routes whose candidate lists are kept with their hash; a configuration has far fewer.
const CANDIDATE_LISTS_MAX: usize = 1_024;

/// How calls are judged: the configuration's `[policy]`.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The bundle file; the built-in one where none is said.
    pub bundle: Option<PathBuf>,
    pub profile: String,
    pub packs: Vec<String>,
    /// What the contract's `context.env` says: `prod` where nothing else does.
    pub environment: String,
    /// Evaluation threads.
    pub threads: usize,
    /// Evaluations under way or waiting for a thread; a call beyond them is refused.
    pub queue_max: usize,
    /// From asking for a decision to having it, waiting included.
    pub deadline: Span,
    /// Decisions that are remembered.
    pub memo_entries_max: usize,
    /// Memory for remembered decisions.
    pub memo_bytes_max: Size,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bundle: None,
            profile: "default".to_owned(),
            packs: ["org", "gdpr", "us-ear", "itar", "markings"].map(str::to_owned).into(),
            environment: "prod".to_owned(),
            threads: 2,
            queue_max: 1_024,
            deadline: Span(Duration::from_millis(250)),
            memo_entries_max: 10_000,
            memo_bytes_max: Size(128 << 20),
        }
    }
}

/// Why there is no policy to judge calls with.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the bundle failed its self-test: {0}")]
    SelfTest(#[from] EngineFault),
    #[error(transparent)]
    About(#[from] AboutError),
    #[error("starting the policy was interrupted")]
    Interrupted,
}

/// Takes every fresh decision before anybody may use it; `record` implements it with the ledger.
#[async_trait]
pub trait DecisionSink: Send + Sync + 'static {
    /// Returns once the event of the decision about this tenant's call has its place in the ledger.
    async fn record(&self, tenant: &TenantId, decided: &Decided) -> Result<(), SinkError>;
}

/// Why the ledger did not take a decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the decision cannot be recorded: {0}")]
pub struct SinkError(pub String);

/// A rule as users are told of it, from the bundle's `rules.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub id: String,
    pub title: String,
    pub citation: String,
    /// What to do about it; may be empty.
    pub advice: String,
}

/// What may be kept of a body in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogBody {
    None,
    Hash,
}

/// What the host must do with a permitted call; only what we understand can be in here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duties {
    /// Category and how, `direction` prompt; empty: nothing to redact.
    pub redact: Vec<(String, crate::classify::Redaction)>,
    pub rescan: bool,
    pub log_body: LogBody,
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
    pub(crate) basis: Arc<[Rule]>,
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
    /// What policy said, before anything the host refuses.
    pub(crate) effect: Effect,
    pub(crate) warnings: Vec<String>,
    /// Every rule that refused the request or a target, each once.
    pub(crate) refused_by: Vec<Rule>,
    /// Rules that refused the request itself.
    pub(crate) request_rules: Vec<Rule>,
    /// Excluded target, its rules, what was missing.
    pub(crate) excluded: Vec<(String, Vec<Rule>, Vec<String>)>,
    pub(crate) missing: Vec<String>,
    /// Who is told, and how urgently; of refusals too.
    pub(crate) notify: Vec<(String, String)>,
    /// How long records are kept; of refusals too.
    pub(crate) retention: decision::Retention,
}

/// The right to attempt the named upstreams with this call's content; nothing else grants it.
#[derive(Debug, Clone)]
pub struct Permit {
    pub(crate) decided: Arc<Decided>,
    pub(crate) targets: Vec<Permitted>,
    pub(crate) duties: Arc<Duties>,
    as_of: Quarter,
    made_at: SystemTime,
}

/// The bytes that will leave, in the upstream's format, after redaction and rescan. Only
/// `policy/duties.rs` makes it.
#[derive(Clone)]
pub struct Outbound {
    pub(crate) bytes: Bytes,
    /// SHA-256 of `bytes`.
    pub(crate) digest: [u8; 32],
    /// How many places were redacted.
    pub(crate) redacted: u32,
    /// Nothing outside this module can write one down.
    made: Made,
}

/// What makes a value one of this module's own.
#[derive(Debug, Clone, Copy)]
struct Made;

/// The activated bundle, and what it has decided lately.
pub struct Policy {
    bench: Arc<Bench>,
    memo: Memo,
    context: Arc<ContextFacts>,
    /// Whose data it is where a call names no region.
    subject_regions: Vec<Country>,
    /// By the address of the list, which each entry keeps alive.
    candidates: Mutex<HashMap<usize, Arc<Candidates>>>,
}

// === impl Policy ===

impl Policy {
    /// Reads, compiles and tests the bundle. `region` is the organisation's: where the gateway
    /// stands, and the data subjects' where a call names none.
    pub async fn start(
        settings: &Settings,
        region: Option<Country>,
        sink: Arc<dyn DecisionSink>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, PolicyError> {
        let bundle = read(settings)?;
        let limits = Limits {
            threads: settings.threads,
            queue_max: settings.queue_max,
            deadline: settings.deadline.0,
        };
        let bench = Arc::new(activate(bundle, limits).await?);
        bench.about.holds(&settings.profile, &settings.packs)?;
        let bounds = Bounds {
            entries_max: settings.memo_entries_max,
            bytes_max: usize::try_from(settings.memo_bytes_max.0).unwrap_or(usize::MAX),
            flights_max: settings.queue_max,
        };
        let court = Court { bench: Arc::clone(&bench), sink, observer: Arc::clone(&observer) };
        Ok(Self {
            bench,
            memo: Memo::new(Arc::new(court), observer, bounds),
            context: Arc::new(ContextFacts {
                environment: settings.environment.clone(),
                profile: settings.profile.clone(),
                packs: settings.packs.clone(),
                gateway_region: region.clone(),
            }),
            subject_regions: region.into_iter().collect(),
            candidates: Mutex::default(),
        })
    }

    /// What the bundle says about itself.
    pub fn about(&self) -> &About {
        &self.bench.about
    }

    /// The facts of one call, as of `now`.
    pub fn facts(&self, asked: &Asked<'_>, now: SystemTime) -> Facts {
        let steps = &self.bench.about.steps;
        let caller_id = match self.bench.about.needs_caller_id {
            true => asked.caller.key_id().to_owned(),
            false => String::new(),
        };
        Facts {
            as_of: Quarter::of(now),
            asked_at: now,
            request: RequestFacts::of(asked, steps),
            caller: Arc::clone(asked.caller.facts()),
            caller_id,
            data: DataFacts::of(asked.findings, steps, &self.subject_regions),
            candidates: self.candidates(asked.upstreams),
            context: Arc::clone(&self.context),
        }
    }

    /// Decides, or remembers what was decided about equal facts.
    pub async fn decide(&self, facts: Facts) -> Result<Permit, Denial> {
        let facts = Arc::new(facts);
        let ruling = self.memo.ruling(Arc::clone(&facts)).await.map_err(Denial::by_host)?;
        apply(&ruling, &facts)
    }

    /// The list with its hash, made when a route is first asked about.
    fn candidates(&self, upstreams: &Arc<[Arc<Upstream>]>) -> Arc<Candidates> {
        let address = Arc::as_ptr(upstreams).cast::<()>().addr();
        let mut lists = self.candidates.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.len() >= CANDIDATE_LISTS_MAX && !lists.contains_key(&address) {
            lists.clear();
        }
        let list = lists
            .entry(address)
            .or_insert_with(|| Arc::new(Candidates::new(Arc::clone(upstreams))));
        Arc::clone(list)
    }
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Policy").field("about", &self.bench.about).finish_non_exhaustive()
    }
}

/// The configured bundle, or the built-in one.
pub(crate) fn read(settings: &Settings) -> Result<Bundle, BundleError> {
    settings.bundle.as_deref().map_or_else(Bundle::built_in, Bundle::read)
}

/// Compiles a bundle and asks it about itself.
pub(crate) async fn activate(bundle: Bundle, limits: Limits) -> Result<Bench, PolicyError> {
    let compiled = tokio::task::spawn_blocking(move || {
        Engine::start(&bundle, limits).map(|engine| (engine, bundle))
    });
    let (engine, bundle) = compiled.await.map_err(|_cancelled| PolicyError::Interrupted)??;
    Bench::new(engine, bundle.revision().to_owned(), bundle.data()).await
}

/// The call's own upstreams under a ruling on equal facts.
fn apply(ruling: &Ruling, facts: &Facts) -> Result<Permit, Denial> {
    let decided = Arc::clone(&ruling.decided);
    match &ruling.verdict {
        Verdict::Permitted { targets, duties } => {
            let permitted = |target: &judge::Target| {
                let upstream = facts.upstreams().get(target.index)?;
                Some(Permitted {
                    upstream: Arc::clone(upstream),
                    rank: target.rank,
                    basis: Arc::clone(&target.basis),
                    mechanism: target.mechanism.clone(),
                })
            };
            Ok(Permit {
                targets: targets.iter().filter_map(permitted).collect(),
                duties: Arc::clone(duties),
                as_of: ruling.as_of,
                made_at: facts.asked_at,
                decided,
            })
        }
        Verdict::Refused { code } => Err(Denial::by_policy(code, decided)),
    }
}

// === impl Permit ===

impl Permit {
    /// The permitted upstreams in the route's order.
    pub fn targets(&self) -> &[Permitted] {
        &self.targets
    }

    /// What must be done with the call.
    pub fn duties(&self) -> &Arc<Duties> {
        &self.duties
    }

    /// The decision it rests on.
    pub fn decided(&self) -> &Arc<Decided> {
        &self.decided
    }

    /// Whether an attempt that starts at `now` may still rest on it: within its quarter of an
    /// hour, or within ten seconds of being made.
    pub fn serves(&self, now: SystemTime) -> bool {
        let in_quarter = self.as_of.start() <= now && now < self.as_of.end();
        let young = now.duration_since(self.made_at).is_ok_and(|age| age <= GRACE);
        in_quarter || young
    }
}

// === impl Permitted ===

impl Permitted {
    /// The upstream that was judged.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// The legal preference: 1 is no transfer at all; routing chooses within a rank.
    pub fn rank(&self) -> u32 {
        self.rank
    }

    /// The rules it rests on.
    pub fn basis(&self) -> &[Rule] {
        &self.basis
    }

    /// The transfer mechanism's id, where personal data moves.
    pub fn mechanism(&self) -> Option<&str> {
        self.mechanism.as_deref()
    }
}

// === impl Outbound ===

impl Outbound {
    /// Bytes as they are, for tests of what sends them.
    #[cfg(test)]
    pub(crate) fn sample(bytes: Bytes) -> Self {
        Self { bytes, digest: [0; 32], redacted: 0, made: Made }
    }
}

impl std::fmt::Debug for Outbound {
    /// Length and digest alone: the bytes are a prompt.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Outbound")
            .field("bytes", &self.bytes.len())
            .field("digest", &hex::encode(self.digest))
            .field("redacted", &self.redacted)
            .field("made", &self.made)
            .finish_non_exhaustive()
    }
}

// === impl Decided ===

impl Decided {
    /// `sha256:…` of the facts.
    pub fn digest(&self) -> &str {
        &self.digest
    }
    /// The bundle's revision.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Canonical body of the ledger's `decision` event.
    pub fn event(&self) -> &Arc<[u8]> {
        &self.event
    }

    /// What policy said, before anything the host refuses.
    pub fn effect(&self) -> Effect {
        self.effect
    }
    /// Warnings that come with the decision.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Every rule that refused the request or a target, each once.
    pub fn refused_by(&self) -> &[Rule] {
        &self.refused_by
    }

    /// The rules that refused the request itself.
    pub fn request_rules(&self) -> &[Rule] {
        &self.request_rules
    }

    /// Each excluded target with its rules and what was missing.
    pub fn excluded(&self) -> &[(String, Vec<Rule>, Vec<String>)] {
        &self.excluded
    }
}

// === impl Duties ===

impl Duties {
    /// Nothing but the least: a hash of the body may be kept.
    pub(crate) fn none() -> Self {
        Self {
            redact: Vec::new(),
            rescan: false,
            log_body: LogBody::Hash,
            max_tokens: None,
            zdr_required: false,
            label_ai: false,
            notify: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
