//! The end: what is in flight goes on, what is idle closes, what takes too long is cut.

use crate::{
    listener::{
        drain::{Drained, Stage},
        tests::world::{Event, World, call},
    },
    quantity::Span,
};

#[tokio::test]
async fn a_listener_with_nothing_to_do_ends_at_once() {
    let world = World::start().await;
    let mut idle = world.connect().await;
    let mut used = world.connect().await;
    used.send(&call("a")).await;
    used.reply().await;
    world.stop.drain();
    idle.is_closed().await;
    used.is_closed().await;
    assert_eq!(world.ended().await, Drained::Clean);
}

#[tokio::test]
async fn an_order_to_stop_before_the_start_is_obeyed() {
    let stop = crate::listener::drain::Stop::default();
    stop.drain();
    assert!(*stop.closing().borrow());
    assert!(stop.closing().has_changed().unwrap());
}

#[tokio::test]
async fn calls_in_flight_have_their_answers_while_new_ones_are_refused() {
    let mut world = World::start().await;
    let mut running = world.connect().await;
    running.send(&call("wait")).await;
    world.saw(Event::Answering).await;
    // This one has begun its request when the order comes.
    let mut late = world.connect().await;
    late.send("POST /v1/chat/completions HTTP/1.1\r\n").await;
    let mut witness = world.connect().await;
    witness.send(&call("a")).await;
    witness.reply().await;
    world.stop.drain();
    witness.is_closed().await;
    late.send("host: h\r\nauthorization: Bearer good\r\ncontent-length: 1\r\n\r\na").await;
    let refused = late.reply().await;
    assert_eq!((refused.status, refused.body.as_str()), (503, "Draining"));
    assert_eq!(refused.header("connection"), Some("close"));
    late.is_closed().await;
    world.go.notify_one();
    let reply = running.reply().await;
    assert_eq!((reply.body.as_str(), reply.header("connection")), ("waited", Some("close")));
    running.is_closed().await;
    assert_eq!(world.ended().await, Drained::Clean);
}

#[tokio::test]
async fn after_the_deadline_streams_end_with_their_error_event() {
    let deadline = Span(std::time::Duration::from_millis(50));
    let mut world = World::with(|settings| settings.limits.drain_deadline = deadline).await;
    let mut stream = world.connect().await;
    stream.send(&call("stream")).await;
    assert_eq!(stream.head().await.status, 200);
    let mut whole = world.connect().await;
    whole.send(&call("wait")).await;
    world.saw(Event::Answering).await;
    world.saw(Event::Answering).await;
    world.stop.drain();
    world.saw(Event::Interrupting).await;
    assert_eq!(stream.rest().await, "B\r\ndata: cut\n\n\r\n0\r\n\r\n");
    let cut = whole.reply().await;
    assert_eq!((cut.status, cut.body.as_str()), (503, "interrupted"));
    whole.is_closed().await;
    assert_eq!(world.ended().await, Drained::Interrupted);
}

#[tokio::test]
async fn a_stream_is_cut_only_once_it_is_said_that_we_cut_it() {
    let mut world = World::start().await;
    let mut stream = world.connect().await;
    stream.send(&call("stream")).await;
    assert_eq!(stream.head().await.status, 200);
    world.stop.drain();
    world.stop.hurry();
    world.saw(Event::Interrupting).await;
    world.saw(Event::Interrupted).await;
    assert_eq!(stream.rest().await, "B\r\ndata: cut\n\n\r\n0\r\n\r\n");
    assert_eq!(world.ended().await, Drained::Interrupted);
}

#[tokio::test]
async fn a_call_that_was_cut_is_not_counted_as_one_that_was_turned_away() {
    let mut world = World::start().await;
    let mut client = world.connect().await;
    client.send(&call("wait")).await;
    world.saw(Event::Answering).await;
    world.stop.drain();
    world.stop.hurry();
    assert_eq!(client.reply().await.body, "interrupted");
    world.saw(Event::Dropped).await;
    world.saw_nothing_more();
}

#[tokio::test]
async fn a_listener_that_leaves_says_so_and_serves_on() {
    let world = World::start().await;
    let mut client = world.connect().await;
    client.send(&call("a")).await;
    client.reply().await;
    world.stop.advance(Stage::Leaving);
    client.send("GET /readyz HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let ready = client.reply().await;
    assert_eq!((ready.status, ready.header("connection")), (503, Some("close")));
    client.is_closed().await;
    let mut another = world.connect().await;
    another.send(&call("b")).await;
    let reply = another.reply().await;
    assert_eq!((reply.body.as_str(), reply.header("connection")), ("read 1", Some("close")));
    another.is_closed().await;
    world.stop.drain();
    assert_eq!(world.ended().await, Drained::Clean);
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_the_deadline() {
    let mut world = World::start().await;
    let mut client = world.connect().await;
    client.send(&call("wait")).await;
    world.saw(Event::Answering).await;
    world.stop.drain();
    world.stop.hurry();
    assert_eq!(client.reply().await.status, 503);
    // In this order: else the call would be recorded as one that its client left.
    world.saw(Event::Interrupting).await;
    world.saw(Event::Dropped).await;
    assert_eq!(world.ended().await, Drained::Interrupted);
}
