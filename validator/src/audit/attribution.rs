//! Whose text was read: every assignment's window is expanded to the deposits it reads, and the consent of each deposit is
//! followed to what its contributor signed.

use std::collections::BTreeMap;

use serde::Serialize;
use watershed_commons::record::RunTold;
use watershed_protocol::data::Register;
use watershed_protocol::{AssignmentId, ManifestId, PublicKey, RunId, ShardSetId, SnapshotId};
use watershed_shards::library::Store;
use watershed_shards::shard::OpenSet;
use watershed_shards::snapshot::Snapshot;
use watershed_shards::trace::trace_tokens;
use watershed_shards::window::attribution;

use super::fault::{Fault, unable};

/// What a deposit gave to a run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Given {
    deposit: ManifestId,
    register: Register,
    /// Who signed for it; none where no proof is public.
    contributor: Option<PublicKey>,
    /// Tokens read by all assignments that were paid for beforehand.
    tokens: u64,
    /// Of these, what was read by work that went into a checkpoint.
    accepted: u64,
}

/// What one assignment read.
#[derive(Clone, Debug, Serialize)]
struct Read {
    assignment: AssignmentId,
    round: u32,
    miner: PublicKey,
    accepted: bool,
    tokens: u64,
    deposits: BTreeMap<ManifestId, u64>,
}

/// Whose text a run read.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Attributed {
    run: RunId,
    shards: ShardSetId,
    snapshot: SnapshotId,
    /// Whether the consent of every deposit was followed to signed statements.
    proved: bool,
    tokens: u64,
    accepted: u64,
    pub(super) deposits: Vec<Given>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    assignments: Vec<Read>,
}

impl Attributed {
    /// Without what each assignment read.
    pub(super) fn brief(mut self) -> Self {
        self.assignments = Vec::new();
        self
    }

    /// For people.
    pub(super) fn line(&self) -> String {
        let proved = if self.proved { "with proof of consent" } else { "no proof of consent is public" };
        format!(
            "run {}: {} tokens of {} deposits ({proved}), {} of them in checkpoints",
            self.run,
            self.tokens,
            self.deposits.len(),
            self.accepted
        )
    }
}

/// Expands all windows of a run. With a snapshot, whose proofs are in `store`, the consent of every deposit that was read is
/// followed to its signatures.
pub(super) fn attribute(
    run: RunId,
    told: &RunTold,
    set: &OpenSet,
    proofs: Option<&Snapshot>,
    store: &Store,
) -> Result<Attributed, Fault> {
    let mut given: BTreeMap<ManifestId, Given> = BTreeMap::new();
    let mut assignments = Vec::with_capacity(told.works.len());
    let in_checkpoints: std::collections::BTreeSet<&AssignmentId> =
        told.checkpoints.iter().flat_map(|c| &c.accepted).collect();
    for (id, work) in &told.works {
        let accepted = in_checkpoints.contains(id);
        let of = attribution(set, &work.assignment.window).map_err(|e| {
            Fault::Computed(format!("the window of {id} cannot be drawn: {e}; signed by the coordinator"))
        })?;
        for share in &of.shares {
            let fresh = Given {
                deposit: share.deposit,
                register: share.register,
                contributor: None,
                tokens: 0,
                accepted: 0,
            };
            let given = given.entry(share.deposit).or_insert(fresh);
            given.tokens += share.tokens;
            given.accepted += if accepted { share.tokens } else { 0 };
        }
        assignments.push(Read {
            assignment: *id,
            round: work.assignment.round.0,
            miner: work.assignment.miner,
            accepted,
            tokens: of.tokens,
            deposits: of.shares.iter().map(|s| (s.deposit, s.tokens)).collect(),
        });
    }
    if let Some(snapshot) = proofs {
        let index = set.index().map_err(unable)?;
        for entry in index.entries() {
            let Some(given) = given.get_mut(&entry.manifest) else { continue };
            let deposit = trace_tokens(store, snapshot, &entry).map_err(|e| {
                Fault::Computed(format!(
                    "run {run} trains on text whose consent is not proved: {e}; signed by the coordinator"
                ))
            })?;
            given.contributor = Some(deposit.manifest().contributor);
        }
    }
    assignments.sort_by_key(|r| (r.round, r.assignment));
    Ok(Attributed {
        run,
        shards: set.id(),
        snapshot: set.set().snapshot,
        proved: proofs.is_some(),
        tokens: given.values().map(|g| g.tokens).sum(),
        accepted: given.values().map(|g| g.accepted).sum(),
        deposits: given.into_values().collect(),
        assignments,
    })
}
