//! Making a wallet.

use std::io::Read as _;

use crate::control::Reply;
use crate::wallet::ldk::{self, ChainSource, WalletConfig};
use crate::wallet::{ChannelPolicy, Network, NodeAddress, WalletError, check_address};

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
    /// Where this node listens; may be given more than once [default: nowhere, this node only calls others]
    #[arg(long, value_name = "HOST:PORT", value_parser = listen_address)]
    pub listen: Vec<String>,
    /// Where others reach it, if that is elsewhere: what a router forwards to --listen
    #[arg(long, value_name = "HOST:PORT", requires = "listen")]
    pub announce: Vec<String>,
    /// Make the wallet although its chain source cannot be asked now. Its network is then compared at the first start, which
    /// needs the source's answer
    #[arg(long)]
    pub offline: bool,
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
    check_address(text).map(|()| text.to_owned()).map_err(|why| why.to_string())
}

impl SetupArgs {
    fn config(&self) -> WalletConfig {
        WalletConfig {
            network: self.network,
            chain: self.chain.clone(),
            listen: self.listen.clone(),
            announce: self.announce.clone(),
            payer: self.payer.clone(),
            channels: ChannelPolicy::default(),
        }
    }

    /// Whatever is taken here must be able to start.
    async fn check(&self) -> Result<WalletConfig, WalletError> {
        let config = self.config();
        config.check_addresses()?;
        match config.chain.check(config.network).await {
            Err(e) if self.offline && e.is_passing() => {
                eprintln!("{e}. The wallet is made all the same; its first start asks again");
            }
            checked => checked?,
        }
        Ok(config)
    }
}

/// Makes a wallet and shows its words, once.
///
/// # Errors
/// If there is one already, the folder cannot be written, an address cannot be listened on, or the chain source does not answer
/// or is of another network.
pub async fn init(place: &Place, setup: &SetupArgs) -> Outcome {
    let folder = place.folder()?;
    ldk::must_be_free(&folder)?;
    let config = setup.check().await?;
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).map_err(|e| format!("no random bytes: {e}"))?;
    let words = ldk::init(&folder, &config, entropy)?;
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
/// If there is one already, or they are not 24 words; those of [`init`].
pub async fn restore(place: &Place, setup: &SetupArgs) -> Outcome {
    let folder = place.folder()?;
    ldk::must_be_free(&folder)?;
    let config = setup.check().await?;
    let mut words = String::new();
    std::io::stdin().take(4096).read_to_string(&mut words)?;
    ldk::restore(&folder, &config, &words)?;
    let lines = vec![format!("restored in {}", folder.display())];
    place.print(Reply::Ok { value: serde_json::json!({ "folder": folder }), lines })
}
