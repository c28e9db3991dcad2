//! Shards: a snapshot's texts as tokens, in files that are named by their hash and read by memory map.
//!
//! The texts that may be trained on (tiers `train` and `train+index`) form one stream of tokens for each register and split:
//! deposit after deposit, ascending by id, each followed by the tokenizer's separator if it has one. A stream is cut into
//! shards between deposits, as soon as a shard has [`SHARD_TEXT`] bytes of text. So the same snapshot and tokenizer give the
//! same files on any machine, however many threads build them.
//!
//! # Files
//!
//! ```text
//! shards/ab/<sha256>     a shard: header (see `file`), then tokens
//! sets/<id>/set          the shard set: what was tokenised with what, and which shards make up which stream (see `set`)
//! sets/<id>/index        which tokens of which stream came from which deposit (see `index`)
//! sets/<id>/tokenizer.json   the tokenizer, unless it is the one of bytes
//! ```

mod build;
mod file;
mod index;
mod prune;
mod read;
mod set;

pub use build::{BuildError, Built, build};
pub use file::{ShardError, ShardFile, ShardHeader};
pub use index::{Index, IndexEntry, IndexError};
pub use prune::{PruneError, Pruned, prune, sets_with};
pub use read::{OpenError, OpenSet, Range};
pub use set::{SetError, Shard, ShardSet, Stream};

/// Bytes of text from which a shard is full.
pub const SHARD_TEXT: u64 = 8 << 20;
