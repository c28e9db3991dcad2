//! Making a wallet.

use std::io::Read as _;

use ldk_node::lightning::ln::msgs::SocketAddress;

use crate::control::Reply;
use crate::wallet::ldk::{self, ChainSource, WalletConfig};
use crate::wallet::{ChannelPolicy, Network, NodeAddress};

use super::{Outcome, Place};

/// How a wallet is made.
#[derive(clap::Args, Clone, Debug)]
pub struct SetupArgs {
    /// bitcoin, testnet, signet or regtest
    #[arg(long)]
    pub network: Network,
    /// Where blocks come from: bitcoind://USER:PASSWORD@HOST:PORT, esplora+https://HOST/api, ssl://HOST:PORT or
    /// tcp://HOST:PORT of an Electrum server
    #[arg(long, env = "WATERSHED_CHAIN", hide_env_values = true)]
    pub chain: ChainSource,
    /// Where other nodes reach this one; may be given more than once [default: nowhere, this node only calls others]
    #[arg(long, value_name = "HOST:PORT", value_parser = listen_address)]
    pub listen: Vec<String>,
    /// Who will escrow your rewards: its channels are used before they confirm. It could take back what it paid until
    /// they confirm
    #[arg(long, value_name = "NODE@HOST:PORT")]
    pub payer: Option<NodeAddress>,
}

/// An address at which a node can be reached, as other nodes are told it.
///
/// # Errors
/// What it should look like.
pub fn listen_address(text: &str) -> Result<String, String> {
    match text.parse::<SocketAddress>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("it must be HOST:PORT, such as 203.0.113.7:9735".to_owned()),
    }
}

impl SetupArgs {
    fn config(&self) -> WalletConfig {
        WalletConfig {
            network: self.network,
            chain: self.chain.clone(),
            listen: self.listen.clone(),
            payer: self.payer.clone(),
            channels: ChannelPolicy::default(),
        }
    }
}

/// Makes a wallet and shows its words, once.
///
/// # Errors
/// If there is one already, or the folder cannot be written.
pub fn init(place: &Place, setup: &SetupArgs) -> Outcome {
    let folder = place.folder()?;
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).map_err(|e| format!("no random bytes: {e}"))?;
    let words = ldk::init(&folder, &setup.config(), entropy)?;
    let numbered = words.words().enumerate().map(|(i, word)| format!("  {:>2} {word}", i + 1));
    let mut lines = vec![
        "Write these 24 words on paper. Whoever has them has your on-chain money:".to_owned(),
        String::new(),
    ];
    lines.extend(numbered);
    lines.extend([
        String::new(),
        "They bring back what is on chain. What is in channels needs the folder as well, and never an old copy of it:".to_owned(),
        format!("  {}", folder.display()),
    ]);
    let value = serde_json::json!({ "words": words.to_string(), "folder": folder });
    place.print(Reply::Ok { value, lines })
}

/// Makes a wallet from words on standard input.
///
/// # Errors
/// If there is one already, or they are not 24 words.
pub fn restore(place: &Place, setup: &SetupArgs) -> Outcome {
    let folder = place.folder()?;
    let mut words = String::new();
    std::io::stdin().take(4096).read_to_string(&mut words)?;
    ldk::restore(&folder, &setup.config(), &words)?;
    let lines = vec![format!("restored in {}", folder.display())];
    place.print(Reply::Ok { value: serde_json::json!({ "folder": folder }), lines })
}
