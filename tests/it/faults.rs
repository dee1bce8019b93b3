//! When the provider misbehaves: each fault gives the client a correct answer or a correct error,
//! and the ledger the truth.

use std::time::{Duration, Instant};

use cordon_system::{
    client::{Reply, Request},
    upstream::{Act, After, Upstream, end_of, error_body, token, usage},
    world::{EUROPEAN, World, free_port},
};
use serde_json::json;

/// A world whose first upstream misbehaves and whose second is well.
fn pair(acts: impl IntoIterator<Item = Act>) -> (Upstream, Upstream, World) {
    let (first, second) = (Upstream::script(acts), Upstream::start());
    let world = World::builder()
        .upstream("first", &first, EUROPEAN)
        .upstream("second", &second, EUROPEAN)
        .start();
    (first, second, world)
}

/// A world with one upstream that misbehaves.
fn alone(acts: impl IntoIterator<Item = Act>) -> (Upstream, World) {
    let first = Upstream::script(acts);
    let world = World::with(&first);
    (first, world)
}

fn status(code: u16, headers: &[(&'static str, &str)], body: &str) -> Act {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Act::Status(code, headers, body.to_owned())
}

fn served_by_second(world: &World, reply: &Reply) {
    assert_eq!(reply.status, 200, "{}\n{}", reply.text(), world.log());
    assert_eq!(reply.content(), "The answer of the upstream.");
    assert_eq!(reply.header("x-cordon-target"), Some("second/m"));
    assert_eq!(reply.header("x-cordon-requested-model"), Some("assistant"));
    let call = world.call(&reply.call_id());
    assert_eq!(call["outcome"], "ok");
    assert_eq!(call["target_id"], "second/m");
    assert_eq!(call["fallback_from"], "first/m");
    let attempts = world.attempts(&reply.call_id());
    assert_eq!(attempts.last().unwrap()["error_type"], serde_json::Value::Null);
    assert_ne!(attempts[0]["error_type"], serde_json::Value::Null);
    assert_eq!(call["input_tokens"], 11, "failed attempts are no completions");
}

#[test]
fn a_fault_before_the_first_byte_is_mended_elsewhere() {
    let long = "overloaded".to_owned();
    for (name, act) in [
        ("silence before the head", Act::StallBeforeHead),
        ("a head without tokens", Act::HeadWithoutTokens),
        ("503", status(503, &[], &error_body("unavailable", &long))),
        ("429 with a long wait", status(429, &[("retry-after", "600")], "{}")),
        ("an exhausted account", status(429, &[], &error_body("insufficient_quota", "pay"))),
        ("401 for our key", status(401, &[], &error_body("invalid_api_key", "no"))),
        ("a redirect", status(302, &[("location", "http://127.0.0.1:1/")], "")),
        ("no SSE at all", status(200, &[], "<html>")),
    ] {
        let (first, _second, world) = pair([act]);
        let reply = world.ask_streaming("hello");
        served_by_second(&world, &reply);
        assert_eq!(first.seen().len(), 1, "{name}: asked twice");
    }
}

#[test]
fn a_refused_connection_is_mended_elsewhere() {
    let second = Upstream::start();
    let world = World::builder()
        .at("first", &format!("http://{}/v1", free_port()), EUROPEAN)
        .upstream("second", &second, EUROPEAN)
        .start();
    served_by_second(&world, &world.ask("hello"));
}

#[test]
fn a_failed_tls_handshake_is_mended_elsewhere() {
    let (plain, second) = (Upstream::start(), Upstream::start());
    let world = World::builder()
        .at("first", &format!("https://localhost:{}/v1", plain.address().port()), EUROPEAN)
        .upstream("second", &second, EUROPEAN)
        .start();
    served_by_second(&world, &world.ask("hello"));
    assert!(plain.seen().is_empty(), "nothing is sent in the clear");
}

#[test]
fn a_short_json_answer_is_never_passed_off_as_whole() {
    let (_first, _second, world) = pair([Act::ShortBody]);
    served_by_second(&world, &world.ask("hello"));
    let (_only, world) = alone([Act::ShortBody]);
    let reply = world.ask("hello");
    assert_eq!(reply.status, 502);
    assert_eq!(world.call(&reply.call_id())["outcome"], "error");
}

#[test]
fn one_500_and_one_reset_are_tried_again_at_the_same_upstream() {
    for act in [status(500, &[], "{}"), Act::ResetBeforeHead] {
        let (first, second, world) = pair([act]);
        let reply = world.ask("hello");
        assert_eq!(reply.header("x-cordon-target"), Some("first/m"), "{}", world.log());
        assert_eq!(reply.header("x-cordon-attempts"), Some("2"));
        assert_eq!(first.seen().len(), 2);
        assert!(second.seen().is_empty());
    }
}

#[test]
fn a_short_retry_after_is_waited_out_once() {
    let limited = || status(429, &[("retry-after", "1")], &error_body("rate_limit", "slow down"));
    let (first, _second, world) = pair([limited()]);
    let began = std::time::Instant::now();
    assert_eq!(world.ask("hello").header("x-cordon-target"), Some("first/m"));
    assert!(began.elapsed().as_millis() >= 1_000, "it came back too early");
    assert_eq!(first.seen().len(), 2);

    let (first, world) = alone([limited(), limited(), limited(), limited()]);
    let reply = world.ask("hello");
    assert_eq!(reply.status, 429);
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(first.seen().len(), 2, "at most one more try in that window");
}

#[test]
fn with_nowhere_to_go_the_original_error_is_the_answer() {
    for (act, expected) in [
        (status(503, &[("retry-after", "30")], "{}"), 503),
        (status(403, &[], &error_body("forbidden", "key")), 502),
        (Act::StallBeforeHead, 504),
        (Act::HeadWithoutTokens, 504),
    ] {
        let (_only, world) = alone([act.clone(), act.clone(), act]);
        let reply = world.ask_streaming("hello");
        assert_eq!(reply.status, expected, "{}", reply.text());
        assert_eq!(world.call(&reply.call_id())["http_status"], expected);
    }
}

#[test]
fn a_silent_upstream_is_never_asked_twice() {
    let (first, world) = alone([Act::StallBeforeHead, Act::StallBeforeHead]);
    let began = std::time::Instant::now();
    assert_eq!(world.ask_streaming("hello").status, 504);
    assert_eq!(first.seen().len(), 1);
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    first.wait_for_a_departure();
}

#[test]
fn a_providers_refusal_of_content_is_the_answer() {
    let refusal = error_body("content_filter", "your prompt was filtered");
    let (_first, second, world) = pair([status(400, &[], &refusal)]);
    let reply = world.ask("something");
    assert_eq!((reply.status, reply.code().as_str()), (400, "content_filter"));
    assert_eq!(second.connections(), 0, "nobody else may be asked");
}

#[test]
fn a_providers_refusal_is_the_answer_though_its_status_is_good() {
    let refusal = error_body("content_filter", "your prompt was filtered");
    let event = format!("data: {refusal}\n\n");
    for (name, act, stream) in [
        ("as an event", Act::Stream(vec![event], After::End), true),
        ("instead of a stream", status(200, &[], &refusal), true),
        ("instead of an answer", status(200, &[], &refusal), false),
    ] {
        let (_first, second, world) = pair([act]);
        let reply = world.send(&world.question("something", stream));
        assert_eq!((reply.status, reply.code().as_str()), (400, "content_filter"), "{name}");
        assert_eq!(reply.json()["error"]["message"], "your prompt was filtered");
        assert_eq!(second.connections(), 0, "{name}: nobody else may be asked");
        let call = world.call(&reply.call_id());
        assert_eq!((&call["outcome"], &call["http_status"]), (&json!("error"), &json!(400)));
        let attempts = world.attempts(&reply.call_id());
        assert_eq!((attempts.len(), &attempts[0]["http_status"]), (1, &json!(200)), "{name}");
        assert_eq!(attempts[0]["error_type"], "status");
        assert_ne!(attempts[0]["request_bytes"], 0, "{name}: the prompt has left");
    }
}

#[test]
fn a_rate_limit_in_a_stream_is_a_rate_limit() {
    let limited = || {
        let event = r#"data: {"error":{"message":"slow down","code":429}}"#;
        Act::Stream(vec![format!("{event}\n\n")], After::End)
    };
    let (first, world) = alone([limited(), limited()]);
    let reply = world.ask_streaming("hello");
    assert_eq!((reply.status, reply.code().as_str()), (429, "upstream_rate_limit"));
    assert_eq!(first.seen().len(), 2, "tried once more, after a wait");
    let (_first, _second, world) = pair([limited(), limited()]);
    served_by_second(&world, &world.ask_streaming("hello"));
}

#[test]
fn a_good_status_without_an_answer_is_mended_elsewhere() {
    for body in ["{}", "null", r#"{"error":{"message":"oops","type":"server_error"}}"#] {
        let (_first, _second, world) = pair([status(200, &[], body)]);
        served_by_second(&world, &world.ask("hello"));
    }
}

#[test]
fn an_error_in_a_stream_that_has_begun_is_told_and_ends_it() {
    let error = error_body("content_filter", "the answer was filtered");
    let pieces = vec![token(0, "The "), format!("data: {error}\n\n"), token(0, "more")];
    let (_first, second, world) = pair([Act::Stream(pieces, After::Silence)]);
    let reply = world.ask_streaming("hello");
    assert_eq!((reply.status, reply.content().as_str()), (200, "The "));
    let last: serde_json::Value = serde_json::from_str(&reply.events().pop().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "content_filter");
    assert_eq!(last["error"]["message"], "the answer was filtered");
    assert!(!reply.text().contains("[DONE]"));
    assert_eq!(second.connections(), 0);
    assert_eq!(world.call(&reply.call_id())["outcome"], "interrupted");
}

#[test]
fn a_conversation_that_is_too_long_goes_only_to_a_larger_window() {
    let long = error_body("context_length_exceeded", "too long");
    let (first, second, world) = pair([status(400, &[], &long)]);
    let reply = world.ask("hello");
    assert_eq!((reply.status, reply.code().as_str()), (400, "context_length_exceeded"));
    assert_eq!((first.seen().len(), second.connections()), (1, 0));
}

#[test]
fn an_early_refusal_while_we_still_write_is_the_upstreams_answer() {
    let (_first, _second, world) = pair([Act::EarlyStatus(429)]);
    let reply = world.ask(&"long ".repeat(400_000));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(world.attempts(&reply.call_id())[0]["http_status"], 429);
}

#[test]
fn a_slow_reader_gets_the_whole_body() {
    let (first, world) = alone([Act::SlowReader]);
    let text = "long ".repeat(400_000);
    assert_eq!(world.ask(&text).status, 200);
    assert_eq!(first.seen()[0].json()["messages"][0]["content"], text.as_str());
}

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
