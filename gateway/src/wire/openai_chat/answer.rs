//! What an upstream answered: facts for the record, never the text.
//!
//! Upstreams are read leniently: a field of an unexpected type counts as missing, because an
//! answer is passed on whether or not we understand every part of it.

use bytes::Bytes;

use crate::wire::{
    Usage, WireError,
    json::{Document, Duplicates, Value},
};

/// Ids, models and codes longer than this are cut: they are names, not texts.
const NAME_BYTES_MAX: usize = 200;

/// Members of a message or delta that carry the model's own output.
const OUTPUT_TEXTS: [&str; 4] = ["content", "reasoning_content", "reasoning", "refusal"];

/// What an answer, or one chunk of it, says about itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AnswerFacts {
    /// The upstream's id of the answer.
    pub id: Option<String>,
    /// The model that says it answered.
    pub model: Option<String>,
    /// One for each choice that ended, in order.
    pub finish_reasons: Vec<String>,
    pub usage: Option<Usage>,
    pub system_fingerprint: Option<String>,
    /// Bytes of output text, for an estimate where the upstream counted no tokens.
    pub text_bytes: u64,
    /// How many tool calls the answer begins.
    pub tool_calls: u32,
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

/// An upstream's error, without its message: that may quote the prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorFacts {
    /// The `type` of the error.
    pub kind: Option<String>,
    /// The `code` of the error, as text.
    pub code: Option<String>,
}

/// The data of one event of a stream, understood.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamEvent {
    Chunk(Chunk),
    /// The upstream says that it failed.
    Error(ErrorFacts),
    /// `[DONE]`: the stream is complete.
    Done,
    /// Not a JSON object; right is to drop the event and note it.
    NotJson,
}

/// Reads a complete answer.
pub fn answer(body: &Bytes) -> Result<AnswerFacts, WireError> {
    let document = Document::read(body.clone(), Duplicates::LastHolds)?;
    let root = document.root();
    if !root.is_object() {
        return Err(WireError::Json { at: 0, what: "an answer must be an object" });
    }
    Ok(facts(root, "message"))
}

/// Reads the body of an answer that is an error; `None` where it holds no error object.
pub fn error(body: &Bytes) -> Option<ErrorFacts> {
    let document = Document::read(body.clone(), Duplicates::LastHolds).ok()?;
    error_facts(document.root())
}

/// Reads the data of one event of a stream.
pub fn event(data: &Bytes) -> StreamEvent {
    if data.trim_ascii() == b"[DONE]" {
        return StreamEvent::Done;
    }
    let Ok(document) = Document::read(data.clone(), Duplicates::LastHolds) else {
        return StreamEvent::NotJson;
    };
    let root = document.root();
    if let Some(error) = error_facts(root) {
        return StreamEvent::Error(error);
    }
    if !root.is_object() {
        return StreamEvent::NotJson;
    }
    let facts = facts(root, "delta");
    let progress = progress(root, &facts);
    StreamEvent::Chunk(Chunk { progress, facts })
}

fn progress(root: Value<'_>, facts: &AnswerFacts) -> Progress {
    let choices = || root.get("choices").into_iter().flat_map(Value::items);
    let audio =
        |choice: Value<'_>| choice.get("delta").is_some_and(|d| d.get_some("audio").is_some());
    if facts.text_bytes > 0 || choices().any(|choice| calls(choice, "delta") || audio(choice)) {
        Progress::Content
    } else if facts.usage.is_some() && choices().next().is_none() {
        Progress::UsageOnly
    } else {
        Progress::Frame
    }
}

/// Whether a choice holds a tool call or a fragment of one.
fn calls(choice: Value<'_>, holder: &str) -> bool {
    let Some(holder) = choice.get(holder) else { return false };
    let any = holder.get_some("tool_calls").is_some_and(|calls| calls.items().next().is_some());
    any || holder.get_some("function_call").is_some()
}

fn facts(root: Value<'_>, holder: &str) -> AnswerFacts {
    let mut facts = AnswerFacts {
        id: name(root.get("id")),
        model: name(root.get("model")),
        usage: root.get_some("usage").and_then(usage),
        system_fingerprint: name(root.get("system_fingerprint")),
        ..AnswerFacts::default()
    };
    for choice in root.get("choices").into_iter().flat_map(Value::items) {
        facts.finish_reasons.extend(name(choice.get("finish_reason")));
        let Some(output) = choice.get(holder) else { continue };
        for text in OUTPUT_TEXTS.iter().filter_map(|member| output.get(member)) {
            facts.text_bytes = facts.text_bytes.saturating_add(text_bytes(text));
        }
        for call in output.get("tool_calls").into_iter().flat_map(Value::items) {
            // Only the first fragment of a call carries its id.
            facts.tool_calls += u32::from(call.get_some("id").is_some());
            let arguments = call.get("function").and_then(|function| function.get("arguments"));
            facts.text_bytes += arguments.map_or(0, text_bytes);
        }
    }
    facts
}

/// Bytes of a text, or of the text parts of a content.
fn text_bytes(value: Value<'_>) -> u64 {
    let own = value.as_str().map_or(0, str::len);
    let parts = value.items().filter_map(|part| part.get("text").and_then(Value::as_str));
    let total = if value.is_array() { own + parts.map(str::len).sum::<usize>() } else { own };
    u64::try_from(total).unwrap_or(u64::MAX)
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

/// The error of an answer. Some servers wrap it in an array, some make it a text.
fn error_facts(root: Value<'_>) -> Option<ErrorFacts> {
    let holder = if root.is_array() { root.items().next()? } else { root };
    let error = holder.get_some("error")?;
    let code = error.get("code");
    let number = code.and_then(Value::as_i64).map(|code| code.to_string());
    Some(ErrorFacts {
        kind: name(error.get("type").or(error.get("status"))),
        code: name(code).or(number),
    })
}

/// A text that is a name: printable ASCII without spaces, cut to a length.
fn name(value: Option<Value<'_>>) -> Option<String> {
    let text = value?.as_str()?;
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    let fits = printable && !text.is_empty();
    // ASCII alone, so that it can be cut anywhere.
    fits.then(|| text[..text.len().min(NAME_BYTES_MAX)].to_owned())
}
