//! What is kept for ever: the entries of the public log. They hold hashes and signatures, never payloads.

use serde::{Deserialize, Serialize};

use super::assignment::{Assignment, TermsOffered};
use crate::amount::Msat;
use crate::codec::Wire;
use crate::envelope::Envelope;
use crate::hash::Digest;
use crate::id::{AssignmentId, RoundNumber, RunId, ShardSetId, SnapshotId, TokenizerId};
use crate::payment::PaymentHash;

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stepped {
    /// The run.
    pub run: RunId,
    /// The round that begins with it; 0 for the initial parameters.
    pub round: RoundNumber,
    /// Merkle root of the parameters.
    pub checkpoint: Digest,
    /// SHA-256 of the file with the parameters.
    pub blob: Digest,
    /// SHA-256 of the file with the outer optimizer's velocity, if it has one.
    pub velocity: Option<Digest>,
    /// Tasks whose submissions are in it, ascending.
    #[serde(deserialize_with = "crate::codec::list")]
    pub accepted: Vec<AssignmentId>,
    /// Bits of the loss on held-out text.
    pub loss: u32,
}

/// The text that a run trains on, from its shards down to what its contributors signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextSource {
    /// The run.
    pub run: RunId,
    /// The shard set.
    pub shards: ShardSetId,
    /// SHA-256 of the file that describes the set, and names its shards.
    pub set: Digest,
    /// The snapshot that it was made from: the deposits in force, with their consent.
    pub snapshot: SnapshotId,
    /// The tokenizer.
    pub tokenizer: TokenizerId,
    /// SHA-256 of the index, which leads from every token to the manifest of its deposit.
    pub index: Digest,
    /// SHA-256 of the proofs of consent: the snapshot, and what contributors signed. None if the coordinator has tokens only.
    pub consents: Option<Digest>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinalState {
    /// All rounds are done.
    Finished,
    /// It ended before.
    Cancelled {
        /// Why.
        reason: String,
    },
    /// What was pledged does not pay another round of the fewest miners.
    Exhausted,
    /// No round ended for as long as `funding.idle_seconds` of the specification says.
    Idle {
        /// When that was found, in seconds since 1970.
        at: u64,
    },
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// A run was opened; the signed specification.
    Run {
        /// Signed by the coordinator.
        spec: Envelope,
    },
    /// A pledge was taken.
    Pledge {
        /// The run.
        run: RunId,
        /// The payment.
        hash: PaymentHash,
        /// How much.
        amount: Msat,
    },
    /// A miner paid to join.
    Joined {
        /// The run.
        run: RunId,
        /// Who.
        miner: crate::key::PublicKey,
        /// The payment.
        payment: PaymentHash,
        /// How much.
        amount: Msat,
    },
    /// What the run trains on.
    Text(TextSource),
    /// The checkpoint before the first round, or after one.
    Checkpoint(Stepped),
    /// A task was given out, and paid for beforehand.
    Assigned {
        /// The task.
        assignment: Assignment,
        /// Its lots.
        #[serde(deserialize_with = "crate::codec::list")]
        lots: Vec<TermsOffered>,
        /// The miner's Lightning node, whose key signs receipts: x-only.
        node: crate::key::PublicKey,
    },
    /// What the coordinator found when it looked at a verdict that others contradict.
    Ruling {
        /// The task.
        assignment: AssignmentId,
        /// Whose verdict.
        validator: crate::key::PublicKey,
        /// Whether it holds. A validator whose verdict does not has no lots any more.
        upheld: bool,
    },
    /// A commitment, a reveal, what was asked and opened, a verdict or receipts, as they were sent.
    Message {
        /// A signed `Message`.
        envelope: Envelope,
    },
    /// A round takes no more submissions: from what was shown its scores are drawn.
    Round {
        /// The run.
        run: RunId,
        /// Which.
        round: RoundNumber,
        /// Tasks whose work was shown, ascending.
        #[serde(deserialize_with = "crate::codec::list")]
        shown: Vec<AssignmentId>,
        /// What the windows of the scores are drawn from.
        randomness: Digest,
    },
    /// An escrow ended.
    Settled {
        /// The task.
        assignment: AssignmentId,
        /// Paid.
        settled: Msat,
        /// Came back.
        back: Msat,
    },
    /// A run ended.
    Ended {
        /// The run.
        run: RunId,
        /// How.
        how: FinalState,
        /// Pledged.
        pledged: Msat,
        /// Paid to miners.
        paid: Msat,
        /// Paid for verdicts.
        fees: Msat,
        /// Left for the sponsors.
        left: Msat,
    },
    /// Lots were paid for a task that never began: whoever holds their secrets gave them out before.
    Leaked {
        /// The run.
        run: RunId,
        /// The task.
        assignment: AssignmentId,
        /// Paid.
        paid: Msat,
    },
    /// After its end a sponsor was paid what was left of a pledge, or some of it.
    Refunded {
        /// The run.
        run: RunId,
        /// The pledge.
        pledge: PaymentHash,
        /// The payment to the sponsor.
        payment: PaymentHash,
        /// How much.
        amount: Msat,
    },
    /// A run got on: its pledges were taken, or a round ended that counts (of one that the operator pays, it was opened). From
    /// here the time runs that `funding.idle_seconds` gives.
    Progress {
        /// The run.
        run: RunId,
        /// When, in seconds since 1970.
        at: u64,
    },
    /// At the end of a run a miner that has proved itself is owed what was held back and no task has paid; it is paid on request.
    Owed {
        /// The run.
        run: RunId,
        /// Whom.
        miner: crate::key::PublicKey,
        /// How much.
        amount: Msat,
    },
}

impl Wire for Entry {
    const NAME: &'static str = "watershed/entry";
    const VERSION: u8 = 2;
    const MAX_BYTES: usize = 65_535;
}
