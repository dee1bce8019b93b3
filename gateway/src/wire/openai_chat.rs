//! OpenAI chat completions: requests, answers, chunks and errors.
//!
//! A request is read once; what we change on the way out is the value spans named in
//! [`Outgoing`] and the redactions, every other byte passes through. Fields we do not know are
//! inspected like all others and left alone.

mod answer;
mod events;
mod prompt;
mod render;
mod request;

use std::ops::Range;

use bytes::Bytes;

use crate::wire::{
    Call, Edit, Format, Prompt, WireError,
    json::{Document, Reading, Value},
};

pub use answer::{AnswerFacts, Chunk, ErrorFacts, Progress, StreamEvent, Whole, answer, error};
pub use events::Events;
pub use render::{
    Completion, CordonFields, ErrorBody, Head, Part, RuleLine, chunk_event, completion, done_event,
    error_body, error_event, models,
};

/// What must change on the way to one upstream, beside redaction.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outgoing<'a> {
    /// The upstream's own name of the model; the client's name stays where none is said.
    pub model: Option<&'a str>,
    /// The largest `max_tokens` that may be asked for; a larger wish is lowered to it, and
    /// it is added where the client set none.
    pub max_tokens: Option<u64>,
    /// Ask for usage at the end of a stream even if the client did not.
    pub ask_usage: bool,
}

/// Reads a request body; refuses what we and an upstream could understand differently.
pub fn parse(body: Bytes) -> Result<Call, WireError> {
    let document = Document::read(body, Reading::Strict)?;
    let root = document.root();
    request::check(root)?;
    let (replaceable, unscannable) = request::inspectable(&document);
    Ok(Call {
        format: Format::OpenAiChat,
        model: request::model(root)?.to_owned(),
        stream: request::flag(root, "stream")?,
        include_usage: request::include_usage(root)?,
        shape: request::shape(root)?,
        replaceable,
        unscannable,
        document,
    })
}

/// The bytes for one upstream: the client's own, with the edits and what [`Outgoing`] asks.
pub fn outbound(call: &Call, edits: &[Edit], outgoing: Outgoing<'_>) -> Bytes {
    let root = call.document.root();
    let mut changes: Vec<Edit> = edits.to_vec();
    if let (Some(name), Some(model)) = (outgoing.model, root.get("model")) {
        changes.push(Edit { span: model.span(), value: string(name) });
    }
    if let Some(max) = outgoing.max_tokens {
        cap_tokens(root, max, &mut changes);
    }
    if outgoing.ask_usage && call.stream && !call.include_usage {
        ask_usage(root, &mut changes);
    }
    apply(call.body(), changes)
}

/// The conversation in neutral form; what only a remote model could do is an error.
pub fn prompt(body: &Bytes) -> Result<Prompt, WireError> {
    prompt::prompt(body)
}

/// Lowers both names of the limit, or adds one where neither is set.
fn cap_tokens(root: Value<'_>, max: u64, changes: &mut Vec<Edit>) {
    let limits = request::TOKEN_LIMITS.map(|name| root.get(name));
    let mut set = false;
    for limit in limits.into_iter().flatten().filter(|limit| !limit.is_null()) {
        set = true;
        if limit.as_u64().is_none_or(|wish| wish > max) {
            changes.push(Edit { span: limit.span(), value: Bytes::from(max.to_string()) });
        }
    }
    if set {
        return;
    }
    match limits.into_iter().flatten().next() {
        Some(null) => changes.push(Edit { span: null.span(), value: max.to_string().into() }),
        None => changes.push(Edit {
            span: before_end(root),
            value: format!(",\"{}\":{max}", request::TOKEN_LIMITS[0]).into(),
        }),
    }
}

/// Sets `stream_options.include_usage`, and leaves other stream options as they are.
fn ask_usage(root: Value<'_>, changes: &mut Vec<Edit>) {
    const OPTIONS: &str = "{\"include_usage\":true}";
    let edit = match root.get("stream_options") {
        None => {
            Edit { span: before_end(root), value: format!(",\"stream_options\":{OPTIONS}").into() }
        }
        Some(options) if !options.is_object() => {
            Edit { span: options.span(), value: Bytes::from_static(OPTIONS.as_bytes()) }
        }
        Some(options) => match options.get("include_usage") {
            Some(value) => Edit { span: value.span(), value: Bytes::from_static(b"true") },
            None if options.items().next().is_none() => {
                Edit { span: options.span(), value: Bytes::from_static(OPTIONS.as_bytes()) }
            }
            None => Edit {
                span: before_end(options),
                value: Bytes::from_static(b",\"include_usage\":true"),
            },
        },
    };
    changes.push(edit);
}

/// The empty span in front of a container's closing bracket.
fn before_end(container: Value<'_>) -> Range<usize> {
    let end = container.span().end - 1;
    end..end
}

/// Writes the body with its changes. Two additions may share a place, two replacements not.
fn apply(body: &Bytes, mut changes: Vec<Edit>) -> Bytes {
    if changes.is_empty() {
        return body.clone();
    }
    changes.sort_by_key(|edit| (edit.span.start, edit.span.end));
    let added: usize = changes.iter().map(|edit| edit.value.len()).sum();
    let mut out = Vec::with_capacity(body.len() + added);
    let mut at = 0;
    for edit in &changes {
        // INVARIANT: edits do not overlap; redactions replace texts, and no text is an option.
        assert!(edit.span.start >= at, "two edits overlap");
        out.extend_from_slice(&body[at..edit.span.start]);
        out.extend_from_slice(&edit.value);
        at = edit.span.end;
    }
    out.extend_from_slice(&body[at..]);
    out.into()
}

/// `text` as a JSON string.
fn string(text: &str) -> Bytes {
    let mut out = Vec::with_capacity(text.len() + 2);
    crate::wire::json::write_string(&mut out, text);
    out.into()
}

#[cfg(test)]
mod tests;
