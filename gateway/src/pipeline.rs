//! The order of things: one call from first byte to last, on one screen.
//!
//! Knows the order of the stages; not their inside, and not pingora.

use bytes::Bytes;

use crate::{policy::Effect, record::CallId};

/// What goes back to the client; the listener only writes it.
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

// The contract with the listener:
//
// impl Pipeline {
//     /// Proves the caller from the head and opens the record; the body is unread.
//     pub fn admit(&self, head: &http::request::Parts, format: Format, call_id: CallId)
//         -> Result<Admitted, Reply>;
//     /// Answers an admitted call whose body has been read.
//     pub async fn answer(&self, admitted: Admitted, body: Bytes) -> Reply;
//     /// Ends an admitted call whose body could not be read.
//     pub async fn refuse(&self, admitted: Admitted, fault: BodyFault) -> Reply;
//     /// `GET /v1/models` for a proven caller.
//     pub fn models(&self, head: &http::request::Parts, call_id: CallId) -> Reply;
//     /// What is refused before there is a call (unknown path, wrong method, overload).
//     pub fn turn_away(&self, why: TurnedAway, call_id: CallId) -> Reply;
// }
// Dropping an `Admitted` or the future of `answer` records `cancelled`.

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFault {
    /// Over the inspection limit (413 `BODY_OVER_INSPECTION_LIMIT`).
    TooLarge,
    /// The buffered-bytes budget is spent (503, `Retry-After`).
    NoRoom,
    /// The client was too slow (408 is never sent: 400).
    TooSlow,
    /// `Content-Encoding` (415).
    Encoded,
    /// Broken framing (400).
    Framing,
    /// The client left.
    Gone,
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
