//! The program.

mod check;
mod run;
mod serve;
mod template;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use watershed_payments::cli::{Place, SetupArgs, WalletCommand, init, restore, wallet};
use watershed_protocol::{SecretKey, told};
use watershed_shards::library::{default_folder, load_or_create};

use crate::office::Falsehood;

type Failed = Box<dyn Error + Send + Sync>;

/// What a command ends with.
type Outcome = Result<ExitCode, Failed>;

/// Runs training that sponsors pay for: gives out work, locks rewards, keeps the public record.
#[derive(Parser)]
#[command(
    name = "watershed-coordinator",
    version,
    after_help = "From nothing to a run:\n\n  \
                  watershed-coordinator init --network signet --chain esplora+https://mempool.space/signet/api --listen HOST:9735\n  \
                  watershed-coordinator serve --http 0.0.0.0:7700            (in another terminal, for as long as runs run)\n  \
                  watershed-coordinator wallet address                       (channels to miners are opened from here)\n  \
                  watershed-coordinator run new --set SHARDSET --validator KEY > run.toml\n  \
                  watershed-coordinator run open run.toml\n  \
                  watershed-coordinator run show"
)]
struct Cli {
    #[command(flatten)]
    home: Home,
    #[command(subcommand)]
    command: Command,
}

/// Where a coordinator keeps everything.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Home {
    /// Folder of the coordinator [default: watershed/coordinator in your data folder]
    #[arg(long, global = true, env = "WATERSHED_COORDINATOR", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print one JSON value on standard output
    #[arg(long, global = true)]
    json: bool,
}

impl Home {
    fn folder(&self) -> Result<PathBuf, Failed> {
        if let Some(data) = &self.data {
            return Ok(data.clone());
        }
        let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
        let base = base.or_else(|| std::env::home_dir().map(|home| home.join(".local/share")));
        let base = base.ok_or("there is no home folder; say where the coordinator is with --data")?;
        Ok(base.join("watershed/coordinator"))
    }

    fn place(&self) -> Result<Place, Failed> {
        Ok(Place { data: Some(wallet_folder(&self.folder()?)), json: self.json })
    }

    fn key(&self) -> Result<SecretKey, Failed> {
        let (key, _) = load_or_create(&self.folder()?.join("coordinator.key"), "Key of a coordinator")?;
        Ok(key)
    }
}

/// The library that was named, or the one that `watershed-shards` uses.
fn library(named: Option<&PathBuf>) -> Result<PathBuf, Failed> {
    let library = named.cloned().or_else(default_folder);
    Ok(library.ok_or("there is no home folder; say where the library is with --library")?)
}

/// Refuses a wallet that `serve` would refuse, before anything is written: it could not be made a second time.
fn can_serve(setup: &SetupArgs) -> Result<(), Failed> {
    if setup.listen.is_empty() {
        let why = "say where miners reach this node: --listen HOST:PORT, or --listen 127.0.0.1:9735 to try it on one machine";
        return Err(why.into());
    }
    Ok(())
}

fn wallet_folder(folder: &Path) -> PathBuf {
    folder.join("wallet")
}

#[derive(Subcommand)]
enum Command {
    /// Make key and wallet; shows the wallet's 24 words once
    Init(SetupArgs),
    /// Make key and wallet from 24 words, read from standard input
    Restore(SetupArgs),
    /// Serve runs until Ctrl-C
    Serve(serve::ServeArgs),
    /// Make, look at and steer runs
    #[command(subcommand)]
    Run(run::RunCommand),
    /// Look at the wallet and use it
    #[command(subcommand)]
    Wallet(WalletCommand),
}

/// A coordinator that cannot be trusted, to see what becomes of it.
#[derive(Parser)]
#[command(name = "watershed-false-coordinator", version)]
struct Adversary {
    #[command(flatten)]
    home: Home,
    /// What it does
    #[arg(long)]
    falsehood: Falsehood,
    #[command(flatten)]
    serve: serve::ServeArgs,
}

/// The program.
pub fn main() -> ExitCode {
    watershed_engine::device::ensure_runtime_dir();
    watershed_payments::cli::end_if_ldk_panics();
    watershed_payments::cli::end_if_nobody_reads();
    let cli = Cli::parse();
    finish(cli.home.json, carry_out(cli))
}

/// The program that cannot be trusted.
pub fn adversary() -> ExitCode {
    let args = Adversary::parse();
    finish(false, async move { serve::serve(&args.home, &args.serve, Some(args.falsehood)).await })
}

fn finish(json: bool, work: impl Future<Output = Outcome>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(work),
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

async fn carry_out(cli: Cli) -> Outcome {
    let home = cli.home;
    match cli.command {
        Command::Init(setup) => {
            can_serve(&setup)?;
            let key = home.key()?;
            if !home.json {
                println!("coordinator {}", key.public());
            }
            init(&home.place()?, &setup).await
        }
        Command::Restore(setup) => {
            can_serve(&setup)?;
            home.key()?;
            restore(&home.place()?, &setup).await
        }
        Command::Serve(args) => serve::serve(&home, &args, None).await,
        Command::Run(command) => run::run(&home, command).await,
        Command::Wallet(command) => wallet(&home.place()?, command).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wallet_that_could_not_serve_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("coordinator");
        let data = folder.to_string_lossy().into_owned();
        let chain = ["--network", "regtest", "--chain", "tcp://127.0.0.1:1"];
        let init = |more: &[&str]| {
            let words = ["watershed-coordinator", "--data", data.as_str(), "init"];
            Cli::try_parse_from([&words[..], &chain, more].concat())
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let refused = runtime.block_on(carry_out(init(&[]).unwrap())).unwrap_err().to_string();
        assert!(refused.contains("--listen") && !folder.exists(), "{refused}");
        assert!(init(&["--listen", "no port"]).is_err());
        // Nothing answers there, so no wallet could follow its chain.
        let alone = carry_out(init(&["--listen", "127.0.0.1:9735"]).unwrap());
        let refused = runtime.block_on(alone).unwrap_err().to_string();
        assert!(refused.contains("127.0.0.1:1") && !refused.contains("--listen"), "{refused}");
    }

    #[test]
    fn the_library_is_the_one_that_shards_are_built_in_unless_another_is_named() {
        let named = PathBuf::from("/some/where");
        assert_eq!(library(Some(&named)).unwrap(), named);
        assert_eq!(library(None).ok(), default_folder());
    }
}
