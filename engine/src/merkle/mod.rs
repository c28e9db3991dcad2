//! The digest of a training state: a Merkle root over BLAKE3 hashes of chunks of 4096 `f32` values, and openings that
//! show single chunks of a committed state. This module never interprets the numbers it hashes, and it never needs
//! them all in one place: whoever holds them, a GPU too, may supply the leaf hashes.
//!
//! Definition, for a [`Layout`] with a domain and sections of declared names and lengths:
//!
//! ```text
//! leaf  = BLAKE3(the values of one chunk, little-endian f32)
//! node  = SHA-256("watershed/state/node/v2" || left || right)
//! root  = SHA-256("watershed/state/root/v2" || domain || sections || leaf count || tree root)
//! ```
//!
//! Each section is cut into chunks on its own; only its last chunk may be shorter. The leaves of all sections, in
//! declared order, are the leaves of one tree. A node without a partner moves up unchanged: it is not paired with
//! itself, because then two different lists of leaves could have the same root (CVE-2012-2459). The tree of an empty
//! state is 32 zero bytes. In the root, strings and lists are preceded by their length; all integers are u64,
//! little-endian.
//!
//! Leaves and nodes are hashed by different functions, so neither can pass for the other; and the root fixes the number
//! of leaves, so neither can an inner node at another depth.
//!
//! The bulk is hashed by BLAKE3 because every step of training ends with a digest: a chunk is sixteen of BLAKE3's own, which
//! a processor hashes side by side in one vector and a GPU in one unit each, where SHA-256 runs through them one by one.

mod layout;
mod tree;

pub use layout::{Layout, Place, Section};
pub use tree::{Opening, Tree, verify};

use rayon::prelude::*;

/// Values per chunk. Every chunk but the last of a section has exactly this many.
pub const CHUNK_ELEMENTS: usize = 4096;

/// Most values that a layout may declare: 2^48, far above any state, so that no product with a size overflows.
pub const MAX_ELEMENTS: u64 = 1 << 48;

/// Leaves that one task hashes at a time: 256 KiB of values, so that scheduling costs nothing beside hashing.
const LEAVES_PER_TASK: usize = 16;

/// The hash of a chunk or of an inner node.
pub type Hash = [u8; 32];

/// The commitment to a whole training state; see the module's documentation. Displays as 64 lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateDigest(pub [u8; 32]);

impl std::fmt::Display for StateDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for StateDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StateDigest({self})")
    }
}

/// Why a state could not be hashed, or why an opening does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MerkleError {
    /// The layout declares more values than are supported.
    #[error("the layout declares more than {MAX_ELEMENTS} values; declare what the model has")]
    TooManyElements,
    /// The state does not have the declared sections.
    #[error("the layout declares {expected} sections, the state has {got}")]
    SectionCount {
        /// Sections in the layout.
        expected: usize,
        /// Sections given.
        got: usize,
    },
    /// A section does not have its declared length.
    #[error("section {section} is declared with {expected} values and has {got}")]
    SectionLength {
        /// Position of the section in the layout.
        section: usize,
        /// Values declared.
        expected: u64,
        /// Values given.
        got: u64,
    },
    /// The list of leaf hashes does not fit the layout.
    #[error("the layout has {expected} chunks, {got} leaf hashes were given")]
    LeafCount {
        /// Chunks that the layout has.
        expected: u64,
        /// Leaf hashes given.
        got: u64,
    },
    /// There is no such chunk.
    #[error("chunk {index} was asked for, the state has {leaves}")]
    IndexOutOfRange {
        /// Chunk asked for.
        index: u64,
        /// Chunks that the layout has.
        leaves: u64,
    },
    /// The chunk in an opening is not as long as the layout says.
    #[error("chunk {index} has {expected} values, the opening shows {got}")]
    ChunkLength {
        /// Chunk shown.
        index: u64,
        /// Values that this chunk has.
        expected: usize,
        /// Values shown.
        got: usize,
    },
    /// The opening's path is not as long as the tree is deep at that chunk.
    #[error("the path of chunk {index} has {expected} hashes, the opening has {got}")]
    PathLength {
        /// Chunk shown.
        index: u64,
        /// Hashes that the path of this chunk has.
        expected: usize,
        /// Hashes given.
        got: usize,
    },
    /// Chunk and path lead to another root: the chunk is not part of the committed state.
    #[error("chunk {index} leads to digest {got}, the commitment is {expected}")]
    RootMismatch {
        /// Chunk shown.
        index: u64,
        /// The committed digest.
        expected: StateDigest,
        /// What the opening hashes to.
        got: StateDigest,
    },
}

/// The hash of one chunk (at most [`CHUNK_ELEMENTS`] values): BLAKE3 over their little-endian bytes.
pub fn leaf_hash(chunk: &[f32]) -> Hash {
    hash_of(std::iter::once(chunk))
}

fn hash_of<'a>(pieces: impl Iterator<Item = &'a [f32]>) -> Hash {
    let mut hasher = blake3::Hasher::new();
    for piece in pieces {
        if cfg!(target_endian = "little") {
            hasher.update(bytemuck::cast_slice::<f32, u8>(piece));
        } else {
            piece.iter().for_each(|value| {
                hasher.update(&value.to_le_bytes());
            });
        }
    }
    hasher.finalize().into()
}

/// A chunk of a section that lies in several pieces: where it starts, and its length.
struct Chunk<'a> {
    pieces: &'a [&'a [f32]],
    offset: usize,
    len: usize,
}

impl<'a> Chunk<'a> {
    /// The chunks of a section.
    fn all(section: &'a [&'a [f32]]) -> impl Iterator<Item = Self> {
        let mut left = section.iter().map(|piece| piece.len()).sum::<usize>();
        let (mut pieces, mut offset) = (section, 0);
        std::iter::from_fn(move || {
            while let [first, rest @ ..] = pieces
                && offset >= first.len()
            {
                offset -= first.len();
                pieces = rest;
            }
            let chunk = Self { pieces, offset, len: left.min(CHUNK_ELEMENTS) };
            left -= chunk.len;
            offset += chunk.len;
            (chunk.len > 0).then_some(chunk)
        })
    }

    fn hash(&self) -> Hash {
        let (mut offset, mut left) = (self.offset, self.len);
        hash_of(self.pieces.iter().map_while(|piece| {
            let part = &piece[offset..];
            let part = &part[..part.len().min(left)];
            offset = 0;
            left -= part.len();
            (!part.is_empty() || left > 0).then_some(part)
        }))
    }
}

/// The leaf hashes of a state in the layout's order, computed in parallel and without copying the values.
///
/// # Errors
/// [`MerkleError::SectionCount`] and [`MerkleError::SectionLength`] if `sections` is not what the layout declares.
pub fn leaf_hashes(layout: &Layout, sections: &[&[f32]]) -> Result<Vec<Hash>, MerkleError> {
    leaf_hashes_of_pieces(layout, &sections.iter().map(|section| vec![*section]).collect::<Vec<_>>())
}

fn leaf_hashes_of_pieces(layout: &Layout, sections: &[Vec<&[f32]>]) -> Result<Vec<Hash>, MerkleError> {
    layout.check(&sections.iter().map(|s| s.iter().map(|p| p.len() as u64).sum()).collect::<Vec<_>>())?;
    let chunks: Vec<Chunk<'_>> = sections.iter().flat_map(|section| Chunk::all(section)).collect();
    Ok(chunks.into_par_iter().with_min_len(LEAVES_PER_TASK).map(|chunk| chunk.hash()).collect())
}

/// The digest of a state held in memory.
///
/// # Errors
/// As [`leaf_hashes`].
pub fn state_digest(layout: &Layout, sections: &[&[f32]]) -> Result<StateDigest, MerkleError> {
    Ok(Tree::new(layout, leaf_hashes(layout, sections)?)?.digest())
}

/// The digest of a state each of whose sections lies in several pieces, hashed where they lie.
///
/// # Errors
/// As [`leaf_hashes`].
pub fn state_digest_of_pieces(layout: &Layout, sections: &[Vec<&[f32]>]) -> Result<StateDigest, MerkleError> {
    Ok(Tree::new(layout, leaf_hashes_of_pieces(layout, sections)?)?.digest())
}

#[cfg(test)]
mod tests;
