//! The command line: reads arguments, hands over, says how it ended.
//!
//! Answers go to standard output, everything else to standard error. Exit code 0: done; 1: the
//! answer is no; 2: wrong usage or configuration.

mod audit;
mod check;
mod init;
mod keys;
mod models;
mod policy;
pub mod run;

use std::{
    ffi::OsString,
    io::{ErrorKind, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use rustix::fs::Mode;

use crate::config::{self, Config, ConfigError, DataFolder, Source, Written};

/// A sovereign AI gateway: policy before every call, proof after it.
#[derive(Debug, Parser)]
#[command(name = "cordon", version, max_term_width = 100)]
#[command(after_help = "Example: cordon run --config cordon.toml --data /var/lib/cordon")]
struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

/// Where configuration and data lie; every command takes them.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// The configuration; without it the built-in demonstration.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of all that Cordon writes; wins over the configuration.
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the gateway, and the collector beside it.
    #[command(after_help = "Example: cordon run --config cordon.toml")]
    Run(run::Arguments),
    /// Write the demonstration's configuration as a file to edit; it starts unchanged.
    #[command(after_help = "Example: cordon init cordon.toml")]
    Init(init::Arguments),
    /// Read configuration, bundle, model, database and ledger; explain each fault.
    #[command(after_help = "Example: cordon check --config cordon.toml --connect")]
    Check(check::Arguments),
    /// What a configuration may hold.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make, list and revoke keys.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Ask the policy by hand.
    #[command(subcommand)]
    Policy(policy::Command),
    /// The model of this process.
    #[command(subcommand)]
    Models(models::Command),
    /// Ask and verify the record of every call (hands over to `cordon-collector`).
    #[command(after_help = audit::HELP)]
    Audit(audit::Arguments),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// JSON Schema of the configuration.
    #[command(after_help = "Example: cordon config schema > cordon.schema.json")]
    Schema,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Done; exit code 0.
    Done,
    /// The answer is no; exit code 1.
    No,
}

/// Why a command could not be done. The code is the exit code.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Wrong usage, input or configuration: 2.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It failed although everything was right: 1.
    #[error("{0}")]
    Failed(String),
    #[error("cannot write the answer ({0})")]
    Output(std::io::Error),
}

// === impl CliError ===

impl CliError {
    pub(crate) fn usage(error: impl std::fmt::Display) -> Self {
        Self::Usage(error.to_string())
    }

    pub(crate) fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    fn code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) => 2,
            Self::Failed(_) | Self::Output(_) => 1,
        }
    }
}

// === impl Place ===

impl Place {
    /// The configuration's form, without secrets.
    pub(crate) fn written(&self) -> Result<Written, CliError> {
        Ok(Written::read(Source::of(self.config.as_deref()))?)
    }

    /// The configuration, every value checked.
    pub(crate) fn checked(&self) -> Result<Config, CliError> {
        Ok(Config::load(self.config.as_deref(), self.data.as_deref())?)
    }

    /// The data folder. A configuration is read only where one is named.
    pub(crate) fn folder(&self) -> Result<DataFolder, CliError> {
        match (&self.data, &self.config) {
            (Some(data), _) => Ok(DataFolder::new(data)),
            (None, None) => Ok(DataFolder::new("data")),
            (None, Some(_)) => Ok(self.written()?.data(None)),
        }
    }
}

/// Runs one command line to its end; the only place that decides an exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Nothing that is written here is for others to read.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    match dispatch(arguments) {
        Ok(End::Done) => ExitCode::SUCCESS,
        Ok(End::No) => ExitCode::from(1),
        // Whoever reads our answer has had enough (`cordon … | head`).
        Err(CliError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say(&error);
            ExitCode::from(error.code())
        }
    }
}

/// Shows help (0) or what is wrong with the usage (2).
fn usage(error: &clap::Error) -> ExitCode {
    let written = error.print();
    let code = if written.is_err() { 1 } else { error.exit_code() };
    ExitCode::from(u8::try_from(code).unwrap_or(2))
}

fn dispatch(arguments: Arguments) -> Result<End, CliError> {
    let place = arguments.place;
    match arguments.command {
        Command::Run(arguments) => {
            let config = place.checked()?;
            run::run(config, &arguments)
        }
        Command::Init(arguments) => init::init(&arguments),
        Command::Check(arguments) => check::check(&place, &arguments),
        Command::Config(ConfigCommand::Schema) => {
            answer(&format!("{:#}", config::schema()))?;
            Ok(End::Done)
        }
        Command::Keys(command) => keys::keys(&place, command),
        Command::Policy(command) => policy::policy(&place, command),
        Command::Models(command) => models::models(&place, &command),
        Command::Audit(arguments) => audit::audit(place, &arguments),
    }
}

/// Writes an answer to standard output.
pub(crate) fn answer(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()).map_err(CliError::Output)
}

/// Says something to standard error; where that is closed nobody listens.
pub(crate) fn say(text: &dyn std::fmt::Display) {
    let mut out = std::io::stderr().lock();
    drop(writeln!(out, "cordon: {text}"));
}

/// Waits for work that needs a runtime, on this thread.
pub(crate) fn wait<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::failed)?;
    runtime.block_on(work)
}
