//! Talking to the process that has the wallet: one request and one reply, each a line of JSON, over a Unix socket in the
//! data directory. Only one process may have a wallet; commands of others go through here.

mod execute;
mod request;
mod socket;

pub use execute::execute;
pub use request::{Reply, Request};
pub use socket::{ControlError, ask, serve, socket_path};
