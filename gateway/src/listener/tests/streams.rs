//! Streamed answers: piece by piece, to every kind of client.

use crate::{
    listener::tests::world::{Event, World, auth, call},
    quantity::Span,
};

#[tokio::test]
async fn each_piece_is_sent_when_it_is_there() {
    let world = World::start().await;
    let mut client = world.connect().await;
    client.send(&call("stream")).await;
    let head = client.head().await;
    assert_eq!(head.header("transfer-encoding"), Some("chunked"));
    assert_eq!(head.header("content-length"), None);
    assert_eq!(head.header("cache-control"), Some("no-cache"));
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    for _ in 0..3 {
        world.go.notify_one();
        assert!(client.until_text("x\n\n\r\n").await.ends_with("data: x\n\n\r\n"));
    }
    assert_eq!(client.until_text("0\r\n\r\n").await, "0\r\n\r\n");
    client.send(&call("after")).await;
    assert_eq!(client.reply().await.body, "read 5");
}

#[tokio::test]
async fn a_stream_holds_no_room_for_the_body_that_asked_for_it() {
    let world = World::start().await;
    let mut client = world.connect().await;
    client.send(&call("stream")).await;
    assert_eq!(client.head().await.status, 200);
    assert_eq!((world.gauges.calls.used(), world.gauges.bytes.used()), (1, 0));
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_no_chunks() {
    let world = World::start().await;
    for keep_alive in ["", "connection: keep-alive\r\n"] {
        let mut client = world.connect().await;
        let head = auth().replace("HTTP/1.1", "HTTP/1.0");
        client.send(&format!("{head}{keep_alive}content-length: 6\r\n\r\nstream")).await;
        let head = client.head().await;
        assert_eq!(head.header("transfer-encoding"), None);
        assert_eq!(head.header("connection"), Some("close"));
        for _ in 0..3 {
            world.go.notify_one();
            assert_eq!(client.until_text("\n\n").await, "data: x\n\n");
        }
        client.is_closed().await;
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_keeps_its_connection_where_it_asks_to() {
    let world = World::start().await;
    let mut client = world.connect().await;
    let request = "GET /healthz HTTP/1.0\r\nconnection: keep-alive\r\n\r\n";
    for _ in 0..2 {
        client.send(request).await;
        assert_eq!(client.reply().await.header("connection"), Some("keep-alive"));
    }
    client.send("GET /healthz HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.reply().await.status, 200);
    client.is_closed().await;
}

#[tokio::test]
async fn a_client_that_leaves_within_a_stream_ends_it() {
    let mut world = World::start().await;
    let mut client = world.connect().await;
    client.send(&call("stream")).await;
    world.go.notify_one();
    client.until_text("x\n\n").await;
    drop(client);
    world.saw(Event::Dropped).await;
    world.is_idle().await;
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut() {
    let stall = Span(std::time::Duration::from_millis(100));
    let mut world = World::with(|settings| settings.limits.write_stall_deadline = stall).await;
    let mut client = world.connect().await;
    client.send(&call("endless")).await;
    assert_eq!(client.head().await.status, 200);
    world.saw(Event::Dropped).await;
    world.is_idle().await;
    client.is_cut().await;
}

#[tokio::test]
async fn a_large_answer_arrives_whole() {
    let world = World::start().await;
    let mut client = world.connect().await;
    client.send(&call("large")).await;
    let reply = client.reply().await;
    assert_eq!(reply.body.len(), 1_000_000);
    client.send(&call("after")).await;
    assert_eq!(client.reply().await.body, "read 5");
}
