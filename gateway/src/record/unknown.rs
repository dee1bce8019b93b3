//! The events of calls that a process left open when it died, made from what it had written.
//!
//! What happened to them nobody knows; who asked, what it was about and where it was going stands
//! in the last intent, and goes into the rows as if the call had ended. No I/O.

use std::time::SystemTime;

use cordon_ledger::{Draft, Kind, OpenCall};
use serde_json::Value;

use crate::record::body::Body;

/// The word for what happened.
const PROCESS_DIED: &str = "process_died";

/// An `attempt` for each intent without one, and the outcome.
pub(crate) fn events(call: &OpenCall, now: SystemTime) -> Vec<Draft> {
    let draft = |kind, body: Body| Draft {
        kind,
        tenant: call.tenant.clone(),
        call_id: Some(call.call_id),
        body: body.finish(),
        decision: None,
    };
    let intents = call.intents_without_attempt.iter();
    let mut events: Vec<Draft> =
        intents.map(|intent| draft(Kind::Attempt, attempt(intent, now))).collect();
    let attempts = u64::from(call.attempts) + events.len() as u64;
    events.push(draft(Kind::Outcome, outcome(call, attempts)));
    events
}

/// The attempt that an intent announced and nobody saw end.
fn attempt(intent: &Value, now: SystemTime) -> Body {
    let mut body = Body::new();
    body.number("attempt", intent.get("attempt").and_then(Value::as_u64))
        .text("decision_digest", text(intent, "decision_digest"))
        .time("ended_ts", now)
        .text("error_type", PROCESS_DIED)
        .text("legal_basis", text(intent, "legal_basis"))
        .text("mechanism", text(intent, "mechanism"))
        .list("pii_types", list(intent, "pii_types"))
        .list("policy_citations", list(intent, "policy_citations"))
        .list("policy_ids", list(intent, "basis"))
        .list("policy_titles", list(intent, "policy_titles"))
        .text("provider_hq", text(intent, "provider_hq"))
        .text("provider_name", text(intent, "provider_name"))
        .text("region", text(intent, "region"))
        .text("side", "gateway")
        .text("started_ts", text(intent, "started_ts"))
        .list("subject_regions", list(intent, "subject_regions"))
        .text("target_id", text(intent, "target_id"))
        .text("ultimate_parent_hq", text(intent, "ultimate_parent_hq"));
    body
}

fn outcome(call: &OpenCall, attempts: u64) -> Body {
    // A call that died before its first intent has sent nothing, and nothing is known of it.
    let intent = call.last_intent.as_ref().unwrap_or(&Value::Null);
    let mut body = Body::new();
    body.number("attempts", attempts)
        .list("basis_citations", list(intent, "policy_citations"))
        .list("basis_titles", list(intent, "policy_titles"))
        .text("decision_digest", text(intent, "decision_digest"))
        .text("error_type", PROCESS_DIED)
        .text("key_id", text(intent, "key_id"))
        .text("legal_basis", text(intent, "legal_basis"))
        .text("mechanism", text(intent, "mechanism"))
        .text("outcome", "unknown")
        .list("pii_types", list(intent, "pii_types"))
        .text("provider_hq", text(intent, "provider_hq"))
        .text("provider_name", text(intent, "provider_name"))
        .text("region", text(intent, "region"))
        .text("route_id", text(intent, "route_id"))
        .list("subject_regions", list(intent, "subject_regions"))
        .text("target_id", text(intent, "target_id"))
        .text("ts", call.started.as_str())
        .text("ultimate_parent_hq", text(intent, "ultimate_parent_hq"));
    body
}

fn text<'a>(intent: &'a Value, key: &str) -> Option<&'a str> {
    intent.get(key).and_then(Value::as_str)
}

fn list<'a>(intent: &'a Value, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    intent.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}
