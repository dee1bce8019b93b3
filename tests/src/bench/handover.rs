//! What one call spends on handing its events to the ledger, measured alone: the part of every
//! row that a gateway without a ledger would not have.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use cordon_ledger::{
    DecisionBody, Draft, Kind, Ledger, Options, RealDisk, Writer,
    append::{HEAD_EVERY, SEGMENT_BYTES},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::bench::meter::Threads;

/// Room for some million calls.
const BYTES_MAX: u64 = 8 << 30;
/// Bytes of the bodies of a call's events, as `cordon` writes them for the bench's calls of 1 KB with
/// all packs: `SELECT kind, avg(octet_length(body_json->>'body')) FROM events GROUP BY kind`.
const INTENT_BYTES: usize = 671;
const ATTEMPT_BYTES: usize = 615;
const OUTCOME_BYTES: usize = 1_265;
const DECISION_BYTES: usize = 2_770;

/// What was handed over, and at what cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HandOver {
    pub calls: u64,
    /// CPU of every thread but the ledger's, per call.
    pub cpu_us: f64,
    /// CPU of the ledger's thread, per call.
    pub ledger_us: f64,
}

/// The events of a call, to be copied for each.
struct Events {
    tenant: Arc<str>,
    decision: DecisionBody,
}

/// Opens a ledger in `folder` and hands it the events of calls, `at_once` at a time, for as long
/// as `lasts`: the intent, waited for until it is durable; the attempt; the outcome, waited for
/// until it is written.
pub async fn run(folder: &Path, at_once: usize, lasts: Duration) -> Result<HandOver> {
    let options = Options {
        stream_dir_parent: folder.join("ledger"),
        heads_dir: folder.join("heads"),
        signing_key: folder.join("signing.key"),
        bytes_max: BYTES_MAX,
        segment_bytes: SEGMENT_BYTES,
        head_every: HEAD_EVERY,
        writer: Writer::Gateway,
        gateway_version: env!("CARGO_PKG_VERSION").to_owned(),
        config_digest: None,
        observer: None,
    };
    let (ledger, _recovered) = Ledger::open(options, Arc::new(RealDisk))?;
    let own = std::process::id();
    hand_over(&ledger, at_once, lasts / 4).await?;
    let before = Threads::of(own)?;
    let calls = hand_over(&ledger, at_once, lasts).await?;
    let used = Threads::of(own)?.since(&before);
    ledger.shutdown()?;
    let per_call = |ns: u64| ns as f64 / 1e3 / calls.max(1) as f64;
    let cpu_us = per_call(used.cpu_ns - used.ledger_ns);
    Ok(HandOver { calls, cpu_us, ledger_us: per_call(used.ledger_ns) })
}

/// Some loops of calls side by side; how many calls there were.
async fn hand_over(ledger: &Ledger, at_once: usize, lasts: Duration) -> Result<u64> {
    let end = Instant::now() + lasts;
    let loops = (0..at_once).map(|_| tokio::spawn(calls_until(ledger.clone(), end)));
    let loops: Vec<_> = loops.collect();
    let mut calls = 0;
    for each in loops {
        calls += each.await??;
    }
    Ok(calls)
}

/// One of the loops.
async fn calls_until(ledger: Ledger, end: Instant) -> Result<u64> {
    let digest = "decision@bench".into();
    let decision = DecisionBody { digest, body: body(DECISION_BYTES).into() };
    let events = Events { tenant: "bench".into(), decision };
    let mut calls = 0;
    while Instant::now() < end {
        call(&ledger, &events).await?;
        calls += 1;
    }
    Ok(calls)
}

async fn call(ledger: &Ledger, events: &Events) -> Result<()> {
    let call_id = Uuid::now_v7();
    let draft = |kind, bytes| Draft {
        kind,
        tenant: Some(Arc::clone(&events.tenant)),
        call_id: Some(call_id),
        body: body(bytes),
        decision: Some(events.decision.clone()),
    };
    let place = ledger.begin(call_id, &events.tenant)?;
    ledger.append(draft(Kind::Intent, INTENT_BYTES))?.durable().await.context("the intent")?;
    ledger.append(draft(Kind::Attempt, ATTEMPT_BYTES))?;
    place.close(draft(Kind::Outcome, OUTCOME_BYTES)).written().await.context("the outcome")?;
    Ok(())
}

/// A body of so many bytes.
fn body(bytes: usize) -> Vec<u8> {
    const AROUND: &str = "{\"k\":\"\"}";
    format!("{{\"k\":\"{}\"}}", "x".repeat(bytes.saturating_sub(AROUND.len()))).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_are_handed_over_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let told = run(folder.path(), 4, Duration::from_millis(200)).await.unwrap();
        assert!(told.calls > 0 && told.cpu_us > 0.0 && told.ledger_us > 0.0, "{told:?}");
        assert_eq!(body(INTENT_BYTES).len(), INTENT_BYTES);
    }
}
