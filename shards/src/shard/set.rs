//! A shard set: the names of everything that a snapshot became under a tokenizer.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use watershed_protocol::data::{Register, Split};
use watershed_protocol::{
    DecodeError, Digest, EncodeError, ShardSetId, SnapshotId, TokenizerId, Wire, decode, encode,
};

use super::file::width;

/// One shard of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// SHA-256 of the file, as `sha256sum` prints it.
    pub sha256: Digest,
    /// Tokens in it.
    pub tokens: u64,
}

/// All tokens of one register and split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Trained on or measured with.
    pub split: Split,
    /// Register of the texts.
    pub register: Register,
    /// The shards, in order.
    #[serde(deserialize_with = "watershed_protocol::list")]
    pub shards: Vec<Shard>,
}

impl Stream {
    /// Tokens of the stream.
    pub fn tokens(&self) -> u64 {
        self.shards.iter().map(|s| s.tokens).sum()
    }
}

/// A tokenised snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardSet {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The tokenizer.
    pub tokenizer: TokenizerId,
    /// Tokens are below this.
    pub vocabulary: u32,
    /// The token behind every text.
    pub separator: Option<u32>,
    /// SHA-256 of the index file.
    pub index: Digest,
    /// Streams that have any text, by split and register.
    #[serde(deserialize_with = "watershed_protocol::list")]
    pub streams: Vec<Stream>,
}

impl Wire for ShardSet {
    const NAME: &'static str = "watershed/shard-set";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = 1 << 24;
}

/// Why bytes are no shard set.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SetError {
    /// Not the encoding of one.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Streams out of order, twice, or without shards.
    #[error("the streams of a shard set are out of order or empty")]
    Streams,
    /// More tokens than can be counted.
    #[error("the streams of a shard set have more tokens than can be counted")]
    Tokens,
    /// A separator that the vocabulary does not have.
    #[error("the separator {0} is not in the vocabulary")]
    Separator(u32),
}

impl ShardSet {
    /// Reads a set and checks what can be checked without its files.
    ///
    /// # Errors
    /// [`SetError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, SetError> {
        let set: Self = decode(bytes)?;
        let order = set.streams.is_sorted_by(|a, b| (a.split, a.register) < (b.split, b.register));
        if !order || set.streams.iter().any(|s| s.shards.is_empty()) {
            return Err(SetError::Streams);
        }
        let tokens =
            set.streams.iter().flat_map(|s| &s.shards).try_fold(0u64, |sum, s| sum.checked_add(s.tokens));
        tokens.ok_or(SetError::Tokens)?;
        match set.separator.filter(|s| *s >= set.vocabulary) {
            Some(separator) => Err(SetError::Separator(separator)),
            None => Ok(set),
        }
    }

    /// Its name.
    ///
    /// # Errors
    /// If it has too many shards to be written down.
    pub fn id(&self) -> Result<ShardSetId, EncodeError> {
        Ok(ShardSetId::of(&encode(self)?))
    }

    /// Bytes per token.
    pub fn width(&self) -> u8 {
        width(self.vocabulary)
    }

    /// The stream of a register.
    pub fn stream(&self, register: Register, split: Split) -> Option<&Stream> {
        self.streams.iter().find(|s| s.register == register && s.split == split)
    }

    /// Tokens of a stream, 0 if there is none.
    pub fn tokens(&self, register: Register, split: Split) -> u64 {
        self.stream(register, split).map_or(0, Stream::tokens)
    }
}
