//! One call's entry in the ledger: opened when the caller is proven, closed exactly once.
//!
//! An entry that is dropped unclosed closes itself: `cancelled` when the client left,
//! `interrupted` when the drain or the upstream cut it, `error` when we panicked.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use cordon_ledger::{Draft, Kind, Place, Receipt};

use crate::{
    classify::Findings,
    policy::{Denial, Effect, LogBody, Outbound, Permit, Permitted, Rule},
    record::{
        CallId, Clearance, Mode, RecordError,
        body::Body,
        metrics::{AttemptLabels, CallLabels, OperationLabels},
        notes::{AnswerNotes, End, Found, Notes, Running},
        recorder::{Shared, decision_body},
    },
    wire::{Call, openai_chat::AnswerFacts},
};

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Ok,
    Denied,
    Error,
    Cancelled,
    Interrupted,
}

impl Outcome {
    /// The word in `calls.outcome`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub struct AttemptEnd {
    /// `None`: it ended well.
    pub error_type: Option<&'static str>,
    pub side: Option<&'static str>,
    /// `None`: the status that was noted, if there was one.
    pub http_status: Option<u16>,
    /// Bytes that were handed to the connection; 0: nothing has left.
    pub request_bytes: u64,
    pub response_bytes: u64,
}

/// The record of one call while it runs.
#[derive(Debug)]
pub struct Entry {
    shared: Arc<Shared>,
    place: Option<Place>,
    call_id: CallId,
    notes: Box<Notes>,
    running: Option<Running>,
    left: Outcome,
    /// The status of a reply that goes out before the outcome is known.
    replied: Option<u16>,
}

impl Entry {
    pub(crate) fn new(shared: Arc<Shared>, place: Place, call_id: CallId, notes: Notes) -> Self {
        let notes = Box::new(notes);
        let left = Outcome::Cancelled;
        Self { shared, place: Some(place), call_id, notes, running: None, left, replied: None }
    }

    /// The call's id.
    pub fn call_id(&self) -> CallId {
        self.call_id
    }

    /// Attempts made so far.
    pub fn attempts(&self) -> u16 {
        self.notes.attempts
    }

    /// Notes what is asked.
    pub fn asked(&mut self, call: &Call, route: Option<&str>) {
        self.notes.request_model = route.map(str::to_owned);
        self.notes.route = route.map(str::to_owned);
        self.notes.stream = Some(call.stream());
        self.notes.shape = call.shape().clone();
    }

    /// Notes how long the body is.
    pub fn received(&mut self, body_bytes: usize) {
        self.notes.request_bytes = body_bytes as u64;
    }

    /// Notes the purpose, one of the key's.
    pub fn for_purpose(&mut self, purpose: Option<&str>) {
        self.notes.purpose = purpose.map(str::to_owned);
    }

    /// Notes which kinds of data were found.
    pub fn found(&mut self, findings: &Findings) {
        self.notes.found = Found {
            kinds: findings.kinds().to_vec(),
            count: Some(findings.count() as u64),
            class: Some(findings.class().to_owned()),
            subject_regions: findings
                .subject_regions()
                .iter()
                .map(|country| country.as_str().to_owned())
                .collect(),
        };
    }

    /// Notes the permit that serves this call, counts it, and tells whom it names.
    pub fn permitted(&mut self, permit: &Permit) {
        self.notes.permitted(permit);
        let rule = permit.decided.refused_by.first().map_or("none", |rule| rule.id.as_str());
        self.shared.metrics.decided(permit.decided.effect.name(), rule);
        // Rules that kept another target out are not why somebody is told of this call.
        self.notify(&permit.duties.notify, &[]);
    }

    /// Notes the refusal of this call, counts it, and tells whom it names.
    pub fn denied(&mut self, denial: &Denial) {
        self.notes.effect = Some(denial.effect);
        self.notes.deny_code = Some(denial.code.clone());
        self.notes.refused_by = denial.rules.clone();
        self.notes.missing = denial.missing.clone();
        self.notes.decided = denial.decided.clone().or(self.notes.decided.take());
        self.notes.log_body = Some(LogBody::None);
        self.shared.metrics.decided(denial.effect.name(), &denial.code);
        self.notify(&denial.notify, denial.refusing());
    }

    /// Notes the route's first target, from which an answer of another is a fallback.
    pub fn prefers(&mut self, target: &str) {
        self.notes.first_target = Some(target.to_owned());
    }

    /// Writes the intent to send `outbound` to `target` and waits until it is on disk. Only then
    /// is there a clearance.
    pub async fn clear(
        &mut self,
        target: &Permitted,
        outbound: Outbound,
        stream: bool,
    ) -> Result<Clearance, RecordError> {
        self.notes.attempts += 1;
        self.notes.chosen = Some(target.clone());
        self.notes.redacted_spans = outbound.redacted;
        let hash = self.shared.body_hash(&outbound.digest);
        let intent = self.notes.intent(target, &outbound, &hash);
        if self.notes.request_digest.is_none() {
            self.notes.request_digest = match self.notes.log_body {
                Some(LogBody::Hash) => Some(hash),
                Some(LogBody::None) | None => None,
            };
        }
        let receipt = self.append(Kind::Intent, intent)?;
        self.shared.in_time(receipt.durable()).await?;
        let now = SystemTime::now();
        self.notes.intent_at.get_or_insert(now);
        self.notes.ttft = None;
        self.running = Some(Running {
            number: self.notes.attempts,
            target: target.clone(),
            started_at: now,
            started: Instant::now(),
            outbound_bytes: outbound.bytes.len() as u64,
            http_status: None,
            upstream_request_id: None,
        });
        Ok(Clearance {
            call_id: self.call_id,
            attempt: self.notes.attempts,
            upstream: Arc::clone(&target.upstream),
            outbound,
            stream,
        })
    }

    /// The running attempt has a good head, of this status.
    pub fn answering(&mut self, http_status: u16) {
        if let Some(running) = &mut self.running {
            running.http_status = Some(http_status);
        }
    }

    /// Notes by which id the upstream knows the request of the running attempt.
    pub fn known_upstream_as(&mut self, request_id: Option<&str>) {
        if let Some(running) = &mut self.running {
            running.upstream_request_id = request_id.map(str::to_owned);
        }
    }

    /// The first token of the running attempt is here.
    pub fn first_token(&mut self) {
        let running = self.running.as_ref();
        self.notes.ttft = self.notes.ttft.or(running.map(|running| running.started.elapsed()));
    }

    /// Notes what the answer, or a further part of it, said about itself.
    pub fn answered(&mut self, facts: AnswerFacts) {
        self.notes.answer.facts.add(facts);
    }

    /// A reply of this status goes out now, and the outcome follows.
    pub fn replies(&mut self, http_status: u16) {
        self.replied = Some(http_status);
    }

    /// Counts bytes and events handed to the client.
    pub fn delivered(&mut self, bytes: usize, events: u64) {
        self.notes.answer.bytes += bytes as u64;
        self.notes.answer.events += events;
    }

    /// Counts events of the upstream that were no JSON and were left out.
    pub fn dropped_events(&mut self, count: u64) {
        self.notes.answer.dropped_events += count;
    }

    /// The running attempt has ended; there may be another one.
    pub fn attempt_ended(&mut self, end: AttemptEnd) {
        let Some(running) = self.running.take() else { return };
        self.notes.upstream_time += running.started.elapsed();
        self.count_attempt(&running, &end);
        let body = self.notes.attempt(&running, &end);
        if let Err(fault) = self.append(Kind::Attempt, body) {
            tracing::error!(call.id = %self.call_id, "the end of an attempt is not recorded: {fault}");
        }
    }

    fn count_attempt(&self, running: &Running, end: &AttemptEnd) {
        let metrics = &self.shared.metrics;
        let target = running.target.upstream.id().as_str().to_owned();
        let result = end.error_type.unwrap_or("ok");
        metrics.attempts.get_or_create(&AttemptLabels { target, result }).inc();
        let mut labels = OperationLabels {
            gen_ai_operation_name: "chat",
            gen_ai_provider_name: running.target.upstream.provider().to_owned(),
            gen_ai_request_model: running.target.upstream.model().to_owned(),
            gen_ai_token_type: None,
            error_type: end.error_type,
        };
        let seconds = running.started.elapsed().as_secs_f64();
        metrics.operation_duration.get_or_create(&labels).observe(seconds);
        let Some(usage) = self.notes.answer.facts.usage else { return };
        for (kind, tokens) in [("input", usage.input_tokens), ("output", usage.output_tokens)] {
            labels.gen_ai_token_type = Some(kind);
            #[expect(clippy::cast_precision_loss, reason = "a histogram takes rounded counts")]
            metrics.token_usage.get_or_create(&labels).observe(tokens as f64);
        }
    }

    /// Marks the entry so that dropping it means the gateway cut the call, not the client.
    pub fn interrupt(&mut self) {
        self.left = Outcome::Interrupted;
    }

    /// Closes the call and waits as long as the ledger's mode asks, so that the last bytes of
    /// the answer may go.
    pub async fn close(
        mut self,
        outcome: Outcome,
        http_status: u16,
        error_type: Option<&'static str>,
    ) -> Result<(), RecordError> {
        let end = End { http_status: Some(http_status), error_type };
        let Some(receipt) = self.finish(outcome, end) else { return Ok(()) };
        match self.shared.mode {
            Mode::Required => self.shared.in_time(receipt.written()).await,
            Mode::RequiredFull => self.shared.in_time(receipt.durable()).await,
        }
    }

    /// How a call ended that nobody closed: by our own fault, by the drain, or by its client.
    fn unclosed(&self) -> Outcome {
        if std::thread::panicking() {
            Outcome::Error
        } else if self.shared.is_interrupting() {
            Outcome::Interrupted
        } else {
            self.left
        }
    }

    /// Hands the outcome to the ledger; never waits. `None` where it was closed before.
    fn finish(&mut self, outcome: Outcome, end: End) -> Option<Receipt> {
        let place = self.place.take()?;
        if self.running.is_some() {
            self.attempt_ended(AttemptEnd {
                error_type: Some(outcome.name()),
                side: Some(if outcome == Outcome::Cancelled { "client" } else { "gateway" }),
                http_status: None,
                // Nobody counted: the whole request may have left.
                request_bytes: self.running.as_ref().map_or(0, |running| running.outbound_bytes),
                response_bytes: self.notes.answer.bytes,
            });
        }
        let route = self.notes.route.clone().unwrap_or_else(|| "none".to_owned());
        let labels = CallLabels { outcome: outcome.name(), route };
        self.shared.metrics.calls.get_or_create(&labels).inc();
        Some(place.close(self.draft(Kind::Outcome, self.notes.outcome(outcome.name(), &end))))
    }

    fn draft(&self, kind: Kind, body: Vec<u8>) -> Draft {
        Draft {
            kind,
            tenant: Some(Arc::clone(&self.notes.tenant)),
            call_id: Some(self.call_id.uuid()),
            body,
            decision: self.notes.decided.as_deref().map(decision_body),
        }
    }

    fn append(&self, kind: Kind, body: Vec<u8>) -> Result<Receipt, RecordError> {
        Ok(self.shared.ledger.append(self.draft(kind, body))?)
    }

    fn notify(&self, told: &[(String, String)], refusing: &[Rule]) {
        for (to, severity) in told {
            let rules: Vec<&str> = refusing.iter().map(|rule| rule.id.as_str()).collect();
            tracing::warn!(
                call.id = %self.call_id, to, severity, rules = rules.join(","),
                "policy asks to notify `{to}`"
            );
            let mut body = Body::new();
            body.list("rules", rules).text("severity", severity.as_str()).text("to", to.as_str());
            if let Err(fault) = self.append(Kind::Notify, body.finish()) {
                tracing::error!(call.id = %self.call_id, "a notification is not recorded: {fault}");
            }
        }
    }

    /// Whether the answer is to be labelled as made by a machine.
    pub fn labels_ai(&self) -> bool {
        self.notes.label_ai
    }

    /// What policy said of the call.
    pub fn decision(&self) -> Option<Effect> {
        self.notes.effect
    }

    /// The model that was asked for, where another one answers.
    pub fn requested_model(&self) -> Option<&str> {
        self.notes.fallback_from().and(self.notes.request_model.as_deref())
    }

    /// The target of the last attempt.
    pub fn target(&self) -> Option<&str> {
        self.notes.chosen.as_ref().map(|target| target.upstream.id().as_str())
    }

    /// Forgets what a failed attempt's answer told.
    pub fn forget_answer(&mut self) {
        self.notes.answer = AnswerNotes::default();
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let outcome = self.unclosed();
        let end = End { http_status: self.replied, error_type: Some(outcome.name()) };
        drop(self.finish(outcome, end));
    }
}
