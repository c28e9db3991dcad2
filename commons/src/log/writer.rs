//! Appending to a log.

use std::ops::Range;
use std::path::Path;

use tlog_tiles::{EMPTY_HASH, Hash};

use super::bundle::Bundle;
use super::checkpoint::{self, SignedTree};
use super::error::LogError;
use super::files::Files;
use super::frontier::{Frontier, counts};
use super::key::LogKey;
use super::proof::leaf_hash;
use super::reader::Log;
use super::source::Folder;
use super::{HEIGHT, MAX_SIZE, WIDTH, paths};

/// The one writer of a log in a folder.
///
/// What counts is the signed checkpoint in the folder, which is written last: after a kill, files beyond it
/// are no part of the log and are overwritten in time, and files that it covers never change.
pub struct Writer {
    files: Files,
    key: LogKey,
    tree: SignedTree,
    edge: Frontier,
    bundle: Bundle,
    unsettled: bool,
}

impl Writer {
    /// Opens the log in the folder `dir`, or begins one there, and keeps other writers out of it.
    ///
    /// A log just begun is empty and has a checkpoint that says so.
    ///
    /// # Errors
    ///
    /// [`LogError::Locked`] if another writer is at work; [`LogError::CheckpointLost`] if there is part of a
    /// log without its checkpoint; [`LogError::Io`] if the folder cannot be written; and all that
    /// [`Log::open`] and [`Log::entries`] give if the log there is damaged or is not that of `key`.
    pub fn open(dir: &Path, key: LogKey) -> Result<Writer, LogError> {
        let mut files = Files::open(dir)?;
        if !files.has(paths::CHECKPOINT)? {
            begin(&mut files, &key)?;
        }
        let log = Log::open(Folder(dir.to_owned()), &key.verifier())?;
        let edge = log.edge()?.clone();
        let bundle = if log.size().is_multiple_of(WIDTH as u64) {
            Bundle::default()
        } else {
            log.bundle(&log.tiles()?, log.size() >> HEIGHT)?
        };
        let tree = log.into_tree();
        Ok(Writer { files, key, tree, edge, bundle, unsettled: false })
    }

    /// Appends a batch of entries, publishes the checkpoint of the log with them, and returns their indexes.
    ///
    /// The batch goes in as a whole or, on an error, not at all.
    ///
    /// # Errors
    ///
    /// [`LogError::EmptyEntry`] or [`LogError::LongEntry`] for an entry that is not of 1 to 65535 bytes, and
    /// [`LogError::TooLarge`] for more entries than the log can take, before anything is written;
    /// [`LogError::Io`] if a file cannot be written. If that file is the checkpoint, every later call gives
    /// [`LogError::Unsettled`], since going on from either state could contradict the other.
    pub fn append(&mut self, entries: &[Vec<u8>]) -> Result<Range<u64>, LogError> {
        if self.unsettled {
            return Err(LogError::Unsettled);
        }
        let lengths = entries.iter().enumerate().map(|(position, entry)| length(position, entry));
        let lengths = lengths.collect::<Result<Vec<u16>, LogError>>()?;
        let start = self.size();
        let end = start.saturating_add(entries.len() as u64);
        if end > MAX_SIZE {
            return Err(LogError::TooLarge(end));
        }
        if entries.is_empty() {
            return Ok(start..end);
        }
        // Copies, so that a failure leaves the state of the published tree.
        let (mut edge, mut bundle) = (self.edge.clone(), self.bundle.clone());
        let files = &mut self.files;
        for (entry, length) in entries.iter().zip(lengths) {
            bundle.push(length, entry);
            if bundle.len() == WIDTH {
                files.write(&paths::entries(edge.size() >> HEIGHT, WIDTH), bundle.bytes())?;
                bundle = Bundle::default();
            }
            edge.push(leaf_hash(entry), &mut |level, number, tile| {
                files.write(&paths::tile(level, number, WIDTH), tile)
            })?;
        }
        write_partial(files, start, &edge, &bundle)?;
        files.sync()?;
        let tree = checkpoint::sign(&self.key, end, edge.root()?)?;
        self.unsettled = true;
        files.write(paths::CHECKPOINT, tree.text.as_bytes())?;
        files.sync()?;
        self.unsettled = false;
        (self.tree, self.edge, self.bundle) = (tree, edge, bundle);
        drop_partial(&self.files, start, end);
        Ok(start..end)
    }

    /// The entries that the log has.
    pub fn size(&self) -> u64 {
        self.tree.size
    }

    /// The root hash of the log.
    pub fn root(&self) -> Hash {
        self.tree.root
    }

    /// The signed checkpoint as it was published last.
    pub fn checkpoint(&self) -> &str {
        &self.tree.text
    }
}

fn length(position: usize, entry: &[u8]) -> Result<u16, LogError> {
    match u16::try_from(entry.len()) {
        Ok(0) => Err(LogError::EmptyEntry { position }),
        Ok(length) => Ok(length),
        Err(_) => Err(LogError::LongEntry { position, length: entry.len() }),
    }
}

// The checkpoint comes before any tile, so tiles without one mean that it was lost, not that it is to come.
fn begin(files: &mut Files, key: &LogKey) -> Result<(), LogError> {
    if files.has(paths::TILES)? {
        return Err(LogError::CheckpointLost(files.root().to_owned()));
    }
    let tree = checkpoint::sign(key, 0, EMPTY_HASH)?;
    files.write(paths::CHECKPOINT, tree.text.as_bytes())?;
    files.sync()
}

fn write_partial(files: &mut Files, start: u64, edge: &Frontier, bundle: &Bundle) -> Result<(), LogError> {
    let old = counts(start).chain(std::iter::repeat(0));
    for ((level, old), new) in (0..).zip(old).zip(counts(edge.size())) {
        let tile = edge.tile(level);
        // A tile that did not grow is covered by the published checkpoint.
        if old != new && !tile.is_empty() {
            let width = (new % WIDTH as u64) as usize;
            files.write(&paths::tile(level, new >> HEIGHT, width), tile)?;
        }
    }
    if bundle.len() > 0 {
        files.write(&paths::entries(edge.size() >> HEIGHT, bundle.len()), bundle.bytes())?;
    }
    Ok(())
}

// Once full tiles are published their partial versions serve nobody, and it is no harm if some stay.
fn drop_partial(files: &Files, start: u64, end: u64) {
    let old = counts(start).chain(std::iter::repeat(0));
    for ((level, old), new) in (0..).zip(old).zip(counts(end)) {
        for number in (old >> HEIGHT)..(new >> HEIGHT) {
            let _ = files.remove_folder(&paths::partials(&paths::tile(level, number, WIDTH)));
            if level == 0 {
                let _ = files.remove_folder(&paths::partials(&paths::entries(number, WIDTH)));
            }
        }
    }
}
