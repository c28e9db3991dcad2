//! What is kept for ever: the entries of the public log. They hold hashes and signatures, never payloads.

use serde::{Deserialize, Serialize};

use super::assignment::{Assignment, TermsOffered};
use crate::amount::Msat;
use crate::codec::Wire;
use crate::envelope::Envelope;
use crate::hash::Digest;
use crate::id::{AssignmentId, RoundNumber, RunId};
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
    /// A commitment, a reveal, a verdict or receipts, as they were sent.
    Message {
        /// A signed `Message`.
        envelope: Envelope,
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
}

impl Wire for Entry {
    const NAME: &'static str = "watershed/entry";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = 65_535;
}
