//! A request as a neutral conversation of texts.
//!
//! Made from the outbound bytes, so that what was judged is what is answered. What asks for
//! another kind of answer than plain text is an error. Wishes about how tokens are drawn that our
//! models do not know (penalties, `logit_bias`) are left out, as they are by most model servers.

use bytes::Bytes;

use crate::wire::{
    Prompt, Turn, WireError,
    json::{Document, Reading, Value},
    openai_chat::request::{self, optional, parameter},
};

/// Fields that ask for more than one answer of plain text. Offered tools are no such wish: a
/// model may always answer without them, unless `tool_choice` forbids it.
const PLAIN_ONLY: [(&str, &[&str]); 4] = [
    ("response_format", &["text"]),
    ("tool_choice", &["none", "auto"]),
    ("function_call", &["none", "auto"]),
    ("modalities", &["text"]),
];

/// Reads the conversation.
pub(super) fn prompt(body: &Bytes) -> Result<Prompt, WireError> {
    let document = Document::read(body.clone(), Reading::Strict)?;
    let root = document.root();
    request::check(root)?;
    refuse_unsupported(root)?;
    let shape = request::shape(root)?;
    let turns = root.get("messages").into_iter().flat_map(Value::items).map(turn);
    Ok(Prompt {
        turns: turns.collect::<Result<_, _>>()?,
        temperature: within(shape.temperature, 2.0, "temperature", "must be from 0 to 2")?,
        top_p: within(shape.top_p, 1.0, "top_p", "must be from 0 to 1")?,
        seed: shape.seed.map(i64::cast_unsigned),
        max_tokens: shape.max_tokens,
        stop: stop(root)?,
        stream: request::flag(root, "stream")?,
        include_usage: request::include_usage(root)?,
    })
}

/// A number between 0 and its largest value.
fn within(
    number: Option<f64>,
    max: f64,
    name: &'static str,
    what: &'static str,
) -> Result<Option<f64>, WireError> {
    let fits = number.is_none_or(|number| (0.0..=max).contains(&number));
    if fits { Ok(number) } else { Err(parameter(name, what)) }
}

fn refuse_unsupported(root: Value<'_>) -> Result<(), WireError> {
    let count = optional(root, "n", Value::as_u64, "must be a whole number")?;
    if count.is_some_and(|count| count != 1) {
        return Err(parameter("n", "must be 1 for this model"));
    }
    if request::flag(root, "logprobs")? {
        return Err(parameter("logprobs", "cannot be given by this model"));
    }
    for (field, allowed) in PLAIN_ONLY {
        let Some(value) = root.get_some(field) else { continue };
        let plain = |value: Value<'_>| value.as_str().is_some_and(|text| allowed.contains(&text));
        let kind = value.get("type").unwrap_or(value);
        let fits = plain(kind) || (value.is_array() && value.items().all(plain));
        if !fits {
            return Err(parameter(field, "asks for more than this model can give: plain text"));
        }
    }
    Ok(())
}

fn turn(message: Value<'_>) -> Result<Turn, WireError> {
    let role = match message.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => "system",
        Some("user") => "user",
        Some("assistant") => "assistant",
        _ => return Err(parameter("messages", "hold a role that this model does not know")),
    };
    if message.get_some("tool_calls").is_some_and(|calls| calls.items().next().is_some()) {
        return Err(parameter("messages", "hold tool calls, which this model does not know"));
    }
    let text = match message.get_some("content") {
        Some(content) => joined(content)?,
        None => String::new(),
    };
    Ok(Turn { role, text })
}

/// The text of a content: itself, or its text parts joined.
fn joined(content: Value<'_>) -> Result<String, WireError> {
    if let Some(text) = content.as_str() {
        return Ok(text.to_owned());
    }
    let mut text = String::new();
    for part in content.items() {
        let kind = part.get("type").and_then(Value::as_str);
        match (kind, part.get("text").and_then(Value::as_str)) {
            (Some("text"), Some(piece)) => text.push_str(piece),
            _ => return Err(parameter("messages", "hold a part that is no text")),
        }
    }
    Ok(text)
}

/// The texts at which the model shall stop: one, or up to four.
fn stop(root: Value<'_>) -> Result<Vec<String>, WireError> {
    const STOPS_MAX: usize = 4;
    const WHAT: &str = "must be text or up to four texts";
    let Some(value) = root.get_some("stop") else { return Ok(Vec::new()) };
    if let Some(text) = value.as_str() {
        return Ok(vec![text.to_owned()]);
    }
    let texts: Option<Vec<String>> =
        value.items().map(|item| item.as_str().map(str::to_owned)).collect();
    match texts {
        Some(texts) if value.is_array() && texts.len() <= STOPS_MAX => Ok(texts),
        _ => Err(parameter("stop", WHAT)),
    }
}
