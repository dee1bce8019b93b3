//! What goes back to the client; the listener only writes it.

use bytes::Bytes;

use crate::{
    pipeline::refusal::{Refusal, Told},
    policy::Effect,
    record::{CallId, Entry, recorder::RefusedReason},
    wire::openai_chat::{self, CordonFields, ErrorBody, RuleLine},
};

/// Status, headers and body of an answer or a refusal.
#[derive(Debug)]
pub struct Reply {
    pub head: ReplyHead,
    pub body: ReplyBody,
}

/// Status and everything that becomes a header.
#[derive(Debug, Clone)]
pub struct ReplyHead {
    pub status: u16,
    pub content_type: &'static str,
    pub call_id: CallId,
    /// `x-cordon-target`.
    pub target: Option<String>,
    /// `x-cordon-decision`.
    pub decision: Option<Effect>,
    /// `x-cordon-attempts`.
    pub attempts: u16,
    /// `x-cordon-requested-model`, on a substitution.
    pub requested_model: Option<String>,
    /// `retry-after`, whole seconds.
    pub retry_after_s: Option<u64>,
    /// `x-should-retry: false`, on a 503 that waiting cannot cure.
    pub never_retry: bool,
    /// `x-cordon-ai-generated: true`, where policy asks to label the answer.
    pub label_ai: bool,
    /// Headers of the upstream that may pass to the client.
    pub upstream_headers: Vec<(http::HeaderName, http::HeaderValue)>,
}

/// The body: whole, or a stream whose pieces are written and flushed one by one.
pub enum ReplyBody {
    Whole(Bytes),
    Stream(Box<dyn ReplyStream>),
}

impl std::fmt::Debug for ReplyBody {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Whole(_) => "Whole",
            Self::Stream(_) => "Stream",
        })
    }
}

/// A streamed answer. Dropping it early means that the client left: the attempt is cancelled
/// and the outcome recorded as `cancelled`.
#[async_trait::async_trait]
pub trait ReplyStream: Send {
    /// The next piece to write; `None` is the clean end. Errors have already become an event.
    async fn next(&mut self) -> Option<Bytes>;
    /// The gateway is draining and cuts this stream: the outcome becomes `interrupted`.
    fn interrupt(&mut self);
}

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFault {
    /// Over the inspection limit (413 `BODY_OVER_INSPECTION_LIMIT`).
    TooLarge,
    /// The buffered-bytes budget is spent (503, `Retry-After`).
    NoRoom,
    /// The client was too slow (400: SDKs would retry a 408).
    TooSlow,
    /// `Content-Encoding` (415).
    Encoded,
    /// Broken framing (400).
    Framing,
    /// The client left.
    Gone,
}

impl BodyFault {
    pub(crate) fn refusal(self) -> Refusal {
        match self {
            Self::TooLarge => Refusal::TooLarge,
            Self::NoRoom => Refusal::NoRoom,
            Self::TooSlow => Refusal::TooSlow,
            Self::Encoded => Refusal::Encoded,
            Self::Framing => Refusal::Framing,
            Self::Gone => Refusal::ClientGone,
        }
    }
}

/// Why a request never became a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TurnedAway {
    /// No such path, or another method (404 names what is supported).
    UnknownPath,
    /// Too many calls in flight (503, `Retry-After`).
    Overloaded,
    /// The gateway is draining (503, `Retry-After`).
    Draining,
    /// Bad framing of the head (400).
    Framing,
}

impl TurnedAway {
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            Self::UnknownPath => Refusal::UnknownPath,
            Self::Overloaded => Refusal::Overloaded,
            Self::Draining => Refusal::Draining,
            Self::Framing => Refusal::Framing,
        }
    }

    pub(crate) fn reason(&self) -> RefusedReason {
        match self {
            Self::UnknownPath => RefusedReason::UnknownPath,
            Self::Overloaded | Self::Draining => RefusedReason::Overloaded,
            Self::Framing => RefusedReason::Framing,
        }
    }
}

impl ReplyHead {
    pub(crate) fn new(status: u16, call_id: CallId) -> Self {
        Self {
            status,
            content_type: "application/json",
            call_id,
            target: None,
            decision: None,
            attempts: 0,
            requested_model: None,
            retry_after_s: None,
            never_retry: false,
            label_ai: false,
            upstream_headers: Vec::new(),
        }
    }

    /// The head of what `entry` tells.
    pub(crate) fn of(entry: &Entry, status: u16) -> Self {
        Self {
            target: entry.target().map(str::to_owned),
            decision: entry.decision(),
            label_ai: status == 200 && entry.labels_ai(),
            attempts: entry.attempts(),
            requested_model: entry.requested_model().map(str::to_owned),
            ..Self::new(status, entry.call_id())
        }
    }
}

impl Reply {
    pub(crate) fn whole(head: ReplyHead, body: Bytes) -> Self {
        Self { head, body: ReplyBody::Whole(body) }
    }
}

/// Closes the call with a refusal; the reply exists once the outcome is written.
pub(crate) async fn refused(entry: Entry, refusal: &Refusal) -> Reply {
    let told = refusal.told();
    let head = ReplyHead::of(&entry, told.status);
    let body = body_of(&told, refusal, &head);
    let cause = cause_word(refusal, &told);
    if let Err(fault) = entry.close(told.outcome, told.status, Some(cause)).await {
        tracing::error!(call.id = %head.call_id, "the outcome is not recorded: {fault}");
        return unrecorded(&Refusal::AuditUnavailable, head.call_id);
    }
    Reply::whole(with_retry(head, &told), body)
}

/// A refusal of what never became a call.
pub(crate) fn unrecorded(refusal: &Refusal, call_id: CallId) -> Reply {
    let told = refusal.told();
    let head = ReplyHead::new(told.status, call_id);
    let body = body_of(&told, refusal, &head);
    Reply::whole(with_retry(head, &told), body)
}

fn with_retry(head: ReplyHead, told: &Told) -> ReplyHead {
    ReplyHead { retry_after_s: told.retry_after_s, never_retry: told.never_retry, ..head }
}

/// `error_type` of the record: our own words, never the client's or the upstream's.
fn cause_word(refusal: &Refusal, told: &Told) -> &'static str {
    if let Refusal::Upstream(failure) = refusal { failure.cause.word() } else { told.kind }
}

fn body_of(told: &Told, refusal: &Refusal, head: &ReplyHead) -> Bytes {
    let call_id = head.call_id.to_string();
    let (effect, rules, missing) = if let Refusal::Denied(denial) = refusal {
        (Some(denial.effect.name()), denial.rules.as_slice(), denial.missing.as_slice())
    } else {
        (None, [].as_slice(), [].as_slice())
    };
    let rules: Vec<_> = rules
        .iter()
        .map(|rule| RuleLine { id: &rule.id, title: &rule.title, citation: &rule.citation })
        .collect();
    let error = ErrorBody {
        kind: told.kind,
        code: Some(&told.code),
        message: &told.message,
        param: told.param.as_deref(),
        cordon: CordonFields { call_id: &call_id, effect, rules: &rules, missing },
    };
    openai_chat::error_body(&error).into()
}
