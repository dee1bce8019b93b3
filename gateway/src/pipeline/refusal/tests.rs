//! The table, row by row: what each refusal is to a client and in the record.

use super::*;
use crate::providers::{Deadline, Traffic};

/// A refusal's row: status, type, code, seconds of `Retry-After`, whether retrying is no use.
type Row = (u16, &'static str, String, Option<u64>, bool);

fn row(told: &Told) -> Row {
    (told.status, told.kind, told.code.clone(), told.retry_after_s, told.never_retry)
}

fn said(code: Option<&str>) -> UpstreamError {
    UpstreamError {
        message: "the provider says no".to_owned(),
        code: code.map(str::to_owned),
        param: Some("messages".to_owned()),
    }
}

fn failure(cause: Cause) -> Failure {
    Failure::new(Side::Upstream, cause, Traffic::default())
}

fn told(failure: Failure, code: Option<&str>) -> Told {
    Refusal::Upstream { failure: Box::new(failure), said: said(code) }.told()
}

#[test]
fn what_we_refuse_has_one_status_type_code_and_advice() {
    let limit = "rate_limit_error";
    for (refusal, status, kind, code, retry, never, outcome) in [
        (Refusal::NotACaller, 401, "authentication_error", "not_a_caller", None, false, "error"),
        (
            Refusal::Encoded,
            415,
            "invalid_request_error",
            "unsupported_content_encoding",
            None,
            false,
            "error",
        ),
        (
            Refusal::TooLarge,
            413,
            "request_too_large",
            "BODY_OVER_INSPECTION_LIMIT",
            None,
            false,
            "error",
        ),
        (Refusal::TooSlow, 400, "invalid_request_error", "body_timeout", None, false, "error"),
        (Refusal::Framing, 400, "invalid_request_error", "bad_framing", None, false, "error"),
        (Refusal::UnknownPath, 404, "not_found_error", "unknown_path", None, false, "error"),
        (Refusal::KeyBusy, 429, limit, "calls_at_once", Some(1), false, "error"),
        (Refusal::KeyRefusedOften, 429, limit, "refused_per_second", Some(1), false, "error"),
        (Refusal::Overloaded, 503, "overloaded_error", "overloaded", Some(1), false, "error"),
        (Refusal::Draining, 503, "overloaded_error", "overloaded", Some(1), false, "error"),
        (Refusal::NoRoom, 503, "overloaded_error", "overloaded", Some(1), false, "error"),
        (
            Refusal::ClientGone,
            400,
            "invalid_request_error",
            "client_gone",
            None,
            false,
            "cancelled",
        ),
        (
            Refusal::AuditUnavailable,
            503,
            "audit_unavailable",
            "AUDIT_UNAVAILABLE",
            None,
            true,
            "error",
        ),
        (
            Refusal::NoEligibleUpstream,
            503,
            "policy_unavailable",
            "NO_ELIGIBLE_UPSTREAM",
            None,
            true,
            "error",
        ),
    ] {
        let told = refusal.told();
        assert_eq!(row(&told), (status, kind, code.to_owned(), retry, never), "{refusal:?}");
        assert_eq!(told.outcome.name(), outcome, "{refusal:?}");
    }
}

#[test]
fn a_denial_is_told_by_who_denied() {
    for (code, status, kind, retry, never) in [
        (HostCode::RedactionIncomplete, 403, "policy_denied", None, false),
        (HostCode::ConflictLog, 403, "policy_denied", None, false),
        (HostCode::UnknownObligation, 503, "policy_unavailable", None, true),
        (HostCode::EngineTimeout, 503, "policy_unavailable", Some(1), false),
        (HostCode::EngineError, 503, "policy_unavailable", None, true),
        (HostCode::NoBundle, 503, "policy_unavailable", None, true),
        (HostCode::NoEligibleUpstream, 503, "policy_unavailable", None, true),
    ] {
        let told = Refusal::Denied(Denial::host(code)).told();
        assert_eq!(row(&told), (status, kind, code.name().to_owned(), retry, never));
        assert_eq!(told.outcome, Outcome::Denied);
    }
    for (effect, kind) in
        [(Effect::Deny, "policy_denied"), (Effect::NeedsApproval, "approval_required")]
    {
        let denial = Denial { host: None, effect, ..Denial::host(HostCode::EngineError) };
        let told = Refusal::Denied(denial).told();
        assert_eq!((told.status, told.kind, told.never_retry), (403, kind, false));
    }
}

#[test]
fn an_upstreams_own_400_429_and_503_are_the_answer_and_all_else_is_502() {
    let status = |status| Failure { status: Some(status), ..failure(Cause::Status) };
    let of = |kind| Failure { kind, ..failure(Cause::Status) };
    let with = |status: u16, kind| Failure { status: Some(status), ..of(kind) };
    for (failure, wanted, kind, code) in [
        (status(400), 400, "invalid_request_error", "theirs"),
        (status(429), 429, "rate_limit_error", "theirs"),
        (status(503), 503, "overloaded_error", "upstream_unavailable"),
        (status(529), 503, "overloaded_error", "upstream_unavailable"),
        (status(401), 502, "upstream_error", "upstream_failed"),
        (status(403), 502, "upstream_error", "upstream_failed"),
        (status(500), 502, "upstream_error", "upstream_failed"),
        // Said in a stream or with a good status.
        (of(ErrorKind::ContentFilter), 400, "invalid_request_error", "theirs"),
        (of(ErrorKind::ContextLength), 400, "invalid_request_error", "theirs"),
        (of(ErrorKind::RateLimit), 429, "rate_limit_error", "theirs"),
        (of(ErrorKind::Quota), 502, "upstream_error", "upstream_failed"),
        (with(403, ErrorKind::ContentFilter), 400, "invalid_request_error", "theirs"),
        (with(413, ErrorKind::ContextLength), 400, "invalid_request_error", "theirs"),
    ] {
        let name = format!("{failure:?}");
        let told = told(failure, Some("theirs"));
        assert_eq!((told.status, told.kind, told.code.as_str()), (wanted, kind, code), "{name}");
        assert_eq!(told.param.is_some(), wanted == 400, "{name}");
        assert_eq!(told.message == "the provider says no", wanted != 502, "{name}");
        assert_eq!(told.outcome, Outcome::Error);
    }
}

#[test]
fn other_troubles_of_an_attempt_are_ours_to_name() {
    for (cause, status, code) in [
        (Cause::Timeout(Deadline::FirstToken), 504, "upstream_timeout"),
        (Cause::Timeout(Deadline::Total), 504, "upstream_timeout"),
        (Cause::Connect, 502, "upstream_failed"),
        (Cause::BrokenBody, 502, "upstream_failed"),
        (Cause::LocalUnavailable, 502, "upstream_failed"),
        (Cause::LocalBusy, 503, "overloaded"),
    ] {
        let word = cause.word();
        let told = told(failure(cause), Some("theirs"));
        assert_eq!((told.status, told.code.as_str()), (status, code), "{word}");
        assert!(!told.message.contains("provider"), "{word}: {}", told.message);
    }
}

#[test]
fn a_wait_is_rounded_up_and_only_told_where_waiting_helps() {
    for (status, wait_ms, seconds) in [
        (429, Some(1_500), Some(2)),
        (429, Some(2_000), Some(2)),
        (429, Some(0), Some(1)),
        (429, None, None),
        (503, Some(30_001), Some(31)),
        (503, None, Some(1)),
        (529, None, Some(1)),
        (400, Some(2_000), None),
        (500, Some(2_000), None),
    ] {
        let retry_after = wait_ms.map(Duration::from_millis);
        let failure = Failure { status: Some(status), retry_after, ..failure(Cause::Status) };
        assert_eq!(told(failure, None).retry_after_s, seconds, "{status} {wait_ms:?}");
    }
}

#[test]
fn a_model_that_was_mistyped_is_proposed_and_another_one_is_not() {
    let known = ["assistant", "local"].map(str::to_owned);
    for (asked, proposed) in
        [("asistant", Some("assistant")), ("locla", Some("local")), ("gpt-4o", None)]
    {
        let message = unknown_model(asked, &known).message;
        let found = message.split_once("did you mean ").map(|(_, name)| name);
        assert_eq!(found, proposed.map(|name| format!("`{name}`?")).as_deref(), "{asked}");
    }
}
