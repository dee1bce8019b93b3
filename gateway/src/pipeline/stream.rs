//! A streamed answer on its way to the client, event by event.
//!
//! Events pass as the upstream wrote them; an event that is no JSON is left out and noted, the
//! extra usage event is left out where the client did not ask for it. The last piece goes once
//! the outcome is written. A stream that breaks ends with one error event and no `[DONE]`.

use std::{collections::VecDeque, time::Instant};

use bytes::{Bytes, BytesMut};

use crate::{
    identity::limits::Running,
    pipeline::{
        answer::{Opening, TAIL_MAX},
        refusal::Refusal,
        reply::ReplyStream,
    },
    providers::{Attempt, Cause, Deadline, Failure, Side, Traffic},
    record::{AttemptEnd, Entry, Outcome},
    wire::{
        Usage,
        openai_chat::{self, CordonFields, ErrorBody, Progress, StreamEvent},
        sse::Reader,
    },
};

/// The most bytes of events that are written together.
const PIECE_BYTES_MAX: usize = 16 << 10;

/// The upstream's side of a stream: what was read, and what waits to be written.
pub struct StreamState {
    opening: Opening,
    reader: Reader,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    begun: bool,
    finished: bool,
    done: bool,
    ended: bool,
    broken: Option<Failure>,
    usage: Option<Usage>,
    pub(crate) attempt: Option<Attempt>,
}

impl std::fmt::Debug for StreamState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StreamState").field("done", &self.done).finish_non_exhaustive()
    }
}

impl StreamState {
    pub(crate) fn new(opening: Opening, reader: Reader) -> Self {
        Self {
            opening,
            reader,
            queue: VecDeque::new(),
            queued_bytes: 0,
            begun: false,
            finished: false,
            done: false,
            ended: false,
            broken: None,
            usage: None,
            attempt: None,
        }
    }

    /// Whether a token, or the end, is here.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun || self.done || self.ended || self.broken.is_some()
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Takes bytes of the upstream and queues what the client gets of them.
    pub(crate) fn take(&mut self, bytes: &[u8], entry: &mut Entry) -> Result<(), Failure> {
        self.reader.push(bytes);
        loop {
            match self.reader.next_event() {
                Ok(Some(event)) => self.take_event(event.raw, event.data, entry),
                Ok(None) => return Ok(()),
                Err(_too_large) => return Err(in_stream(Cause::TooLarge)),
            }
        }
    }

    fn take_event(&mut self, raw: Bytes, data: Option<Bytes>, entry: &mut Entry) {
        if self.done || self.broken.is_some() {
            return;
        }
        // A comment keeps a client awake; it passes.
        let Some(data) = data else { return self.queue(raw) };
        match openai_chat::event(&data) {
            StreamEvent::Done => self.done = true,
            StreamEvent::NotJson => entry.dropped_event(),
            StreamEvent::Error(_) => {
                let failure = in_stream(Cause::BrokenBody);
                self.broken = Some(Failure { body: Some(data), ..failure });
            }
            StreamEvent::Chunk(chunk) => {
                let facts = chunk.facts;
                self.usage = facts.usage.or(self.usage);
                self.finished = self.finished || !facts.finish_reasons.is_empty();
                self.begun = self.begun || chunk.progress == Progress::Content;
                entry.answered(facts.model, facts.id, facts.finish_reasons);
                if chunk.progress != Progress::UsageOnly || self.opening.include_usage {
                    self.queue(raw);
                }
            }
        }
    }

    fn queue(&mut self, raw: Bytes) {
        self.queued_bytes += raw.len();
        self.queue.push_back(raw);
    }

    /// What waits to be written, and how many events it is: those that came together go together,
    /// so that a client that falls behind costs fewer writes, not more.
    fn queued(&mut self) -> Option<(Bytes, u64)> {
        let first = self.queue.pop_front()?;
        let mut events = 1;
        let mut piece = first;
        if self.queue.front().is_some_and(|next| piece.len() + next.len() <= PIECE_BYTES_MAX) {
            let mut joined = BytesMut::with_capacity(self.queued_bytes.min(PIECE_BYTES_MAX));
            joined.extend_from_slice(&piece);
            let fits =
                |joined: &BytesMut, next: &mut Bytes| joined.len() + next.len() <= PIECE_BYTES_MAX;
            while let Some(next) = self.queue.pop_front_if(|next| fits(&joined, next)) {
                joined.extend_from_slice(&next);
                events += 1;
            }
            piece = joined.freeze();
        }
        self.queued_bytes -= piece.len();
        Some((piece, events))
    }

    /// The upstream's body ended cleanly. Without `[DONE]` that is an end only where a finish
    /// reason was seen; else the stream was cut.
    pub(crate) fn upstream_ended(&mut self) {
        self.ended = true;
        if !self.done && !self.finished && self.broken.is_none() {
            self.broken = Some(in_stream(Cause::BrokenBody));
        }
    }

    /// A stream that broke before its first token can still be answered by another upstream.
    pub(crate) fn failure_before_the_first_token(&mut self) -> Option<Failure> {
        if self.begun { None } else { self.broken.take() }
    }
}

/// The stream as the listener writes it.
#[derive(Debug)]
pub(crate) struct Relay {
    state: StreamState,
    entry: Option<Entry>,
    _running: Running,
    /// The drain has cut the stream: one error event, then the end.
    cut: bool,
    bytes: u64,
}

impl Relay {
    pub(crate) fn new(state: StreamState, entry: Entry, running: Running) -> Self {
        Self { state, entry: Some(entry), _running: running, cut: false, bytes: 0 }
    }

    /// Reads from the upstream until something can be written or the stream is over.
    async fn read(&mut self) {
        let own = Instant::now() + self.state.opening.deadlines.gap;
        let (until, name) = self.state.opening.until(own, Deadline::Gap);
        let Some(attempt) = &mut self.state.attempt else { return self.state.upstream_ended() };
        match attempt.next(until, name).await {
            Ok(Some(bytes)) => {
                let Some(entry) = &mut self.entry else { return };
                if let Err(failure) = self.state.take(&bytes, entry) {
                    self.state.broken = Some(failure);
                }
            }
            Ok(None) => self.state.upstream_ended(),
            Err(failure) => self.state.broken = Some(failure),
        }
    }

    /// Ends a stream that is complete: outcome first, then the sentinel.
    async fn complete(&mut self, mut entry: Entry) -> Option<Bytes> {
        if let (false, Some(attempt)) = (self.state.ended, &mut self.state.attempt) {
            // The connection can be used again only after its clean end has been read.
            let _tail = attempt.next(Instant::now() + TAIL_MAX, Deadline::Gap).await;
        }
        let last = Bytes::from_static(b"data: [DONE]\n\n");
        self.bytes += last.len() as u64;
        entry.delivered(last.len(), 0);
        self.attempt_ended(&mut entry, None);
        let call_id = entry.call_id();
        match entry.close(Outcome::Ok, 200, None).await {
            Ok(()) => Some(last),
            Err(fault) => {
                tracing::error!(call.id = %call_id, "the outcome is not recorded: {fault}");
                Some(error_event(&Refusal::AuditUnavailable, &call_id.to_string()))
            }
        }
    }

    /// Ends a stream that broke: one error event in the client's format.
    async fn break_off(&mut self, mut entry: Entry, failure: Failure) -> Option<Bytes> {
        let call_id = entry.call_id();
        let word = failure.cause.word();
        tracing::warn!(call.id = %call_id, "the upstream's stream broke off: {word}");
        self.attempt_ended(&mut entry, Some(&failure));
        let event = error_event(&Refusal::Upstream(Box::new(failure)), &call_id.to_string());
        entry.delivered(event.len(), 1);
        if let Err(fault) = entry.close(Outcome::Interrupted, 200, Some(word)).await {
            tracing::error!(call.id = %call_id, "the outcome is not recorded: {fault}");
        }
        Some(event)
    }

    /// Ends a stream that the drain cut: one error event that says so.
    async fn cut_off(&mut self) -> Option<Bytes> {
        let mut entry = self.entry.take()?;
        let call_id = entry.call_id();
        let event = error_event(&Refusal::Draining, &call_id.to_string());
        entry.delivered(event.len(), 1);
        if let Err(fault) = entry.close(Outcome::Interrupted, 200, Some("drained")).await {
            tracing::error!(call.id = %call_id, "the outcome is not recorded: {fault}");
        }
        Some(event)
    }

    fn sent(&self) -> u64 {
        self.state.attempt.as_ref().map_or(0, |attempt| attempt.traffic().request_bytes)
    }

    fn attempt_ended(&self, entry: &mut Entry, failure: Option<&Failure>) {
        let failed = failure.map(AttemptEnd::failed);
        entry.attempt_ended(AttemptEnd {
            error_type: failed.and_then(|end| end.error_type),
            side: failed.and_then(|end| end.side),
            http_status: Some(200),
            usage: self.state.usage,
            request_bytes: self.sent(),
            response_bytes: self.bytes,
        });
    }
}

#[async_trait::async_trait]
impl ReplyStream for Relay {
    async fn next(&mut self) -> Option<Bytes> {
        if self.cut {
            return self.cut_off().await;
        }
        loop {
            if let Some((piece, events)) = self.state.queued() {
                self.bytes += piece.len() as u64;
                if let Some(entry) = &mut self.entry {
                    entry.delivered(piece.len(), events);
                }
                return Some(piece);
            }
            if let Some(failure) = self.state.broken.take() {
                let entry = self.entry.take()?;
                return self.break_off(entry, failure).await;
            }
            if self.state.done || self.state.ended {
                let entry = self.entry.take()?;
                return self.complete(entry).await;
            }
            self.entry.as_ref()?;
            self.read().await;
        }
    }

    fn interrupt(&mut self) {
        self.cut = true;
        if let Some(entry) = &mut self.entry {
            entry.interrupt();
        }
    }
}

/// A failure of the upstream after its head.
fn in_stream(cause: Cause) -> Failure {
    Failure { status: Some(200), ..Failure::new(Side::Upstream, cause, Traffic::default()) }
}

fn error_event(refusal: &Refusal, call_id: &str) -> Bytes {
    let told = refusal.told();
    let error = ErrorBody {
        kind: told.kind,
        code: Some(&told.code),
        message: &told.message,
        param: None,
        cordon: CordonFields { call_id, effect: None, rules: &[], missing: &[] },
    };
    openai_chat::error_event(&error).into()
}
