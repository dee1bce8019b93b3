//! Connections: which are used again, which never, and which are tried.

use super::{
    upstream::{Connection as Accepted, Upstream},
    *,
};

/// Answers every request on a connection alike.
async fn serve(mut connection: Accepted, response: &'static str) {
    while connection.read_request().await.is_some() {
        connection.send(response).await;
    }
}

async fn serving(response: &'static str) -> Upstream {
    Upstream::start(move |_, connection| serve(connection, response)).await
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_connection_is_used_again_after_a_clean_end() {
    for response in [
        OK,
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
    ] {
        let upstream = serving(response).await;
        let world = World::new(remote(&[upstream.address]));
        for _ in 0..3 {
            assert_eq!(world.whole().await.unwrap(), "ok", "{response:?}");
        }
        assert_eq!(upstream.connections(), 1, "{response:?}");
    }
}

#[tokio::test]
async fn a_connection_is_used_again_after_an_error_that_ended_cleanly() {
    let upstream = serving("HTTP/1.1 429 x\r\ncontent-length: 2\r\n\r\nno").await;
    let world = World::new(remote(&[upstream.address]));
    for _ in 0..2 {
        assert_eq!(world.fails().await.status, Some(429));
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_connection_whose_end_is_unclear_is_not_used_again() {
    for response in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200",
    ] {
        let upstream = serving(response).await;
        let world = World::new(remote(&[upstream.address]));
        for _ in 0..2 {
            assert_eq!(world.whole().await.unwrap(), "ok", "{response:?}");
        }
        assert_eq!(upstream.connections(), 2, "{response:?}");
    }
}

#[tokio::test]
async fn an_unfinished_answer_closes_its_connection_when_dropped() {
    let (sender, mut closed) = tokio::sync::mpsc::channel(4);
    let upstream = Upstream::start(move |_, mut connection| {
        let sender = sender.clone();
        async move {
            connection.read_request().await;
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok").await;
            connection.closed().await;
            sender.send(()).await.unwrap();
        }
    })
    .await;
    let world = World::new(remote(&[upstream.address]));
    for _ in 0..2 {
        let mut attempt = world.ask("{}").await.unwrap();
        assert_eq!(piece(&mut attempt).await, "ok");
        drop(attempt);
        closed.recv().await.unwrap();
    }
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn a_cancelled_attempt_closes_its_connection() {
    let (sender, mut events) = tokio::sync::mpsc::channel(4);
    let upstream = Upstream::start(move |_, mut connection| {
        let sender = sender.clone();
        async move {
            connection.read_request().await;
            sender.send("asked").await.unwrap();
            connection.closed().await;
            sender.send("closed").await.unwrap();
        }
    })
    .await;
    let world = World::new(remote(&[upstream.address]));
    tokio::select! {
        _ = world.ask("{}") => panic!("nobody answers"),
        event = events.recv() => assert_eq!(event, Some("asked")),
    }
    assert_eq!(events.recv().await, Some("closed"));
}

/// Answers once on its first connection, whose next request is read and answered by `then`. Every
/// later connection is well.
async fn dying(then: &'static str) -> Upstream {
    Upstream::start(move |number, mut connection| async move {
        if number > 1 {
            return serve(connection, OK).await;
        }
        connection.read_request().await;
        connection.send(OK).await;
        connection.read_request().await;
        connection.send(then).await;
    })
    .await
}

#[tokio::test]
async fn a_dead_pooled_connection_is_told_and_not_replaced() {
    let upstream = dying("").await;
    let world = World::new(remote(&[upstream.address]));
    world.whole().await.unwrap();
    assert_eq!(world.fails().await.cause, Cause::Stale);
    assert_eq!(upstream.connections(), 1, "one clearance is one request");
    assert_eq!(world.whole().await.unwrap(), "ok");
}

#[tokio::test]
async fn a_fresh_connection_is_none_of_the_pool() {
    let upstream = serving(OK).await;
    let world = World::new(remote(&[upstream.address]));
    world.whole().await.unwrap();
    let clearance = clearance(Address::Remote(world.remote.clone()), "{}", false).await;
    let fresh = Terms { connection: Connection::Fresh, ..terms(world.deadlines) };
    let mut attempt = world.providers.attempt(clearance, &fresh).await.unwrap();
    assert_eq!(read(&mut attempt).await.unwrap(), "ok");
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn a_pooled_connection_that_answered_a_byte_was_not_dead() {
    let upstream = dying("H").await;
    let world = World::new(remote(&[upstream.address]));
    world.whole().await.unwrap();
    assert_eq!(world.fails().await.cause, Cause::ClosedBeforeHead);
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_fresh_connection_that_dies_is_not_stale() {
    let upstream = Upstream::start(|_, mut connection| async move {
        connection.read_request().await;
    })
    .await;
    let failure = World::new(remote(&[upstream.address])).fails().await;
    assert_eq!(failure.cause, Cause::ClosedBeforeHead);
    assert_eq!(upstream.connections(), 1);
}

/// A port that nothing listens on.
async fn nobody() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn nobody_there_is_no_connection_and_nothing_was_sent() {
    for addresses in [vec![nobody().await], vec![]] {
        let failure = World::new(remote(&addresses)).fails().await;
        assert_eq!(failure.cause, Cause::Connect);
        assert_eq!(failure.traffic.request_bytes, 0);
    }
}

#[tokio::test]
async fn the_next_address_is_tried_where_one_refuses() {
    let upstream = serving(OK).await;
    let world = World::new(remote(&[nobody().await, upstream.address]));
    for _ in 0..2 {
        assert_eq!(world.whole().await.unwrap(), "ok");
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_forbidden_address_is_never_connected_to() {
    let forbidden = "0.0.0.0".parse().unwrap();
    let upstream = serving(OK).await;
    // Linux takes the unspecified address for this machine: without the rule this would answer.
    let address = SocketAddr::new(forbidden, upstream.address.port());
    let failure = World::new(remote(&[address])).fails().await;
    assert_eq!(failure.cause, Cause::Connect);
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn concurrent_calls_get_their_own_answers() {
    let upstream = Upstream::start(|_, mut connection| async move {
        while let Some((_, body)) = connection.read_request().await {
            connection.answer("200 OK", std::str::from_utf8(&body).unwrap()).await;
        }
    })
    .await;
    let world = World::new(remote(&[upstream.address]));
    let calls = (0..64).map(|number| {
        let world = &world;
        async move {
            let mut attempt = world.ask(format!("{{\"call\":{number}}}")).await.unwrap();
            assert_eq!(read(&mut attempt).await.unwrap(), format!("{{\"call\":{number}}}"));
        }
    });
    futures::future::join_all(calls).await;
}

#[tokio::test]
async fn a_key_that_breaks_the_head_fails_before_anything_is_sent() {
    let upstream = serving(OK).await;
    let mut remote = remote(&[upstream.address]);
    remote.key = Some(crate::secret::Secret::new("a\nb".to_owned()));
    let failure = World::new(remote).fails().await;
    assert_eq!((failure.side, failure.cause), (Side::Gateway, Cause::Protocol));
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn a_check_connects_and_sends_nothing() {
    let (sender, mut seen) = tokio::sync::mpsc::channel(1);
    let upstream = Upstream::start(move |_, mut connection| {
        let sender = sender.clone();
        async move { sender.send(connection.read_head().await).await.unwrap() }
    })
    .await;
    let id = UpstreamId::new("upstream", "model");
    let remote = Remote { host: "127.0.0.1".to_owned(), ..remote(&[upstream.address]) };
    let connected = check_connect(&id, &remote, PLENTY).await;
    assert_eq!(connected, Ok(upstream.address));
    assert_eq!(seen.recv().await, Some(None));
    let nowhere = Remote { port: nobody().await.port(), ..remote };
    let error = check_connect(&id, &nowhere, PLENTY).await.unwrap_err();
    assert_eq!(error.to_string(), "`upstream/model` refuses the connection: check host and port");
}
