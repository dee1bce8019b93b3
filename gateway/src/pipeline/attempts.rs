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
    providers::{Attempt, Cause, Deadline, Failure, Side, Terms, openai::ErrorKind},
    record::{AttemptEnd, Clearance, Entry},
    route::{Next, Plan, Trouble, Turn},
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
        let mut decisions_again = 0;
        let mut last = Refusal::NoEligibleUpstream;
        loop {
            if !permit.serves(SystemTime::now()) {
                decisions_again += 1;
                if decisions_again > DECISIONS_AGAIN_MAX {
                    return Err(last);
                }
                permit = self.decide(entry, judged).await?;
                plan.renew(&permit);
            }
            let Some(turn) = plan.turn() else { return Err(last) };
            let failure = match self.attempt(entry, judged, (&permit, &turn), began).await? {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let trouble = trouble(&failure);
            last = Refusal::upstream(failure, turn.target.upstream());
            match plan.next(trouble, remaining(judged.route, began), rand::random()) {
                Next::Try { after } => tokio::time::sleep(after).await,
                Next::Stop => return Err(last),
            }
        }
    }

    /// One attempt, from the bytes to the first token. The outer error refuses the call; the
    /// inner one only this attempt.
    async fn attempt(
        &self,
        entry: &mut Entry,
        judged: &Judged<'_>,
        (permit, turn): (&Permit, &Turn),
        began: Instant,
    ) -> Result<Result<Answer, Failure>, Refusal> {
        let (target, stream) = (&turn.target, judged.call.stream());
        let outbound =
            self.outbound(permit, target, judged).await.map_err(|denial| deny(entry, denial))?;
        let clearance = entry.clear(target, outbound, stream).await.map_err(|fault| {
            tracing::error!(call.id = %entry.call_id(), "no intent, no call: {fault}");
            Refusal::AuditUnavailable
        })?;
        let deadlines = effective(&judged.route.deadlines, stream);
        let opening = Opening::of(judged.call, deadlines, began, &self.parts.room);
        let started = Instant::now();
        let terms = Terms { deadlines, began, started, connection: turn.connection };
        let opened = match self.ask(entry, clearance, &terms).await {
            Ok(attempt) => opening.open(attempt, entry, started).await,
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

    /// Asks, and notes by which id the upstream knows the request.
    async fn ask(
        &self,
        entry: &mut Entry,
        clearance: Clearance,
        terms: &Terms,
    ) -> Result<Attempt, Failure> {
        let asked = self.parts.providers.attempt(clearance, terms).await;
        entry.known_upstream_as(match &asked {
            Ok(attempt) => attempt.request_id(),
            Err(failure) => failure.request_id.as_deref(),
        });
        asked
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
        Cause::Connect
        | Cause::Tls
        | Cause::Timeout(Deadline::Connect)
        | Cause::LocalUnavailable => Trouble::Unreached { again: false },
        Cause::Stale => Trouble::Stale,
        Cause::ClosedBeforeHead => Trouble::Unreached { again: true },
        // Another upstream's answer would need room as well.
        Cause::Timeout(Deadline::Total) | Cause::NoRoom => Trouble::Final,
        Cause::Timeout(Deadline::FirstToken | Deadline::Gap) => Trouble::Silent,
        Cause::BrokenBody | Cause::Protocol | Cause::TooLarge => Trouble::Broken,
        Cause::LocalBusy => Trouble::Account,
        Cause::Status => status_trouble(failure, retry_after),
    }
}

fn status_trouble(failure: &Failure, retry_after: Option<Duration>) -> Trouble {
    match (failure.status, failure.kind) {
        (_, ErrorKind::ContextLength) => Trouble::ContextLength,
        (_, ErrorKind::ContentFilter) => Trouble::Final,
        (_, ErrorKind::Quota) => Trouble::Account,
        (Some(429), _) => Trouble::RateLimited { retry_after },
        (Some(503 | 529), _) => Trouble::Unavailable { retry_after },
        (Some(500 | 502 | 504 | 408 | 409 | 425), _) => Trouble::Failed,
        (Some(400 | 413 | 415 | 422), _) => Trouble::Final,
        (_, ErrorKind::RateLimit) => Trouble::RateLimited { retry_after },
        (_, ErrorKind::Other) => Trouble::Account,
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
            request_bytes: failure.traffic.request_bytes,
            response_bytes: failure.traffic.response_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::Traffic;

    fn failed(cause: Cause) -> Failure {
        Failure::new(Side::Upstream, cause, Traffic::default())
    }

    #[test]
    fn each_cause_means_one_trouble() {
        let unreached = Trouble::Unreached { again: false };
        for (cause, expected) in [
            (Cause::Connect, unreached),
            (Cause::Tls, unreached),
            (Cause::Timeout(Deadline::Connect), unreached),
            (Cause::LocalUnavailable, unreached),
            (Cause::Stale, Trouble::Stale),
            (Cause::ClosedBeforeHead, Trouble::Unreached { again: true }),
            (Cause::Timeout(Deadline::FirstToken), Trouble::Silent),
            (Cause::Timeout(Deadline::Gap), Trouble::Silent),
            (Cause::Timeout(Deadline::Total), Trouble::Final),
            (Cause::BrokenBody, Trouble::Broken),
            (Cause::Protocol, Trouble::Broken),
            (Cause::TooLarge, Trouble::Broken),
            (Cause::LocalBusy, Trouble::Account),
        ] {
            assert_eq!(trouble(&failed(cause.clone())), expected, "{cause:?}");
        }
    }

    #[test]
    fn a_status_means_what_it_and_its_error_say() {
        let wait = Some(Duration::from_secs(3));
        let limited = Trouble::RateLimited { retry_after: wait };
        let unavailable = Trouble::Unavailable { retry_after: wait };
        for (status, kind, expected) in [
            (Some(429), ErrorKind::RateLimit, limited),
            (Some(429), ErrorKind::Quota, Trouble::Account),
            (None, ErrorKind::RateLimit, limited),
            (Some(503), ErrorKind::Other, unavailable),
            (Some(529), ErrorKind::Other, unavailable),
            (Some(500), ErrorKind::Other, Trouble::Failed),
            (Some(502), ErrorKind::Other, Trouble::Failed),
            (Some(504), ErrorKind::Other, Trouble::Failed),
            (Some(408), ErrorKind::Other, Trouble::Failed),
            (Some(400), ErrorKind::Other, Trouble::Final),
            (Some(400), ErrorKind::ContextLength, Trouble::ContextLength),
            (None, ErrorKind::ContextLength, Trouble::ContextLength),
            (Some(400), ErrorKind::ContentFilter, Trouble::Final),
            (Some(403), ErrorKind::ContentFilter, Trouble::Final),
            (None, ErrorKind::ContentFilter, Trouble::Final),
            (Some(413), ErrorKind::Other, Trouble::Final),
            (Some(422), ErrorKind::Other, Trouble::Final),
            (Some(401), ErrorKind::Other, Trouble::Account),
            (Some(402), ErrorKind::Quota, Trouble::Account),
            (Some(403), ErrorKind::Other, Trouble::Account),
            (Some(404), ErrorKind::Other, Trouble::Account),
            (Some(302), ErrorKind::Other, Trouble::Account),
        ] {
            let failure = Failure { status, kind, retry_after: wait, ..failed(Cause::Status) };
            assert_eq!(trouble(&failure), expected, "{status:?} {kind:?}");
        }
    }
}
