//! What connections do: they are reset and closed, led elsewhere, slow, and under TLS.

use cordon_system::{
    front::Front,
    upstream::{Act, Upstream},
    world::{EUROPEAN, World},
};

/// More than the buffers of both sockets hold together.
const LARGE_BYTES: usize = 16 << 20;
/// For a body that takes its time in an unoptimised build.
const PATIENT: &str = r#"{ connect = "10s", first_token = "60s", gap = "60s", answer = "60s" }"#;

/// What the first attempt of a call came to, in the ledger's words.
fn first_attempt(world: &World, call_id: &str) -> String {
    world.call(call_id);
    world.attempts(call_id)[0]["error_type"].as_str().unwrap_or("ok").to_owned()
}

#[test]
fn a_connection_that_ends_before_the_head_is_tried_once_more() {
    for act in [Act::ResetBeforeHead, Act::CloseBeforeHead] {
        let upstream = Upstream::script([act.clone()]);
        let world = World::with(&upstream);

        let reply = world.ask("hello");

        assert_eq!(reply.content(), "The answer of the upstream.", "{act:?}: {}", world.log());
        assert_eq!(reply.header("x-cordon-attempts"), Some("2"));
        assert_eq!(upstream.seen().len(), 2);
        assert_ne!(first_attempt(&world, &reply.call_id()), "ok", "{act:?}");
    }
}

#[test]
fn a_connection_that_ends_within_a_stream_is_told_as_an_error() {
    for act in [Act::ResetAfter(3), Act::CloseAfter(3)] {
        let upstream = Upstream::script([act.clone()]);
        let world = World::with(&upstream);

        let reply = world.ask_streaming("hello");

        assert!(reply.complete, "{act:?}: the framing towards the client stays whole");
        assert_eq!(reply.content(), "The answer of ", "{act:?}");
        assert!(reply.events().last().unwrap().contains("\"error\""), "{act:?}");
        assert_eq!(world.call(&reply.call_id())["outcome"], "interrupted");
        assert_ne!(first_attempt(&world, &reply.call_id()), "ok", "{act:?}");
        assert_eq!(upstream.seen().len(), 1, "a stream that has begun is not asked for again");
    }
}

#[test]
fn nobody_follows_a_redirect() {
    let elsewhere = Upstream::start();
    for code in [302, 307, 308] {
        let location = format!("{}/chat/completions", elsewhere.url());
        let redirect = Act::Status(code, vec![("location", location)], String::new());
        let upstream = Upstream::script([redirect]);
        let world = World::with(&upstream);

        let reply = world.ask("hello");

        assert_eq!(reply.status, 502, "{code}: {}", reply.text());
        assert_eq!(world.call(&reply.call_id())["outcome"], "error");
        assert_eq!(elsewhere.connections(), 0, "{code}");
    }
}

#[test]
fn a_slow_reader_gets_a_body_that_no_buffer_holds() {
    let upstream = Upstream::script([Act::SlowReader]);
    let world = World::builder().upstream("first", &upstream, EUROPEAN).deadlines(PATIENT).start();
    let text = "long ".repeat(LARGE_BYTES / 5);

    let reply = world.ask(&text);

    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(upstream.seen()[0].json()["messages"][0]["content"], text.as_str());
    assert_eq!(world.call(&reply.call_id())["outcome"], "ok");
}

/// A world whose only upstream is asked under TLS, trusting `front`'s authority.
fn trusting(front: &Front, roots: &Front) -> World {
    let facts = format!("{EUROPEAN}\ntrust_roots = {:?}", roots.roots());
    World::builder().at("first", &front.url(), &facts).start()
}

#[test]
fn an_upstream_under_tls_answers_whoever_trusts_its_authority() {
    let upstream = Upstream::start();
    let front = Front::before(&upstream, "localhost");
    let world = trusting(&front, &front);

    for reply in [world.ask("hello"), world.ask_streaming("hello")] {
        assert_eq!(reply.content(), "The answer of the upstream.", "{}", world.log());
        assert_eq!(world.call(&reply.call_id())["outcome"], "ok");
    }
    assert_eq!(upstream.seen().len(), 2);
}

#[test]
fn nothing_is_sent_to_a_stranger_under_tls() {
    let upstream = Upstream::start();
    let (known, other) =
        (Front::before(&upstream, "localhost"), Front::before(&upstream, "elsewhere.test"));
    for (world, why) in [
        (trusting(&known, &other), "another authority"),
        (trusting(&other, &other), "another name"),
    ] {
        let reply = world.ask("hello");
        assert_eq!(reply.status, 502, "{why}: {}", reply.text());
        assert_eq!(first_attempt(&world, &reply.call_id()), "tls", "{why}");
    }
    assert_eq!(upstream.connections(), 0);
}
