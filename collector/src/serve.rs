//! The door: HTTP on a Unix socket in a folder that only its owner may enter.
//!
//! `POST /v1/audit/sql`, `POST /v1/audit/commit`, `GET /v1/state`. Whoever reaches the socket is
//! trusted to say in `x-cordon-tenant` whose rows are asked for (absent: all) and in
//! `x-cordon-caller` who asks, both percent-encoded: the gateway has proven both. Whoever hangs up
//! ends their statement, and that is on record like every other.

mod exchange;
mod name;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use crate::collector::Collector;
use crate::config::Limits;

pub use name::encoded;
pub use socket::{Socket, SocketError};

/// Connections at once; further ones wait.
const CONNECTIONS_MAX: usize = 64;
/// How long a request's head may take.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long exchanges under way may take once the end has come.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// How long statements that were broken off may take to be written down.
const RECORDED_WITHIN: Duration = Duration::from_secs(15);

/// What every exchange needs. A statement keeps it until it has been written down, also when its
/// connection has gone.
struct Door {
    collector: Arc<Collector>,
    limits: Limits,
    /// Gone with the last who needs the door; the fields before it go first.
    _in_use: mpsc::Sender<()>,
}

/// Serves `collector` on `socket` until `stop` changes, then lets exchanges under way end.
pub async fn serve(
    socket: Socket,
    collector: Arc<Collector>,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (in_use, mut unused) = mpsc::channel(1);
    let door = Arc::new(Door { collector, limits, _in_use: in_use });
    let mut exchanges = JoinSet::new();
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            _ = stop.changed() => break,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = stop.changed() => break,
        };
        match accepted {
            Ok(stream) => {
                let connection = Connection { stream, door: Arc::clone(&door) };
                let stop = stop.clone();
                exchanges.spawn(async move {
                    connection.run(stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!("a connection was not accepted: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        while exchanges.try_join_next().is_some() {}
    }
    let ended = timeout(DRAIN_WITHIN, async { while exchanges.join_next().await.is_some() {} });
    if ended.await.is_err() {
        warn!("statements under way were broken off at the end");
        exchanges.shutdown().await;
    }
    drop(door);
    // Nothing is ever sent: this waits until nobody could.
    if timeout(RECORDED_WITHIN, unused.recv()).await.is_err() {
        warn!("a statement that was broken off may not be on record");
    }
}

/// One connection.
struct Connection {
    stream: UnixStream,
    door: Arc<Door>,
}

// === impl Connection ===

impl Connection {
    /// Answers the requests of one connection, until it ends or `stop` changes.
    async fn run(self, mut stop: watch::Receiver<bool>) {
        let Self { stream, door } = self;
        let service = service_fn(move |request| {
            let door = Arc::clone(&door);
            async move { Ok::<_, hyper::Error>(exchange::answer(request, &door).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            // A connection that breaks is its client's matter.
            _ended = connection.as_mut() => return,
            _ = stop.changed() => connection.as_mut().graceful_shutdown(),
        }
        drop(connection.await);
    }
}
