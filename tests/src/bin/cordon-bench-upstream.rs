//! The bench's provider as a program: prints its address and serves until it is ended.

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use tokio::net::TcpListener;

use cordon_system::bench::upstream::{self, Manner};

/// A provider that answers every call at once
#[derive(Debug, Parser)]
struct Arguments {
    /// Where it listens
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Words of a streamed answer, one event each
    #[arg(long, default_value_t = 100)]
    events: usize,
    /// Microseconds between two words
    #[arg(long, default_value_t = 1_000)]
    interval_us: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(arguments.listen).await?;
    println!("{}", listener.local_addr()?);
    let interval = Duration::from_micros(arguments.interval_us);
    upstream::serve(listener, Manner { events: arguments.events, interval }).await?;
    Ok(())
}
