//! `cordon`: read the command, do it, say what failed.

use std::process::ExitCode;

/// A call allocates many small pieces on one thread and frees them on another; this allocator
/// takes a few per cent of the CPU that glibc's takes for it (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cordon_gateway::cli::main(std::env::args_os())
}
