//! The provider of the bench: it answers at once, and counts what it was asked.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use crate::bench::{
    answer,
    link::{Head, Link},
    plan::CALLS,
};

/// The path at which it tells what it counted.
pub const COUNTS: &str = "/counts";
/// A connection that is silent for so long is closed.
const IDLE: Duration = Duration::from_secs(120);

/// How it answers.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Words of a streamed answer, one event each.
    pub events: usize,
    /// Between two words.
    pub interval: Duration,
}

#[derive(Debug)]
struct Upstream {
    manner: Manner,
    completion: Vec<u8>,
    word: Vec<u8>,
    ending: Vec<u8>,
    /// Every body that may arrive.
    bodies: Vec<Vec<u8>>,
    calls: AtomicU64,
    /// Calls with another body.
    altered: AtomicU64,
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, manner: Manner) -> Result<()> {
    let bodies = CALLS.iter().map(|calls| answer::forwarded(calls.bytes, calls.stream));
    let bodies = bodies.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    let upstream = Arc::new(Upstream {
        manner,
        completion: answer::completion(),
        word: answer::word(),
        ending: answer::ending(),
        bodies,
        calls: AtomicU64::new(0),
        altered: AtomicU64::new(0),
    });
    loop {
        let (stream, _) = listener.accept().await?;
        let upstream = Arc::clone(&upstream);
        // A gateway that resets a connection is counted by the load, which then lacks an answer.
        tokio::spawn(async move { drop(upstream.serve(stream).await) });
    }
}

impl Upstream {
    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut link = Link::new(stream)?;
        let mut body = Vec::new();
        while let Some(head) = timeout(IDLE, link.head()).await?? {
            timeout(IDLE, link.body(head.framing, &mut body)).await??;
            timeout(IDLE, self.answer(&mut link, &head, &body)).await??;
            if head.closes {
                break;
            }
        }
        Ok(())
    }

    async fn answer(&self, link: &mut Link, head: &Head, body: &[u8]) -> io::Result<()> {
        if head.word == COUNTS {
            return link.write(self.counts().as_bytes()).await;
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        if !self.bodies.iter().any(|each| each == body) {
            self.altered.fetch_add(1, Ordering::Relaxed);
        }
        if !answer::asks_for_a_stream(body) {
            return link.write(&self.completion).await;
        }
        link.write(answer::STREAM_HEAD).await?;
        for _ in 0..self.manner.events {
            link.write(&self.word).await?;
            sleep(self.manner.interval).await;
        }
        link.write(&self.ending).await
    }

    fn counts(&self) -> String {
        let calls = self.calls.load(Ordering::Relaxed);
        let altered = self.altered.load(Ordering::Relaxed);
        let body = json!({"calls": calls, "altered": altered}).to_string();
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::{self, Load};

    #[tokio::test]
    async fn the_load_finds_every_answer_good_and_the_upstream_counts_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let manner = Manner { events: 5, interval: Duration::ZERO };
        let server = tokio::spawn(serve(listener, manner));
        let plan = |events| Load {
            address,
            key: "secret".to_owned(),
            bytes: 1024,
            events,
            connections: 3,
            pace: None,
            lasts: Duration::from_secs(20),
            calls_max: 20,
            regions: true,
        };
        for events in [None, Some(5)] {
            let result = load::run(&plan(events)).await.unwrap();
            assert_eq!((result.completed, result.errors), (20, 0), "{:?}", result.first_error);
        }
        // Another number of words is a fault of the gateway, and is seen.
        let result = load::run(&plan(Some(6))).await.unwrap();
        assert_eq!(result.completed, 0);
        assert!(result.first_error.unwrap().contains("5 of 6 words"));

        // Calls at fixed times: the last of them begins so much later than the first.
        let paced = Load { pace: Some(100.0), ..plan(None) };
        let result = load::run(&paced).await.unwrap();
        assert_eq!((result.completed, result.errors), (20, 0), "{:?}", result.first_error);
        assert!(result.seconds >= 0.19, "{result:?}");

        let counts = counts_of(address).await;
        assert!(counts["calls"].as_u64().unwrap() >= 61, "{counts}");
        assert_eq!(counts["altered"], 0);
        // A body that nobody planned is not what was sent.
        let other = Load { bytes: 1025, ..plan(None) };
        assert_eq!(load::run(&other).await.unwrap().completed, 20);
        assert_eq!(counts_of(address).await["altered"], 20);
        server.abort();
    }
    async fn counts_of(address: std::net::SocketAddr) -> serde_json::Value {
        let request = crate::client::Request::get(COUNTS, "");
        let asked = tokio::task::spawn_blocking(move || crate::client::send(address, &request));
        asked.await.unwrap().unwrap().json()
    }
}
