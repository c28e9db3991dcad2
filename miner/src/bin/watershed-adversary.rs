//! A miner that cheats, for testing what becomes of it. It takes a reward that is offered to it, and hands in something else
//! than the work.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    watershed_miner::adversary()
}
