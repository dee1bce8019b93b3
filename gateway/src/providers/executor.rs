//! One request over HTTP/1.1 and its answer, on pingora's connectors.
//!
//! 1. A connection: a pooled one, else a fresh one to the first address that takes it.
//! 2. The request is written while the response is read, so that an early refusal is an answer.
//! 3. Interim heads are skipped; the final head is read by pingora's session, and so is the body.
//! 4. After a clean end, and only then, the connection goes back to the pool.
//!
//! One order is one request: a pooled connection that was dead is told as such, not replaced.
//!
//! Every wait is bounded by our own timers; pingora's are off. Its error texts quote what they
//! read, so they are mapped to causes and never shown. Knows bytes, sockets and deadlines; not
//! formats, not calls.
//!
//! Cost of a pooled exchange: two system calls, one copy of the head and of a short body, one of
//! each piece of the answer (pingora's), one 64 KiB read buffer while a body is read.

mod rewound;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    hash::{DefaultHasher, Hash, Hasher},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use bytes::{Buf, Bytes, BytesMut};
use pingora_core::{
    ErrorType,
    connectors::{ConnectorOptions, TransportConnector},
    protocols::{Stream, http::v1::client::HttpSession},
    upstreams::peer::{HttpPeer, Peer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWrite},
    time::{Instant, timeout_at},
};

use crate::{
    catalog::Remote,
    providers::{
        Cause, ProvidersError, Settings, Traffic, Until,
        address::allowed,
        alarm::Alarm,
        executor::rewound::Rewound,
        head::{Head, Opening, Verdict, bare_host},
    },
    route::Connection,
};

/// A trust store without a single root, for connections that never ask it.
const NO_ROOTS: &str = "/dev/null";
/// Addresses of one upstream that are tried within one connect deadline.
const ADDRESSES_TRIED_MAX: usize = 4;
/// The longest body that is copied behind its head, to be written with it.
const JOINED_BYTES_MAX: usize = 64 << 10;

/// What is trusted at the other end of a connection. Each has its own connector, so that no
/// pooled connection is ever used under another trust than it was made under.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    /// No TLS.
    Plain,
    System,
    Roots(PathBuf),
}

/// Connectors and their pools.
pub(crate) struct Connections {
    connectors: BTreeMap<Trust, Arc<TransportConnector>>,
    idle: Duration,
}

/// What is sent and where to.
pub(crate) struct Order<'a> {
    pub(crate) remote: &'a Remote,
    pub(crate) connection: Connection,
    pub(crate) head: Bytes,
    pub(crate) body: Bytes,
    /// Until when a connection must stand.
    pub(crate) connect: Until,
    /// Until when the final head must have come.
    pub(crate) answer: Until,
}

/// A response whose final head has been read.
pub(crate) struct Exchange {
    pub(crate) head: Head,
    state: State,
    alarm: Alarm,
    /// `None`: the connection is not used again, however the answer ends.
    home: Option<Home>,
}

enum State {
    Reading(Box<HttpSession>),
    Ended,
    Broken,
}

/// Every place at which an upstream can be reached.
struct Places<'a> {
    connector: &'a Arc<TransportConnector>,
    remote: &'a Remote,
    addresses: Vec<SocketAddr>,
    idle: Duration,
}

/// Where a connection goes after a clean end.
struct Home {
    connector: Arc<TransportConnector>,
    peer: HttpPeer,
    idle: Duration,
}

struct Link {
    stream: Stream,
    home: Home,
    pooled: bool,
}

// === impl Connections ===

impl Connections {
    /// Builds one connector for each trust that `remotes` need.
    pub(crate) fn new<'a>(
        remotes: impl IntoIterator<Item = &'a Remote>,
        settings: &Settings,
    ) -> Result<Self, ProvidersError> {
        let mut connectors = BTreeMap::new();
        for trust in remotes.into_iter().map(Trust::of) {
            if let Entry::Vacant(place) = connectors.entry(trust) {
                let connector = connector(place.key(), settings.pool_connections_max)?;
                place.insert(Arc::new(connector));
            }
        }
        Ok(Self { connectors, idle: settings.pool_idle.0 })
    }

    /// Sends an order once and reads the final head. `traffic` counts also what failed.
    pub(crate) async fn exchange(
        &self,
        order: &Order<'_>,
        traffic: &mut Traffic,
    ) -> Result<Exchange, Cause> {
        let places = self.places(order.remote)?;
        let pooled = match order.connection {
            Connection::Any => places.pooled().await,
            Connection::Fresh => None,
        };
        let link = match pooled {
            Some(link) => link,
            None => places.fresh(order.connect).await?,
        };
        converse(link, order, traffic).await
    }

    /// Resolves nothing, sends nothing: connects to the first address and shakes hands.
    pub(crate) async fn shake_hands(
        &self,
        remote: &Remote,
        until: Until,
    ) -> Result<SocketAddr, Cause> {
        let link = self.places(remote)?.fresh(until).await?;
        link.home.peer.address().as_inet().copied().ok_or(Cause::Connect)
    }

    fn places<'a>(&'a self, remote: &'a Remote) -> Result<Places<'a>, Cause> {
        let connector = self.connectors.get(&Trust::of(remote)).ok_or(Cause::Connect)?;
        if remote.tls && !has_verifiable_name(&remote.host) {
            return Err(Cause::Tls);
        }
        let mut addresses = allowed(remote);
        addresses.truncate(ADDRESSES_TRIED_MAX);
        Ok(Places { connector, remote, addresses, idle: self.idle })
    }
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Connections").field(&self.connectors.keys()).finish()
    }
}

impl Trust {
    fn of(remote: &Remote) -> Self {
        match (remote.tls, &remote.trust_roots) {
            (false, _) => Self::Plain,
            (true, None) => Self::System,
            (true, Some(roots)) => Self::Roots(roots.clone()),
        }
    }
}

/// Builds a connector. pingora panics on roots it cannot read, so they are read here first, by
/// the same functions.
fn connector(trust: &Trust, pool_max: usize) -> Result<TransportConnector, ProvidersError> {
    let mut options = ConnectorOptions::new(pool_max);
    let mut store = pingora_rustls::RootCertStore::empty();
    match trust {
        Trust::Plain => options.ca_file = Some(NO_ROOTS.to_owned()),
        Trust::System => pingora_rustls::load_platform_certs_incl_env_into_store(&mut store)
            .map_err(|_quotes_certificates| ProvidersError::SystemRoots)?,
        Trust::Roots(path) => {
            let unusable = || ProvidersError::Roots { path: path.clone() };
            pingora_rustls::load_ca_file_into_store(path, &mut store)
                .map_err(|_quotes_certificates| unusable())?;
            options.ca_file = Some(utf8(path).filter(|_| !store.is_empty()).ok_or_else(unusable)?);
        }
    }
    Ok(TransportConnector::new(Some(options)))
}

fn utf8(path: &Path) -> Option<String> {
    path.to_str().map(str::to_owned)
}

/// Whether pingora verifies exactly this name: without one it verifies nothing, and an underscore
/// in the first label it replaces by a hyphen, which is somebody else's name.
fn has_verifiable_name(host: &str) -> bool {
    let name = bare_host(host);
    !name.is_empty() && !name.contains('_')
}

fn peer(remote: &Remote, address: SocketAddr) -> HttpPeer {
    let name = if remote.tls { bare_host(&remote.host).to_owned() } else { String::new() };
    let mut peer = HttpPeer::new(address, remote.tls, name);
    let mut group = DefaultHasher::new();
    (&remote.host, &remote.trust_roots).hash(&mut group);
    peer.group_key = group.finish();
    peer
}

// === impl Order ===

impl Order<'_> {
    /// Head and body, in one piece where copying the body costs less than a system call.
    fn bytes(&self) -> bytes::buf::Chain<Bytes, Bytes> {
        if self.body.len() > JOINED_BYTES_MAX {
            return self.head.clone().chain(self.body.clone());
        }
        let mut joined = BytesMut::with_capacity(self.head.len() + self.body.len());
        joined.extend_from_slice(&self.head);
        joined.extend_from_slice(&self.body);
        joined.freeze().chain(Bytes::new())
    }
}

// === impl Places ===

impl Places<'_> {
    fn home(&self, address: SocketAddr) -> Home {
        let peer = peer(self.remote, address);
        Home { connector: Arc::clone(self.connector), peer, idle: self.idle }
    }

    /// A pooled connection to any of the addresses.
    async fn pooled(&self) -> Option<Link> {
        for address in &self.addresses {
            let home = self.home(*address);
            if let Some(stream) = home.connector.reused_stream(&home.peer).await {
                return Some(Link { stream, home, pooled: true });
            }
        }
        None
    }

    /// Connects to the first address that takes us. Each has its fair share of the time that is
    /// left, so that a silent one cannot hide those behind it.
    async fn fresh(&self, until: Until) -> Result<Link, Cause> {
        let mut cause = Cause::Connect;
        let mut untried = u32::try_from(self.addresses.len()).unwrap_or(u32::MAX);
        for address in &self.addresses {
            let home = self.home(*address);
            let left = until.at.saturating_duration_since(Instant::now());
            let share = Instant::now() + left / untried;
            untried -= 1;
            cause = match timeout_at(share, home.connector.new_stream(&home.peer)).await {
                Ok(Ok(stream)) => return Ok(Link { stream, home, pooled: false }),
                Ok(Err(error)) => connect_cause(error.etype()),
                Err(_elapsed) => Cause::Timeout(until.name),
            };
        }
        Err(cause)
    }
}

/// What pingora's error means; its text is never shown.
fn connect_cause(error: &ErrorType) -> Cause {
    let tls = [
        ErrorType::TLSHandshakeFailure,
        ErrorType::TLSHandshakeTimedout,
        ErrorType::TLSWantX509Lookup,
        ErrorType::InvalidCert,
        ErrorType::HandshakeError,
    ];
    if tls.contains(error) { Cause::Tls } else { Cause::Connect }
}

/// Sends the request over a connection and reads the final head.
async fn converse(
    mut link: Link,
    order: &Order<'_>,
    traffic: &mut Traffic,
) -> Result<Exchange, Cause> {
    let mut opening = Opening::default();
    let mut request = order.bytes();
    let all = request.remaining();
    let mut whole = false;
    let opened = timeout_at(order.answer.at, async {
        whole = send(&mut link.stream, &mut request, &mut opening).await;
        listen(&mut link.stream, &mut opening).await
    })
    .await
    .unwrap_or(Err(Cause::Timeout(order.answer.name)));
    traffic.request_bytes += (all - request.remaining()) as u64;
    let dead = link.pooled && !opening.any() && opened == Err(Cause::ClosedBeforeHead);
    opened.map_err(|cause| if dead { Cause::Stale } else { cause })?;
    let stream = Rewound::new(opening.into_bytes(), link.stream);
    let mut session = Box::new(HttpSession::new(Box::new(stream)));
    match timeout_at(order.answer.at, session.read_response()).await {
        Ok(Ok(_bytes)) => {}
        Ok(Err(error)) => return Err(head_cause(error.etype())),
        Err(_elapsed) => return Err(Cause::Timeout(order.answer.name)),
    }
    let head = session.resp_header().ok_or(Cause::Protocol)?;
    let head = Head::read(head.status.as_u16(), &head.headers, SystemTime::now());
    // What is left of a request must not meet the next one.
    let home = whole.then_some(link.home);
    Ok(Exchange { head, state: State::Reading(session), alarm: Alarm::default(), home })
}

fn head_cause(error: &ErrorType) -> Cause {
    let closed = [ErrorType::ConnectionClosed, ErrorType::ReadError];
    if closed.contains(error) { Cause::ClosedBeforeHead } else { Cause::Protocol }
}

/// Writes the request, and reads whenever the upstream does not take more. Returns whether all
/// of it was taken: an upstream that has refused, or closed, gets no more.
async fn send(stream: &mut Stream, request: &mut impl Buf, opening: &mut Opening) -> bool {
    std::future::poll_fn(|context| poll_send(stream, request, opening, context)).await
}

fn poll_send(
    stream: &mut Stream,
    request: &mut impl Buf,
    opening: &mut Opening,
    context: &mut Context<'_>,
) -> Poll<bool> {
    loop {
        match poll_write(stream, request, context) {
            Poll::Ready(Ok(true)) => return Poll::Ready(true),
            Poll::Ready(Ok(false)) => continue,
            // What the upstream said before it closed is still to be read.
            Poll::Ready(Err(_closed)) => return Poll::Ready(false),
            Poll::Pending => {}
        }
        if opening.verdict() != Verdict::More {
            // An early success: its body waits until the request is written.
            return Poll::Pending;
        }
        match ready!(poll_read_more(stream, opening, context)) {
            Ok(0) | Err(_) => return Poll::Ready(false),
            Ok(_bytes) => {}
        }
        match opening.verdict() {
            Verdict::More | Verdict::Final(..300) => {}
            Verdict::Final(_) | Verdict::Refused => return Poll::Ready(false),
        }
    }
}

/// Writes once, or flushes once all is written: `true` when the whole request has left.
fn poll_write(
    stream: &mut Stream,
    request: &mut impl Buf,
    context: &mut Context<'_>,
) -> Poll<io::Result<bool>> {
    if !request.has_remaining() {
        ready!(Pin::new(stream).poll_flush(context))?;
        return Poll::Ready(Ok(true));
    }
    let written = ready!(Pin::new(stream).poll_write(context, request.chunk()))?;
    if written == 0 {
        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
    }
    request.advance(written);
    Poll::Ready(Ok(false))
}

fn poll_read_more(
    stream: &mut Stream,
    opening: &mut Opening,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut read = std::pin::pin!(stream.read_buf(opening.space()));
    read.as_mut().poll(context)
}

/// Reads until a final head begins.
async fn listen(stream: &mut Stream, opening: &mut Opening) -> Result<(), Cause> {
    loop {
        match opening.verdict() {
            Verdict::Final(_) => return Ok(()),
            Verdict::Refused => return Err(Cause::Protocol),
            Verdict::More => {}
        }
        match stream.read_buf(opening.space()).await {
            Ok(0) | Err(_) => return Err(Cause::ClosedBeforeHead),
            Ok(_bytes) => {}
        }
    }
}

// === impl Exchange ===

impl Exchange {
    /// The next piece of the body; `None` is its clean end. Nothing is read ahead of the caller.
    pub(crate) async fn next(&mut self, until: Until) -> Result<Option<Bytes>, Cause> {
        loop {
            let session = match &mut self.state {
                State::Reading(session) => session,
                State::Ended => return Ok(None),
                State::Broken => return Err(Cause::BrokenBody),
            };
            let piece = match self.alarm.within(until.at, session.read_body_bytes()).await {
                Some(Ok(piece)) => piece,
                Some(Err(_quotes_the_body)) => return Err(self.end_broken(Cause::BrokenBody)),
                None => return Err(self.end_broken(Cause::Timeout(until.name))),
            };
            if session.is_body_done() {
                self.end_clean().await;
            }
            match piece {
                Some(piece) if piece.is_empty() => {}
                piece => return Ok(piece),
            }
        }
    }

    /// Closes the connection by dropping it.
    fn end_broken(&mut self, cause: Cause) -> Cause {
        self.state = State::Broken;
        cause
    }

    /// Gives the connection back to its pool where both sides may go on using it.
    async fn end_clean(&mut self) {
        let State::Reading(mut session) = std::mem::replace(&mut self.state, State::Ended) else {
            return;
        };
        let Some(home) = self.home.take() else { return };
        session.respect_keepalive();
        if !session.will_keepalive() {
            return;
        }
        let Some(stream) = session.reuse().await else { return };
        let Ok(rewound) = stream.into_any().downcast::<Rewound>() else { return };
        home.take_back(*rewound);
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Exchange").field("head", &self.head).finish_non_exhaustive()
    }
}

// === impl Home ===

impl Home {
    /// INVARIANT: a pooled connection holds no byte of the answer before.
    fn take_back(&self, rewound: Rewound) {
        if let Some(stream) = rewound.into_inner() {
            self.connector.release_stream(stream, self.peer.reuse_hash(), Some(self.idle));
        }
    }
}
