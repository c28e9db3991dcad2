//! A wallet from words that were written down.

use std::path::Path;

use ldk_node::bip39::Mnemonic;

use super::config::WalletConfig;
use super::node::create_from_first_block;
use super::seed::create;
use crate::wallet::WalletError;

/// Makes a wallet from words that were shown before. Its coins are looked for from the first block on, which with a
/// bitcoind on mainnet takes hours at the first start.
///
/// # Errors
/// [`WalletError::Mnemonic`] and [`WalletError::Start`]; those of [`super::init`].
pub fn restore(data: &Path, config: &WalletConfig, words: &str) -> Result<(), WalletError> {
    let words: Mnemonic = words.trim().parse().map_err(|e| WalletError::Mnemonic(format!("{e}")))?;
    create(data, config, &words)?;
    create_from_first_block(data)
}
