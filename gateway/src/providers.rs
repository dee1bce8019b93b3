//! One attempt at one upstream, remote or local.
//!
//! Takes a [`Clearance`] and nothing else; makes the [`Attempt`] or the [`Failure`], which says
//! on which side it arose. Knows one upstream's address, key and format; not why it was chosen.

pub mod address;
mod alarm;
pub mod executor;
pub mod head;
pub mod local;
pub mod openai;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use serde::Deserialize;

use crate::{
    catalog::{Address, Remote, Upstream, UpstreamId, facts::Deadlines},
    local::LocalModel,
    providers::{
        executor::{Connections, Exchange, Order},
        local::LocalAnswer,
    },
    quantity::{Size, Span},
    record::Clearance,
    route::Connection,
};

pub use crate::providers::openai::ErrorKind;

/// Bytes of an upstream's error that are read and kept.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// Limits of connections and answers.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The largest answer that is no event stream.
    pub answer_bytes_max: Size,
    /// Idle connections kept for each kind of trust: plain, the system's roots, each roots file.
    pub pool_connections_max: usize,
    /// How long an idle connection is kept; less than common servers wait, so that they rarely
    /// close what we are about to use.
    pub pool_idle: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            answer_bytes_max: Size(64 << 20),
            pool_connections_max: 256,
            pool_idle: Span(Duration::from_secs(50)),
        }
    }
}

/// On which side something went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    Client,
    Gateway,
    Upstream,
}

/// Which deadline ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Deadline {
    Connect,
    FirstToken,
    Gap,
    Total,
}

/// What went wrong with an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// No connection: refused, unreachable, no address, or a forbidden address.
    Connect,
    /// TLS failed: name, trust or protocol.
    Tls,
    /// A pooled connection was dead: it ended without a byte of response.
    Stale,
    /// The upstream ended the connection before the final head.
    ClosedBeforeHead,
    /// The stream or body broke off after the head.
    BrokenBody,
    /// The upstream's head or framing is not HTTP we accept.
    Protocol,
    /// A deadline passed.
    Timeout(Deadline),
    /// The final status was not 2xx (redirects included; they are never followed).
    Status,
    /// The answer was larger than its limit.
    TooLarge,
    /// The answer was larger than what we may hold besides all we hold already.
    NoRoom,
    /// The local model is not there.
    LocalUnavailable,
    /// The local model's queue is full.
    LocalBusy,
}

/// How one attempt is made.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    pub deadlines: Deadlines,
    /// When the call's attempts began: the time for all of them counts from here.
    pub began: Instant,
    /// When this attempt began: the wait for its first token counts from here.
    pub started: Instant,
    pub connection: Connection,
}

/// What an attempt has moved, for the record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of head and body that were handed to the connection.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
}

/// An attempt that did not end well. Texts of bodies never show in `Debug` or logs.
pub struct Failure {
    pub side: Side,
    pub cause: Cause,
    /// The upstream's status, where there was a final head.
    pub status: Option<u16>,
    /// The upstream's `Retry-After` (seconds or date), as a wait from now.
    pub retry_after: Option<Duration>,
    /// The upstream's error body, at most 64 KiB of it, already read.
    pub body: Option<Bytes>,
    /// What that error means for another try.
    pub kind: ErrorKind,
    /// The upstream's own id of the request.
    pub request_id: Option<String>,
    pub traffic: Box<Traffic>,
}

/// Until when a wait lasts, and what is to blame when it does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Until {
    pub(crate) at: tokio::time::Instant,
    pub(crate) name: Deadline,
}

/// Why upstreams cannot be reached as configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProvidersError {
    #[error("the system's trust roots cannot be read; set `trust_roots` for upstreams with TLS")]
    SystemRoots,
    #[error("`{}` holds no usable trust roots; it must be a PEM file of certificates", path.display())]
    Roots { path: PathBuf },
    #[error("`{host}` {what}")]
    Connect { host: String, what: String },
}

/// Every way out of the house: connections to providers, and the local model.
#[derive(Debug)]
pub struct Providers {
    connections: Connections,
    local: Option<LocalModel>,
    settings: Settings,
}

/// An answer that has begun. Dropping it before its end closes its connection, which is never
/// pooled then, or cancels the local model's work.
#[derive(Debug)]
pub struct Attempt {
    upstream: Arc<Upstream>,
    status: u16,
    event_stream: bool,
    request_id: Option<String>,
    traffic: Traffic,
    /// What the body may still hold; `None` for streams.
    room_bytes: Option<u64>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Remote(Box<Exchange>),
    Local(Box<LocalAnswer>),
}

// === impl Cause ===

impl Cause {
    /// The word that record and logs use.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Stale => "stale_connection",
            Self::ClosedBeforeHead => "closed_before_head",
            Self::BrokenBody => "broken_body",
            Self::Protocol => "protocol",
            Self::Timeout(Deadline::Connect) => "timeout_connect",
            Self::Timeout(Deadline::FirstToken) => "timeout_first_token",
            Self::Timeout(Deadline::Gap) => "timeout_gap",
            Self::Timeout(Deadline::Total) => "timeout_total",
            Self::Status => "status",
            Self::TooLarge => "too_large",
            Self::NoRoom => "no_room",
            Self::LocalUnavailable => "local_unavailable",
            Self::LocalBusy => "local_busy",
        }
    }
}

// === impl Failure ===

impl Failure {
    /// A fault of the upstream that was found behind this module: in its events, in its JSON.
    pub fn upstream(cause: Cause) -> Self {
        Self::new(Side::Upstream, cause, Traffic::default())
    }

    /// An error that the upstream sent as an event of its stream, after a good head. It counts as
    /// a refusal where it says what it is, else as a stream that broke.
    pub fn in_stream(event: Bytes) -> Self {
        let status = openai::status(&event);
        let kind = openai::classify(status.unwrap_or(400), &event);
        let told = status.is_some() || kind != ErrorKind::Other;
        let cause = if told { Cause::Status } else { Cause::BrokenBody };
        Self { status, kind, body: Some(event), ..Self::upstream(cause) }
    }

    /// A failure without an answer of the upstream.
    pub(crate) fn new(side: Side, cause: Cause, traffic: Traffic) -> Self {
        Self {
            side,
            cause,
            status: None,
            retry_after: None,
            body: None,
            kind: ErrorKind::Other,
            request_id: None,
            traffic: Box::new(traffic),
        }
    }
}

impl std::fmt::Debug for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Failure")
            .field("side", &self.side)
            .field("cause", &self.cause)
            .field("status", &self.status)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

// === impl Until ===

impl Until {
    pub(crate) fn new(at: Instant, name: Deadline) -> Self {
        Self { at: at.into(), name }
    }

    /// The earlier of two; compared before the wait, so that the one that ends it is named.
    pub(crate) fn or_earlier(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if other.at < self.at => other,
            Some(_) | None => self,
        }
    }
}

// === impl Providers ===

impl Providers {
    /// Prepares connections to all `remotes`; connects to none. The local model may be missing.
    pub fn new<'a>(
        remotes: impl IntoIterator<Item = &'a Remote>,
        local: Option<LocalModel>,
        settings: Settings,
    ) -> Result<Self, ProvidersError> {
        let connections = Connections::new(remotes, &settings)?;
        Ok(Self { connections, local, settings })
    }

    /// Whether an upstream can be asked at all: a remote one always, the local one where there
    /// is a model. Says nothing about whether it may be.
    pub fn can_try(&self, upstream: &Upstream) -> bool {
        match upstream.address() {
            Address::Remote(_) => true,
            Address::Local => self.local.is_some(),
        }
    }

    /// Connects, sends, reads the final head. 2xx becomes an [`Attempt`], all else a [`Failure`].
    pub async fn attempt(&self, clearance: Clearance, terms: &Terms) -> Result<Attempt, Failure> {
        let deadlines = &terms.deadlines;
        let total = deadlines.total.map(|total| Until::new(terms.began + total, Deadline::Total));
        let answer = Until::new(terms.started + deadlines.first_token, Deadline::FirstToken);
        let answer = answer.or_earlier(total);
        let Address::Remote(remote) = clearance.upstream().address() else {
            return local::attempt(self.local.as_ref(), &clearance, answer).await;
        };
        let connect = Until::new(Instant::now() + deadlines.connect, Deadline::Connect);
        let connect = connect.or_earlier(Some(answer));
        let body = clearance.outbound().bytes.clone();
        let head = head::request(remote, body.len(), clearance.stream())
            .ok_or_else(|| Failure::new(Side::Gateway, Cause::Protocol, Traffic::default()))?;
        let order = Order { remote, connection: terms.connection, head, body, connect, answer };
        let mut traffic = Traffic::default();
        let exchange = self.connections.exchange(&order, &mut traffic).await;
        let exchange = exchange.map_err(|cause| Failure::new(Side::Upstream, cause, traffic))?;
        if !exchange.head.is_success() {
            let gap = Until::new(Instant::now() + deadlines.gap, Deadline::Gap);
            return Err(refusal(exchange, gap.or_earlier(total), traffic).await);
        }
        self.begin(&clearance, exchange, traffic)
    }

    fn begin(
        &self,
        clearance: &Clearance,
        exchange: Exchange,
        traffic: Traffic,
    ) -> Result<Attempt, Failure> {
        let head = &exchange.head;
        let streamed = clearance.stream() && head.event_stream;
        let bytes_max = self.settings.answer_bytes_max.0;
        let too_large = !streamed && head.length.is_some_and(|length| length > bytes_max);
        let cause = match (head.readable, too_large) {
            (false, _) => Some(Cause::Protocol),
            (true, true) => Some(Cause::TooLarge),
            (true, false) => None,
        };
        if let Some(cause) = cause {
            let failure = Failure::new(Side::Upstream, cause, traffic);
            let (status, request_id) = (Some(head.status), head.request_id.clone());
            return Err(Failure { status, request_id, ..failure });
        }
        Ok(Attempt {
            upstream: Arc::clone(clearance.upstream()),
            status: head.status,
            event_stream: head.event_stream,
            request_id: head.request_id.clone(),
            traffic,
            room_bytes: (!streamed).then_some(bytes_max),
            source: Source::Remote(Box::new(exchange)),
        })
    }
}

/// Reads the error of an upstream that answered something else than 2xx.
async fn refusal(mut exchange: Exchange, until: Until, mut traffic: Traffic) -> Failure {
    let mut body = BytesMut::new();
    // An error that breaks off, or takes too long, is what came of it.
    while let Ok(Some(piece)) = exchange.next(until).await {
        traffic.response_bytes += piece.len() as u64;
        let room = ERROR_BYTES_MAX - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            break;
        }
    }
    let head = &exchange.head;
    Failure {
        status: Some(head.status),
        retry_after: head.retry_after,
        kind: openai::classify(head.status, &body),
        body: Some(body.freeze()),
        request_id: head.request_id.clone(),
        ..Failure::new(Side::Upstream, Cause::Status, traffic)
    }
}

// === impl Attempt ===

impl Attempt {
    /// The upstream that answers.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }
    /// The final status, 2xx.
    pub fn status(&self) -> u16 {
        self.status
    }
    /// Whether the body is an event stream; an upstream may answer otherwise than asked.
    pub fn is_event_stream(&self) -> bool {
        self.event_stream
    }
    /// The upstream's own id of the request, for the record.
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }
    /// What it has cost so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// The next bytes of the body; `None` is a clean end, after which the connection is pooled.
    /// `until` bounds the wait and `name` says which deadline that is; once the total has passed,
    /// what waits already is not taken either. Nothing is read ahead.
    /// Empty bytes are a sign of life of an answer that is held whole. After a failure the
    /// attempt is over. A caller that stops at a stream's own terminal event (`[DONE]`) asks once
    /// more, briefly: only a read end lets the connection be used again.
    pub async fn next(&mut self, until: Instant, name: Deadline) -> Result<Option<Bytes>, Failure> {
        if name == Deadline::Total && until <= Instant::now() {
            return Err(self.failure(Cause::Timeout(name)));
        }
        let until = Until::new(until, name);
        let piece = match &mut self.source {
            Source::Remote(exchange) => exchange.next(until).await,
            Source::Local(answer) => answer.next(until).await,
        };
        let piece = piece.map_err(|cause| self.failure(cause))?;
        let Some(piece) = piece else { return Ok(None) };
        let bytes = piece.len() as u64;
        self.traffic.response_bytes += bytes;
        if let Some(room) = self.room_bytes {
            self.room_bytes =
                Some(room.checked_sub(bytes).ok_or_else(|| self.failure(Cause::TooLarge))?);
        }
        Ok(Some(piece))
    }

    fn failure(&self, cause: Cause) -> Failure {
        let side = match self.source {
            Source::Remote(_) => Side::Upstream,
            Source::Local(_) => Side::Gateway,
        };
        Failure { status: Some(self.status), ..Failure::new(side, cause, self.traffic) }
    }
}

/// Resolves the upstream's name, connects and shakes hands, and sends nothing. For
/// `cordon check --connect`, by hand.
pub async fn check_connect(
    id: &UpstreamId,
    remote: &Remote,
    within: Duration,
) -> Result<SocketAddr, ProvidersError> {
    let failed = |what: String| ProvidersError::Connect { host: id.as_str().to_owned(), what };
    let found = address::lookup(remote).await.map_err(|error| failed(error.to_string()))?;
    remote.addresses.store(Arc::new(found));
    let connections = Connections::new([remote], &Settings::default())?;
    let until = Until::new(Instant::now() + within, Deadline::Connect);
    connections
        .shake_hands(remote, until)
        .await
        .map_err(|cause| failed(unreachable(&cause).to_owned()))
}

fn unreachable(cause: &Cause) -> &'static str {
    match cause {
        Cause::Tls => "fails the TLS handshake: check its name, certificate and `trust_roots`",
        Cause::Timeout(_) => "takes too long to connect: check the address and the firewall",
        Cause::Connect
        | Cause::Stale
        | Cause::ClosedBeforeHead
        | Cause::BrokenBody
        | Cause::Protocol
        | Cause::Status
        | Cause::TooLarge
        | Cause::NoRoom
        | Cause::LocalUnavailable
        | Cause::LocalBusy => "refuses the connection: check host and port",
    }
}

#[cfg(test)]
mod tests;
