//! What a scripted provider says: events, completions and errors in OpenAI's format.

use std::io::Write;

use serde_json::{Value, json};

/// An event that brings a token of a choice.
pub fn token(choice: u64, text: &str) -> String {
    event(&chunk_of(choice, &json!({"content": text}), None))
}

/// An event that brings a token, and usage up to there.
pub fn counted_token(text: &str) -> String {
    let mut counted = chunk(&json!({"content": text}), None);
    counted["usage"] = usage_json();
    event(&counted)
}

/// The event that ends a choice.
pub fn end_of(choice: u64) -> String {
    event(&chunk_of(choice, &json!({}), Some("stop")))
}

/// The event that brings usage and no choice.
pub fn usage() -> String {
    let mut usage = chunk(&json!({}), None);
    usage["choices"] = json!([]);
    usage["usage"] = usage_json();
    event(&usage)
}

pub(super) fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn usage_json() -> Value {
    json!({"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16})
}

pub(super) fn chunk(delta: &Value, finish: Option<&str>) -> Value {
    chunk_of(0, delta, finish)
}

fn chunk_of(choice: u64, delta: &Value, finish: Option<&str>) -> Value {
    json!({
        "id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 1_700_000_000,
        "model": "scripted-1",
        "choices": [{"index": choice, "delta": delta, "finish_reason": finish}],
    })
}

/// A good whole answer that says `text`.
pub fn completion_of(text: &str) -> String {
    completion(&[text.to_owned()]).to_string()
}

pub(super) fn completion(words: &[String]) -> Value {
    json!({
        "id": "chatcmpl-scripted", "object": "chat.completion", "created": 1_700_000_000,
        "model": "scripted-1",
        "choices": [{
            "index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": words.concat()},
        }],
        "usage": usage_json(),
    })
}

/// An error body as OpenAI writes it.
pub fn error_body(code: &str, message: &str) -> String {
    let error = json!({"message": message, "type": "invalid_request_error", "code": code});
    json!({"error": error}).to_string()
}

/// A whole answer with its head.
pub(super) fn whole(status: u16, headers: &[(&'static str, String)], body: &str) -> String {
    let mut text = format!("HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    text
}

/// Writes a whole answer.
pub(super) fn write_whole(
    writer: &mut impl Write,
    status: u16,
    headers: &[(&'static str, String)],
    body: &str,
) -> std::io::Result<()> {
    writer.write_all(whole(status, headers, body).as_bytes())
}
