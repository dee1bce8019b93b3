//! `cordon`: read the command, do it, say what failed.

use std::process::ExitCode;

/// A call allocates many small pieces on one thread and frees them on another; this allocator
/// takes a few per cent of the CPU that glibc's takes for it (docs/performance.md). Without huge pages:
/// with them each open stream holds nearly twice the memory, most of it never touched.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cordon_gateway::cli::main(std::env::args_os())
}
