//! What a wallet cannot do, and what to do about it.

use std::path::PathBuf;

use thiserror::Error;
use watershed_protocol::Msat;

use super::ldk::SourceError;
use super::{ChainTrouble, ListenTrouble, NodeId};
use crate::lock::Holder;

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
        "chain source {shown:?}: {why}. Give bitcoind://USER:PASSWORD@HOST:PORT, esplora+https://HOST/api, or ssl://HOST:PORT or \
         tcp://HOST:PORT of an Electrum server"
    )]
    ChainSource {
        /// Its beginning; the rest may hold a password.
        shown: String,
        /// What is wrong.
        why: &'static str,
    },
    /// An address that cannot be listened on, or told to others.
    #[error("the address {address:?}: {why}")]
    Listen {
        /// As given.
        address: String,
        /// What is wrong.
        why: ListenTrouble,
    },
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
    #[error("the wallet in {} is in use by {holder}; stop that first", folder.display())]
    InUse {
        /// Where it is.
        folder: PathBuf,
        /// Who has it.
        holder: Holder,
    },
    /// A copy of a wallet that runs.
    #[error(
        "{} is a copy of the wallet in {}, which {holder} uses now: a wallet runs once only, or its channels are lost. For \
         another miner make another wallet with `init` in a new folder", folder.display(), of.display()
    )]
    CopyInUse {
        /// The copy.
        folder: PathBuf,
        /// What it was copied from.
        of: PathBuf,
        /// Who has that.
        holder: Holder,
    },
    /// A copy that is older than what is known elsewhere.
    #[error(
        "{} is an old copy of a wallet: {why}. Use the newer folder, and never start this one: a peer could take all that is in its \
         channels. If the newer one is lost, `restore` in a new folder brings back what is on chain", folder.display()
    )]
    OldCopy {
        /// The copy.
        folder: PathBuf,
        /// How that is known.
        why: String,
    },
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
        advice: String,
    },
    /// The chain source is of no use.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The node does not see the chain.
    #[error("{}", .0.with_advice())]
    Chain(ChainTrouble),
    /// The node has this payment already.
    #[error("this payment hash is being paid, or was paid before")]
    AlreadyPaying,
    /// The node has a payment to itself with this hash.
    #[error("nothing was sent: this node waits for a payment with the same hash, or had one")]
    HashIsOurs,
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
    /// A node called, or paid, by itself.
    #[error("that is this node itself")]
    Itself,
    /// Nobody there to agree.
    #[error(
        "{0} is away, and closing in agreement needs it: wait until it is back (while this wallet runs, it is called every two \
         seconds), or close with --force, which takes until this side's money is free for some days, and costs more"
    )]
    PeerAway(NodeId),
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
