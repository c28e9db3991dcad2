//! What the record says, followed entry by entry. Pure: whoever has the entries comes to the same result.
//!
//! Signatures, order, attribution of windows, secrets, receipts and sums are checked here. What needs text and arithmetic
//! (checkpoints, scores, replay) is left to whoever has them; [`Runs`] says what is to be computed.

mod assigned;
mod fault;
mod follow;
mod index;
mod message;
mod progress;
mod purse;
mod round;
mod standing;

use std::collections::{BTreeMap, BTreeSet};

use watershed_protocol::market::{
    Assignment, Commitment, FinalState, Judged, Opened, Opening, Reveal, RunSpec, Spoken, Standing, Stepped,
    TermsOffered, TextSource, Verdict, is_disputed, is_sound, score_of,
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
    /// Submissions of the miner that were accepted and rejected before.
    pub record: (u32, u32),
    /// How far it had proved itself, and what it was owed.
    pub standing: Standing,
    /// What the miner bound itself to.
    pub commitment: Option<Commitment>,
    /// What it showed.
    pub reveal: Option<Reveal>,
    /// What validators asked for.
    pub openings: BTreeMap<PublicKey, Opening>,
    /// What the miner answered them.
    pub opened: BTreeMap<PublicKey, Opened>,
    /// What validators found.
    pub verdicts: BTreeMap<PublicKey, Verdict>,
    /// Whose verdict was looked at again, and whether it holds as the coordinator says.
    pub rulings: BTreeMap<PublicKey, bool>,
    /// What the miner signed for.
    pub receipts: BTreeMap<PaymentHash, Msat>,
    /// Paid and come back.
    pub settled: Option<(Msat, Msat)>,
}

impl Told {
    /// The verdicts, as far as they concern each other.
    fn spoken(&self) -> impl Iterator<Item = Spoken<'_>> + Clone {
        self.verdicts.iter().map(|(validator, verdict)| Spoken {
            outcome: &verdict.outcome,
            score: verdict.score,
            upheld: self.rulings.get(validator).copied(),
        })
    }

    /// Whether its verdicts contradict each other, so that all of them are looked at again.
    pub fn is_disputed(&self) -> bool {
        is_disputed(self.spoken())
    }

    /// Whether it is what it should be: somebody finds that, and nobody that counts finds something else.
    pub fn is_sound(&self) -> bool {
        self.reveal.is_some() && is_sound(self.spoken())
    }

    /// The loss reduction that counts; 0 if none was measured.
    pub fn gain(&self) -> f32 {
        score_of(self.spoken()).map_or(0.0, |score| score.gain())
    }

    /// Whether it belongs into the checkpoint: it is sound and lowers the loss. Of a round that was broken off, nothing that
    /// is disputed does.
    pub fn is_accepted(&self) -> bool {
        self.judged_as() == Judged::Accepted
    }

    /// What comes of it when its round is over.
    pub fn judged_as(&self) -> Judged {
        let open = self.rulings.is_empty() && self.is_disputed();
        if self.reveal.is_none() || open { Judged::Neither } else { Judged::of(self.spoken()) }
    }
}

/// One run as the record tells it.
#[derive(Clone, Debug)]
pub struct RunTold {
    /// The specification.
    pub spec: RunSpec,
    /// Who signed it: the coordinator.
    pub coordinator: PublicKey,
    /// The text that it trains on.
    pub text: Option<TextSource>,
    /// Pledges that were taken.
    pub pledges: BTreeMap<PaymentHash, Msat>,
    /// Miners that paid to join, and how much.
    pub joined: BTreeMap<PublicKey, Msat>,
    /// Payments to sponsors after the end: of which pledge, and how much.
    pub refunds: BTreeMap<PaymentHash, (PaymentHash, Msat)>,
    /// Payments of both kinds: none stands for two.
    payments: std::collections::BTreeSet<PaymentHash>,
    /// Checkpoints from the first on.
    pub checkpoints: Vec<Stepped>,
    /// Tasks that were paid for beforehand.
    pub works: BTreeMap<AssignmentId, Told>,
    /// Validators whose verdict did not hold: they have no lots any more.
    pub overruled: BTreeSet<PublicKey>,
    /// Paid for tasks that never began.
    pub leaked: BTreeMap<AssignmentId, Msat>,
    /// When it got on last.
    progress: Option<progress::Progress>,
    /// What miners are paid after the end of what was held back.
    pub owed: BTreeMap<PublicKey, Msat>,
    /// How it ended.
    pub ended: Option<FinalState>,
    /// Left for the sponsors at its end.
    pub left: Msat,
    index: index::Index,
    standings: standing::Standings,
}

impl RunTold {
    /// The round under way; those before it are over, with or without a checkpoint.
    fn round(&self) -> u32 {
        let begun = self.checkpoints.last().map_or(0, |c| c.round.0);
        self.index.newest_round().map_or(begun, |newest| newest.max(begun))
    }

    /// Submissions of a miner that were accepted and rejected so far: before its last task, and in it.
    fn record_of(&self, miner: PublicKey) -> (u32, u32) {
        let last = self.index.of_miner(&miner).next().and_then(|id| self.works.get(id));
        last.map_or((0, 0), |last| {
            let judged = last.judged_as();
            let (good, wrong) = (judged == Judged::Accepted, judged == Judged::Rejected);
            (last.record.0 + u32::from(good), last.record.1 + u32::from(wrong))
        })
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
