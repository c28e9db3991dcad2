//! `watershed-miner`: the program miners run.

mod bench;
mod disk;
mod local;
mod market;
mod process;
mod selftest;
mod stop;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use watershed_protocol::told;

/// Train a model for sats, on any GPU or CPU, with the same bits on each.
#[derive(Parser)]
#[command(
    name = "watershed-miner",
    version,
    after_help = "To earn sats:\n\n  \
                  watershed-miner init --coordinator URL --chain esplora+https://mempool.space/signet/api\n  \
                  watershed-miner doctor                     (says what is missing, and what to do about it)\n  \
                  watershed-miner run --coordinator URL\n  \
                  watershed-miner earnings\n\n\
                  `watershed-miner selftest` says whether this machine computes as exactly as a run demands; \
                  `watershed-miner local --text DIR` trains a small model on the text files in DIR, without network or money."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make key and wallet; shows the wallet's 24 words once
    Init(market::InitArgs),
    /// Check everything that mining needs, and say what to do about what is missing
    Doctor(market::DoctorArgs),
    /// Work for a run until Ctrl-C
    Run(market::RunArgs),
    /// What the miner is doing now
    Status(market::HomeArgs),
    /// What it earned, by day
    Earnings(market::HomeArgs),
    /// Have what a coordinator still owes at the end of a run paid to a Lightning invoice; `run` does so by itself
    Withdraw(market::WithdrawArgs),
    /// Look at the wallet and use it
    Wallet(market::WalletArgs),
    /// Check that a device computes every operation to the bit.
    Selftest(selftest::Args),
    /// Train a small model with several workers on this machine, on the text files in a folder.
    Local(local::Args),
    /// Measure how fast this machine trains.
    Bench(bench::Args),
}

/// The program.
pub fn main() -> ExitCode {
    watershed_engine::device::ensure_runtime_dir();
    watershed_payments::cli::end_if_ldk_panics();
    watershed_payments::cli::end_if_nobody_reads();
    let outcome = match Cli::parse().command {
        Command::Init(args) => market::init(&args),
        Command::Doctor(args) => market::doctor(&args),
        Command::Run(args) => market::run(&args, market::Conduct::Honest),
        Command::Status(args) => market::status(&args),
        Command::Earnings(args) => market::earnings(&args),
        Command::Withdraw(args) => market::withdraw(&args),
        Command::Wallet(args) => return finish(market::wallet(&args)),
        Command::Selftest(args) => selftest::run(&args).map_err(|e| told(&e)),
        Command::Local(args) => local::run(&args).map_err(|e| told(&e)),
        Command::Bench(args) => bench::run(&args).map_err(|e| told(&e)),
    };
    finish(outcome.map(|()| ExitCode::SUCCESS))
}

/// A miner that cheats, to see what becomes of it.
#[derive(Parser)]
#[command(name = "watershed-adversary", version)]
struct Adversary {
    /// What it does instead of the work
    #[arg(long)]
    cheat: market::Cheat,
    /// Rounds in which it is honest first
    #[arg(long, default_value_t = 0)]
    honest_rounds: u32,
    #[command(flatten)]
    run: market::RunArgs,
}

/// The program that cheats.
pub fn adversary() -> ExitCode {
    let args = Adversary::parse();
    let conduct = market::Conduct::Cheating { cheat: args.cheat, after: args.honest_rounds };
    finish(market::run(&args.run, conduct).map(|()| ExitCode::SUCCESS))
}

fn finish(outcome: Result<ExitCode, String>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(message) => {
            eprintln!("watershed-miner: {message}");
            ExitCode::FAILURE
        }
    }
}
