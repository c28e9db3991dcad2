//! The text of a run: its shards, and what leads from them to the signatures of contributors.

use watershed_commons::record::RunTold;
use watershed_protocol::Wire as _;
use watershed_protocol::market::TextSource;
use watershed_shards::consents;
use watershed_shards::library::Store;
use watershed_shards::shard::{OpenSet, ShardSet};
use watershed_shards::snapshot::Snapshot;
use watershed_shards::transfer::{SetFile, install};

use super::fault::{Fault, unable};
use super::place::Place;

/// Longest index, shard, or file with proofs.
const MAX_FILE: usize = 4 << 30;

fn named(text: &TextSource, what: impl std::fmt::Display) -> Fault {
    Fault::Computed(format!("the text of run {}: {what}; signed by the coordinator", text.run))
}

/// The run's shard set: that of `library`, or the one that the record names, put into `library`.
pub(super) fn open(place: &Place, told: &RunTold, library: &Store) -> Result<Option<OpenSet>, Fault> {
    let Some(text) = &told.text else { return Ok(None) };
    let id = text.shards;
    if OpenSet::open(library, id).is_err() {
        let put = |file, bytes: &[u8]| install(library, id, file, bytes).map_err(|e| named(text, e));
        let described = place.blob("the description of the shard set", text.set, ShardSet::MAX_BYTES)?;
        put(SetFile::Set, &described)?;
        let set = ShardSet::parse(&described).map_err(|e| named(text, e))?;
        put(SetFile::Index, &place.blob("the index of the shard set", text.index, MAX_FILE)?)?;
        for shard in set.streams.iter().flat_map(|s| &s.shards) {
            put(SetFile::Shard(shard.sha256), &place.blob("a shard", shard.sha256, MAX_FILE)?)?;
        }
    }
    let set = OpenSet::open(library, id).map_err(|e| named(text, e))?;
    let found = set.set();
    if (found.snapshot, found.tokenizer, found.index) != (text.snapshot, text.tokenizer, text.index) {
        return Err(named(text, "snapshot, tokenizer or index are not those of its shard set"));
    }
    Ok(Some(set))
}

/// The run's snapshot, with the signed manifests and statements of its deposits put into `store`; none if the coordinator
/// has none.
pub(super) fn proofs(
    place: &Place,
    told: &RunTold,
    set: &OpenSet,
    store: &Store,
) -> Result<Option<Snapshot>, Fault> {
    let Some(text) = &told.text else { return Ok(None) };
    let Some(name) = text.consents else { return Ok(None) };
    let bytes = place.blob("the proofs of consent", name, MAX_FILE)?;
    match consents::install(store, set.set(), &bytes) {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(consents::ConsentsError::File(e)) => Err(unable(e)),
        Err(e) => Err(named(text, e)),
    }
}
