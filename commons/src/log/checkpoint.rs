//! The signed statement of a log's size and root hash.

use signed_note::{Note, NoteError, VerifierList};
use tlog_tiles::{Checkpoint, EMPTY_HASH, Hash};

use super::MAX_SIZE;
use super::error::LogError;
use super::key::{LogKey, LogVerifier};

/// A size and root hash with the signed text that states them.
#[derive(Clone)]
pub(super) struct SignedTree {
    pub(super) size: u64,
    pub(super) root: Hash,
    pub(super) text: String,
}

/// Signs the tree of `size` entries with the hash `root`.
pub(super) fn sign(key: &LogKey, size: u64, root: Hash) -> Result<SignedTree, LogError> {
    let tree = Checkpoint::new(key.origin(), size, root, "").map_err(|_| LogError::MalformedCheckpoint)?;
    let mut note = Note::new(&tree.to_bytes(), &[]).map_err(LogError::Signing)?;
    note.add_sigs(&[key]).map_err(LogError::Signing)?;
    let text = String::from_utf8(note.to_bytes()).map_err(|_| LogError::MalformedCheckpoint)?;
    Ok(SignedTree { size, root, text })
}

/// Parses a checkpoint, believing nothing in it before its signature holds.
pub(super) fn verify(bytes: Vec<u8>, verifier: &LogVerifier) -> Result<SignedTree, LogError> {
    let note = Note::from_bytes(&bytes).map_err(|_| LogError::MalformedCheckpoint)?;
    let known = VerifierList::new(vec![Box::new(verifier.note().clone())]);
    note.verify(&known).map_err(|error| match error {
        NoteError::InvalidSignature { .. } => LogError::FalseSignature(verifier.to_string()),
        _ => LogError::NotSigned(verifier.to_string()),
    })?;
    let tree = Checkpoint::from_bytes(note.text()).map_err(|_| LogError::MalformedCheckpoint)?;
    if tree.origin() != verifier.origin() {
        let expected = verifier.origin().to_owned();
        return Err(LogError::WrongOrigin { expected, found: tree.origin().to_owned() });
    }
    if tree.size() > MAX_SIZE {
        return Err(LogError::TooLarge(tree.size()));
    }
    // No tile can show the root of the empty tree, so it is held against the only one there is.
    if tree.size() == 0 && *tree.hash() != EMPTY_HASH {
        return Err(LogError::MalformedCheckpoint);
    }
    let text = String::from_utf8(bytes).map_err(|_| LogError::MalformedCheckpoint)?;
    Ok(SignedTree { size: tree.size(), root: *tree.hash(), text })
}
