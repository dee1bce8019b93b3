//! The local model as an upstream of a running gateway: refusals, departures, absence.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
};

use cordon_system::{
    client::{self, Reply, Request},
    upstream::Upstream,
    world::{EUROPEAN, World},
};
use serde_json::json;

/// Steps of a small model on a busy machine take their time.
const PATIENT: &str = r#"{ connect = "1s", first_token = "60s", gap = "60s", answer = "60s" }"#;

fn world(local: &str) -> World {
    World::builder().local().deadlines(PATIENT).extra(local).start()
}

fn short(world: &World) -> Request {
    let messages = json!([{"role": "user", "content": "Say yes."}]);
    Request::chat(
        world.key(),
        &json!({"model": "assistant", "messages": messages, "max_tokens": 4}),
    )
}

/// A streamed answer of many tokens that has begun.
fn long(world: &World) -> TcpStream {
    let messages = json!([{"role": "user", "content": "Tell me a long story about a river."}]);
    let body = json!({"model": "assistant", "messages": messages, "stream": true,
        "max_tokens": 1_500, "temperature": 1.0, "seed": 3});
    let mut stream = client::connect(world.ai()).unwrap();
    stream.write_all(&Request::chat(world.key(), &body).bytes()).unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("data: ") {
        let mut some = [0; 256];
        let read = stream.read(&mut some).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&some[..read]);
    }
    stream
}

#[test]
fn an_answer_names_the_model_that_gave_it() {
    let world = world("");

    let reply = world.send(&short(&world));

    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("x-cordon-target"), Some("local/smollm2-135m"));
    assert_eq!(reply.json()["model"], "smollm2-135m");
}

#[test]
fn calls_beyond_the_queue_are_refused_with_a_time_to_come_back() {
    let world = world("[local]\nqueue_max = 1\nwait_max = \"60s\"\n");
    let running = long(&world);
    let ask = || world.send(&short(&world));

    let replies: Vec<Reply> = thread::scope(|scope| {
        let asking: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        world.wait_until("three are refused", |_| {
            asking.iter().filter(|each| each.is_finished()).count() >= 3
        });
        drop(running);
        asking.into_iter().map(|each| each.join().unwrap()).collect()
    });

    let refused: Vec<_> = replies.iter().filter(|reply| reply.status == 503).collect();
    assert_eq!(refused.len(), 3, "{replies:?}");
    for reply in refused {
        let seconds = reply.header("retry-after").and_then(|value| value.parse::<u64>().ok());
        assert!(seconds > Some(0), "{reply:?}");
    }
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 1);
}

#[test]
fn a_client_that_leaves_frees_the_model_for_the_next() {
    let world = world("");
    drop(long(&world));

    assert_eq!(world.send(&short(&world)).status, 200);

    let outcomes = world.sql("SELECT outcome FROM calls ORDER BY ts");
    assert_eq!(outcomes[0]["outcome"], "cancelled", "{outcomes:?}");
    let ends = world.sql("SELECT error_type FROM attempts ORDER BY started_ts");
    assert_eq!(ends[0]["error_type"], "cancelled", "{ends:?}");
}

#[test]
fn without_its_library_the_gateway_runs_and_says_so() {
    let upstream = Upstream::start();
    let world = World::builder()
        .upstream("first", &upstream, EUROPEAN)
        .local()
        .extra(
            "[routes.alone]\ntargets = [\"local/smollm2-135m\"]\n\n\
             [local]\nruntime = \"/nowhere/libonnxruntime.so\"\n",
        )
        .start();

    let ready = world.send(&Request::get("/readyz", ""));
    assert_eq!(ready.status, 200);
    assert!(ready.text().contains("/nowhere/libonnxruntime.so"), "{}", ready.text());
    assert_eq!(world.ask("hello").header("x-cordon-target"), Some("first/m"));
    let messages = json!([{"role": "user", "content": "hello"}]);
    let alone = Request::chat(world.key(), &json!({"model": "alone", "messages": messages}));
    let refused = world.send(&alone);
    assert_eq!((refused.status, refused.code().as_str()), (503, "NO_ELIGIBLE_UPSTREAM"));
}
