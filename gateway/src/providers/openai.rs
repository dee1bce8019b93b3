//! Reads an error of an OpenAI-compatible upstream: which kind of refusal it is.
//!
//! Failover depends on it: a full context wants another window, a content filter's refusal is the
//! answer, a spent quota cannot be waited out. Knows error bodies; not what follows from them.

use serde_json::Value;

/// What an upstream's error means for another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The prompt does not fit into the model's window.
    ContextLength,
    /// The provider refused the content: the refusal is the answer.
    ContentFilter,
    /// Too many calls or tokens at the moment.
    RateLimit,
    /// The account's money or quota is spent: waiting does not help.
    Quota,
    /// Everything else.
    Other,
}

const CONTEXT_WORDS: [&str; 5] = [
    "context_length_exceeded",
    "maximum context length",
    "context window",
    "context length",
    "prompt is too long",
];
const FILTER_WORDS: [&str; 5] = [
    "content_filter",
    "content_policy_violation",
    "content management policy",
    "responsibleaipolicyviolation",
    "moderation_blocked",
];
const RATE_WORDS: [&str; 2] = ["rate_limit", "too_many_requests"];
const QUOTA_WORDS: [&str; 4] =
    ["insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "quota_exceeded"];

/// Classifies an error by its status and body.
pub fn classify(status: u16, body: &[u8]) -> ErrorKind {
    let said = said(body);
    let says =
        |words: &[&str]| said.iter().any(|said| words.iter().any(|word| said.contains(word)));
    match status {
        402 => ErrorKind::Quota,
        429 if says(&QUOTA_WORDS) => ErrorKind::Quota,
        429 => ErrorKind::RateLimit,
        400..=499 if says(&FILTER_WORDS) => ErrorKind::ContentFilter,
        400 | 413 | 422 if says(&CONTEXT_WORDS) => ErrorKind::ContextLength,
        400..=499 if says(&QUOTA_WORDS) => ErrorKind::Quota,
        400..=499 if says(&RATE_WORDS) => ErrorKind::RateLimit,
        _ => ErrorKind::Other,
    }
}

/// The status that an error event of a stream names, as a number in its `status` or `code`.
pub(crate) fn status(event: &[u8]) -> Option<u16> {
    let event = serde_json::from_slice::<Value>(event).ok()?;
    let event = unwrapped(&event);
    let error = event.get("error").unwrap_or(event);
    let number = |key| error.get(key).and_then(Value::as_u64).and_then(|code| code.try_into().ok());
    [number("status"), number("code")].into_iter().flatten().find(|code| (400..600).contains(code))
}

/// An error without the array that some servers wrap it in.
fn unwrapped(body: &Value) -> &Value {
    body.get(0).unwrap_or(body)
}

/// The texts in which upstreams name an error's kind, in lower case: type, code and message, in
/// `error`, in its `innererror`, or at the top.
fn said(body: &[u8]) -> Vec<String> {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    let body = unwrapped(&body);
    let error = body.get("error").unwrap_or(body);
    if let Value::String(message) = error {
        return vec![message.to_lowercase()];
    }
    let inner = error.get("innererror").unwrap_or(&Value::Null);
    [error, inner]
        .into_iter()
        .flat_map(|place| ["type", "code", "message"].map(|key| place.get(key)))
        .filter_map(|text| text.and_then(Value::as_str))
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart() {
        let cases = include_str!("openai/errors.jsonl");
        for line in cases.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let status = u16::try_from(case["status"].as_u64().unwrap()).unwrap();
            let kind = classify(status, case["body"].to_string().as_bytes());
            assert_eq!(format!("{kind:?}"), case["kind"].as_str().unwrap(), "{line}");
        }
        assert!(cases.lines().count() >= 12);
    }

    #[test]
    fn a_body_that_is_no_json_says_nothing() {
        assert_eq!(classify(400, b"<html>context window</html>"), ErrorKind::Other);
        assert_eq!(classify(429, b""), ErrorKind::RateLimit);
    }
}
