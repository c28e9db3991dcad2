//! Runs training that sponsors pay for.

use std::process::ExitCode;

/// Its node allocates and frees in small pieces on many threads for months; the system's allocator gives little of that back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    watershed_coordinator::cli::main()
}
