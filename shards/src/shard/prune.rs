//! Deleting shards that no snapshot in use needs: those of withdrawn text above all.

use std::collections::BTreeSet;
use std::fs;

use watershed_protocol::data::ConsentTier;
use watershed_protocol::{Digest, ManifestId, ShardSetId};

use super::read::{OpenError, OpenSet};
use crate::library::{FileError, Library, LibraryError, Store, names, remove};

/// What was deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Pruned {
    /// Shard sets that held withdrawn text.
    pub sets: Vec<ShardSetId>,
    /// Shards that no set needs any more.
    pub shards: usize,
}

fn sets(store: &Store) -> Result<Vec<ShardSetId>, FileError> {
    let names = names(&store.root().join("sets"), "")?;
    Ok(names.iter().filter_map(|n| n.parse().ok()).collect())
}

/// The shard sets that hold text of a deposit.
///
/// # Errors
/// [`OpenError`] if a set cannot be read.
pub fn sets_with(store: &Store, deposit: ManifestId) -> Result<Vec<ShardSetId>, OpenError> {
    let mut found = Vec::new();
    for id in sets(store)? {
        if OpenSet::open(store, id)?.index()?.entries().any(|e| e.manifest == deposit) {
            found.push(id);
        }
    }
    Ok(found)
}

/// Deletes the shard sets that hold text whose consent was withdrawn, and every shard that is left without a set. Runs that
/// still use such a set lose it: they go on from the next snapshot.
///
/// # Errors
/// [`PruneError`] if a set cannot be read, or a file not deleted, or a build is unfinished.
pub fn prune(library: &Library) -> Result<Pruned, PruneError> {
    // A build that is under way, or will be taken up again, has shards that no set names yet.
    let store = library.store();
    let partial = store.root().join("partial");
    if fs::read_dir(&partial).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(PruneError::Building(partial));
    }
    let mut pruned = Pruned::default();
    let mut needed: BTreeSet<Digest> = BTreeSet::new();
    for id in sets(store).map_err(OpenError::from)? {
        let set = OpenSet::open(store, id)?;
        let mut withdrawn = false;
        for entry in set.index()?.entries() {
            let known = library.catalogue().get(entry.manifest).map_err(LibraryError::from)?;
            if known.is_none_or(|e| e.consent.tier == ConsentTier::None) {
                withdrawn = true;
                break;
            }
        }
        if withdrawn {
            let folder = store.set_path(id);
            fs::remove_dir_all(&folder).map_err(FileError::at("remove", &folder)).map_err(OpenError::from)?;
            pruned.sets.push(id);
        } else {
            needed.extend(set.set().streams.iter().flat_map(|s| &s.shards).map(|s| s.sha256));
        }
    }
    for name in names(&store.root().join("shards"), "").map_err(OpenError::from)? {
        if let Ok(sha256) = name.parse::<Digest>()
            && !needed.contains(&sha256)
        {
            remove(&store.shard_path(sha256)).map_err(OpenError::from)?;
            pruned.shards += 1;
        }
    }
    Ok(pruned)
}

/// Why nothing, or not everything, was deleted.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// A shard set.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A build is not finished.
    #[error("a build is unfinished: run it to its end, or delete {} if it is given up", .0.display())]
    Building(std::path::PathBuf),
    /// The library.
    #[error(transparent)]
    Library(#[from] LibraryError),
}
