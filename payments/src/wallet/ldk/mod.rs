//! The embedded wallet: LDK Node in this process, with its data below one directory.

mod config;
mod first_look;
mod hold;
mod node;
mod offers;
mod origin;
mod private;
mod restore;
mod rpc;
mod seed;
mod source;
mod unfinished;
mod view;

pub use config::{ChainSource, WalletConfig};
pub use hold::LIMITS;
pub use node::LdkWallet;
pub(crate) use origin::condemn;
pub(crate) use private::write_private;
pub use restore::restore;
pub use rpc::{Rpc, RpcError};
pub use seed::{init, must_be_free, words};
pub use source::SourceError;
