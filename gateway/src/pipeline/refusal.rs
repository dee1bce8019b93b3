//! Everything a client can be refused with, and the one table that turns it into a status, a
//! type, a code and a text that says what to do.

use std::time::Duration;

use crate::{
    catalog::Upstream,
    identity::IdentityError,
    pipeline::upstream_error::UpstreamError,
    policy::{Denial, Effect, HostCode},
    providers::{Cause, ErrorKind, Failure, Side},
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
    WrongMethod {
        allow: &'static str,
    },
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
    /// The last attempt failed; made by [`Refusal::upstream`].
    Upstream {
        failure: Box<Failure>,
        said: UpstreamError,
    },
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
    pub allow: Option<&'static str>,
    pub outcome: Outcome,
}

/// Seconds after which a full gateway is worth another try.
const RETRY_SOON_S: u64 = 1;
/// How like a model's name one must be to be proposed: a mistyped one is, another model is not.
const LIKENESS_MIN: f64 = 0.5;

// === impl Told ===

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
            allow: None,
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
    fn limited(code: &str, message: &str) -> Self {
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

// === impl Refusal ===

impl Refusal {
    /// The failure of the last attempt, which was one at `upstream`.
    pub fn upstream(failure: Failure, upstream: &Upstream) -> Self {
        let said = UpstreamError::read(failure.body.as_ref(), upstream);
        Self::Upstream { failure: Box::new(failure), said }
    }

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
            Self::TooLarge => too_large(),
            Self::TooSlow => Told::invalid(400, "body_timeout", "the body did not arrive in time"),
            Self::Framing => Told::invalid(400, "bad_framing", "the request is not valid HTTP"),
            Self::UnknownPath => unknown_path(),
            Self::WrongMethod { allow } => Told {
                allow: Some(*allow),
                ..Told::invalid(405, "method_not_supported", format!("this path knows {allow}"))
            },
            Self::UnknownModel { asked, known } => unknown_model(asked, known),
            Self::KeyBusy => Told::limited(
                "calls_at_once",
                "this key has as many calls running as it may; wait for one to end",
            ),
            Self::KeyRefusedOften => Told::limited(
                "refused_per_second",
                "policy refused too many calls of this key within a second",
            ),
            Self::Overloaded => Told::overloaded("the gateway runs as many calls as it may"),
            Self::Draining => Told::overloaded("the gateway is stopping; ask another instance"),
            Self::NoRoom => Told::overloaded("the gateway buffers as many bytes as it may"),
            Self::ClientGone => client_gone(),
            Self::Denied(denial) => denied(denial),
            Self::AuditUnavailable => audit_unavailable(),
            Self::NoEligibleUpstream => no_eligible_upstream(),
            Self::Upstream { failure, said } => upstream(failure, said),
        }
    }
}

fn too_large() -> Told {
    Told::new(
        413,
        "request_too_large",
        HostCode::BodyOverInspectionLimit.name(),
        "the body is larger than this gateway inspects; send less",
    )
}

fn unknown_path() -> Told {
    Told::new(
        404,
        "not_found_error",
        "unknown_path",
        "no such path; this gateway answers POST /v1/chat/completions, GET /v1/models, \
         GET /healthz and GET /readyz",
    )
}

fn client_gone() -> Told {
    Told {
        outcome: Outcome::Cancelled,
        ..Told::invalid(400, "client_gone", "the client left before the body was complete")
    }
}

fn audit_unavailable() -> Told {
    Told::lasting(
        "audit_unavailable",
        HostCode::AuditUnavailable,
        "the ledger takes no records, so no call can be made; an operator must look",
    )
}

fn no_eligible_upstream() -> Told {
    Told::lasting(
        "policy_unavailable",
        HostCode::NoEligibleUpstream,
        "policy permits this call, but no permitted upstream can be tried",
    )
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
        (None, Effect::NeedsApproval) => (403, "approval_required"),
        (None, Effect::Allow | Effect::LocalOnly | Effect::Deny) => (403, "policy_denied"),
        (Some(host), _) => match host {
            HostCode::RedactionIncomplete | HostCode::ConflictLog | HostCode::ConflictRetention => {
                (403, "policy_denied")
            }
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
            | HostCode::UnknownObligation
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
fn upstream(failure: &Failure, said: &UpstreamError) -> Told {
    let mut told = match &failure.cause {
        Cause::Status => status(failure, said),
        Cause::NoRoom => return Refusal::NoRoom.told(),
        Cause::Timeout(_) => Told::new(
            504,
            "upstream_timeout",
            "upstream_timeout",
            "the model did not answer in time",
        ),
        Cause::LocalBusy => Told::overloaded("the local model is busy"),
        Cause::Connect
        | Cause::Tls
        | Cause::Stale
        | Cause::ClosedBeforeHead
        | Cause::BrokenBody
        | Cause::Protocol
        | Cause::TooLarge
        | Cause::LocalUnavailable => no_answer(failure),
    };
    if matches!(told.status, 429 | 503) {
        told.retry_after_s = failure.retry_after.map(whole_seconds).or(told.retry_after_s);
    }
    if failure.side == Side::Client {
        told.outcome = Outcome::Cancelled;
    }
    told
}

/// What an upstream said with a status, or in its body or stream after a good one.
fn status(failure: &Failure, said: &UpstreamError) -> Told {
    let message = said.message.as_str();
    let code = |ours| said.code.as_deref().unwrap_or(ours);
    match (failure.status, failure.kind) {
        (Some(400), _) | (_, ErrorKind::ContentFilter | ErrorKind::ContextLength) => Told {
            param: said.param.clone(),
            ..Told::invalid(400, code("upstream_refused"), message)
        },
        (Some(429), _) | (None, ErrorKind::RateLimit) => {
            Told::new(429, "rate_limit_error", code("upstream_rate_limit"), message)
        }
        // OpenAI's clients know no 529.
        (Some(503 | 529), _) => Told::new(503, "overloaded_error", "upstream_unavailable", message)
            .retry_after(RETRY_SOON_S),
        (_, ErrorKind::RateLimit | ErrorKind::Quota | ErrorKind::Other) => no_answer(failure),
    }
}

fn no_answer(failure: &Failure) -> Told {
    let message = format!("no permitted model answered ({})", failure.cause.word());
    Told::new(502, "upstream_error", "upstream_failed", message)
}

/// Rounded up, so that nobody comes back too early.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests;
