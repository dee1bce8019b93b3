//! What an upstream's error may tell the client: capped, and without our key.

use bytes::Bytes;

use crate::{
    catalog::{Address, Upstream},
    secret::Secret,
    wire::openai_chat::{self, ErrorFacts},
};

/// Characters of an upstream's message that are passed on.
const MESSAGE_CHARS_MAX: usize = 1_000;
/// What stands in place of our key where an upstream repeats it.
const HIDDEN: &str = "[secret]";

/// The parts of an upstream's error that help the client.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamError {
    pub message: String,
    pub code: Option<String>,
    pub param: Option<String>,
}

impl UpstreamError {
    /// Reads the error that `upstream` sent; what is no OpenAI error gives a general text.
    pub fn read(body: Option<&Bytes>, upstream: &Upstream) -> Self {
        let facts = body.and_then(openai_chat::error).unwrap_or_default();
        Self::told(facts, key(upstream))
    }

    fn told(facts: ErrorFacts, key: Option<&Secret>) -> Self {
        // The key goes first: a cap could leave half of it.
        let hide = |text: String| match key {
            Some(key) => text.replace(key.expose(), HIDDEN),
            None => text,
        };
        let message = facts.message.filter(|message| !message.trim().is_empty());
        let message = message.map_or_else(
            || "the model's provider refused the call without saying why".to_owned(),
            |message| hide(message).chars().take(MESSAGE_CHARS_MAX).collect(),
        );
        Self { message, code: facts.code.map(hide), param: facts.param.map(hide) }
    }
}

impl std::fmt::Debug for UpstreamError {
    /// Without the message, which may quote the prompt.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("UpstreamError").field("code", &self.code).finish_non_exhaustive()
    }
}

fn key(upstream: &Upstream) -> Option<&Secret> {
    match upstream.address() {
        Address::Remote(remote) => remote.key.as_ref(),
        Address::Local => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(body: &'static str) -> UpstreamError {
        let facts = openai_chat::error(&Bytes::from_static(body.as_bytes())).unwrap_or_default();
        UpstreamError::told(facts, Some(&Secret::new("sk/marked-key".to_owned())))
    }

    #[test]
    fn our_key_is_hidden_however_it_is_written() {
        for body in [
            r#"{"error":{"message":"you sent Bearer sk/marked-key!"}}"#,
            r#"{"error":{"message":"you sent Bearer sk\/marked\u002dkey!"}}"#,
            r#"{"error":"you sent Bearer sk/marked-key!"}"#,
            r#"[{"error":{"message":"you sent Bearer sk/marked-key!","code":400}}]"#,
            r#"{"object":"error","message":"you sent Bearer sk/marked-key!","code":400}"#,
        ] {
            assert_eq!(told(body).message, "you sent Bearer [secret]!", "{body}");
        }
        let named = told(r#"{"error":{"code":"sk/marked-key","param":"x.sk/marked-key"}}"#);
        assert_eq!(named.code.as_deref(), Some(HIDDEN));
        assert_eq!(named.param.as_deref(), Some("x.[secret]"));
    }

    #[test]
    fn a_cap_never_leaves_half_a_key() {
        let long = format!("{}sk/marked-key", "x".repeat(MESSAGE_CHARS_MAX - 5));
        let facts = ErrorFacts { message: Some(long), ..ErrorFacts::default() };
        let message = UpstreamError::told(facts, Some(&Secret::new("sk/marked-key".to_owned())));
        assert_eq!(message.message.len(), MESSAGE_CHARS_MAX);
        assert!(!message.message.contains("sk/"), "{}", message.message);
    }

    #[test]
    fn odd_fields_leave_the_rest_readable() {
        let odd = told(r#"{"error":{"message":"no","param":5,"code":400}}"#);
        assert_eq!((odd.message.as_str(), odd.code, odd.param), ("no", None, None));
        for silent in [r#"{"error":{"message":" "}}"#, "<html>", "{}"] {
            assert!(told(silent).message.contains("without saying why"), "{silent}");
        }
        let long = format!(r#"{{"error":{{"code":"{}"}}}}"#, "c".repeat(70_000));
        let facts = openai_chat::error(&Bytes::from(long)).unwrap();
        assert_eq!(facts.code, None, "a code is a name");
    }
}
