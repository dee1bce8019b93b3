//! The local model as an upstream: the outbound bytes read back, the answer in OpenAI's format.
//!
//! What was judged is what it answers: the prompt comes from the outbound bytes, through `wire`.
//! What the model cannot do is refused as a remote upstream would refuse it, with 400.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde_json::json;
use tokio::time::timeout_at;

use crate::{
    local::{Answer, Finish, LocalError, LocalModel, Message, Piece, Request},
    providers::{Attempt, Cause, Failure, Side, Source, Traffic, Until, openai::ErrorKind},
    record::Clearance,
    wire::{
        Prompt, WireError,
        openai_chat::{Completion, Head, Part, chunk_event, completion, done_event, prompt},
    },
};

/// For requests that do not say: the likeliest token each time. What others document as their
/// default (1.0) makes a model this small ramble.
const TEMPERATURE: f64 = 0.0;
const TOP_P: f64 = 1.0;

/// The largest answer of a local model that is held whole; its window is far smaller.
const WHOLE_BYTES_MAX: usize = 4 << 20;

/// A running answer of the local model. Dropping it ends the work between two tokens.
pub(crate) struct LocalAnswer {
    answer: Answer,
    rendering: Rendering,
    /// The first piece, taken before the head went out.
    first: Option<Bytes>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Ended,
    Broken,
}

/// Turns pieces into the bytes of an answer.
struct Rendering {
    id: String,
    created_s: u64,
    model: String,
    fingerprint: String,
    shape: Shape,
}

enum Shape {
    Stream { opened: bool, include_usage: bool },
    Whole { text: String },
}

/// Asks the local model and waits for its first token, so that its refusals are failures and not
/// answers.
pub(crate) async fn attempt(
    model: Option<&LocalModel>,
    clearance: &Clearance,
    until: Until,
) -> Result<Attempt, Failure> {
    let missing = || Failure::new(Side::Gateway, Cause::LocalUnavailable, Traffic::default());
    let model = model.ok_or_else(missing)?;
    let asked = prompt(&clearance.outbound().bytes).map_err(|error| unreadable(&error))?;
    let rendering = Rendering::new(clearance, &asked, model.fingerprint());
    let answer = model.generate(request(asked)).map_err(|error| failure(&error))?;
    begin(answer, rendering, until).await.map(|answer| attempt_of(clearance, answer))
}

fn attempt_of(clearance: &Clearance, answer: LocalAnswer) -> Attempt {
    let request_bytes = clearance.outbound().bytes.len() as u64;
    let traffic = Traffic { request_bytes, ..Traffic::default() };
    Attempt {
        upstream: Arc::clone(clearance.upstream()),
        status: 200,
        event_stream: clearance.stream(),
        request_id: None,
        traffic,
        room_bytes: None,
        source: Source::Local(Box::new(answer)),
    }
}

/// Waits for the first piece.
async fn begin(
    mut answer: Answer,
    mut rendering: Rendering,
    until: Until,
) -> Result<LocalAnswer, Failure> {
    let of = |cause| Failure::new(Side::Gateway, cause, Traffic::default());
    let piece = match timeout_at(until.at, answer.next()).await {
        Ok(Some(Ok(piece))) => piece,
        Ok(Some(Err(error))) => return Err(failure(&error)),
        Ok(None) => return Err(of(Cause::LocalUnavailable)),
        Err(_elapsed) => return Err(of(Cause::Timeout(until.name))),
    };
    let state = if is_end(&piece) { State::Ended } else { State::Running };
    let first = rendering.take(piece).ok_or_else(|| of(Cause::TooLarge))?;
    Ok(LocalAnswer { answer, rendering, first: Some(first), state })
}

/// The model's own request, from what leaves policy.
fn request(asked: Prompt) -> Request {
    let messages = asked.turns.into_iter();
    Request {
        messages: messages
            .map(|turn| Message { role: turn.role.to_owned(), text: turn.text })
            .collect(),
        temperature: narrow(asked.temperature.unwrap_or(TEMPERATURE)),
        top_p: narrow(asked.top_p.unwrap_or(TOP_P)),
        seed: asked.seed,
        max_tokens: asked.max_tokens.map(|max| usize::try_from(max).unwrap_or(usize::MAX)),
        stop: asked.stop,
    }
}

/// Sampling computes in single precision.
fn narrow(number: f64) -> f32 {
    number as f32
}

/// What the model's error is to a caller.
fn failure(error: &LocalError) -> Failure {
    let of = |cause| Failure::new(Side::Gateway, cause, Traffic::default());
    match error {
        LocalError::Unavailable { .. } | LocalError::Failed { .. } => of(Cause::LocalUnavailable),
        LocalError::Busy { retry_after_s } => Failure {
            retry_after: Some(Duration::from_secs(*retry_after_s)),
            ..of(Cause::LocalBusy)
        },
        LocalError::ContextLength { .. } => bad_request(
            &error.to_string(),
            "messages",
            Some("context_length_exceeded"),
            ErrorKind::ContextLength,
        ),
    }
}

/// The model cannot do what is asked; `error` names the field, never the text.
fn unreadable(error: &WireError) -> Failure {
    let param = match error {
        WireError::Parameter { param, .. } => *param,
        WireError::Json { .. }
        | WireError::DuplicateKey { .. }
        | WireError::TooDeep { .. }
        | WireError::TooMany { .. } => "messages",
    };
    bad_request(&error.to_string(), param, None, ErrorKind::Other)
}

/// The refusal of an upstream that understands the request and will not do it.
fn bad_request(message: &str, param: &str, code: Option<&str>, kind: ErrorKind) -> Failure {
    let body = json!({"error": {
        "message": message,
        "type": "invalid_request_error",
        "param": param,
        "code": code,
    }});
    Failure {
        status: Some(400),
        body: Some(body.to_string().into()),
        kind,
        ..Failure::new(Side::Upstream, Cause::Status, Traffic::default())
    }
}

fn is_end(piece: &Piece) -> bool {
    match piece {
        Piece::Text(_) => false,
        Piece::End { .. } => true,
    }
}

// === impl LocalAnswer ===

impl LocalAnswer {
    /// The next bytes; empty ones are a sign of progress where the answer is held whole.
    pub(crate) async fn next(&mut self, until: Until) -> Result<Option<Bytes>, Cause> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        match self.state {
            State::Running => {}
            State::Ended => return Ok(None),
            State::Broken => return Err(Cause::BrokenBody),
        }
        let next = timeout_at(until.at, self.answer.next()).await;
        self.state = State::Broken;
        let piece = match next {
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(_)) | None) => return Err(Cause::BrokenBody),
            Err(_elapsed) => return Err(Cause::Timeout(until.name)),
        };
        let ended = is_end(&piece);
        let bytes = self.rendering.take(piece).ok_or(Cause::TooLarge)?;
        self.state = if ended { State::Ended } else { State::Running };
        Ok(Some(bytes))
    }
}

impl std::fmt::Debug for LocalAnswer {
    /// Without the first piece, which is part of an answer.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LocalAnswer")
            .field("rendering", &self.rendering)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

// === impl Rendering ===

impl Rendering {
    fn new(clearance: &Clearance, asked: &Prompt, fingerprint: &str) -> Self {
        let shape = if clearance.stream() {
            Shape::Stream { opened: false, include_usage: asked.include_usage }
        } else {
            Shape::Whole { text: String::new() }
        };
        Self {
            id: format!("chatcmpl-{}", clearance.call_id()),
            created_s: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            model: clearance.upstream().model().to_owned(),
            fingerprint: fingerprint.to_owned(),
            shape,
        }
    }

    /// The bytes that a piece adds; `None` where an answer outgrows its limit.
    fn take(&mut self, piece: Piece) -> Option<Bytes> {
        let head = Head {
            id: &self.id,
            created: self.created_s,
            model: &self.model,
            fingerprint: &self.fingerprint,
        };
        match &mut self.shape {
            Shape::Stream { opened, include_usage } => {
                let role = !std::mem::replace(opened, true);
                Some(events(&head, role, piece, *include_usage))
            }
            Shape::Whole { text } => whole(head, text, piece),
        }
    }
}

impl std::fmt::Debug for Rendering {
    /// Without the text, which is an answer.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Rendering").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The events that a piece becomes.
fn events(head: &Head<'_>, role: bool, piece: Piece, include_usage: bool) -> Bytes {
    let mut bytes = if role { chunk_event(head, Part::Role) } else { Vec::new() };
    match piece {
        Piece::Text(text) => bytes.extend(chunk_event(head, Part::Text(&text))),
        Piece::End { finish, input_tokens, output_tokens } => {
            bytes.extend(chunk_event(head, Part::Finish(reason(finish))));
            if include_usage {
                bytes.extend(chunk_event(head, Part::Usage { input_tokens, output_tokens }));
            }
            bytes.extend_from_slice(done_event());
        }
    }
    bytes.into()
}

/// Keeps the text, and writes the whole answer at its end.
fn whole(head: Head<'_>, text: &mut String, piece: Piece) -> Option<Bytes> {
    match piece {
        Piece::Text(more) => {
            text.push_str(&more);
            (text.len() <= WHOLE_BYTES_MAX).then(Bytes::new)
        }
        Piece::End { finish, input_tokens, output_tokens } => {
            let finish = reason(finish);
            let answer = Completion { head, text, finish, input_tokens, output_tokens };
            Some(completion(&answer).into())
        }
    }
}

fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

#[cfg(test)]
mod tests;
