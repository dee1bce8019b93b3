//! The gateway's hand on the ledger: opens entries, records decisions, changes, start and stop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use cordon_ledger::{AppendError, DecisionBody, Draft, Kind, Ledger, Receipt, Recovered, Status};
use hmac::{Hmac, Mac};
use serde::Deserialize;
use sha2::Sha256;

use crate::{
    identity::{Caller, TenantId},
    policy::{Decided, DecisionSink, SinkError},
    record::{
        CallId, Entry, RecordError,
        body::Body,
        metrics::{Metrics, ResultLabel},
        notes::Notes,
        unknown,
    },
    store::Change,
};

/// When the last bytes of an answer are released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Once the outcome is written: it survives the death of the process.
    Required,
    /// Once the outcome is on disk: it survives the loss of power.
    RequiredFull,
}

/// Why a request never became a call, for the minute's summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedReason {
    Unproven,
    UnknownPath,
    Framing,
    Overloaded,
}

/// How long anything waits for the ledger: a disk that hangs without an error must not hold calls,
/// nor a stop, for ever.
const LEDGER_WAIT_MAX: Duration = Duration::from_secs(10);
/// Calls that a crash left open and that are closed in one wait; the ledger's queue takes more.
const RECOVERED_AT_ONCE: usize = 256;
const REFUSED_NAMES: [&str; 4] = ["framing", "overloaded", "unknown_path", "unproven"];

/// Opens entries and writes the events that belong to no call. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) ledger: Ledger,
    pub(crate) mode: Mode,
    pub(crate) metrics: Arc<Metrics>,
    salt: [u8; 32],
    wait_max: Duration,
    /// The drain's deadline has passed: calls that are dropped now were cut by us.
    interrupting: AtomicBool,
    refused: [AtomicU64; 4],
}

impl Recorder {
    /// A recorder over an open ledger. `salt` keys the hashes of bodies and is kept apart from
    /// the ledger, so that a hash proves nothing to who does not hold it.
    pub fn new(ledger: Ledger, mode: Mode, metrics: Arc<Metrics>, salt: [u8; 32]) -> Self {
        let refused = std::array::from_fn(|_| AtomicU64::new(0));
        let interrupting = AtomicBool::new(false);
        let wait_max = LEDGER_WAIT_MAX;
        Self(Arc::new(Shared { ledger, mode, metrics, salt, wait_max, interrupting, refused }))
    }

    /// The same for tests that will not wait for a disk that hangs.
    #[cfg(test)]
    pub(crate) fn waiting_at_most(self, wait_max: Duration) -> Self {
        let shared = Arc::into_inner(self.0).expect("nobody else has it yet");
        Self(Arc::new(Shared { wait_max, ..shared }))
    }

    /// The call begins: from here on it leaves exactly one outcome.
    pub fn open(&self, caller: &Arc<Caller>, call_id: CallId) -> Result<Entry, RecordError> {
        let tenant = Arc::from(caller.tenant().as_str());
        let place = self.0.ledger.begin(call_id.uuid(), &tenant)?;
        let notes = Notes::new(Arc::clone(caller), tenant, SystemTime::now(), Instant::now());
        Ok(Entry::new(Arc::clone(&self.0), place, call_id, notes))
    }

    /// From now on a call that is dropped was interrupted by us, not cancelled by its client.
    pub fn interrupting(&self) {
        self.0.interrupting.store(true, Ordering::Release);
    }

    /// The metrics that this recorder feeds.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// The ledger's state, for readiness and metrics.
    pub fn status(&self) -> Status {
        self.0.ledger.status()
    }

    /// Counts a request that never became a call; a summary a minute tells of it.
    pub fn refused(&self, reason: RefusedReason) {
        let index = match reason {
            RefusedReason::Framing => 0,
            RefusedReason::Overloaded => 1,
            RefusedReason::UnknownPath => 2,
            RefusedReason::Unproven => 3,
        };
        self.0.refused[index].fetch_add(1, Ordering::Relaxed);
        let label = ResultLabel { result: REFUSED_NAMES[index] };
        self.0.metrics.refused.get_or_create(&label).inc();
    }

    /// Appends the summary of what was refused since the last one, if there was anything. What the
    /// ledger does not take is told by the next.
    pub fn summarise_refused(&self) -> Result<(), RecordError> {
        let counts: Vec<u64> =
            self.0.refused.iter().map(|count| count.swap(0, Ordering::Relaxed)).collect();
        if counts.iter().all(|count| *count == 0) {
            return Ok(());
        }
        let mut body = Body::new();
        for (name, count) in REFUSED_NAMES.iter().zip(&counts) {
            body.number(name, *count);
        }
        let noted = self.note(Kind::Refused, None, body);
        if noted.is_err() {
            for (count, untold) in self.0.refused.iter().zip(counts) {
                count.fetch_add(untold, Ordering::Relaxed);
            }
        }
        noted.map(drop)
    }

    /// Appends what was changed in the database, as an event of the tenant it is about.
    pub fn changed(&self, change: &Change) -> Result<(), RecordError> {
        let mut body = Body::new();
        body.text("at", change.at.as_str())
            .text("by", change.by.as_str())
            .text("kind", change.kind.as_str())
            .text("subject", change.subject.as_str())
            .text("tenant", change.tenant.as_str());
        self.note(Kind::Change, Some(change.tenant.as_str()), body).map(drop)
    }

    /// Appends an event that belongs to no call.
    fn note(&self, kind: Kind, tenant: Option<&str>, body: Body) -> Result<Receipt, RecordError> {
        let (tenant, body) = (tenant.map(Arc::from), body.finish());
        Ok(self.0.ledger.append(Draft { kind, tenant, call_id: None, body, decision: None })?)
    }

    /// Writes the `start` event, and closes every call that a crash left open: an `attempt` for
    /// each intent without one, and the outcome `unknown`. Returns how many calls that were, once
    /// all of it is on disk; readiness waits for that.
    pub async fn start(&self, about: Body, recovered: &Recovered) -> Result<u64, RecordError> {
        let mut last = self.note(Kind::Start, None, about)?;
        for calls in recovered.open_calls.chunks(RECOVERED_AT_ONCE) {
            for call in calls {
                for draft in unknown::events(call, SystemTime::now()) {
                    last = self.0.ledger.append(draft)?;
                }
            }
            self.0.in_time(last.durable()).await?;
        }
        self.0.in_time(last.durable()).await?;
        Ok(recovered.open_calls.len() as u64)
    }

    /// Writes the last events, waits until they are on disk, and lets the ledger go: whatever
    /// fails, the rest is still tried.
    pub async fn stop(&self, reason: &'static str) -> Result<(), RecordError> {
        if let Err(fault) = self.summarise_refused() {
            tracing::error!("refused requests are not summed up: {fault}");
        }
        let mut body = Body::new();
        body.text("reason", reason);
        let stopped = match self.note(Kind::Stop, None, body) {
            Ok(receipt) => self.0.in_time(receipt.durable()).await,
            Err(fault) => Err(fault),
        };
        let ledger = self.0.ledger.clone();
        let ended = tokio::task::spawn_blocking(move || ledger.shutdown());
        let ended = self.0.in_time(async { ended.await.unwrap_or(Err(AppendError::Closed)) }).await;
        stopped.and(ended)
    }
}

impl Shared {
    /// Waits for the ledger, so long and no longer.
    pub(crate) async fn in_time<T>(
        &self,
        wait: impl Future<Output = Result<T, AppendError>>,
    ) -> Result<(), RecordError> {
        let waited = tokio::time::timeout(self.wait_max, wait).await;
        waited.unwrap_or(Err(AppendError::TimedOut)).map(drop).map_err(RecordError::from)
    }

    pub(crate) fn is_interrupting(&self) -> bool {
        self.interrupting.load(Ordering::Acquire)
    }

    /// The keyed hash of a body, from its SHA-256: HMAC-SHA256 under the salt, lower hex. A plain
    /// hash would let anybody who reads the ledger try out short prompts.
    pub(crate) fn body_hash(&self, sha256: &[u8; 32]) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.salt).expect("HMAC takes keys of any length");
        mac.update(sha256);
        hex::encode(mac.finalize().into_bytes())
    }
}

#[async_trait::async_trait]
impl DecisionSink for Recorder {
    async fn record(&self, tenant: &TenantId, decided: &Decided) -> Result<(), SinkError> {
        // The very body that intents and outcomes refer to: the writer holds it for them.
        let draft = Draft {
            kind: Kind::Decision,
            tenant: Some(Arc::from(tenant.as_str())),
            call_id: None,
            body: Vec::new(),
            decision: Some(decision_body(decided)),
        };
        let receipt = self.0.ledger.append(draft).map_err(RecordError::from);
        let recorded = async { self.0.in_time(receipt?.written()).await };
        recorded.await.map_err(|fault| {
            tracing::error!("a decision is not recorded: {fault}");
            SinkError(fault.to_string())
        })
    }
}

/// The decision an event refers to, for the writer to repeat in a new segment.
pub(crate) fn decision_body(decided: &Decided) -> DecisionBody {
    let digest = format!("{}@{}", decided.digest, decided.revision);
    DecisionBody { digest: digest.into(), body: Arc::clone(&decided.event) }
}
