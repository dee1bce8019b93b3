//! The columns of every table, in their order.
//!
//! Names and order are the interface: readers outside rely on them, so columns are only ever
//! appended. Signed integers, microseconds and plain lists, because Delta has nothing else.

use crate::schema::{Column, Form};

const fn some(name: &'static str, form: Form) -> Column {
    Column { name, form, required: false }
}

const fn each(name: &'static str, form: Form) -> Column {
    Column { name, form, required: true }
}

/// One row per ledger event; `body_json` is the event's own bytes.
pub const EVENTS: &[Column] = &[
    each("stream_id", Form::Text),
    each("seq", Form::Whole),
    each("ts", Form::Time),
    some("node_id", Form::Text),
    each("kind", Form::Text),
    some("call_id", Form::Text),
    some("tenant_id", Form::Text),
    each("body_json", Form::Text),
    each("prev_hash", Form::Digest),
    each("leaf_hash", Form::Digest),
];

/// One row per call, in the order that gives the first 32 columns their file statistics.
pub const CALLS: &[Column] = &[
    // Identity and order.
    each("seq", Form::Whole),
    each("ts", Form::Time),
    each("tenant_id", Form::Text),
    each("call_id", Form::Text),
    each("node_id", Form::Text),
    some("trace_id", Form::Text),
    some("span_id", Form::Text),
    some("parent_span_id", Form::Text),
    // Who.
    some("user_id_hash", Form::Text),
    some("key_id", Form::Text),
    some("team_id", Form::Text),
    some("app_id", Form::Text),
    some("auth_method", Form::Text),
    some("client_ip_prefix", Form::Text),
    some("session_id", Form::Text),
    some("agent_id", Form::Text),
    // What.
    some("operation_name", Form::Text),
    some("provider_name", Form::Text),
    some("request_model", Form::Text),
    some("response_model", Form::Text),
    some("route_id", Form::Text),
    some("endpoint", Form::Text),
    some("api_format", Form::Text),
    some("stream", Form::Flag),
    // Outcome.
    some("outcome", Form::Text),
    some("http_status", Form::Small),
    some("error_type", Form::Text),
    some("duration_us", Form::Whole),
    some("ttft_us", Form::Whole),
    some("input_tokens", Form::Whole),
    some("output_tokens", Form::Whole),
    some("cost_usd", Form::Money),
    // Usage.
    some("cache_read_input_tokens", Form::Whole),
    some("cache_write_input_tokens", Form::Whole),
    some("reasoning_output_tokens", Form::Whole),
    some("token_source", Form::Text),
    some("cost_input_usd", Form::Money),
    some("cost_output_usd", Form::Money),
    some("price_version", Form::Text),
    some("budget_id", Form::Text),
    some("chunks", Form::Small),
    some("time_per_output_token_us", Form::Whole),
    some("queue_us", Form::Whole),
    some("gateway_overhead_us", Form::Whole),
    some("upstream_us", Form::Whole),
    // Request shape.
    some("temperature", Form::Real),
    some("top_p", Form::Real),
    some("top_k", Form::Small),
    some("max_tokens", Form::Whole),
    some("seed", Form::Whole),
    some("choice_count", Form::Small),
    some("tools_offered", Form::Texts),
    some("tools_called", Form::Texts),
    some("modalities", Form::Texts),
    some("prompt_name", Form::Text),
    some("prompt_version", Form::Text),
    some("request_bytes", Form::Whole),
    some("response_bytes", Form::Whole),
    some("finish_reasons", Form::Texts),
    some("response_id", Form::Text),
    // Routing.
    some("attempts", Form::Small),
    some("fallback_from", Form::Text),
    some("fallback_reason", Form::Text),
    some("region", Form::Text),
    some("upstream_host", Form::Text),
    some("cache_status", Form::Text),
    some("cache_similarity", Form::Real),
    // Policy.
    some("decision", Form::Text),
    some("policy_set_version", Form::Text),
    some("policy_ids", Form::Texts),
    some("deny_reason", Form::Text),
    some("obligations", Form::Texts),
    some("purpose", Form::Text),
    some("data_class", Form::Text),
    some("risk_tier", Form::Text),
    some("human_review", Form::Text),
    // Content safety.
    some("findings_count", Form::Small),
    some("pii_types", Form::Texts),
    some("redacted_spans", Form::Small),
    some("injection_score", Form::Real),
    some("toxicity_score", Form::Real),
    some("classifier_versions", Form::Texts),
    some("guard_us", Form::Whole),
    // Content reference.
    some("payload_mode", Form::Text),
    some("request_digest", Form::Digest),
    some("response_digest", Form::Digest),
    some("payload_ref", Form::Text),
    some("dek_id", Form::Text),
    some("subject_ref", Form::Text),
    some("retention_until", Form::Day),
    some("legal_hold", Form::Flag),
    // Evidence.
    some("schema_version", Form::Small),
    some("gateway_version", Form::Text),
    some("config_digest", Form::Digest),
    some("intent_ts", Form::Time),
    some("wal_ack_ts", Form::Time),
    some("commit_ts", Form::Time),
    some("leaf_index", Form::Whole),
    some("leaf_hash", Form::Digest),
    some("attributes_json", Form::Text),
    // Transfer and rules.
    some("target_id", Form::Text),
    some("legal_basis", Form::Text),
    some("mechanism", Form::Text),
    some("provider_hq", Form::Text),
    some("ultimate_parent_hq", Form::Text),
    some("subject_regions", Form::Texts),
    some("decision_digest", Form::Text),
    some("policy_titles", Form::Texts),
    some("policy_citations", Form::Texts),
    // Partition.
    some("call_date", Form::Day),
];

/// One row per attempt at an upstream.
pub const ATTEMPTS: &[Column] = &[
    each("seq", Form::Whole),
    each("ts", Form::Time),
    each("tenant_id", Form::Text),
    each("call_id", Form::Text),
    each("node_id", Form::Text),
    some("attempt", Form::Small),
    some("target_id", Form::Text),
    some("provider_name", Form::Text),
    some("region", Form::Text),
    some("started_ts", Form::Time),
    some("ended_ts", Form::Time),
    some("http_status", Form::Small),
    some("error_type", Form::Text),
    some("input_tokens", Form::Whole),
    some("output_tokens", Form::Whole),
    some("side", Form::Text),
    some("request_bytes", Form::Whole),
    some("response_bytes", Form::Whole),
    some("ttft_us", Form::Whole),
    some("legal_basis", Form::Text),
    some("mechanism", Form::Text),
    some("provider_hq", Form::Text),
    some("ultimate_parent_hq", Form::Text),
    some("subject_regions", Form::Texts),
    some("pii_types", Form::Texts),
    some("decision_digest", Form::Text),
    some("policy_ids", Form::Texts),
    some("policy_titles", Form::Texts),
    some("policy_citations", Form::Texts),
    some("upstream_request_id", Form::Text),
];

/// One row per decision: its digest and policy set name it.
pub const DECISIONS: &[Column] = &[
    each("seq", Form::Whole),
    each("ts", Form::Time),
    some("tenant_id", Form::Text),
    each("node_id", Form::Text),
    some("digest", Form::Text),
    some("policy_set_version", Form::Text),
    some("effect", Form::Text),
    some("facts_json", Form::Text),
    some("decision_json", Form::Text),
];
