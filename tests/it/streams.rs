//! How streams end: broken, complete without their sentinel, left open, with choices missing.

use std::time::{Duration, Instant};

use cordon_system::{
    client::Request,
    upstream::{Act, After, Upstream, end_of, token, usage},
    world::{EUROPEAN, World},
};
use serde_json::json;

use crate::faults::{alone, pair};

#[test]
fn a_stream_that_breaks_ends_with_an_error_event_and_no_sentinel() {
    for (act, outcome) in [(Act::ResetAfter(3), "interrupted"), (Act::StallAfter(3), "interrupted")]
    {
        let (_first, second, world) = pair([act]);
        let reply = world.ask_streaming("hello");
        assert_eq!(reply.status, 200);
        assert!(reply.complete, "the framing towards the client stays whole");
        assert_eq!(reply.content(), "The answer of ");
        let last = reply.events().pop().unwrap();
        assert!(last.contains("\"error\""), "{last}");
        assert!(!reply.text().contains("[DONE]"));
        let call = world.call(&reply.call_id());
        assert_eq!(call["outcome"], outcome);
        assert!(second.seen().is_empty(), "a stream that has begun is not continued elsewhere");
    }
}

#[test]
fn an_event_that_is_no_json_is_left_out_and_noted() {
    let (_only, world) = alone([Act::BadEvent]);
    let reply = world.ask_streaming("hello");
    assert_eq!(reply.content(), "The answer of the upstream.");
    assert!(!reply.text().contains("this is no json"));
    assert_eq!(reply.events().last().map(String::as_str), Some("[DONE]"));
    let call = world.call(&reply.call_id());
    assert_eq!(call["outcome"], "ok");
    assert!(call["attributes_json"].as_str().unwrap().contains("\"dropped_events\":1"));
}

#[test]
fn a_complete_stream_without_its_sentinel_gets_one() {
    let (_only, world) = alone([Act::NoDone]);
    let reply = world.ask_streaming("hello");
    assert_eq!(reply.content(), "The answer of the upstream.");
    assert_eq!(reply.events().last().map(String::as_str), Some("[DONE]"));
    let call = world.call(&reply.call_id());
    assert_eq!((call["outcome"].as_str(), call["output_tokens"].as_u64()), (Some("ok"), Some(5)));
}

#[test]
fn a_complete_stream_that_is_left_open_ends_at_once() {
    let pieces = vec![token(0, "The answer"), end_of(0), usage()];
    let first = Upstream::script([Act::Stream(pieces, After::Silence)]);
    let world = World::builder()
        .upstream("first", &first, EUROPEAN)
        .deadlines(r#"{ connect = "1s", first_token = "20s", gap = "20s", answer = "20s" }"#)
        .start();
    let began = Instant::now();
    let reply = world.ask_streaming("hello");
    assert!(began.elapsed() < Duration::from_secs(10), "it waited for the gap");
    assert_eq!(reply.content(), "The answer");
    assert_eq!(reply.events().last().map(String::as_str), Some("[DONE]"));
    let call = world.call(&reply.call_id());
    assert_eq!((call["outcome"].as_str(), call["output_tokens"].as_u64()), (Some("ok"), Some(5)));
    first.wait_for_a_departure();
}

#[test]
fn a_last_event_without_its_blank_line_is_not_lost() {
    for ending in ["\n", ""] {
        let last = format!("{}{ending}", end_of(0).trim_end());
        let (_only, world) = alone([Act::Stream(vec![token(0, "The answer"), last], After::End)]);
        let reply = world.ask_streaming("hello");
        assert_eq!(reply.content(), "The answer");
        assert_eq!(reply.events().last().map(String::as_str), Some("[DONE]"));
        assert!(reply.text().ends_with("\n\ndata: [DONE]\n\n"), "{}", reply.text());
        assert_eq!(world.call(&reply.call_id())["outcome"], "ok");
    }
}

#[test]
fn of_two_choices_both_must_end() {
    let begun = [token(0, "a"), token(1, "b"), end_of(0)];
    for (rest, outcome) in [(vec![], "interrupted"), (vec![end_of(1)], "ok")] {
        let pieces = [begun.to_vec(), rest].concat();
        let (_only, world) = alone([Act::Stream(pieces, After::End)]);
        let messages = json!([{"role": "user", "content": "hello"}]);
        let body = json!({"model": "assistant", "messages": messages, "stream": true, "n": 2});
        let reply = world.send(&Request::chat(world.key(), &body));
        assert_eq!(reply.text().contains("[DONE]"), outcome == "ok", "{}", reply.text());
        assert_eq!(world.call(&reply.call_id())["outcome"], outcome);
    }
}
