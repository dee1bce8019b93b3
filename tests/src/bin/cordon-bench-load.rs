//! The bench's load as a program: calls at a pace or in a closed loop, and prints what came of it
//! as JSON.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use clap::Parser;

use cordon_system::bench::load::{self, Load};

/// Calls a gateway and checks every answer
#[derive(Debug, Parser)]
struct Arguments {
    /// The gateway
    #[arg(long)]
    address: SocketAddr,
    /// The key it is called with
    #[arg(long, env = "CORDON_BENCH_KEY", default_value = "none", hide_env_values = true)]
    key: String,
    /// Bytes of a request's body
    #[arg(long, default_value_t = 1_024)]
    bytes: usize,
    /// Asks for streams of so many words
    #[arg(long)]
    events: Option<usize>,
    /// Connections, each with one call at a time
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Calls per second that begin at fixed times; unset: each connection calls again at once
    #[arg(long)]
    pace: Option<f64>,
    /// No call begins later
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// No more calls than this
    #[arg(long, default_value_t = 1_000_000)]
    calls_max: u64,
    /// Each call declares other subject regions than the one before
    #[arg(long)]
    regions: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let load = Load {
        address: arguments.address,
        key: arguments.key,
        bytes: arguments.bytes,
        events: arguments.events,
        connections: arguments.connections,
        pace: arguments.pace,
        lasts: Duration::try_from_secs_f64(arguments.seconds)?,
        calls_max: arguments.calls_max,
        regions: arguments.regions,
    };
    let outcome = load::run(&load).await?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(if outcome.errors == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
