//! The bench's look at the ledger alone, as a program: prints what a call's events cost as JSON.

use std::{path::PathBuf, time::Duration};

use clap::Parser;

use cordon_system::bench::handover;

/// Hands the events of calls to a ledger in a closed loop
#[derive(Debug, Parser)]
struct Arguments {
    /// An empty folder, for the ledger
    #[arg(long)]
    folder: PathBuf,
    /// Calls at once
    #[arg(long, default_value_t = 16)]
    at_once: usize,
    /// No call begins later
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

// One worker beside the ledger's thread, as a gateway on one core has.
#[tokio::main(worker_threads = 1)]
async fn main() -> anyhow::Result<()> {
    let Arguments { folder, at_once, seconds } = Arguments::parse();
    let told = handover::run(&folder, at_once, Duration::try_from_secs_f64(seconds)?).await?;
    println!("{}", serde_json::to_string(&told)?);
    Ok(())
}
