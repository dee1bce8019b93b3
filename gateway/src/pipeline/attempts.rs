//! Attempts in turn: the next permitted upstream, until one answers or none is left.
//!
//! Nothing has gone to the client while this runs, so every failure may still be mended.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    catalog::{Route, facts::Deadlines},
    pipeline::{
        Judged, Pipeline, Refusal,
        answer::{Answer, Opening},
        deny,
    },
    policy::{
        Permit, Permitted,
        duties::{self, Content},
    },
    providers::{Cause, Deadline, Failure, Side, openai::ErrorKind},
    record::{AttemptEnd, Entry},
    route::{Next, Plan, Trouble},
};

/// How often an aged permit is asked for again within one call.
const DECISIONS_AGAIN_MAX: u8 = 2;

impl Pipeline {
    /// Tries the permitted upstreams in the plan's order.
    pub(crate) async fn attempt_in_turn(
        &self,
        entry: &mut Entry,
        judged: &Judged<'_>,
        permit: Permit,
        began: Instant,
    ) -> Result<Answer, Refusal> {
        let mut permit = permit;
        let mut plan = Plan::new(&permit, |upstream| self.parts.providers.can_try(upstream));
        let mut target = plan.first().ok_or(Refusal::NoEligibleUpstream)?;
        let mut decisions_again = 0;
        loop {
            if !permit.serves(SystemTime::now()) {
                decisions_again += 1;
                if decisions_again > DECISIONS_AGAIN_MAX {
                    return Err(Refusal::NoEligibleUpstream);
                }
                permit = self.decide(entry, judged).await?;
                plan = plan.under(&permit);
                target = plan.current().ok_or(Refusal::NoEligibleUpstream)?;
            }
            let failure = match self.attempt(entry, judged, (&permit, &target), began).await? {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let trouble = trouble(&failure);
            let remaining = remaining(judged.route, began);
            match plan.next(trouble, remaining, rand::random()) {
                Next::Try { target: next, after } => {
                    tokio::time::sleep(after).await;
                    target = next;
                }
                Next::Stop => return Err(Refusal::Upstream(Box::new(failure))),
            }
        }
    }

    /// One attempt, from the bytes to the first token. The outer error refuses the call; the
    /// inner one only this attempt.
    async fn attempt(
        &self,
        entry: &mut Entry,
        judged: &Judged<'_>,
        (permit, target): (&Permit, &Permitted),
        began: Instant,
    ) -> Result<Result<Answer, Failure>, Refusal> {
        let stream = judged.call.stream();
        let outbound =
            self.outbound(permit, target, judged).await.map_err(|denial| deny(entry, denial))?;
        let clearance = entry.clear(target, outbound, stream).await.map_err(|fault| {
            tracing::error!(call.id = %entry.call_id(), "no intent, no call: {fault}");
            Refusal::AuditUnavailable
        })?;
        let deadlines = effective(&judged.route.deadlines, stream);
        let include_usage = judged.call.include_usage();
        let room = Arc::clone(&self.parts.room);
        let opening = Opening { deadlines, began, include_usage, room };
        let started = Instant::now();
        let opened = match self.parts.providers.attempt(clearance, &deadlines, started).await {
            Ok(attempt) => opening.open(attempt, entry, stream, started).await,
            Err(failure) => Err(failure),
        };
        Ok(opened.inspect_err(|failure| {
            tracing::info!(
                call.id = %entry.call_id(), upstream.id = target.upstream.id().as_str(),
                "an attempt failed: {}", failure.cause.word()
            );
            entry.attempt_ended(AttemptEnd::failed(failure));
            entry.forget_answer();
        }))
    }

    /// The bytes to send, redacted and scanned again where the permit asks for it.
    async fn outbound(
        &self,
        permit: &Permit,
        target: &Permitted,
        judged: &Judged<'_>,
    ) -> Result<crate::policy::Outbound, crate::policy::Denial> {
        let classifier = Arc::clone(&self.parts.classifier);
        let (permit, target) = (permit.clone(), target.clone());
        let (call, findings) = (Arc::clone(judged.call), Arc::clone(judged.findings));
        let large = call.body().len() > crate::pipeline::INLINE_BODY_BYTES_MAX;
        let work = move || {
            duties::outbound(
                &permit,
                &target,
                &Content { call: &call, findings: &findings },
                &classifier,
            )
        };
        if !large {
            return work();
        }
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_panic| {
            Err(crate::policy::Denial::host(crate::policy::HostCode::RedactionIncomplete))
        })
    }
}

/// The deadlines of one attempt: an answer that comes whole has no first token to wait for.
fn effective(route: &Deadlines, stream: bool) -> Deadlines {
    let first_token = if stream { route.first_token } else { route.answer };
    Deadlines { first_token, ..*route }
}

/// What is left of the call's total time, where it has one.
fn remaining(route: &Route, began: Instant) -> Option<Duration> {
    route.deadlines.total.map(|total| total.saturating_sub(began.elapsed()))
}

/// What a failure means for choosing the next upstream (the table of provider faults).
fn trouble(failure: &Failure) -> Trouble {
    let retry_after = failure.retry_after;
    match &failure.cause {
        Cause::Connect | Cause::Tls => Trouble::Unreached { again: false },
        Cause::ClosedBeforeHead => Trouble::Unreached { again: true },
        // Another upstream's answer would need room as well.
        Cause::Timeout(Deadline::Total) | Cause::NoRoom => Trouble::Refused,
        Cause::Timeout(Deadline::Connect) => Trouble::Unreached { again: false },
        Cause::Timeout(Deadline::FirstToken | Deadline::Gap) => Trouble::Silent,
        Cause::BrokenBody | Cause::Protocol | Cause::TooLarge => Trouble::Broken,
        Cause::LocalUnavailable => Trouble::Unreached { again: false },
        Cause::LocalBusy => Trouble::Account,
        Cause::Status => status_trouble(failure, retry_after),
    }
}

fn status_trouble(failure: &Failure, retry_after: Option<Duration>) -> Trouble {
    match (failure.status, failure.kind) {
        (_, ErrorKind::ContextLength) => Trouble::ContextLength,
        (_, ErrorKind::ContentFilter) => Trouble::Refused,
        (_, ErrorKind::Quota) => Trouble::Account,
        (Some(429), _) => Trouble::RateLimited { retry_after },
        (Some(503 | 529), _) => Trouble::Unavailable { retry_after },
        (Some(500 | 502 | 504 | 408 | 409 | 425), _) => Trouble::Failed,
        (Some(400 | 413 | 415 | 422), _) => Trouble::Refused,
        (_, ErrorKind::RateLimit | ErrorKind::Other) => Trouble::Account,
    }
}

impl AttemptEnd {
    /// The end of an attempt that failed.
    pub(crate) fn failed(failure: &Failure) -> Self {
        Self {
            error_type: Some(failure.cause.word()),
            side: Some(match failure.side {
                Side::Client => "client",
                Side::Gateway => "gateway",
                Side::Upstream => "upstream",
            }),
            http_status: failure.status,
            usage: None,
            request_bytes: failure.traffic.request_bytes,
            response_bytes: failure.traffic.response_bytes,
        }
    }
}
