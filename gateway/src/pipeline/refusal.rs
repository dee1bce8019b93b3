//! Everything a client can be refused with, and the one table that turns it into a status, a
//! type, a code and a text that says what to do.

use std::time::Duration;

use crate::{
    identity::IdentityError,
    pipeline::upstream_error::{self, UpstreamError},
    policy::{Denial, HostCode},
    providers::{Cause, Failure, Side},
    record::Outcome,
    wire::WireError,
};

/// Why a request gets no answer from a model.
#[derive(Debug)]
pub enum Refusal {
    Unproven(IdentityError),
    /// The key is good, but may not call models.
    NotACaller,
    Malformed(WireError),
    /// A header of ours that does not parse; the text names it.
    Declaration(String),
    Encoded,
    TooLarge,
    TooSlow,
    Framing,
    UnknownPath,
    UnknownModel {
        asked: String,
        known: Vec<String>,
    },
    KeyBusy,
    KeyRefusedOften,
    Overloaded,
    Draining,
    NoRoom,
    ClientGone,
    Denied(Denial),
    AuditUnavailable,
    NoEligibleUpstream,
    Upstream(Box<Failure>),
}

/// A refusal in the client's terms.
#[derive(Debug)]
pub struct Told {
    pub status: u16,
    /// OpenAI's `error.type`.
    pub kind: &'static str,
    pub code: String,
    pub message: String,
    pub param: Option<String>,
    pub retry_after_s: Option<u64>,
    /// A 503 that waiting cannot cure.
    pub never_retry: bool,
    pub outcome: Outcome,
}

/// Seconds after which a full gateway is worth another try.
const RETRY_SOON_S: u64 = 1;
/// How like a model's name one must be to be proposed: a mistyped one is, another model is not.
const LIKENESS_MIN: f64 = 0.5;

impl Told {
    fn new(status: u16, kind: &'static str, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code: code.to_owned(),
            message: message.into(),
            param: None,
            retry_after_s: None,
            never_retry: false,
            outcome: Outcome::Error,
        }
    }

    fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    fn invalid(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", code, message)
    }

    /// The key asks more than it may at once.
    fn too_many(code: &str, message: &str) -> Self {
        Self::new(429, "rate_limit_error", code, message).retry_after(RETRY_SOON_S)
    }

    /// A 503 that lasts until somebody looks.
    fn lasting(kind: &'static str, code: HostCode, message: &str) -> Self {
        Self { never_retry: true, ..Self::new(503, kind, code.name(), message) }
    }

    fn overloaded(message: &str) -> Self {
        Self::new(503, "overloaded_error", "overloaded", message).retry_after(RETRY_SOON_S)
    }
}

impl Refusal {
    /// What the client is told.
    pub fn told(&self) -> Told {
        match self {
            Self::Unproven(fault) => {
                Told::new(401, "authentication_error", "invalid_api_key", fault.to_string())
            }
            Self::NotACaller => Told::new(
                401,
                "authentication_error",
                "not_a_caller",
                "this key may not call models; ask for one with the role `caller`",
            ),
            Self::Malformed(fault) => malformed(fault),
            Self::Declaration(what) => Told::invalid(400, "invalid_header", what.as_str()),
            Self::Encoded => Told::invalid(
                415,
                "unsupported_content_encoding",
                "send the body without `Content-Encoding`: what cannot be read is not forwarded",
            ),
            Self::TooLarge => Told::new(
                413,
                "request_too_large",
                HostCode::BodyOverInspectionLimit.name(),
                "the body is larger than this gateway inspects; send less",
            ),
            Self::TooSlow => Told::invalid(400, "body_timeout", "the body did not arrive in time"),
            Self::Framing => Told::invalid(400, "bad_framing", "the request is not valid HTTP"),
            Self::UnknownPath => Told::new(
                404,
                "not_found_error",
                "unknown_path",
                "no such path; this gateway answers POST /v1/chat/completions, GET /v1/models, \
                 GET /healthz and GET /readyz",
            ),
            Self::UnknownModel { asked, known } => unknown_model(asked, known),
            Self::Denied(denial) => denied(denial),
            Self::Upstream(failure) => upstream(failure),
            Self::KeyBusy => Told::too_many(
                "calls_at_once",
                "this key has as many calls running as it may; wait for one to end",
            ),
            Self::KeyRefusedOften => Told::too_many(
                "refused_per_second",
                "policy refused too many calls of this key within a second",
            ),
            Self::Overloaded => Told::overloaded("the gateway runs as many calls as it may"),
            Self::Draining => Told::overloaded("the gateway is stopping; ask another instance"),
            Self::NoRoom => Told::overloaded("the gateway buffers as many bytes as it may"),
            Self::AuditUnavailable => Told::lasting(
                "audit_unavailable",
                HostCode::AuditUnavailable,
                "the ledger takes no records, so no call can be made; an operator must look",
            ),
            Self::NoEligibleUpstream => Told::lasting(
                "policy_unavailable",
                HostCode::NoEligibleUpstream,
                "policy permits this call, but no permitted upstream can be tried",
            ),
            Self::ClientGone => Told {
                outcome: Outcome::Cancelled,
                ..Told::invalid(400, "client_gone", "the client left before the body was complete")
            },
        }
    }
}

fn malformed(fault: &WireError) -> Told {
    let mut told = Told::invalid(400, "invalid_body", fault.to_string());
    if let WireError::Parameter { param, .. } = fault {
        told.param = Some((*param).to_owned());
    }
    told
}

fn unknown_model(asked: &str, known: &[String]) -> Told {
    let likeness = |name: &&String| strsim::normalized_damerau_levenshtein(name, asked);
    let nearest = known
        .iter()
        .max_by(|left, right| likeness(left).total_cmp(&likeness(right)))
        .filter(|name| likeness(name) >= LIKENESS_MIN)
        .map_or(String::new(), |name| format!("; did you mean `{name}`?"));
    let mut told = Told::new(
        404,
        "not_found_error",
        HostCode::UnknownRoute.name(),
        format!("no such model; this gateway knows {}{nearest}", known.join(", ")),
    );
    told.param = Some("model".to_owned());
    told
}

fn denied(denial: &Denial) -> Told {
    let (status, kind) = match (denial.host, denial.effect) {
        (None, crate::policy::Effect::NeedsApproval) => (403, "approval_required"),
        (None, _) => (403, "policy_denied"),
        (Some(host), _) => match host {
            HostCode::RedactionIncomplete
            | HostCode::ConflictLog
            | HostCode::ConflictRetention
            | HostCode::UnknownObligation => (403, "policy_denied"),
            HostCode::BodyOverInspectionLimit => (413, "request_too_large"),
            HostCode::UnknownRoute => (404, "not_found_error"),
            HostCode::AuditUnavailable => (503, "audit_unavailable"),
            HostCode::NoBundle
            | HostCode::BundleStale
            | HostCode::EngineError
            | HostCode::EngineTimeout
            | HostCode::Undefined
            | HostCode::EchoMismatch
            | HostCode::BadDecisionSchema
            | HostCode::NoEligibleUpstream => (503, "policy_unavailable"),
        },
    };
    let mut told = Told::new(status, kind, &denial.code, denial.message());
    told.outcome = Outcome::Denied;
    // The next try may be decided in time; the other faults of the host last until somebody looks.
    let passing = denial.host == Some(HostCode::EngineTimeout);
    told.never_retry = status == 503 && !passing;
    told.retry_after_s = passing.then_some(RETRY_SOON_S);
    told
}

/// The last upstream's own 400, 429 or 503; else 502, or 504 where a deadline passed.
fn upstream(failure: &Failure) -> Told {
    let UpstreamError { message, code, param } = upstream_error::read(failure);
    let wait = failure.retry_after.map(|wait: Duration| wait.as_secs().max(1));
    let mut told = match (&failure.cause, failure.status) {
        (Cause::LocalBusy, _) => Told::overloaded("the local model is busy"),
        (Cause::LocalUnavailable, _) => return Refusal::NoEligibleUpstream.told(),
        (Cause::Timeout(_), _) => Told::new(
            504,
            "upstream_timeout",
            "upstream_timeout",
            "the model did not answer in time",
        ),
        (_, Some(400)) => Told::invalid(400, "upstream_refused", message),
        (_, Some(429)) => Told::new(429, "rate_limit_error", "upstream_rate_limit", message),
        (_, Some(503)) => Told::new(503, "overloaded_error", "upstream_unavailable", message),
        (cause, _) => {
            let text = format!("no permitted model answered ({})", cause.word());
            Told::new(502, "upstream_error", "upstream_failed", text)
        }
    };
    if let (Some(code), 400 | 429) = (code, told.status) {
        told.code = code;
    }
    told.param = param.filter(|_| told.status == 400);
    told.retry_after_s = wait.filter(|_| matches!(told.status, 429 | 503)).or(told.retry_after_s);
    if failure.side == Side::Client {
        told.outcome = Outcome::Cancelled;
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
