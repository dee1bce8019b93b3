//! A streamed answer on its way to the client, event by event.
//!
//! Events pass as the upstream wrote them; an event that is no JSON is left out and noted, the
//! extra usage event is left out where the client did not ask for it. The last piece goes once
//! the outcome is written. A stream that breaks ends with one error event and no `[DONE]`.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use crate::{
    identity::limits::Running,
    pipeline::{answer::Opening, refusal::Refusal, reply::ReplyStream},
    providers::{Attempt, Cause, Deadline, Failure},
    record::{AttemptEnd, CallId, Entry, Outcome},
    wire::{
        openai_chat::{self, AnswerFacts, CordonFields, ErrorBody, Events, Progress, StreamEvent},
        sse::{Event, Reader},
    },
};

/// The longest event; one may hold a whole tool call.
const EVENT_BYTES_MAX: usize = 1 << 20;
/// The most bytes of events that are written together.
const PIECE_BYTES_MAX: usize = 16 << 10;
/// How long usage and `[DONE]` may follow the end of the last choice. All else has been delivered
/// by then, so an upstream that goes on in silence costs the client no more than this.
const TAIL_MAX: Duration = Duration::from_secs(1);
/// How long an upstream's end may follow its `[DONE]` and still free the connection for reuse.
const END_MAX: Duration = Duration::from_millis(50);

/// The upstream's side of a stream: what was read, and what waits to be written.
pub struct StreamState {
    opening: Opening,
    reader: Reader,
    events: Events,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    /// A token is here.
    begun: bool,
    /// The choices that have ended.
    finished: BTreeSet<u64>,
    /// `[DONE]` is here.
    done: bool,
    /// Nothing more is read.
    ended: bool,
    broken: Option<Failure>,
}

/// What the record learns from a part of a stream.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Heard {
    facts: AnswerFacts,
    dropped_events: u64,
}

// === impl Heard ===

impl Heard {
    pub(crate) fn tell(self, entry: &mut Entry) {
        entry.answered(self.facts);
        entry.dropped_events(self.dropped_events);
    }
}

// === impl StreamState ===

impl std::fmt::Debug for StreamState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StreamState").field("done", &self.done).finish_non_exhaustive()
    }
}

impl StreamState {
    pub(crate) fn new(opening: Opening) -> Self {
        Self {
            opening,
            reader: Reader::new(EVENT_BYTES_MAX),
            events: Events::default(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            begun: false,
            finished: BTreeSet::new(),
            done: false,
            ended: false,
            broken: None,
        }
    }

    /// Whether a token, or the end, is here.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun || self.is_finished() || self.is_over() || self.broken.is_some()
    }

    /// Whether every choice that was asked for has ended: the answer is complete.
    fn is_finished(&self) -> bool {
        self.finished.len() >= self.opening.choices
    }

    /// Whether nothing more is to come.
    fn is_over(&self) -> bool {
        self.done || self.ended
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Takes bytes of the upstream and queues what the client gets of them.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Heard {
        let mut heard = Heard::default();
        self.reader.push(bytes);
        loop {
            match self.reader.next_event() {
                Ok(Some(event)) => self.take_event(event, &mut heard),
                Ok(None) => return heard,
                Err(_too_large) => {
                    self.broken = Some(Failure::upstream(Cause::TooLarge));
                    return heard;
                }
            }
        }
    }

    /// The upstream's body is over, by a failure where there is one. Without `[DONE]` the answer
    /// is complete only where all of its choices have ended; else it was cut.
    pub(crate) fn end(&mut self, failure: Option<Failure>) -> Heard {
        self.ended = true;
        let mut heard = Heard::default();
        let clean = failure.is_none() || self.is_finished();
        if let Some(event) = self.reader.finish().filter(|_| clean) {
            // The blank line that is missing, or what we write next would belong to this event.
            let raw = [&event.raw[..], b"\n\n"].concat().into();
            self.take_event(Event { raw, ..event }, &mut heard);
        }
        if !self.done && !self.is_finished() && self.broken.is_none() {
            self.broken = Some(failure.unwrap_or_else(|| Failure::upstream(Cause::BrokenBody)));
        }
        heard
    }

    fn take_event(&mut self, Event { raw, data, .. }: Event, heard: &mut Heard) {
        if self.done || self.broken.is_some() {
            return;
        }
        // A comment keeps a client awake; it passes.
        let Some(data) = data else { return self.queue(raw) };
        match self.events.read(&data) {
            StreamEvent::Done => self.done = true,
            StreamEvent::NotJson => heard.dropped_events += 1,
            StreamEvent::Error => self.broken = Some(Failure::in_stream(data)),
            StreamEvent::Chunk(chunk) => {
                self.begun = self.begun || chunk.progress == Progress::Content;
                for choice in chunk.facts.finish_reasons.keys() {
                    if !self.is_finished() {
                        self.finished.insert(*choice);
                    }
                }
                heard.facts.add(chunk.facts);
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

    /// A stream that broke before its first token can still be answered by another upstream.
    pub(crate) fn failure_before_the_first_token(&mut self) -> Option<Failure> {
        if self.begun { None } else { self.broken.take() }
    }
}

/// The stream as the listener writes it.
#[derive(Debug)]
pub(crate) struct Relay {
    state: StreamState,
    attempt: Attempt,
    entry: Option<Entry>,
    _running: Running,
    /// Until when an answer whose choices have all ended is read on.
    tail: Option<Instant>,
    /// The drain has cut the stream: one error event, then the end.
    cut: bool,
}

// === impl Relay ===

impl Relay {
    pub(crate) fn new(
        state: StreamState,
        attempt: Attempt,
        entry: Entry,
        running: Running,
    ) -> Self {
        Self { state, attempt, entry: Some(entry), _running: running, tail: None, cut: false }
    }

    /// Reads from the upstream until something can be written or the stream is over.
    async fn read(&mut self) {
        let now = Instant::now();
        let own = if self.state.is_finished() {
            *self.tail.get_or_insert(now + TAIL_MAX)
        } else {
            now + self.state.opening.deadlines.gap
        };
        let (until, name) = self.state.opening.until(own, Deadline::Gap);
        let heard = match self.attempt.next(until, name).await {
            Ok(Some(bytes)) => self.state.take(&bytes),
            Ok(None) => self.state.end(None),
            Err(failure) => self.state.end(Some(failure)),
        };
        if let Some(entry) = &mut self.entry {
            heard.tell(entry);
        }
    }

    /// Ends a stream that is complete: outcome first, then the sentinel.
    async fn complete(&mut self, mut entry: Entry) -> Bytes {
        let last = Bytes::from_static(openai_chat::done_event());
        entry.delivered(last.len(), 0);
        entry.attempt_ended(AttemptEnd::good(&self.attempt));
        let call_id = entry.call_id();
        match entry.close(Outcome::Ok, 200, None).await {
            Ok(()) => last,
            Err(fault) => {
                tracing::error!(call.id = %call_id, "the outcome is not recorded: {fault}");
                error_event(&Refusal::AuditUnavailable, call_id)
            }
        }
    }

    /// Reads the clean end behind `[DONE]`: only then can the connection be used again.
    async fn free_the_connection(&mut self) {
        if self.state.done && !self.state.ended {
            self.state.ended = true;
            let _tail = self.attempt.next(Instant::now() + END_MAX, Deadline::Gap).await;
        }
    }

    /// Ends a stream that broke: one error event in the client's format.
    async fn break_off(&self, mut entry: Entry, failure: Failure) -> Bytes {
        let call_id = entry.call_id();
        let word = failure.cause.word();
        tracing::warn!(call.id = %call_id, "the upstream's stream broke off: {word}");
        let AttemptEnd { error_type, side, .. } = AttemptEnd::failed(&failure);
        entry.attempt_ended(AttemptEnd { error_type, side, ..AttemptEnd::good(&self.attempt) });
        let event = error_event(&Refusal::upstream(failure, self.attempt.upstream()), call_id);
        close_interrupted(entry, &event, word).await;
        event
    }

    /// Ends a stream that the drain cut: one error event that says so.
    async fn cut_off(&mut self) -> Option<Bytes> {
        let entry = self.entry.take()?;
        let event = error_event(&Refusal::Draining, entry.call_id());
        close_interrupted(entry, &event, "drained").await;
        Some(event)
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
                if let Some(entry) = &mut self.entry {
                    entry.delivered(piece.len(), events);
                }
                return Some(piece);
            }
            if let Some(failure) = self.state.broken.take() {
                let entry = self.entry.take()?;
                return Some(self.break_off(entry, failure).await);
            }
            if self.state.is_over() {
                let Some(entry) = self.entry.take() else {
                    self.free_the_connection().await;
                    return None;
                };
                return Some(self.complete(entry).await);
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

/// Closes the record of a stream that ends with `event`, its error.
async fn close_interrupted(mut entry: Entry, event: &Bytes, error_type: &'static str) {
    let call_id = entry.call_id();
    entry.delivered(event.len(), 1);
    if let Err(fault) = entry.close(Outcome::Interrupted, 200, Some(error_type)).await {
        tracing::error!(call.id = %call_id, "the outcome is not recorded: {fault}");
    }
}

fn error_event(refusal: &Refusal, call_id: CallId) -> Bytes {
    let told = refusal.told();
    let call_id = call_id.to_string();
    let error = ErrorBody {
        kind: told.kind,
        code: Some(&told.code),
        message: &told.message,
        param: told.param.as_deref(),
        cordon: CordonFields { call_id: &call_id, effect: None, rules: &[], missing: &[] },
    };
    openai_chat::error_event(&error).into()
}

#[cfg(test)]
mod tests;
