//! Our own models: texts in, tokens out, on this machine.
//!
//! Knows ONNX, tokens and texts; not calls or policy. One worker thread owns the session; calls
//! wait in a bounded queue, and a call whose [`Answer`] is dropped ends between two tokens.

pub mod generate;
pub mod prepare;
pub mod session;
pub mod template;
pub mod tokens;
pub mod worker;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;
use tokio::sync::mpsc;

use crate::{local::worker::Queue, quantity::Span};

/// How the local model runs.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Folder of the model's files; `DATA/models` where none is said.
    pub folder: Option<PathBuf>,
    /// ONNX Runtime's shared library; the one in the model's folder where none is said.
    pub runtime: Option<PathBuf>,
    /// Calls that may wait for the model; more are refused with 503.
    pub queue_max: usize,
    /// Tokens of prompt and answer together.
    pub context_tokens_max: usize,
    /// Threads that compute one step.
    pub threads: usize,
    /// How long a call may wait in the queue; one that would wait longer is refused with 503.
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
            wait_max: Span(std::time::Duration::from_secs(10)),
        }
    }
}

/// One message of a conversation. Its text never shows in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    pub text: String,
}

/// What to generate and how. Its texts never show in `Debug`.
#[derive(Clone, PartialEq)]
pub struct Request {
    pub messages: Vec<Message>,
    /// 0 takes the likeliest token each time.
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

/// One step of an answer. Its text never shows in `Debug`.
#[derive(Clone, PartialEq, Eq)]
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

/// A handle to the worker; cheap to clone.
#[derive(Debug, Clone)]
pub struct LocalModel {
    queue: Arc<Queue>,
}

/// A running answer: pieces arrive as they are generated, through a bounded channel.
#[derive(Debug)]
pub struct Answer {
    pieces: mpsc::Receiver<Result<Piece, LocalError>>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Message").field("role", &self.role).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Request")
            .field("messages", &self.messages.len())
            .field("max_tokens", &self.max_tokens)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => write!(formatter, "Text({} bytes)", text.len()),
            Self::End { finish, input_tokens, output_tokens } => formatter
                .debug_struct("End")
                .field("finish", finish)
                .field("input_tokens", input_tokens)
                .field("output_tokens", output_tokens)
                .finish(),
        }
    }
}

impl LocalModel {
    /// Loads the model of `folder` and starts its thread. Errors where a file is missing or
    /// differs from its manifest, or the runtime's library cannot be loaded.
    pub fn start(settings: &Settings, folder: &Path) -> Result<Self, LocalError> {
        let runtime = settings.runtime.clone().unwrap_or_else(|| folder.join("libonnxruntime.so"));
        // Beside the program, and not here, is where a relative path would be looked up first.
        let runtime = std::path::absolute(&runtime).unwrap_or(runtime);
        let queue = worker::start(settings, folder, &runtime)?;
        Ok(Self { queue: Arc::new(queue) })
    }

    /// Queues a request, or refuses at once.
    pub fn generate(&self, request: Request) -> Result<Answer, LocalError> {
        self.queue.push(request).map(|pieces| Answer { pieces })
    }

    /// What answers carry as `system_fingerprint`: the model's files and the runtime.
    pub fn fingerprint(&self) -> &str {
        self.queue.fingerprint()
    }
}

impl Answer {
    /// An answer whose pieces a test gives.
    #[cfg(test)]
    pub(crate) fn of_pieces(pieces: mpsc::Receiver<Result<Piece, LocalError>>) -> Self {
        Self { pieces }
    }

    /// The next piece; `None` after the end.
    pub async fn next(&mut self) -> Option<Result<Piece, LocalError>> {
        self.pieces.recv().await
    }
}
