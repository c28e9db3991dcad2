//! The seed: 24 words of BIP-39, made once, shown once, kept in one file of its owner.

use std::path::{Path, PathBuf};

use ldk_node::bip39::Mnemonic;

use super::config::WalletConfig;
use super::private::write_private;
use crate::wallet::WalletError;

fn path(data: &Path) -> PathBuf {
    data.join("seed.txt")
}

/// Makes a wallet from 32 random bytes. The words are for the person; they are all that is needed to have the on-chain
/// funds back, but channels need the data directory as well.
///
/// # Errors
/// [`WalletError::Exists`], [`WalletError::File`] and [`WalletError::Config`].
pub fn init(data: &Path, config: &WalletConfig, entropy: [u8; 32]) -> Result<Mnemonic, WalletError> {
    let words = Mnemonic::from_entropy(&entropy).map_err(|e| WalletError::Mnemonic(e.to_string()))?;
    create(data, config, &words)?;
    Ok(words)
}

/// Writes the files of a wallet.
pub(super) fn create(data: &Path, config: &WalletConfig, words: &Mnemonic) -> Result<(), WalletError> {
    let path = path(data);
    std::fs::create_dir_all(data).map_err(|source| WalletError::File { path: data.to_owned(), source })?;
    must_be_free(data)?;
    config.save(data)?;
    write_private(&path, format!("{words}\n").as_bytes())
}

/// Whether a folder has no wallet yet.
///
/// # Errors
/// [`WalletError::Exists`]; [`WalletError::File`] for one that cannot be looked into.
pub fn must_be_free(data: &Path) -> Result<(), WalletError> {
    let path = path(data);
    match path.try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => Err(WalletError::Exists(data.to_owned())),
        Err(source) => Err(WalletError::File { path, source }),
    }
}

/// The words of a wallet.
///
/// # Errors
/// [`WalletError::Missing`], [`WalletError::File`] and [`WalletError::Mnemonic`].
pub fn words(data: &Path) -> Result<Mnemonic, WalletError> {
    let path = path(data);
    match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|e| WalletError::Mnemonic(format!("{e}"))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(WalletError::Missing(data.to_owned())),
        Err(source) => Err(WalletError::File { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::restore::restore;
    use super::*;
    use crate::wallet::Network;

    #[test]
    fn a_wallet_is_made_once_and_restored_from_its_words() {
        let config = WalletConfig {
            network: Network::Regtest,
            chain: "tcp://h:1".parse().unwrap(),
            listen: vec![],
            announce: vec![],
            payer: None,
            channels: Default::default(),
        };
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let made = init(one.path(), &config, [5; 32]).unwrap();
        assert_eq!(made.word_count(), 24);
        assert!(matches!(init(one.path(), &config, [6; 32]), Err(WalletError::Exists(_))));
        restore(two.path(), &config, &made.to_string()).unwrap();
        assert_eq!(words(one.path()).unwrap(), words(two.path()).unwrap());
        let wrong = made.to_string().replacen(made.words().next().unwrap(), "zoo", 1);
        assert!(matches!(restore(&two.path().join("x"), &config, &wrong), Err(WalletError::Mnemonic(_))));
        assert!(matches!(words(&two.path().join("y")), Err(WalletError::Missing(_))));
    }
}
