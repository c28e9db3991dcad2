//! Building a shard set, in parallel, with memory that does not grow with the corpus.
//!
//! One shard is built by one thread at a time, text by text and piece by piece; what a thread holds is the text it is at and
//! the tokens of a piece. A finished shard leaves a note of its token counts, so an interrupted build goes on where it was.

use std::fs;
use std::io::{self, BufWriter, Write};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use thiserror::Error;
use watershed_protocol::data::{Register, Split};
use watershed_protocol::{DecodeError, Digest, EncodeError, ManifestId, ShardSetId, Wire, decode, encode};

use super::SHARD_TEXT;
use super::file::{ShardHeader, width};
use super::index::{Index, IndexEntry};
use super::set::{Shard, ShardSet, Stream};
use crate::library::{FileError, LibraryError, Store, create_folder, persist, read, write};
use crate::snapshot::{Snapshot, SnapshotEntry};
use crate::tokenizer::{Tokenizer, TokenizerError, pieces};

/// Why a build ended without a set.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A text or manifest.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A text that the tokenizer fails on.
    #[error("deposit {id} cannot be tokenised: {source}")]
    Tokenizer {
        /// The deposit.
        id: ManifestId,
        /// Why.
        source: TokenizerError,
    },
    /// Too many shards to be written down.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A note of an earlier, interrupted build.
    #[error("the note of an earlier build is damaged ({0}); delete the folder `partial` and build again")]
    Note(DecodeError),
    /// Nothing to tokenise.
    #[error("the snapshot has no text that everybody may train on")]
    Nothing,
    /// Asked to stop; what is finished is kept.
    #[error("stopped; the same command goes on from here")]
    Stopped,
}

/// A shard set that was built.
#[derive(Clone, Debug)]
pub struct Built {
    /// Its name.
    pub id: ShardSetId,
    /// It.
    pub set: ShardSet,
    /// Shards that an earlier, interrupted build had finished.
    pub resumed: usize,
    /// Characters of the texts that the tokenizer has no token for, and that are therefore not in the shards.
    pub lost: u64,
}

/// What a finished shard leaves for the index.
#[derive(Serialize, Deserialize)]
struct Note {
    sha256: Digest,
    /// Tokens of each text, in order.
    #[serde(deserialize_with = "watershed_protocol::list")]
    counts: Vec<u64>,
    /// Characters that the tokenizer has no token for.
    lost: u64,
}

impl Wire for Note {
    const NAME: &'static str = "watershed/shard-note";
    const VERSION: u8 = 2;
    const MAX_BYTES: usize = 1 << 24;
}

/// The texts of one shard.
struct Group {
    register: Register,
    split: Split,
    texts: Vec<SnapshotEntry>,
}

/// Most texts in a shard, so that a note can be written down.
const MOST_TEXTS: usize = 1 << 20;

/// Cuts the texts that may be trained on into shards; by split, register and id.
fn groups(snapshot: &Snapshot) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for split in Split::ALL {
        for register in Register::ALL {
            let of_stream =
                |e: &SnapshotEntry| e.split == *split && e.register == *register && e.consent.tier.trains();
            let (mut full, mut bytes) = (true, 0u64);
            for entry in snapshot.entries().filter(of_stream) {
                if full {
                    groups.push(Group { register: *register, split: *split, texts: Vec::new() });
                    bytes = 0;
                }
                if let Some(group) = groups.last_mut() {
                    group.texts.push(entry);
                    bytes = bytes.saturating_add(entry.bytes);
                    full = bytes >= SHARD_TEXT || group.texts.len() == MOST_TEXTS;
                }
            }
        }
    }
    groups
}

/// Builds the shard set of a snapshot on the threads of the current pool. `done` is told the bytes of text that are finished,
/// `stopped` is asked between texts.
///
/// # Errors
/// [`BuildError`]. Finished shards are kept and used by the next build.
pub fn build(
    store: &Store,
    snapshot: &Snapshot,
    tokenizer: &Tokenizer,
    done: &(dyn Fn(u64) + Sync),
    stopped: &(dyn Fn() -> bool + Sync),
) -> Result<Built, BuildError> {
    let groups = groups(snapshot);
    if groups.is_empty() {
        return Err(BuildError::Nothing);
    }
    let partial = store.partial_path(snapshot.id(), tokenizer.id());
    create_folder(&partial)?;
    let notes: Vec<(Note, bool)> = groups
        .par_iter()
        .enumerate()
        .map(|(i, group)| {
            let path = partial.join(i.to_string());
            if let Some(bytes) = read(&path, Note::MAX_BYTES as u64)? {
                let note: Note = decode(&bytes).map_err(BuildError::Note)?;
                if note.counts.len() == group.texts.len() && store.shard_path(note.sha256).exists() {
                    done(group.texts.iter().map(|t| t.bytes).sum());
                    return Ok((note, true));
                }
            }
            let note = shard(store, group, tokenizer, done, stopped)?;
            write(&path, &encode(&note)?)?;
            Ok((note, false))
        })
        .collect::<Result<_, BuildError>>()?;
    let resumed = notes.iter().filter(|(_, resumed)| *resumed).count();
    let lost = notes.iter().map(|(note, _)| note.lost).sum();
    let (entries, streams) = join(&groups, notes.into_iter().map(|(note, _)| note));
    let index = Index::encode(&entries);
    let set = ShardSet {
        snapshot: snapshot.id(),
        tokenizer: tokenizer.id(),
        vocabulary: tokenizer.vocab_size(),
        separator: tokenizer.separator(),
        index: Digest(Sha256::digest(&index).into()),
        streams,
    };
    let id = set.id()?;
    let folder = store.set_path(id);
    write(&folder.join("index"), &index)?;
    if let Some(json) = tokenizer.json() {
        write(&folder.join("tokenizer.json"), json)?;
    }
    // Last: a set is there when this file is.
    write(&folder.join("set"), &encode(&set)?)?;
    fs::remove_dir_all(&partial).map_err(FileError::at("remove", &partial))?;
    Ok(Built { id, set, resumed, lost })
}

/// Index entries and streams of finished shards.
fn join(groups: &[Group], notes: impl Iterator<Item = Note>) -> (Vec<IndexEntry>, Vec<Stream>) {
    let mut entries: Vec<IndexEntry> = Vec::new();
    let mut streams: Vec<Stream> = Vec::new();
    let mut first = 0;
    for (group, note) in groups.iter().zip(notes) {
        let (register, split) = (group.register, group.split);
        if streams.last().is_none_or(|s| (s.split, s.register) != (split, register)) {
            streams.push(Stream { split, register, shards: Vec::new() });
            first = 0;
        }
        for (text, tokens) in group.texts.iter().zip(&note.counts) {
            entries.push(IndexEntry { manifest: text.manifest, register, split, first, tokens: *tokens });
            first += tokens;
        }
        if let Some(stream) = streams.last_mut() {
            stream.shards.push(Shard { sha256: note.sha256, tokens: note.counts.iter().sum() });
        }
    }
    (entries, streams)
}

/// Writes and hashes at once.
struct Hashed<W> {
    inner: W,
    hasher: Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Builds one shard and gives it its name.
fn shard(
    store: &Store,
    group: &Group,
    tokenizer: &Tokenizer,
    done: &(dyn Fn(u64) + Sync),
    stopped: &(dyn Fn() -> bool + Sync),
) -> Result<Note, BuildError> {
    let folder = store.root().join("shards");
    create_folder(&folder)?;
    let failed = |e: io::Error| BuildError::File(FileError::at("write a shard in", &folder)(e));
    let file = NamedTempFile::new_in(&folder).map_err(failed)?;
    let vocabulary = tokenizer.vocab_size();
    let header = ShardHeader {
        width: width(vocabulary),
        register: group.register,
        split: group.split,
        vocabulary,
        tokenizer: tokenizer.id(),
    };
    let mut out = Hashed { inner: BufWriter::with_capacity(1 << 18, file), hasher: Sha256::new() };
    out.write_all(&header.to_bytes()).map_err(failed)?;
    let mut counts = Vec::with_capacity(group.texts.len());
    let (mut tokens, mut bytes, mut lost) = (Vec::new(), Vec::new(), 0);
    for entry in &group.texts {
        if stopped() {
            return Err(BuildError::Stopped);
        }
        let text = store.text(entry.text)?;
        let tokenized = |source| BuildError::Tokenizer { id: entry.manifest, source };
        lost += tokenizer.lost(&text).map_err(tokenized)?;
        let mut count = 0;
        let mut put = |tokens: &[u32], count: &mut u64| {
            bytes.clear();
            if header.width == 2 {
                bytes.extend(tokens.iter().flat_map(|t| (*t as u16).to_le_bytes()));
            } else {
                bytes.extend(tokens.iter().flat_map(|t| t.to_le_bytes()));
            }
            *count += tokens.len() as u64;
            out.write_all(&bytes)
        };
        for piece in pieces(&text) {
            tokens.clear();
            tokenizer.encode_into(piece, &mut tokens).map_err(tokenized)?;
            put(&tokens, &mut count).map_err(failed)?;
        }
        if let Some(separator) = tokenizer.separator() {
            put(&[separator], &mut count).map_err(failed)?;
        }
        counts.push(count);
        done(entry.bytes);
    }
    let Hashed { inner, hasher } = out;
    let file = inner.into_inner().map_err(|e| failed(e.into_error()))?;
    let sha256 = Digest(hasher.finalize().into());
    let path = store.shard_path(sha256);
    create_folder(path.parent().unwrap_or(&folder))?;
    persist(file, &path).map_err(failed)?;
    Ok(Note { sha256, counts, lost })
}
