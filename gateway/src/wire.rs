//! What is asked and answered, in the client's own format and bytes.
//!
//! Makes the [`Call`]: the client's bytes with the spans of the values we may replace, and every
//! string of the body for inspection. Knows JSON, SSE and formats; not who, where or sockets.

pub mod json;
pub mod openai_chat;
pub mod sse;

use std::{fmt, ops::Range};

use bytes::Bytes;

use crate::wire::json::Document;

/// A wire format that clients speak and upstreams understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// OpenAI chat completions.
    #[serde(rename = "openai")]
    OpenAiChat,
}

/// One call as the client wrote it.
#[derive(Clone)]
pub struct Call {
    document: Document,
    format: Format,
    model: String,
    stream: bool,
    /// Whether the client itself asked for usage in the stream.
    include_usage: bool,
    /// For each string of the document, whether a redaction may replace it.
    replaceable: Vec<bool>,
    unscannable: u32,
    shape: Shape,
}

/// A string of the body: key or value.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    /// Counts the strings of a call, in order.
    pub index: usize,
    /// The string itself, escapes resolved.
    pub text: &'a str,
    /// Whether a redaction may replace it: a value that is the client's own text (message
    /// content, tool arguments), not a key and not a field that selects behaviour.
    pub replaceable: bool,
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
#[derive(Clone, PartialEq, Eq)]
pub struct Edit {
    pub span: Range<usize>,
    pub value: Bytes,
}

/// A conversation in neutral form, for a model that runs here or speaks another format.
#[derive(Clone, PartialEq)]
pub struct Prompt {
    pub turns: Vec<Turn>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub seed: Option<u64>,
    pub max_tokens: Option<u64>,
    pub stop: Vec<String>,
    pub stream: bool,
    /// Whether usage is asked for at the end of a stream.
    pub include_usage: bool,
}

/// One turn of a conversation.
#[derive(Clone, PartialEq, Eq)]
pub struct Turn {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    pub text: String,
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
    #[error("the key at byte {at} stands twice in one object; send it once")]
    DuplicateKey { at: usize },
    #[error("the body nests deeper than {max} levels")]
    TooDeep { max: usize },
    #[error("the body holds more than {max} values")]
    TooMany { max: usize },
    #[error("`{param}` {what}")]
    Parameter { param: &'static str, what: &'static str },
}

// === impl Call ===

impl Call {
    /// The client's bytes.
    pub fn body(&self) -> &Bytes {
        self.document.body()
    }

    /// The format the client speaks.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The model name the client asked for.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Whether the answer shall be a stream.
    pub fn stream(&self) -> bool {
        self.stream
    }

    /// Whether the client itself asked for usage in the stream.
    pub fn include_usage(&self) -> bool {
        self.include_usage
    }

    /// Parts that inspection cannot read: image addresses, files, audio.
    pub fn unscannable(&self) -> u32 {
        self.unscannable
    }

    /// What the record says about the shape of the request.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// A rough count of the prompt's tokens: four bytes each.
    pub fn tokens_estimate(&self) -> u64 {
        u64::try_from(self.body().len() / 4).unwrap_or(u64::MAX)
    }

    /// Every string of the body, keys included, in order.
    pub fn texts(&self) -> impl ExactSizeIterator<Item = Text<'_>> {
        self.replaceable.iter().enumerate().map(|(index, replaceable)| Text {
            index,
            text: self.document.string(index),
            replaceable: *replaceable,
        })
    }

    /// One string of the body by its number.
    pub fn text(&self, index: usize) -> &str {
        self.document.string(index)
    }

    /// Where a string stands in the body, quotes included.
    pub fn text_span(&self, index: usize) -> Range<usize> {
        self.document.string_span(index)
    }
}

impl fmt::Debug for Call {
    /// Shape alone: the body is a prompt.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Call")
            .field("format", &self.format)
            .field("document", &self.document)
            .field("stream", &self.stream)
            .field("unscannable", &self.unscannable)
            .finish_non_exhaustive()
    }
}

// === impl Text, Edit, Prompt, Turn ===

impl fmt::Debug for Text<'_> {
    /// The length alone: the text is part of a prompt.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Text")
            .field("index", &self.index)
            .field("bytes", &self.text.len())
            .field("replaceable", &self.replaceable)
            .finish()
    }
}

impl fmt::Debug for Edit {
    /// The place alone: the value is part of a prompt.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Edit").field("span", &self.span).finish_non_exhaustive()
    }
}

impl fmt::Debug for Prompt {
    /// Counts alone: the turns are a prompt.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Prompt")
            .field("turns", &self.turns)
            .field("max_tokens", &self.max_tokens)
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Turn {
    /// Role and length alone: the text is part of a prompt.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Turn")
            .field("role", &self.role)
            .field("bytes", &self.text.len())
            .finish()
    }
}
