//! What is asked and answered, in the client's own format and bytes.
//!
//! Makes the [`Call`]: the client's bytes with the spans of the values we may replace, and every
//! string of the body for inspection. Knows JSON, SSE and formats; not who, where or sockets.

pub mod json;
pub mod openai_chat;
pub mod sse;

use std::ops::Range;

use bytes::Bytes;

/// A wire format that clients speak and upstreams understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// OpenAI chat completions.
    #[serde(rename = "openai")]
    OpenAiChat,
}

/// One call as the client wrote it.
#[derive(Debug, Clone)]
pub struct Call {
    pub(crate) body: Bytes,
    pub(crate) format: Format,
    pub(crate) model: String,
    /// Byte span of the `model` value, quotes included.
    pub(crate) model_span: Range<usize>,
    pub(crate) stream: bool,
    /// Whether the client itself asked for usage in the stream.
    pub(crate) include_usage: bool,
    pub(crate) texts: Vec<Text>,
    /// Parts that inspection cannot read: image addresses, files, audio.
    pub(crate) unscannable: u32,
    pub(crate) shape: Shape,
}

/// Every string of the body: keys and values, in order.
#[derive(Debug, Clone)]
pub struct Text {
    /// Where the string stands in the body, quotes included.
    pub(crate) span: Range<usize>,
    /// The string itself, escapes resolved.
    pub(crate) text: String,
    /// Whether a redaction may replace it: a value that is the client's own text (message
    /// content, tool arguments), not a key and not a field that selects behaviour.
    pub(crate) replaceable: bool,
}

/// What the record says about the shape of a request; unset where the client did not say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shape {
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub max_tokens: Option<u64>,
    pub seed: Option<i64>,
    pub choice_count: Option<u32>,
    pub tools_offered: Vec<String>,
}

/// Replaces the bytes at a span of the body by others; both are whole JSON values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    pub span: Range<usize>,
    pub value: Bytes,
}

/// Tokens as the upstream counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cache_read_input_tokens: Option<u64>,
    pub reasoning_output_tokens: Option<u64>,
}

/// Why a body is no call. Every one is answered 400 and names the place, never the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("the body is not valid JSON at byte {at}: {what}")]
    Json { at: usize, what: &'static str },
    #[error("key `{path}` stands twice in one object")]
    DuplicateKey { path: String },
    #[error("the body nests deeper than {max} levels")]
    TooDeep { max: usize },
    #[error("`{param}` {what}")]
    Parameter { param: &'static str, what: &'static str },
}
