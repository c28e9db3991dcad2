//! From a deposit's name to the proof that it may be used: manifest, signature, and consent by the signed statements alone.

use std::collections::HashMap;

use thiserror::Error;
use watershed_protocol::ManifestId;
use watershed_protocol::data::{Deposit, Split};

use crate::library::{LibraryError, Store};
use crate::shard::IndexEntry;
use crate::snapshot::{Snapshot, SnapshotEntry};

/// Why text cannot be traced to a deposit whose consent was in force.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The snapshot does not have the deposit.
    #[error("deposit {0} is not in the snapshot")]
    NotInSnapshot(ManifestId),
    /// Manifest or statements are missing or damaged.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The snapshot speaks of another text, length or register than the manifest.
    #[error("the snapshot says of deposit {0} what its manifest does not")]
    Contradiction(ManifestId),
    /// The consent at the time is not what the snapshot says.
    #[error("the snapshot says that deposit {0} had a consent which its signed statements do not give")]
    Consent(ManifestId),
    /// Text that not everybody may train on, in a shard.
    #[error("deposit {0} may not be trained on by everybody, and is in a shard")]
    NotForTraining(ManifestId),
    /// Held out in the snapshot and trained on in the index, or the other way round.
    #[error("deposit {id} is {found} in the index and {expected} in the snapshot")]
    Split {
        /// The deposit.
        id: ManifestId,
        /// By the index.
        found: Split,
        /// By the snapshot.
        expected: Split,
    },
}

/// Checks an entry of a snapshot against what its contributor signed.
///
/// # Errors
/// [`TraceError`].
pub fn trace(store: &Store, entry: &SnapshotEntry) -> Result<Deposit, TraceError> {
    let id = entry.manifest;
    let deposit = store.manifest(id)?;
    let manifest = deposit.manifest();
    if (manifest.text, manifest.bytes, manifest.register) != (entry.text, entry.bytes, entry.register) {
        return Err(TraceError::Contradiction(id));
    }
    if store.consent_at(&deposit, entry.consent.sequence)? != entry.consent {
        return Err(TraceError::Consent(id));
    }
    Ok(deposit)
}

/// Checks an entry of an index against snapshot and contributor.
///
/// # Errors
/// [`TraceError`].
pub fn trace_tokens(store: &Store, snapshot: &Snapshot, tokens: &IndexEntry) -> Result<Deposit, TraceError> {
    let id = tokens.manifest;
    let entry = snapshot.get(id).ok_or(TraceError::NotInSnapshot(id))?;
    let deposit = trace(store, &entry)?;
    if !entry.consent.tier.trains() {
        return Err(TraceError::NotForTraining(id));
    }
    if entry.register != tokens.register {
        return Err(TraceError::Contradiction(id));
    }
    if entry.split != tokens.split {
        return Err(TraceError::Split { id, found: tokens.split, expected: entry.split });
    }
    Ok(deposit)
}

/// Traces each deposit once, however often it is asked for.
pub(crate) struct Tracer<'a> {
    store: &'a Store,
    snapshot: &'a Snapshot,
    traced: HashMap<ManifestId, Option<Deposit>>,
}

impl<'a> Tracer<'a> {
    pub(crate) fn new(store: &'a Store, snapshot: &'a Snapshot) -> Self {
        Self { store, snapshot, traced: HashMap::new() }
    }

    /// The deposit of these tokens, `None` if they cannot be traced.
    pub(crate) fn tokens(&mut self, entry: &IndexEntry) -> Option<&Deposit> {
        let (store, snapshot) = (self.store, self.snapshot);
        let traced = self.traced.entry(entry.manifest);
        traced.or_insert_with(|| trace_tokens(store, snapshot, entry).ok()).as_ref()
    }
}
