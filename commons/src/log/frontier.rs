//! The right edge of a tree: all that is needed to go on appending to it and to compute its root.

use tlog_tiles::{HASH_SIZE, Hash, HashReader, Tile};

use super::error::LogError;
use super::source::Source;
use super::{HEIGHT, TILE_BYTES, WIDTH, fetch};

/// What is done with a tile that became full: its level, its number and its hashes.
pub(super) type Full<'a> = dyn FnMut(u8, u64, &[u8]) -> Result<(), LogError> + 'a;

/// The incomplete tile of each level, which is empty where all of a level's tiles are full.
#[derive(Clone, Default)]
pub(super) struct Frontier {
    size: u64,
    tiles: Vec<Vec<u8>>,
}

impl Frontier {
    /// Reads the right edge of the tree of `size` entries and holds it against the signed `root`.
    pub(super) fn load<S: Source>(source: &S, size: u64, root: Hash) -> Result<Frontier, LogError> {
        let mut tiles = Vec::new();
        for (level, count) in (0..).zip(counts(size)) {
            let width = (count % WIDTH as u64) as usize;
            let number = count / WIDTH as u64;
            tiles.push(if width == 0 { Vec::new() } else { fetch::tile(source, level, number, width)? });
        }
        let frontier = Frontier { size, tiles };
        if frontier.root()? == root { Ok(frontier) } else { Err(LogError::AlteredEdge) }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The incomplete tile of a level.
    pub(super) fn tile(&self, level: u8) -> &[u8] {
        self.tiles.get(usize::from(level)).map_or(&[], Vec::as_slice)
    }

    /// Adds one leaf, and hands each tile that it makes full to `full`.
    pub(super) fn push(&mut self, leaf: Hash, full: &mut Full<'_>) -> Result<(), LogError> {
        let mut hash = leaf;
        let mut number = self.size;
        for level in 0.. {
            number >>= HEIGHT;
            if self.tiles.len() <= usize::from(level) {
                self.tiles.push(Vec::with_capacity(TILE_BYTES));
            }
            let Some(tile) = self.tiles.get_mut(usize::from(level)) else { break };
            tile.extend(hash.0);
            if tile.len() < TILE_BYTES {
                break;
            }
            full(level, number, tile)?;
            hash = Tile::subtree_hash(tile);
            tile.clear();
        }
        self.size += 1;
        Ok(())
    }

    /// The root hash of the whole tree.
    pub(super) fn root(&self) -> Result<Hash, LogError> {
        tlog_tiles::tree_hash(self.size, self).map_err(LogError::Tree)
    }
}

impl HashReader for Frontier {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        indexes.iter().map(|&index| node(self.tile(Tile::from_index(HEIGHT, index).level()), index)).collect()
    }
}

/// The hashes on each level of tiles of a tree of `size`, from level 0 up to the last that has any.
pub(super) fn counts(size: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(size), |count| Some(count >> HEIGHT)).take_while(|&count| count > 0)
}

/// The node with the storage index `index`, from the tile that has it or its descendants.
pub(super) fn node(tile: &[u8], index: u64) -> Result<Hash, tlog_tiles::Error> {
    let place = Tile::from_index(HEIGHT, index);
    let width = (tile.len() / HASH_SIZE) as u32;
    if width < place.width() {
        return Err(tlog_tiles::Error::InvalidTile);
    }
    let tile_of = Tile::new(HEIGHT, place.level(), place.level_index(), width, false);
    tile_of.hash_at_index(tile, index)
}
