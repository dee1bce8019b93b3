//! One connection: request after request, each read, answered and put behind it.
//!
//! Knows when a connection waits, how long, and how it ends; not what a request means.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::BytesMut;
use pingora_core::{
    ErrorType,
    apps::ServerApp,
    protocols::{Stream, http::ServerSession},
    server::ShutdownWatch,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
    time::timeout,
};

use crate::listener::{
    HalfClosed, Limits, Settings,
    drain::{Drained, Stage, Stop, in_time},
    head::HeadEnd,
};

/// Answers the requests of connections.
#[async_trait]
pub(crate) trait Requests: Send + Sync + 'static {
    /// Answers one request, whose head was read as `head` says.
    async fn answer(&self, session: &mut ServerSession, head: Head) -> After;
}

/// How reading a head ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    Whole,
    Malformed,
}

/// What becomes of a connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request may follow, where the protocol allows it.
    Reuse,
    /// The client may still be sending: what it sends is thrown away, then the connection ends.
    Discard,
    /// The client is gone, or must be cut.
    Close,
}

/// The connections of one listener.
pub(crate) struct Connections<R> {
    requests: Arc<R>,
    limits: Limits,
    half_closed: HalfClosed,
    stop: Stop,
    places: Arc<Semaphore>,
}

/// The listener's hold on its connections, to wait for their end.
#[derive(Debug)]
pub(crate) struct Hold {
    places: Arc<Semaphore>,
    places_max: u32,
    stop: Stop,
}

/// Read at once while a head is awaited: most heads, and many bodies.
const READ_BYTES: usize = 4 << 10;
/// How long a refused body is thrown away while the listener drains.
const DRAINING_DISCARD_DEADLINE: Duration = Duration::from_millis(200);
/// Time for calls that were cut to say so, and for aborted connections to vanish.
const CUT_GRACE: Duration = Duration::from_secs(2);

// === impl Connections ===

impl<R: Requests> Connections<R> {
    pub(crate) fn new(requests: Arc<R>, settings: &Settings, stop: &Stop) -> (Self, Hold) {
        let limits = settings.limits.clone();
        let places_max = limits.connections_max;
        let places = Arc::new(Semaphore::new(places_max as usize));
        let hold = Hold { places: Arc::clone(&places), places_max, stop: stop.clone() };
        let half_closed = settings.half_closed;
        (Self { requests, limits, half_closed, stop: stop.clone(), places }, hold)
    }

    async fn connection(&self, mut stream: Stream) {
        let mut first = BytesMut::new();
        loop {
            if first.is_empty() && !self.wait_for_request(&mut stream, &mut first).await {
                return;
            }
            let reading = read_head(&mut stream, &mut first, self.limits.head_bytes_max.0);
            let Ok(Some(head)) = timeout(self.limits.head_deadline.0, reading).await else {
                return;
            };
            let mut session = ServerSession::new_http1(stream);
            session.set_pipelined_prefix(std::mem::take(&mut first));
            let Some(next) = self.request(session, head).await else { return };
            (stream, first) = next;
        }
    }

    /// Waits until the client says something; `false` where it does not, or shall not.
    async fn wait_for_request(&self, stream: &mut Stream, first: &mut BytesMut) -> bool {
        first.reserve(READ_BYTES);
        tokio::select! {
            biased;
            read = timeout(self.limits.idle_deadline.0, stream.read_buf(first)) => {
                matches!(read, Ok(Ok(bytes)) if bytes > 0)
            }
            () = self.stop.reached(Stage::Draining) => false,
        }
    }

    /// One request; gives back the stream for the next one, with what was already read of it.
    async fn request(&self, mut session: ServerSession, head: Head) -> Option<(Stream, BytesMut)> {
        // Bytes of a next request that come early are kept for it; they do not end this one.
        session.set_pipelining_enabled(true);
        session.set_abort_on_close(self.half_closed == HalfClosed::Gone);
        session.set_total_drain_timeout(Some(self.limits.discard_deadline.0));
        let head = match head {
            Head::Whole => self.parsed(&mut session).await?,
            Head::Malformed => Head::Malformed,
        };
        if self.stop.is_leaving() || head == Head::Malformed {
            session.set_keepalive(None);
        }
        match self.requests.answer(&mut session, head).await {
            After::Reuse => {
                let reusable = session.finish().await.ok()??;
                let (stream, prefix) = reusable.into_parts();
                Some((stream, prefix.unwrap_or_default()))
            }
            After::Discard => {
                self.discard(session).await;
                None
            }
            After::Close => None,
        }
    }

    /// Lets pingora parse the head that was read.
    async fn parsed(&self, session: &mut ServerSession) -> Option<Head> {
        // The head is there, so this waits only where pingora sees another end of it than we do.
        match timeout(self.limits.head_deadline.0, session.read_request()).await {
            Ok(Ok(true)) => Some(Head::Whole),
            Ok(Err(error)) if error.etype == ErrorType::InvalidHTTPHeader => Some(Head::Malformed),
            Ok(Ok(false) | Err(_)) | Err(_) => None,
        }
    }

    /// Closes our half, and reads on for a while. Closing at once would reset the connection
    /// under a client that is still sending, and destroy the answer on its way.
    async fn discard(&self, session: ServerSession) {
        let ServerSession::H1(session) = session else { return };
        let mut stream = session.into_inner();
        let reading = async {
            AsyncWriteExt::shutdown(&mut stream).await?;
            let mut buffer = vec![0; 16 << 10];
            let mut left = self.limits.discard_bytes_max.0;
            loop {
                let read = stream.read(&mut buffer).await? as u64;
                if read == 0 || read > left {
                    return Ok::<(), std::io::Error>(());
                }
                left -= read;
            }
        };
        let hurry = async {
            self.stop.reached(Stage::Draining).await;
            tokio::time::sleep(DRAINING_DISCARD_DEADLINE).await;
        };
        // Whatever ends it, the connection is over.
        tokio::select! {
            _ended = timeout(self.limits.discard_deadline.0, reading) => {}
            () = hurry => {}
        }
    }
}

#[async_trait]
impl<R: Requests> ServerApp for Connections<R> {
    async fn process_new(self: &Arc<Self>, stream: Stream, _: &ShutdownWatch) -> Option<Stream> {
        let Ok(_place) = self.places.try_acquire() else { return None };
        tokio::select! {
            biased;
            () = self.connection(stream) => {}
            () = self.stop.reached(Stage::Aborted) => {}
        }
        None
    }
}

/// Reads until the whole head is there, and not much more than `bytes_max` of it: pingora would
/// read on to 1 MiB, and parse all of it anew after each read. `None` where the client left.
async fn read_head(stream: &mut Stream, held: &mut BytesMut, bytes_max: u64) -> Option<Head> {
    let mut end = HeadEnd::default();
    loop {
        let found = end.find(held);
        if found.unwrap_or(held.len()) as u64 > bytes_max {
            return Some(Head::Malformed);
        }
        if found.is_some() {
            return Some(Head::Whole);
        }
        held.reserve(READ_BYTES);
        if stream.read_buf(held).await.ok()? == 0 {
            return None;
        }
    }
}

// === impl Hold ===

impl Hold {
    /// Waits for the connections of a listener that drains; after `deadline` calls `interrupt`
    /// and cuts them, and at last aborts them.
    pub(crate) async fn released(&self, deadline: Duration, interrupt: impl FnOnce()) -> Drained {
        if in_time(self.all_places(), deadline, &self.stop).await {
            return Drained::Clean;
        }
        // INVARIANT: said before any call can see that it is cut, so that none is recorded as one
        // that its client left.
        interrupt();
        self.stop.advance(Stage::Cut);
        if timeout(CUT_GRACE, self.all_places()).await.is_err() {
            self.stop.advance(Stage::Aborted);
            drop(timeout(CUT_GRACE, self.all_places()).await);
        }
        Drained::Interrupted
    }

    async fn all_places(&self) {
        // The semaphore is never closed; were it, there would be nothing to wait for.
        drop(self.places.acquire_many(self.places_max).await);
    }
}
