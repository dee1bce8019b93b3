//! Answers: their ends, their limits, and what is an upstream's answer at all.

use proptest::prelude::*;

use super::{upstream::Upstream, *};

/// Asks an upstream that answers every request with `response` and then closes.
async fn answered(response: &'static str) -> Result<String, Failure> {
    let upstream = Upstream::start(move |_, mut connection| async move {
        connection.read_request().await;
        connection.send(response).await;
    })
    .await;
    World::new(remote(&[upstream.address])).whole().await
}

#[tokio::test]
async fn the_bytes_that_were_judged_are_the_bytes_that_arrive() {
    let (sender, mut seen) = tokio::sync::mpsc::channel(1);
    let upstream = Upstream::start(move |_, mut connection| {
        let sender = sender.clone();
        async move {
            let request = connection.read_request().await.unwrap();
            connection.answer("200 OK", "answer").await;
            sender.send(request).await.unwrap();
        }
    })
    .await;
    let world = World::new(remote(&[upstream.address]));
    let mut attempt = world.ask("{\"a\":  1}").await.unwrap();
    assert_eq!(read(&mut attempt).await.unwrap(), "answer");
    let (head, body) = seen.recv().await.unwrap();
    assert_eq!(body, b"{\"a\":  1}");
    assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"));
    assert!(head.contains(&format!("host: upstream.test:{}\r\n", upstream.address.port())));
    let traffic = attempt.traffic();
    assert_eq!(traffic.request_bytes, (head.len() + body.len()) as u64);
    assert_eq!(traffic.response_bytes, 6);
}

#[tokio::test]
async fn every_way_to_end_a_body_is_clean_or_broken() {
    let cases: [(&str, Result<&str, Cause>); 11] = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Ok("ok")),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Ok("")),
        ("HTTP/1.1 200 OK\r\n\r\nuntil the end", Ok("until the end")),
        ("HTTP/1.0 200 OK\r\n\r\nuntil the end", Ok("until the end")),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Ok("ok")),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n",
            Ok("ok"),
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", Err(Cause::BrokenBody)),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
            Err(Cause::BrokenBody),
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nok", Err(Cause::BrokenBody)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\nok", Err(Cause::BrokenBody)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nokNO", Err(Cause::BrokenBody)),
    ];
    for (response, expected) in cases {
        let got = answered(response).await.map_err(|failure| failure.cause);
        assert_eq!(got, expected.map(str::to_owned), "{response:?}");
    }
}

#[tokio::test]
async fn heads_that_are_not_ours_to_read_are_refused() {
    let cases = [
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", Cause::Protocol),
        (
            "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nok",
            Cause::Protocol,
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Cause::Protocol),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok", Cause::Protocol),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Cause::Protocol),
        ("SSH-2.0-OpenSSH_9.6\r\n", Cause::Protocol),
        ("HTTP/1.1 200 OK\r\ncontent-le", Cause::ClosedBeforeHead),
        ("HTTP/1.1 100 Continue\r\n\r\n", Cause::ClosedBeforeHead),
        ("", Cause::ClosedBeforeHead),
    ];
    for (response, cause) in cases {
        let failure = answered(response).await.map(drop).unwrap_err();
        assert_eq!(failure.cause, cause, "{response:?}");
        assert_eq!(failure.side, Side::Upstream);
    }
}

#[tokio::test]
async fn interim_heads_are_skipped() {
    let text = answered(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n\
         HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    )
    .await
    .unwrap();
    assert_eq!(text, "ok");
}

#[tokio::test]
async fn a_redirect_is_a_refusal_and_is_never_followed() {
    let upstream = Upstream::start(|_, mut connection| async move {
        connection.read_request().await;
        connection.send("HTTP/1.1 307 x\r\nlocation: /v2\r\ncontent-length: 0\r\n\r\n").await;
        assert!(connection.read_head().await.is_none(), "the redirect was followed");
    })
    .await;
    let failure = World::new(remote(&[upstream.address])).fails().await;
    assert_eq!((failure.cause, failure.status), (Cause::Status, Some(307)));
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn an_error_brings_its_body_its_kind_and_its_wait() {
    let response = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 3\r\nx-request-id: req_9\r\n\
                    content-length: 42\r\n\r\n{\"error\":{\"code\":\"insufficient_quota\"}}   ";
    let failure = answered(response).await.map(drop).unwrap_err();
    assert_eq!((failure.cause, failure.status), (Cause::Status, Some(429)));
    assert_eq!(failure.retry_after, Some(Duration::from_secs(3)));
    assert_eq!(failure.kind, ErrorKind::Quota);
    assert_eq!(failure.request_id.as_deref(), Some("req_9"));
    assert!(failure.body.unwrap().starts_with(b"{\"error\""));
}

#[tokio::test]
async fn an_endless_error_is_cut() {
    let upstream = Upstream::start(|_, mut connection| async move {
        connection.read_request().await;
        connection.send("HTTP/1.1 500 x\r\n\r\n").await;
        while connection.send([b'x'; 4096]).await {}
    })
    .await;
    let failure = World::new(remote(&[upstream.address])).fails().await;
    assert_eq!(failure.body.unwrap().len(), ERROR_BYTES_MAX);
}

#[tokio::test]
async fn an_error_whose_body_breaks_off_keeps_what_came() {
    let failure =
        answered("HTTP/1.1 503 x\r\ncontent-length: 9\r\n\r\nshort").await.map(drop).unwrap_err();
    assert_eq!((failure.cause, failure.status), (Cause::Status, Some(503)));
    assert_eq!(failure.body.unwrap(), "short");
}

/// A body that no socket buffer holds.
fn huge() -> Bytes {
    Bytes::from(vec![b' '; 32 << 20])
}

#[tokio::test]
async fn a_refusal_while_we_write_is_the_answer() {
    for close in [true, false] {
        let upstream = Upstream::start(move |_, mut connection| async move {
            connection.read_head().await;
            connection.answer("413 Content Too Large", "too large").await;
            if !close {
                connection.closed().await;
            }
        })
        .await;
        let world = World::new(remote(&[upstream.address]));
        for attempts in 1..=2 {
            let failure = world.ask(huge()).await.expect_err("this must fail");
            let told = (failure.cause, failure.status);
            assert_eq!(told, (Cause::Status, Some(413)), "close: {close}");
            assert_eq!(failure.body.unwrap(), "too large");
            assert!(failure.traffic.request_bytes < huge().len() as u64);
            // What is left of a request must not meet the next one.
            assert_eq!(upstream.connections(), attempts);
        }
    }
}

#[tokio::test]
async fn what_comes_while_we_write_does_not_stop_us_where_it_is_no_refusal() {
    for early in ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
        let upstream = Upstream::start(move |_, mut connection| async move {
            connection.read_head().await;
            connection.send(early).await;
            connection.read_exact(huge().len()).await.expect("the whole body");
            if early.contains("100") {
                connection.send("HTTP/1.1 200 OK\r\n").await;
            }
            connection.send("content-length: 2\r\n\r\nok").await;
        })
        .await;
        let world = World::new(remote(&[upstream.address]));
        let mut attempt = world.ask(huge()).await.unwrap();
        assert_eq!(read(&mut attempt).await.unwrap(), "ok", "{early:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_closes_while_we_write_closed_before_its_head() {
    let upstream = Upstream::start(|_, mut connection| async move {
        connection.read_head().await;
    })
    .await;
    let world = World::new(remote(&[upstream.address]));
    let failure = world.ask(huge()).await.expect_err("this must fail");
    assert_eq!(failure.cause, Cause::ClosedBeforeHead);
}

fn small() -> Settings {
    Settings { answer_bytes_max: Size(4), ..Settings::default() }
}

#[tokio::test]
async fn an_answer_over_its_limit_is_not_delivered() {
    for response in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n12345",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n123\r\n2\r\n45\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 5\r\n\r\n12345",
    ] {
        let upstream = Upstream::start(move |_, mut connection| async move {
            connection.read_request().await;
            connection.send(response).await;
        })
        .await;
        let failure = World::limited(remote(&[upstream.address]), small()).fails().await;
        assert_eq!(failure.cause, Cause::TooLarge, "{response:?}");
    }
}

#[tokio::test]
async fn a_stream_has_no_limit_but_its_deadlines() {
    let upstream = Upstream::start(|_, mut connection| async move {
        connection.read_request().await;
        connection.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=x\r\n").await;
        connection.send("content-length: 12\r\n\r\ndata: [DONE]").await;
    })
    .await;
    let world = World::limited(remote(&[upstream.address]), small());
    let mut attempt = world.stream().await.unwrap();
    assert!(attempt.is_event_stream());
    assert_eq!(read(&mut attempt).await.unwrap(), "data: [DONE]");
}

#[tokio::test]
async fn pieces_arrive_as_they_are_sent() {
    let (go_on, told) = tokio::sync::watch::channel(0);
    let upstream = Upstream::start(move |_, mut connection| {
        let mut told = told.clone();
        async move {
            connection.read_request().await;
            connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            for (count, text) in
                ["5\r\nfirst\r\n", "6\r\nsecond\r\n", "0\r\n\r\n"].iter().enumerate()
            {
                told.wait_for(|told| *told >= count).await.unwrap();
                connection.send(text).await;
            }
        }
    })
    .await;
    let mut attempt = World::new(remote(&[upstream.address])).stream().await.unwrap();
    assert_eq!(piece(&mut attempt).await, "first");
    go_on.send(1).unwrap();
    assert_eq!(piece(&mut attempt).await, "second");
    go_on.send(2).unwrap();
    assert_eq!(read(&mut attempt).await.unwrap(), "");
}

#[tokio::test]
async fn an_upstream_is_read_no_faster_than_the_caller_takes() {
    const FAR_TOO_MUCH: usize = 256 << 20;
    static BLOCK: [u8; 64 << 10] = [b'x'; 64 << 10];
    let (sender, mut stalled) = tokio::sync::mpsc::channel(1);
    let upstream = Upstream::start(move |_, mut connection| {
        let sender = sender.clone();
        async move {
            connection.read_request().await;
            connection.send("HTTP/1.1 200 OK\r\n\r\n").await;
            let mut sent = 0;
            while sent < FAR_TOO_MUCH {
                let send = connection.send(&BLOCK);
                if tokio::time::timeout(BRIEF, send).await.is_err() {
                    break;
                }
                sent += 64 << 10;
            }
            sender.send(sent).await.unwrap();
            connection.closed().await;
        }
    })
    .await;
    let attempt = World::new(remote(&[upstream.address])).stream().await.unwrap();
    assert!(stalled.recv().await.unwrap() < FAR_TOO_MUCH / 4);
    drop(attempt);
}

/// Pieces of responses, whole and broken, in any order.
fn response() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(b"HTTP/1.1 200 OK\r\n".to_vec()),
        2 => Just(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
        1 => Just(b"HTTP/1.1 204 No Content\r\n".to_vec()),
        3 => Just(b"transfer-encoding: chunked\r\n".to_vec()),
        2 => Just(b"content-length: 5\r\n".to_vec()),
        1 => Just(b"content-length: 99999999999999999999\r\n".to_vec()),
        5 => Just(b"\r\n".to_vec()),
        3 => Just(b"5\r\nhello\r\n".to_vec()),
        2 => Just(b"5;name=value\r\nhel".to_vec()),
        2 => Just(b"0\r\n\r\n".to_vec()),
        1 => Just(b"0\r\ntrailer: x\r\n".to_vec()),
        1 => Just(b"ffffffffffffffff\r\n".to_vec()),
        1 => Just(b"\n".to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..9),
    ];
    proptest::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_response_makes_us_panic_or_wait_for_ever(
        response in prop_oneof![
            response(),
            response().prop_map(|tail| {
                [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", tail.as_slice()].concat()
            }),
        ],
        size in 1_usize..40,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let upstream = Upstream::start(move |_, mut connection| {
                let response = response.clone();
                async move {
                    connection.read_request().await;
                    for piece in response.chunks(size) {
                        connection.send(piece).await;
                        tokio::task::yield_now().await;
                    }
                }
            })
            .await;
            let world = World::new(remote(&[upstream.address]));
            let ended = world.whole().await.map(drop).map_err(|failure| failure.cause);
            assert!(!matches!(ended, Err(Cause::Timeout(_))), "{ended:?}");
        });
    }
}
