//! Our own models: texts in, tokens out, on this machine.
//!
//! Knows ONNX, tokens and texts; not calls or policy. One worker thread owns the session.

pub mod generate;
pub mod prepare;
pub mod session;
pub mod template;
pub mod tokens;

use std::path::PathBuf;

use serde::Deserialize;

use crate::quantity::Span;

/// How the local model runs.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Folder of the model's files; `DATA/models` where none is said.
    pub folder: Option<PathBuf>,
    /// ONNX Runtime's shared library; looked for in the folder where none is said.
    pub runtime: Option<PathBuf>,
    /// Calls that may wait for the model; more are refused with 503.
    pub queue_max: usize,
    /// Tokens of prompt and answer together.
    pub context_tokens_max: usize,
    pub threads: usize,
    /// How long a call may wait in the queue.
    pub wait_max: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            folder: None,
            runtime: None,
            queue_max: 16,
            context_tokens_max: 2048,
            threads: 2,
            wait_max: Span(std::time::Duration::from_secs(30)),
        }
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    pub text: String,
}

/// What to generate and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub messages: Vec<Message>,
    pub temperature: f32,
    pub top_p: f32,
    pub seed: Option<u64>,
    pub max_tokens: Option<usize>,
    pub stop: Vec<String>,
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    Stop,
    Length,
}

/// One step of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text, whole characters only.
    Text(String),
    /// The end, with the counts of tokens.
    End { finish: Finish, input_tokens: u64, output_tokens: u64 },
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocalError {
    #[error("the local model is not available: {reason}")]
    Unavailable { reason: String },
    #[error("the local model is busy; try again in {retry_after_s} s")]
    Busy { retry_after_s: u64 },
    #[error("prompt and answer need {needed} tokens; the model takes {max}")]
    ContextLength { needed: usize, max: usize },
    #[error("the local model failed: {reason}")]
    Failed { reason: String },
}

/// A handle to the worker; cheap to clone. `LocalModel::start` (session.rs) makes one.
/// Dropping the [`Answer`] cancels the generation between two tokens.
#[derive(Debug, Clone)]
pub struct LocalModel {}

/// A running answer: pieces arrive as they are generated, through a bounded channel.
#[derive(Debug)]
pub struct Answer {}

impl LocalModel {
    /// Queues a request, or refuses at once.
    pub fn generate(&self, _request: Request) -> Result<Answer, LocalError> {
        todo!()
    }
}

impl Answer {
    /// The next piece; `None` after the end.
    pub async fn next(&mut self) -> Option<Result<Piece, LocalError>> {
        todo!()
    }
}
