//! One call from the client to the ledger: what is answered, what is refused, what is recorded.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use cordon_system::{
    client::{self, Request},
    upstream::{Act, After, Upstream, counted_token},
    world::{EUROPEAN, World},
};
use serde_json::json;

#[test]
fn a_call_is_answered_and_found_again_with_sql() {
    let upstream = Upstream::start();
    let world = World::with(&upstream);

    let reply = world.ask("What is a cordon?");

    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.content(), "The answer of the upstream.");
    assert_eq!(reply.header("x-cordon-target"), Some("first/m"));
    assert_eq!(reply.header("x-cordon-decision"), Some("allow"));
    assert_eq!(reply.header("x-cordon-cache"), Some("bypass"));
    assert_eq!(reply.header("x-cordon-attempts"), Some("1"));
    let call = world.call(&reply.call_id());
    assert_eq!(call["outcome"], "ok");
    assert_eq!(call["target_id"], "first/m");
    assert_eq!(call["input_tokens"], 11);
    assert_eq!(call["output_tokens"], 5);
    assert_eq!(call["region"], "DE");
    assert_eq!(call["route_id"], "assistant");
    assert_eq!(call["tenant_id"], "demo");
    let attempts = world.attempts(&reply.call_id());
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0]["http_status"], 200);
}

#[test]
fn a_stream_passes_byte_by_byte_and_its_usage_is_counted() {
    let upstream = Upstream::start();
    let world = World::with(&upstream);

    let reply = world.ask_streaming("What is a cordon?");

    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.content(), "The answer of the upstream.");
    assert_eq!(reply.events().last().map(String::as_str), Some("[DONE]"));
    assert!(!reply.text().contains("\"usage\""), "the client did not ask for usage");
    let call = world.call(&reply.call_id());
    assert_eq!(call["outcome"], "ok");
    assert_eq!(call["stream"], true);
    assert_eq!(call["output_tokens"], 5);
    let sent = upstream.seen()[0].json();
    assert_eq!(sent["stream_options"]["include_usage"], true);
}

#[test]
fn the_upstream_gets_the_clients_own_bytes_but_for_the_model() {
    let upstream = Upstream::start();
    let world = World::with(&upstream);
    let body = r#"{ "messages":[{"content":"h\u00e9","role":"user"}], "zz_unknown" : [1.50, 2e3],
        "model":"assistant" }"#;

    let request = Request::post("/v1/chat/completions", world.key(), body.as_bytes().to_vec());
    assert_eq!(world.send(&request).status, 200);

    let seen = String::from_utf8(upstream.seen()[0].body.clone()).unwrap();
    assert_eq!(seen, body.replace("\"assistant\"", "\"m\""));
    let head = upstream.seen()[0].head.to_lowercase();
    assert!(!head.contains(world.key()), "our key must not reach a provider");
}

#[test]
fn what_cannot_be_read_one_way_only_is_refused() {
    let upstream = Upstream::start();
    let world = World::with(&upstream);
    let message = r#""messages":[{"role":"user","content":"x"}]"#;
    for (body, status) in [
        (format!(r#"{{"model":"assistant","model":"other",{message}}}"#), 400),
        (format!(r#"{{"model":"assistant",{message}}} true"#), 400),
        (r#"{"model":"assistant","messages":[]}"#.to_owned(), 400),
        (format!(r#"{{"model":"assistant",{message},"x":"\ud800"}}"#), 400),
        (format!(r#"{{"model":"nobody",{message}}}"#), 404),
        ("no json".to_owned(), 400),
    ] {
        let request = Request::post("/v1/chat/completions", world.key(), body.clone().into_bytes());
        let reply = world.send(&request);
        assert_eq!(reply.status, status, "{body}: {}", reply.text());
        assert!(!reply.json()["error"]["message"].as_str().unwrap_or_default().is_empty());
        assert_eq!(world.call(&reply.call_id())["outcome"], "error", "{body}");
    }
    let encoded = world.question("x", false).with("content-encoding", "gzip");
    assert_eq!(world.send(&encoded).status, 415);
    assert!(upstream.seen().is_empty());
}

#[test]
fn strangers_and_unknown_paths_never_become_calls() {
    let upstream = Upstream::start();
    let world = World::with(&upstream);

    let stranger = world.send(&Request::chat("cdn_wrong", &json!({"model": "assistant"})));
    assert_eq!((stranger.status, stranger.code().as_str()), (401, "invalid_api_key"));
    assert_eq!(stranger.header("www-authenticate"), Some("Bearer"));
    assert_eq!(world.send(&Request::get("/v1/nothing", world.key())).status, 404);
    let method = world.send(&Request::get("/v1/chat/completions", world.key()));
    assert_eq!((method.status, method.code().as_str()), (405, "method_not_supported"));
    assert_eq!(method.json()["error"]["message"], "this path knows POST, OPTIONS");
    assert_eq!(method.header("allow"), Some("POST, OPTIONS"));
    let models = world.send(&Request::get("/v1/models", world.key()));
    assert_eq!(models.json()["data"][0]["id"], "assistant");

    assert_eq!(world.sql("SELECT count(*) AS n FROM calls")[0]["n"], 0);
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_revoked_key_is_refused_within_a_second() {
    let upstream = Upstream::start();
    let world = World::with(&upstream);
    assert_eq!(world.ask("hello").status, 200);
    let listed = world.run("cordon", &["keys", "list", "--json"]);
    let keys: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let id = keys[0]["id"].as_str().unwrap().to_owned();

    assert!(world.run("cordon", &["keys", "revoke", &id]).status.success());
    let revoked = Instant::now();
    world.wait_until("the key is refused", |world| world.ask("hello").status == 401);

    assert!(revoked.elapsed() <= Duration::from_secs(1), "{:?}", revoked.elapsed());
}

#[test]
fn a_body_over_the_limit_is_answered_and_not_reset() {
    let upstream = Upstream::start();
    let world = World::with(&upstream);
    let mut stream = client::connect(world.ai()).unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        world.key(),
        40 << 20
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![b' '; 100_000]).unwrap();

    let reply = client::read_reply(stream).unwrap();

    assert_eq!(reply.status, 413);
    assert_eq!(reply.code(), "BODY_OVER_INSPECTION_LIMIT");
}

#[test]
fn a_client_that_leaves_cancels_the_upstream_and_leaves_a_whole_record() {
    let upstream = Upstream::script([Act::Endless]);
    let world = World::with(&upstream);
    let mut stream = client::connect(world.ai()).unwrap();
    stream.write_all(&world.question("tell me a story", true).bytes()).unwrap();
    upstream.wait_for(1);
    let mut some = [0; 200];
    std::io::Read::read_exact(&mut stream, &mut some).unwrap();

    drop(stream);

    upstream.wait_for_a_departure();
    world.wait_until("the outcome is visible", |world| {
        let rows = world.sql("SELECT outcome FROM calls");
        rows.first().is_some_and(|row| row["outcome"] == "cancelled")
    });
    assert_eq!(world.sql("SELECT error_type FROM attempts")[0]["error_type"], "cancelled");
}

#[test]
fn what_a_stream_has_cost_is_recorded_though_its_client_leaves() {
    let upstream = Upstream::script([Act::Stream(vec![counted_token("once ")], After::Silence)]);
    let world = World::with(&upstream);
    let mut stream = client::connect(world.ai()).unwrap();
    stream.write_all(&world.question("tell me a story", true).bytes()).unwrap();
    let mut some = [0; 200];
    std::io::Read::read_exact(&mut stream, &mut some).unwrap();

    drop(stream);

    world.wait_until("the outcome is visible", |world| {
        !world.sql("SELECT outcome FROM calls").is_empty()
    });
    let columns = "http_status, input_tokens, output_tokens";
    let cost = json!({"http_status": 200, "input_tokens": 11, "output_tokens": 5});
    assert_eq!(world.sql(&format!("SELECT {columns} FROM calls"))[0], cost);
    assert_eq!(world.sql(&format!("SELECT {columns} FROM attempts"))[0], cost);
}

#[test]
fn a_gateway_without_a_collector_is_ready_and_warns_of_nothing() {
    let upstream = Upstream::start();
    let world = World::builder()
        .upstream("first", &upstream, EUROPEAN)
        .extra("[collector]\nstart = false\n")
        .start();

    let ready = world.send(&Request::get("/readyz", "")).json();

    assert_eq!((&ready["ready"], &ready["warnings"]), (&json!(true), &json!([])));
}

#[test]
fn a_drained_gateway_ends_its_calls_and_keeps_their_record() {
    let upstream = Upstream::script([Act::Endless]);
    let mut world = World::builder()
        .upstream("first", &upstream, EUROPEAN)
        .extra("[listeners.limits]\ndrain_deadline = \"500ms\"\n")
        .start();
    let mut stream = client::connect(world.ai()).unwrap();
    stream.write_all(&world.question("tell me a story", true).bytes()).unwrap();
    upstream.wait_for(1);

    world.stop();

    let rows = world.sql("SELECT outcome FROM calls");
    assert_eq!(rows[0]["outcome"], "interrupted");
    assert_eq!(world.verify()["ok"], true);
}
