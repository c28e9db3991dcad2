//! What the record says, followed entry by entry. Pure: whoever has the entries comes to the same result.
//!
//! Signatures, order, attribution of windows, secrets, receipts and sums are checked here. What needs text and arithmetic
//! (checkpoints, scores, replay) is left to whoever has them; [`Runs`] says what is to be computed.

mod assigned;
mod fault;
mod follow;
mod message;

use std::collections::BTreeMap;

use watershed_protocol::market::{
    Assignment, Commitment, FinalState, Reveal, RunSpec, Stepped, TermsOffered, Verdict,
};
use watershed_protocol::{AssignmentId, Msat, PaymentHash, PublicKey, RunId};

pub use fault::RecordFault;

/// One task as the record tells it.
#[derive(Clone, Debug)]
pub struct Told {
    /// The task.
    pub assignment: Assignment,
    /// Its lots.
    pub lots: Vec<TermsOffered>,
    /// The miner's Lightning node.
    pub node: PublicKey,
    /// What the miner bound itself to.
    pub commitment: Option<Commitment>,
    /// What it showed.
    pub reveal: Option<Reveal>,
    /// What validators found.
    pub verdicts: BTreeMap<PublicKey, Verdict>,
    /// What the miner signed for.
    pub receipts: BTreeMap<PaymentHash, Msat>,
    /// Paid and come back.
    pub settled: Option<(Msat, Msat)>,
}

impl Told {
    /// Whether it belongs into the checkpoint: somebody says that it is right, and nobody that it is wrong.
    pub fn is_accepted(&self) -> bool {
        use watershed_protocol::market::Outcome;
        let earned = |v: &Verdict| matches!(v.outcome, Outcome::Earned { .. });
        self.reveal.is_some() && !self.verdicts.is_empty() && self.verdicts.values().all(earned)
    }
}

/// One run as the record tells it.
#[derive(Clone, Debug)]
pub struct RunTold {
    /// The specification.
    pub spec: RunSpec,
    /// Who signed it: the coordinator.
    pub coordinator: PublicKey,
    /// Pledges that were taken.
    pub pledges: BTreeMap<PaymentHash, Msat>,
    /// Checkpoints from the first on.
    pub checkpoints: Vec<Stepped>,
    /// Tasks that were paid for beforehand.
    pub works: BTreeMap<AssignmentId, Told>,
    /// Paid for tasks that never began.
    pub leaked: BTreeMap<AssignmentId, Msat>,
    /// How it ended.
    pub ended: Option<FinalState>,
}

impl RunTold {
    /// Round of the newest task.
    fn newest_round(&self) -> Option<u32> {
        self.works.values().map(|w| w.assignment.round.0).max()
    }

    /// The round under way; those before it are over, with or without a checkpoint.
    fn round(&self) -> u32 {
        let begun = self.checkpoints.last().map_or(0, |c| c.round.0);
        self.newest_round().map_or(begun, |newest| newest.max(begun))
    }

    /// Tasks of the same attempt at a round.
    fn attempt(&self, of: &Assignment) -> impl Iterator<Item = &Told> {
        let (round, checkpoint) = (of.round, of.checkpoint);
        self.works
            .values()
            .filter(move |w| w.assignment.round == round && w.assignment.checkpoint == checkpoint)
    }
}

/// All runs of a record, and where it stands.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    /// By name.
    pub runs: BTreeMap<RunId, RunTold>,
    /// Entries so far.
    pub entries: u64,
}
