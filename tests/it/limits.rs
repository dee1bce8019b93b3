//! What a key and the gateway may hold at once: who comes too much is told so, at once and when to
//! come again.

use std::{io::Write, net::TcpStream};

use cordon_system::{
    client::{self, Reply, Request},
    upstream::{Act, Upstream},
    world::{EUROPEAN, World},
};

fn world(upstream: &Upstream, extra: &str) -> World {
    World::builder().upstream("first", upstream, EUROPEAN).extra(extra).start()
}

/// A stream that runs until it is dropped.
fn running(world: &World, upstream: &Upstream) -> TcpStream {
    let mut stream = client::connect(world.ai()).unwrap();
    stream.write_all(&world.question("tell me a story", true).bytes()).unwrap();
    upstream.wait_for(1);
    stream
}

/// A call that announces a body of so many bytes and sends none of it.
fn announced(world: &World, bytes: usize) -> TcpStream {
    let mut stream = client::connect(world.ai()).unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {bytes}\r\n\r\n",
        world.key(),
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

fn assert_told_to_come_again(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status, reply.code().as_str()), (status, code), "{}", reply.text());
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(reply.header("x-should-retry"), None);
}

fn holds(world: &World, bytes: u64) {
    let line = format!("\ncordon_buffered_bytes {bytes}\n");
    world.wait_until(&line, |world| {
        world.send_admin(&Request::get("/metrics", "")).text().contains(&line)
    });
}

#[test]
fn a_key_with_all_its_calls_running_is_told_before_its_body_is_read() {
    let upstream = Upstream::script([Act::Endless]);
    let world = world(&upstream, "[identity]\ncalls_at_once_max = 1\n");
    let story = running(&world, &upstream);

    let reply = client::read_reply(announced(&world, 1_000_000)).unwrap();

    assert_told_to_come_again(&reply, 429, "calls_at_once");
    assert_eq!(world.call(&reply.call_id())["outcome"], "error");
    drop(story);
    world.wait_until("the key may call again", |world| world.ask("hello").status == 200);
}

#[test]
fn a_key_that_policy_refuses_too_often_waits_and_costs_no_decision() {
    let upstream = Upstream::start();
    let world = world(&upstream, "[identity]\nrefused_per_second_max = 2\n");
    let refused = || world.ask("CUI//SP-CTI//NOFORN: summarise the drawing");

    // Wherever a second begins, some three calls in a row fall into one.
    let replies: Vec<Reply> = std::iter::repeat_with(refused).take(100).collect();

    let late = replies.iter().find(|reply| reply.status != 403).unwrap();
    assert_told_to_come_again(late, 429, "refused_per_second");
    assert!(world.call(&late.call_id())["decision"].is_null());
    let last = replies.iter().rfind(|reply| reply.status == 403).unwrap();
    assert_eq!(world.call(&last.call_id())["outcome"], "denied");
    world.wait_until("the second has passed", |world| world.ask("hello").status == 200);
}

#[test]
fn calls_beyond_the_gateways_limit_are_told_to_come_again() {
    let upstream = Upstream::script([Act::Endless]);
    let world = world(&upstream, "[listeners.limits]\ncalls_in_flight_max = 1\n");
    let story = running(&world, &upstream);

    let reply = client::read_reply(announced(&world, 1_000_000)).unwrap();

    assert_told_to_come_again(&reply, 503, "overloaded");
    drop(story);
    world.wait_until("there is a place again", |world| world.ask("hello").status == 200);
}

#[test]
fn bodies_and_whole_answers_share_one_room() {
    let (first, second) = (Upstream::script([Act::Say("x".repeat(40_000))]), Upstream::start());
    let world = World::builder()
        .upstream("first", &first, EUROPEAN)
        .upstream("second", &second, EUROPEAN)
        .extra("[providers]\nanswer_bytes_max = \"64KiB\"\n")
        .extra("[listeners.limits]\nbody_bytes_max = \"64KiB\"\nbuffered_bytes_max = \"128KiB\"\n")
        .start();
    let held = [announced(&world, 60_000), announced(&world, 60_000)];
    holds(&world, 120_000);

    let body = client::read_reply(announced(&world, 20_000)).unwrap();
    let answer = world.ask("What is long?");

    assert_told_to_come_again(&body, 503, "overloaded");
    assert_told_to_come_again(&answer, 503, "overloaded");
    assert_eq!(second.connections(), 0, "its answer would need room as well");
    world.call(&answer.call_id());
    let attempt = &world.attempts(&answer.call_id())[0];
    assert_eq!(attempt["error_type"], "no_room");
    assert_eq!(attempt["side"], "gateway");
    drop(held);
    holds(&world, 0);
    assert_eq!(world.ask("hello").status, 200);
}

#[test]
fn a_gateway_that_leaves_serves_on_until_its_grace_is_over() {
    let upstream = Upstream::start();
    let mut world = world(&upstream, "[listeners.limits]\nleave_grace = \"10m\"\n");

    world.order_to_stop();

    world.wait_until("it is not ready", |world| {
        world.send(&Request::get("/readyz", "")).status == 503
    });
    let reply = world.ask("hello");
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    // A second order ends the grace.
    world.stop();
    assert_eq!(world.sql("SELECT outcome FROM calls")[0]["outcome"], "ok");
}
