//! From a final head to an answer that may go to the client: the whole body, or a stream whose
//! first token is here. Until then another upstream can still be asked.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use crate::{
    catalog::facts::Deadlines,
    identity::limits::Running,
    pipeline::{
        INLINE_BODY_BYTES_MAX, Refusal,
        reply::{Reply, ReplyBody, ReplyHead, unrecorded},
        stream::{Relay, StreamState},
    },
    providers::{Attempt, Cause, Deadline, Failure, Side},
    record::{AttemptEnd, Entry, Outcome},
    room::Budget,
    wire::{
        Call,
        openai_chat::{self, Whole},
    },
};

/// Bytes of events that may come before the first token.
const LEAD_BYTES_MAX: usize = 256 << 10;
/// The longest error that is read where a stream was asked for.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// What a client gets, before its head is written.
#[derive(Debug)]
pub enum Answer {
    Whole(Bytes),
    Stream { state: Box<StreamState>, attempt: Box<Attempt> },
}

/// How an attempt is opened: its deadlines, what the client asked for, and the room that an answer
/// held whole takes.
#[derive(Debug, Clone)]
pub(crate) struct Opening {
    pub(crate) deadlines: Deadlines,
    began: Instant,
    stream: bool,
    /// Whether the client itself asked for usage in the stream.
    pub(crate) include_usage: bool,
    /// How many choices the client asked for.
    pub(crate) choices: usize,
    room: Arc<Budget>,
}

// === impl Opening ===

impl Opening {
    /// What `call`, which began at `began`, asks of an attempt under `deadlines`.
    pub(crate) fn of(
        call: &Call,
        deadlines: Deadlines,
        began: Instant,
        room: &Arc<Budget>,
    ) -> Self {
        let choices = call.shape().choice_count.unwrap_or(1).max(1);
        Self {
            deadlines,
            began,
            stream: call.stream(),
            include_usage: call.include_usage(),
            choices: usize::try_from(choices).unwrap_or(usize::MAX),
            room: Arc::clone(room),
        }
    }

    /// Waits for the whole answer, or for the first token of a stream.
    pub(crate) async fn open(
        &self,
        mut attempt: Attempt,
        entry: &mut Entry,
        started: Instant,
    ) -> Result<Answer, Failure> {
        entry.answering(attempt.status());
        match (self.stream, attempt.is_event_stream()) {
            (false, _) => self.read_whole(&mut attempt, entry, started).await,
            (true, true) => self.open_stream(attempt, entry, started).await,
            (true, false) => Err(self.no_stream(&mut attempt, started).await),
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
        attempt: &mut Attempt,
        entry: &mut Entry,
        started: Instant,
    ) -> Result<Answer, Failure> {
        let mut body = self.room.collect();
        let (mut until, mut name) =
            self.until(started + self.deadlines.first_token, Deadline::FirstToken);
        while let Some(piece) = attempt.next(until, name).await? {
            entry.first_token();
            if !body.push(piece) {
                return Err(found(no_room(), attempt));
            }
            (until, name) = self.until(Instant::now() + self.deadlines.gap, Deadline::Gap);
        }
        let body = body.freeze();
        match understood(&body).await {
            Whole::Answer(facts) => entry.answered(facts),
            Whole::Error => return Err(found(Failure::in_stream(body), attempt)),
            Whole::Unknown => return Err(found(Failure::upstream(Cause::Protocol), attempt)),
        }
        entry.attempt_ended(AttemptEnd::good(attempt));
        entry.delivered(body.len(), 0);
        Ok(Answer::Whole(body))
    }

    async fn open_stream(
        &self,
        mut attempt: Attempt,
        entry: &mut Entry,
        started: Instant,
    ) -> Result<Answer, Failure> {
        let (until, name) = self.until(started + self.deadlines.first_token, Deadline::FirstToken);
        let mut state = StreamState::new(self.clone());
        while !state.has_begun() {
            let heard = match attempt.next(until, name).await? {
                Some(bytes) => state.take(&bytes),
                None => state.end(None),
            };
            heard.tell(entry);
            if !state.has_begun() && state.queued_bytes() > LEAD_BYTES_MAX {
                return Err(found(Failure::upstream(Cause::TooLarge), &attempt));
            }
        }
        if let Some(failure) = state.failure_before_the_first_token() {
            return Err(found(failure, &attempt));
        }
        entry.first_token();
        Ok(Answer::Stream { state: Box::new(state), attempt: Box::new(attempt) })
    }

    /// Why there is no stream where one was asked for: the error in the body, if it holds one.
    async fn no_stream(&self, attempt: &mut Attempt, started: Instant) -> Failure {
        let (until, name) = self.until(started + self.deadlines.first_token, Deadline::FirstToken);
        let mut body = self.room.collect();
        loop {
            match attempt.next(until, name).await {
                Ok(Some(piece)) => {
                    if !body.push(piece) {
                        return found(no_room(), attempt);
                    }
                }
                Ok(None) => break,
                Err(failure) => return failure,
            }
            if body.held() > ERROR_BYTES_MAX {
                return found(Failure::upstream(Cause::Protocol), attempt);
            }
        }
        let body = body.freeze();
        let failure = match openai_chat::answer(&body) {
            Whole::Error => Failure::in_stream(body),
            Whole::Answer(_) | Whole::Unknown => Failure::upstream(Cause::Protocol),
        };
        found(failure, attempt)
    }
}

/// Reads a whole body; a long one off the async threads.
async fn understood(body: &Bytes) -> Whole {
    if body.len() <= INLINE_BODY_BYTES_MAX {
        return openai_chat::answer(body);
    }
    let body = body.clone();
    tokio::task::spawn_blocking(move || openai_chat::answer(&body)).await.unwrap_or_else(|fault| {
        tracing::error!("reading an answer failed: {fault}");
        Whole::Unknown
    })
}

/// The gateway holds as much as it may.
fn no_room() -> Failure {
    Failure { side: Side::Gateway, ..Failure::upstream(Cause::NoRoom) }
}

/// A failure that was found in what an attempt brought, with what that has cost.
fn found(failure: Failure, attempt: &Attempt) -> Failure {
    let request_id = attempt.request_id().map(str::to_owned);
    Failure { traffic: Box::new(attempt.traffic()), request_id, ..failure }
}

// === impl AttemptEnd ===

impl AttemptEnd {
    /// The end of an attempt that went well.
    pub(crate) fn good(attempt: &Attempt) -> Self {
        let traffic = attempt.traffic();
        Self {
            error_type: None,
            side: None,
            http_status: Some(attempt.status()),
            request_bytes: traffic.request_bytes,
            response_bytes: traffic.response_bytes,
        }
    }
}

// === impl Answer ===

impl Answer {
    /// The reply: a whole body closes the call first, a stream closes it before its last piece.
    pub(crate) async fn into_reply(self, mut entry: Entry, running: Running) -> Reply {
        let mut head = ReplyHead::of(&entry, 200);
        match self {
            Self::Whole(body) => {
                if let Err(fault) = entry.close(Outcome::Ok, 200, None).await {
                    tracing::error!(call.id = %head.call_id, "the outcome is not recorded: {fault}");
                    return unrecorded(&Refusal::AuditUnavailable, head.call_id);
                }
                Reply::whole(head, body)
            }
            Self::Stream { state, attempt } => {
                head.content_type = "text/event-stream";
                entry.replies(head.status);
                let relay = Relay::new(*state, *attempt, entry, running);
                Reply { head, body: ReplyBody::Stream(Box::new(relay)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn opening(total: Option<Duration>) -> Opening {
        let body = Bytes::from_static(
            br#"{"model":"m","n":2,"messages":[{"role":"user","content":"x"}]}"#,
        );
        let call = openai_chat::parse(body).unwrap();
        let second = Duration::from_secs(1);
        let deadlines =
            Deadlines { connect: second, first_token: second, answer: second, gap: second, total };
        Opening::of(&call, deadlines, Instant::now(), &Arc::new(Budget::new(0)))
    }

    #[test]
    fn the_nearer_deadline_fires_and_is_named() {
        let own = Duration::from_secs(20);
        for (total_s, wait_s, name) in [
            (None, 20, Deadline::Gap),
            (Some(30), 20, Deadline::Gap),
            (Some(20), 20, Deadline::Gap),
            (Some(5), 5, Deadline::Total),
        ] {
            let opening = opening(total_s.map(Duration::from_secs));
            let until = opening.until(opening.began + own, Deadline::Gap);
            assert_eq!(until, (opening.began + Duration::from_secs(wait_s), name), "{total_s:?}");
        }
    }
}
