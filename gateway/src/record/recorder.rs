//! The gateway's hand on the ledger: opens entries, records decisions, start and stop, and
//! closes what a crash left open.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use cordon_ledger::{
    AppendError, DecisionBody, Draft, Kind, Ledger, OpenCall, Receipt, Recovered, Status,
};
use hmac::{Hmac, Mac};
use serde::Deserialize;
use serde_json::Value;
use sha2::Sha256;

use crate::{
    identity::Caller,
    policy::{Decided, DecisionSink, SinkError},
    record::{
        CallId, Entry, RecordError,
        body::Body,
        metrics::{Metrics, ResultLabel},
        notes::Notes,
    },
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
        Self(Arc::new(Shared { ledger, mode, metrics, salt, interrupting, refused }))
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

    /// Appends the summary of what was refused since the last one, if there was anything.
    pub fn summarise_refused(&self) -> Result<(), RecordError> {
        let counts: Vec<u64> =
            self.0.refused.iter().map(|count| count.swap(0, Ordering::Relaxed)).collect();
        if counts.iter().all(|count| *count == 0) {
            return Ok(());
        }
        let mut body = Body::new();
        for (name, count) in REFUSED_NAMES.iter().zip(counts) {
            body.number(name, count);
        }
        self.note(Kind::Refused, body)?;
        Ok(())
    }

    /// Appends an event that belongs to no call.
    pub fn note(&self, kind: Kind, body: Body) -> Result<Receipt, RecordError> {
        let body = body.finish();
        Ok(self.0.ledger.append(Draft {
            kind,
            tenant: None,
            call_id: None,
            body,
            decision: None,
        })?)
    }

    /// Closes every call that a crash left open: an `attempt` for each intent without one, and
    /// the outcome `unknown`. Returns once all of it is on disk; readiness waits for that.
    pub async fn close_recovered(&self, recovered: &Recovered) -> Result<u64, RecordError> {
        let mut last = None;
        for call in &recovered.open_calls {
            last = Some(self.close_unknown(call)?);
        }
        if let Some(receipt) = last {
            receipt.durable().await?;
        }
        Ok(recovered.open_calls.len() as u64)
    }

    fn close_unknown(&self, call: &OpenCall) -> Result<Receipt, RecordError> {
        let now = SystemTime::now();
        let draft = |kind, body: Body| Draft {
            kind,
            tenant: call.tenant.clone(),
            call_id: Some(call.call_id),
            body: body.finish(),
            decision: None,
        };
        let mut outcome = Body::new();
        let mut attempts = 0;
        for intent in &call.intents_without_attempt {
            attempts += 1;
            self.0.ledger.append(draft(Kind::Attempt, unknown_attempt(intent, now)))?;
        }
        attempts += u64::from(call.attempts);
        outcome.number("attempts", attempts).text("error_type", "process_died");
        if let Some(intent) = call.intents_without_attempt.last() {
            copy_texts(&mut outcome, intent, &["key_id", "legal_basis", "mechanism"]);
            outcome.text("outcome", "unknown");
            copy_texts(
                &mut outcome,
                intent,
                &["provider_hq", "provider_name", "region", "target_id"],
            );
        } else {
            outcome.text("outcome", "unknown");
        }
        outcome.text("ts", call.started.as_str());
        Ok(self.0.ledger.append(draft(Kind::Outcome, outcome))?)
    }

    /// Writes the last events, waits until they are on disk, and closes the ledger.
    pub async fn stop(&self, reason: &'static str) -> Result<(), RecordError> {
        self.summarise_refused()?;
        let mut body = Body::new();
        body.text("reason", reason);
        self.note(Kind::Stop, body)?.durable().await?;
        let ledger = self.0.ledger.clone();
        let ended = tokio::task::spawn_blocking(move || ledger.shutdown()).await;
        Ok(ended.unwrap_or(Err(AppendError::Closed))?)
    }
}

impl Shared {
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

/// The attempt that an intent announced and nobody saw end.
fn unknown_attempt(intent: &Value, now: SystemTime) -> Body {
    let mut body = Body::new();
    body.number("attempt", intent.get("attempt").and_then(Value::as_u64));
    copy_texts(&mut body, intent, &["decision_digest"]);
    body.time("ended_ts", now).text("error_type", "process_died");
    let names = ["legal_basis", "mechanism", "provider_hq", "provider_name", "region"];
    copy_texts(&mut body, intent, &names);
    body.text("side", "gateway");
    copy_texts(&mut body, intent, &["started_ts"]);
    let regions = intent.get("subject_regions").and_then(Value::as_array);
    body.list("subject_regions", regions.into_iter().flatten().filter_map(Value::as_str));
    copy_texts(&mut body, intent, &["target_id", "ultimate_parent_hq"]);
    body
}

fn copy_texts(body: &mut Body, from: &Value, keys: &[&'static str]) {
    for key in keys {
        body.text(key, from.get(*key).and_then(Value::as_str));
    }
}

#[async_trait::async_trait]
impl DecisionSink for Recorder {
    async fn record(&self, decided: &Decided) -> Result<(), SinkError> {
        let draft = Draft {
            kind: Kind::Decision,
            tenant: None,
            call_id: None,
            body: decided.event.to_vec(),
            decision: None,
        };
        let recorded = async { self.0.ledger.append(draft)?.written().await };
        recorded.await.map(|_position| ()).map_err(|fault| {
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
