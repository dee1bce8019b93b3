//! When the provider misbehaves: each fault gives the client a correct answer or a correct error,
//! and the ledger the truth.

use std::{
    io::{Read, Write},
    net::TcpListener,
    time::Instant,
};

use cordon_system::{
    client::{self, Reply},
    upstream::{Act, After, FLOOD_BYTES_MAX, Upstream, completion_of, error_body, token},
    world::{EUROPEAN, World, free_port},
};
use serde_json::json;

/// A world whose first upstream misbehaves and whose second is well.
pub(crate) fn pair(acts: impl IntoIterator<Item = Act>) -> (Upstream, Upstream, World) {
    let (first, second) = (Upstream::script(acts), Upstream::start());
    let world = World::builder()
        .upstream("first", &first, EUROPEAN)
        .upstream("second", &second, EUROPEAN)
        .start();
    (first, second, world)
}

/// A world with one upstream that misbehaves.
pub(crate) fn alone(acts: impl IntoIterator<Item = Act>) -> (Upstream, World) {
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
fn a_handshake_that_never_ends_is_mended_elsewhere() {
    let (mute, second) = (TcpListener::bind("127.0.0.1:0").unwrap(), Upstream::start());
    let port = mute.local_addr().unwrap().port();
    let world = World::builder()
        .deadlines(r#"{ connect = "1s", first_token = "9s", gap = "9s", answer = "9s" }"#)
        .at("first", &format!("https://localhost:{port}/v1"), EUROPEAN)
        .upstream("second", &second, EUROPEAN)
        .start();
    let reply = world.ask("hello");
    served_by_second(&world, &reply);
    assert_eq!(world.attempts(&reply.call_id())[0]["error_type"], "timeout_connect");
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
fn what_stands_behind_an_answer_is_no_answer_to_the_next_call() {
    let (first, world) = alone([Act::LongBody, Act::LongBody]);
    for _ in 0..3 {
        assert_eq!(world.ask("hello").content(), "The answer of the upstream.");
    }
    assert_eq!(first.connections(), 3, "a connection of unclear state is not used again");
}

#[test]
fn a_dead_idle_connection_is_no_ones_error() {
    let (first, second, world) = pair([]);
    assert_eq!(world.ask("hello").status, 200);
    // It dies as the next request arrives. What the upstream then says for itself still counts.
    for (acts, attempts) in [
        (vec![Act::ResetBeforeHead], 2_usize),
        (vec![Act::ResetBeforeHead, status(500, &[], "{}")], 3),
    ] {
        first.replay(acts);
        let before = first.seen().len();
        let reply = world.ask("hello");
        assert_eq!(reply.header("x-cordon-target"), Some("first/m"), "{}", world.log());
        assert_eq!(reply.header("x-cordon-attempts"), Some(attempts.to_string().as_str()));
        assert_eq!(world.call(&reply.call_id())["outcome"], "ok");
        let recorded = world.attempts(&reply.call_id());
        assert_eq!(recorded[0]["error_type"], "stale_connection");
        let intents = format!(
            "SELECT count(*) AS n FROM events WHERE kind = 'intent' AND call_id = '{}'",
            reply.call_id()
        );
        assert_eq!(world.sql(&intents)[0]["n"], attempts, "each request has its intent");
        assert_eq!(first.seen().len() - before, attempts);
    }
    assert_eq!(second.connections(), 0);
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
    let began = Instant::now();
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
fn trouble_that_lasts_is_tried_twice_and_then_goes_elsewhere() {
    for (act, alone_status) in [
        (status(429, &[], &error_body("rate_limit_exceeded", "slow down")), 429),
        (status(500, &[], &error_body("server_error", "oops")), 502),
    ] {
        let (first, _second, world) = pair(vec![act.clone(); 4]);
        served_by_second(&world, &world.ask("hello"));
        assert_eq!(first.seen().len(), 2, "{act:?}");
        let (first, world) = alone(vec![act.clone(); 4]);
        assert_eq!(world.ask("hello").status, alone_status, "{act:?}");
        assert_eq!(first.seen().len(), 2, "{act:?}");
    }
}

#[test]
fn the_total_bounds_all_attempts_together_and_a_stream_that_flows() {
    let deadlines = r#"{ first_token = "1s", gap = "1s", total = "1500ms" }"#;
    let (first, second) = (
        Upstream::script([Act::StallBeforeHead, Act::Endless]),
        Upstream::script([Act::HeadWithoutTokens]),
    );
    let world = World::builder()
        .upstream("first", &first, EUROPEAN)
        .upstream("second", &second, EUROPEAN)
        .deadlines(deadlines)
        .start();
    let reply = world.ask_streaming("hello");
    assert_eq!(reply.status, 504, "{}", reply.text());
    let ended = |reply: &Reply| {
        world.call(&reply.call_id());
        let attempts = world.attempts(&reply.call_id());
        attempts.iter().map(|row| row["error_type"].to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ended(&reply), r#""timeout_first_token" "timeout_total""#);
    let reply = world.ask_streaming("hello");
    assert_eq!(reply.status, 200);
    assert!(!reply.text().contains("[DONE]"));
    assert_eq!(ended(&reply), r#""timeout_total""#);
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
    let began = Instant::now();
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

    let first = Upstream::script([status(400, &[], &long)]);
    let (small, large) = (Upstream::start(), Upstream::start());
    let world = World::builder()
        .upstream("first", &first, EUROPEAN)
        .window(4_096)
        .upstream("small", &small, EUROPEAN)
        .window(2_048)
        .upstream("second", &large, EUROPEAN)
        .window(128_000)
        .start();
    served_by_second(&world, &world.ask("hello"));
    assert_eq!((first.seen().len(), small.connections()), (1, 0));
}

#[test]
fn an_early_refusal_while_we_still_write_is_the_upstreams_answer() {
    let first = Upstream::script([Act::EarlyStatus(429)]);
    let world = World::builder()
        .upstream("first", &first, EUROPEAN)
        .deadlines(r#"{ answer = "20s" }"#)
        .start();
    // More than the sockets' buffers hold, so that some of it is still to be written.
    let reply = world.ask(&"long ".repeat(1_600_000));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(world.attempts(&reply.call_id())[0]["http_status"], 429);
}

#[test]
fn a_gap_in_a_whole_answer_is_mended_elsewhere() {
    let (_first, _second, world) = pair([Act::StallAfter(2)]);
    let reply = world.ask("hello");
    served_by_second(&world, &reply);
    assert_eq!(world.attempts(&reply.call_id())[0]["error_type"], "timeout_gap");
}

#[test]
fn an_upstream_waits_for_a_client_that_does_not_read() {
    let (first, world) = alone([Act::Flood]);
    let mut stream = client::connect(world.ai()).unwrap();
    stream.write_all(&world.question("tell me everything", true).bytes()).unwrap();
    stream.read_exact(&mut [0; 200]).unwrap();

    let taken = first.wait_for_a_stall();

    assert!(taken < FLOOD_BYTES_MAX / 4, "{taken} bytes were taken for a client that reads none");
    drop(stream);
    first.wait_for_a_departure();
}

#[test]
fn heads_pass_by_a_list_of_names_in_both_directions() {
    let theirs = [
        ("set-cookie", "marked=1"),
        ("connection", "keep-alive, x-hop"),
        ("keep-alive", "timeout=5"),
        ("trailer", "x-marked"),
        ("upgrade", "h2c"),
        ("server", "marked"),
        ("x-hop", "marked"),
        ("x-request-id", "req-marked-1"),
    ];
    let (first, world) = alone([status(200, &theirs, &completion_of("plain"))]);
    let mut question = world.question("hello", false);
    for (name, value) in [
        ("connection", "x-hop, upgrade, close"),
        ("x-hop", "marked"),
        ("upgrade", "websocket"),
        ("te", "trailers"),
        ("cookie", "marked=1"),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-marked", "marked"),
    ] {
        question = question.with(name, value);
    }

    let reply = world.send(&question);

    assert_eq!((reply.status, reply.content().as_str()), (200, "plain"), "{}", reply.text());
    let seen = first.seen()[0].head.to_lowercase();
    let mut sent: Vec<&str> =
        seen.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name).collect();
    sent.sort_unstable();
    let ours =
        ["accept", "accept-encoding", "content-length", "content-type", "host", "user-agent"];
    assert_eq!(sent, ours, "{seen}");
    assert!(seen.starts_with("post /v1/chat/completions http/1.1\r\n"));
    for (name, value) in &reply.headers {
        let own = name.starts_with("x-cordon-") || name.starts_with("x-request-id");
        let plain = ["content-type", "content-length", "connection", "date", "request-id"];
        assert!(own || plain.contains(&name.as_str()), "`{name}: {value}` reached the client");
        assert!(!value.contains("marked") && !value.contains("x-hop"), "{name}: {value}");
    }
    assert_eq!(world.call(&reply.call_id())["outcome"], "ok");
    let attempt = &world.attempts(&reply.call_id())[0];
    assert_eq!(attempt["upstream_request_id"], "req-marked-1");
}

#[test]
fn a_slow_reader_gets_the_whole_body() {
    let (first, world) = alone([Act::SlowReader]);
    let text = "long ".repeat(400_000);
    assert_eq!(world.ask(&text).status, 200);
    assert_eq!(first.seen()[0].json()["messages"][0]["content"], text.as_str());
}
