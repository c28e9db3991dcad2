//! A Bitcoin network of one's own, in one process: for tests, the demo and benchmarks.

mod bitcoind;
mod guard;

use std::path::PathBuf;

use thiserror::Error;

use crate::wallet::ldk::RpcError;

pub use bitcoind::{Bitcoind, find};
pub use guard::{Guarded, free_port};

/// Why there is no regtest.
#[derive(Debug, Error)]
pub enum RegtestError {
    /// No program.
    #[error(
        "there is no bitcoind: run scripts/bitcoind, which gets one, or set WATERSHED_BITCOIND to the path of yours"
    )]
    NoBitcoind,
    /// The variable names something else.
    #[error("WATERSHED_BITCOIND is {}, where there is no program", .0.display())]
    NotThere(PathBuf),
    /// Its folder is in use.
    #[error("a bitcoind runs in {} already, and its chain is {chain}", dir.display())]
    Running {
        /// The folder.
        dir: PathBuf,
        /// The chain source, with its password.
        chain: String,
    },
    /// A file or process.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// It does not answer.
    #[error("bitcoind did not answer within {seconds} s; its log is {}", log.display())]
    Silent {
        /// How long.
        seconds: u64,
        /// Where to look.
        log: PathBuf,
    },
    /// It refused.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// A node has not seen the chain.
    #[error("a node was still at block {at} after {seconds} s; the chain has {height}")]
    Behind {
        /// The node's.
        at: u32,
        /// The chain's.
        height: u32,
        /// How long.
        seconds: u64,
    },
}

impl RegtestError {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
