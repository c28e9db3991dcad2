//! Moving a shard set between libraries: which files it consists of, and putting them in their places.

use std::path::PathBuf;

use sha2::Digest as _;
use thiserror::Error;
use watershed_protocol::{Digest, ShardSetId};

use crate::library::{FileError, Store, write};
use crate::shard::{OpenError, OpenSet, SetError, ShardSet};

/// One file of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetFile {
    /// What the set says of itself.
    Set,
    /// From tokens to deposits.
    Index,
    /// Tokens, by the file's SHA-256.
    Shard(Digest),
}

/// A file that is not of this set.
#[derive(Debug, Error)]
pub enum InstallError {
    /// Another hash.
    #[error("the file is not the {0} of this set")]
    Other(&'static str),
    /// No set.
    #[error(transparent)]
    Set(#[from] SetError),
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The files of a set that is open in `store`, with their places.
///
/// # Errors
/// [`OpenError`].
pub fn files(store: &Store, id: ShardSetId) -> Result<Vec<(SetFile, PathBuf)>, OpenError> {
    let set = OpenSet::open(store, id)?;
    let mut files = vec![
        (SetFile::Set, store.set_path(id).join("set")),
        (SetFile::Index, store.set_path(id).join("index")),
    ];
    for shard in set.set().streams.iter().flat_map(|s| &s.shards) {
        files.push((SetFile::Shard(shard.sha256), store.shard_path(shard.sha256)));
    }
    Ok(files)
}

/// Puts a file of the set `id` in its place: first the set itself, then the index and the shards that it names.
///
/// # Errors
/// [`InstallError`].
pub fn install(store: &Store, id: ShardSetId, file: SetFile, bytes: &[u8]) -> Result<(), InstallError> {
    let hash = Digest(sha2::Sha256::digest(bytes).into());
    let folder = store.set_path(id);
    let path = match file {
        SetFile::Set => {
            if ShardSetId::of(bytes) != id {
                return Err(InstallError::Other("description"));
            }
            ShardSet::parse(bytes)?;
            folder.join("set")
        }
        SetFile::Index => folder.join("index"),
        SetFile::Shard(sha256) => {
            if hash != sha256 {
                return Err(InstallError::Other("shard"));
            }
            store.shard_path(sha256)
        }
    };
    write(&path, bytes)?;
    Ok(())
}
