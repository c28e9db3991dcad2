//! Reading a log that nobody is trusted for but the holder of its key.

use std::ops::Range;
use std::sync::OnceLock;

use tlog_tiles::{Hash, Tile};

use super::bundle::Bundle;
use super::checkpoint::{self, SignedTree};
use super::error::LogError;
use super::frontier::Frontier;
use super::key::LogVerifier;
use super::proof::{check_consistency, leaf_hash};
use super::source::Source;
use super::tiles::Tiles;
use super::{MAX_CHECKPOINT, WIDTH, fetch, paths};

/// What is done with each entry that [`Log::verify_entries`] reads: it gets the index and the bytes.
pub type Each<'a, E> = dyn FnMut(u64, &[u8]) -> Result<(), E> + 'a;

/// A log as its checkpoint stood when it was opened.
///
/// All that it gives is held against the signed root hash first. Whether that checkpoint is the newest, or
/// the one that others see, is for the caller to find out: see [`Log::check_extends`].
pub struct Log<S> {
    source: S,
    tree: SignedTree,
    edge: OnceLock<Frontier>,
}

impl<S: Source> Log<S> {
    /// Opens a log by reading and verifying its checkpoint; no other file is read yet.
    ///
    /// # Errors
    ///
    /// [`LogError::Source`] or [`LogError::NoCheckpoint`] if there is no checkpoint to be had;
    /// [`LogError::MalformedCheckpoint`], [`LogError::NotSigned`], [`LogError::FalseSignature`],
    /// [`LogError::WrongOrigin`] or [`LogError::TooLarge`] if it is not one to believe.
    pub fn open(source: S, verifier: &LogVerifier) -> Result<Log<S>, LogError> {
        let bytes = fetch::file(&source, paths::CHECKPOINT, MAX_CHECKPOINT)?;
        let tree = checkpoint::verify(bytes.ok_or(LogError::NoCheckpoint)?, verifier)?;
        Ok(Log { source, tree, edge: OnceLock::new() })
    }

    /// The entries that the log has.
    pub fn size(&self) -> u64 {
        self.tree.size
    }

    /// The signed root hash.
    pub fn root(&self) -> Hash {
        self.tree.root
    }

    /// The signed checkpoint as it was read, to be kept for [`Log::check_extends`] at a later time.
    pub fn checkpoint(&self) -> &str {
        &self.tree.text
    }

    /// The entries of `range` with their indexes, read bundle by bundle; no more than one is held at once.
    ///
    /// The iterator ends after the first error.
    ///
    /// # Errors
    ///
    /// [`LogError::OutOfRange`] if the log does not have them all. Here and from the iterator: what
    /// [`Log::inclusion_proof`] gives for files that cannot be had or believed, and [`LogError::BundleCut`]
    /// and [`LogError::BundleRest`] for bundles.
    pub fn entries(&self, range: Range<u64>) -> Result<Entries<'_, S>, LogError> {
        let Range { start, end } = range;
        if start > end || end > self.size() {
            return Err(LogError::OutOfRange { start, end, size: self.size() });
        }
        Ok(Entries { log: self, tiles: self.tiles()?, next: start, end, bundle: None })
    }

    /// Reads all entries, hands each to `each` in order, and holds the tree that they make against the
    /// signed root hash.
    ///
    /// No tile is read, so this holds even where the tiles are gone. It needs memory for one bundle and for
    /// the tree's right edge only. The root is known only at the end: what `each` was given is not to be
    /// believed before this returns without an error.
    ///
    /// # Errors
    ///
    /// Whatever `each` returns; [`LogError::Source`], [`LogError::Missing`], [`LogError::BundleCut`] or
    /// [`LogError::BundleRest`] if a bundle cannot be read; [`LogError::AlteredEntries`] if the entries are
    /// not those that were signed.
    pub fn verify_entries<E: From<LogError>>(&self, each: &mut Each<'_, E>) -> Result<(), E> {
        let mut edge = Frontier::default();
        while edge.size() < self.size() {
            let number = edge.size() / WIDTH as u64;
            let bundle = fetch::entries(&self.source, number, self.width(number))?;
            for entry in bundle.entries() {
                each(edge.size(), entry)?;
                edge.push(leaf_hash(entry), &mut |_, _, _| Ok(()))?;
            }
        }
        if edge.root()? == self.root() { Ok(()) } else { Err(LogError::AlteredEntries.into()) }
    }

    /// The proof that the entry at `index` is in the log, for [`check_inclusion`](super::check_inclusion).
    ///
    /// # Errors
    ///
    /// [`LogError::OutOfRange`] if there is no such entry; [`LogError::Source`] or [`LogError::Missing`] if a
    /// tile cannot be had; [`LogError::TileLength`], [`LogError::Altered`] or [`LogError::AlteredEdge`] if it
    /// is not one that the signed root vouches for.
    pub fn inclusion_proof(&self, index: u64) -> Result<Vec<Hash>, LogError> {
        let size = self.size();
        if index >= size {
            return Err(LogError::OutOfRange { start: index, end: index.saturating_add(1), size });
        }
        let tiles = self.tiles()?;
        tlog_tiles::prove_record(size, index, &tiles).map_err(|error| tiles.explain(error))
    }

    /// The proof that the log begins with what it was when it had `old_size` entries, for
    /// [`check_consistency`].
    ///
    /// # Errors
    ///
    /// [`LogError::Shrunk`] if the log has fewer entries than that; for tiles, what
    /// [`Log::inclusion_proof`] gives.
    pub fn consistency_proof(&self, old_size: u64) -> Result<Vec<Hash>, LogError> {
        let size = self.size();
        if old_size > size {
            return Err(LogError::Shrunk { old_size, size });
        }
        if old_size == 0 || old_size == size {
            return Ok(Vec::new());
        }
        let tiles = self.tiles()?;
        tlog_tiles::prove_tree(size, old_size, &tiles).map_err(|error| tiles.explain(error))
    }

    /// Checks that the log begins with what it was when it had `old_size` entries and the hash `old_root`.
    ///
    /// # Errors
    ///
    /// [`LogError::Shrunk`] or [`LogError::NotConsistent`] if it does not; for tiles, what
    /// [`Log::inclusion_proof`] gives.
    pub fn check_extends(&self, old_size: u64, old_root: Hash) -> Result<(), LogError> {
        let proof = self.consistency_proof(old_size)?;
        check_consistency(&proof, old_size, old_root, self.size(), self.root())
    }

    /// The right edge of the tree, read once and held against the root.
    pub(super) fn edge(&self) -> Result<&Frontier, LogError> {
        if let Some(edge) = self.edge.get() {
            return Ok(edge);
        }
        let edge = Frontier::load(&self.source, self.size(), self.root())?;
        Ok(self.edge.get_or_init(|| edge))
    }

    /// The bundle `number`, held against the root.
    pub(super) fn bundle(&self, tiles: &Tiles<'_, S>, number: u64) -> Result<Bundle, LogError> {
        let width = self.width(number);
        let bundle = fetch::entries(&self.source, number, width)?;
        let tile = bundle.tile();
        let holds = if width == WIDTH {
            Tile::subtree_hash(&tile) == tiles.subtree(0, number)?
        } else {
            tile == self.edge()?.tile(0)
        };
        if holds { Ok(bundle) } else { Err(LogError::Altered(paths::entries(number, width))) }
    }

    pub(super) fn tiles(&self) -> Result<Tiles<'_, S>, LogError> {
        Ok(Tiles::new(&self.source, self.edge()?))
    }

    pub(super) fn into_tree(self) -> SignedTree {
        self.tree
    }

    fn width(&self, number: u64) -> usize {
        let rest = self.size().saturating_sub(number.saturating_mul(WIDTH as u64));
        rest.min(WIDTH as u64) as usize
    }
}

/// An iterator over a log's entries and their indexes, from [`Log::entries`].
pub struct Entries<'a, S> {
    log: &'a Log<S>,
    tiles: Tiles<'a, S>,
    next: u64,
    end: u64,
    bundle: Option<(u64, Bundle)>,
}

impl<S: Source> Entries<'_, S> {
    fn read(&mut self, index: u64) -> Result<Vec<u8>, LogError> {
        let number = index / WIDTH as u64;
        if !matches!(&self.bundle, Some((held, _)) if *held == number) {
            // The old bundle goes first, so that two are never held at once.
            self.bundle = None;
            self.bundle = Some((number, self.log.bundle(&self.tiles, number)?));
        }
        let at = (index % WIDTH as u64) as usize;
        let entry = self.bundle.as_ref().and_then(|(_, bundle)| bundle.entry(at));
        Ok(entry.ok_or_else(|| LogError::Missing(paths::entries(number, self.log.width(number))))?.to_vec())
    }
}

impl<S: Source> Iterator for Entries<'_, S> {
    type Item = Result<(u64, Vec<u8>), LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let index = self.next;
        let entry = self.read(index);
        self.next = if entry.is_ok() { index + 1 } else { self.end };
        Some(entry.map(|entry| (index, entry)))
    }
}
