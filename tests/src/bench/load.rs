//! Calls over some connections, each answer checked: at a fixed pace, or in a closed loop, where a
//! connection asks again as soon as its answer is complete.

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpStream,
    task::LocalSet,
    time::{sleep_until, timeout},
};

use crate::bench::{answer, figures::percentile, link::Link};

/// The longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked, how often, by how many at once.
#[derive(Debug, Clone)]
pub struct Load {
    pub address: SocketAddr,
    pub key: String,
    /// Of one request's body.
    pub bytes: usize,
    /// Words of a streamed answer; unset: not streamed.
    pub events: Option<usize>,
    pub connections: usize,
    /// Calls per second that begin at fixed times, whatever became of those before; a call for
    /// which no connection is free begins late. Unset: a closed loop.
    pub pace: Option<f64>,
    /// No call begins later.
    pub lasts: Duration,
    /// No more calls than this.
    pub calls_max: u64,
    /// Each call declares other subject regions than the one before.
    pub regions: bool,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Answers that were complete and right.
    pub completed: u64,
    /// Anything else; each ends its connection.
    pub errors: u64,
    pub first_error: Option<String>,
    pub seconds: f64,
    /// From when a call should have begun to its end.
    pub p50_us: Option<u64>,
    pub p99_us: Option<u64>,
}

/// A load while it runs.
struct Run {
    head: String,
    body: Vec<u8>,
    events: Option<usize>,
    address: SocketAddr,
    regions: bool,
    calls_max: u64,
    begin: Instant,
    /// Between two calls that begin at fixed times.
    interval: Option<Duration>,
    end: Instant,
    begun: Cell<u64>,
    latencies_us: RefCell<Vec<u64>>,
    errors: RefCell<Vec<String>>,
}

/// Runs the load to its end.
pub async fn run(load: &Load) -> Result<Outcome> {
    let body = answer::request(load.bytes, load.events.is_some())?;
    let begin = Instant::now();
    let run = Rc::new(Run {
        head: head(load, body.len()),
        body,
        events: load.events,
        address: load.address,
        regions: load.regions,
        calls_max: load.calls_max,
        begin,
        interval: load.pace.map(|pace| Duration::from_secs_f64(1.0 / pace)),
        end: begin + load.lasts,
        begun: Cell::new(0),
        latencies_us: RefCell::default(),
        errors: RefCell::default(),
    });
    let tasks = LocalSet::new();
    for _ in 0..load.connections {
        let run = Rc::clone(&run);
        tasks.spawn_local(async move {
            if let Err(fault) = run.connection().await {
                run.errors.borrow_mut().push(format!("{fault:#}"));
            }
        });
    }
    tasks.await;
    Ok(run.outcome(begin.elapsed()))
}

fn head(load: &Load, length: usize) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n",
        load.address, load.key
    )
}

// === impl Run ===

impl Run {
    async fn connection(&self) -> Result<()> {
        let mut link = self.connect().await.context("cannot connect")?;
        let (mut request, mut body) = (Vec::new(), Vec::new());
        while let Some((call, begin)) = self.next_call().await {
            self.write_request(call, &mut request);
            let status = timeout(PATIENCE, call_once(&mut link, &request, &mut body)).await??;
            anyhow::ensure!(status == "200", "status {status}: {}", start(&body));
            if let Some(fault) = answer::fault(&body, self.events) {
                anyhow::bail!("{fault}: {}", start(&body));
            }
            let took = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.latencies_us.borrow_mut().push(took);
        }
        Ok(())
    }

    /// The number of the next call and when it should begin, once that is now; `None` where there
    /// shall be no further one.
    async fn next_call(&self) -> Option<(u64, Instant)> {
        let call = self.begun.get();
        let begin = match self.interval {
            Some(interval) => self.begin + interval.mul_f64(call as f64),
            None => Instant::now(),
        };
        if call >= self.calls_max || begin >= self.end {
            return None;
        }
        self.begun.set(call + 1);
        // A timer rounds up to its step of a millisecond, so none is set for what is due.
        if begin > Instant::now() {
            sleep_until(begin.into()).await;
        }
        Some((call, begin))
    }

    async fn connect(&self) -> io::Result<Link> {
        Link::new(timeout(PATIENCE, TcpStream::connect(self.address)).await??)
    }

    fn write_request(&self, call: u64, request: &mut Vec<u8>) {
        request.clear();
        request.extend_from_slice(self.head.as_bytes());
        if self.regions {
            let regions = answer::regions(call);
            request
                .extend_from_slice(format!("x-cordon-subject-regions: {regions}\r\n").as_bytes());
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(&self.body);
    }

    fn outcome(&self, took: Duration) -> Outcome {
        let mut latencies_us = self.latencies_us.take();
        latencies_us.sort_unstable();
        let errors = self.errors.take();
        Outcome {
            completed: latencies_us.len() as u64,
            errors: errors.len() as u64,
            first_error: errors.into_iter().next(),
            seconds: took.as_secs_f64(),
            p50_us: percentile(&latencies_us, 50),
            p99_us: percentile(&latencies_us, 99),
        }
    }
}

/// Sends one request and reads its whole answer into `body`; gives the status.
async fn call_once(link: &mut Link, request: &[u8], body: &mut Vec<u8>) -> io::Result<String> {
    link.write(request).await?;
    let head = link.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    link.body(head.framing, body).await?;
    Ok(head.word)
}

/// The first few characters of a body, for an error.
fn start(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned()
}
