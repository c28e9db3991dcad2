//! The state of a run.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use watershed_protocol::market::{
    Assignment, Commitment, FinalState, Opened, Opening, Outcome, Reveal, RunSpec, Score, Standing, Stepped,
    TermsOffered,
};
use watershed_protocol::{AssignmentId, Digest, Envelope, Msat, PaymentHash, PublicKey, RunId};

use super::Purse;

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Phase {
    /// Pledges are collected.
    Funding,
    /// The first checkpoint is made.
    Preparing,
    /// Rounds.
    Running,
    /// No more rounds; escrows are waited for.
    Closing {
        /// How it will end.
        how: FinalState,
        /// Whether the accounts are being closed.
        finishing: bool,
    },
    /// Over.
    Ended {
        /// How.
        how: FinalState,
    },
}

/// What a round is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Rewards are offered and locked.
    Locking,
    /// Miners train.
    Training,
    /// Miners show what they committed to.
    Revealing,
    /// Validators check.
    Judging,
    /// The next checkpoint is computed.
    Stepping,
}

/// The round under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Its number.
    pub number: u32,
    /// What it is doing.
    pub stage: Stage,
    /// When the stage ends, in seconds since 1970.
    pub until: u64,
    /// When it began.
    pub began: u64,
    /// What its scores are drawn from; known from the last reveal on.
    pub randomness: Option<Digest>,
    /// When judging began, in seconds since 1970; 0 before.
    pub judging: u64,
}

/// What miners opened in a round that is over, and nobody needs after the next one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Litter {
    /// When its judging began.
    pub since: u64,
    /// What was uploaded.
    pub blobs: BTreeSet<Digest>,
}

/// A miner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Miner {
    /// Its node, `<66 hex digits>@host:port`.
    pub node: String,
    /// As it measured itself.
    pub tokens_per_second: u32,
    /// The least it works for, per million tokens.
    pub min_price: Msat,
    /// Whether it wants work.
    pub active: bool,
    /// Whether there is a channel; otherwise why not.
    pub channel: Option<Result<(), String>>,
    /// The request for a channel whose answer counts.
    pub asked: u64,
    /// The assignment whose state it carries.
    pub last: Option<AssignmentId>,
    /// Submissions that were accepted and that were not.
    pub record: (u32, u32),
    /// How far it has proved itself, and what it is owed.
    pub standing: Standing,
    /// Checkpoints that there were when it joined first.
    pub joined: u64,
    /// Its joins and leaves that changed something have been taken as if they had been spread out until then, in seconds since
    /// 1970.
    pub changed: u64,
    /// Tasks that it kept others waiting for until their time was up, or took back; twice if its reward was locked.
    pub missed: u32,
    /// Rewards that could not be locked, whoever's fault it was.
    pub unlocked: u32,
    /// Rises by two with each task that it missed, by four with each rejected submission; falls by one with each accepted one.
    pub arrears: u32,
    /// Until when others come first, in seconds since 1970.
    pub benched_until: u64,
    /// Tokens per second, from the beginning of training to the commitment, in its last task.
    pub delivered: Option<u32>,
    /// How often a channel was asked for that was not simply tried again.
    pub channels: u32,
    /// When it was last heard of, in seconds since 1970, as far as events tell.
    pub heard: u64,
    /// Its tasks that are kept.
    pub works: Vec<AssignmentId>,
}

/// Where one task stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkStage {
    /// Validators are asked for payment hashes.
    Hashing,
    /// The escrow is being made.
    Offering,
    /// The miner has the terms.
    Offered,
    /// The lots are being paid.
    Locking,
    /// They were sent.
    Paid,
    /// The miner's word that it holds them is being checked.
    Confirming,
    /// The miner holds its reward.
    Locked,
    /// The miner is bound to a result.
    Committed,
    /// The result is here.
    Revealed,
    /// It takes no further part in the round.
    Dropped {
        /// Why.
        reason: String,
    },
}

impl WorkStage {
    /// Whether its lots are on their way to the miner's node.
    pub(super) fn is_being_paid(&self) -> bool {
        matches!(self, Self::Offering | Self::Offered | Self::Locking | Self::Paid | Self::Confirming)
    }
}

/// A verdict as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictKept {
    /// What came of it.
    pub outcome: Outcome,
    /// Losses.
    pub score: Option<Score>,
    /// As it was signed.
    pub envelope: Envelope,
}

/// One task with everything that came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// The task.
    pub assignment: Assignment,
    /// Submissions of its miner that had been rejected before.
    pub rejected: u32,
    /// Where it stands.
    pub stage: WorkStage,
    /// Changes with every event that concerns it.
    pub version: u64,
    /// Validators that are asked for payment hashes.
    pub holders: Vec<PublicKey>,
    /// Payment hashes by validator.
    pub hashes: BTreeMap<PublicKey, Vec<PaymentHash>>,
    /// Offered lots.
    pub lots: Vec<TermsOffered>,
    /// What the miner bound itself to.
    pub commitment: Option<Commitment>,
    /// What it showed.
    pub reveal: Option<Reveal>,
    /// What validators asked for.
    pub openings: BTreeMap<PublicKey, Opening>,
    /// What the miner answered.
    pub opened: BTreeMap<PublicKey, Opened>,
    /// Validators that found nothing wrong.
    pub sound: BTreeSet<PublicKey>,
    /// What validators found.
    pub verdicts: BTreeMap<PublicKey, VerdictKept>,
    /// Whose verdict was looked at again, and whether it holds.
    pub rulings: BTreeMap<PublicKey, bool>,
    /// Whether no further verdict is taken.
    pub judged: bool,
    /// Whether the escrow was paid and has not ended.
    pub escrow_open: bool,
    /// Whether the record knows it: the miner held its reward.
    pub recorded: bool,
    /// Paid and come back, once the escrow has ended.
    pub ended: Option<(Msat, Msat)>,
    /// Whether receipts are in the record.
    pub receipts: bool,
}

impl Work {
    /// Whether a validator holds secrets of its lots.
    pub fn is_held_by(&self, validator: &PublicKey) -> bool {
        self.lots.iter().any(|l| l.validator == *validator)
    }
}

/// Sums over a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Taken from sponsors.
    pub pledged: Msat,
    /// Locked at any time.
    pub locked: Msat,
    /// Paid to miners.
    pub paid: Msat,
    /// Come back from escrows.
    pub back: Msat,
    /// Paid for verdicts.
    pub fees: Msat,
    /// Left at the end.
    pub left: Msat,
    /// Submissions accepted.
    pub accepted: u32,
    /// Submissions rejected by a verdict.
    pub rejected: u32,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its name.
    pub id: RunId,
    /// What it is.
    pub spec: RunSpec,
    /// What it is, as the coordinator signed it.
    pub signed: Envelope,
    /// Where it stands.
    pub phase: Phase,
    /// Whether no round is begun.
    pub paused: bool,
    /// Whether it ends with this round, and why.
    pub cancelled: Option<String>,
    /// Validators whose verdict did not hold: they have no lots any more.
    pub overruled: BTreeSet<PublicKey>,
    /// Everybody who joined.
    pub miners: BTreeMap<PublicKey, Miner>,
    /// Tasks of this round, and those before that are still needed.
    pub works: BTreeMap<AssignmentId, Work>,
    /// The round under way.
    pub round: Option<Round>,
    /// Number of the next round.
    pub next_round: u32,
    /// First sequence of the newest round, or attempt at it.
    pub newest_sequence: u64,
    /// First sequence that nobody was given.
    pub next_sequence: u64,
    /// Checkpoints from the first on.
    pub checkpoints: Vec<Stepped>,
    /// Sums.
    pub totals: Totals,
    /// Opened in the last round.
    pub litter: Litter,
    /// When the operator last said something, in milliseconds since 1970.
    pub commanded: u64,
    /// Attempts at this round that did not count.
    pub failed: u32,
    /// No round is begun before, in seconds since 1970.
    pub not_before: u64,
    /// Joining fees and refunds.
    pub purse: Purse,
    /// Changes with every event.
    pub version: u64,
    /// Why the last outer step failed, if it did.
    pub trouble: Option<String>,
    /// When it was opened, in seconds since 1970.
    pub opened: u64,
    /// When its money was there, or the last round ended that counts, in seconds since 1970.
    pub got_on: Option<u64>,
}

impl Run {
    /// The newest checkpoint.
    pub fn checkpoint(&self) -> Option<&Stepped> {
        self.checkpoints.last()
    }

    /// What the scores of the round under way are drawn from; none before the last reveal.
    pub fn randomness(&self) -> Option<Digest> {
        self.round.as_ref()?.randomness
    }

    /// Whether a member of the committee.
    pub fn is_validator(&self, key: &PublicKey) -> bool {
        self.spec.committee.iter().any(|m| m.key == *key)
    }

    /// Tasks of the round under way.
    pub fn current(&self) -> impl Iterator<Item = (&AssignmentId, &Work)> {
        let number = self.round.as_ref().map(|r| r.number);
        self.works.iter().filter(move |(_, w)| Some(w.assignment.round.0) == number && !w.judged)
    }

    /// A miner's tasks that are kept.
    pub fn works_of(&self, miner: &PublicKey) -> impl Iterator<Item = (&AssignmentId, &Work)> {
        let ids = self.miners.get(miner).map(|m| m.works.as_slice()).unwrap_or_default();
        ids.iter().filter_map(|id| self.works.get_key_value(id))
    }

    /// Whether the round under way waits for a task.
    pub(super) fn is_waited_for(&self, work: &Work) -> bool {
        let Some(round) = &self.round else { return false };
        if work.assignment.round.0 != round.number || work.judged {
            return false;
        }
        match (&work.stage, round.stage) {
            (WorkStage::Dropped { .. }, _) => false,
            (s, Stage::Locking) => !matches!(s, WorkStage::Locked | WorkStage::Committed),
            (s, Stage::Training) => *s != WorkStage::Committed,
            (s, Stage::Revealing) => *s != WorkStage::Revealed,
            // Whoever gave hashes holds lots.
            (_, Stage::Judging) => work.verdicts.len() < work.hashes.len(),
            (_, Stage::Stepping) => true,
        }
    }
}
