//! What the bench asks and answers: bytes that are made once.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// The text of every answer that is not streamed; about 1 KB with its frame.
const SENTENCE: &str = "The valley was quiet in the morning and the river ran slowly. ";
const SENTENCES: usize = 12;
/// Countries of the EU, for calls that differ from their neighbours in what policy sees.
const COUNTRIES: [&str; 27] = [
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT",
    "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
];

/// A chat completion request of exactly `bytes` bytes.
pub fn request(bytes: usize, stream: bool) -> Result<Vec<u8>> {
    let mut body = json!({"model": "assistant", "stream": stream});
    if stream {
        body["stream_options"] = json!({"include_usage": true});
    }
    body["messages"] = json!([{"role": "user", "content": ""}]);
    let empty = body.to_string().len();
    let room = bytes.checked_sub(empty);
    let room = room.with_context(|| format!("a request has at least {empty} bytes"))?;
    let text: String = SENTENCE.chars().cycle().take(room).collect();
    body["messages"] = json!([{"role": "user", "content": text}]);
    let body = body.to_string().into_bytes();
    ensure!(body.len() == bytes, "the sentence holds something that JSON escapes");
    Ok(body)
}

/// That request as it may arrive at the upstream: byte for byte, or with the upstream's own name
/// of the model, and nothing else changed.
pub fn forwarded(bytes: usize, stream: bool) -> Result<[Vec<u8>; 2]> {
    let sent = String::from_utf8(request(bytes, stream)?)?;
    let renamed = sent.replacen("\"model\":\"assistant\"", "\"model\":\"m\"", 1);
    ensure!(renamed != sent, "the request names another model");
    Ok([sent.into_bytes(), renamed.into_bytes()])
}

/// The value of `x-cordon-subject-regions` for one call: 378 sets in turn, no two neighbours alike.
pub fn regions(call: u64) -> String {
    let count = COUNTRIES.len() as u64;
    let country = |index: u64| COUNTRIES[usize::try_from(index % count).unwrap_or_default()];
    let (first, second) = (country(call), country(call / count));
    if first == second { first.to_owned() } else { format!("{first}, {second}") }
}

/// A whole answer, head and body.
pub fn completion() -> Vec<u8> {
    let body = json!({
        "id": "chatcmpl-bench", "object": "chat.completion", "created": 1_700_000_000,
        "model": "m",
        "choices": [{
            "index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": SENTENCE.repeat(SENTENCES)},
        }],
        "usage": usage(),
    });
    let body = body.to_string();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
    format!("{head}{}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The head of a streamed answer.
pub const STREAM_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// One event with a word, as a chunk.
pub fn word() -> Vec<u8> {
    chunk(&event(&json!({"content": "morning "}), &Value::Null))
}

/// What follows the words: the reason to stop, the usage, and the end of the body.
pub fn ending() -> Vec<u8> {
    let mut usage_event: Value = body(&json!({}), &Value::Null);
    usage_event["choices"] = json!([]);
    usage_event["usage"] = usage();
    let text = format!(
        "{}data: {usage_event}\n\ndata: [DONE]\n\n",
        event(&json!({}), &Value::String("stop".to_owned()))
    );
    [chunk(&text), b"0\r\n\r\n".to_vec()].concat()
}

/// Whether a request's body asks for a stream. Only its ends are searched: a search of every long
/// body would be most of what this upstream does.
pub fn asks_for_a_stream(body: &[u8]) -> bool {
    const END: usize = 512;
    let head = &body[..body.len().min(END)];
    let tail = &body[body.len().saturating_sub(END)..];
    [head, tail].iter().any(|part| {
        [&b"\"stream\":true"[..], b"\"stream\": true"].iter().any(|word| count(part, word) > 0)
    })
}

/// Why an answer's body is not the one that the upstream gave.
pub fn fault(body: &[u8], events: Option<usize>) -> Option<String> {
    let Some(events) = events else {
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = value["choices"][0]["message"]["content"].as_str().unwrap_or_default();
        let good = text.len() == SENTENCE.len() * SENTENCES && text.starts_with(SENTENCE);
        return (!good).then(|| "the answer's text is not the upstream's".to_owned());
    };
    let words = count(body, b"\"content\":\"morning \"");
    if words != events {
        return Some(format!("{words} of {events} words arrived"));
    }
    let done = body.trim_ascii_end().ends_with(b"data: [DONE]");
    (!done).then(|| "the stream ended without `[DONE]`".to_owned())
}

fn count(text: &[u8], word: &[u8]) -> usize {
    text.windows(word.len()).filter(|window| *window == word).count()
}

fn usage() -> Value {
    json!({"prompt_tokens": 200, "completion_tokens": 150, "total_tokens": 350})
}

fn body(delta: &Value, finish: &Value) -> Value {
    json!({
        "id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1_700_000_000,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    })
}

fn event(delta: &Value, finish: &Value) -> String {
    format!("data: {}\n\n", body(delta, finish))
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_request_has_exactly_the_bytes_asked_for() {
        for (bytes, stream) in [(1024, false), (1024, true), (32 * 1024, false)] {
            let body = request(bytes, stream).unwrap();
            assert_eq!(body.len(), bytes);
            assert_eq!(asks_for_a_stream(&body), stream);
            assert!(serde_json::from_slice::<Value>(&body).is_ok());
        }
        assert!(request(10, false).is_err());
    }

    #[test]
    fn neighbouring_calls_declare_other_regions() {
        let sets: BTreeSet<BTreeSet<String>> =
            (0..729).map(|call| regions(call).split(", ").map(str::to_owned).collect()).collect();
        assert_eq!(sets.len(), 27 + 27 * 26 / 2);
        assert!((0..729).all(|call| regions(call) != regions(call + 1)));
    }

    #[test]
    fn only_the_whole_answer_is_good() {
        let whole = completion();
        let body = &whole[count_to_body(&whole)..];
        assert_eq!(fault(body, None), None);
        assert!(fault(&body[..body.len() - 9], None).is_some());
        let stream = |words: usize, end: &str| {
            let words = event(&json!({"content": "morning "}), &Value::Null).repeat(words);
            format!("{words}{end}").into_bytes()
        };
        assert_eq!(fault(&stream(3, "data: [DONE]\n\n"), Some(3)), None);
        assert!(fault(&stream(2, "data: [DONE]\n\n"), Some(3)).is_some());
        assert!(fault(&stream(3, ""), Some(3)).is_some());
    }

    fn count_to_body(answer: &[u8]) -> usize {
        answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4
    }
}
