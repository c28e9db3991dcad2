//! What a wallet cannot do, and what to do about it.

use std::path::PathBuf;

use thiserror::Error;
use watershed_protocol::Msat;

use super::ChainTrouble;

/// Why a wallet refused.
#[derive(Debug, Error)]
pub enum WalletError {
    /// Not `id@host:port`.
    #[error("{0:?} is no node address; it has the form <66 hex digits>@host:port")]
    Address(String),
    /// Not a chain address of this network.
    #[error("{address:?} is no {network} address")]
    ChainAddress {
        /// As given.
        address: String,
        /// The wallet's.
        network: String,
    },
    /// A chain source that cannot be read.
    #[error(
        "chain source {0:?}: give http://USER:PASSWORD@HOST:PORT of a bitcoind, or an Esplora or Electrum server"
    )]
    ChainSource(String),
    /// Words that are no mnemonic.
    #[error("these words are no BIP-39 mnemonic: {0}")]
    Mnemonic(String),
    /// A file of the wallet.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process has the wallet.
    #[error("the wallet in {} is in use by another process; stop that first", .0.display())]
    InUse(PathBuf),
    /// Nothing there.
    #[error("there is no wallet in {}; make one with `init`", .0.display())]
    Missing(PathBuf),
    /// Already one there.
    #[error("there is a wallet in {} already", .0.display())]
    Exists(PathBuf),
    /// A configuration that cannot be read.
    #[error("{}: {reason}", path.display())]
    Config {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The node did not start.
    #[error("the Lightning node does not start: {reason}. {advice}")]
    Start {
        /// In its words.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// The node does not see the chain.
    #[error("{}", .0.with_advice())]
    Chain(ChainTrouble),
    /// The node has this payment already.
    #[error("this payment hash is being paid, or was paid before")]
    AlreadyPaying,
    /// Nothing was sent.
    #[error("the payment could not be sent: {0}")]
    NotSent(&'static str),
    /// Not enough in the on-chain wallet.
    #[error(
        "not enough on-chain funds for a channel of {sats} sat: {spendable} sat can be spent; send more to `wallet address`"
    )]
    Funds {
        /// Wanted.
        sats: u64,
        /// There.
        spendable: u64,
    },
    /// No connection.
    #[error("no connection to {0}; check the address and that the peer runs")]
    Connection(String),
    /// No such channel.
    #[error("there is no channel {0}")]
    NoChannel(String),
    /// An amount that Lightning cannot carry.
    #[error("{0} cannot be invoiced")]
    Amount(Msat),
    /// A final CLTV outside of what nodes accept.
    #[error(
        "an HTLC cannot be held for {asked} blocks: the network carries {most} at most (BOLT 11 field c, BOLT 4 \
         expiry_too_far), of which {overhead} are needed for safety"
    )]
    HoldTooLong {
        /// Wanted.
        asked: u32,
        /// The limit on the whole.
        most: u32,
        /// What a window is longer by.
        overhead: u32,
    },
    /// The node's own signature failed.
    #[error("signing failed: {0}")]
    Signing(String),
    /// Anything else that the node refused.
    #[error("the Lightning node refused to {action}: {reason}")]
    Node {
        /// What was asked.
        action: &'static str,
        /// In its words.
        reason: String,
    },
    /// A thread of the node died.
    #[error("a task of the wallet ended by itself: {0}")]
    Task(String),
}
