//! What happens to a run.

use serde::{Deserialize, Serialize};
use watershed_protocol::market::{Message, Stepped, TextSource};
use watershed_protocol::{AssignmentId, Envelope, Msat, PaymentHash, PublicKey, Wire};

/// A fact.
#[allow(clippy::large_enum_variant)] // there is one at a time, and most are the large one
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The operator opened the run; the signed specification.
    Open {
        /// Signed by the coordinator.
        spec: Envelope,
    },
    /// The operator wants no further round.
    Pause {
        /// When it was said, in milliseconds since 1970.
        at: u64,
    },
    /// The operator goes on.
    Resume {
        /// When it was said.
        at: u64,
    },
    /// The operator ends the run.
    Cancel {
        /// Why.
        reason: String,
        /// When it was said.
        at: u64,
    },
    /// The goal was reached and every pledge is taken.
    Funded {
        /// Payments.
        #[serde(deserialize_with = "watershed_protocol::list")]
        pledges: Vec<(PaymentHash, Msat)>,
    },
    /// The goal was not reached; everything went back.
    Unfunded {
        /// Why.
        reason: String,
    },
    /// The first checkpoint is made.
    Prepared {
        /// What the run trains on.
        text: TextSource,
        /// The checkpoint.
        first: Stepped,
    },
    /// These miners are there; a round may begin.
    Begin {
        /// Who was heard of lately.
        #[serde(deserialize_with = "watershed_protocol::list")]
        live: Vec<PublicKey>,
    },
    /// A deadline passed: the stage of the round is over.
    Deadline {
        /// Which round.
        round: u32,
        /// Which deadline.
        until: u64,
    },
    /// Half of the time for locking has passed: offers are made with the hashes there are.
    HashesLate {
        /// Which round.
        round: u32,
    },
    /// A signed message.
    Said {
        /// Who signed.
        signer: PublicKey,
        /// What.
        message: Message,
        /// As it came.
        envelope: Envelope,
    },
    /// A channel to a miner was looked after.
    Channel {
        /// Whose.
        miner: PublicKey,
        /// The request that this answers.
        version: u64,
        /// Whether it can hold a reward.
        result: Result<(), String>,
    },
    /// A miner left some time ago, or was not heard of for long: its channel is not kept.
    Away {
        /// Whose.
        miner: PublicKey,
    },
    /// The escrow was made.
    Offered {
        /// Which.
        assignment: AssignmentId,
        /// Whether.
        result: Result<(), String>,
    },
    /// The lots were sent.
    LockTried {
        /// Which.
        assignment: AssignmentId,
        /// Whether.
        result: Result<(), String>,
    },
    /// The miner's word was compared with our node.
    Confirmed {
        /// Which.
        assignment: AssignmentId,
        /// Whether it holds.
        result: Result<(), String>,
    },
    /// No lot of an escrow is open any more.
    EscrowEnded {
        /// Which.
        assignment: AssignmentId,
        /// Paid.
        settled: Msat,
        /// Came back.
        back: Msat,
    },
    /// Verdicts that contradict each other were looked at again.
    Ruled {
        /// On which task.
        assignment: AssignmentId,
        /// Whose verdict holds and whose does not; all of them.
        result: Result<Vec<(PublicKey, bool)>, String>,
    },
    /// The outer step.
    Advanced {
        /// Which round.
        round: u32,
        /// Its checkpoint.
        result: Result<Stepped, String>,
    },
    /// A miner paid the joining fee.
    FeePaid {
        /// Who.
        miner: PublicKey,
        /// With which payment.
        payment: PaymentHash,
    },
    /// A sponsor was paid what was left of a pledge, or some of it.
    Refunded {
        /// Which pledge.
        pledge: PaymentHash,
        /// With which payment.
        payment: PaymentHash,
        /// How much.
        amount: Msat,
    },
    /// The accounts are closed.
    Finished {
        /// For the sponsors.
        left: Msat,
    },
    /// No round ended for as long as its terms give it.
    Idle {
        /// When it got on last.
        since: u64,
    },
}

impl Event {
    /// When the operator said it, if it is a word of the operator.
    pub(super) fn commanded(&self) -> Option<u64> {
        match self {
            Self::Pause { at } | Self::Resume { at } | Self::Cancel { at, .. } => Some(*at),
            _ => None,
        }
    }
}

impl Wire for Event {
    const NAME: &'static str = "watershed/coordinator-event";
    const VERSION: u8 = 2;
    const MAX_BYTES: usize = 2 << 20;
}
