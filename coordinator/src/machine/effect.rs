//! What a run asks of the world.

use serde::{Deserialize, Serialize};
use watershed_protocol::market::Entry;
use watershed_protocol::{AssignmentId, Digest, PaymentHash, PublicKey, Wire};

/// Something to be carried out. Doing it twice is doing it once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// Append to the public record. Done in the transaction that writes the event down.
    Record(Box<Entry>),
    /// Collect pledges; ends in `Funded` or `Unfunded`.
    Campaign,
    /// Give pledges back.
    CancelCampaign {
        /// Why.
        reason: String,
    },
    /// Make the first checkpoint; ends in `Prepared`.
    Prepare,
    /// See that a miner can hold a reward; ends in `Channel`.
    Channel {
        /// Whose.
        miner: PublicKey,
        /// Counts the miner's requests.
        version: u64,
    },
    /// Close the channels with a node that nobody has any more, when nothing is locked in them.
    Part {
        /// Whose it was.
        miner: PublicKey,
        /// Which.
        node: String,
        /// Counts the miner's requests.
        version: u64,
    },
    /// Make an escrow; ends in `Offered`.
    Offer {
        /// Which.
        assignment: AssignmentId,
    },
    /// Pay its lots; ends in `LockTried`.
    Lock {
        /// Which.
        assignment: AssignmentId,
        /// From the miner.
        #[serde(deserialize_with = "watershed_protocol::list")]
        invoices: Vec<String>,
    },
    /// Compare the miner's word with our node; ends in `Confirmed`.
    Confirm {
        /// Which.
        assignment: AssignmentId,
        /// Hash and deadline of each lot.
        #[serde(deserialize_with = "watershed_protocol::list")]
        reports: Vec<(PaymentHash, u32)>,
    },
    /// Take back what was offered and not paid.
    Withdraw {
        /// Which.
        assignment: AssignmentId,
    },
    /// Wait until no lot is open; ends in `EscrowEnded`.
    Watch {
        /// Which.
        assignment: AssignmentId,
    },
    /// Credit a validator.
    Fee {
        /// For which task.
        assignment: AssignmentId,
        /// Whom.
        validator: PublicKey,
    },
    /// Look again at a submission whose verdicts contradict each other; ends in `Ruled`.
    Rule {
        /// Which.
        assignment: AssignmentId,
        /// Counts attempts.
        version: u64,
    },
    /// Compute the next checkpoint; ends in `Advanced`.
    Step {
        /// Which round.
        round: u32,
        /// What goes into it, ascending.
        #[serde(deserialize_with = "watershed_protocol::list")]
        accepted: Vec<AssignmentId>,
        /// Counts attempts.
        version: u64,
    },
    /// Delete what miners opened in a round, but for what is a submission or checkpoint.
    Discard {
        /// Names the round, and the attempt at it.
        version: u64,
        /// There may be more than fit into one.
        part: usize,
        /// When judging began, in seconds since 1970: nothing older is deleted, whoever named it.
        since: u64,
        /// Which.
        #[serde(deserialize_with = "watershed_protocol::list")]
        blobs: Vec<Digest>,
    },
    /// Book a joining fee to the run's budget.
    JoiningFee {
        /// Whose.
        miner: PublicKey,
    },
    /// Close the accounts; ends in `Finished`.
    Finish,
    /// Pay sponsors what is left, where they want it; each payment is told by `Refunded`.
    Refunds,
}

impl Wire for Effect {
    const NAME: &'static str = "watershed/coordinator-effect";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = 1 << 20;
}

impl Effect {
    /// Names it within its run: an effect of the same name is the same effect.
    pub fn name(&self) -> Option<String> {
        Some(match self {
            Self::Record(_) => return None,
            Self::Campaign => "campaign".to_owned(),
            Self::CancelCampaign { .. } => "cancel-campaign".to_owned(),
            Self::Prepare => "prepare".to_owned(),
            Self::Channel { miner, version } => format!("channel/{miner}/{version}"),
            Self::Part { miner, version, .. } => format!("part/{miner}/{version}"),
            Self::Offer { assignment } => format!("offer/{assignment}"),
            Self::Lock { assignment, .. } => format!("lock/{assignment}"),
            Self::Confirm { assignment, .. } => format!("confirm/{assignment}"),
            Self::Withdraw { assignment } => format!("withdraw/{assignment}"),
            Self::Watch { assignment } => format!("watch/{assignment}"),
            Self::Fee { assignment, validator } => format!("fee/{assignment}/{validator}"),
            Self::Rule { assignment, version } => format!("rule/{assignment}/{version}"),
            Self::Step { round, version, .. } => format!("step/{round}/{version}"),
            Self::Discard { version, part, .. } => format!("discard/{version}/{part}"),
            Self::JoiningFee { miner } => format!("joining-fee/{miner}"),
            Self::Finish => "finish".to_owned(),
            Self::Refunds => "refunds".to_owned(),
        })
    }
}
