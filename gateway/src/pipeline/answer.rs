//! From a final head to an answer that may go to the client: the whole body, or a stream whose
//! first token is here. Until then another upstream can still be asked.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    catalog::facts::Deadlines,
    identity::limits::Running,
    pipeline::{
        Refusal,
        reply::{Reply, ReplyBody, ReplyHead, unrecorded},
        stream::{Relay, StreamState},
    },
    providers::{Attempt, Cause, Deadline, Failure, Side},
    record::{AttemptEnd, Entry, Outcome},
    room::Budget,
    wire::{openai_chat, sse::Reader},
};

/// Bytes of events that may come before the first token.
const LEAD_BYTES_MAX: usize = 256 * 1024;
/// How long an upstream's end may follow its `[DONE]` and still free the connection for reuse.
pub(crate) const TAIL_MAX: Duration = Duration::from_millis(50);

/// What a client gets, before its head is written.
#[derive(Debug)]
pub enum Answer {
    Whole(Bytes),
    Stream(Box<StreamState>),
}

/// How an attempt is opened: its deadlines, what the client asked of the stream, and the room
/// that an answer held whole takes.
#[derive(Debug, Clone)]
pub(crate) struct Opening {
    pub(crate) deadlines: Deadlines,
    pub(crate) began: Instant,
    pub(crate) include_usage: bool,
    pub(crate) room: Arc<Budget>,
}

impl Opening {
    /// Waits for the whole answer, or for the first token of a stream.
    pub(crate) async fn open(
        &self,
        attempt: Attempt,
        entry: &mut Entry,
        stream: bool,
        started: Instant,
    ) -> Result<Answer, Failure> {
        if stream {
            self.open_stream(attempt, entry, started).await
        } else {
            self.read_whole(attempt, entry, started).await
        }
    }

    /// The nearer of a wait's own end and the call's, with the name of the one that would fire.
    pub(crate) fn until(&self, own: Instant, name: Deadline) -> (Instant, Deadline) {
        match self.deadlines.total.map(|total| self.began + total) {
            Some(total) if total < own => (total, Deadline::Total),
            Some(_) | None => (own, name),
        }
    }

    async fn read_whole(
        &self,
        mut attempt: Attempt,
        entry: &mut Entry,
        started: Instant,
    ) -> Result<Answer, Failure> {
        let mut body = self.room.collect();
        let (mut until, mut name) =
            self.until(started + self.deadlines.first_token, Deadline::FirstToken);
        while let Some(bytes) = attempt.next(until, name).await? {
            if body.is_empty() {
                entry.first_token();
            }
            if !body.push(&bytes) {
                return Err(Failure::new(Side::Gateway, Cause::NoRoom, attempt.traffic()));
            }
            (until, name) = self.until(Instant::now() + self.deadlines.gap, Deadline::Gap);
        }
        let body = body.freeze();
        let Ok(told) = openai_chat::answer(&body) else {
            return Err(Failure::new(Side::Upstream, Cause::Protocol, attempt.traffic()));
        };
        entry.answered(told.model, told.id, told.finish_reasons);
        entry.attempt_ended(AttemptEnd {
            error_type: None,
            side: None,
            http_status: Some(attempt.status()),
            usage: told.usage,
            request_bytes: attempt.traffic().request_bytes,
            response_bytes: body.len() as u64,
        });
        entry.delivered(body.len(), 0);
        Ok(Answer::Whole(body))
    }

    async fn open_stream(
        &self,
        mut attempt: Attempt,
        entry: &mut Entry,
        started: Instant,
    ) -> Result<Answer, Failure> {
        if !attempt.is_event_stream() {
            return Err(Failure::new(Side::Upstream, Cause::Protocol, attempt.traffic()));
        }
        let (until, name) = self.until(started + self.deadlines.first_token, Deadline::FirstToken);
        let mut state = StreamState::new(self.clone(), Reader::new(LEAD_BYTES_MAX));
        while !state.has_begun() {
            let Some(bytes) = attempt.next(until, name).await? else {
                state.upstream_ended();
                break;
            };
            state.take(&bytes, entry)?;
            if state.queued_bytes() > LEAD_BYTES_MAX {
                return Err(Failure::new(Side::Upstream, Cause::TooLarge, attempt.traffic()));
            }
        }
        if let Some(failure) = state.failure_before_the_first_token() {
            return Err(failure);
        }
        entry.first_token();
        state.attempt = Some(attempt);
        Ok(Answer::Stream(Box::new(state)))
    }
}

impl Answer {
    /// The reply: a whole body closes the call first, a stream closes it before its last piece.
    pub(crate) async fn into_reply(self, entry: Entry, running: Running) -> Reply {
        let mut head = ReplyHead::of(&entry, 200);
        match self {
            Self::Whole(body) => {
                if let Err(fault) = entry.close(Outcome::Ok, 200, None).await {
                    tracing::error!(call.id = %head.call_id, "the outcome is not recorded: {fault}");
                    return unrecorded(&Refusal::AuditUnavailable, head.call_id);
                }
                Reply::whole(head, body)
            }
            Self::Stream(state) => {
                head.content_type = "text/event-stream";
                let relay = Relay::new(*state, entry, running);
                Reply { head, body: ReplyBody::Stream(Box::new(relay)) }
            }
        }
    }
}
