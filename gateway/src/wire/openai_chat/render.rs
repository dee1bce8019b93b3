//! What we write ourselves: errors, the list of models, answers of the local model.

use serde::Serialize;

/// An error in the shape that OpenAI clients read, with our own part beside it.
#[derive(Debug, Clone, Copy, Default)]
pub struct ErrorBody<'a> {
    /// `policy_denied`, `invalid_request_error`, …
    pub kind: &'a str,
    /// A stable code: rule id, host code, or cause.
    pub code: Option<&'a str>,
    /// What to do; never prompt, answer or secret.
    pub message: &'a str,
    /// The field that is wrong.
    pub param: Option<&'a str>,
    pub cordon: CordonFields<'a>,
}

/// What only we say about a refusal.
#[derive(Debug, Clone, Copy, Default)]
pub struct CordonFields<'a> {
    pub call_id: &'a str,
    /// `deny`, `needs_approval`…; left out where policy did not speak.
    pub effect: Option<&'a str>,
    pub rules: &'a [RuleLine<'a>],
    pub missing: &'a [String],
}

/// One rule that refused.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct RuleLine<'a> {
    pub id: &'a str,
    pub title: &'a str,
    pub citation: &'a str,
}

/// What every part of one answer of a local model repeats.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// `chatcmpl-…`, unique.
    pub id: &'a str,
    /// Seconds since 1970.
    pub created: u64,
    pub model: &'a str,
    pub fingerprint: &'a str,
}

/// A complete answer of a local model.
#[derive(Clone, Copy)]
pub struct Completion<'a> {
    pub head: Head<'a>,
    pub text: &'a str,
    /// `stop` or `length`.
    pub finish: &'a str,
    pub input_tokens: u64,
    pub output_tokens: u64,
}

/// One step of a streamed answer of a local model.
#[derive(Clone, Copy)]
pub enum Part<'a> {
    /// The opening: the role.
    Role,
    Text(&'a str),
    /// `stop` or `length`.
    Finish(&'a str),
    /// The extra chunk with usage and no choice.
    Usage {
        input_tokens: u64,
        output_tokens: u64,
    },
}

#[derive(Serialize)]
struct ErrorLine<'a> {
    error: ErrorFields<'a>,
}

#[derive(Serialize)]
struct ErrorFields<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    code: Option<&'a str>,
    param: Option<&'a str>,
    cordon: CordonLine<'a>,
}

#[derive(Serialize)]
struct CordonLine<'a> {
    call_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    effect: Option<&'a str>,
    rules: &'a [RuleLine<'a>],
    missing: &'a [String],
}

/// The body of an error answer.
pub fn error_body(error: &ErrorBody<'_>) -> Vec<u8> {
    let cordon = CordonLine {
        call_id: error.cordon.call_id,
        effect: error.cordon.effect,
        rules: error.cordon.rules,
        missing: error.cordon.missing,
    };
    write(&ErrorLine {
        error: ErrorFields {
            message: error.message,
            kind: error.kind,
            code: error.code,
            param: error.param,
            cordon,
        },
    })
}

/// The event that ends a stream which broke; no `[DONE]` follows it.
pub fn error_event(error: &ErrorBody<'_>) -> Vec<u8> {
    framed(&error_body(error))
}

/// The event that ends a complete stream.
pub fn done_event() -> &'static [u8] {
    b"data: [DONE]\n\n"
}

/// The list of models a caller may ask for, in the given order.
pub fn models<'a>(names: impl IntoIterator<Item = &'a str>, created: u64) -> Vec<u8> {
    let data: Vec<_> = names
        .into_iter()
        .map(|id| {
            serde_json::json!(
                {"id": id, "object": "model", "created": created, "owned_by": "cordon"})
        })
        .collect();
    write(&serde_json::json!({"object": "list", "data": data}))
}

/// The body of a complete answer.
pub fn completion(answer: &Completion<'_>) -> Vec<u8> {
    write(&serde_json::json!({
        "id": answer.head.id,
        "object": "chat.completion",
        "created": answer.head.created,
        "model": answer.head.model,
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": answer.text, "refusal": null},
            "logprobs": null,
            "finish_reason": answer.finish,
        }],
        "usage": usage(answer.input_tokens, answer.output_tokens),
        "system_fingerprint": answer.head.fingerprint,
    }))
}

/// One event of a streamed answer.
pub fn chunk_event(head: &Head<'_>, part: Part<'_>) -> Vec<u8> {
    let choice = |delta: serde_json::Value, finish: Option<&str>| {
        serde_json::json!(
            [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}])
    };
    let choices = match part {
        Part::Role => choice(serde_json::json!({"role": "assistant", "content": ""}), None),
        Part::Text(text) => choice(serde_json::json!({"content": text}), None),
        Part::Finish(reason) => choice(serde_json::json!({}), Some(reason)),
        Part::Usage { .. } => serde_json::json!([]),
    };
    let mut chunk = serde_json::json!({
        "id": head.id,
        "object": "chat.completion.chunk",
        "created": head.created,
        "model": head.model,
        "system_fingerprint": head.fingerprint,
        "choices": choices,
    });
    if let Part::Usage { input_tokens, output_tokens } = part {
        chunk["usage"] = usage(input_tokens, output_tokens);
    }
    framed(&write(&chunk))
}

fn usage(input_tokens: u64, output_tokens: u64) -> serde_json::Value {
    serde_json::json!({
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens.saturating_add(output_tokens),
    })
}

/// A line of JSON as one event.
fn framed(json: &[u8]) -> Vec<u8> {
    [b"data: ", json, b"\n\n"].concat()
}

fn write(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts and numbers always serialise into memory")
}

// === impl Completion, Part ===

impl std::fmt::Debug for Completion<'_> {
    /// Without the text, which is an answer.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Completion")
            .field("head", &self.head)
            .field("finish", &self.finish)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Part<'_> {
    /// Without the text, which is part of an answer.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Part::Role => "Role",
            Part::Text(_) => "Text",
            Part::Finish(_) => "Finish",
            Part::Usage { .. } => "Usage",
        })
    }
}
