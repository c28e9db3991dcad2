//! The program miners run.

use std::process::ExitCode;

/// Freed memory is kept for the next step: with the system's allocator a training step spends a sixth of its time on page
/// faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    watershed_miner::main()
}
