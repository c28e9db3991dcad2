//! An opened shard set: tokens and their deposits by memory map.

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use watershed_protocol::data::{Register, Split};
use watershed_protocol::{Digest, ShardSetId};

use super::file::{ShardError, ShardFile, ShardHeader};
use super::index::{Index, IndexError};
use super::set::{SetError, ShardSet};
use crate::library::{FileError, Store, read};
use crate::tokenizer::{Separator, Tokenizer, TokenizerError};

/// Consecutive tokens of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Range {
    /// Stream: register.
    pub register: Register,
    /// Stream: split.
    pub split: Split,
    /// Number of the first token within the stream.
    pub first: u64,
    /// How many.
    pub tokens: u64,
}

/// Why a shard set cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// No such set.
    #[error("there is no shard set {0} here; `build` makes one from a snapshot")]
    Unknown(ShardSetId),
    /// Not a set.
    #[error("the shard set {id} is damaged: {source}")]
    Set {
        /// Its name.
        id: ShardSetId,
        /// What is wrong.
        source: SetError,
    },
    /// Another set.
    #[error("the shard set {0} is damaged: its content has another hash")]
    SetHash(ShardSetId),
    /// Not an index.
    #[error("the index of shard set {id} is damaged: {source}")]
    Index {
        /// Of which set.
        id: ShardSetId,
        /// What is wrong.
        source: IndexError,
    },
    /// Another index.
    #[error("the index of shard set {0} is damaged: its content has another hash")]
    IndexHash(ShardSetId),
    /// Not a shard.
    #[error("shard {sha256} is damaged: {source}")]
    Shard {
        /// Its name.
        sha256: Digest,
        /// What is wrong.
        source: ShardError,
    },
    /// A shard of other contents.
    #[error("shard {0} is not the one its set speaks of: header or length differ")]
    Foreign(Digest),
    /// Another shard.
    #[error("shard {0} is damaged: its content has another hash")]
    ShardHash(Digest),
    /// Index and set speak of different numbers of tokens.
    #[error("shard set {id}: the index has {indexed} tokens of {split} {register}, the shards {tokens}")]
    Tokens {
        /// The set.
        id: ShardSetId,
        /// Stream: register.
        register: Register,
        /// Stream: split.
        split: Split,
        /// By the index.
        indexed: u64,
        /// By the shards.
        tokens: u64,
    },
    /// Tokens that the set does not have.
    #[error("{split} {register} ends at token {end}; tokens from {first} on were asked for")]
    Beyond {
        /// Stream: register.
        register: Register,
        /// Stream: split.
        split: Split,
        /// Where the stream ends.
        end: u64,
        /// What was asked for.
        first: u64,
    },
    /// The tokenizer that lies beside the set.
    #[error("the tokenizer of shard set {id} cannot be used: {source}")]
    Tokenizer {
        /// The set.
        id: ShardSetId,
        /// What is wrong.
        source: TokenizerError,
    },
    /// Another tokenizer.
    #[error("the tokenizer beside shard set {0} is not the one it was made with")]
    TokenizerHash(ShardSetId),
}

struct OpenStream {
    register: Register,
    split: Split,
    /// Mapped shards with the number of their first token.
    shards: Vec<(u64, Mmap)>,
    end: u64,
}

/// A shard set with its files mapped.
pub struct OpenSet {
    id: ShardSetId,
    set: ShardSet,
    index: Mmap,
    streams: Vec<OpenStream>,
}

#[allow(unsafe_code)]
fn map(path: &Path) -> Result<Mmap, FileError> {
    let file = File::open(path).map_err(FileError::at("open", path))?;
    // SAFETY: files of a library are written under another name and never changed after they have theirs.
    unsafe { Mmap::map(&file) }.map_err(FileError::at("map", path))
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

impl OpenSet {
    /// Opens a set: checks the hashes of set and index, and of every shard its header and length. The tokens themselves are
    /// hashed by [`OpenSet::check_shards`].
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(store: &Store, id: ShardSetId) -> Result<Self, OpenError> {
        let folder = store.set_path(id);
        let limit = <ShardSet as watershed_protocol::Wire>::MAX_BYTES as u64;
        let bytes = read(&folder.join("set"), limit)?.ok_or(OpenError::Unknown(id))?;
        if ShardSetId::of(&bytes) != id {
            return Err(OpenError::SetHash(id));
        }
        let set = ShardSet::parse(&bytes).map_err(|source| OpenError::Set { id, source })?;
        let index = map(&folder.join("index"))?;
        if sha256(&index) != set.index {
            return Err(OpenError::IndexHash(id));
        }
        let parsed = Index::parse(&index).map_err(|source| OpenError::Index { id, source })?;
        let mut streams = Vec::with_capacity(set.streams.len());
        let mut indexed = 0;
        for stream in &set.streams {
            let (register, split) = (stream.register, stream.split);
            let expected = ShardHeader {
                width: set.width(),
                register,
                split,
                vocabulary: set.vocabulary,
                tokenizer: set.tokenizer,
            };
            let mut end = 0;
            let mut shards = Vec::with_capacity(stream.shards.len());
            for shard in &stream.shards {
                let sha256 = shard.sha256;
                let map = map(&store.shard_path(sha256))?;
                let file = ShardFile::parse(&map).map_err(|source| OpenError::Shard { sha256, source })?;
                if *file.header() != expected || file.len() as u64 != shard.tokens {
                    return Err(OpenError::Foreign(sha256));
                }
                shards.push((end, map));
                end += shard.tokens;
            }
            let found = parsed.tokens(register, split);
            if found != end {
                return Err(OpenError::Tokens { id, register, split, indexed: found, tokens: end });
            }
            indexed += parsed.entries().filter(|e| (e.register, e.split) == (register, split)).count();
            streams.push(OpenStream { register, split, shards, end });
        }
        // An entry of a stream that the set does not have.
        if indexed != parsed.len() {
            return Err(OpenError::Index { id, source: IndexError::Entry(indexed) });
        }
        Ok(Self { id, set, index, streams })
    }

    /// Its name.
    pub fn id(&self) -> ShardSetId {
        self.id
    }

    /// What it says of itself.
    pub fn set(&self) -> &ShardSet {
        &self.set
    }

    /// From tokens to deposits.
    ///
    /// # Errors
    /// None in practice: the index was checked when the set was opened.
    pub fn index(&self) -> Result<Index<'_>, OpenError> {
        Index::outline(&self.index).map_err(|source| OpenError::Index { id: self.id, source })
    }

    /// Appends the tokens of a range.
    ///
    /// # Errors
    /// [`OpenError::Beyond`] if the stream does not have them all; nothing is appended then.
    pub fn tokens(&self, range: &Range, out: &mut Vec<u32>) -> Result<(), OpenError> {
        let (register, split) = (range.register, range.split);
        let beyond = |end| OpenError::Beyond { register, split, end, first: range.first };
        let stream = self.streams.iter().find(|s| (s.register, s.split) == (register, split));
        let stream = stream.ok_or(beyond(0))?;
        let end = range.first.checked_add(range.tokens).filter(|end| *end <= stream.end);
        let end = end.ok_or(beyond(stream.end))?;
        let mut at = stream.shards.partition_point(|(first, _)| *first <= range.first).saturating_sub(1);
        let mut next = range.first;
        while next < end {
            let Some((first, map)) = stream.shards.get(at) else { return Err(beyond(next)) };
            let sha256 = Digest([0; 32]);
            let file = ShardFile::parse(map).map_err(|source| OpenError::Shard { sha256, source })?;
            let before = out.len();
            file.read((next - first) as usize, (end - next) as usize, out);
            next += (out.len() - before) as u64;
            at += 1;
        }
        Ok(())
    }

    /// Hashes every shard and checks every token; `each` is told the bytes done.
    ///
    /// # Errors
    /// [`OpenError::ShardHash`] and [`OpenError::Shard`] for the first that is damaged.
    pub fn check_shards(&self, each: &(dyn Fn(u64) + Sync)) -> Result<(), OpenError> {
        for (stream, named) in self.streams.iter().zip(&self.set.streams) {
            for ((_, map), shard) in stream.shards.iter().zip(&named.shards) {
                if sha256(map) != shard.sha256 {
                    return Err(OpenError::ShardHash(shard.sha256));
                }
                let check = ShardFile::parse(map).and_then(|file| file.check_tokens());
                check.map_err(|source| OpenError::Shard { sha256: shard.sha256, source })?;
                each(map.len() as u64);
            }
        }
        Ok(())
    }

    /// The tokenizer that the set was made with.
    ///
    /// # Errors
    /// [`OpenError::Tokenizer`] and [`OpenError::TokenizerHash`] if the file beside the set is not it.
    pub fn tokenizer(&self, store: &Store) -> Result<Tokenizer, OpenError> {
        let id = self.id;
        let path = store.set_path(id).join("tokenizer.json");
        let tokenizer = match read(&path, Tokenizer::MAX_JSON)? {
            None => Tokenizer::bytes(),
            Some(json) => {
                let wrap = |source| OpenError::Tokenizer { id, source };
                // The separator is known by its number; its name is what the tokenizer calls it.
                let any = Tokenizer::from_json(&json, Separator::None).map_err(wrap)?;
                match self.set.separator.and_then(|number| any.token(number)) {
                    None => any,
                    Some(name) => Tokenizer::from_json(&json, Separator::Token(name)).map_err(wrap)?,
                }
            }
        };
        if tokenizer.id() == self.set.tokenizer { Ok(tokenizer) } else { Err(OpenError::TokenizerHash(id)) }
    }
}
