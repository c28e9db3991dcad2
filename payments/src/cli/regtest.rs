//! A Bitcoin network of one's own.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::session::stop_signal;
use super::{Outcome, Place};
use crate::control::Reply;
use crate::regtest::Bitcoind;
use crate::wallet::ldk::{ChainSource, Rpc};

#[derive(Subcommand)]
pub(super) enum RegtestCommand {
    /// Start one and print its chain source; it ends with this command
    Up {
        /// Where its data are; a chain that is there is continued
        #[arg(long)]
        dir: PathBuf,
        /// More arguments for bitcoind, after --
        #[arg(last = true, value_name = "ARGUMENT")]
        more: Vec<String>,
    },
    /// Mine blocks
    Mine {
        /// How many
        blocks: u32,
        /// The chain source that `up` printed
        #[arg(long, env = "WATERSHED_CHAIN", hide_env_values = true)]
        chain: ChainSource,
    },
    /// Mine a block for an address, and the 100 blocks until it can be spent
    Fund {
        /// Of whom
        address: String,
        /// The chain source that `up` printed
        #[arg(long, env = "WATERSHED_CHAIN", hide_env_values = true)]
        chain: ChainSource,
    },
}

pub(super) async fn regtest(place: &Place, command: RegtestCommand) -> Outcome {
    let rpc = |chain: &ChainSource| Rpc::of(chain).ok_or("only a bitcoind mines: give bitcoind://...");
    match command {
        RegtestCommand::Up { dir, more } => {
            let bitcoind =
                Bitcoind::start_with(&dir, &more.iter().map(String::as_str).collect::<Vec<_>>()).await?;
            let chain = String::from(bitcoind.source().clone());
            place.print(Reply::Ok { value: json!({ "chain": chain }), lines: vec![chain] })?;
            stop_signal().await;
            bitcoind.stop()?;
            Ok(ExitCode::SUCCESS)
        }
        RegtestCommand::Mine { blocks, chain } => {
            rpc(&chain)?.mine(blocks).await?;
            height(place, &rpc(&chain)?).await
        }
        RegtestCommand::Fund { address, chain } => {
            rpc(&chain)?.fund(&address).await?;
            height(place, &rpc(&chain)?).await
        }
    }
}

async fn height(place: &Place, rpc: &Rpc) -> Outcome {
    let height = rpc.height().await?;
    place.print(Reply::Ok { value: json!({ "height": height }), lines: vec![format!("block {height}")] })
}
