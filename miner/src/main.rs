//! `watershed-miner`: the program miners run.

mod bench;
mod local;
mod selftest;
mod stop;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Freed memory is kept for the next step: with the system's allocator a training step spends a sixth of its time on page
/// faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Train a model for sats, on any GPU or CPU, with the same bits on each.
#[derive(Parser)]
#[command(
    name = "watershed-miner",
    version,
    after_help = "Start with `watershed-miner selftest`: it says whether this machine computes as exactly as a run \
                  demands. Then `watershed-miner local --text DIR` trains a small model on the text files in DIR."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check that a device computes every operation to the bit.
    Selftest(selftest::Args),
    /// Train a small model with several workers on this machine, on the text files in a folder.
    Local(local::Args),
    /// Measure how fast this machine trains.
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Selftest(args) => selftest::run(&args).map_err(|e| e.to_string()),
        Command::Local(args) => local::run(&args).map_err(|e| e.to_string()),
        Command::Bench(args) => bench::run(&args).map_err(|e| e.to_string()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("watershed-miner: {message}");
            ExitCode::FAILURE
        }
    }
}
