//! Tiles that the signed root vouches for.
//!
//! The right edge of the tree is held against the root, and every full tile against its parent's hash of
//! it, up to the right edge. The library's own reader (`TileHashReader` of tlog_tiles 0.2) is not used: where
//! two nodes of the right edge lie in one tile, it takes the first tiles after them unchecked.

use std::cell::RefCell;

use tlog_tiles::{HASH_SIZE, Hash, HashReader, Tile};

use super::error::LogError;
use super::frontier::{Frontier, node};
use super::source::Source;
use super::{HEIGHT, WIDTH, fetch, paths};

// The last full tile read of a level, with its number.
type Kept = Option<(u64, Vec<u8>)>;

/// A reader of vouched-for tiles that keeps the last tile of each level at hand.
pub(super) struct Tiles<'a, S> {
    source: &'a S,
    edge: &'a Frontier,
    kept: RefCell<Vec<Kept>>,
    fault: RefCell<Option<LogError>>,
}

impl<'a, S: Source> Tiles<'a, S> {
    /// Reads tiles of the tree with the right edge `edge`, which must be vouched for.
    pub(super) fn new(source: &'a S, edge: &'a Frontier) -> Tiles<'a, S> {
        Tiles { source, edge, kept: RefCell::default(), fault: RefCell::default() }
    }

    /// The hash of the subtree under the full tile or bundle `number` of `level`.
    pub(super) fn subtree(&self, level: u8, number: u64) -> Result<Hash, LogError> {
        let tile = self.tile(level + 1, number >> HEIGHT)?;
        let at = (number % WIDTH as u64) as usize;
        let hash = tile.as_chunks::<HASH_SIZE>().0.get(at);
        Ok(Hash(*hash.ok_or(LogError::Tree(tlog_tiles::Error::IndexesNotInTree))?))
    }

    fn tile(&self, level: u8, number: u64) -> Result<Vec<u8>, LogError> {
        let full = self.edge.size() >> (HEIGHT * level) >> HEIGHT;
        if number >= full {
            return Ok(self.edge.tile(level).to_vec());
        }
        if let Some(Some((kept, tile))) = self.kept.borrow().get(usize::from(level))
            && *kept == number
        {
            return Ok(tile.clone());
        }
        let expected = self.subtree(level, number)?;
        let tile = fetch::tile(self.source, level, number, WIDTH)?;
        if Tile::subtree_hash(&tile) != expected {
            return Err(LogError::Altered(paths::tile(level, number, WIDTH)));
        }
        let mut kept = self.kept.borrow_mut();
        if kept.len() <= usize::from(level) {
            kept.resize(usize::from(level) + 1, None);
        }
        if let Some(place) = kept.get_mut(usize::from(level)) {
            *place = Some((number, tile.clone()));
        }
        Ok(tile)
    }

    /// Makes an error of the library the one that lies behind it.
    pub(super) fn explain(&self, error: tlog_tiles::Error) -> LogError {
        self.fault.take().unwrap_or(LogError::Tree(error))
    }
}

impl<S: Source> HashReader for Tiles<'_, S> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        let read = |&index: &u64| {
            let place = Tile::from_index(HEIGHT, index);
            let tile = self.tile(place.level(), place.level_index()).map_err(|error| {
                // The library's error has no room for the reason, so that is kept for `explain`.
                self.fault.replace(Some(error));
                tlog_tiles::Error::InvalidTile
            })?;
            node(&tile, index)
        };
        indexes.iter().map(read).collect()
    }
}
