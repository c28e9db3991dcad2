//! A validator that does not do its work, for testing what becomes of it.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    watershed_validator::adversary()
}
