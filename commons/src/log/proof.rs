//! Checking proofs about a log without the log.

use tlog_tiles::{EMPTY_HASH, Hash};

use super::MAX_SIZE;
use super::error::LogError;

// No path through a tree of MAX_SIZE leaves is longer, and a consistency proof has one hash more.
const MAX_PROOF: usize = 49;

/// The hash by which an entry stands in the tree.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    tlog_tiles::record_hash(entry)
}

/// Checks that the log of `size` entries with the hash `root` has `entry` at `index`.
///
/// # Errors
///
/// [`LogError::NotIncluded`] if the proof does not show that, whatever is wrong with it.
pub fn check_inclusion(
    proof: &[Hash],
    size: u64,
    root: Hash,
    index: u64,
    entry: &[u8],
) -> Result<(), LogError> {
    let refused = LogError::NotIncluded { index, size };
    if proof.len() > MAX_PROOF || size > MAX_SIZE {
        return Err(refused);
    }
    tlog_tiles::check_record(&proof.to_vec(), size, root, index, leaf_hash(entry)).map_err(|_| refused)
}

/// Checks that the log of `size` entries with the hash `root` begins with the log of `old_size` entries with
/// the hash `old_root`.
///
/// Every log begins with the empty log, which takes an empty proof.
///
/// # Errors
///
/// [`LogError::Shrunk`] if `size` is less than `old_size`, and [`LogError::NotConsistent`] if the proof does
/// not show the one to begin with the other, whatever is wrong with it.
pub fn check_consistency(
    proof: &[Hash],
    old_size: u64,
    old_root: Hash,
    size: u64,
    root: Hash,
) -> Result<(), LogError> {
    if size < old_size {
        return Err(LogError::Shrunk { old_size, size });
    }
    let refused = LogError::NotConsistent { old_size, size };
    if proof.len() > MAX_PROOF || size > MAX_SIZE {
        return Err(refused);
    }
    if old_size == 0 {
        let holds = proof.is_empty() && old_root == EMPTY_HASH && (size > 0 || root == EMPTY_HASH);
        return if holds { Ok(()) } else { Err(refused) };
    }
    tlog_tiles::check_tree(&proof.to_vec(), size, root, old_size, old_root).map_err(|_| refused)
}
