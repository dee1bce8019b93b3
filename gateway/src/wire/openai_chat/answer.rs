//! What an upstream answered: facts for the record, never the text.
//!
//! Upstreams are read leniently: a field of an unexpected type counts as missing, because an
//! answer is passed on whether or not we understand every part of it.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;

use crate::wire::{
    Usage,
    json::{Document, Reading, Value},
};

/// Ids, models and codes longer than this are cut: they are names, not texts.
const NAME_BYTES_MAX: usize = 200;

/// Choices of one answer whose end is kept; hardly anybody asks for more.
const CHOICES_MAX: usize = 128;

/// Members of a delta that carry the model's own output.
const OUTPUT_TEXTS: [&str; 4] = ["content", "reasoning_content", "reasoning", "refusal"];
/// Members of a delta that are output as soon as they are there.
const OUTPUT_PARTS: [&str; 2] = ["audio", "function_call"];

/// What an answer, or one chunk of it, says about itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AnswerFacts {
    /// The upstream's id of the answer.
    pub id: Option<String>,
    /// The model that says it answered.
    pub model: Option<String>,
    /// Why each choice ended, by its number; those that go on are missing.
    pub finish_reasons: BTreeMap<u64, String>,
    pub usage: Option<Usage>,
}

/// What one chunk of a stream brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Output: text, reasoning, a refusal, a tool call or audio.
    Content,
    /// An opening or closing without output: the role, a finish reason, filter results.
    Frame,
    /// Usage and no choice: the extra chunk that `include_usage` asks for.
    UsageOnly,
}

/// One chunk of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    pub progress: Progress,
    pub facts: AnswerFacts,
}

/// What an upstream's error says. The message may quote the prompt, or our key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ErrorFacts {
    pub message: Option<String>,
    /// The `code` of the error, where it is a name.
    pub code: Option<String>,
    pub param: Option<String>,
}

/// A body that came whole, understood.
#[derive(Debug, Clone, PartialEq)]
pub enum Whole {
    Answer(AnswerFacts),
    /// The upstream says that it failed.
    Error,
    /// Neither an answer nor an error.
    Unknown,
}

/// The data of one event of a stream, understood.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamEvent {
    Chunk(Chunk),
    /// The upstream says that it failed.
    Error,
    /// `[DONE]`: the stream is complete.
    Done,
    /// Not a JSON object; right is to drop the event and note it.
    NotJson,
}

/// Reads a body that came whole, whatever its status said.
pub fn answer(body: &Bytes) -> Whole {
    let Ok(document) = Document::read(body.clone(), Reading::Lenient) else {
        return Whole::Unknown;
    };
    let root = document.root();
    if error_in(root).is_some() {
        Whole::Error
    } else if root.get("choices").is_some_and(Value::is_array) {
        Whole::Answer(facts(root))
    } else {
        Whole::Unknown
    }
}

/// Reads an error; `None` where the body holds none.
pub fn error(body: &Bytes) -> Option<ErrorFacts> {
    let document = Document::read(body.clone(), Reading::Lenient).ok()?;
    let error = error_in(document.root())?;
    let message = error.as_str().or_else(|| error.get("message")?.as_str());
    // A name that was cut could end in half a key.
    let whole = |value| name(value).filter(|name| name.len() < NAME_BYTES_MAX);
    Some(ErrorFacts {
        message: message.map(str::to_owned),
        code: whole(error.get("code")),
        param: whole(error.get("param")),
    })
}

/// Reads the data of one event of a stream. With it comes where the text of the first choice
/// stands, without quotes, where the event is output and has one.
pub(super) fn understand(data: &Bytes) -> (StreamEvent, Option<Range<usize>>) {
    if data.trim_ascii() == b"[DONE]" {
        return (StreamEvent::Done, None);
    }
    let Ok(document) = Document::read(data.clone(), Reading::Lenient) else {
        return (StreamEvent::NotJson, None);
    };
    let root = document.root();
    if error_in(root).is_some() {
        return (StreamEvent::Error, None);
    }
    if !root.is_object() {
        return (StreamEvent::NotJson, None);
    }
    let facts = facts(root);
    let progress = progress(root, &facts);
    let text = if progress == Progress::Content { first_text(root) } else { None };
    (StreamEvent::Chunk(Chunk { progress, facts }), text)
}

/// Where the text of the first choice's delta stands, without its quotes.
fn first_text(root: Value<'_>) -> Option<Range<usize>> {
    let content = choices(root).next()?.get("delta")?.get("content")?;
    let span = content.span();
    content.string_index().map(|_| span.start + 1..span.end - 1)
}

// === impl AnswerFacts ===

impl AnswerFacts {
    /// Adds what a later part of the same answer says; of each fact the last one holds.
    pub fn add(&mut self, later: Self) {
        let Self { id, model, finish_reasons, usage } = later;
        self.id = id.or(self.id.take());
        self.model = model.or(self.model.take());
        self.usage = usage.or(self.usage);
        let room = CHOICES_MAX.saturating_sub(self.finish_reasons.len());
        self.finish_reasons.extend(finish_reasons.into_iter().take(room));
    }
}

impl std::fmt::Debug for ErrorFacts {
    /// Without the message.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ErrorFacts")
            .field("code", &self.code)
            .field("param", &self.param)
            .finish_non_exhaustive()
    }
}

fn progress(root: Value<'_>, facts: &AnswerFacts) -> Progress {
    if choices(root).any(brings_output) {
        Progress::Content
    } else if facts.usage.is_some() && choices(root).next().is_none() {
        Progress::UsageOnly
    } else {
        Progress::Frame
    }
}

fn choices(root: Value<'_>) -> impl Iterator<Item = Value<'_>> {
    root.get("choices").into_iter().flat_map(Value::items)
}

/// Whether a choice of a chunk holds text, audio, a tool call or a fragment of one.
fn brings_output(choice: Value<'_>) -> bool {
    let Some(delta) = choice.get("delta") else { return false };
    let calls = || delta.get_some("tool_calls").is_some_and(|calls| calls.items().next().is_some());
    OUTPUT_TEXTS.iter().filter_map(|member| delta.get(member)).any(has_text)
        || OUTPUT_PARTS.iter().any(|member| delta.get_some(member).is_some())
        || calls()
}

/// Whether there is a text, or a text part of a content.
fn has_text(value: Value<'_>) -> bool {
    let some = |text: Value<'_>| text.as_str().is_some_and(|text| !text.is_empty());
    some(value) || (value.is_array() && value.items().filter_map(|part| part.get("text")).any(some))
}

fn facts(root: Value<'_>) -> AnswerFacts {
    AnswerFacts {
        id: name(root.get("id")),
        model: name(root.get("model")),
        usage: root.get_some("usage").and_then(usage),
        finish_reasons: (0..).zip(choices(root)).filter_map(finish).take(CHOICES_MAX).collect(),
    }
}

/// The number of a choice that ended, and why. Without a number its place counts.
fn finish((place, choice): (u64, Value<'_>)) -> Option<(u64, String)> {
    let reason = name(choice.get("finish_reason"))?;
    Some((choice.get("index").and_then(Value::as_u64).unwrap_or(place), reason))
}

/// Tokens as counted by the upstream; `prompt_tokens` includes the cached ones.
fn usage(value: Value<'_>) -> Option<Usage> {
    let number = |object: Option<Value<'_>>, member: &str| object?.get(member)?.as_u64();
    let prompt = number(Some(value), "prompt_tokens");
    let completion = number(Some(value), "completion_tokens");
    if prompt.is_none() && completion.is_none() {
        return None;
    }
    Some(Usage {
        input_tokens: prompt.unwrap_or(0),
        output_tokens: completion.unwrap_or(0),
        cache_read_input_tokens: number(value.get("prompt_tokens_details"), "cached_tokens"),
        reasoning_output_tokens: number(value.get("completion_tokens_details"), "reasoning_tokens"),
    })
}

/// The error within a body: an object or a text. Some servers wrap it in an array, some say at the
/// top that the whole object is one.
fn error_in(root: Value<'_>) -> Option<Value<'_>> {
    let holder = if root.is_array() { root.items().next()? } else { root };
    let is_error = || holder.get("object").and_then(Value::as_str) == Some("error");
    holder.get_some("error").or_else(|| is_error().then_some(holder))
}

/// A text that is a name: printable ASCII without spaces, cut to a length.
fn name(value: Option<Value<'_>>) -> Option<String> {
    let text = value?.as_str()?;
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    let fits = printable && !text.is_empty();
    // ASCII alone, so that it can be cut anywhere.
    fits.then(|| text[..text.len().min(NAME_BYTES_MAX)].to_owned())
}
