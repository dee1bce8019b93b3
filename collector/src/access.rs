//! Who asked what: every statement is an event of the collector's own stream in the ledger.
//!
//! The event is durable before the answer leaves, so that nobody reads the records unrecorded.
//! The statement itself is not kept, only its hash: it may name people.

use std::sync::Arc;
use std::time::Duration;

use cordon_ledger::append::{AppendError, HEAD_EVERY, Ledger, Options};
use cordon_ledger::disk::RealDisk;
use cordon_ledger::event::{Draft, Kind, Writer};
use cordon_ledger::recover::OpenError;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::time::timeout;

use crate::config::{DataFolder, Limits, VERSION};
use crate::query::{Question, Scope};

/// Statements are few: a small segment spares disk.
const SEGMENT_BYTES: u64 = 4 << 20;
/// How long the disk may take for one event.
const DURABLE_WITHIN: Duration = Duration::from_secs(10);

/// The collector's own stream.
#[derive(Debug)]
pub struct AccessLog {
    ledger: Ledger,
}

/// One statement and what became of it.
#[derive(Debug)]
pub struct Access<'a> {
    /// What was asked, and by whom.
    pub question: &'a Question,
    /// Rows of the answer.
    pub rows: usize,
    /// How long it took.
    pub duration: Duration,
    /// `ok`, or the word for why there was no answer.
    pub outcome: &'a str,
}

/// Why an access could not be written down.
#[derive(Debug, Error)]
pub enum AccessError {
    /// The stream cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The stream takes no events.
    #[error("the access could not be recorded: {0}")]
    Append(#[from] AppendError),
    /// The body is no canonical JSON, which our own bodies always are.
    #[error("the access could not be recorded: {0}")]
    Body(#[from] cordon_ledger::canon::CanonError),
}

// === impl AccessLog ===

impl AccessLog {
    /// Takes the stream, which only one process can have.
    ///
    /// # Errors
    /// Another process has it, or it does not open.
    pub fn open(folder: &DataFolder, limits: &Limits) -> Result<Self, AccessError> {
        let options = Options {
            stream_dir_parent: folder.ledger(),
            heads_dir: folder.heads(),
            signing_key: folder.signing_key(),
            bytes_max: limits.access_bytes_max,
            segment_bytes: SEGMENT_BYTES,
            head_every: HEAD_EVERY,
            writer: Writer::Collector,
            gateway_version: VERSION.to_owned(),
            config_digest: None,
            observer: None,
        };
        let (ledger, recovered) = Ledger::open(options, Arc::new(RealDisk))?;
        let log = Self { ledger };
        let body = json!({"cut": recovered.cut, "version": VERSION, "writer": "collector"});
        log.ledger.append(draft(Kind::Start, None, &body)?)?;
        Ok(log)
    }

    /// Writes an access down; it is durable when this returns.
    ///
    /// # Errors
    /// It is not durable: there must be no answer.
    pub async fn record(&self, access: &Access<'_>) -> Result<(), AccessError> {
        let (tenant, scope) = match &access.question.scope {
            Scope::All => (None, "all"),
            Scope::Tenant(tenant) => (Some(Arc::from(tenant.as_str())), "tenant"),
        };
        let body = json!({
            "who": access.question.who,
            "scope": scope,
            "statement_sha256": hex::encode(Sha256::digest(access.question.sql.as_bytes())),
            "rows": access.rows,
            "duration_us": u64::try_from(access.duration.as_micros()).unwrap_or(u64::MAX),
            "outcome": access.outcome,
        });
        let receipt = self.ledger.append(draft(Kind::Access, tenant, &body)?)?;
        timeout(DURABLE_WITHIN, receipt.durable())
            .await
            .map_err(|_late| AppendError::TimedOut)??;
        Ok(())
    }

    /// Ends the stream in order.
    ///
    /// # Errors
    /// The last events may not be durable.
    pub fn close(self, reason: &str) -> Result<(), AccessError> {
        self.ledger.append(draft(Kind::Stop, None, &json!({"reason": reason}))?)?;
        Ok(self.ledger.close()?)
    }
}

fn draft(kind: Kind, tenant: Option<Arc<str>>, body: &Value) -> Result<Draft, AccessError> {
    let body = cordon_ledger::canon::canonical(body)?;
    Ok(Draft { kind, tenant, call_id: None, body, decision: None })
}
