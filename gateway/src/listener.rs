//! The AI listener: from a connection's first byte to a call, and from a reply to its last byte.
//!
//! Steps for each request: read the head, check its framing, look up the path, prove the caller
//! (the pipeline does), receive the body, let the pipeline answer, write the reply. Knows pingora
//! and paths; not policy, and not what stands in a body.

mod body;
mod connection;
pub mod drain;
mod exchange;
pub mod gauges;
mod head;
mod paths;
mod pipeline;
mod reply;
mod socket;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::request::Parts;

pub(crate) use body::receive;
pub(crate) use connection::{After, Connections, Head, Requests};
pub(crate) use exchange::after_unread;
pub(crate) use head::{Announced, check as check_head};
pub(crate) use reply::{Outlet, insert as insert_header, plain_head};
pub use socket::{BindError, Socket};

pub use crate::config::listeners::{HalfClosed, Limits, Settings};
use crate::{
    listener::{
        drain::{Drained, Stop},
        exchange::Exchange,
        gauges::Gauges,
    },
    pipeline::{BodyFault, Reply, TurnedAway},
    record::CallId,
    wire::Format,
};

/// What the listener asks of the pipeline. Dropping an `Admitted`, or the future of `answer`,
/// means that the client left: the call's outcome is `cancelled`.
pub trait Calls: Send + Sync + 'static {
    /// A proven caller's call, whose body is unread.
    type Admitted: Send;

    /// Proves the caller from the head, opens the record, and checks what the head alone decides.
    ///
    /// # Errors
    /// The reply that refuses the call.
    fn admit(
        &self,
        head: &Parts,
        format: Format,
        id: CallId,
    ) -> impl Future<Output = Result<Self::Admitted, Reply>> + Send;

    /// Answers an admitted call whose body has been read.
    fn answer(&self, call: Self::Admitted, body: Bytes) -> impl Future<Output = Reply> + Send;

    /// Ends an admitted call whose body could not be read.
    fn refuse(&self, call: Self::Admitted, why: BodyFault) -> impl Future<Output = Reply> + Send;

    /// `GET /v1/models` for a proven caller.
    fn models(&self, head: &Parts, id: CallId) -> Reply;

    /// The answer to a call whose `answer` was cut: it is on record, and not counted once more.
    fn interrupted(&self, id: CallId) -> Reply;

    /// What is refused before there is a call.
    fn turn_away(&self, why: TurnedAway, id: CallId) -> Reply;

    /// Said when draining took too long, or a second signal cut it short: calls dropped from now
    /// on were interrupted by us and not cancelled by their clients. May be said again.
    fn interrupting(&self) {}
}

/// Whether the gateway can serve, and what an operator should know.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Readiness {
    /// Why it cannot serve; empty where it can.
    pub reasons: Vec<String>,
    /// What limps without stopping calls.
    pub warnings: Vec<String>,
}

/// Asks all parts of the gateway whether they can serve; called for each `GET /readyz`.
pub type AskReadiness = Arc<dyn Fn() -> Readiness + Send + Sync>;

/// What the AI listener is made of.
#[derive(Clone)]
pub struct Parties<C> {
    pub settings: Settings,
    pub calls: Arc<C>,
    pub readiness: AskReadiness,
    /// Shared with the metrics.
    pub gauges: Gauges,
}

impl<C> fmt::Debug for Parties<C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Parties").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Serves `socket` until `stop` drains it and its calls have ended, at the latest shortly after
/// the drain deadline. When it returns, no call is in flight and no reply half written.
pub async fn serve<C: Calls>(socket: Socket, parties: Parties<C>, stop: &Stop) -> Drained {
    let deadline = parties.settings.limits.drain_deadline.0;
    let calls = Arc::clone(&parties.calls);
    let settings = parties.settings.clone();
    let exchange = Arc::new(Exchange::new(parties, stop.clone()));
    let (connections, hold) = Connections::new(exchange, &settings, stop);
    socket.accept(connections, stop).await;
    hold.released(deadline, || calls.interrupting()).await
}

#[cfg(test)]
mod tests;
