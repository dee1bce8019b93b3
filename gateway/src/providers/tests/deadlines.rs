//! Deadlines: each ends its own wait and is named.

use super::{upstream::Upstream, *};

/// An upstream that reads the request, sends `response`, and says no more.
async fn falls_silent(response: &'static str) -> Upstream {
    Upstream::start(move |_, mut connection| async move {
        connection.read_request().await;
        connection.send(response).await;
        connection.closed().await;
    })
    .await
}

#[tokio::test]
async fn silence_before_the_head_ends_with_the_first_deadline() {
    let cases = [
        (Deadlines { first_token: BRIEF, ..deadlines() }, Deadline::FirstToken),
        (Deadlines { total: Some(BRIEF), ..deadlines() }, Deadline::Total),
        (
            Deadlines { first_token: BRIEF, total: Some(PLENTY), ..deadlines() },
            Deadline::FirstToken,
        ),
    ];
    for response in ["", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent"] {
        for (deadlines, name) in cases {
            let upstream = falls_silent(response).await;
            let world = World { deadlines, ..World::new(remote(&[upstream.address])) };
            let failure = world.fails().await;
            assert_eq!(failure.cause, Cause::Timeout(name), "{response:?}");
            assert_eq!(upstream.connections(), 1);
        }
    }
}

#[tokio::test]
async fn an_upstream_that_takes_no_more_bytes_runs_into_the_deadline() {
    let upstream = Upstream::start(|_, mut connection| async move {
        connection.read_head().await;
        std::future::pending::<()>().await;
    })
    .await;
    let deadlines = Deadlines { first_token: BRIEF, ..deadlines() };
    let world = World { deadlines, ..World::new(remote(&[upstream.address])) };
    let failure = world.ask(vec![b' '; 32 << 20]).await.expect_err("this must fail");
    assert_eq!(failure.cause, Cause::Timeout(Deadline::FirstToken));
}

#[tokio::test]
async fn silence_in_the_body_ends_with_the_deadline_the_caller_named() {
    let upstream = falls_silent("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok").await;
    let world = World::new(remote(&[upstream.address]));
    for name in [Deadline::FirstToken, Deadline::Gap, Deadline::Total] {
        let mut attempt = world.stream().await.unwrap();
        assert_eq!(piece(&mut attempt).await, "ok");
        let failure = attempt.next(Instant::now() + BRIEF, name).await.unwrap_err();
        assert_eq!((failure.cause, failure.status), (Cause::Timeout(name), Some(200)));
        assert_eq!(failure.traffic.response_bytes, 2);
        let after = attempt.next(Instant::now() + PLENTY, name).await.unwrap_err();
        assert_eq!(after.cause, Cause::BrokenBody);
    }
    assert_eq!(upstream.connections(), 3);
}

#[tokio::test]
async fn a_wait_that_is_over_still_takes_what_is_there_but_a_call_that_is_over_does_not() {
    for (name, expected) in
        [(Deadline::Gap, Ok(())), (Deadline::Total, Err(Cause::Timeout(Deadline::Total)))]
    {
        let upstream = falls_silent("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nokok").await;
        let mut attempt = World::new(remote(&[upstream.address])).stream().await.unwrap();
        let told = attempt.next(Instant::now() - BRIEF, name).await;
        assert_eq!(told.map(drop).map_err(|failure| failure.cause), expected, "{name:?}");
    }
}

#[tokio::test]
async fn the_total_counts_from_the_calls_begin_and_not_from_the_attempts() {
    let upstream = falls_silent("").await;
    let deadlines = Deadlines { total: Some(PLENTY), ..deadlines() };
    let world = World { deadlines, ..World::new(remote(&[upstream.address])) };
    let clearance = clearance(Address::Remote(world.remote.clone()), "{}", false).await;
    let late = Terms { began: Instant::now() - PLENTY + BRIEF, ..terms(deadlines) };
    let failure = world.providers.attempt(clearance, &late).await.expect_err("this must fail");
    assert_eq!(failure.cause, Cause::Timeout(Deadline::Total));
}

#[tokio::test]
async fn an_error_that_does_not_end_is_kept_as_far_as_it_came() {
    let upstream = falls_silent("HTTP/1.1 500 x\r\ncontent-length: 99\r\n\r\nhalf").await;
    let deadlines = Deadlines { gap: BRIEF, ..deadlines() };
    let world = World { deadlines, ..World::new(remote(&[upstream.address])) };
    let failure = world.fails().await;
    assert_eq!((failure.cause, failure.status), (Cause::Status, Some(500)));
    assert_eq!(failure.body.unwrap(), "half");
}
