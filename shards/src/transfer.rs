//! Moving a shard set between libraries: which files it consists of, and putting them in their places.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::Digest as _;
use thiserror::Error;
use watershed_protocol::market::view::FileView;
use watershed_protocol::{Digest, ShardSetId, SystemTrouble, Wire as _, told};

use crate::library::{FileError, Store, create_folder, read, write};
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

/// Largest file of a set that is taken from somebody else.
pub const MAX_FILE: u64 = 4 << 30;

/// Why a set was not brought here.
#[derive(Debug, Error)]
pub enum FetchError<E: std::fmt::Display> {
    /// A file that no set has.
    #[error("whoever has the text names a file of an unknown kind, {0:?}")]
    Kind(String),
    /// A file that is too large.
    #[error("whoever has the text names a file of {0} bytes; a shard set's have {MAX_FILE} at most")]
    TooLarge(u64),
    /// It did not arrive.
    #[error("{0}")]
    Download(E),
    /// What arrived is something else.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// What arrived does not make the set.
    #[error("{}", not_open(.0))]
    Open(#[from] OpenError),
}

/// What an arrived set that does not open means: that it cannot be read says nothing of what is in it.
fn not_open(e: &OpenError) -> String {
    match SystemTrouble::behind(e) {
        Some(_) => format!("the text cannot be read: {}", told(e)),
        None => format!("the text is not what its name says: {e}"),
    }
}

/// Brings the set `id` into `store` if it is not there: `download` is given each file's SHA-256, where it is to be put, and its
/// length, and goes on where it broke off. All names and lengths are checked before anything is downloaded.
///
/// # Errors
/// [`FetchError`].
pub async fn fetch<E, F>(
    store: &Store,
    id: ShardSetId,
    files: &[FileView],
    download: impl Fn(Digest, PathBuf, u64) -> F,
) -> Result<(), FetchError<E>>
where
    E: std::fmt::Display,
    F: Future<Output = Result<(), E>>,
{
    if OpenSet::open(store, id).is_ok() {
        return Ok(());
    }
    let wanted = files.iter().map(|file| {
        if file.bytes > MAX_FILE {
            return Err(FetchError::TooLarge(file.bytes));
        }
        match file.role.as_str() {
            "set" => Ok((SetFile::Set, file)),
            "index" => Ok((SetFile::Index, file)),
            "shard" => Ok((SetFile::Shard(file.sha256), file)),
            other => Err(FetchError::Kind(other.chars().take(40).collect())),
        }
    });
    for (kind, file) in wanted.collect::<Result<Vec<_>, _>>()? {
        let incoming = store.root().join("incoming").join(file.sha256.to_string());
        download(file.sha256, incoming.clone(), file.bytes).await.map_err(FetchError::Download)?;
        install_file(store, id, kind, &incoming)?;
    }
    OpenSet::open(store, id).map(drop).map_err(FetchError::Open)
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

/// As [`install`], for a file on the disk, which is moved: a shard never is in memory as a whole.
///
/// # Errors
/// [`InstallError`].
pub fn install_file(store: &Store, id: ShardSetId, file: SetFile, from: &Path) -> Result<(), InstallError> {
    let read = |limit| read(from, limit).map(Option::unwrap_or_default);
    match file {
        SetFile::Set => install(store, id, file, &read(ShardSet::MAX_BYTES as u64)?),
        SetFile::Index => install(store, id, file, &read(u64::MAX - 1)?),
        SetFile::Shard(sha256) => {
            let at = |action| FileError::at(action, from);
            let mut hasher = sha2::Sha256::new();
            let mut opened = File::open(from).map_err(at("open"))?;
            let mut piece = vec![0; 1 << 18];
            loop {
                match opened.read(&mut piece).map_err(at("read"))? {
                    0 => break,
                    n => hasher.update(&piece[..n]),
                }
            }
            if Digest(hasher.finalize().into()) != sha256 {
                return Err(InstallError::Other("shard"));
            }
            let path = store.shard_path(sha256);
            create_folder(path.parent().unwrap_or(Path::new(".")))?;
            std::fs::rename(from, &path).map_err(FileError::at("move", from))?;
            Ok(())
        }
    }
}
