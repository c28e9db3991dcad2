//! A node's first look at the chain after it was started.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::LdkWallet;
use crate::wallet::{ChainTrouble, Wallet as _, WalletError};

/// How long the node may take to hear of one more block.
const PATIENCE: Duration = Duration::from_secs(20);

const LOOK: Duration = Duration::from_millis(100);

impl LdkWallet {
    /// Waits until the node has read what it missed, for as long as it gets on.
    ///
    /// Whoever asks LDK Node itself waits without end if its bitcoind does not answer or has another chain, on a thread that
    /// not even [`ldk_node::Node::stop`] frees: `continuously_sync_wallets` (ldk-node 0.7, `chain/bitcoind.rs`) leaves
    /// without a word to those who wait for it. With an Esplora or Electrum server every wait has an end.
    ///
    /// # Errors
    /// [`WalletError::Chain`]; [`WalletError::Source`] where the bitcoind says itself what is wrong.
    pub(super) async fn first_look(&self) -> Result<(), WalletError> {
        if self.bitcoind.is_none() {
            return Ok(());
        }
        loop {
            let status = self.on_node(|node| Ok(node.status())).await?;
            if status.latest_lightning_wallet_sync_timestamp != self.heard_before {
                return Ok(());
            }
            let tip = status.current_best_block.height;
            if self.since_it_moved(tip) > PATIENCE {
                if let Some(e) = self.source_trouble().await {
                    return Err(e.into());
                }
                let trouble = match self.chain().await?.source {
                    Some(bitcoind) => ChainTrouble::Lost { tip, bitcoind },
                    None => ChainTrouble::Silent { seconds: PATIENCE.as_secs() },
                };
                return Err(WalletError::Chain(trouble));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How long the node has been at `tip`, or longer, as far as was looked.
    fn since_it_moved(&self, tip: u32) -> Duration {
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        if moved.0 != tip {
            *moved = (tip, Instant::now());
        }
        moved.1.elapsed()
    }
}
