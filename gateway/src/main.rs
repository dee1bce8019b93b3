//! `cordon`: read the command, do it, say what failed.

use std::process::ExitCode;

fn main() -> ExitCode {
    cordon_gateway::cli::main(std::env::args_os())
}
