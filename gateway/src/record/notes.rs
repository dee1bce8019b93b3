//! What is known of one call so far, and the events written from it. No I/O.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    catalog::Upstream,
    identity::{Caller, attributes::Country},
    policy::{Decided, Effect, LogBody, Outbound, Permit, Permitted, Rule},
    record::{body::Body, entry::AttemptEnd},
    wire::{Shape, openai_chat::AnswerFacts},
};

/// The growing notes of one call. Fields are set by the entry as the stages pass.
#[derive(Debug)]
pub(crate) struct Notes {
    pub(crate) caller: Arc<Caller>,
    pub(crate) tenant: Arc<str>,
    pub(crate) began_at: SystemTime,
    pub(crate) began: Instant,
    pub(crate) route: Option<String>,
    pub(crate) request_model: Option<String>,
    pub(crate) stream: Option<bool>,
    pub(crate) shape: Shape,
    pub(crate) purpose: Option<String>,
    pub(crate) request_bytes: u64,
    pub(crate) request_digest: Option<String>,
    pub(crate) found: Found,
    pub(crate) decided: Option<Arc<Decided>>,
    pub(crate) effect: Option<Effect>,
    pub(crate) deny_code: Option<String>,
    pub(crate) refused_by: Vec<Rule>,
    pub(crate) missing: Vec<String>,
    pub(crate) log_body: Option<LogBody>,
    pub(crate) label_ai: bool,
    pub(crate) first_target: Option<String>,
    pub(crate) chosen: Option<Permitted>,
    pub(crate) attempts: u16,
    pub(crate) intent_at: Option<SystemTime>,
    pub(crate) ttft: Option<Duration>,
    pub(crate) redacted_spans: u32,
    pub(crate) answer: AnswerNotes,
    pub(crate) upstream_time: Duration,
}

/// The findings, as far as the record tells of them: kinds, never values.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) kinds: Vec<String>,
    pub(crate) count: Option<u64>,
    pub(crate) class: Option<String>,
    pub(crate) subject_regions: Vec<String>,
}

/// What the upstream's answer told.
#[derive(Debug, Default)]
pub(crate) struct AnswerNotes {
    pub(crate) facts: AnswerFacts,
    pub(crate) bytes: u64,
    pub(crate) events: u64,
    pub(crate) dropped_events: u64,
}

/// One running attempt.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) number: u16,
    pub(crate) target: Permitted,
    pub(crate) started_at: SystemTime,
    pub(crate) started: Instant,
    pub(crate) outbound_bytes: u64,
    /// The status of its good head, once that is here.
    pub(crate) http_status: Option<u16>,
    /// By which id the upstream knows the request.
    pub(crate) upstream_request_id: Option<String>,
}

impl Notes {
    pub(crate) fn new(
        caller: Arc<Caller>,
        tenant: Arc<str>,
        began_at: SystemTime,
        began: Instant,
    ) -> Self {
        Self {
            caller,
            tenant,
            began_at,
            began,
            route: None,
            request_model: None,
            stream: None,
            shape: Shape::default(),
            purpose: None,
            request_bytes: 0,
            request_digest: None,
            found: Found::default(),
            decided: None,
            effect: None,
            deny_code: None,
            refused_by: Vec::new(),
            missing: Vec::new(),
            log_body: None,
            label_ai: false,
            first_target: None,
            chosen: None,
            attempts: 0,
            intent_at: None,
            ttft: None,
            redacted_spans: 0,
            answer: AnswerNotes::default(),
            upstream_time: Duration::ZERO,
        }
    }

    pub(crate) fn permitted(&mut self, permit: &Permit) {
        self.refused_by = permit.decided.refused_by.clone();
        self.missing = permit.decided.missing.clone();
        self.effect = Some(permit.decided.effect);
        self.decided = Some(Arc::clone(&permit.decided));
        self.log_body = Some(permit.duties.log_body);
        self.label_ai = permit.duties.label_ai;
    }

    /// The intent to send `outbound`, whose keyed hash is given, to `target`. Where the process
    /// dies behind it, the rows of attempt and call are made from nothing else: see `unknown`.
    pub(crate) fn intent(
        &self,
        target: &Permitted,
        outbound: &Outbound,
        outbound_hash: &str,
    ) -> Vec<u8> {
        let upstream = &target.upstream;
        let facts = upstream.facts();
        let mut body = Body::new();
        body.number("attempt", u64::from(self.attempts))
            .list("basis", target.basis.iter().map(|rule| rule.id.as_str()))
            .text("decision_digest", self.digest())
            .text("key_id", self.caller.key_id())
            .text("legal_basis", legal_basis(target).as_str())
            .text("mechanism", target.mechanism.as_deref())
            .number("outbound_bytes", outbound.bytes.len() as u64)
            .text("outbound_digest", outbound_hash)
            .list("pii_types", self.found.kinds.iter().map(String::as_str))
            .list("policy_citations", target.basis.iter().map(|rule| rule.citation.as_str()))
            .list("policy_titles", target.basis.iter().map(|rule| rule.title.as_str()))
            .text("provider_hq", code(facts.provider_headquarters.as_ref()))
            .text("provider_name", upstream.provider())
            .text("region", code(facts.region.as_ref()))
            .text("route_id", self.route.as_deref())
            .time("started_ts", SystemTime::now())
            .list("subject_regions", self.found.subject_regions.iter().map(String::as_str))
            .text("target_id", upstream.id().as_str())
            .text("ultimate_parent_hq", code(facts.ultimate_parent_headquarters.as_ref()))
            .raw("upstream", &judged(upstream));
        body.finish()
    }

    /// The end of `running`.
    pub(crate) fn attempt(&self, running: &Running, end: &AttemptEnd) -> Vec<u8> {
        let target = &running.target;
        let facts = target.upstream.facts();
        let usage = self.answer.facts.usage;
        let http_status = end.http_status.or(running.http_status);
        let mut body = Body::new();
        body.number("attempt", u64::from(running.number))
            .text("decision_digest", self.digest())
            .time("ended_ts", SystemTime::now())
            .text("error_type", end.error_type)
            .number("http_status", http_status.map(u64::from))
            .number("input_tokens", usage.map(|usage| usage.input_tokens))
            .text("legal_basis", legal_basis(target).as_str())
            .text("mechanism", target.mechanism.as_deref())
            .number("output_tokens", usage.map(|usage| usage.output_tokens))
            .list("pii_types", self.found.kinds.iter().map(String::as_str))
            .list("policy_citations", target.basis.iter().map(|rule| rule.citation.as_str()))
            .list("policy_ids", target.basis.iter().map(|rule| rule.id.as_str()))
            .list("policy_titles", target.basis.iter().map(|rule| rule.title.as_str()))
            .text("provider_hq", code(facts.provider_headquarters.as_ref()))
            .text("provider_name", target.upstream.provider())
            .text("region", code(facts.region.as_ref()))
            .number("request_bytes", end.request_bytes)
            .number("response_bytes", end.response_bytes)
            .text("side", end.side)
            .time("started_ts", running.started_at)
            .list("subject_regions", self.found.subject_regions.iter().map(String::as_str))
            .text("target_id", target.upstream.id().as_str())
            .number("ttft_us", self.ttft.map(micros))
            .text("ultimate_parent_hq", code(facts.ultimate_parent_headquarters.as_ref()))
            .text("upstream_request_id", running.upstream_request_id.as_deref());
        body.finish()
    }

    /// The outcome: a row of `calls` is a projection of this body and its envelope.
    pub(crate) fn outcome(&self, outcome: &'static str, end: &End) -> Vec<u8> {
        let mut body = Body::new();
        self.outcome_a_to_m(&mut body, end);
        self.outcome_o_to_u(&mut body, outcome);
        body.finish()
    }

    fn outcome_a_to_m(&self, body: &mut Body, end: &End) {
        let usage = self.answer.facts.usage;
        let basis = self.chosen.iter().flat_map(|target| &*target.basis);
        let total = self.began.elapsed();
        body.text("api_format", "openai.chat")
            .text("app_id", self.caller.request().app.as_deref())
            .number("attempts", u64::from(self.attempts))
            .text("auth_method", "apikey")
            .list("basis_citations", basis.clone().map(|rule| rule.citation.as_str()))
            .list("basis_titles", basis.map(|rule| rule.title.as_str()))
            .number("cache_read_input_tokens", usage.and_then(|u| u.cache_read_input_tokens))
            .text("cache_status", "bypass")
            .number("choice_count", self.shape.choice_count.map(u64::from))
            .number("chunks", (self.answer.events > 0).then_some(self.answer.events))
            .text("data_class", self.found.class.as_deref())
            .text("decision", self.effect.map(Effect::name))
            .text("decision_digest", self.digest())
            .text("deny_reason", self.deny_code.as_deref())
            .number(
                "dropped_events",
                (self.answer.dropped_events > 0).then_some(self.answer.dropped_events),
            )
            .number("duration_us", micros(total))
            .text("endpoint", "/v1/chat/completions")
            .text("error_type", end.error_type)
            .text("fallback_from", self.fallback_from())
            .number("findings_count", self.found.count)
            .list("finish_reasons", self.answer.facts.finish_reasons.values().map(String::as_str))
            .number("gateway_overhead_us", micros(total.saturating_sub(self.upstream_time)))
            .number("http_status", end.http_status.map(u64::from))
            .number("input_tokens", usage.map(|usage| usage.input_tokens))
            .time("intent_ts", self.intent_at)
            .text("key_id", self.caller.key_id())
            .text("legal_basis", self.chosen.as_ref().map(legal_basis).as_deref())
            .number("max_tokens", self.shape.max_tokens)
            .text("mechanism", self.chosen.as_ref().and_then(|target| target.mechanism.as_deref()))
            .list("missing", self.missing.iter().map(String::as_str));
    }

    fn outcome_o_to_u(&self, body: &mut Body, outcome: &'static str) {
        let usage = self.answer.facts.usage;
        let upstream = self.chosen.as_ref().map(|target| &target.upstream);
        let facts = upstream.map(|upstream| upstream.facts());
        let rules = &self.refused_by;
        let retention = self.decided.as_ref().map(|decided| decided.retention).unwrap_or_default();
        body.text("operation_name", "chat")
            .text("outcome", outcome)
            .number("output_tokens", usage.map(|usage| usage.output_tokens))
            .text("payload_mode", self.log_body.map(payload_mode))
            .list("pii_types", self.found.kinds.iter().map(String::as_str))
            .list("policy_citations", rules.iter().map(|rule| rule.citation.as_str()))
            .list("policy_ids", rules.iter().map(|rule| rule.id.as_str()))
            .text("policy_set_version", self.decided.as_ref().map(|d| d.revision.as_str()))
            .list("policy_titles", rules.iter().map(|rule| rule.title.as_str()))
            .text("provider_hq", facts.and_then(|f| code(f.provider_headquarters.as_ref())))
            .text("provider_name", upstream.map(|upstream| upstream.provider()))
            .text("purpose", self.purpose.as_deref())
            .number("reasoning_output_tokens", usage.and_then(|u| u.reasoning_output_tokens))
            .number("redacted_spans", self.decided.as_ref().map(|_| u64::from(self.redacted_spans)))
            .text("region", facts.and_then(|facts| code(facts.region.as_ref())))
            .number("request_bytes", self.request_bytes)
            .text("request_digest", self.request_digest.as_deref())
            .text("request_model", self.request_model.as_deref())
            .number("response_bytes", self.answer.bytes)
            .text("response_id", self.answer.facts.id.as_deref())
            .text("response_model", self.answer.facts.model.as_deref())
            .number("retain_body_days", retention.body)
            .number("retain_decision_days", retention.decision)
            .text("route_id", self.route.as_deref())
            .text("seed", self.shape.seed.map(|seed| seed.to_string()).as_deref())
            .flag("stream", self.stream)
            .list("subject_regions", self.found.subject_regions.iter().map(String::as_str))
            .text("target_id", upstream.map(|upstream| upstream.id().as_str()))
            .real("temperature", self.shape.temperature)
            .text("token_source", usage.map(|_| "provider"))
            .list("tools_offered", self.shape.tools_offered.iter().map(String::as_str))
            .real("top_p", self.shape.top_p)
            .time("ts", self.began_at)
            .number("ttft_us", self.ttft.map(micros))
            .text(
                "ultimate_parent_hq",
                facts.and_then(|f| code(f.ultimate_parent_headquarters.as_ref())),
            )
            .number("upstream_us", (self.attempts > 0).then(|| micros(self.upstream_time)))
            .list("warnings", self.decided.iter().flat_map(|d| &d.warnings).map(String::as_str));
    }

    fn digest(&self) -> Option<&str> {
        self.decided.as_ref().map(|decided| decided.digest.as_str())
    }

    /// The route's first target, where another one answered.
    pub(crate) fn fallback_from(&self) -> Option<&str> {
        let chosen = self.chosen.as_ref()?.upstream.id().as_str();
        self.first_target.as_deref().filter(|first| *first != chosen)
    }
}

/// How a call ended, for its outcome.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct End {
    pub(crate) http_status: Option<u16>,
    pub(crate) error_type: Option<&'static str>,
}

/// The word of `calls.payload_mode`.
fn payload_mode(log_body: LogBody) -> &'static str {
    match log_body {
        LogBody::None => "none",
        LogBody::Hash => "hash",
    }
}

/// The rules a target is allowed on, as one text to group by.
fn legal_basis(target: &Permitted) -> String {
    let ids: Vec<&str> = target.basis.iter().map(|rule| rule.id.as_str()).collect();
    ids.join(", ")
}

fn code(country: Option<&Country>) -> Option<&str> {
    country.map(Country::as_str)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The facts about an upstream that the policy judged, in short; the decision holds them whole.
fn judged(upstream: &Upstream) -> Vec<u8> {
    let facts = upstream.facts();
    let mut body = Body::new();
    body.text("as_of", facts.as_of.as_deref())
        .text("model", upstream.model())
        .text("provider_hq", code(facts.provider_headquarters.as_ref()))
        .text("region", code(facts.region.as_ref()))
        .text("ultimate_parent_hq", code(facts.ultimate_parent_headquarters.as_ref()));
    body.finish()
}
