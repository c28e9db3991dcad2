//! What parties send to a coordinator. Every message is signed; sending one again changes nothing.

use serde::{Deserialize, Serialize};

use super::assignment::{Commitment, Opened, Opening, Reveal};
use super::verdict::Verdict;
use crate::amount::Msat;
use crate::codec::Wire;
use crate::envelope::Envelope;
use crate::hash::Digest;
use crate::id::{AssignmentId, RunId};
use crate::payment::PaymentHash;

/// A miner that wants work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Which run.
    pub run: RunId,
    /// Its Lightning node, `<66 hex digits>@host:port`.
    pub node: String,
    /// What it measured on this run's model.
    pub tokens_per_second: u32,
    /// The least it works for.
    pub min_per_million_tokens: Msat,
    /// Whether it has lost what it carried, and begins with zeros again.
    pub lost_state: bool,
}

/// A message of a miner or validator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// Miner: I want work.
    Join(Join),
    /// Miner: no more.
    Leave {
        /// Which run.
        run: RunId,
    },
    /// Validator: the payment hashes of its lots, smallest tier first.
    Hashes {
        /// The task.
        assignment: AssignmentId,
        /// One for each tier.
        #[serde(deserialize_with = "crate::codec::list")]
        hashes: Vec<PaymentHash>,
    },
    /// Miner: invoices for the offered lots, in their order.
    Accept {
        /// The task.
        assignment: AssignmentId,
        /// BOLT 11.
        #[serde(deserialize_with = "crate::codec::list")]
        invoices: Vec<String>,
    },
    /// Miner: the lots are with me, until these heights.
    Locked {
        /// The task.
        assignment: AssignmentId,
        /// Hash and deadline of each.
        #[serde(deserialize_with = "crate::codec::list")]
        reports: Vec<(PaymentHash, u32)>,
    },
    /// Miner: not this one.
    Decline {
        /// The task.
        assignment: AssignmentId,
        /// Why, for people.
        reason: String,
    },
    /// Miner: what I will show.
    Commit(Commitment),
    /// Miner: the work.
    Reveal(Reveal),
    /// Validator: open these.
    Open(Opening),
    /// Miner: here.
    Opened(Opened),
    /// Validator: I found nothing wrong. Secrets are given out when all say so, or the time is nearly up: whoever finds a
    /// fault is looked after by the others first.
    Sound {
        /// The task.
        assignment: AssignmentId,
    },
    /// Validator: what I found.
    Verdict(Verdict),
    /// Miner: what I was paid.
    Receipts {
        /// The task.
        assignment: AssignmentId,
        /// Signed by the miner's Lightning node.
        #[serde(deserialize_with = "crate::codec::list")]
        receipts: Vec<Envelope>,
    },
}

impl Message {
    /// The task that it is about.
    pub fn subject(&self) -> Option<AssignmentId> {
        match self {
            Self::Join(_) | Self::Leave { .. } => None,
            Self::Hashes { assignment, .. }
            | Self::Accept { assignment, .. }
            | Self::Locked { assignment, .. }
            | Self::Decline { assignment, .. }
            | Self::Sound { assignment }
            | Self::Receipts { assignment, .. } => Some(*assignment),
            Self::Commit(c) => Some(c.assignment),
            Self::Reveal(r) => Some(r.assignment),
            Self::Open(o) => Some(o.assignment),
            Self::Opened(o) => Some(o.assignment),
            Self::Verdict(v) => Some(v.assignment),
        }
    }
}

impl Wire for Message {
    const NAME: &'static str = "watershed/message";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = 512 << 10;
}

/// Announces an upload: only what was announced by somebody who has an open task is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// The task it belongs to.
    pub assignment: AssignmentId,
    /// Its SHA-256.
    pub sha256: Digest,
    /// Its length.
    pub bytes: u64,
}

impl Wire for Upload {
    const NAME: &'static str = "watershed/upload";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = 256;
}

/// A miner is there: only then is it given work. Sent with every look at what concerns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// Which run.
    pub run: RunId,
    /// When, in milliseconds since 1970: later than any before, so nobody else can say it again.
    pub at: u64,
}

impl Wire for Present {
    const NAME: &'static str = "watershed/present";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = 128;
}

/// What the operator of a coordinator tells it, signed with the coordinator's own key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Opens a run for pledges, or for miners if it needs none.
    Open {
        /// The signed specification.
        spec: Envelope,
    },
    /// Begins no further round.
    Pause {
        /// Which.
        run: RunId,
        /// When it was given, in milliseconds since 1970: later than any before, so nobody can send it again.
        at: u64,
    },
    /// Goes on.
    Resume {
        /// Which.
        run: RunId,
        /// When it was given.
        at: u64,
    },
    /// Ends it: pledges go back, the round under way is finished.
    Cancel {
        /// Which.
        run: RunId,
        /// Why, for people.
        reason: String,
        /// When it was given.
        at: u64,
    },
}

impl Wire for Command {
    const NAME: &'static str = "watershed/command";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = 64 << 10;
}

/// A validator wants what it was credited; signed with its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayoutRequest {
    /// BOLT 11, with an amount.
    pub invoice: String,
}

impl Wire for PayoutRequest {
    const NAME: &'static str = "watershed/payout-request";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = 8 << 10;
}
