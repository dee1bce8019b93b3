//! What an upstream's error body may tell the client: capped, and without our key.

use serde::Deserialize;

use crate::providers::Failure;

/// Characters of an upstream's message that are passed on.
const MESSAGE_CHARS_MAX: usize = 1_000;

/// The parts of an upstream's error that help the client.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct UpstreamError {
    pub message: String,
    pub code: Option<String>,
    pub param: Option<String>,
}

#[derive(Deserialize)]
struct Envelope {
    error: Inner,
}

#[derive(Deserialize)]
struct Inner {
    message: Option<String>,
    code: Option<serde_json::Value>,
    param: Option<String>,
}

/// Reads the error body of `failure`; anything that is no OpenAI error gives a general text.
pub fn read(failure: &Failure) -> UpstreamError {
    let parsed = failure.body.as_ref().and_then(|body| serde_json::from_slice(body).ok());
    let Some(Envelope { error }) = parsed else {
        return UpstreamError {
            message: "the model's provider refused the call without saying why".to_owned(),
            ..UpstreamError::default()
        };
    };
    let message = error.message.unwrap_or_default();
    UpstreamError {
        message: message.chars().take(MESSAGE_CHARS_MAX).collect(),
        code: error.code.and_then(|code| code.as_str().map(str::to_owned)),
        param: error.param,
    }
}
