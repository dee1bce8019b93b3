//! The AI listener as its clients meet it: raw bytes over real sockets, a scripted pipeline behind.

mod refusals;
mod stops;
mod streams;
mod world;

use world::{Event, World, auth, call, chunked};

#[tokio::test]
async fn one_connection_serves_request_after_request() {
    let world = World::start().await;
    let mut client = world.connect().await;
    for length in [0, 5, 100_000] {
        client.send(&call(&"x".repeat(length))).await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.body.as_str()), (200, format!("read {length}").as_str()));
        assert_eq!(reply.header("connection"), Some("keep-alive"));
    }
}

#[tokio::test]
async fn every_answer_names_its_call() {
    let world = World::start().await;
    let mut client = world.connect().await;
    client.send(&call("named")).await;
    let reply = client.reply().await;
    let id = reply.header("x-cordon-call-id").unwrap().to_owned();
    let expected = [
        ("x-request-id", id.as_str()),
        ("x-cordon-target", "here/model"),
        ("x-cordon-decision", "local_only"),
        ("x-cordon-cache", "bypass"),
        ("x-cordon-attempts", "2"),
        ("x-cordon-requested-model", "gr%C3%BC%0D%0Ae 100%25"),
        ("retry-after", "7"),
        ("x-should-retry", "false"),
        ("content-length", "5"),
    ];
    for (name, value) in expected {
        assert_eq!(reply.header(name), Some(value), "{name}");
    }
    assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7);
}

#[tokio::test]
async fn bodies_arrive_whole_however_they_are_framed() {
    let world = World::start().await;
    let mut client = world.connect().await;
    let large = "y".repeat(300_000);
    for body in [chunked(&["a", "bc", "def"]), chunked(&[&large, &large])] {
        client.send(&format!("{}transfer-encoding: chunked\r\n\r\n{body}", auth())).await;
    }
    assert_eq!(client.reply().await.body, "read 6");
    assert_eq!(client.reply().await.body, "read 600000");
    assert_eq!(world.gauges.bytes.used(), 0);
}

#[tokio::test]
async fn a_client_that_waits_for_leave_to_send_gets_it_after_its_key_was_checked() {
    let world = World::start().await;
    let mut client = world.connect().await;
    for _ in 0..2 {
        client.send(&format!("{}expect: 100-continue\r\ncontent-length: 4\r\n\r\n", auth())).await;
        assert_eq!(client.interim().await, "HTTP/1.1 100 Continue");
        client.send("late").await;
        let reply = client.reply().await;
        assert_eq!(reply.body, "read 4");
        assert_eq!(reply.header("connection"), Some("keep-alive"));
    }
    let refused = "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\n\
                   content-length: 4\r\n\r\n";
    client.send(refused).await;
    assert_eq!(client.reply().await.status, 401);
    client.is_closed().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let world = World::start().await;
    let mut client = world.connect().await;
    let three = format!("{}{}GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n", call("a"), call("bb"));
    client.send(&three).await;
    for expected in ["read 1", "read 2", "{\"status\":\"ok\"}\n"] {
        assert_eq!(client.reply().await.body, expected);
    }
}

#[tokio::test]
async fn bytes_of_the_next_request_do_not_end_the_running_call() {
    let mut world = World::start().await;
    let mut client = world.connect().await;
    client.send(&call("wait")).await;
    world.saw(Event::Answering).await;
    client.send(&call("next")).await;
    // The early bytes have been noticed once the second connection's call was answered.
    let mut other = world.connect().await;
    other.send(&call("other")).await;
    assert_eq!(other.reply().await.body, "read 5");
    world.go.notify_one();
    assert_eq!(client.reply().await.body, "waited");
    assert_eq!(client.reply().await.body, "read 4");
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_call() {
    let mut world = World::start().await;
    let mut client = world.connect().await;
    client.send(&call("wait")).await;
    world.saw(Event::Answering).await;
    drop(client);
    world.saw(Event::Dropped).await;
    world.is_idle().await;
}

#[tokio::test]
async fn a_client_that_leaves_within_its_body_ends_its_call() {
    let mut world = World::start().await;
    let mut client = world.connect().await;
    client.send(&format!("{}content-length: 10\r\n\r\nabc", auth())).await;
    world.saw(Event::Admitted).await;
    drop(client);
    world.saw(Event::Refused(crate::pipeline::BodyFault::Gone)).await;
    world.is_idle().await;
}

#[tokio::test]
async fn a_half_closed_client_is_served_where_the_operator_says_so() {
    let mut world = World::with(|settings| settings.half_closed = super::HalfClosed::Served).await;
    let mut client = world.connect().await;
    client.send(&call("wait")).await;
    world.saw(Event::Answering).await;
    client.close_sending_half().await;
    let mut other = world.connect().await;
    other.send(&call("other")).await;
    assert_eq!(other.reply().await.body, "read 5");
    world.go.notify_one();
    assert_eq!(client.reply().await.body, "waited");
}

#[tokio::test]
async fn pages_answer_to_the_methods_they_know() {
    let world = World::start().await;
    let cases = [
        ("GET /healthz", 200, None),
        ("HEAD /healthz", 200, None),
        ("GET /readyz", 200, None),
        ("GET /v1/models", 200, None),
        ("OPTIONS /v1/models", 204, Some("GET, HEAD, OPTIONS")),
        ("GET /v1/chat/completions", 405, Some("POST, OPTIONS")),
        ("GET /v1/chat/completions?model=a", 405, Some("POST, OPTIONS")),
        ("GET /v1/embeddings", 404, None),
        ("GET /", 404, None),
    ];
    let mut client = world.connect().await;
    for (line, status, allow) in cases {
        client.send(&format!("{line} HTTP/1.1\r\nhost: h\r\n\r\n")).await;
        let reply = client.reply_to(line.split(' ').next().unwrap()).await;
        assert_eq!((reply.status, reply.header("allow")), (status, allow), "{line}");
    }
}

#[tokio::test]
async fn readiness_tells_why_not() {
    let world = World::start().await;
    world.not_ready("no bundle");
    let mut client = world.connect().await;
    client.send("GET /readyz HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let reply = client.reply().await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.body, "{\"ready\":false,\"reasons\":[\"no bundle\"],\"warnings\":[]}\n");
}

#[test]
fn an_address_in_use_is_named_with_what_to_do() {
    let first = super::Socket::bind("listeners.ai", "127.0.0.1:0".parse().unwrap()).unwrap();
    let fault = super::Socket::bind("listeners.ai", first.address()).unwrap_err().to_string();
    let expected = format!("`listeners.ai`: the address `{}` is in use; end", first.address());
    assert!(fault.starts_with(&expected), "{fault}");
    let foreign = super::Socket::bind("listeners.ai", "192.0.2.1:0".parse().unwrap()).unwrap_err();
    assert!(foreign.to_string().contains("is none of this machine's"), "{foreign}");
}
