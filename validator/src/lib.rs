//! `watershed-validator`: checks what miners hand in, and audits the record.

mod audit;
mod conduct;
mod decide;
mod home;
mod judge;
mod known;
mod round;
mod secrets;
mod serve;
mod session;
mod spool;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use watershed_commons::client::Client;
use watershed_engine::device::DeviceChoice;
use watershed_protocol::RunId;

use conduct::{Conduct, Falsehood};
use home::{Home, HomeArgs};

/// What a command ends with.
type Outcome = Result<(), String>;

/// Checks what miners hand in, bit for bit, and audits the public record.
#[derive(Parser)]
#[command(
    name = "watershed-validator",
    version,
    after_help = "To validate for a run:\n\n  \
                  watershed-validator init                        (prints your key; the coordinator names it in the run)\n  \
                  watershed-validator run --coordinator URL\n\n\
                  To check a whole record, which anybody can do:\n\n  \
                  watershed-validator audit URL --replay 10"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// How `run` works.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    home: HomeArgs,
    /// The coordinator
    #[arg(long, env = "WATERSHED_COORDINATOR_URL", value_name = "URL")]
    coordinator: String,
    /// Only this run [default: every run that names this validator]
    #[arg(long, value_name = "RUN")]
    run: Option<RunId>,
    /// The device: auto, cpu, gpu or gpu:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Where verdicts are given out by this program itself, so that no coordinator can withhold them
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<SocketAddr>,
    /// Leave when the run is over
    #[arg(long)]
    once: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Make key and seed, and print the key
    Init(HomeArgs),
    /// Check the work of a run's miners until Ctrl-C
    Run(RunArgs),
    /// What the validator has done
    Status(HomeArgs),
    /// Have the fees that verdicts earned paid to a Lightning invoice
    Withdraw {
        #[command(flatten)]
        home: HomeArgs,
        /// The coordinator that owes them
        #[arg(long, env = "WATERSHED_COORDINATOR_URL", value_name = "URL")]
        coordinator: String,
        /// BOLT 11, with an amount
        invoice: String,
    },
    /// Compute everything in a record again: signatures, receipts, sums, checkpoints, scores
    Audit(Box<audit::AuditArgs>),
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| e.to_string())
}

/// The program.
pub fn main() -> ExitCode {
    watershed_engine::device::ensure_runtime_dir();
    watershed_payments::cli::end_if_nobody_reads();
    finish(match Cli::parse().command {
        Command::Init(args) => init(&args),
        Command::Run(args) => run(&args, Conduct::Honest),
        Command::Status(args) => session::status(&args),
        Command::Withdraw { home, coordinator, invoice } => withdraw(&home, &coordinator, &invoice),
        Command::Audit(args) => audit::audit(&args),
    })
}

/// A validator that does not do its work.
#[derive(Parser)]
#[command(name = "watershed-false-validator", version)]
struct Adversary {
    /// What it does instead
    #[arg(long)]
    falsehood: Falsehood,
    #[command(flatten)]
    run: RunArgs,
}

/// The program that does not do its work.
pub fn adversary() -> ExitCode {
    let args = Adversary::parse();
    finish(run(&args.run, Conduct::False(args.falsehood)))
}

fn finish(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("watershed-validator: {message}");
            ExitCode::FAILURE
        }
    }
}

fn init(args: &HomeArgs) -> Outcome {
    let home = Home::new(args)?;
    let key = home.key()?;
    home.seed()?;
    if args.json {
        println!("{}", serde_json::json!({ "key": key.public() }));
    } else {
        println!("{}", key.public());
        eprintln!(
            "Give this key to the coordinator. Keep {} safe: whoever has it signs in your name.",
            home.folder().display()
        );
    }
    Ok(())
}

fn withdraw(args: &HomeArgs, coordinator: &str, invoice: &str) -> Outcome {
    let home = Home::new(args)?;
    let key = home.key()?;
    let paid = runtime()?.block_on(async { Client::new(coordinator)?.payout(invoice, &key).await });
    let paid = paid.map_err(|e| e.to_string())?;
    if args.json {
        println!("{paid}");
    } else {
        println!("paid {} msat", paid["paid"]);
    }
    Ok(())
}

fn run(args: &RunArgs, conduct: Conduct) -> Outcome {
    runtime()?.block_on(session::run(args, conduct))
}
