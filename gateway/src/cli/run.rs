//! `cordon run`: starts everything, serves until told to stop.

use crate::{
    cli::{CliError, End},
    config::Config,
};

/// How the gateway is started.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Do not start the collector beside the gateway.
    #[arg(long)]
    pub no_collector: bool,
}

/// Builds the gateway from a checked configuration and serves until the order to stop.
pub fn run(_config: Config, _arguments: &Arguments) -> Result<End, CliError> {
    Err(CliError::Failed("`cordon run` is not built yet".to_owned()))
}
