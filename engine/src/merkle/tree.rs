//! The tree over leaf hashes: its root, paths of single leaves, and their check. Nothing here sees the values except
//! [`verify`], which hashes the one chunk it is shown.

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{Hash, Layout, MerkleError, StateDigest, leaf_hash};

const NODE_TAG: &[u8] = b"watershed/state/node/v2";

/// Nodes that one task computes at a time, so that small trees are built without handing work around.
const NODES_PER_TASK: usize = 512;

fn node(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(NODE_TAG);
    hasher.update(left);
    hasher.update(right);
    hasher.finalize().into()
}

/// The hashes that lead from a leaf to the root, nearest first. A level at which the node has no partner contributes
/// none, so the length is fixed by the number of leaves and the leaf's index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The partner's hash at each level that has one.
    pub siblings: Vec<Hash>,
}

/// All levels of the tree of one state: as large as twice its leaf hashes, which is 1/256 of the state.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Leaves first; each further level is half as long, rounded up, down to one node. Empty for an empty state.
    levels: Vec<Vec<Hash>>,
    digest: StateDigest,
}

impl Tree {
    /// Builds the tree of a state from the hashes of its chunks, wherever these were computed.
    ///
    /// # Errors
    /// [`MerkleError::LeafCount`] if there is not one hash for each chunk of the layout.
    pub fn new(layout: &Layout, leaves: Vec<Hash>) -> Result<Self, MerkleError> {
        if leaves.len() as u64 != layout.leaves() {
            return Err(MerkleError::LeafCount { expected: layout.leaves(), got: leaves.len() as u64 });
        }
        let mut levels = Vec::new();
        let mut level = leaves;
        while level.len() > 1 {
            let next = level
                .par_chunks(2)
                .with_min_len(NODES_PER_TASK)
                .map(|pair| match pair {
                    [left, right] => node(left, right),
                    // the last one of an odd level moves up as it is
                    [single, ..] => *single,
                    [] => [0; 32],
                })
                .collect();
            levels.push(std::mem::replace(&mut level, next));
        }
        let tree_root = level.first().copied().unwrap_or([0; 32]);
        levels.push(level);
        Ok(Self { digest: layout.bind(&tree_root), levels })
    }

    /// The digest of the state.
    pub fn digest(&self) -> StateDigest {
        self.digest
    }

    /// The path of chunk `index`, to be sent along with the chunk's values.
    ///
    /// # Errors
    /// [`MerkleError::IndexOutOfRange`] if there is no such chunk.
    pub fn open(&self, index: u64) -> Result<Opening, MerkleError> {
        let leaves = self.levels.first().map_or(0, |level| level.len() as u64);
        if index >= leaves {
            return Err(MerkleError::IndexOutOfRange { index, leaves });
        }
        let mut position = index as usize;
        let mut siblings = Vec::new();
        for level in &self.levels {
            if let Some(sibling) = level.get(position ^ 1) {
                siblings.push(*sibling);
            }
            position /= 2;
        }
        Ok(Opening { siblings })
    }
}

/// Checks that `chunk` is chunk `index` of the state committed to by `digest`.
///
/// Everything in the opening is taken as hostile. The work done is bounded by the layout, which is the verifier's own.
///
/// # Errors
/// [`MerkleError::IndexOutOfRange`], [`MerkleError::ChunkLength`] and [`MerkleError::PathLength`] if the opening does
/// not have the form that the layout demands; [`MerkleError::RootMismatch`] if its content is not what was committed.
pub fn verify(
    digest: &StateDigest,
    layout: &Layout,
    index: u64,
    chunk: &[f32],
    opening: &Opening,
) -> Result<(), MerkleError> {
    let place = layout.place(index)?;
    if chunk.len() != place.len {
        return Err(MerkleError::ChunkLength { index, expected: place.len, got: chunk.len() });
    }
    let expected = path_length(index, layout.leaves());
    if opening.siblings.len() != expected {
        return Err(MerkleError::PathLength { index, expected, got: opening.siblings.len() });
    }
    let mut siblings = opening.siblings.iter();
    let mut hash = leaf_hash(chunk);
    let (mut position, mut width) = (index, layout.leaves());
    while width > 1 {
        if position ^ 1 < width
            && let Some(sibling) = siblings.next()
        {
            hash = if position & 1 == 0 { node(&hash, sibling) } else { node(sibling, &hash) };
        }
        position /= 2;
        width = width.div_ceil(2);
    }
    let got = layout.bind(&hash);
    if got == *digest { Ok(()) } else { Err(MerkleError::RootMismatch { index, expected: *digest, got }) }
}

/// Number of levels at which the node above leaf `index` has a partner.
fn path_length(index: u64, leaves: u64) -> usize {
    let (mut position, mut width, mut length) = (index, leaves, 0);
    while width > 1 {
        length += usize::from(position ^ 1 < width);
        position /= 2;
        width = width.div_ceil(2);
    }
    length
}
