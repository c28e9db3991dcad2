//! An append-only transparency log in the C2SP formats.
//!
//! [`Writer`] keeps a log in a folder that any static web server can serve; [`Log`] reads one from any
//! [`Source`] and believes nothing there but what the signed checkpoint vouches for. The folder holds:
//!
//! - `checkpoint`: the tree's size and root hash as a signed note
//!   (<https://c2sp.org/tlog-checkpoint>, <https://c2sp.org/signed-note>);
//! - `tile/L/N` and `tile/entries/N`: the tree's hashes and the entries, 256 to a file, with `.p/W` behind
//!   the number of one that has only `W` so far (<https://c2sp.org/tlog-tiles>);
//! - `.lock` and `.next`: the writer's own, which need not be served.
//!
//! The tree is that of RFC 6962. A log is known by its verifier key, a line of text ([`LogVerifier`]).

mod bundle;
mod checkpoint;
mod error;
mod fetch;
mod files;
mod frontier;
mod key;
mod paths;
mod pins;
mod proof;
mod reader;
mod source;
mod tiles;
mod writer;

#[cfg(test)]
mod tests;

pub use error::{KeyError, LogError, SourceError};
pub use key::{LogKey, LogVerifier};
pub use pins::{PinError, Pins};
pub use proof::{check_consistency, check_inclusion, leaf_hash};
pub use reader::{Each, Entries, Log};
pub use source::{Folder, Source};
pub use tlog_tiles::Hash;
pub use writer::Writer;

/// The most bytes that one entry may have, which is what its two-byte length field can say.
pub const MAX_ENTRY: usize = u16::MAX as usize;

/// The most entries that a log may have, which is what tiles of the levels 0 to 5 can hold.
pub const MAX_SIZE: u64 = (1 << 48) - 1;

/// The most bytes that a checkpoint may have, cosignatures included.
pub const MAX_CHECKPOINT: usize = 64 * 1024;

/// Hashes in a full tile, and entries in a full bundle.
const WIDTH: usize = 256;

/// The binary logarithm of [`WIDTH`]: the levels of the tree that one level of tiles spans.
const HEIGHT: u8 = 8;

/// Bytes in a full tile.
const TILE_BYTES: usize = WIDTH * tlog_tiles::HASH_SIZE;
