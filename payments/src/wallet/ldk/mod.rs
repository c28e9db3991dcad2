//! The embedded wallet: LDK Node in this process, with its data below one directory.

mod config;
mod first_look;
mod hold;
mod node;
mod offers;
mod private;
mod restore;
mod rpc;
mod seed;
mod unfinished;
mod view;

pub use config::{ChainSource, WalletConfig};
pub use hold::LIMITS;
pub use node::LdkWallet;
pub(crate) use private::write_private;
pub use restore::restore;
pub use rpc::{Rpc, RpcError};
pub use seed::{init, words};
