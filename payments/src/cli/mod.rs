//! The command line of programs that hold money. `wallet` and its session are shared; the rest is `watershed-payments`.

mod args;
mod http;
mod panics;
mod regtest;
mod session;
mod setup;
mod wallet;

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use watershed_protocol::{Preimage, told};

use crate::control::{Reply, Request};
use crate::escrow;

pub use panics::{end_if_ldk_panics, end_if_nobody_reads};
pub use session::{Session, start, stop_signal};
pub use setup::{SetupArgs, init, listen_address, restore};
pub use wallet::{WalletCommand, wallet};

/// What a command ends with.
pub type Outcome = Result<ExitCode, Box<dyn Error + Send + Sync>>;

/// Where a program keeps its wallet, and how it answers.
#[derive(clap::Args, Clone, Debug)]
pub struct Place {
    /// Folder of the wallet [default: watershed/wallet in your data folder]
    #[arg(long, global = true, env = "WATERSHED_WALLET", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Print one JSON value on standard output
    #[arg(long, global = true)]
    pub json: bool,
}

impl Place {
    /// The folder.
    ///
    /// # Errors
    /// If none is given and there is no home folder.
    pub fn folder(&self) -> Result<PathBuf, Box<dyn Error + Send + Sync>> {
        if let Some(data) = &self.data {
            return Ok(data.clone());
        }
        let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
        let base = base.or_else(|| std::env::home_dir().map(|home| home.join(".local/share")));
        let base = base.ok_or("there is no home folder; say where the wallet is with --data")?;
        Ok(base.join("watershed/wallet"))
    }

    /// Prints a reply.
    ///
    /// # Errors
    /// What was refused, and a broken output.
    pub fn print(&self, reply: Reply) -> Outcome {
        let (value, lines) = match reply {
            Reply::Ok { value, lines } => (value, lines),
            Reply::Error { message } => return Err(message.into()),
        };
        let text = if self.json { serde_json::to_string(&value)? } else { lines.join("\n") };
        let mut out = std::io::stdout().lock();
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
            Err(e) => Err(e.into()),
            Ok(()) => Ok(ExitCode::SUCCESS),
        }
    }
}

/// A Lightning wallet with escrows, pledges and a ledger.
#[derive(Parser)]
#[command(
    name = "watershed-payments",
    version,
    after_help = "A first tour, on a Bitcoin network of your own:\n\n  \
                  watershed-payments regtest up --dir /tmp/chain          (in another terminal; prints the CHAIN)\n  \
                  watershed-payments --data /tmp/a init --network regtest --chain CHAIN --listen 127.0.0.1:9801\n  \
                  watershed-payments --data /tmp/a run                    (in another terminal)\n  \
                  watershed-payments --data /tmp/a wallet address\n  \
                  watershed-payments regtest fund --chain CHAIN ADDRESS\n  \
                  watershed-payments --data /tmp/a wallet balance\n\n\
                  Commands talk to the process that has the wallet; if none runs, they start the wallet for as long as \
                  they need it."
)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a wallet; shows its 24 words once
    Init(setup::SetupArgs),
    /// Make a wallet from 24 words, read from standard input
    Restore(setup::SetupArgs),
    /// Run the wallet until Ctrl-C
    Run(args::RunArgs),
    /// Look at the wallet and use it
    #[command(subcommand)]
    Wallet(WalletCommand),
    /// Escrows, from the payer's and the payee's side
    #[command(subcommand)]
    Escrow(args::EscrowCommand),
    /// Pledges towards a goal: taken when it is reached, returned when not
    #[command(subcommand)]
    Campaign(args::CampaignCommand),
    /// The double-entry ledger
    #[command(subcommand)]
    Ledger(args::LedgerCommand),
    /// A Bitcoin network of your own, to try things
    #[command(subcommand)]
    Regtest(regtest::RegtestCommand),
}

/// The program.
pub fn main() -> ExitCode {
    end_if_ldk_panics();
    end_if_nobody_reads();
    let cli = Cli::parse();
    let json = cli.place.json;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(e) => Err(e.into()),
    };
    outcome.unwrap_or_else(|e| {
        if json {
            eprintln!("{}", serde_json::json!({ "error": told(&*e) }));
        } else {
            eprintln!("error: {}", told(&*e));
        }
        ExitCode::FAILURE
    })
}

async fn run(cli: Cli) -> Outcome {
    let place = cli.place;
    match cli.command {
        Command::Init(setup) => setup::init(&place, &setup).await,
        Command::Restore(setup) => setup::restore(&place, &setup).await,
        Command::Run(run) => session::run(&place, &run).await,
        Command::Wallet(command) => wallet(&place, command).await,
        Command::Escrow(args::EscrowCommand::Split { reward, holders, tiers }) => {
            let lots = escrow::split(reward, holders.into(), tiers)?;
            let count = lots.iter().map(Vec::len).sum();
            if count > escrow::MAX_LOTS {
                return Err(escrow::TermsError::Count(count).into());
            }
            let line = |lots: &Vec<watershed_protocol::Msat>| {
                lots.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            };
            let lines = lots.iter().map(line).collect();
            place.print(Reply::Ok { value: serde_json::to_value(&lots)?, lines })
        }
        Command::Escrow(command) => {
            let wait = command.wait();
            let request = command.request()?;
            with_session(&place, async |session| place.print(session.ask_until(request.clone(), wait).await))
                .await
        }
        Command::Campaign(command) => one(&place, command.request()).await,
        Command::Ledger(command) => one(&place, command.request()).await,
        Command::Regtest(command) => regtest::regtest(&place, command).await,
    }
}

async fn one(place: &Place, request: Request) -> Outcome {
    with_session(place, async |session| place.print(session.ask(&request).await)).await
}

/// Opens a session, does something, and closes the session in order, also on Ctrl-C.
async fn with_session(place: &Place, work: impl AsyncFnOnce(&Session) -> Outcome) -> Outcome {
    let session = Session::open(&place.folder()?).await?;
    let outcome = tokio::select! {
        outcome = work(&session) => outcome,
        () = session::stop_signal() => Err("stopped; nothing is lost, ask again to see how it stands".into()),
    };
    session.close().await?;
    outcome
}

impl Session {
    /// Asks, and asks again until what was asked for has ended or `wait` is over.
    async fn ask_until(&self, request: Request, wait: Option<Duration>) -> Reply {
        let end = Instant::now() + wait.unwrap_or_default();
        loop {
            let reply = self.ask(&request).await;
            let Reply::Ok { value, .. } = &reply else { return reply };
            if !args::is_moving(value) || Instant::now() >= end {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn preimages(text: &str) -> Result<Vec<Preimage>, Box<dyn Error + Send + Sync>> {
    let words = text.split_whitespace();
    // What is wrong is not shown: it may be most of a secret.
    let parse =
        |(i, word): (usize, &str)| Preimage::parse(word).map_err(|e| format!("secret {}: {e}", i + 1).into());
    words.enumerate().map(parse).collect()
}
