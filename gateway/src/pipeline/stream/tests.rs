//! What becomes of the events of a stream, and of each way in which it may end.

use std::sync::Arc;

use super::*;
use crate::{catalog::facts::Deadlines, providers::ErrorKind, room::Budget, wire::Usage};

const TOKEN: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
const ROLE: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n";
const FINISH: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const FINISH_1: &str =
    "data: {\"choices\":[{\"index\":1,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n";
const USAGE: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// A stream of as many choices as are asked for.
fn state(choices: usize, include_usage: bool) -> StreamState {
    let body = serde_json::json!({"model": "m", "n": choices, "stream": true,
        "stream_options": {"include_usage": include_usage},
        "messages": [{"role": "user", "content": "x"}]});
    let call = openai_chat::parse(body.to_string().into()).unwrap();
    let second = Duration::from_secs(1);
    let deadlines = Deadlines {
        connect: second,
        first_token: second,
        answer: second,
        gap: second,
        total: None,
    };
    StreamState::new(Opening::of(&call, deadlines, Instant::now(), &Arc::new(Budget::new(0))))
}

/// Everything that waits to be written, as one text.
fn written(state: &mut StreamState) -> String {
    let pieces = std::iter::from_fn(|| state.queued());
    pieces.map(|(piece, _)| String::from_utf8(piece.to_vec()).unwrap()).collect()
}

fn word(state: &StreamState) -> Option<&'static str> {
    state.broken.as_ref().map(|failure| failure.cause.word())
}

fn cut() -> Option<Failure> {
    Some(Failure::upstream(Cause::Timeout(Deadline::Gap)))
}

#[test]
fn an_end_without_the_sentinel_is_an_end_only_where_all_choices_have_ended() {
    for (name, choices, events, how, broken) in [
        ("whole", 1, vec![TOKEN, FINISH, USAGE, DONE], None, None),
        ("no sentinel", 1, vec![TOKEN, FINISH, USAGE], None, None),
        ("no sentinel, left open", 1, vec![TOKEN, FINISH, USAGE], cut(), None),
        ("cut behind the finish", 1, vec![TOKEN, FINISH], cut(), None),
        ("no finish", 1, vec![TOKEN], None, Some("broken_body")),
        ("cut", 1, vec![TOKEN], cut(), Some("timeout_gap")),
        ("one of two", 2, vec![TOKEN, FINISH], None, Some("broken_body")),
        ("one of two, said twice", 2, vec![FINISH, FINISH], None, Some("broken_body")),
        ("one of two, cut", 2, vec![TOKEN, FINISH], cut(), Some("timeout_gap")),
        ("two of two", 2, vec![TOKEN, FINISH_1, FINISH], cut(), None),
        ("the sentinel is believed", 2, vec![TOKEN, FINISH, DONE], None, None),
    ] {
        let mut state = state(choices, false);
        for event in &events {
            state.take(event.as_bytes());
        }
        state.end(how);
        assert!(state.is_over(), "{name}");
        assert_eq!(word(&state), broken, "{name}");
        let shown: Vec<_> =
            events.iter().filter(|e| **e != USAGE && **e != DONE).copied().collect();
        assert_eq!(written(&mut state), shown.concat(), "{name}");
    }
}

#[test]
fn a_last_event_without_its_blank_line_is_whole() {
    for (tail, wanted) in [("\n", "\n\n\n"), ("", "\n\n")] {
        let mut state = state(1, false);
        state.take(TOKEN.as_bytes());
        let unended = format!("{}{tail}", FINISH.trim_end());
        state.take(unended.as_bytes());
        let heard = state.end(None);
        assert_eq!(word(&state), None);
        assert_eq!(heard.facts.finish_reasons[&0], "stop");
        assert_eq!(written(&mut state), format!("{TOKEN}{}{wanted}", FINISH.trim_end()));
    }
    let mut state = state(1, false);
    state.take(TOKEN.as_bytes());
    state.take(b"data: {\"choi");
    assert_eq!(state.end(None).dropped_events, 1);
    assert_eq!(word(&state), Some("broken_body"), "half an event ends nothing");
}

#[test]
fn usage_is_heard_when_it_comes_and_shown_to_who_asked() {
    for (asked, shown) in [(true, format!("{TOKEN}{USAGE}")), (false, TOKEN.to_owned())] {
        let mut state = state(1, asked);
        let heard = state.take(format!("{TOKEN}{USAGE}").as_bytes());
        let usage = Usage { input_tokens: 1, output_tokens: 2, ..Usage::default() };
        assert_eq!(heard.facts.usage, Some(usage));
        assert_eq!(written(&mut state), shown);
    }
}

#[test]
fn an_error_event_keeps_what_the_upstream_said() {
    let error = "data: {\"error\":{\"code\":\"content_filter\"}}\n\n";
    let mut early = state(1, false);
    early.take(format!("{ROLE}{error}{TOKEN}").as_bytes());
    assert!(early.has_begun());
    let failure = early.failure_before_the_first_token().unwrap();
    assert_eq!((failure.cause, failure.kind), (Cause::Status, ErrorKind::ContentFilter));

    let mut late = state(1, false);
    late.take(format!("{TOKEN}{error}{TOKEN}").as_bytes());
    assert!(late.failure_before_the_first_token().is_none(), "the client has a token");
    assert_eq!(word(&late), Some("status"));
    assert_eq!(written(&mut late), TOKEN, "nothing passes behind an error");
}

#[test]
fn a_stream_begins_with_a_token_or_its_end() {
    for (events, begun) in [
        ("", false),
        (": ping\n\n", false),
        (ROLE, false),
        (USAGE, false),
        (TOKEN, true),
        (FINISH, true),
        (DONE, true),
    ] {
        let mut state = state(1, false);
        state.take(events.as_bytes());
        assert_eq!(state.has_begun(), begun, "{events}");
    }
}

#[test]
fn an_event_that_is_no_json_is_left_out_and_a_lone_surrogate_is_not() {
    let half = "data: {\"choices\":[{\"delta\":{\"content\":\"\\ud83d\"}}]}\n\n";
    let mut state = state(1, false);
    let heard = state.take(format!("{TOKEN}data: oops\n\n: ping\n\n{half}").as_bytes());
    assert_eq!(heard.dropped_events, 1);
    assert_eq!(written(&mut state), format!("{TOKEN}: ping\n\n{half}"));
}

#[test]
fn an_event_beyond_the_limit_ends_the_stream() {
    let mut state = state(1, false);
    state.take(TOKEN.as_bytes());
    state.take(&vec![b'x'; EVENT_BYTES_MAX + 1]);
    assert_eq!(word(&state), Some("too_large"));
}

#[test]
fn events_that_wait_together_are_written_together_up_to_a_size() {
    let mut state = state(1, false);
    let count = PIECE_BYTES_MAX / TOKEN.len() + 1;
    state.take(TOKEN.repeat(count).as_bytes());
    let (piece, events) = state.queued().unwrap();
    assert!(piece.len() <= PIECE_BYTES_MAX && events == count as u64 - 1);
    assert_eq!(state.queued().unwrap().1, 1);
    assert_eq!((state.queued(), state.queued_bytes()), (None, 0));
}
