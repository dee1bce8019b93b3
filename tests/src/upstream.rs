//! A provider that answers, or misbehaves, as its script says.
//!
//! It counts connections and keeps what it was asked, so that a test can say what a provider saw
//! and what it did not.

use std::{
    collections::VecDeque,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::client::PATIENCE;

mod said;

pub use said::{completion_of, counted_token, end_of, error_body, token, usage};

use said::{chunk, completion, event, whole, write_whole};

/// Between the last byte and a reset.
const BEFORE_RESET: Duration = Duration::from_millis(100);
/// What the upstream does with one request. After the script, every request gets `Answer`.
#[derive(Debug, Clone)]
pub enum Act {
    /// A good answer, JSON or a stream as the request asks.
    Answer,
    /// A good answer with this text.
    Say(String),
    /// Writes this text into this file, then answers well.
    AnswerAfterWriting(PathBuf, &'static str),
    /// A status with headers and a body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// The connection is reset (RST) before any byte.
    ResetBeforeHead,
    /// The connection is closed (FIN) before any byte.
    CloseBeforeHead,
    /// The request is read, and then nothing comes.
    StallBeforeHead,
    /// The head comes at once, a token never.
    HeadWithoutTokens,
    /// After this many tokens nothing comes.
    StallAfter(usize),
    /// After this many tokens the connection is reset (RST).
    ResetAfter(usize),
    /// After this many tokens the connection is closed (FIN), the body unfinished.
    CloseAfter(usize),
    /// One event is no JSON; the rest is good.
    BadEvent,
    /// The stream is complete, but without `[DONE]`.
    NoDone,
    /// The answer's head promises more bytes than come.
    ShortBody,
    /// The answer's head promises fewer bytes than come: another answer stands behind it.
    LongBody,
    /// A stream whose first event is this, and which then ends.
    FirstEvent(String),
    /// A status is answered from the head alone; the body is never read.
    EarlyStatus(u16),
    /// The body is read slowly, then answered well.
    SlowReader,
    /// An endless stream, one token every few milliseconds, until the client leaves.
    Endless,
    /// A stream of these pieces, and what follows them.
    Stream(Vec<String>, After),
    /// A stream as fast as the client takes it, until the client takes no more.
    Flood,
}

/// What follows the pieces of a stream.
#[derive(Debug, Clone, Copy)]
pub enum After {
    /// The body ends as its framing promises.
    End,
    /// Nothing: the connection stays open.
    Silence,
}

/// How long a client takes nothing before it is said to have stalled.
const STALL: Duration = Duration::from_secs(1);
/// More than all buffers between an upstream and a client hold.
pub const FLOOD_BYTES_MAX: u64 = 256 << 20;

impl Act {
    fn is_silence(&self) -> bool {
        matches!(
            self,
            Self::StallBeforeHead
                | Self::HeadWithoutTokens
                | Self::StallAfter(_)
                | Self::Stream(_, After::Silence)
        )
    }

    fn is_reset(&self) -> bool {
        matches!(self, Self::ResetBeforeHead | Self::ResetAfter(_))
    }
}

/// What one request looked like.
#[derive(Debug, Clone)]
pub struct Seen {
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct State {
    script: Mutex<VecDeque<Act>>,
    seen: Mutex<Vec<Seen>>,
    changed: Condvar,
    connections: AtomicU64,
    left: AtomicU64,
    /// Bytes that a client took of a flood before it stalled.
    flooded: AtomicU64,
    stopped: AtomicBool,
}

/// A running upstream; it ends with its handle.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    state: Arc<State>,
}

/// The text of a good answer.
pub const WORDS: [&str; 5] = ["The ", "answer ", "of ", "the ", "upstream."];

impl Upstream {
    /// Starts on a free port of this machine, over plain HTTP.
    pub fn start() -> Self {
        Self::script([])
    }

    /// Starts with a script.
    pub fn script(acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State::default());
        state.script.lock().expect("no panic").extend(acts);
        let shared = Arc::clone(&state);
        thread::spawn(move || accept(&listener, &shared));
        Self { address, state }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether its script holds a silence that only a deadline of ours ends.
    pub(crate) fn falls_silent(&self) -> bool {
        self.state.script.lock().expect("no panic").iter().any(Act::is_silence)
    }

    /// The base address for a configuration.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Adds to the script.
    pub fn then(&self, act: Act) {
        self.state.script.lock().expect("no panic").push_back(act);
    }

    /// Begins another script.
    pub fn replay(&self, acts: impl IntoIterator<Item = Act>) {
        *self.state.script.lock().expect("no panic") = acts.into_iter().collect();
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().expect("no panic").clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Waits until `count` requests have arrived.
    pub fn wait_for(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.state.seen.lock().expect("no panic");
        while seen.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "only {} of {count} requests arrived", seen.len());
            (seen, _) = self.state.changed.wait_timeout(seen, left).expect("no panic");
        }
    }

    /// Waits until a client has left an endless stream or a stalled answer.
    pub fn wait_for_a_departure(&self) {
        self.wait_for_count(&self.state.left, "nobody left");
    }

    /// Waits until a client takes no more of a flood; how many bytes it took.
    pub fn wait_for_a_stall(&self) -> u64 {
        self.wait_for_count(&self.state.flooded, "nobody stalled")
    }

    fn wait_for_count(&self, count: &AtomicU64, missing: &str) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.state.seen.lock().expect("no panic");
        while count.load(Ordering::SeqCst) == 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{missing}");
            (seen, _) = self.state.changed.wait_timeout(seen, left).expect("no panic");
        }
        count.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        self.state.changed.notify_all();
        drop(TcpStream::connect(self.address));
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for stream in listener.incoming() {
        if state.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { return };
        state.connections.fetch_add(1, Ordering::SeqCst);
        let state = Arc::clone(state);
        thread::spawn(move || drop(serve(stream, &state)));
    }
}

/// Serves requests of one connection until either side is done with it.
fn serve(stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    while let Some(head) = read_head(&mut reader)? {
        let act = state.script.lock().expect("no panic").pop_front().unwrap_or(Act::Answer);
        if let Act::EarlyStatus(status) = act {
            note(state, Seen { head, body: Vec::new() });
            let body = error_body("rate_limit_error", "too much");
            write_whole(&mut writer, status, &[("connection", "close".to_owned())], &body)?;
            // The connection stays open, so that only a client that reads while it writes hears.
            until_stopped(state);
            return Ok(());
        }
        let body = read_body(&mut reader, &head, matches!(act, Act::SlowReader))?;
        let seen = Seen { head, body };
        let stream = seen.json()["stream"] == Value::Bool(true);
        note(state, seen);
        let goes_on = perform(&act, stream, &mut writer, state)?;
        if act.is_reset() {
            return reset(&writer);
        }
        if !goes_on {
            return writer.shutdown(Shutdown::Both);
        }
    }
    Ok(())
}

fn until_stopped(state: &State) {
    let mut seen = state.seen.lock().expect("no panic");
    while !state.stopped.load(Ordering::SeqCst) {
        (seen, _) = state.changed.wait_timeout(seen, STALL).expect("no panic");
    }
}

/// Has the last close of this connection send a RST.
fn reset(stream: &TcpStream) -> io::Result<()> {
    // A reset overtakes what was written before it; the other side shall have read that.
    thread::sleep(BEFORE_RESET);
    TcpSocket::from_std_stream(stream.try_clone()?).set_zero_linger()
}

fn note(state: &State, seen: Seen) {
    state.seen.lock().expect("no panic").push(seen);
    state.changed.notify_all();
}

/// Reads a request's head; `None` where the client closed between requests.
fn read_head(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut head = String::new();
    loop {
        let start = head.len();
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
        if &head[start..] == "\r\n" {
            return Ok(Some(head));
        }
    }
}

fn read_body(reader: &mut impl Read, head: &str, slowly: bool) -> io::Result<Vec<u8>> {
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    if slowly {
        for chunk in body.chunks_mut(64 * 1024) {
            thread::sleep(Duration::from_millis(2));
            reader.read_exact(chunk)?;
        }
    } else {
        reader.read_exact(&mut body)?;
    }
    Ok(body)
}

/// Does what the script says; false: the connection ends here.
fn perform(act: &Act, stream: bool, writer: &mut TcpStream, state: &State) -> io::Result<bool> {
    let words = || WORDS.map(str::to_owned).to_vec();
    match act {
        Act::Answer | Act::SlowReader => answer(writer, stream, &words()),
        Act::Say(text) => answer(writer, stream, std::slice::from_ref(text)),
        Act::Status(status, headers, body) => {
            write_whole(writer, *status, headers, body)?;
            Ok(true)
        }
        Act::AnswerAfterWriting(path, text) => {
            std::fs::write(path, text)?;
            answer(writer, stream, &words())
        }
        Act::EarlyStatus(_) | Act::ResetBeforeHead | Act::CloseBeforeHead => Ok(false),
        Act::StallBeforeHead => until_left(writer, state),
        Act::HeadWithoutTokens => {
            write_stream_head(writer)?;
            until_left(writer, state)
        }
        Act::StallAfter(tokens) => {
            write_stream_head(writer)?;
            write_tokens(writer, *tokens)?;
            until_left(writer, state)
        }
        Act::ResetAfter(tokens) | Act::CloseAfter(tokens) => {
            write_stream_head(writer)?;
            write_tokens(writer, *tokens)?;
            Ok(false)
        }
        Act::BadEvent => {
            write_stream_head(writer)?;
            write_tokens(writer, 2)?;
            write_chunk(writer, "data: {this is no json\n\n")?;
            write_rest(writer, 2, true)
        }
        Act::NoDone => {
            write_stream_head(writer)?;
            write_tokens(writer, 2)?;
            write_rest(writer, 2, false)
        }
        Act::ShortBody => {
            let body = completion(&words()).to_string();
            write!(writer, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")?;
            write!(writer, "content-length: {}\r\n\r\n{body}", body.len() + 100)?;
            Ok(false)
        }
        Act::LongBody => {
            let both = whole(200, &[], &completion(&words()).to_string())
                + &whole(200, &[], &completion_of("smuggled"));
            writer.write_all(both.as_bytes())?;
            Ok(true)
        }
        Act::FirstEvent(data) => {
            write_stream_head(writer)?;
            write_chunk(writer, &format!("data: {data}\n\n"))?;
            writer.write_all(b"0\r\n\r\n")?;
            Ok(true)
        }
        Act::Endless => endless(writer, state),
        Act::Stream(pieces, after) => {
            write_stream_head(writer)?;
            pieces.iter().try_for_each(|piece| write_chunk(writer, piece))?;
            match after {
                After::End => writer.write_all(b"0\r\n\r\n").map(|()| true),
                After::Silence => until_left(writer, state),
            }
        }
        Act::Flood => flood(writer, state),
    }
}

fn answer(writer: &mut TcpStream, stream: bool, words: &[String]) -> io::Result<bool> {
    if !stream {
        write_whole(writer, 200, &[], &completion(words).to_string())?;
        return Ok(true);
    }
    write_stream_head(writer)?;
    for word in words {
        write_chunk(writer, &event(&chunk(&json!({"content": word}), None)))?;
    }
    finish(writer, true)
}

fn write_rest(writer: &mut TcpStream, from: usize, done: bool) -> io::Result<bool> {
    for word in &WORDS[from..] {
        write_chunk(writer, &event(&chunk(&json!({"content": word}), None)))?;
    }
    finish(writer, done)
}

fn finish(writer: &mut TcpStream, done: bool) -> io::Result<bool> {
    write_chunk(writer, &end_of(0))?;
    write_chunk(writer, &usage())?;
    if done {
        write_chunk(writer, "data: [DONE]\n\n")?;
    }
    writer.write_all(b"0\r\n\r\n")?;
    Ok(true)
}

fn endless(writer: &mut TcpStream, state: &State) -> io::Result<bool> {
    write_stream_head(writer)?;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if write_tokens(writer, 1).is_err() {
            return departed(state);
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(false)
}

fn flood(writer: &mut TcpStream, state: &State) -> io::Result<bool> {
    write_stream_head(writer)?;
    writer.set_write_timeout(Some(STALL))?;
    let piece = event(&chunk(&json!({"content": "x".repeat(16 << 10)}), None));
    let mut sent = 0;
    while sent < FLOOD_BYTES_MAX && write_chunk(writer, &piece).is_ok() {
        sent += piece.len() as u64;
    }
    state.flooded.store(sent, Ordering::SeqCst);
    state.changed.notify_all();
    until_left(writer, state)
}

/// Waits until the client closes; it must not have to wait long.
fn until_left(writer: &mut TcpStream, state: &State) -> io::Result<bool> {
    let mut byte = [0];
    match writer.read(&mut byte) {
        Ok(0) => departed(state),
        Err(fault) if fault.kind() == io::ErrorKind::ConnectionReset => departed(state),
        Ok(_) | Err(_) => Ok(false),
    }
}

fn departed(state: &State) -> io::Result<bool> {
    state.left.fetch_add(1, Ordering::SeqCst);
    state.changed.notify_all();
    Ok(false)
}

fn write_tokens(writer: &mut TcpStream, count: usize) -> io::Result<()> {
    for index in 0..count {
        let word = WORDS[index % WORDS.len()];
        write_chunk(writer, &event(&chunk(&json!({"content": word}), None)))?;
    }
    Ok(())
}

fn write_stream_head(writer: &mut TcpStream) -> io::Result<()> {
    writer.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    )?;
    write_chunk(writer, &event(&chunk(&json!({"role": "assistant", "content": ""}), None)))
}

fn write_chunk(writer: &mut TcpStream, text: &str) -> io::Result<()> {
    writer.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
}
