//! A listener on port 0 with a scripted pipeline behind it, and a client that speaks raw bytes.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::request::Parts;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    listener::{
        Calls, Parties, Readiness, Settings, Socket,
        drain::{Drained, Stop},
        gauges::Gauges,
        serve,
    },
    pipeline::{BodyFault, Reply, ReplyBody, ReplyHead, ReplyStream, TurnedAway},
    policy::Effect,
    record::CallId,
    room::Budget,
    wire::Format,
};

/// No wait of a test takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the pipeline saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Admitted,
    Answering,
    Refused(BodyFault),
    Dropped,
    Interrupted,
    Interrupting,
    TurnedAway,
}

pub(super) struct World {
    pub(super) address: SocketAddr,
    pub(super) stop: Stop,
    pub(super) gauges: Gauges,
    pub(super) go: Arc<Notify>,
    readiness: Arc<Mutex<Readiness>>,
    events: mpsc::Receiver<Event>,
    served: JoinHandle<Drained>,
}

/// Answers by what the body says.
struct Script {
    events: mpsc::Sender<Event>,
    go: Arc<Notify>,
}

/// Tells when it is dropped before its end.
struct Pending {
    events: mpsc::Sender<Event>,
    done: bool,
}

struct Stream {
    pending: Pending,
    go: Arc<Notify>,
    left: usize,
    piece: Bytes,
    cut: bool,
}

impl World {
    pub(super) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        let (sender, events) = mpsc::channel(1_000);
        let go = Arc::new(Notify::new());
        let readiness = Arc::new(Mutex::new(Readiness::default()));
        let room = Arc::new(Budget::new(settings.limits.buffered_bytes_max.0));
        let gauges = Gauges::new(&settings.limits, room);
        let asked = Arc::clone(&readiness);
        let parties = Parties {
            settings,
            calls: Arc::new(Script { events: sender, go: Arc::clone(&go) }),
            readiness: Arc::new(move || asked.lock().unwrap().clone()),
            gauges: gauges.clone(),
        };
        let socket = Socket::bind("listeners.ai", "127.0.0.1:0".parse().unwrap()).unwrap();
        let (address, stop) = (socket.address(), Stop::default());
        let order = stop.clone();
        let served = tokio::spawn(async move { serve(socket, parties, &order).await });
        Self { address, stop, gauges, go, readiness, events, served }
    }

    pub(super) async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, seen: Vec::new() }
    }

    pub(super) fn not_ready(&self, reason: &str) {
        self.readiness.lock().unwrap().reasons.push(reason.to_owned());
    }

    /// Waits for an event and passes over others.
    pub(super) async fn saw(&mut self, event: Event) {
        let seen = async { while self.events.recv().await.unwrap() != event {} };
        timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("{event:?} never came"));
    }

    pub(super) fn saw_nothing_more(&mut self) {
        assert_eq!(self.events.try_recv().ok(), None);
    }

    /// Waits until every budget was given back.
    pub(super) async fn is_idle(&self) {
        let idle = async {
            while self.gauges.calls.used() + self.gauges.bytes.used() > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, idle).await.expect("a budget was not given back");
    }

    pub(super) async fn ended(self) -> Drained {
        timeout(PATIENCE, self.served).await.expect("the listener did not end").unwrap()
    }
}

impl Calls for Script {
    type Admitted = Pending;

    async fn admit(&self, head: &Parts, _: Format, id: CallId) -> Result<Pending, Reply> {
        match head.headers.get("authorization") {
            Some(key) if key == "Bearer good" => {
                self.events.try_send(Event::Admitted).unwrap();
                Ok(Pending { events: self.events.clone(), done: false })
            }
            _ => Err(reply(401, "who are you?", id)),
        }
    }

    async fn answer(&self, mut call: Pending, body: Bytes) -> Reply {
        self.events.try_send(Event::Answering).unwrap();
        let id = CallId::new();
        let reply = match body.as_ref() {
            b"wait" => {
                self.go.notified().await;
                reply(200, "waited", id)
            }
            b"named" => named(id),
            b"large" => reply(200, &"z".repeat(1_000_000), id),
            b"stream" => return self.stream(call, 3, "data: x\n\n", id),
            b"endless" => return self.stream(call, usize::MAX, &"e".repeat(8_000), id),
            other => reply(200, &format!("read {}", other.len()), id),
        };
        call.done = true;
        reply
    }

    async fn refuse(&self, mut call: Pending, why: BodyFault) -> Reply {
        call.done = true;
        self.events.try_send(Event::Refused(why)).unwrap();
        let status = match why {
            BodyFault::TooLarge => 413,
            BodyFault::NoRoom => 503,
            BodyFault::Encoded => 415,
            BodyFault::TooSlow | BodyFault::Framing | BodyFault::Gone => 400,
        };
        reply(status, "no", CallId::new())
    }

    fn models(&self, _: &Parts, id: CallId) -> Reply {
        reply(200, "models", id)
    }

    fn turn_away(&self, why: TurnedAway, id: CallId) -> Reply {
        let status = match why {
            TurnedAway::UnknownPath => 404,
            TurnedAway::WrongMethod { .. } => 405,
            TurnedAway::Overloaded | TurnedAway::Draining => 503,
            TurnedAway::Framing => 400,
        };
        if why == TurnedAway::Draining {
            self.events.try_send(Event::TurnedAway).unwrap();
        }
        let mut reply = reply(status, &format!("{why:?}"), id);
        if let TurnedAway::WrongMethod { allow } = why {
            reply.head.allow = Some(allow);
        }
        reply
    }

    fn interrupted(&self, id: CallId) -> Reply {
        reply(503, "interrupted", id)
    }

    fn interrupting(&self) {
        self.events.try_send(Event::Interrupting).unwrap();
    }
}

impl Script {
    fn stream(&self, call: Pending, left: usize, piece: &str, id: CallId) -> Reply {
        let mut reply = reply(200, "", id);
        reply.head.content_type = "text/event-stream";
        let piece = Bytes::copy_from_slice(piece.as_bytes());
        let go = Arc::clone(&self.go);
        reply.body =
            ReplyBody::Stream(Box::new(Stream { pending: call, go, left, piece, cut: false }));
        reply
    }
}

#[async_trait::async_trait]
impl ReplyStream for Stream {
    async fn next(&mut self) -> Option<Bytes> {
        if self.cut || self.left == 0 {
            self.pending.done = true;
            return std::mem::take(&mut self.cut).then(|| Bytes::from_static(b"data: cut\n\n"));
        }
        if self.left < 100 {
            self.go.notified().await;
        }
        self.left -= 1;
        Some(self.piece.clone())
    }

    fn interrupt(&mut self) {
        (self.cut, self.left) = (true, 0);
        self.pending.events.try_send(Event::Interrupted).unwrap();
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.done {
            // A test that has ended hears nothing more.
            self.events.try_send(Event::Dropped).ok();
        }
    }
}

fn reply(status: u16, body: &str, call_id: CallId) -> Reply {
    let head = ReplyHead {
        status,
        content_type: "text/plain",
        call_id,
        target: None,
        decision: None,
        attempts: 0,
        requested_model: None,
        retry_after_s: None,
        never_retry: false,
        label_ai: false,
        allow: None,
    };
    Reply { head, body: ReplyBody::Whole(Bytes::copy_from_slice(body.as_bytes())) }
}

/// A reply that uses every header there is.
fn named(id: CallId) -> Reply {
    let mut reply = reply(200, "named", id);
    reply.head.target = Some("here/model".to_owned());
    reply.head.decision = Some(Effect::LocalOnly);
    reply.head.attempts = 2;
    reply.head.requested_model = Some("grü\r\ne 100%".to_owned());
    reply.head.retry_after_s = Some(7);
    reply.head.never_retry = true;
    reply
}

// === requests ===

/// The head of a call with a good key, up to its framing headers.
pub(super) fn auth() -> String {
    "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer good\r\n".to_owned()
}

/// A whole call with a good key.
pub(super) fn call(body: &str) -> String {
    format!("{}content-length: {}\r\n\r\n{body}", auth(), body.len())
}

/// A body in chunks.
pub(super) fn chunked(pieces: &[&str]) -> String {
    let mut body = String::new();
    for piece in pieces {
        body.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
    }
    body + "0\r\n\r\n"
}

// === impl Client ===

pub(super) struct Client {
    stream: TcpStream,
    seen: Vec<u8>,
}

/// An answer as it came.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Client {
    pub(super) async fn send(&mut self, text: &str) {
        self.try_send(text).await.unwrap();
    }

    pub(super) async fn try_send(&mut self, text: &str) -> std::io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(text.as_bytes())).await.expect("sending took long")
    }

    pub(super) async fn close_sending_half(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Reads more; `false` at the end of the connection.
    async fn more(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.seen)).await;
        read.expect("nothing came").expect("the connection was reset") > 0
    }

    async fn until(&mut self, mark: &str) -> String {
        loop {
            let found = self.seen.windows(mark.len()).position(|part| part == mark.as_bytes());
            if let Some(at) = found {
                let rest = self.seen.split_off(at + mark.len());
                let text = std::mem::replace(&mut self.seen, rest);
                return String::from_utf8(text).unwrap();
            }
            let so_far = String::from_utf8_lossy(&self.seen).into_owned();
            assert!(self.more().await, "the connection ended after `{so_far}`");
        }
    }

    async fn exactly(&mut self, length: usize) -> String {
        while self.seen.len() < length {
            assert!(self.more().await, "the connection ended within a body");
        }
        let rest = self.seen.split_off(length);
        String::from_utf8(std::mem::replace(&mut self.seen, rest)).unwrap()
    }

    /// The next line of a stream's body, chunk sizes included.
    pub(super) async fn until_text(&mut self, text: &str) -> String {
        self.until(text).await
    }

    /// The first line of an interim answer.
    pub(super) async fn interim(&mut self) -> String {
        self.until("\r\n\r\n").await.trim_end().to_owned()
    }

    /// The head of an answer whose body is read later.
    pub(super) async fn head(&mut self) -> Answer {
        let head = self.until("\r\n\r\n").await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: String::new() }
    }

    pub(super) async fn reply(&mut self) -> Answer {
        self.reply_to("POST").await
    }

    pub(super) async fn reply_to(&mut self, method: &str) -> Answer {
        let mut answer = self.head().await;
        if method == "HEAD" || answer.status == 204 {
            return answer;
        }
        answer.body = match (answer.header("content-length"), answer.header("transfer-encoding")) {
            (Some(length), None) => self.exactly(length.parse().unwrap()).await,
            (None, Some("chunked")) => self.chunks().await,
            (None, None) => self.rest().await,
            other => panic!("the answer is framed as {other:?}"),
        };
        answer
    }

    async fn chunks(&mut self) -> String {
        let mut body = String::new();
        loop {
            let size = self.until("\r\n").await;
            let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
            body.push_str(&self.exactly(size).await);
            assert_eq!(self.exactly(2).await, "\r\n");
            if size == 0 {
                return body;
            }
        }
    }

    /// Everything up to the end of the connection.
    pub(super) async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8(std::mem::take(&mut self.seen)).unwrap()
    }

    /// Asserts that the server ends the connection, cleanly, and says nothing more.
    pub(super) async fn is_closed(&mut self) {
        assert_eq!(self.rest().await, "");
    }

    /// Reads until the connection ends in any way.
    pub(super) async fn is_cut(&mut self) {
        let end =
            async { while self.stream.read_buf(&mut self.seen).await.is_ok_and(|n| n > 0) {} };
        timeout(PATIENCE, end).await.expect("the connection did not end");
    }
}
