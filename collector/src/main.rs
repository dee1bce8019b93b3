//! The collector's command line: `run`, `sql`, `verify`.
//!
//! Answers go to standard output, everything else to standard error. Exit 0: done; 1: the answer
//! is no; 2: wrong usage, or a statement that does not only read.

mod commands;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use cordon_collector::config::{DataFolder, VERSION};
use cordon_collector::query::{Format, Question, Scope};
use cordon_collector::table::QUIET;
use cordon_collector::verify::Report;
use rustix::fs::Mode;
use tracing_subscriber::EnvFilter;

use commands::{Done, owner, run, sql, verify};

/// What is logged where nobody asks for anything else.
const LOG: &str = "warn,cordon_collector=info";
/// DataFusion plans by recursion: debug builds need far more than the usual 2 MiB.
const STACK_BYTES: usize = 16 << 20;

#[derive(Debug, Parser)]
#[command(
    name = "cordon-collector",
    version = VERSION,
    about = "From the ledger to tables, proofs and answers in SQL",
    after_help = "Example: cordon-collector sql \"SELECT outcome, count(*) FROM calls GROUP BY outcome\" --data data"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow the ledger, keep the tables, answer SQL on a socket. Ends when standard input, where
    /// it is a pipe, closes.
    #[command(after_help = "Example: cordon-collector run --data data")]
    Run {
        /// The folder of all that Cordon writes.
        #[arg(long, default_value = "data")]
        data: PathBuf,
    },
    /// Ask one question; read only.
    #[command(
        after_help = "Example: cordon-collector sql \"SELECT * FROM calls ORDER BY ts DESC LIMIT 5\""
    )]
    Sql {
        /// One SELECT; it may begin with a comment.
        #[arg(allow_hyphen_values = true)]
        statement: String,
        /// How the answer is written.
        #[arg(long, value_enum, default_value_t = Shape::Table)]
        format: Shape,
        /// The same as `--format json`.
        #[arg(long, conflicts_with = "format")]
        json: bool,
        /// The folder of all that Cordon writes.
        #[arg(long, default_value = "data")]
        data: PathBuf,
        /// See only this tenant's rows.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Prove the ledger against itself and its signed heads, and every table row against it.
    #[command(after_help = "Example: cordon-collector verify --json --data data")]
    Verify {
        /// Write the report as JSON.
        #[arg(long)]
        json: bool,
        /// The folder of all that Cordon writes.
        #[arg(long, default_value = "data")]
        data: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shape {
    Table,
    Json,
    Csv,
}

fn main() -> ExitCode {
    // Nothing that is written here is for others to read.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("CORDON_LOG")
        .unwrap_or_else(|_unset| EnvFilter::new(format!("{LOG},{QUIET}")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let done = on_large_stack(move || command(arguments.command));
    finish(&done)
}

async fn command(command: Command) -> Done {
    match command {
        Command::Run { data } => run(&DataFolder::new(data)).await,
        Command::Sql { statement, format, json, data, tenant } => {
            let format = if json { Shape::Json } else { format };
            let scope = tenant.map_or(Scope::All, Scope::Tenant);
            let question = Question { who: owner(), scope, sql: statement, format: format.into() };
            sql(&DataFolder::new(data), &question).await
        }
        Command::Verify { json: true, data } => {
            verify(&DataFolder::new(data), |report| format!("{}\n", report.to_json())).await
        }
        Command::Verify { json: false, data } => {
            verify(&DataFolder::new(data), Report::to_text).await
        }
    }
}

/// Runs a future, and everything it spawns, on threads with room for deep plans.
fn on_large_stack<F: Future<Output = Done> + Send + 'static>(
    make: impl FnOnce() -> F + Send + 'static,
) -> Done {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Done::no(format!("cannot start: {error}")),
    };
    let done = runtime.block_on(async { tokio::spawn(make()).await });
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    done.unwrap_or_else(|error| Done::no(format!("broke off: {error}")))
}

fn finish(done: &Done) -> ExitCode {
    for note in &done.notes {
        eprintln!("cordon-collector: {note}");
    }
    let mut output = std::io::stdout().lock();
    let written = output.write_all(done.output.as_bytes()).and_then(|()| output.flush());
    // A reader that has left wanted no more.
    ExitCode::from(if written.is_ok() || done.code != 0 { done.code } else { 1 })
}

impl From<Shape> for Format {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::Table => Self::Table,
            Shape::Json => Self::Json,
            Shape::Csv => Self::Csv,
        }
    }
}
