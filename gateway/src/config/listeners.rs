//! What an operator sets about the listeners: addresses, and every limit of a connection.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Deserializer};

use crate::quantity::{Size, Span};

/// The two listeners and their limits: `[listeners]` of the configuration.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where clients send their calls.
    #[serde(deserialize_with = "address")]
    #[schemars(with = "String")]
    pub ai: SocketAddr,
    /// Where operators and auditors ask.
    #[serde(deserialize_with = "address")]
    #[schemars(with = "String")]
    pub admin: SocketAddr,
    /// Names by which the administration may be addressed (`Host`), with or without port.
    /// Loopback names and the listener's own address are always allowed.
    pub admin_hosts: Vec<String>,
    /// What a client that closes its sending half is taken for.
    pub half_closed: HalfClosed,
    /// What a connection and a call may take.
    pub limits: Limits,
}

/// How a client is taken that closed its sending half (a FIN) while it waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HalfClosed {
    /// It left: its call is cancelled at once.
    Gone,
    /// It still reads: a client that left is noticed only when a write fails.
    Served,
}

/// Every limit of the listeners.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections open at once, for each listener; later ones are closed unread.
    pub connections_max: u32,
    /// Calls in flight; later ones are answered 503 at once.
    pub calls_in_flight_max: u32,
    /// The request line and all headers of one request.
    pub head_bytes_max: Size,
    /// One body; what is larger cannot be inspected and is answered 413.
    pub body_bytes_max: Size,
    /// All bodies held at once, requests and answers that come whole, each counted once; what does
    /// not fit is answered 503 at once.
    pub buffered_bytes_max: Size,
    /// From a request's first byte to the end of its head.
    pub head_deadline: Span,
    /// From the end of the head to the end of the body.
    pub body_deadline: Span,
    /// Between two requests of one connection.
    pub idle_deadline: Span,
    /// How long a write may stand still before the client counts as gone. On top of it, a client
    /// may take one second for each 16 KiB of the piece that is written.
    pub write_stall_deadline: Span,
    /// What is read and thrown away after a refusal, so that the client sees the answer.
    pub discard_bytes_max: Size,
    /// How long it is read and thrown away.
    pub discard_deadline: Span,
    /// How long calls are still served after the order to stop, while `/readyz` says 503: the time
    /// that a load balancer takes to see it. A second signal ends it.
    pub leave_grace: Span,
    /// How long calls in flight may go on after that.
    pub drain_deadline: Span,
    /// How long the collector may take for one statement.
    pub audit_deadline: Span,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

impl Default for Settings {
    fn default() -> Self {
        Self {
            ai: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin: SocketAddr::from(([127, 0, 0, 1], 8081)),
            admin_hosts: Vec::new(),
            half_closed: HalfClosed::Gone,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 8_192,
            calls_in_flight_max: 1_024,
            head_bytes_max: Size(64 * KIB),
            body_bytes_max: Size(32 * MIB),
            buffered_bytes_max: Size(512 * MIB),
            head_deadline: seconds(10),
            body_deadline: seconds(120),
            idle_deadline: seconds(60),
            write_stall_deadline: seconds(30),
            discard_bytes_max: Size(64 * MIB),
            discard_deadline: seconds(5),
            leave_grace: seconds(0),
            drain_deadline: seconds(10),
            audit_deadline: seconds(60),
        }
    }
}

fn seconds(count: u64) -> Span {
    Span(Duration::from_secs(count))
}

/// Reads an address and says how one is written where it is none.
fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_fault| {
        serde::de::Error::custom(format!(
            "`{text}` is no address: write number and port, like `127.0.0.1:8080` or `[::1]:8080`"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_the_default_and_what_is_unknown_is_refused() {
        let settings: Settings =
            toml::from_str("ai = \"0.0.0.0:80\"\n[limits]\nbody_bytes_max = \"1MiB\"").unwrap();
        assert_eq!(settings.ai.port(), 80);
        assert_eq!(settings.admin.port(), 8081);
        assert_eq!(settings.limits.body_bytes_max, Size(MIB));
        assert_eq!(settings.limits.drain_deadline, seconds(10));
        assert!(toml::from_str::<Settings>("adress = \"0.0.0.0:80\"").is_err());
        let fault = toml::from_str::<Settings>("ai = \"localhost\"").unwrap_err().to_string();
        assert!(fault.contains("`localhost` is no address: write number and port"), "{fault}");
    }
}
