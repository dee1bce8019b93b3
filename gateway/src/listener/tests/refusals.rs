//! What is refused, when, and that its client sees the refusal.

use crate::{
    listener::tests::world::{Event, World, auth, call, chunked},
    pipeline::BodyFault,
    quantity::{Size, Span},
};

const POST: &str = "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\n";

#[tokio::test]
async fn a_client_that_sends_all_before_it_reads_sees_an_early_refusal() {
    let mut world = World::start().await;
    let body = "x".repeat(40 << 20);
    let cases = [(POST.to_owned(), 401), (auth(), 413)];
    for (head, status) in cases {
        let mut client = world.connect().await;
        client.send(&format!("{head}content-length: {}\r\n\r\n{body}", body.len())).await;
        let reply = client.reply().await;
        assert_eq!(reply.status, status);
        assert_eq!(reply.header("connection"), Some("close"));
        client.is_closed().await;
    }
    world.saw(Event::Refused(BodyFault::TooLarge)).await;
}

#[tokio::test]
async fn a_refusal_comes_before_the_body_does() {
    let world = World::start().await;
    let cases = [
        (POST.to_owned(), "", 401),
        (auth(), "content-encoding: gzip\r\n", 415),
        ("POST /v1/nothing HTTP/1.1\r\nhost: h\r\n".to_owned(), "", 404),
    ];
    for (head, extra, status) in cases {
        let mut client = world.connect().await;
        client.send(&format!("{head}{extra}content-length: 1000000\r\n\r\n")).await;
        assert_eq!(client.reply().await.status, status, "{extra}");
    }
    let mut client = world.connect().await;
    client.send(&format!("{}content-length: 99999999999\r\n\r\n", auth())).await;
    assert_eq!(client.reply().await.status, 413);
}

#[tokio::test]
async fn a_small_refused_body_keeps_the_connection() {
    let world = World::start().await;
    let mut client = world.connect().await;
    for _ in 0..3 {
        client.send(&format!("{POST}content-length: 4\r\n\r\nbody")).await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.header("connection")), (401, Some("keep-alive")));
    }
    client.send(&format!("{POST}connection: close\r\ncontent-length: 4\r\n\r\nbody")).await;
    assert_eq!(client.reply().await.status, 401);
    client.is_closed().await;
}

#[tokio::test]
async fn a_request_that_could_be_read_in_two_ways_is_refused() {
    let mut world = World::start().await;
    let cases = [
        "content-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        "content-length: 3\r\ncontent-length: 3\r\n\r\nabc",
        "content-length: 3, 3\r\n\r\nabc",
        "content-length: +3\r\n\r\nabc",
        "content-length: -3\r\n\r\nabc",
        "content-length: 3 \r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\nCONTENT-LENGTH: 3\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\ncontent-length : 3\r\n\r\n0\r\n\r\n",
        "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "content-length: 3\r\n folded: yes\r\n\r\nabc",
        "host: other\r\ncontent-length: 3\r\n\r\nabc",
    ];
    for framing in cases {
        let mut client = world.connect().await;
        client.send(&format!("{}{framing}", auth())).await;
        assert_eq!(client.reply().await.status, 400, "{framing:?}");
        client.is_closed().await;
    }
    world.saw_nothing_more();
}

#[tokio::test]
async fn a_head_that_is_none_is_refused() {
    let world = World::start().await;
    let long = format!("GET /healthz HTTP/1.1\r\nhost: h\r\nx: {}\r\n\r\n", "y".repeat(70_000));
    let many = format!("GET /healthz HTTP/1.1\r\nhost: h\r\n{}\r\n", "a: b\r\n".repeat(300));
    let cases = [
        "GET /healthz HTTP/1.1\r\n\r\n",
        "GET /healthz HTTP/3.0\r\nhost: h\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhost: h\r\nbad header: x\r\n\r\n",
        "GET http://user@h/healthz HTTP/1.1\r\nhost: h\r\n\r\n",
        "POST /v1/chat/completions HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        &long,
        &many,
    ];
    for text in cases {
        let mut client = world.connect().await;
        client.send(text).await;
        let start = text.get(..30).unwrap_or(text);
        assert_eq!(client.reply().await.status, 400, "{start:?}");
        client.is_closed().await;
    }
}

#[tokio::test]
async fn a_chunk_that_is_none_is_refused() {
    let mut world = World::start().await;
    for body in [
        "zz\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "fffffffffffffffffff\r\n",
    ] {
        let mut client = world.connect().await;
        client.send(&format!("{}transfer-encoding: chunked\r\n\r\n{body}", auth())).await;
        assert_eq!(client.reply().await.status, 400, "{body:?}");
        world.saw(Event::Refused(BodyFault::Framing)).await;
    }
}

#[tokio::test]
async fn chunks_over_the_limit_are_refused_while_they_arrive() {
    let mut world = World::with(|s| s.limits.body_bytes_max = Size(100_000)).await;
    let mut client = world.connect().await;
    let body = chunked(&[&"x".repeat(60_000), &"x".repeat(60_000)]);
    client.send(&format!("{}transfer-encoding: chunked\r\n\r\n{body}", auth())).await;
    assert_eq!(client.reply().await.status, 413);
    world.saw(Event::Refused(BodyFault::TooLarge)).await;
    world.is_idle().await;
}

#[tokio::test]
async fn calls_beyond_the_limit_are_refused_at_once() {
    let mut world = World::with(|s| s.limits.calls_in_flight_max = 1).await;
    let mut first = world.connect().await;
    first.send(&call("wait")).await;
    world.saw(Event::Answering).await;
    let mut second = world.connect().await;
    second.send(&call("two")).await;
    let reply = second.reply().await;
    assert_eq!((reply.status, reply.body.as_str()), (503, "Overloaded"));
    world.go.notify_one();
    assert_eq!(first.reply().await.body, "waited");
    world.is_idle().await;
    second.send(&call("two")).await;
    assert_eq!(second.reply().await.body, "read 3");
}

#[tokio::test]
async fn bodies_beyond_the_budget_are_refused_at_once() {
    let mut world = World::with(|s| s.limits.buffered_bytes_max = Size(1_000)).await;
    let mut first = world.connect().await;
    first.send(&call("wait")).await;
    world.saw(Event::Answering).await;
    assert_eq!(world.gauges.bytes.used(), 4);
    for framing in ["content-length: 1000\r\n\r\n", "transfer-encoding: chunked\r\n\r\n"] {
        let mut second = world.connect().await;
        second.send(&format!("{}{framing}", auth())).await;
        assert_eq!(second.reply().await.status, 503, "{framing}");
        world.saw(Event::Refused(BodyFault::NoRoom)).await;
    }
    world.go.notify_one();
    assert_eq!(first.reply().await.body, "waited");
    world.is_idle().await;
}

#[tokio::test]
async fn slow_bodies_and_slow_heads_end() {
    let short = Span(std::time::Duration::from_millis(50));
    let mut world = World::with(|settings| {
        settings.limits.body_deadline = short;
        settings.limits.head_deadline = short;
    })
    .await;
    let mut client = world.connect().await;
    client.send(&format!("{}content-length: 10\r\n\r\nabc", auth())).await;
    assert_eq!(client.reply().await.status, 400);
    world.saw(Event::Refused(BodyFault::TooSlow)).await;
    let mut client = world.connect().await;
    client.send("GET /healthz HTT").await;
    client.is_cut().await;
}

#[tokio::test]
async fn connections_that_say_nothing_end() {
    let short = Span(std::time::Duration::from_millis(50));
    let world = World::with(|settings| settings.limits.idle_deadline = short).await;
    let mut client = world.connect().await;
    client.send(&call("a")).await;
    assert_eq!(client.reply().await.body, "read 1");
    client.is_closed().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let world = World::with(|settings| settings.limits.connections_max = 1).await;
    let mut first = world.connect().await;
    for _ in 0..2 {
        first.send(&call("a")).await;
        assert_eq!(first.reply().await.body, "read 1");
        world.connect().await.is_cut().await;
    }
}

#[tokio::test]
async fn a_head_that_never_ends_is_refused_before_its_deadline() {
    let long = Span(std::time::Duration::from_secs(3_600));
    let world = World::with(|settings| settings.limits.head_deadline = long).await;
    for head in ["GET /healthz HTTP/1.1\r\nhost: h\r\nx: ", "\r\n\r\n"] {
        let mut client = world.connect().await;
        client.send(&format!("{head}{}", "\r\r".repeat(50 << 10))).await;
        assert_eq!(client.reply().await.status, 400, "{head:?}");
        client.is_closed().await;
    }
}

#[tokio::test]
async fn what_cannot_become_a_head_is_refused_at_once() {
    let long = Span(std::time::Duration::from_secs(3_600));
    let world = World::with(|settings| settings.limits.head_deadline = long).await;
    let mut client = world.connect().await;
    client.send("\x16\x03\x01\x02\x00\x01\x00\x01").await;
    assert_eq!(client.reply().await.status, 400);
    client.is_closed().await;
}

#[tokio::test]
async fn a_head_may_come_in_pieces_and_after_empty_lines() {
    let world = World::start().await;
    let mut client = world.connect().await;
    for piece in ["\r\n\r\nGET /hea", "lthz HTTP/1.1\r", "\nhost: h\r\n\r", "\n"] {
        client.send(piece).await;
    }
    assert_eq!(client.reply().await.status, 200);
}

#[tokio::test]
async fn a_refusal_says_what_is_missing() {
    let world = World::start().await;
    let mut client = world.connect().await;
    client.send(&format!("{POST}content-length: 0\r\n\r\n")).await;
    assert_eq!(client.reply().await.header("www-authenticate"), Some("Bearer"));
    client.send("DELETE /v1/models HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
}
