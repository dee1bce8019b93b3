//! One attempt at one upstream, remote or local.
//!
//! Takes a [`Clearance`] and nothing else; makes the [`Attempt`] or the [`Failure`], which says
//! on which side it arose. Knows one upstream's address, key and format; not why it was chosen.

pub mod executor;
pub mod local;
pub mod openai;

use std::time::Duration;

use bytes::Bytes;

/// On which side something went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    Client,
    Gateway,
    Upstream,
}

/// Which deadline ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Deadline {
    Connect,
    FirstToken,
    Gap,
    Total,
}

/// What went wrong with an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// No connection: refused, unreachable, no address, or a forbidden address.
    Connect,
    /// TLS failed: name, trust or protocol.
    Tls,
    /// The upstream ended the connection before the final head.
    ClosedBeforeHead,
    /// The stream or body broke off after the head.
    BrokenBody,
    /// The upstream's head or framing is not HTTP we accept.
    Protocol,
    /// A deadline passed.
    Timeout(Deadline),
    /// The final status was not 2xx (redirects included; they are never followed).
    Status,
    /// The answer was larger than its limit.
    TooLarge,
    /// The local model is not there.
    LocalUnavailable,
    /// The local model's queue is full.
    LocalBusy,
}

/// An attempt that did not end well. Texts of bodies never show in `Debug` or logs.
pub struct Failure {
    pub side: Side,
    pub cause: Cause,
    /// The upstream's status, where there was a final head.
    pub status: Option<u16>,
    /// The upstream's `Retry-After` (seconds or date), as a wait from now.
    pub retry_after: Option<Duration>,
    /// The upstream's error body, at most 64 KiB of it, already read.
    pub body: Option<Bytes>,
    /// Whether the upstream may have begun to work: nothing was sent, or the connection was a
    /// pooled one that had died, means no.
    pub processed: bool,
}

impl std::fmt::Debug for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Failure")
            .field("side", &self.side)
            .field("cause", &self.cause)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

// The contract of this module, filled in by its files:
//
// pub struct Providers { … }                       // built once in gateway.rs
// impl Providers {
//     pub fn new(local: Option<LocalModel>, …) -> Self;
//     /// Connects, sends, reads the final head. 2xx becomes an `Attempt`, all else a `Failure`.
//     pub async fn attempt(&self, clearance: Clearance, deadlines: &Deadlines, started: Instant)
//         -> Result<Attempt, Failure>;
// }
// pub struct Attempt { status: u16, headers: HeaderMap (allow-listed), … }
// impl Attempt {
//     /// The next bytes of the body; `None` is a clean end. `until` with its name bounds the wait.
//     pub async fn next(&mut self, until: Instant, name: Deadline) -> Result<Option<Bytes>, Failure>;
// }
// Dropping an unfinished attempt closes its connection (HTTP/1.1) and never pools it.
